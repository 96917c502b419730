"""Create and update: the way of every write from a received object to the store.

The order is Kubernetes': decode and default (bodies), managed fields, mutating admission, what the strategy prepares,
validation, validating admission, write. An update starts from the newest state of its key, writes that still wait for their
commit included, and is done again as a whole when another write came between; one that changes nothing is not written.

Source: apiserver pkg/registry/generic/registry/store.go and pkg/registry/rest, v0.34.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from kubelite.meta import copies, errors, names, times
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry import bodies, faults, strategies
from kubelite.registry.contract import Attributes, Operation, Target, View, WriteOptions
from kubelite.registry.entries import encoder
from kubelite.registry.strategies import Finish, Request, Strategy
from kubelite.registry.validation import metadata, structural
from kubelite.schema.kinds import Kind
from kubelite.store.contract import Conflict, Entry, KeyExists, StoreError

if TYPE_CHECKING:
    from kubelite.registry.registry import Registry

#: A generated name is tried so often.
NAME_ATTEMPTS = 8
#: An update without a resourceVersion, or a patch, is done again so often when others write between.
UPDATE_ATTEMPTS = 64

_SYSTEM_FIELDS = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink")

#: Makes the new object, owned by the update, of the stored one (None: there is none). Called once an attempt.
Change = Callable[[Obj | None], Obj]


class Body(Protocol):
    """A subresource whose bodies are of another kind than the object: Scale."""

    kind: tuple[str, str, str]

    def of(self, obj: Obj) -> Obj:
        """The body that the object shows."""
        ...

    def into(self, body: Obj, old: Obj) -> Obj:
        """The object that a body makes of the stored one, owned by the caller."""
        ...


@dataclass(slots=True)
class Write:
    """One create or update under way."""

    registry: "Registry"
    target: Target
    options: WriteOptions
    strategy: Strategy
    request: Request

    @classmethod
    def of(cls, registry: "Registry", target: Target, options: WriteOptions) -> "Write":
        kind = target.kind
        # a change of the scale is one of the object itself, seen through another body
        subresource = "" if target.subresource == "scale" else target.subresource
        request = Request(registry, kind, options, times.now(), target.namespace, target.name, subresource)
        return cls(registry, target, options, strategies.of(kind), request)

    def attributes(
        self, operation: Operation, obj: Obj | None, old: Obj | None, body_kind: tuple[str, str, str] = ("", "", "")
    ) -> Attributes:
        kind = self.target.kind
        target = self.target
        if not target.name and obj is not None:
            target = Target(kind, target.namespace, obj["metadata"].get("name", ""), target.subresource)
        return Attributes(
            operation,
            target,
            obj,
            old,
            self.options.user,
            self.options.dry_run,
            {"fieldManager": self.options.field_manager, "fieldValidation": self.options.field_validation},
            body_kind if body_kind[2] else (kind.group, kind.version, kind.kind),
            self.options.warnings,
        )

    async def admitted(self, attributes: Attributes) -> Obj:
        """The object after mutating admission, defaulted again where a plugin changed it."""
        obj = attributes.obj
        assert obj is not None
        changed = await self.registry.admission.mutate(attributes)
        if changed is None or changed is obj:
            return obj
        return bodies.admitted(self.target.kind, changed)

    def track(self, new: Obj, old: Obj | None) -> None:
        """Keeps managedFields true for what this write changes."""
        meta = new["metadata"]
        managed = self.registry.tracked(
            self.target.kind,
            old,
            new,
            self.options.field_manager or "unknown",
            self.request.now,
            self.target.subresource,
        )
        if managed:
            meta["managedFields"] = managed
        else:
            meta.pop("managedFields", None)

    def refuse(self, name: str, causes: list[Cause]) -> None:
        if causes:
            kind, group = self.target.kind, self.strategy.fault_group
            raise errors.Invalid.of(kind.group if group is None else group, kind.kind, name, causes)


async def create(registry: "Registry", target: Target, sent: Obj, options: WriteOptions) -> Entry:
    """Creates the object that was sent; the entry is in the target's version.

    Raises:
        BadRequest, Invalid, AlreadyExists, and whatever admission refuses with.
    """
    write = Write.of(registry, target, options)
    obj = bodies.received(target.kind, sent, options)
    meta = obj["metadata"]
    for field in _SYSTEM_FIELDS:
        meta.pop(field, None)
    match_namespace(target, meta)
    if meta.pop("resourceVersion", "") not in ("", "0") and not options.dry_run:  # found by the storage there
        raise errors.ApiError("resourceVersion should not be set on objects to be created", reason="", code=500)
    metadata.dedupe_owners(meta, options.warnings)
    write.track(obj, None)
    obj = await write.admitted(write.attributes("CREATE", obj, None))
    return await finish_create(write, obj)


async def finish_create(write: Write, obj: Obj) -> Entry:
    """From an admitted object to the store."""
    registry, target, strategy, request = write.registry, write.target, write.strategy, write.request
    kind = target.kind
    meta = obj["metadata"]
    match_namespace(target, meta)
    generated = bool(meta.get("generateName")) and not meta.get("name")
    if generated:
        meta["name"] = _fresh_name(registry, target, meta["generateName"])
    meta["uid"] = str(uuid.uuid4())
    meta["creationTimestamp"] = request.now
    request.name = meta.get("name") or ""
    finish = strategy.begin_create(request, obj)
    try:
        strategy.prepare_create(request, obj)
        causes = strategy.validate(request, obj)
        causes += structural.validate(kind, obj, None, causes)
        causes = metadata.validate(meta, kind.namespaced, strategy.name_faults, kind.custom) + causes
        write.refuse(request.name, causes)
        write.options.warnings += strategy.warnings(request, obj, None)
        await registry.admission.validate(write.attributes("CREATE", obj, None))
        if write.options.dry_run:
            return made(Entry(kind.key(target.namespace, request.name), b"", 0, 0), obj)
        stored = registry.entries.storage_kind(kind)
        final = registry.entries.convert(obj, kind, stored)
        taken, finish = finish, None
        entry = await _settled(_insert(write, stored, final, generated), taken)
    finally:
        if finish is not None:
            finish(False)
    strategy.committed(request, final, None)
    return registry.entries.in_version(entry, kind)


async def _settled(writing: Awaitable[Entry], finish: Finish | None) -> Entry:
    """The write's result, after telling `finish`. A write handed to the store goes on when its waiter is cancelled, so what
    was taken for it stays taken."""
    try:
        entry = await writing
    except BaseException as e:
        if finish is not None:
            finish(isinstance(e, asyncio.CancelledError))
        raise
    if finish is not None:
        finish(True)
    return entry


async def _insert(write: Write, stored: Kind, final: Obj, generated: bool) -> Entry:
    registry, target = write.registry, write.target
    meta = final["metadata"]
    attempts = NAME_ATTEMPTS if generated else 1
    while True:
        key = stored.key(target.namespace, meta["name"])
        try:
            return await registry.store.create(key, encoder(final), registry.entries.view_of(stored, final))
        except KeyExists as e:
            attempts -= 1
            if attempts == 0:
                raise _exists(registry, target, key, meta["name"], generated) from e
            meta["name"] = _fresh_name(registry, target, meta["generateName"])
        except StoreError as e:
            raise faults.of_write(e, target.kind, meta["name"], "create") from e


def _exists(registry: "Registry", target: Target, key: str, name: str, generated: bool) -> errors.AlreadyExists:
    kind = target.kind
    text = f'{kind.group_resource} "{name}" already exists'
    if generated:
        text += ", the server was not able to generate a unique name for the object"
    there = registry.store.newest(key)
    if there is not None and registry.entries.parsed(there)["metadata"].get("deletionTimestamp"):
        text = f"object is being deleted: {text}"
    return errors.AlreadyExists(text, group=kind.group, kind=kind.plural, name=name, retry_after_s=int(generated))


def _fresh_name(registry: "Registry", target: Target, base: str) -> str:
    name = ""
    for _ in range(NAME_ATTEMPTS):
        name = names.generate_name(base)
        if registry.store.newest(target.kind.key(target.namespace, name)) is None:
            break
    return name


def match_namespace(target: Target, meta: Obj) -> None:
    """Puts the request's namespace into an object that has none; raises BadRequest where it has another."""
    if target.kind.namespaced:
        given = meta.get("namespace")
        if not given:
            meta["namespace"] = target.namespace
        elif given != target.namespace:
            raise errors.BadRequest("the namespace of the provided object does not match the namespace sent on the request")
    else:
        meta.pop("namespace", None)


