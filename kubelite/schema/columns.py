"""The columns of a kind's table and an object's cells in it.

`columns_of` gives a kind's columns, `cells` one object's row, `ordered` the objects in the order of their rows. Built-in kinds
have theirs in `printers`; a custom kind has those of its CustomResourceDefinition; every other kind gets its name and when it
was created.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from kubelite.meta.types import Obj
from kubelite.schema.cells import NAME, Cells, Column, age
from kubelite.schema.kinds import Kind

CREATED_AT = Column("Created At", "date", "", 0, "When the object was created.")


def columns_of(kind: Kind) -> Sequence[Column]:
    """The kind's columns, the name first."""
    return _table(kind)[0]


def cells(kind: Kind, obj: Obj, now: float) -> list[Any]:
    """An object's cells, one for each column. `now` is seconds since the epoch; ages are counted from it."""
    return _table(kind)[1](obj, now)


def ordered(kind: Kind, items: Sequence[Obj]) -> Sequence[Obj]:
    """Listed objects in the order of their rows."""
    if kind.custom or len(items) < 2:
        return items
    from kubelite.schema import printers

    order = printers.ORDERS.get(kind.group_resource)
    return items if order is None else sorted(items, key=order)


@lru_cache(maxsize=1024)
def _table(kind: Kind) -> tuple[Sequence[Column], Cells]:
    if kind.custom:
        return _custom(kind)
    from kubelite.schema import printers  # the cells of built-in kinds, which an idle server doesn't need

    table = printers.TABLES.get(kind.group_resource, _DEFAULT)
    is_older = kind.version == "v1" and kind.group_resource == "horizontalpodautoscalers.autoscaling"
    return (table[0], _of_newer_version(table[1])) if is_older else table


def _of_newer_version(row: Cells) -> Cells:
    """The cells of autoscalers in their older version, whose metrics are in an annotation."""
    from kubelite.schema import conversion

    return lambda obj, now: row(conversion.autoscaler_to_v2(obj), now)


def _name_and_creation(obj: Obj, now: float) -> list[Any]:
    metadata = obj.get("metadata") or {}
    return [metadata.get("name", ""), metadata.get("creationTimestamp")]


def _name_and_age(obj: Obj, now: float) -> list[Any]:
    metadata = obj.get("metadata") or {}
    return [metadata.get("name", ""), age(metadata.get("creationTimestamp"), now)]


_DEFAULT: tuple[Sequence[Column], Cells] = ((NAME, CREATED_AT), _name_and_creation)


def _custom(kind: Kind) -> tuple[Sequence[Column], Cells]:
    declared: Any = (kind.crd_version or {}).get("additionalPrinterColumns")
    if not declared:
        return (NAME, Column("Age", "date")), _name_and_age
    columns = [NAME]
    readers: list[tuple[str, Callable[[Any], list[Any]]]] = []
    for column in declared:
        columns.append(
            Column(
                column["name"],
                column["type"],
                column.get("format", ""),
                column.get("priority", 0),
                column.get("description", ""),
            )
        )
        readers.append((column["type"], json_path(column["jsonPath"])))

    def row(obj: Obj, now: float) -> list[Any]:
        return [obj.get("metadata", {}).get("name", ""), *(_cell(kind_, read(obj), now) for kind_, read in readers)]

    return columns, row


def _cell(kind: str, found: list[Any], now: float) -> Any:
    """A custom column's value in its declared type; None where there is none.

    Source: apiextensions-apiserver pkg/registry/customresource/tableconvertor, v0.34.
    """
    if not found:
        return None
    value = found[0]
    if kind == "integer" and isinstance(value, (int, float)) and not isinstance(value, bool):
        return int(value)
    if kind == "number" and isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    if kind == "boolean" and isinstance(value, bool):
        return value
    if kind == "date" and isinstance(value, str):
        try:
            return age(value, now)
        except ValueError:
            return "<invalid>"
    if kind == "string":
        return _format(found)
    return None


def _format(found: list[Any]) -> str:
    import orjson

    texts = [v if isinstance(v, str) else orjson.dumps(v).decode() for v in found]
    return " ".join(texts)


_STEP = re.compile(
    r"""\.([^.\[\]'"\s]+)|\['((?:[^'\\]|\\.)*)'\]|\["((?:[^"\\]|\\.)*)"\]|\[(\*|-?\d+)\]|\[\?\(@\.([^=!<>]+?)\s*(==|!=)\s*(.+?)\)\]"""
)


def json_path(text: str) -> Callable[[Any], list[Any]]:
    """A reader for the JSONPath that printer columns and kubectl use: fields, quoted fields, indexes, `*` and equality filters.

    Raises:
        ValueError: the path has a form that is not understood.
    """
    rest = text.strip()
    if rest.startswith("{") and rest.endswith("}"):
        rest = rest[1:-1]
    if not rest.startswith((".", "[")):
        rest = f".{rest}"
    steps: list[Callable[[Any], list[Any]]] = []
    at = 0
    while at < len(rest):
        match = _STEP.match(rest, at)
        if match is None:
            raise ValueError(f"JSONPath {text!r} is not understood at {rest[at:]!r}")
        at = match.end()
        plain, single, double, index, field, operator, literal = match.groups()
        name = next((n for n in (plain, single, double) if n is not None), None)
        if name is not None:
            steps.append(_field(name.replace("\\.", ".")))
        elif index is not None:
            steps.append(_index(index))
        else:
            steps.append(_filter(field, operator, literal))

    def read(value: Any) -> list[Any]:
        found = [value]
        for step in steps:
            found = [inner for outer in found for inner in step(outer)]
        return found

    return read


def _field(name: str) -> Callable[[Any], list[Any]]:
    def step(value: Any) -> list[Any]:
        return [value[name]] if isinstance(value, Mapping) and value.get(name) is not None else []

    return step


def _index(text: str) -> Callable[[Any], list[Any]]:
    def step(value: Any) -> list[Any]:
        if text == "*":
            return list(value.values()) if isinstance(value, Mapping) else list(value) if isinstance(value, list) else []
        position = int(text)
        return [value[position]] if isinstance(value, list) and -len(value) <= position < len(value) else []

    return step


def _filter(field: str, operator: str, literal: str) -> Callable[[Any], list[Any]]:
    wanted = literal.strip().strip("'\"")
    read = json_path(f".{field.strip()}")

    def matches(item: Any) -> bool:
        found = read(item)
        text = (found[0] if isinstance(found[0], str) else str(found[0]).lower()) if found else None
        return (text == wanted) == (operator == "==")

    def step(value: Any) -> list[Any]:
        return [item for item in value if matches(item)] if isinstance(value, list) else []

    return step
