"""Server-side apply: a configuration merged into an object, refusing what another manager owns and would change (unless
forced), and removing what this manager applied before and no longer does.

kubectl's client-side apply is taken over: what it applied last, as its annotation says, is no conflict for kubectl's
server-side apply, which then keeps the annotation true.

Pure functions: no store, no clock. Source: KEP-555; apimachinery pkg/util/managedfields/internal, structured-merge-diff
merge/update.go.
"""

from collections.abc import Mapping, Sequence

import orjson

from kubelite.meta.errors import ApiError, BadRequest, Cause
from kubelite.meta.types import Obj
from kubelite.registry import managed
from kubelite.registry.managed import Managed, Manager, Managers, Versions
from kubelite.schema import declared, fieldsets, granular
from kubelite.schema.fieldsets import FieldSet
from kubelite.schema.structure import Structure

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
#: The manager of kubectl's server-side apply.
_KUBECTL = "kubectl"
_TOTAL_ANNOTATIONS_BYTES = 256 * 1024
#: Itself nobody's, whoever has fields below it.
_METADATA: FieldSet = {"f:metadata": {}}


def applied(
    versions: Versions,
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
        ApiError: it is not of its schema; reason Conflict, a cause of FieldManagerConflict for each field that others own.
    """
    given = config.get("metadata")
    metadata: Obj = given if isinstance(given, dict) else {}
    if metadata.get("managedFields") is not None:
        raise BadRequest("metadata.managedFields must be nil")
    structure = versions.structure(api_version)
    assert structure is not None
    wrong = declared.faults(structure, config)
    if wrong:
        what = f"{metadata.get('namespace') or ''}/{metadata.get('name') or ''}; {_kind(api_version, config)}"
        said = wrong[0] if len(wrong) == 1 else "errors:\n" + "\n".join(f"  {fault}" for fault in wrong)
        raise ApiError(f"failed to create typed patch object ({what}): {said}", reason="", code=500)
    managers = managed.decode((live or {}).get("metadata", {}).get("managedFields") or ()) or {}
    if live and not managers:
        everything = granular.compare(structure, managed.managed_part({}, ()), managed.managed_part(live, reset)).added
        first = Manager(managed.BEFORE_FIRST_APPLY, "Update", api_version, subresource)
        managers[first] = Managed(fieldsets.ordered(everything), time, api_version)
    write = _Apply(versions, live or {}, config, Manager(manager, "Apply", "", subresource), time, api_version, reset)
    try:
        merged, left = write.done(managers, force=force)
    except Conflicts as e:
        rest = e.without(_last_applied(structure, live or {}, api_version)) if manager == _KUBECTL else e.fields
        if rest:
            raise _conflict(rest) from None
        merged, left = write.done(managers, force=True)
    meta = {**merged.get("metadata", {}), "managedFields": managed.encode(left)}
    if manager == _KUBECTL and (meta.get("annotations") or {}).get(LAST_APPLIED):
        meta["annotations"] = _with_last_applied(meta["annotations"], config)
    return {**merged, "metadata": meta}


def _kind(api_version: str, config: Obj) -> str:
    return f"{api_version if '/' in api_version else '/' + api_version}, Kind={config.get('kind')}"


class Conflicts(Exception):
    """Fields that others own and an apply would change, by their managers."""

    def __init__(self, fields: Mapping[Manager, FieldSet]) -> None:
        super().__init__()
        self.fields = fields

    def without(self, allowed: FieldSet) -> Mapping[Manager, FieldSet]:
        """What is left of them when some are none."""
        rest = {manager: fieldsets.difference(fields, allowed) for manager, fields in self.fields.items()}
        return {manager: fields for manager, fields in rest.items() if fields}


class _Apply:
    """One apply, which may be done a second time by force."""

    def __init__(
        self,
        versions: Versions,
        live: Obj,
        config: Obj,
        me: Manager,
        time: str,
        api_version: str,
        reset: Sequence[tuple[str, ...]],
    ) -> None:
        self._versions, self._live, self._config = versions, live, config
        self._me, self._time, self._api_version, self._reset = me, time, api_version, reset

    def done(self, managers: Mapping[Manager, Managed], *, force: bool) -> tuple[Obj, Managers]:
        """The merged object, and who manages what of it. Raises Conflicts."""
        structure = self._versions.structure(self._api_version)
        left = managed.current(self._versions, managers)
        previous = left.get(self._me)
        fields = fieldsets.without(granular.of_value(structure, self._config), self._reset)
        left[self._me] = Managed(fields, previous.time if previous else "", self._api_version)
        merged: Obj = granular.merge(structure, self._live, self._config)
        if previous is not None and previous.fields:
            merged = self._pruned(merged, left, previous)
        comparisons = managed.Comparisons(self._versions, self._api_version, self._live, merged, self._reset)
        conflicts = comparisons.conflicts(left, self._me)
        if conflicts and not force:
            raise Conflicts(conflicts)
        comparisons.settle(left, self._me)
        own = fieldsets.ordered(fieldsets.difference(fieldsets.without(fields, managed.STRIPPED), _METADATA))
        if not own:
            left.pop(self._me, None)
        elif self._me in left:
            changed = managed.managed_part(merged, ()) != managed.managed_part(self._live, ())
            left[self._me] = Managed(own, self._time if changed else left[self._me].time, self._api_version)
        return merged, left

    def _pruned(self, merged: Obj, managers: Managers, last: Managed) -> Obj:
        """`merged` without what this manager applied last and now neither it nor anybody else has."""
        owned: dict[str, FieldSet] = {}
        for found in managers.values():
            owned[found.api_version] = fieldsets.union_roots(owned.get(found.api_version, {}), found.fields)
        structure = self._versions.structure(last.api_version)
        if structure is None:
            return merged
        whole = seen = self._versions.convert(merged, last.api_version)
        gone = granular.with_declared(structure, last.fields)
        pruned: Obj = granular.remove(structure, seen, gone)
        for version in sorted(owned, key=lambda v: v != last.api_version):
            there = self._versions.structure(version)
            if there is None:
                continue
            seen, pruned = self._versions.convert(seen, version), self._versions.convert(pruned, version)
            had = granular.with_declared(there, granular.of_value(there, seen))
            has = granular.with_declared(there, granular.of_value(there, pruned))
            kept = fieldsets.union_roots(has, granular.with_declared(there, owned[version]))
            pruned = granular.remove(there, seen, fieldsets.difference(had, kept))
        pruned = self._versions.convert(pruned, last.api_version)
        had = granular.with_declared(structure, granular.of_value(structure, whole))
        has = granular.with_declared(structure, granular.of_value(structure, pruned))
        removed = fieldsets.intersection(fieldsets.difference(had, has), gone)
        return self._versions.convert(granular.remove(structure, whole, removed), self._api_version)


def _conflict(conflicts: Mapping[Manager, FieldSet]) -> ApiError:
    causes = []
    lines = []
    for manager, fields in sorted(conflicts.items(), key=lambda item: item[0].name):
        using = f" using {manager.api_version}" if manager.operation == "Update" else ""
        who = f'"{manager.name}"' + (f' with subresource "{manager.subresource}"' if manager.subresource else "") + using
        listed = list(fieldsets.paths(fieldsets.ordered(fields)))
        causes += [Cause(path, "FieldManagerConflict", f"conflict with {who}") for path in listed]
        lines.append((who, listed))
    count = len(causes)
    if count == 1:
        text = f"Apply failed with 1 conflict: conflict with {lines[0][0]}: {lines[0][1][0]}"
    else:
        blocks = "\n".join(f"conflicts with {who}:\n" + "\n".join(f"- {path}" for path in listed) for who, listed in lines)
        text = f"Apply failed with {count} conflicts: {blocks}"
    return ApiError(text, causes=causes, reason="Conflict", code=409)


def _last_applied(structure: Structure, live: Obj, api_version: str) -> FieldSet:
    """What kubectl applied last on the client and still is as it was: no conflict for its apply on the server."""
    text = ((live.get("metadata") or {}).get("annotations") or {}).get(LAST_APPLIED)
    try:
        last = orjson.loads(text or b"")
    except orjson.JSONDecodeError:
        return {}
    if not isinstance(last, dict) or last.get("apiVersion") != api_version or declared.faults(structure, last):
        return {}
    found = granular.compare(structure, last, live)
    differ = fieldsets.union_roots(found.changed, found.removed)
    return fieldsets.difference(granular.of_value(structure, last), differ)


def _with_last_applied(annotations: Mapping[str, str], config: Obj) -> Obj:
    meta = dict(config.get("metadata") or {})
    if meta.get("annotations"):
        meta["annotations"] = {key: text for key, text in meta["annotations"].items() if key != LAST_APPLIED}
    text = orjson.dumps({**config, "metadata": meta}, option=orjson.OPT_SORT_KEYS).decode()
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")  # as Go writes JSON
    with_it = {**annotations, LAST_APPLIED: text + "\n"}
    if sum(len(key.encode()) + len(value.encode()) for key, value in with_it.items()) > _TOTAL_ANNOTATIONS_BYTES:
        del with_it[LAST_APPLIED]
    return with_it
