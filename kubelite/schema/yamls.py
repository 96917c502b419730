"""YAML texts as the values that JSON has, within limits that are checked before anything is built.

Plain words mean what they mean to Kubernetes' parser: numbers and truths as YAML 1.1 has them, but no dates and no numbers to the
base of 60. An unknown tag says nothing.

Source: sigs.k8s.io/yaml v1.6 (yaml.go and its fork of go-yaml v2: resolve.go, decode.go); CVE-2019-11254 for the limits.
"""

import base64
import binascii
import math
import re
from typing import Any, ClassVar

import orjson
import yaml

from kubelite.meta import gotext
from kubelite.meta.errors import BadRequest
from kubelite.schema.decoding import MAX_DEPTH

#: How many values a document may stand for, aliases counted as often as they are used.
MAX_VALUES = 1_000_000
_UNREADABLE = (yaml.YAMLError, UnicodeDecodeError, ValueError)
_BASE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"


def parse(body: bytes) -> Any:
    """The value of the first document.

    Raises:
        BadRequest: it can't be read, or has what JSON can't have.
    """
    try:
        _check_size(yaml.parse(body, Loader=_Loader))
        value = next(iter(yaml.load_all(body, Loader=_Loader)), None)
    except _UNREADABLE as e:
        raise BadRequest(f"yaml: {_fault(e)}") from None
    except RecursionError:
        raise BadRequest("yaml: exceeded max depth") from None
    # expands aliases, so that no two places share a container
    return orjson.loads(orjson.dumps(value))


def repeated_keys(body: bytes) -> list[str]:
    """The keys that a document has more than once, in the words of the usual parser: `line 9: key "a" already set in map`.
    One that can't be read has none here; whoever parses it says why."""
    try:
        _check_size(yaml.parse(body, Loader=_Loader))
        root = yaml.compose(body, Loader=_Loader)
    except (*_UNREADABLE, RecursionError):
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


def _fault(e: Exception) -> str:
    """What is wrong with a text, as the real server's parser says it. It counts lines from 0, but not the scanner's."""
    problem, problem_mark, context_mark = (getattr(e, name, None) for name in ("problem", "problem_mark", "context_mark"))
    if problem is not None and "nesting depth" in problem:  # the parser looks ahead, and may meet its own limit before ours
        return "exceeded max depth"
    if problem is None or problem_mark is None:
        return " ".join(str(e).split())
    line = (context_mark.line if context_mark is not None else 0) or problem_mark.line
    if line and type(e).__name__ == "ScannerError":
        line += 1
    return f"line {line}: {problem}" if line else str(problem)


def _check_size(events: Any) -> None:
    """Refuses documents that are too deep, or whose aliases stand for too much, from the events alone.

    Raises:
        ValueError: it is one.
    """
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
                own = any(event.anchor == anchor for anchor, _ in open_nodes)
                raise ValueError(
                    f"anchor '{event.anchor}' value contains itself" if own else f"unknown anchor '{event.anchor}' referenced"
                )
            total += sizes[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            if event.anchor is not None:
                sizes[event.anchor] = 1
            total += 1
        if total > MAX_VALUES:
            raise ValueError("document contains excessive aliasing")


class _Loader(_BASE):  # type: ignore[misc]
    """A safe loader, in C where there is one."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, Any]]]] = {}
    yaml_constructors: ClassVar[dict[str | None, Any]] = {}

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[str, Any]:
        self.flatten_mapping(node)
        made = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if key is None:
                shown = gotext.syntax(self.construct_object(value_node, deep=True))
                raise BadRequest(f"unsupported map key of type: %!s(<nil>), key: <nil>, value: {shown}")
            if isinstance(key, list | dict):
                raise ValueError(f"invalid map key: {gotext.syntax(key)}")
            made[key if isinstance(key, str) else orjson.dumps(key).decode()] = self.construct_object(value_node, deep)
        return made

    def other(self, node: Any) -> Any:
        """What has a tag that says nothing."""
        if isinstance(node, yaml.MappingNode):
            return self.construct_mapping(node, deep=True)
        return self.construct_sequence(node, deep=True) if isinstance(node, yaml.SequenceNode) else node.value

    def binary(self, node: Any) -> str:
        try:
            return base64.b64decode("".join(node.value.split()), validate=True).decode(errors="replace")
        except binascii.Error as e:
            raise ValueError("!!binary value contains invalid base64 data") from e

    def truth(self, node: Any) -> bool:
        text = node.value.lower()
        if text not in _TRUTHS:
            raise ValueError(f"cannot decode !!str `{node.value}` as a !!bool")
        return text in _TRUE

    def number(self, node: Any) -> int | float:
        text = node.value.replace("_", "").lower()
        try:
            value: int | float = int(_OCTAL.sub(r"\g<1>0o", text), 0)
        except ValueError:
            value = _real(text)
        # whole numbers that have room are written without a point
        has_room = -(2**63) <= value < 2**63
        return int(value) if has_room and value == int(value) else float(value)


def _real(text: str) -> float:
    try:
        value = float(text.replace(".inf", "inf").replace(".nan", "nan"))
    except ValueError as e:
        raise ValueError(f"cannot decode !!str `{text}` as a !!float") from e
    if math.isfinite(value):
        return value
    raise BadRequest(f"json: unsupported value: {'NaN' if math.isnan(value) else '-Inf' if value < 0 else '+Inf'}")


_TRUE = frozenset(("y", "yes", "on", "true"))
_TRUTHS = _TRUE | {"n", "no", "off", "false"}
_OCTAL = re.compile(r"^([-+]?)0(?=[0-7]+$)")
#: What plain words are, and the letters that such words begin with; the first pattern that fits counts.
_PLAIN = (
    ("bool", "y|Y|yes|Yes|YES|n|N|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF", "yYnNtTfFoO"),
    (
        "float",
        r"[-+]?(?:0[bB][01_]+|0[oO][0-7_]+|0[xX][0-9a-fA-F_]+|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?)"
        r"|[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("null", "~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", "<<", "<"),
)
for _name, _pattern, _first in _PLAIN:
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(f"^(?:{_pattern})$"), list(_first))
for _name, _constructor in {
    "null": _Loader.construct_yaml_null,
    "bool": _Loader.truth,
    "int": _Loader.number,
    "float": _Loader.number,
    "binary": _Loader.binary,
    "seq": _Loader.construct_yaml_seq,
    "map": _Loader.construct_yaml_map,
}.items():
    _Loader.add_constructor(_TAG + _name, _constructor)
_Loader.add_constructor(None, _Loader.other)
