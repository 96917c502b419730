"""Update: the newest state of an object, changed.

An update starts from the newest state of its key, writes that still wait for their commit included, and is done again as a
whole when another write came between; one that changes nothing is not written. Patch and apply, the subresources and the
scale are updates that differ in what they make of the old object.

Source: apiserver pkg/registry/generic/registry/store.go (Update) and pkg/registry/rest/update.go, v0.34.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from kubelite.meta import copies, errors, times
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry import bodies, faults, strategies
from kubelite.registry.contract import Target, WriteOptions
from kubelite.registry.entries import encoder
from kubelite.registry.managed import OneVersion
from kubelite.registry.strategies import Finish, Request, Strategy
from kubelite.registry.validation import metadata, structural
from kubelite.registry.versions import OfKind
from kubelite.registry.writes import SYSTEM_FIELDS, Write, finish_create, made, match_name, match_namespace, settled
from kubelite.store.contract import Conflict, Entry, StoreError

if TYPE_CHECKING:
    from kubelite.registry.registry import Registry

#: An update without a resourceVersion, or a patch, is done again so often when others write between.
UPDATE_ATTEMPTS = 64


#: Makes the new object, owned by the update, of the stored one (None: there is none). Called once an attempt.
Change = Callable[[Obj | None], Obj]


class Body(Protocol):
    """A subresource whose bodies are of another kind than the object: Scale."""

    kind: tuple[str, str, str]
    versions: OneVersion

    def of(self, obj: Obj) -> Obj:
        """The body that the object shows."""
        ...

    def managed(self, obj: Obj) -> Obj:
        """The same with the managers of what it shows."""
        ...

    def into(self, body: Obj, old: Obj) -> Obj:
        """The object that a body with its managers makes of the stored one, owned by the caller."""
        ...


async def update(registry: "Registry", target: Target, sent: Obj, options: WriteOptions) -> tuple[Entry, bool]:
    """Replaces the object that the target names; the bool says whether it was created instead.

    Raises:
        BadRequest, NotFound, Conflict, Invalid, and whatever admission refuses with.
    """
    obj = bodies.received(target.kind, sent, options)
    meta = obj["metadata"]
    match_name(target, meta)
    uid = meta.get("uid") or ""
    once = meta.get("resourceVersion") not in (None, "", "0")

    def replace(old: Obj | None) -> Obj:
        if old is None:
            if uid:
                raise _uid_conflict(target, uid, "")
        elif uid and uid != old["metadata"].get("uid"):
            raise _uid_conflict(target, uid, old["metadata"].get("uid", ""))
        return obj if once else copies.deep_copy(obj)

    return await change(registry, target, options, replace)


def _uid_conflict(target: Target, given: str, found: str) -> errors.Conflict:
    kind = target.kind
    why = f"Precondition failed: UID in precondition: {given}, UID in object meta: {found}"
    return errors.Conflict.of(kind.group, kind.plural, target.name, why)


async def change(
    registry: "Registry",
    target: Target,
    options: WriteOptions,
    make: Change,
    *,
    body: Body | None = None,
    force_create: bool = False,
    track: bool = True,
    versions: OfKind | None = None,
) -> tuple[Entry, bool]:
    """The update that all forms of it share: `make` says what the object becomes. With `body`, `make` works on the
    subresource's body and the entry returned holds one. `track` False: `make` sees to managedFields itself (apply), and may
    need objects in other `versions`."""
    write = Write.of(registry, target, options, versions)
    kind, store = target.kind, registry.store
    key = kind.key(target.namespace, target.name)
    may_create = (write.strategy.allow_create_on_update or force_create) and not target.subresource
    for _ in range(UPDATE_ATTEMPTS):
        current = store.newest(key)
        if current is None:
            if not may_create:
                raise errors.NotFound.of(kind.group, kind.plural, target.name)
            try:
                return await _create_instead(write, make, track), True
            except errors.AlreadyExists:
                if store.newest(key) is None:
                    raise
                continue  # another one created it between; now there is something to update
        try:
            return await _attempt(write, current, make, body, track), False
        except Conflict:
            continue
        except StoreError as e:
            raise faults.of_write(e, kind, target.name, "update") from e
    raise errors.Conflict.of(kind.group, kind.plural, target.name, faults.MODIFIED)


async def _create_instead(write: Write, make: Change, track: bool) -> Entry:
    obj = make(None)
    meta = obj["metadata"]
    if meta.get("uid"):
        raise _uid_conflict(write.target, meta["uid"], "")
    for field in SYSTEM_FIELDS:
        meta.pop(field, None)
    meta.pop("resourceVersion", None)
    match_namespace(write.target, meta)
    match_name(write.target, meta)
    metadata.dedupe_owners(meta, write.options.warnings)
    if track:
        await write.track(obj, None)
    obj = await write.admitted(write.attributes("CREATE", obj, None))
    return await finish_create(write, obj)


async def _attempt(write: Write, current: Entry, make: Change, body: Body | None, track: bool) -> Entry:
    """One try of an update on the state `current`. Raises the store's Conflict where that is no longer the newest."""
    registry, target, options = write.registry, write.target, write.options
    kind = target.kind
    await registry.entries.conversions.prepare(kind, (current,))
    old = registry.entries.object_in(current, kind)
    if body is None:
        new = await write.versions.settled(lambda: make(old))
        _lock(write, new["metadata"], current)
        match_namespace(target, new["metadata"])
        metadata.dedupe_owners(new["metadata"], options.warnings)
        if track:
            await write.track(new, old)
        new = await write.admitted(write.attributes("UPDATE", new, old))
        admitted, admitted_old = new, old
    else:
        admitted_old = body.managed(old)
        admitted = make(admitted_old)
        _lock(write, admitted["metadata"], current, unconditional=True)
        if track:
            await write.track(admitted, admitted_old, body.versions)
        changed = await registry.admission.mutate(write.attributes("UPDATE", admitted, admitted_old, body.kind))
        admitted = admitted if changed is None else changed
        new = body.into(admitted, old)
    finish = write.strategy.begin_update(write.request, new, old)
    try:
        _prepare(write, new, old)
        validate = registry.admission.validate
        if body is None:
            await validate(write.attributes("UPDATE", new, old))
        else:
            await validate(write.attributes("UPDATE", admitted, admitted_old, body.kind))
        if new == old and registry.entries.is_stored_as_shown(current, kind):
            entry = await _unchanged(registry, current, options)
        elif options.dry_run:
            entry = made(current, await registry.entries.conversions.to_store(new, kind))
        else:
            taken, finish = finish, None
            entry = await _replace(write, current, new, old, taken)
    finally:
        if finish is not None:
            finish(False)
    await registry.entries.conversions.prepare(kind, (entry,))
    if body is not None:
        return made(entry, body.of(registry.entries.object_in(entry, kind)))
    return registry.entries.in_version(entry, kind)


