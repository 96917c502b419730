"""What a CEL expression names and there is not: variables, functions, and fields of values whose schema is known.

It looks at the words alone. A value is followed from a variable through its fields and items, and to the names that macros bind
them to. What a function makes of a value is not known, and of that any field may be named.

Source: cel-go v0.26 checker (its texts); apiserver pkg/cel/common/schemas.go (SchemaDeclType), v0.34.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

from kubelite.schema import expression_functions, expressions

#: What is known of a value: its OpenAPI schema; None for nothing.
Schema: TypeAlias = Mapping[str, Any] | None

_MACROS = frozenset(("all", "exists", "exists_one", "existsOne", "map", "filter", "transformList", "transformMap"))
#: Macros whose result has the type of what they are asked of.
_FILTERS = frozenset(("filter",))
_TYPES_AND_PREFIXES = """
    base64 bool bytes cel double false format google in int ip list lists map math null null_type optional regex sets string
    strings true type uint
"""
#: What may be named without anybody declaring it.
_WORDS = frozenset(_TYPES_AND_PREFIXES.split())
#: Functions of the language itself, those of authorizers, and those that Kubernetes has and the evaluator has not.
_MORE_FUNCTIONS = """
    bool bytes contains double duration dyn endsWith getDate getDayOfMonth getDayOfWeek getDayOfYear getFullYear getHours
    getMilliseconds getMinutes getMonth getSeconds has hasValue int list map matches none of ofNonZeroValue optFlatMap optMap
    or orValue size startsWith string timestamp type uint value
    allowed check errored error fieldSelector group labelSelector name namespace path reason requestResource resource
    serviceAccount subresource
    bind escapeKey find findAll first isCanonical last named
"""
_FUNCTIONS = (
    _MACROS
    | frozenset(_MORE_FUNCTIONS.split())
    | {name.rpartition("__")[2].rpartition("_")[2] for name in expression_functions.FUNCTIONS}
)
_TEXT: Mapping[str, Any] = {"type": "string"}
#: Fields of every object with a type of its own: a custom one's root and what is embedded.
_OF_OBJECTS: Mapping[str, Any] = {
    "apiVersion": _TEXT,
    "kind": _TEXT,
    "metadata": {"type": "object", "properties": {"name": _TEXT, "generateName": _TEXT}},
}
_SCALARS = {"string": "string", "boolean": "bool", "integer": "int", "number": "double"}
_FORMATS = {"byte": "bytes", "date": "timestamp", "date-time": "timestamp", "duration": "duration"}
_KEYWORDS = """
    true false null in as break const continue else for function if import let loop package namespace return var void while
"""
_RESERVED = frozenset(_KEYWORDS.split())
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
_CLOSING = {"(": ")", "[": "]", "[?": "]", "{": "}"}


def check(source: str, declared: Mapping[str, Schema]) -> None:
    """Checks what an expression names against the variables that it may name.

    Raises:
        ExpressionError: it names what there is not.
    """
    faults = sorted(_Reading(source, declared).faults())
    if faults:
        raise expressions.ExpressionError("compilation failed: " + "\n".join(_told(source, *fault) for fault in faults))


def escape(name: str) -> str:
    """A field's name as expressions have to write it."""
    if name in _RESERVED:
        return f"__{name}__"
    if not _NAME.fullmatch(name):
        return name
    out = name.replace("__", "__underscores__")
    return out.replace(".", "__dot__").replace("-", "__dash__").replace("/", "__slash__")


def _told(source: str, at: int, text: str) -> str:
    """A fault with the place where it is: the line, and a mark below it."""
    before = source[:at]
    column = at - (before.rfind("\n") + 1)
    line = source[at - column :].partition("\n")[0]
    return f"ERROR: <input>:{before.count(chr(10)) + 1}:{column + 1}: {text}\n | {line}\n | {'.' * column}^"


class _Word(NamedTuple):
    kind: str
    text: str
    at: int


_END = _Word("end", "", -1)


