"""URLs as Go reads them: what is one, and what is wrong with a text that is none.

Source: Go's net/url (go1.24), Parse and ParseRequestURI.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):", re.ASCII)
_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2}).{0,2}", re.DOTALL)
#: Of what is escaped in a host, only letters outside of ASCII and the percent sign may be.
_HOST_ESCAPE = re.compile(r"%(?![89A-Fa-f][0-9A-Fa-f]|25).{0,2}", re.DOTALL)
_NOT_IN_HOST = re.compile(r"""[^A-Za-z0-9\-_.~!$&'()*+,;=:\[\]<>"%\x80-\U0010ffff]""")
_USER = re.compile(r"[A-Za-z0-9\-._:~!$&'()*+,;=%@]*", re.ASCII)
_PORT = re.compile(r"(:[0-9]*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Url:
    """The parts of a URL, decoded but for the query; `user` is None where there is none."""

    scheme: str = ""
    user: str | None = None
    host: str = ""
    path: str = ""
    query: str = ""
    fragment: str = ""


def parse(text: str) -> Url:
    """Any URL, a relative one too.

    Raises:
        ValueError: it is none; the text is Go's.
    """
    body, _, fragment = text.partition("#")
    return _told(body, lambda: _parse(body, _unescaped(fragment), is_request=False))


def parse_request_uri(text: str) -> Url:
    """An absolute URL or an absolute path.

    Raises:
        ValueError: it is none; the text is Go's.
    """
    return _told(text, lambda: _parse(text, "", is_request=True))


def _told(text: str, parsed: Callable[[], Url]) -> Url:
    try:
        return parsed()
    except ValueError as e:
        raise ValueError(f"parse {json.dumps(text, ensure_ascii=False)}: {e}") from None


def _parse(text: str, fragment: str, is_request: bool) -> Url:
    if any(letter < " " or letter == "\x7f" for letter in text):
        raise ValueError("net/url: invalid control character in URL")
    if not text and is_request:
        raise ValueError("empty url")
    if text.startswith(":"):
        raise ValueError("missing protocol scheme")
    found = _SCHEME.match(text)
    scheme, rest = (found[1].lower(), text[found.end() :]) if found else ("", text)
    rest, _, query = rest.partition("?")
    if not rest.startswith("/") and text != "*":
        if scheme:
            return Url(scheme, query=query, fragment=fragment)
        if is_request:
            raise ValueError("invalid URI for request")
        if ":" in rest.partition("/")[0]:
            raise ValueError("first path segment in URL cannot contain colon")
    user, host = None, ""
    if rest.startswith("//") and (scheme or (not is_request and not rest.startswith("///"))):
        authority, slash, path = rest[2:].partition("/")
        rest = slash + path
        before, at, host = authority.rpartition("@")
        host = _host(host)
        if at and not _USER.fullmatch(before):
            raise ValueError("net/url: invalid userinfo")
        user = _unescaped(before) if at else None
    return Url(scheme, user, host, _unescaped(rest), query, fragment)


def _host(text: str) -> str:
    if text.startswith("["):
        inside, closed, port = text.rpartition("]")
        if not inside:
            raise ValueError("missing ']' in host")
        text = inside + closed + port
    else:
        port = text[text.rindex(":") :] if ":" in text else ""
    if not _PORT.fullmatch(port):
        raise ValueError(f"invalid port {json.dumps(port)} after host")
    wrong = _HOST_ESCAPE.search(text)
    if wrong:
        raise ValueError(f"invalid URL escape {json.dumps(wrong[0])}")
    wrong = _NOT_IN_HOST.search(text)
    if wrong:
        raise ValueError(f"invalid character {json.dumps(wrong[0])} in host name")
    return unquote(text)


def _unescaped(text: str) -> str:
    wrong = _ESCAPE.search(text)
    if wrong:
        raise ValueError(f"invalid URL escape {json.dumps(wrong[0])}")
    return unquote(text)
