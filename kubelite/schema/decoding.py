"""Request bodies from bytes to objects: JSON, YAML (`yamls`) and Kubernetes' protobuf, with limits before anything is built.

Errors read as the real server's do. Depth is bounded well below what Python's own recursion could take, since whatever walks
objects later relies on it.

Source: apimachinery pkg/runtime/serializer and sigs.k8s.io/json for texts; CVE-2019-11253 and CVE-2019-11254 for the limits.
"""

import json
import re
from typing import Any

import orjson

from kubelite.meta.errors import BadRequest, RequestEntityTooLarge, UnsupportedMediaType
from kubelite.meta.types import Obj

MAX_BYTES = 3 * 1024 * 1024
MAX_DEPTH = 200

JSON = "application/json"
YAML = "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"
MEDIA_TYPES = (JSON, YAML, PROTOBUF)


def parse(body: bytes, content_type: str = JSON, expected: str = "") -> Obj:
    """The object that a body holds. Patch content types parse by the form they have, JSON or YAML. Where the kind that the body
    must have is given, a body that can't be read is refused with it and with its own start in the text.

    Raises:
        BadRequest: it is not what its type says, or no object.
        RequestEntityTooLarge: it is larger than any request may be.
        UnsupportedMediaType: its type is none of those that can be decoded.
    """
    try:
        obj = parse_value(body, content_type)
        if obj is None:
            return {}
        if not isinstance(obj, dict):
            raise _unreadable(f"json: cannot unmarshal {_json_type(obj)} into Go value of type struct {_HEADER}")
    except BadRequest as e:
        if not expected:
            raise
        detail = f"the object provided is unrecognized (must be of type {expected}): {e.message} ({summary(body)})"
        raise BadRequest(detail) from e
    return obj


#: What the decoder looks for first, as Go prints its type.
_HEADER = r"""{ APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }"""


def parse_value(body: bytes, content_type: str = JSON) -> Any:
    """As `parse`, for a body that may be any JSON value, such as a list of patch operations."""
    if len(body) > MAX_BYTES:
        raise RequestEntityTooLarge(f"Request entity too large: limit is {MAX_BYTES}")
    media = content_type.partition(";")[0].strip().lower() or JSON
    if media == PROTOBUF:
        from kubelite.schema import protobuf  # its tables are large, and not every client sends it

        return protobuf.decode(body)
    if media == YAML or media.endswith("+yaml"):
        return _parse_yaml(body)
    if media == JSON or media.endswith("+json"):
        return parse_json(body)
    raise UnsupportedMediaType(
        f"the body of the request was in an unknown format - accepted media types include: {', '.join(MEDIA_TYPES)}"
    )


def _parse_yaml(body: bytes) -> Any:
    if body.lstrip()[:1] == b"{":
        try:
            return parse_json(body)
        except BadRequest:
            pass  # what YAML writes in braces is more than JSON
    from kubelite.schema import yamls  # kubectl and client libraries send JSON

    return yamls.parse(body)


def summary(body: bytes) -> str:
    """The start of a body that could not be read, as errors show it.

    Source: apiserver pkg/endpoints/handlers/rest.go summarizeData.
    """
    if not body:
        return "<empty>"
    if body[:1] == b"{":
        return body[:30].decode("utf-8", "replace") + (" ..." if len(body) > 30 else "")
    return body[:30].hex() + (" ..." if len(body) > 30 else "")


def repeated_keys(body: bytes) -> list[str]:
    """The keys that a JSON body has more than once: `duplicate field "spec.replicas"`. Bodies of other forms have none to find.

    A body has none that is as long as what it was parsed to, or has as many keys; only others are read again in the slow way.
    """
    try:
        obj = orjson.loads(body)
    except orjson.JSONDecodeError:
        return []
    written = orjson.dumps(obj)
    if len(written) == len(body.strip()):
        return []
    # Escapes could write a quote or a colon in another way; no others change how often the two stand together.
    if b"\\u" not in body and _key_ends(body) == _key_ends(written):
        return []
    found: list[str] = []
    _find_repeated(json.loads(body.decode("utf-8", "replace"), object_pairs_hook=_pairs), "", found)
    return found


def _key_ends(body: bytes) -> int:
    """How often a colon follows a quote: at the end of each key, and within strings where they are kept."""
    return body.translate(None, b" \t\r\n").count(b'":')


def repeated_yaml_keys(body: bytes) -> list[str]:
    """The keys that a YAML (or JSON) body has more than once: `line 9: key "a" already set in map`."""
    if body.lstrip()[:1] == b"{":
        try:
            if orjson.loads(body) is not None and not repeated_keys(body):
                return []
        except orjson.JSONDecodeError:
            pass  # it is in YAML's own forms
    from kubelite.schema import yamls

    return yamls.repeated_keys(body)