class _Reading:
    """One pass over the words of an expression."""

    def __init__(self, source: str, declared: Mapping[str, Schema]) -> None:
        self._words: list[_Word] = []
        self._closing: dict[int, int] = {}
        self._scope = dict(declared)
        #: What macros are asked of, by their places.
        self._asked: dict[int, Schema] = {}
        self._found: list[tuple[int, str]] = []
        at, opened = 0, []
        for kind, text in expressions.tokens(source):
            if kind != "space":
                if text in _CLOSING:
                    opened.append(len(self._words))
                elif text in _CLOSING.values() and opened:
                    self._closing[opened.pop()] = len(self._words)
                self._words.append(_Word(kind, text, at))
            at += len(text)

    def faults(self) -> list[tuple[int, str]]:
        bound: list[tuple[int, dict[str, Schema]]] = []
        for place, word in enumerate(self._words):
            while bound and bound[-1][0] <= place:
                self._scope = bound.pop()[1]
            if word.kind != "name":
                continue
            calls = self._word(place + 1).text == "("
            if self._word(place - 1).text in (".", ".?"):
                if calls and word.text in (*_MACROS, "bind", "optMap", "optFlatMap"):
                    bound.append((self._closing.get(place + 1, len(self._words)), self._scope))
                    self._bind(place)
                elif calls:
                    self._function(place)
            elif calls:
                self._function(place)
            elif word.text in self._scope:
                self._follow(place)
            elif word.text not in _WORDS:
                self._found.append((word.at, f"undeclared reference to '{word.text}' (in container '')"))
        return self._found

    def _word(self, place: int) -> _Word:
        return self._words[place] if 0 <= place < len(self._words) else _END

    def _function(self, place: int) -> None:
        name = self._words[place].text
        if name not in _FUNCTIONS:
            self._found.append((self._words[place + 1].at, f"undeclared reference to '{name}' (in container '')"))

    def _bind(self, place: int) -> None:
        """The names that a macro binds: to the items of what it is asked of, where it binds one."""
        first, comma, second, more = (self._word(place + ahead) for ahead in (2, 3, 4, 5))
        self._scope = dict(self._scope)
        if first.kind != "name" or comma.text != ",":
            return
        self._scope[first.text] = _bound(self._asked.get(place))
        if second.kind == "name" and more.text == ",":
            self._scope[first.text] = None
            self._scope.setdefault(second.text, None)

    def _follow(self, place: int) -> None:
        """From a variable as far as its schema tells."""
        schema, at = self._scope[self._words[place].text], place + 1
        while schema is not None:
            step, name = self._word(at), self._word(at + 1)
            if step.text == "[":
                at, schema = self._closing.get(at, len(self._words)) + 1, _item(schema)
            elif step.text not in (".", ".?") or name.kind != "name":
                return
            elif self._word(at + 2).text == "(":
                self._asked[at + 1] = schema
                if name.text not in _FILTERS:
                    return
                at = self._closing.get(at + 2, len(self._words)) + 1
            else:
                below, fault = _field(schema, name.text)
                if fault:
                    is_asked = self._word(place - 2).text == "has" and self._word(at + 2).text == ")"
                    self._found.append((self._word(place - 1).at if is_asked else step.at, fault))
                    return
                at, schema = at + 2, None if step.text == ".?" else below


def _field(schema: Mapping[str, Any], name: str) -> tuple[Schema, str]:
    """What is known of a field, and what is wrong with naming it."""
    if _is_any(schema):
        return None, ""
    kind, is_object = schema.get("type"), bool(schema.get("x-kubernetes-embedded-resource"))
    if kind != "object" and not is_object:
        text = _type(schema)
        return None, f"type '{text}' does not support field selection" if text else ""
    values = schema.get("additionalProperties")
    if isinstance(values, Mapping):
        return values, ""
    properties = schema.get("properties") or {}
    if is_object:
        properties = {**properties, **_OF_OBJECTS}
    for given, below in properties.items():
        if escape(given) == name and (below.get("type") or _is_any(below) or below.get("x-kubernetes-embedded-resource")):
            return below, ""
    return None, f"undefined field '{name}'"


def _is_any(schema: Mapping[str, Any]) -> bool:
    return bool(schema.get("x-kubernetes-int-or-string"))


def _type(schema: Mapping[str, Any]) -> str:
    """The name of a type, empty where it has one that nobody gave it."""
    kind = schema.get("type", "")
    if kind == "array":
        inner = _type(schema.get("items") or {})
        return f"list({inner})" if inner else ""
    return _FORMATS.get(schema.get("format", ""), "string") if kind == "string" else _SCALARS.get(kind, "")


def _item(schema: Mapping[str, Any]) -> Schema:
    below = schema.get("items") if schema.get("type") == "array" else schema.get("additionalProperties")
    return below if isinstance(below, Mapping) else None


def _bound(schema: Schema) -> Schema:
    """What a macro binds its name to: items of a list, keys of a map."""
    if schema is None or schema.get("type") == "array":
        return None if schema is None else _item(schema)
    return _TEXT if isinstance(schema.get("additionalProperties"), Mapping) else None
