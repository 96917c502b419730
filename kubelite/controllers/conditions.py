"""Conditions of a status: lists of dicts, told apart by `type`. Nothing here changes what it is given."""

from collections.abc import Sequence
from typing import Any

from kubelite.meta.types import Obj


def find(conditions: Sequence[Obj] | None, type_: str) -> Obj | None:
    """The condition of a type."""
    return next((c for c in conditions or () if c["type"] == type_), None)


def is_true(obj: Obj, type_: str) -> bool:
    """The object has the condition and its status is True."""
    found = find(obj.get("status", {}).get("conditions"), type_)
    return found is not None and found.get("status") == "True"


def without(conditions: Sequence[Obj] | None, type_: str) -> list[Obj]:
    """The conditions of all other types."""
    return [c for c in conditions or () if c["type"] != type_]


def put(conditions: Sequence[Obj] | None, condition: Obj, *, moved: Sequence[str] = ("status", "reason")) -> list[Obj]:
    """The conditions with one set, in its old place where it had one. It stays as it was where nothing in `moved` differs."""
    result = list(conditions or ())
    for index, old in enumerate(result):
        if old["type"] == condition["type"]:
            if any(old.get(key, "") != condition.get(key, "") for key in moved):
                result[index] = condition
            return result
    result.append(condition)
    return result


def make(type_: str, status: str, now: str, reason: str = "", message: str = "", **more: Any) -> Obj:
    """A condition whose empty fields are left out."""
    condition = {"type": type_, "status": status, "lastTransitionTime": now, "reason": reason, "message": message, **more}
    return {key: value for key, value in condition.items() if value != ""}
