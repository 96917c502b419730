"""Label and field selectors: parsed once, matched often.

Source: apimachinery pkg/labels and pkg/fields, v0.34 (grammar, meaning and error texts).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from kubelite.meta import names
from kubelite.meta.errors import format_value
from kubelite.meta.types import Obj

Operator = Literal["=", "==", "!=", "in", "notin", "exists", "!", "gt", "lt"]

_TOKENS = re.compile(r"[ \t\r\n]*(==|!=|[=!(),<>]|[^=!(),<> \t\r\n]+)")
_OPERATORS = {"=", "==", "!=", "in", "notin", ">", "<"}
_EXPECTED_OPERATORS = "in, notin, =, ==, !=, gt, lt"


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on one label. `values` are sorted, without doubles."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        found = labels.get(self.key)
        match self.operator:
            case "=" | "==" | "in":
                return found is not None and found in self.values
            case "!=" | "notin":
                return found is None or found not in self.values
            case "exists":
                return found is not None
            case "!":
                return found is None
            case _:
                if found is None or not _is_int64(found):
                    return False
                limit = int(self.values[0])
                return int(found) > limit if self.operator == "gt" else int(found) < limit

    def __str__(self) -> str:
        joined = ",".join(self.values)
        match self.operator:
            case "exists":
                return self.key
            case "!":
                return f"!{self.key}"
            case "in" | "notin":
                return f"{self.key} {self.operator} ({joined})"
            case "gt":
                return f"{self.key}>{joined}"
            case "lt":
                return f"{self.key}<{joined}"
            case _:
                return f"{self.key}{self.operator}{joined}"


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """All of some requirements; none of them: everything. `nothing` matches no object at all."""

    requirements: tuple[Requirement, ...] = ()
    nothing: bool = False

    def matches(self, labels: Mapping[str, str] | None) -> bool:
        if self.nothing:
            return False
        labels = labels or {}
        for requirement in self.requirements:  # noqa: SIM110  (a generator costs more than this loop)
            if not requirement.matches(labels):
                return False
        return True

    @property
    def is_everything(self) -> bool:
        return not self.requirements and not self.nothing

    def exact(self, key: str) -> str | None:
        """The one value that the selector wants of a label, where it wants one."""
        for requirement in self.requirements:
            if requirement.key == key and requirement.operator in ("=", "==", "in") and len(requirement.values) == 1:
                return requirement.values[0]
        return None

    def __str__(self) -> str:
        return ",".join(str(requirement) for requirement in self.requirements)


EVERYTHING = LabelSelector()
NOTHING = LabelSelector(nothing=True)


def requirement(key: str, operator: Operator, values: Iterable[str] = (), path: str = "") -> Requirement:
    """A checked requirement.

    Raises:
        ValueError: key, operator and values don't fit each other.
    """
    values = tuple(sorted(set(values)))
    prefix = f"{path}." if path else ""
    texts = names.qualified_name(key)
    faults = [f"{prefix}key: Invalid value: {format_value(key)}: {'; '.join(texts)}"] if texts else []
    listed = "[" + ",".join(f'"{value}"' for value in values) + "]"
    if operator in ("in", "notin") and not values:
        faults.append(f"{prefix}values: Invalid value: {listed}: for 'in', 'notin' operators, values set can't be empty")
    elif operator in ("=", "==", "!=") and len(values) != 1:
        faults.append(f"{prefix}values: Invalid value: {listed}: exact-match compatibility requires one single value")
    elif operator in ("exists", "!") and values:
        faults.append(f"{prefix}values: Invalid value: {listed}: values set must be empty for exists and does not exist")
    elif operator in ("gt", "lt"):
        if len(values) != 1:
            faults.append(f"{prefix}values: Invalid value: {listed}: for 'Gt', 'Lt' operators, exactly one value is required")
        faults += [
            f"{prefix}values[{i}]: Invalid value: {format_value(value)}: for 'Gt', 'Lt' operators, the value must be an integer"
            for i, value in enumerate(values)
            if not _is_int64(value)
        ]
    for i, value in enumerate(values):
        texts = names.label_value(value)
        if texts:
            faults.append(f"{prefix}values[{i}][{key}]: Invalid value: {format_value(value)}: {'; '.join(texts)}")
    if faults:
        raise ValueError(faults[0] if len(faults) == 1 else f"[{', '.join(faults)}]")
    return Requirement(key, operator, values)


@lru_cache(maxsize=4096)
def parse_labels(text: str) -> LabelSelector:
    """A selector such as `app=web,tier in (a, b),!canary`.

    Raises:
        ValueError: the text is no selector; its text is the API's.
    """
    if not text:
        return EVERYTHING
    return LabelSelector(tuple(sorted(_Parser(text).requirements(), key=lambda found: found.key)))


def from_labels(labels: Mapping[str, str] | None) -> LabelSelector:
    """The selector of everything that has all these labels."""
    return LabelSelector(tuple(Requirement(key, "=", (value,)) for key, value in sorted((labels or {}).items())))


_OBJECT_OPERATORS: dict[str, Operator] = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!"}


def from_object(selector: Obj | None) -> LabelSelector:
    """The selector that a LabelSelector object (matchLabels, matchExpressions) stands for: None matches nothing, an empty
    one everything.

    Raises:
        ValueError: an expression is not valid.
    """
    if selector is None:
        return NOTHING
    found = [Requirement(key, "=", (value,)) for key, value in (selector.get("matchLabels") or {}).items()]
    for expression in selector.get("matchExpressions") or ():
        operator = _OBJECT_OPERATORS.get(expression.get("operator", ""))
        if operator is None:
            raise ValueError(f'"{expression.get("operator", "")}" is not a valid label selector operator')
        found.append(requirement(expression.get("key", ""), operator, expression.get("values") or ()))
    return LabelSelector(tuple(sorted(found, key=lambda item: item.key))) if found else EVERYTHING


_NODE_OPERATORS: dict[str, Operator] = {**_OBJECT_OPERATORS, "Gt": "gt", "Lt": "lt"}


def from_node_expressions(expressions: Iterable[Obj]) -> LabelSelector:
    """The selector of a NodeSelectorTerm's matchExpressions, which know Gt and Lt too.

    Raises:
        ValueError: an expression is not valid.
    """
    found = []
    for expression in expressions:
        operator = _NODE_OPERATORS.get(expression.get("operator", ""))
        if operator is None:
            raise ValueError(f'"{expression.get("operator", "")}" is not a valid node selector operator')
        found.append(requirement(expression.get("key", ""), operator, expression.get("values") or ()))
    return LabelSelector(tuple(found))


class _Parser:
    """Recursive descent over the tokens, as the grammar of the label selectors is written."""

    def __init__(self, text: str) -> None:
        self.tokens: list[str] = [found.group(1) for found in _TOKENS.finditer(text)]
        self.position = 0

    def look(self) -> str:
        return self.tokens[self.position] if self.position < len(self.tokens) else ""

    def take(self) -> str:
        token = self.look()
        self.position += 1
        return token

    def requirements(self) -> list[Requirement]:
        found: list[Requirement] = []
        while token := self.look():
            if token != "!" and not _is_identifier(token):
                raise ValueError(f"found '{token}', expected: !, identifier, or 'end of string'")
            try:
                found.append(self.requirement())
            except ValueError as e:
                raise ValueError(f"unable to parse requirement: {e}") from None
            token = self.take()
            if not token:
                break
            if token != ",":
                raise ValueError(f"found '{token}', expected: ',' or 'end of string'")
            following = self.look()
            if following != "!" and not _is_identifier(following):
                raise ValueError(f"found '{following}', expected: identifier after ','")
        return found

    def requirement(self) -> Requirement:
        key = self.take()
        negated = key == "!"
        if negated:
            key = self.take()
        if not _is_identifier(key):
            raise ValueError(f"found '{key}', expected: identifier")
        faults = names.qualified_name(key)
        if faults:
            raise ValueError(f"<nil>: Invalid value: {format_value(key)}: {'; '.join(faults)}")
        if negated or self.look() in ("", ","):
            return Requirement(key, "!" if negated else "exists")
        operator = self.take()
        if operator not in _OPERATORS:
            raise ValueError(f"found '{operator}', expected: {_EXPECTED_OPERATORS}")
        if operator in ("in", "notin"):
            return requirement(key, operator, self.listed())  # type: ignore[arg-type]
        token = self.look()
        if token in ("", ","):
            values = [""]
        elif _is_identifier(token):
            values = [self.take()]
        else:
            raise ValueError(f"found '{token}', expected: identifier")
        named: Operator = {">": "gt", "<": "lt"}.get(operator, operator)  # type: ignore[assignment]
        return requirement(key, named, values)

    def listed(self) -> list[str]:
        token = self.take()
        if token != "(":
            raise ValueError(f"found '{token}' expected: '('")
        if self.look() not in (",", ")") and not _is_identifier(self.look()):
            raise ValueError(f"found '{self.look()}', expected: ',', ')' or identifier")
        values, current = [], ""
        while True:
            token = self.take()
            if token in (",", ")"):
                values.append(current)
                current = ""
                if token == ")":
                    return values
            elif _is_identifier(token) and not current:
                current = token
            else:
                raise ValueError(f"found '{token}', expected: ',' or ')'")


def _is_identifier(token: str) -> bool:
    return bool(token) and token[0] not in "=!(),<>"


def _is_int64(text: str) -> bool:
    return re.fullmatch(r"[+-]?\d{1,19}", text) is not None and -(2**63) <= int(text) < 2**63


@dataclass(frozen=True, slots=True)
class FieldRequirement:
    field: str
    value: str
    equal: bool = True

    def __str__(self) -> str:
        escaped = re.sub(r"[\\,=]", lambda found: "\\" + found.group(), self.value)
        return f"{self.field}{'=' if self.equal else '!='}{escaped}"


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """All of some conditions on fields, given as texts under their paths; a field that is not there counts as empty."""

    requirements: tuple[FieldRequirement, ...] = ()

    def matches(self, fields: Mapping[str, str]) -> bool:
        for wanted in self.requirements:  # noqa: SIM110  (a generator costs more than this loop)
            if (fields.get(wanted.field, "") == wanted.value) != wanted.equal:
                return False
        return True

    def exact(self, field: str) -> str | None:
        """The one value that the selector wants of a field, where it wants one."""
        return next((wanted.value for wanted in self.requirements if wanted.field == field and wanted.equal), None)

    @property
    def fields(self) -> tuple[str, ...]:
        return tuple(wanted.field for wanted in self.requirements)

    @property
    def is_everything(self) -> bool:
        return not self.requirements

    def __str__(self) -> str:
        return ",".join(str(wanted) for wanted in self.requirements)


@lru_cache(maxsize=4096)
def parse_fields(text: str) -> FieldSelector:
    """A selector such as `spec.nodeName=n1,status.phase!=Running`.

    Raises:
        ValueError: the text is no selector; its text is the API's.
    """
    found = []
    for term in sorted(re.findall(r"(?:[^\\,]|\\.|\\$)+", text)):
        split = re.fullmatch(r"(.*?)(!=|==|=)(.*)", term, re.DOTALL)
        if split is None:
            raise ValueError(f"invalid selector: '{text}'; can't understand '{term}'")
        field, operator, value = split.groups()
        value = _unescape(value)
        if field or value:  # a term of nothing restricts nothing
            found.append(FieldRequirement(field, value, operator != "!="))
    return FieldSelector(tuple(found))


def _unescape(value: str) -> str:
    def plain(found: re.Match[str]) -> str:
        sequence = found.group()
        if sequence in ("\\\\", "\\,", "\\="):
            return sequence[1]
        if sequence[0] == "\\":
            raise ValueError(f"invalid field selector: invalid escape sequence: {sequence}")
        raise ValueError(f"invalid field selector: unescaped character in value: {ord(sequence)}")

    return re.sub(r"\\.|\\$|[,=]", plain, value, flags=re.DOTALL) if any(c in value for c in "\\,=") else value


def field_value(obj: Obj, path: str) -> str:
    """The text of the field at a dotted path, empty where it is not there: `spec.nodeName`, `spec.unschedulable`."""
    value: Any = obj
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
        if value is None:
            return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(value)