class _Repeated(dict[str, Any]):
    """An object in which keys stand more than once."""

    keys_repeated: tuple[str, ...] = ()


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    obj = dict(pairs)
    if len(obj) == len(pairs):
        return obj
    seen: set[str] = set()
    repeated = _Repeated(obj)
    repeated.keys_repeated = tuple(dict.fromkeys(key for key, _ in pairs if key in seen or seen.add(key)))  # type: ignore[func-returns-value]
    return repeated


def _find_repeated(value: Any, path: str, found: list[str]) -> None:
    if isinstance(value, dict):
        if isinstance(value, _Repeated):
            found += [f'duplicate field "{path}.{key}"' if path else f'duplicate field "{key}"' for key in value.keys_repeated]
        for key, item in value.items():
            if isinstance(item, dict | list):
                _find_repeated(item, f"{path}.{key}" if path else key, found)
    else:
        for position, item in enumerate(value):
            if isinstance(item, dict | list):
                _find_repeated(item, f"{path}[{position}]", found)


def _unreadable(detail: str) -> BadRequest:
    return BadRequest(f"couldn't get version/kind; json parse error: {detail}")


def parse_json(body: bytes) -> Any:
    """Any JSON value, within the limit on depth.

    Raises:
        BadRequest: it is none.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as e:
        value = _parse_json_slowly(body, e)
    # where there are few brackets there can't be much depth
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH:
        _check_depth(value)
    return value


def _check_depth(value: Any) -> None:
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH + 1:
            raise _unreadable("invalid character '{' exceeded max depth")
        level = [
            item
            for container in level
            if isinstance(container, dict | list)
            for item in (container.values() if isinstance(container, dict) else container)
            if isinstance(item, dict | list)
        ]


def _parse_json_slowly(body: bytes, reason: orjson.JSONDecodeError) -> Any:
    """What orjson refuses and Go takes (text that is not Unicode), or the error in Go's words."""
    text = body.decode("utf-8", "replace")
    if "ecursion" in str(reason) or "depth" in str(reason):  # the words of older and of newer versions
        raise _unreadable("invalid character '{' exceeded max depth")
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as e:
        raise _unreadable(_syntax_error(e)) from None
    except RecursionError:
        raise _unreadable("invalid character '{' exceeded max depth") from None
    # lone surrogates become the replacement character
    return orjson.loads(json.dumps(value, ensure_ascii=False).encode("utf-16", "surrogatepass").decode("utf-16", "replace"))


def _refuse_constant(name: str) -> Any:
    raise json.JSONDecodeError("Expecting value", name, 0)


def _syntax_error(e: json.JSONDecodeError) -> str:
    text, position = e.doc, e.pos
    if e.msg.startswith("Unterminated"):
        return "unexpected end of JSON input"
    if e.msg.startswith("Invalid \\"):
        position = min(position + 1, len(text))
    while position < len(text) and text[position] in " \t\r\n" and not e.msg.startswith("Invalid"):
        position += 1
    if position >= len(text):
        return "unexpected end of JSON input"
    letter = text[position]
    quoted = (
        "'\\''" if letter == "'" else "'\"'" if letter == '"' else f"'{letter}'" if letter.isprintable() else _escaped(letter)
    )
    if e.msg.startswith("Expecting property name"):
        context = "looking for beginning of object key string"
    elif e.msg.startswith("Expecting ':'"):
        context = "after object key"
    elif e.msg.startswith("Expecting ','"):
        context = "after array element" if _in_array(text[:position]) else "after object key:value pair"
    elif e.msg.startswith("Extra data"):
        context = "after top-level value"
    elif e.msg.startswith("Invalid control"):
        context = "in string literal"
    elif e.msg.startswith("Invalid \\"):
        context = "in string escape code"
    else:
        context = "looking for beginning of value"
    return f"invalid character {quoted} {context}"


def _escaped(letter: str) -> str:
    return f"'{json.dumps(letter)[1:-1]}'"


def _in_array(text: str) -> bool:
    """Whether the end of the start of a JSON text is in an array."""
    stack = []
    for token in re.findall(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', text, re.DOTALL):
        if token in ("[", "{"):
            stack.append(token)
        elif token in ("]", "}") and stack:
            stack.pop()
    return bool(stack) and stack[-1] == "["


def _json_type(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    return "number" if isinstance(value, int | float) else "string" if isinstance(value, str) else "array"
