"""What a table is made of: columns, cells, ages."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from kubelite.meta import times
from kubelite.meta.types import Obj

NONE = "<none>"
UNKNOWN = "<unknown>"


class Column(NamedTuple):
    """A column as a Table declares it. `priority` above 0: shown only with `-o wide`."""

    name: str
    type: str = "string"
    format: str = ""
    priority: int = 0
    description: str = ""


#: An object's cells, one for each column; the number is the time that ages are counted from, in seconds since the epoch.
Cells: TypeAlias = Callable[[Obj, float], list[Any]]

NAME = Column("Name", "string", "name", 0, "The object's name, unique in its namespace.")


def age(text: str | None, now: float) -> str:
    """The time since a timestamp, as tables print it."""
    return times.format_duration(now - times.parse_seconds(text)) if text else UNKNOWN
