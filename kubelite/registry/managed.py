"""Who manages which field: managedFields kept true on every write.

A manager is a (name, operation, apiVersion, subresource); its entry in `metadata.managedFields` lists the fields that it set. An
update moves the fields it changes to its manager. Entries of other versions are compared in their own version.

Pure functions: no store, no clock. Source: KEP-555; apimachinery pkg/util/managedfields/internal, structured-merge-diff
merge/update.go.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol, TypeAlias

from kubelite.meta.types import Obj
from kubelite.schema import checking, facts, fieldsets, granular, structure
from kubelite.schema.fieldsets import FieldSet
from kubelite.schema.granular import Comparison
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


class Versions(Protocol):
    """The versions of a kind."""

    def structure(self, api_version: str) -> Structure | None:
        """What objects of a version look like; None where the kind has no such version (any more)."""
        ...

    def convert(self, obj: Obj, api_version: str) -> Obj:
        """The object in another version that there is."""
        ...


@dataclass(frozen=True, slots=True)
class OneVersion:
    """Versions of a kind that has one, as far as anybody cares."""

    api_version: str
    only: Structure

    def structure(self, api_version: str) -> Structure | None:
        return self.only if api_version == self.api_version else None

    def convert(self, obj: Obj, api_version: str) -> Obj:
        return obj


@dataclass(frozen=True, slots=True)
class Manager:
    """One entry's identity. Who applies is the same in every version: `api_version` is empty for operation Apply."""

    name: str
    operation: str
    api_version: str
    subresource: str = ""


@dataclass(slots=True)
class Managed:
    """What a manager set, and when: in the version that it did it by."""

    fields: FieldSet
    time: str
    api_version: str


Managers: TypeAlias = dict[Manager, Managed]