def match_name(target: Target, meta: Mapping[str, Any]) -> None:
    """Raises BadRequest where an update's object is not the one that its URL names."""
    name = meta.get("name")
    if not name:
        raise errors.BadRequest(f"the name of the object ({target.name} based on URL) was undeterminable: name must be provided")
    if name != target.name:
        raise errors.BadRequest(f"the name of the object ({name}) does not match the name on the URL ({target.name})")
    namespace = meta.get("namespace")
    if target.namespace and namespace and namespace != target.namespace:
        raise errors.BadRequest("the namespace of the provided object does not match the namespace sent on the request")


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
) -> tuple[Entry, bool]:
    """The update that all forms of it share: `make` says what the object becomes. With `body`, `make` works on the
    subresource's body and the entry returned holds one. `track` False: `make` sees to managedFields itself (apply)."""
    write = Write.of(registry, target, options)
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
    for field in _SYSTEM_FIELDS:
        meta.pop(field, None)
    meta.pop("resourceVersion", None)
    match_namespace(write.target, meta)
    match_name(write.target, meta)
    metadata.dedupe_owners(meta, write.options.warnings)
    if track:
        write.track(obj, None)
    obj = await write.admitted(write.attributes("CREATE", obj, None))
    return await finish_create(write, obj)


async def _attempt(write: Write, current: Entry, make: Change, body: Body | None, track: bool) -> Entry:
    """One try of an update on the state `current`. Raises the store's Conflict where that is no longer the newest."""
    registry, target, options = write.registry, write.target, write.options
    kind = target.kind
    old = registry.entries.object_in(current, kind)
    if body is None:
        new = make(old)
        _lock(write, new["metadata"], current)
        match_namespace(target, new["metadata"])
        metadata.dedupe_owners(new["metadata"], options.warnings)
        if track:
            write.track(new, old)
        new = await write.admitted(write.attributes("UPDATE", new, old))
        admitted, admitted_old = new, old
    else:
        admitted_old = body.of(old)
        admitted = make(admitted_old)
        _lock(write, admitted["metadata"], current)
        changed = await registry.admission.mutate(write.attributes("UPDATE", admitted, admitted_old, body.kind))
        admitted = admitted if changed is None else changed
        new = body.into(admitted, old)
        if track:
            write.track(new, old)
    finish = write.strategy.begin_update(write.request, new, old)
    try:
        _prepare(write, new, old)
        validate = registry.admission.validate
        if body is None:
            await validate(write.attributes("UPDATE", new, old))
        else:
            await validate(write.attributes("UPDATE", admitted, admitted_old, body.kind))
        if new == old:
            entry = await _unchanged(registry, current, options)
        elif options.dry_run:
            entry = made(current, new)
        else:
            taken, finish = finish, None
            entry = await _replace(write, current, new, old, taken)
    finally:
        if finish is not None:
            finish(False)
    if body is not None:
        return made(entry, body.of(registry.entries.object_in(entry, kind)))
    return registry.entries.in_version(entry, kind)


