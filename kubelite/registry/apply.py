"""Who manages which field: managedFields kept true on every write, and server-side apply.

A manager is a (name, operation, apiVersion, subresource); its entry in `metadata.managedFields` lists the fields that it set.
An update moves the fields it changes to its manager; an apply merges a configuration, refuses what another manager owns and
would change (unless forced), and removes what this manager applied before and no longer does.

Pure functions: no store, no clock. Source: KEP-555; apimachinery pkg/util/managedfields, structured-merge-diff merge/update.go.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kubelite.meta.errors import ApiError, BadRequest, Cause
from kubelite.meta.types import Obj
from kubelite.schema import fieldsets
from kubelite.schema.fieldsets import FieldSet
from kubelite.schema.structure import Structure

#: What the server sets itself: nobody manages it.
STRIPPED: tuple[tuple[str, ...], ...] = (
    ("apiVersion",),
    ("kind",),
    ("metadata", "name"),
    ("metadata", "namespace"),
    ("metadata", "creationTimestamp"),
    ("metadata", "selfLink"),
    ("metadata", "uid"),
    ("metadata", "clusterName"),
    ("metadata", "generation"),
    ("metadata", "managedFields"),
    ("metadata", "resourceVersion"),
    ("metadata", "deletionTimestamp"),
    ("metadata", "deletionGracePeriodSeconds"),
)

#: Above this many entries of updates the oldest are merged into one, named below.
MAX_UPDATE_MANAGERS = 10
ANCIENT_CHANGES = "ancient-changes"
BEFORE_FIRST_APPLY = "before-first-apply"


@dataclass(frozen=True, slots=True)
class Manager:
    """One entry's identity."""

    name: str
    operation: str
    api_version: str
    subresource: str = ""


@dataclass(slots=True)
class _Managed:
    fields: FieldSet
    time: str


def tracked(
    structure: Structure,
    old: Obj | None,
    new: Obj,
    *,
    manager: str,
    time: str,
    api_version: str,
    subresource: str = "",
    reset: Sequence[tuple[str, ...]] = (),
) -> list[Obj]:
    """The managedFields of `new` after a create or an update by `manager`.

    `reset` are the paths that this write cannot change (spec on a status update). A client that sends one empty entry resets
    the list; entries that it sends otherwise count in place of the stored ones, where they can be read.
    """
    sent = new.get("metadata", {}).get("managedFields")
    if sent == [{}]:
        return []
    managers = _decode(sent) if sent else None
    if managers is None:
        managers = _decode(old.get("metadata", {}).get("managedFields") or () if old is not None else ()) or {}
    comparison = fieldsets.compare(structure, _managed_part(old or {}, reset), _managed_part(new, reset))
    changed, removed = comparison.changed, comparison.removed
    if not changed and not removed:
        return _encode(managers)
    me = Manager(manager, "Update", api_version, subresource)
    touched = fieldsets.union_roots(changed, removed)
    for other in list(managers):
        if other != me:
            _give_up(managers, other, touched)
    own = managers.get(me)
    fields = fieldsets.union_roots(fieldsets.difference(own.fields, removed) if own else {}, changed)
    if fields:
        managers[me] = _Managed(fields, time)
    else:
        managers.pop(me, None)
    _cap(managers)
    return _encode(managers)


def applied(
    structure: Structure,
    live: Obj | None,
    config: Obj,
    *,
    manager: str,
    force: bool,
    time: str,
    api_version: str,
    subresource: str = "",
    reset: Sequence[tuple[str, ...]] = (),
) -> Obj:
    """The object that results when `manager` applies `config`, its managedFields included.

    Raises:
        BadRequest: the configuration itself has managedFields.
        ApiError: reason Conflict, a cause of FieldManagerConflict for each field that others own.
    """
    if config.get("metadata", {}).get("managedFields"):
        raise BadRequest("metadata.managedFields must be nil")
    stripped = (*STRIPPED, *reset)
    managers = _decode((live or {}).get("metadata", {}).get("managedFields") or ()) or {}
    if live is not None and not managers:
        all_live = fieldsets.without(fieldsets.of_value(structure, live), stripped)
        managers[Manager(BEFORE_FIRST_APPLY, "Update", api_version)] = _Managed(all_live, time)
    me = Manager(manager, "Apply", api_version, subresource)
    previous = managers.pop(me, None)
    fields = fieldsets.without(fieldsets.of_value(structure, config), stripped)
    merged = fieldsets.merge(structure, live or {}, config)
    changed = fieldsets.without(fieldsets.compare(structure, live or {}, merged).changed, stripped)
    conflicts = {other: both for other, m in managers.items() if (both := fieldsets.intersection(m.fields, changed))}
    if conflicts and not force:
        raise _conflict(conflicts)
    for other, both in conflicts.items():
        _give_up(managers, other, both)
    if previous is not None:
        held = fields
        for managed in managers.values():
            held = fieldsets.union_roots(held, managed.fields)
        gone = fieldsets.difference(previous.fields, held)
        if gone:
            merged = fieldsets.remove(structure, merged, gone, held)
    if fields:
        unchanged = previous is not None and previous.fields == fields
        managers[me] = _Managed(fields, previous.time if previous is not None and unchanged else time)
    return {**merged, "metadata": {**merged.get("metadata", {}), "managedFields": _encode(managers)}}