def tracked(
    versions: Versions,
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

    `reset` are the paths that this write cannot change (spec on a status update). A client that sends an empty list, or one
    empty entry, resets the list; entries that it sends otherwise count in place of the stored ones, where they can be read. An
    object that nobody manages stays so until somebody applies.
    """
    stored = (old or {}).get("metadata", {}).get("managedFields")
    sent = new["metadata"].get("managedFields") if not subresource else None
    if sent in ([], [{}]):
        sent = stored = None
    known = decode(sent) if sent else None
    if not known:
        known = decode(stored or ()) or {}
    if not known and (old or {}).get("metadata", {}).get("uid"):
        return []
    managers = current(versions, known) if known else known
    me = Manager(manager, "Update", api_version, subresource)
    comparisons = Comparisons(versions, api_version, old or {}, new, reset)
    found = comparisons.of(api_version)
    if found or any(entry.api_version != api_version for entry in managers.values()):
        comparisons.settle(managers, None)
    changed = found.changed
    if changed:
        own = managers.get(me)
        fields = fieldsets.union_roots(own.fields, changed) if own is not None else changed
        if own is None or fields != own.fields:
            fields = fieldsets.ordered(fields)
        managers[me] = Managed(fields, time, api_version)
    _cap(managers)
    return encode(managers)


class Comparisons:
    """What differs between two states of an object, in each version that a manager has its fields by."""

    def __init__(self, versions: Versions, api_version: str, old: Obj, new: Obj, reset: Sequence[tuple[str, ...]]) -> None:
        self._versions, self._api_version, self._old, self._new, self._reset = versions, api_version, old, new, reset
        self._made: dict[str, Comparison] = {}

    def of(self, api_version: str) -> Comparison:
        """The comparison in a version that there is."""
        found = self._made.get(api_version)
        if found is None:
            old, new = self._old, self._new
            if api_version != self._api_version:
                old = self._versions.convert(old, api_version) if old else old
                new = self._versions.convert(new, api_version)
            old, new = managed_part(old, self._reset), managed_part(new, self._reset)
            found = self._made[api_version] = granular.compare(self._versions.structure(api_version), old, new)
        return found

    def conflicts(self, managers: Managers, me: Manager) -> dict[Manager, FieldSet]:
        """What of others' fields is another now."""
        found = {
            manager: fieldsets.intersection(entry.fields, self.of(entry.api_version).changed)
            for manager, entry in managers.items()
            if manager != me
        }
        return {manager: fields for manager, fields in found.items() if fields}

    def settle(self, managers: Managers, me: Manager | None) -> None:
        """Takes from all managers but `me` what is another or gone."""
        touched_in: dict[str, FieldSet] = {}
        for manager, entry in list(managers.items()):
            if manager == me:
                continue
            touched = touched_in.get(entry.api_version)
            if touched is None:
                found = self.of(entry.api_version)
                touched = touched_in[entry.api_version] = fieldsets.union_roots(found.changed, found.removed)
            if not fieldsets.intersection(entry.fields, touched):
                continue
            rest = fieldsets.difference(entry.fields, touched)
            if rest:
                managers[manager] = Managed(rest, entry.time, entry.api_version)
            else:
                del managers[manager]


def current(versions: Versions, managers: Mapping[Manager, Managed]) -> Managers:
    """A copy without those of versions that are gone, as the schemas are now."""
    found: Managers = {}
    for manager, entry in managers.items():
        structure = versions.structure(entry.api_version)
        if structure is None:
            continue
        if structure.raw is not None:  # a custom kind's: its schema may have changed
            entry = Managed(granular.reconciled(structure, entry.fields), entry.time, entry.api_version)
        found[manager] = entry
    return found


_STRIPPED_TOP = frozenset(path[0] for path in STRIPPED if len(path) == 1)
_STRIPPED_METADATA = frozenset(path[1] for path in STRIPPED if path[0] == "metadata")


def managed_part(obj: Obj, reset: Sequence[tuple[str, ...]]) -> Obj:
    """The object without what nobody manages and what this write cannot change; cheaper than stripping sets of its fields."""
    part = {name: value for name, value in obj.items() if name not in _STRIPPED_TOP}
    metadata = obj.get("metadata") or {}
    # there even where it is empty: it comes and goes with its fields
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


def _cap(managers: Managers) -> None:
    """Merges the oldest updates of one version into one entry while there are more than MAX_UPDATE_MANAGERS of them."""
    updates = [manager for manager in managers if manager.operation == "Update"]
    excess = len(updates) - MAX_UPDATE_MANAGERS
    if excess <= 0:
        return
    updates.sort(key=lambda manager: (managers[manager].time, manager.name))
    first: dict[str, Manager] = {}
    for manager in updates:
        entry = managers[manager]
        if first.setdefault(entry.api_version, manager) == manager:
            continue
        bucket = Manager(ANCIENT_CHANGES, "Update", entry.api_version)
        ancient = managers.get(bucket) or managers.pop(first[entry.api_version])
        del managers[manager]
        fields = fieldsets.ordered(fieldsets.union_roots(entry.fields, ancient.fields))
        managers[bucket] = Managed(fields, entry.time, entry.api_version)
        excess -= 1
        if not excess:
            return


def decode(entries: Any) -> Managers | None:
    """The managers of a list of entries; None where one can't be read."""
    found: Managers = {}
    for entry in entries:
        operation, api_version = entry.get("operation"), entry.get("apiVersion")
        fields = entry.get("fieldsV1")
        if operation not in ("Apply", "Update") or not api_version or entry.get("fieldsType") != "FieldsV1":
            return None
        identity = api_version if operation == "Update" else ""
        manager = Manager(entry.get("manager") or "", operation, identity, entry.get("subresource") or "")
        found[manager] = Managed(fields or {}, entry.get("time") or "", api_version)
    return found


def encode(managers: Managers) -> list[Obj]:
    """The list of entries, in the order in which Kubernetes writes it."""
    ordered = sorted(
        managers.items(),
        key=lambda item: (item[0].operation, item[1].time, item[0].name, item[1].api_version, item[0].subresource),
    )
    return [_encode_one(manager, entry) for manager, entry in ordered]


def _encode_one(manager: Manager, managed: Managed) -> Obj:
    entry: Obj = {"manager": manager.name, "operation": manager.operation, "apiVersion": managed.api_version}
    if managed.time:
        entry["time"] = managed.time
    entry["fieldsType"] = "FieldsV1"
    entry["fieldsV1"] = managed.fields
    if manager.subresource:
        entry["subresource"] = manager.subresource
    return entry


@cache
def empty(definition: str) -> Obj:
    """What a new object is compared with: the parts that every object of its type has are not part of what a client set."""
    if not definition:
        return {"metadata": {}}
    empty = checking.normal(structure.of_definition(definition), {})
    _add_lists(facts.name_of(definition), empty)
    return empty


def _add_lists(name: str, value: Obj) -> None:
    """A list that is always written is there, empty, in a value that says nothing."""
    for field in facts.json_fields(name).values():
        if field.always and field.is_list:
            value.setdefault(field.name, [])
        elif field.is_message and isinstance(value.get(field.name), dict):
            _add_lists(field.type, value[field.name])