def _lock(write: Write, meta: Obj, current: Entry) -> None:
    """Checks the resourceVersion that the client based its change on, and sets the current one."""
    kind, name = write.target.kind, write.target.name
    given = meta.get("resourceVersion")
    newest = str(current.revision)
    if given in (None, "", "0"):
        if not write.strategy.allow_unconditional_update:
            zero = "0" if kind.custom else "0x0"
            text = f"Invalid value: {zero}: must be specified for an update"
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
    _restore(meta, old_meta, "deletionTimestamp")
    _restore(meta, old_meta, "deletionGracePeriodSeconds")
    causes = metadata.validate_update(meta, old_meta, kind.custom)
    specific = strategy.validate_update(request, new, old)
    causes += specific
    if kind.custom or (not request.subresource and new.get("spec", _ABSENT) != old.get("spec")):
        causes += structural.validate(kind, new, old, specific)
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
    final = registry.entries.convert(new, write.target.kind, stored)
    view = registry.entries.view_of(stored, final)
    ends = ends_with(strategy, new, old)
    put = registry.store.delete if ends else registry.store.update

    async def writing() -> Entry:
        return await put(current.key, encoder(final), current.revision, view)

    entry = await _settled(writing(), finish)
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


def made(entry: Entry, obj: Obj) -> Entry:
    """An entry with another object than the stored one: a dry run's result, a subresource's body."""
    view = View(obj["metadata"].get("labels") or {}, {}, obj)
    return Entry(entry.key, orjson.dumps(obj), entry.revision, entry.create_revision, view)


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
