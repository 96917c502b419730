"""Request bodies from bytes to objects: JSON, YAML and Kubernetes' protobuf, with limits before anything is built.

Errors read as the real server's do. Depth is bounded well below what Python's own recursion could take, since whatever walks
objects later relies on it.

Source: apimachinery pkg/runtime/serializer and sigs.k8s.io/json for texts; CVE-2019-11253 and CVE-2019-11254 for the limits.
"""

import json
import re
from functools import cache
from typing import Any, ClassVar

import orjson

from kubelite.meta.errors import BadRequest, RequestEntityTooLarge, UnsupportedMediaType
from kubelite.meta.types import Obj

MAX_BYTES = 3 * 1024 * 1024
MAX_DEPTH = 200
#: How many values a YAML document may stand for, aliases counted as often as they are used.
MAX_YAML_VALUES = 1_000_000

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
        return parse_json(body) if body.lstrip()[:1] == b"{" else _parse_yaml(body)
    if media == JSON or media.endswith("+json"):
        return parse_json(body)
    raise UnsupportedMediaType(
        f"the body of the request was in an unknown format - accepted media types include: {', '.join(MEDIA_TYPES)}"
    )


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


def _parse_yaml(body: bytes) -> Any:
    import yaml  # kubectl and client libraries send JSON

    try:
        events = yaml.parse(body, Loader=_yaml_loader())
        _check_yaml(events)
        value = next(iter(yaml.load_all(body, Loader=_yaml_loader())), None)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as e:
        raise BadRequest(f"yaml: {_yaml_fault(e)}") from None
    except RecursionError:
        raise BadRequest("yaml: exceeded max depth") from None
    try:
        # expands aliases, so that no two places share a container, and turns keys to texts
        return orjson.loads(orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS))
    except TypeError as e:
        raise BadRequest(f"error converting YAML to JSON: {e}") from None


def repeated_yaml_keys(body: bytes) -> list[str]:
    """The keys that a YAML (or JSON) body has more than once, in the words of the real server's parser: `line 9: key "a" already
    set in map`. A body that can't be read has none here; whoever parses it says why."""
    if body.lstrip()[:1] == b"{":
        names = (fault.removesuffix('"').rpartition(".")[2].rpartition('"')[2] for fault in repeated_keys(body))
        return [f'line 1: key "{name}" already set in map' for name in names]
    import yaml

    try:
        _check_yaml(yaml.parse(body, Loader=_yaml_loader()))
        root = yaml.compose(body, Loader=_yaml_loader())
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError, BadRequest):
        return []
    found: list[str] = []
    waiting: list[Any] = [root]
    while waiting:
        node = waiting.pop()
        if isinstance(node, yaml.SequenceNode):
            waiting += reversed(node.value)
        elif isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, _value in node.value:
                if isinstance(key, yaml.ScalarNode):
                    if key.value in seen:
                        found.append(f'line {key.start_mark.line + 1}: key "{key.value}" already set in map')
                    seen.add(key.value)
            waiting += reversed([value for _, value in node.value])
    return found


def _yaml_fault(e: Exception) -> str:
    """What is wrong with a YAML text, as the real server's parser says it. It counts lines from 0, but not the scanner's."""
    problem, problem_mark, context_mark = (getattr(e, name, None) for name in ("problem", "problem_mark", "context_mark"))
    if problem is not None and "nesting depth" in problem:  # the parser looks ahead, and may meet its own limit before ours
        return "exceeded max depth"
    if problem is None or problem_mark is None:
        return " ".join(str(e).split())
    line = (context_mark.line if context_mark is not None else 0) or problem_mark.line
    if line and type(e).__name__ == "ScannerError":
        line += 1
    return f"line {line}: {problem}" if line else str(problem)


def _check_yaml(events: Any) -> None:
    """Refuses documents that are too deep, or whose aliases stand for too much, from the events alone.

    Raises:
        ValueError: it is one.
    """
    import yaml

    sizes: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = []
    total = 0
    for event in events:
        if isinstance(event, yaml.DocumentEndEvent):
            return
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, total))
            total += 1
            if len(open_nodes) > MAX_DEPTH:
                raise ValueError("exceeded max depth")
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor is not None:
                sizes[anchor] = total - before
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise ValueError(f"anchor '{event.anchor}' value contains itself or is not known")
            total += sizes[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            if event.anchor is not None:
                sizes[event.anchor] = 1
            total += 1
        if total > MAX_YAML_VALUES:
            raise ValueError("document contains excessive aliasing")


@cache
def _yaml_loader() -> Any:
    """A safe loader in C whose plain scalars are what JSON has: no dates, no numbers to the base of 60."""
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Loader(base):  # type: ignore[misc]
        yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, Any]]]] = {}
        bool_values: ClassVar[dict[str, bool]] = {**base.bool_values, "y": True, "n": False}

    wanted = {
        "tag:yaml.org,2002:bool": (
            r"y|Y|yes|Yes|YES|n|N|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF",
            "yYnNtTfFoO",
        ),
        "tag:yaml.org,2002:int": (r"[-+]?0b[01_]+|[-+]?0[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+", "-+0123456789"),
        "tag:yaml.org,2002:float": (
            r"[-+]?(?:[0-9][0-9_]*)\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+|[-+]?\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?",
            "-+0123456789.",
        ),
        "tag:yaml.org,2002:null": (r"~|null|Null|NULL|", "~nN\0"),
        "tag:yaml.org,2002:merge": (r"<<", "<"),
    }
    for tag, (pattern, first) in wanted.items():
        letters = [letter if letter != "\0" else "" for letter in first]
        Loader.add_implicit_resolver(tag, re.compile(f"^(?:{pattern})$"), letters)
    Loader.add_constructor("tag:yaml.org,2002:float", lambda loader, node: float(node.value.replace("_", "")))
    return Loader