def _lock(write: Write, meta: Obj, current: Entry, *, unconditional: bool = False) -> None:
    """Checks the resourceVersion that the client based its change on, and sets the current one. `unconditional`: it may be left
    out, whatever the kind's objects need."""
    kind, name = write.target.kind, write.target.name
    given = meta.get("resourceVersion")
    newest = str(current.revision)
    if given in (None, "", "0"):
        if not unconditional and not write.strategy.allow_unconditional_update:
            text = "Invalid value: 0: must be specified for an update"
            cause = Cause("metadata.resourceVersion", "FieldValueInvalid", text)
            raise errors.Invalid.of(kind.group, kind.plural, name, [cause])
    elif given != newest:
        raise errors.Conflict.of(kind.group, kind.plural, name, faults.MODIFIED)
    meta["resourceVersion"] = newest


def _prepare(write: Write, new: Obj, old: Obj) -> None:
    """Puts back what an update cannot change, and validates the rest."""
    kind, strategy, request, target = write.target.kind, write.strategy, write.request, write.target
    meta, old_meta = new["metadata"], old["metadata"]
    match_namespace(target, meta)
    _restore(meta, old_meta, "generation")
    strategy.prepare_update(request, new, old)
    meta = new["metadata"]
    if not meta.get("uid"):
        meta["uid"] = old_meta["uid"]
    _restore(meta, old_meta, "creationTimestamp")
    if "deletionTimestamp" in old_meta:
        meta["deletionTimestamp"] = old_meta["deletionTimestamp"]
    if "deletionGracePeriodSeconds" in old_meta:
        meta.setdefault("deletionGracePeriodSeconds", old_meta["deletionGracePeriodSeconds"])
    name_faults = strategy.name_faults if strategy.update_checks_names and not request.subresource else None
    causes = metadata.validate_update(meta, old_meta, name_faults, strategy.qualified_finalizers)
    specific = strategy.validate_update(request, new, old)
    causes += specific
    changed = not request.subresource and new.get("spec", _ABSENT) != old.get("spec")
    if kind.custom or (changed and not strategy.checks_structure):
        causes += structural.validate(kind, new, old, specific, request.subresource, write.options.warnings)
    write.refuse(target.name, causes)
    write.options.warnings += strategy.warnings(request, new, old)


