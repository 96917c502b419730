"""Delete and deletecollection: preconditions, grace periods, finalizers, propagation.

An object that something still waits for (a grace period, finalizers) is marked and stays; the update that takes the last of
them away ends it (updates.ends_with). Everything else goes at once, in one write.

Source: apiserver pkg/registry/rest/delete.go and pkg/registry/generic/registry/store.go (Delete), v0.34.
"""

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kubelite.meta import errors, times
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry import faults, strategies
from kubelite.registry.contract import Attributes, DeleteOptions, ListOptions, Target, WriteOptions
from kubelite.registry.entries import encoder
from kubelite.registry.lists import Page
from kubelite.registry.strategies import Request, Strategy
from kubelite.registry.updates import UPDATE_ATTEMPTS
from kubelite.registry.validation.metadata import FOREGROUND, ORPHAN
from kubelite.registry.writes import made
from kubelite.store.contract import Conflict, Entry, KeyNotFound, StoreError

if TYPE_CHECKING:
    from kubelite.registry.registry import Registry

#: So many deletes of a collection are under way at once.
COLLECTION_CONCURRENCY = 64


@dataclass(slots=True)
class Plan:
    """What a delete does to an object: `obj` None leaves it (a deletion is under way), else it is the state to write, and
    `now` says whether that is its last."""

    obj: Obj | None
    now: bool = False


async def delete(
    registry: "Registry", target: Target, wanted: DeleteOptions, options: WriteOptions, *, admit: bool = True
) -> tuple[Entry | None, Obj | None, bool]:
    """Deletes, or marks as being deleted. Returns (entry, None, finished) or, for kinds that answer so, (None, Status, True).

    Raises:
        NotFound, Conflict: a precondition does not hold. Whatever admission refuses with.
    """
    check_options(wanted)
    kind, store, entries = target.kind, registry.store, registry.entries
    strategy = strategies.of(kind)
    stored = entries.storage_kind(kind)
    key = kind.key(target.namespace, target.name)
    for _ in range(UPDATE_ATTEMPTS):
        current = store.newest(key)
        if current is None:
            raise errors.NotFound.of(kind.group, kind.plural, target.name)
        old = entries.parsed(current)
        check_preconditions(target, wanted, old)
        await entries.conversions.prepare(kind, (current,))
        if admit:
            await _admit(registry, target, entries.object_in(current, kind), wanted, options)
        request = Request(registry, kind, options, times.now(), target.namespace, target.name)
        plan = _plan(strategy, request, old, wanted)
        options.warnings += strategy.delete_warnings(wanted)
        if plan.obj is None:
            if current.revision > store.revision:
                await store.wait_revision(current.revision)
            return entries.in_version(current, kind), None, False
        if options.dry_run:
            entry = made(current, plan.obj)
            return _answer(registry, strategy, target, entry, plan)
        write = store.delete if plan.now else store.update
        try:
            entry = await write(key, encoder(plan.obj), current.revision, entries.view_of(stored, plan.obj))
        except (Conflict, KeyNotFound):
            continue  # another write came between: look again
        except StoreError as e:
            raise faults.of_write(e, kind, target.name, "delete") from e
        strategy.committed(request, None if plan.now else plan.obj, old)
        if not plan.now or strategy.returns_deleted:
            await entries.conversions.prepare(kind, (entry,))
        return _answer(registry, strategy, target, entry, plan)
    raise errors.Conflict.of(kind.group, kind.plural, target.name, faults.MODIFIED)


def _answer(
    registry: "Registry", strategy: Strategy, target: Target, entry: Entry, plan: Plan
) -> tuple[Entry | None, Obj | None, bool]:
    assert plan.obj is not None
    if plan.now and not strategy.returns_deleted:
        kind = target.kind
        details = {"name": target.name}
        if kind.group:
            details["group"] = kind.group
        details |= {"kind": kind.plural, "uid": plan.obj["metadata"].get("uid", "")}
        status: Obj = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Success",
            "details": details,
        }
        return None, status, True
    return registry.entries.in_version(entry, target.kind), None, plan.now


async def _admit(registry: "Registry", target: Target, old: Obj, wanted: DeleteOptions, options: WriteOptions) -> None:
    attributes = Attributes(
        "DELETE",
        target,
        None,
        old,
        options.user,
        options.dry_run,
        {"gracePeriodSeconds": wanted.grace_period_s, "propagationPolicy": wanted.propagation_policy},
        (target.kind.group, target.kind.version, target.kind.kind),
        options.warnings,
    )
    await registry.admission.mutate(attributes)
    await registry.admission.validate(attributes)


def check_options(wanted: DeleteOptions) -> None:
    """Raises Invalid for a propagation policy that there is not."""
    policy = wanted.propagation_policy
    if policy is not None and policy not in ("Orphan", "Background", "Foreground"):
        text = f'Unsupported value: "{policy}": supported values: "Foreground", "Background", "Orphan", "nil"'
        cause = Cause("propagationPolicy", "FieldValueNotSupported", text)
        raise errors.Invalid.of("meta.k8s.io", "DeleteOptions", "", [cause])