_STRIPPED_TOP = frozenset(path[0] for path in STRIPPED if len(path) == 1)
_STRIPPED_METADATA = frozenset(path[1] for path in STRIPPED if path[0] == "metadata")


def _managed_part(obj: Obj, reset: Sequence[tuple[str, ...]]) -> Obj:
    """The object without what nobody manages and what this write cannot change; cheaper than stripping sets of its fields."""
    part = {name: value for name, value in obj.items() if name not in _STRIPPED_TOP}
    metadata = obj.get("metadata") or {}
    part["metadata"] = {name: value for name, value in metadata.items() if name not in _STRIPPED_METADATA}
    for path in reset:
        part = _without(part, path)
    return part


def _without(value: Obj, path: tuple[str, ...]) -> Obj:
    first, rest = path[0], path[1:]
    if first not in value:
        return value
    if rest and isinstance(value[first], dict):
        return {**value, first: _without(value[first], rest)}
    return {name: item for name, item in value.items() if name != first}


def _give_up(managers: dict[Manager, _Managed], manager: Manager, fields: FieldSet) -> None:
    managed = managers[manager]
    if not fieldsets.intersection(managed.fields, fields):
        return
    rest = fieldsets.difference(managed.fields, fields)
    if rest:
        managers[manager] = _Managed(rest, managed.time)
    else:
        del managers[manager]


def _conflict(conflicts: Mapping[Manager, FieldSet]) -> ApiError:
    causes = []
    lines = []
    for manager, fields in sorted(conflicts.items(), key=lambda item: item[0].name):
        using = f" using {manager.api_version}" if manager.operation == "Update" else ""
        who = f'"{manager.name}"' + (f' with subresource "{manager.subresource}"' if manager.subresource else "") + using
        listed = list(fieldsets.paths(fields))
        causes += [Cause(path, "FieldManagerConflict", f"conflict with {who}") for path in listed]
        lines.append((who, listed))
    count = len(causes)
    if count == 1:
        text = f"Apply failed with 1 conflict: conflict with {lines[0][0]}: {lines[0][1][0]}"
    else:
        blocks = "\n".join(f"conflicts with {who}:\n" + "\n".join(f"- {path}" for path in listed) for who, listed in lines)
        text = f"Apply failed with {count} conflicts: {blocks}"
    return ApiError(text, causes=causes, reason="Conflict", code=409)


def _cap(managers: dict[Manager, _Managed]) -> None:
    """Merges the oldest updates of one version into one entry while there are more than MAX_UPDATE_MANAGERS of them."""
    updates = [m for m in managers if m.operation == "Update" and not m.subresource]
    if len(updates) <= MAX_UPDATE_MANAGERS:
        return
    updates.sort(key=lambda m: (managers[m].time, m.name))
    for manager in updates[: len(updates) - MAX_UPDATE_MANAGERS + 1]:
        managed = managers.pop(manager)
        bucket = Manager(ANCIENT_CHANGES, "Update", manager.api_version)
        before = managers.get(bucket)
        fields = fieldsets.union_roots(before.fields, managed.fields) if before else managed.fields
        managers[bucket] = _Managed(fields, managed.time)


def _decode(entries: Sequence[Mapping[str, Any]]) -> dict[Manager, _Managed] | None:
    """The managers of stored or sent entries; None where an entry cannot be read."""
    managers: dict[Manager, _Managed] = {}
    for entry in entries:
        operation = entry.get("operation")
        fields = entry.get("fieldsV1")
        if operation not in ("Apply", "Update") or entry.get("fieldsType") != "FieldsV1" or not isinstance(fields, dict):
            return None
        manager = Manager(entry.get("manager", ""), operation, entry.get("apiVersion", ""), entry.get("subresource", ""))
        managers[manager] = _Managed(fields, entry.get("time", ""))
    return managers


def _encode(managers: Mapping[Manager, _Managed]) -> list[Obj]:
    ordered = sorted(
        managers.items(),
        key=lambda item: (item[0].operation, item[1].time, item[0].name, item[0].api_version, item[0].subresource),
    )
    return [_encode_one(manager, managed) for manager, managed in ordered]


def _encode_one(manager: Manager, managed: _Managed) -> Obj:
    entry: Obj = {"manager": manager.name, "operation": manager.operation, "apiVersion": manager.api_version}
    if managed.time:
        entry["time"] = managed.time
    entry["fieldsType"] = "FieldsV1"
    entry["fieldsV1"] = managed.fields
    if manager.subresource:
        entry["subresource"] = manager.subresource
    return entry
