"""The columns of a kind's table and an object's cells in it.

`columns_of` gives a kind's columns, `cells` one object's row, `ordered` the objects in the order of their rows. Built-in kinds
have theirs in `printers`; a custom kind has those of its CustomResourceDefinition; every other kind gets its name and when it
was created.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from kubelite.meta import errors
from kubelite.meta.types import Obj
from kubelite.schema import jsonpaths
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
        try:
            reader = jsonpaths.compile(column["jsonPath"])
        except ValueError:
            break  # the columns before it stay, as in Kubernetes
        columns.append(
            Column(
                column["name"],
                column["type"],
                column.get("format", ""),
                column.get("priority", 0),
                column.get("description") or f"Custom resource definition column (in JSONPath format): {column['jsonPath']}",
            )
        )
        readers.append((column["type"], reader))

    def row(obj: Obj, now: float) -> list[Any]:
        return [obj.get("metadata", {}).get("name", ""), *(_cell(kind_, read, obj, now) for kind_, read in readers)]

    return columns, row


def _cell(kind: str, read: Callable[[Any], list[Any]], obj: Obj, now: float) -> Any:
    """A custom column's value in its declared type; None where there is none.

    Source: apiextensions-apiserver pkg/registry/customresource/tableconvertor, v0.34.
    """
    try:
        found = read(obj)
    except ValueError:
        return None
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
    return _text(value) if kind == "string" else None


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return "<no value>"
    return str(int(value)) if isinstance(value, float) and value.is_integer() and value < 1e21 else errors.format_value(value)