#: Unlike any spec: a kind without one is always checked.
_ABSENT = object()


def _restore(meta: Obj, old: Obj, field: str) -> None:
    if field in old:
        meta[field] = old[field]
    else:
        meta.pop(field, None)


async def _unchanged(registry: "Registry", current: Entry, options: WriteOptions) -> Entry:
    """Nothing to write: the current entry, once it is durable."""
    if current.revision > registry.store.revision and not options.dry_run:
        await registry.store.wait_revision(current.revision)
    return current


async def _replace(write: Write, current: Entry, new: Obj, old: Obj, finish: Finish | None) -> Entry:
    registry, strategy, request = write.registry, write.strategy, write.request
    stored = registry.entries.storage_kind(write.target.kind)
    final = await registry.entries.conversions.to_store(new, write.target.kind)
    view = registry.entries.view_of(stored, final)
    ends = ends_with(strategy, new, old)
    put = registry.store.delete if ends else registry.store.update

    async def writing() -> Entry:
        return await put(current.key, encoder(final), current.revision, view)

    entry = await settled(writing(), finish)
    strategy.committed(request, None if ends else final, old)
    return entry


def ends_with(strategy: Strategy, new: Obj, old: Obj) -> bool:
    """Whether this update takes away the last thing that an object's deletion waits for."""
    old_meta = old["metadata"]
    return (
        not new["metadata"].get("finalizers")
        and bool(old_meta.get("deletionTimestamp"))
        and not old_meta.get("deletionGracePeriodSeconds")
        and strategy.is_finished(new)
    )


async def modify(registry: "Registry", target: Target, make: Callable[[Obj], Obj | None], *, dry_run: bool = False) -> Entry:
    """Changes a stored object without admission and validation, for the registry's own writes (bindings, deletion marks).

    `make` gets the newest state in the storage version and returns a changed copy, or None to leave it.
    """
    kind, store, entries = target.kind, registry.store, registry.entries
    stored = entries.storage_kind(kind)
    key = kind.key(target.namespace, target.name)
    for _ in range(UPDATE_ATTEMPTS):
        current = store.newest(key)
        if current is None:
            raise errors.NotFound.of(kind.group, kind.plural, target.name)
        old = entries.parsed(current)
        new = make(old)
        if new is None or new == old:
            if current.revision > store.revision and not dry_run:
                await store.wait_revision(current.revision)
            return current
        if dry_run:
            return made(current, new)
        try:
            entry = await store.update(key, encoder(new), current.revision, entries.view_of(stored, new))
        except Conflict:
            continue
        except StoreError as e:
            raise faults.of_write(e, kind, target.name, "update") from e
        strategies.of(kind).committed(
            Request(registry, kind, registry.own_options, times.now(), target.namespace, target.name), new, old
        )
        return entry
    raise errors.Conflict.of(kind.group, kind.plural, target.name, faults.MODIFIED)
