"""Create, and what every write shares: the way from a received object to the store.

The order is Kubernetes': decode and default (bodies), managed fields, mutating admission, what the strategy prepares,
validation, validating admission, write.

Source: apiserver pkg/registry/generic/registry/store.go and pkg/registry/rest, v0.34.
"""

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from kubelite.meta import errors, names, times, uids
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry import bodies, faults, managed, strategies
from kubelite.registry.contract import Attributes, Operation, Target, View, WriteOptions
from kubelite.registry.entries import encoder
from kubelite.registry.managed import OneVersion
from kubelite.registry.strategies import Finish, Request, Strategy
from kubelite.registry.validation import metadata, structural
from kubelite.registry.versions import OfKind
from kubelite.schema.kinds import Kind
from kubelite.store.contract import Entry, KeyExists, StoreError

if TYPE_CHECKING:
    from kubelite.registry.registry import Registry

#: A generated name is tried so often.
NAME_ATTEMPTS = 8
SYSTEM_FIELDS = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink")


@dataclass(slots=True)
class Write:
    """One create or update under way."""

    registry: "Registry"
    target: Target
    options: WriteOptions
    strategy: Strategy
    request: Request
    versions: OfKind

    @classmethod
    def of(cls, registry: "Registry", target: Target, options: WriteOptions, versions: OfKind | None = None) -> "Write":
        kind = target.kind
        # a change of the scale is one of the object itself, seen through another body
        subresource = "" if target.subresource == "scale" else target.subresource
        request = Request(registry, kind, options, times.now(), target.namespace, target.name, subresource)
        versions = versions or OfKind(registry.kinds, registry.entries, kind)
        return cls(registry, target, options, strategies.of(kind), request, versions)

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
        """The object after mutating admission."""
        obj = attributes.obj
        assert obj is not None
        changed = await self.registry.admission.mutate(attributes)
        return obj if changed is None else changed

    async def track(self, new: Obj, old: Obj | None, body: OneVersion | None = None) -> None:
        """Keeps managedFields true for what this write changes: of the object, or of a subresource's own body."""
        kind, subresource = self.target.kind, self.target.subresource
        before = managed.empty(kind.definition) if old is None else old
        reset = self.registry.reset_fields(kind, subresource) if body is None else ()
        entries = await self.versions.settled(
            lambda: managed.tracked(
                body or self.versions,
                before,
                new,
                manager=self.options.field_manager or "unknown",
                time=self.request.now,
                api_version=body.api_version if body is not None else kind.api_version,
                subresource=subresource,
                reset=reset,
            )
        )
        if entries:
            new["metadata"]["managedFields"] = entries
        else:
            new["metadata"].pop("managedFields", None)

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
    obj = received(target, sent, options)
    if obj["metadata"].pop("resourceVersion", "") not in ("", "0") and not options.dry_run:  # found by the storage there
        raise errors.ApiError("resourceVersion should not be set on objects to be created", reason="", code=500)
    await write.track(obj, None)
    obj = await write.admitted(write.attributes("CREATE", obj, None))
    return await finish_create(write, obj)


def received(target: Target, sent: Obj, options: WriteOptions) -> Obj:
    """What a client asks to create, completed, in the request's namespace and without what only the server says.

    Raises:
        BadRequest: it is not of the target's kind, or of another namespace.
    """
    obj = bodies.received(target.kind, sent, options)
    meta = obj["metadata"]
    for field in SYSTEM_FIELDS:
        meta.pop(field, None)
    match_namespace(target, meta)
    metadata.dedupe_owners(meta, options.warnings)
    return obj


async def finish_create(write: Write, obj: Obj) -> Entry:
    """From an admitted object to the store."""
    registry, target, strategy, request = write.registry, write.target, write.strategy, write.request
    kind = target.kind
    meta = obj["metadata"]
    match_namespace(target, meta)
    generated = bool(meta.get("generateName")) and not meta.get("name")
    if generated:
        meta["name"] = _fresh_name(registry, target, meta["generateName"])
    meta["uid"] = uids.make()
    meta["creationTimestamp"] = request.now
    request.name = meta.get("name") or ""
    finish = strategy.begin_create(request, obj)
    try:
        strategy.prepare_create(request, obj)
        causes = strategy.validate(request, obj)
        if not strategy.checks_structure:
            causes += structural.validate(kind, obj, None, causes)
        causes = metadata.validate(meta, kind.namespaced, strategy.name_faults, strategy.qualified_finalizers) + causes
        write.refuse(request.name, causes)
        write.options.warnings += strategy.warnings(request, obj, None)
        await registry.admission.validate(write.attributes("CREATE", obj, None))
        stored = registry.entries.storage_kind(kind)
        final = await registry.entries.conversions.to_store(obj, kind)
        if write.options.dry_run:
            entry = made(Entry(kind.key(target.namespace, request.name), b"", 0, 0), final)
        else:
            taken, finish = finish, None
            entry = await settled(_insert(write, stored, final, generated), taken)
    finally:
        if finish is not None:
            finish(False)
    if not write.options.dry_run:
        strategy.committed(request, final, None)
    await registry.entries.conversions.prepare(kind, (entry,))
    return registry.entries.in_version(entry, kind)


async def settled(writing: Awaitable[Entry], finish: Finish | None) -> Entry:
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


def made(entry: Entry, obj: Obj) -> Entry:
    """An entry with another object than the stored one: a dry run's result, a subresource's body."""
    view = View(obj["metadata"].get("labels") or {}, {}, obj)
    return Entry(entry.key, orjson.dumps(obj), entry.revision, entry.create_revision, view)
