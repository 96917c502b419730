"""The small HTTP client of probes and hooks: one GET a connection, no redirects to other hosts, bounded answers.

A client library would keep connections and cookies and verify certificates; a probe must do none of these, and there may be
hundreds a second. Faults read as those of Go's client, which users know from events.

Source: pkg/probe/http (10 KiB of the body, certificates not verified, redirects, headers), net/http, v1.34.
"""

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from urllib.parse import quote, urljoin, urlsplit

BODY_LIMIT = 10 * 1024
HEAD_LIMIT = 32 * 1024
USER_AGENT = "kube-probe/1.34"
REDIRECT_LIMIT = 10
_REDIRECTS = (301, 302, 303, 307, 308)
#: What OpenSSL says when something other than TLS answers.
_NOT_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE")


class Fault(Exception):
    """Nothing usable came back. The message tells of no more than the address and the kind of failure."""


class PlainAnswer(Fault):
    """A request over TLS was answered without."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`body` is its beginning; `location` where a redirect leads."""

    status: int
    body: bytes
    location: str = ""


@cache
def _unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def dial(host: str, port: int, timeout_s: float) -> None:
    """Opens a TCP connection and closes it. Raises Fault."""
    (await _connect(host, port, None, timeout_s))[1].close()


async def get(url: str, headers: Iterable[tuple[str, str]], timeout_s: float, agent: str = USER_AGENT) -> Answer:
    """The answer to a GET. A redirect to the same host is followed, whatever its port; one elsewhere is the answer.

    Raises:
        Fault: there is none, in time or at all.
    """
    host, fields = urlsplit(url).hostname, [("User-Agent", agent), *headers]
    ends_at_s = time.monotonic() + timeout_s
    for _ in range(REDIRECT_LIMIT):
        try:
            answer = await _get_once(url, fields, ends_at_s - time.monotonic())
        except Fault as e:
            raise type(e)(f'Get "{url}": {e}') from e
        following = urljoin(url, answer.location)
        if answer.status not in _REDIRECTS or not answer.location or urlsplit(following).hostname != host:
            return answer
        url = following
    raise Fault(f'Get "{url}": stopped after {REDIRECT_LIMIT} redirects')


def url_of(scheme: str, host: str, port: int, path: str) -> str:
    path = quote(path, safe="%/?#:@!$&'()*+,;=~[]")
    return f"{scheme.lower()}://{_joined(host, port)}{path if path.startswith('/') or not path else f'/{path}'}"


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def _connect(
    host: str, port: int, tls: ssl.SSLContext | None, timeout_s: float
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    where = f"dial tcp {_joined(host, port)}"
    try:
        async with asyncio.timeout(timeout_s):
            return await asyncio.open_connection(host, port, ssl=tls, limit=HEAD_LIMIT)
    except TimeoutError as e:
        raise Fault(f"{where}: i/o timeout") from e
    except ssl.SSLError as e:
        if e.reason in _NOT_TLS:
            raise PlainAnswer("http: server gave HTTP response to HTTPS client") from e
        raise Fault(f"remote error: tls: {(e.reason or str(e)).lower().replace('_', ' ')}") from e
    except socket.gaierror as e:
        raise Fault(f"dial tcp: lookup {host}: no such host") from e
    except ConnectionRefusedError as e:  # of several addresses, asyncio's error tells of all at once
        raise Fault(f"{where}: connect: connection refused") from e
    except OSError as e:
        raise Fault(f"{where}: connect: {(e.strerror or str(e)).lower()}") from e


async def _get_once(url: str, headers: list[tuple[str, str]], timeout_s: float) -> Answer:
    parts = urlsplit(url)
    host, secure = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    request = _request(parts.netloc, f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}", headers)
    ends_at_s = time.monotonic() + timeout_s
    reader, writer = await _connect(host, port, _unverified() if secure else None, timeout_s)
    try:
        async with asyncio.timeout(ends_at_s - time.monotonic()):
            writer.write(request)
            await writer.drain()
            return await _answer(reader)
    except TimeoutError as e:
        raise Fault("context deadline exceeded (Client.Timeout exceeded while awaiting headers)") from e
    except OSError as e:
        raise Fault(f"read tcp {_joined(host, port)}: read: {(e.strerror or str(e)).lower()}") from e
    finally:
        writer.close()


def _request(host: str, target: str, headers: list[tuple[str, str]]) -> bytes:
    """The head of a GET. A header that is given takes the place of ours, and removes it where it is empty."""
    fields: dict[str, list[str]] = {"host": [host], "accept": ["*/*"], "connection": ["close"]}
    for name, value in headers:
        key = name.lower()
        fields[key] = [value] if key in ("host", "accept", "connection", "user-agent") else [*fields.get(key, ()), value]
    names = {name.lower(): name for name, _ in headers}
    lines = [f"{names.get(key, key.title())}: {value}" for key, values in fields.items() for value in values if value]
    lines.insert(0, f"GET {target} HTTP/1.1")
    if any("\r" in line or "\n" in line for line in lines):
        raise Fault("net/http: invalid header field value: a line break")
    return "\r\n".join([*lines, "", ""]).encode()


async def _answer(reader: asyncio.StreamReader) -> Answer:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as e:
        if not e.partial:
            raise Fault("EOF") from e
        head = e.partial
    except asyncio.LimitOverrunError as e:
        raise Fault(f"net/http: server response headers exceeded {HEAD_LIMIT} bytes; aborted") from e
    status_line, *rest = head.decode("latin-1").split("\r\n")
    words = status_line.split(" ", 2)
    if len(words) < 2 or not words[0].startswith("HTTP/") or not words[1].isdigit():
        raise Fault(f'net/http: HTTP/1.x transport connection broken: malformed HTTP response "{status_line[:80]}"')
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in rest if line)}
    return Answer(int(words[1]), await _body(reader, fields), fields.get("location", ""))


async def _body(reader: asyncio.StreamReader, fields: dict[str, str]) -> bytes:
    """The beginning of the body; what is wrong with the rest of it is nobody's concern."""
    body = b""
    with contextlib.suppress(asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
        if fields.get("transfer-encoding", "").lower() == "chunked":
            while len(body) < BODY_LIMIT and (size := int((await reader.readuntil(b"\n")).split(b";")[0], 16)):
                body += (await reader.readexactly(min(size, BODY_LIMIT) + (2 if size <= BODY_LIMIT else 0)))[:size]
            return body[:BODY_LIMIT]
        length = fields.get("content-length", "")
        wanted = min(int(length), BODY_LIMIT) if length.isdigit() else BODY_LIMIT
        while len(body) < wanted and (chunk := await reader.read(wanted - len(body))):
            body += chunk
    return body