def check_preconditions(target: Target, wanted: DeleteOptions, old: Obj) -> None:
    """Raises Conflict where the object is not the one that the options name."""
    kind, meta = target.kind, old["metadata"]
    uid, version = wanted.precondition_uid, wanted.precondition_resource_version
    if uid and uid != meta.get("uid"):
        why = (
            f"the UID in the precondition ({uid}) does not match the UID in record ({meta.get('uid', '')}). "
            "The object might have been deleted and then recreated"
        )
        raise errors.Conflict.of(kind.group, kind.kind, target.name, why)
    if version and version != meta.get("resourceVersion"):
        why = (
            f"the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record "
            f"({meta.get('resourceVersion', '')}). The object might have been modified"
        )
        raise errors.Conflict.of(kind.group, kind.kind, target.name, why)


def _plan(strategy: Strategy, request: Request, old: Obj, wanted: DeleteOptions) -> Plan:
    special = strategy.plan_delete(request, old, wanted)
    if special is not None:
        return Plan(*special)
    meta = dict(old["metadata"])
    new = {**old, "metadata": meta}
    graceful = _grace(strategy, request, old, meta, wanted)
    if graceful is None:
        return Plan(None)
    finalizers = _finalizers(strategy, old["metadata"], wanted)
    if finalizers:
        meta["finalizers"] = finalizers
    else:
        meta.pop("finalizers", None)
    if graceful and meta["deletionGracePeriodSeconds"] > 0:
        return Plan(new)
    if finalizers or not strategy.is_finished(new):
        if not graceful:
            _mark(meta, request.now)
        # Deleting again what waits for its finalizers writes nothing: each write would be news to whoever deletes it.
        return Plan(None if new == old else new)
    return Plan(new, now=True)


def _grace(strategy: Strategy, request: Request, old: Obj, meta: Obj, wanted: DeleteOptions) -> bool | None:
    """Sets the deletion's time and grace period for a kind that ends gracefully. False: it ends at once. None: it is ending
    already, and this delete does not shorten that."""
    asked = wanted.grace_period_s
    if asked is not None and asked < 0:
        asked, wanted = 1, replace(wanted, grace_period_s=1)
    if "deletionTimestamp" not in meta:
        period = strategy.grace_period_s(old, wanted)
        if period is None:
            return False
        at = times.parse_seconds(request.now) + period
        meta["deletionTimestamp"] = times.format_time(at)
        meta["deletionGracePeriodSeconds"] = period
        if meta.get("generation"):
            meta["generation"] += 1
        return True
    pending = meta.get("deletionGracePeriodSeconds") or 0
    if not pending or strategy.grace_period_s(old, wanted) is None:
        return False
    if asked is None or asked >= pending:
        return None
    at = times.parse_seconds(meta["deletionTimestamp"]) - pending + asked
    now = times.parse_seconds(request.now)
    if at < now:
        at = now
        asked = 1 if asked else 0
    meta["deletionTimestamp"] = times.format_time(at)
    meta["deletionGracePeriodSeconds"] = asked
    return True


def _mark(meta: Obj, now: str) -> None:
    """Marks an object that only finalizers keep."""
    at = meta.get("deletionTimestamp")
    if at is None and meta.get("generation"):
        meta["generation"] += 1
    if at is None or at > now:
        meta["deletionTimestamp"] = now
    meta["deletionGracePeriodSeconds"] = 0


def _finalizers(strategy: Strategy, meta: Obj, wanted: DeleteOptions) -> list[str]:
    """The finalizers of an object with those of the garbage collector as the options and the kind want them."""
    present = meta.get("finalizers") or []
    if strategy.orphaning == "unsupported":
        orphan = foreground = False
    elif wanted.propagation_policy is not None:
        orphan = wanted.propagation_policy == "Orphan"
        foreground = wanted.propagation_policy == "Foreground"
    elif ORPHAN in present or FOREGROUND in present:
        first = next(name for name in present if name in (ORPHAN, FOREGROUND))
        orphan, foreground = first == ORPHAN, first == FOREGROUND
    else:
        orphan, foreground = strategy.orphaning == "orphan", False
    kept = [name for name in present if name not in (ORPHAN, FOREGROUND)]
    return kept + [ORPHAN] * orphan + [FOREGROUND] * foreground


async def delete_collection(
    registry: "Registry", target: Target, chosen: ListOptions, wanted: DeleteOptions, options: WriteOptions
) -> Page:
    """Deletes what the list options select, some at a time; returns what was selected.

    Raises:
        ApiError: the first that a delete raised; what was deleted before stays deleted.
    """
    page = await registry.list(target, chosen)
    gate = asyncio.Semaphore(COLLECTION_CONCURRENCY)

    async def one(entry: Entry) -> None:
        meta = registry.parsed(entry)["metadata"]
        item = Target(target.kind, meta.get("namespace", ""), meta["name"])
        async with gate:
            try:
                await delete(registry, item, wanted, options)
            except errors.NotFound:
                return  # gone between: what was wanted

    results = await asyncio.gather(*(one(entry) for entry in page.items), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return page
