"""The registry: every verb of every kind, over one store.

A verb lives in a module of its own (lists, watch, writes, patches, deletes, subresources); this class is what they share and
what api/ and the loopback client call. Objects handed out are shared and never mutated; entries come in the version of the
target's kind.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from kubelite.meta.types import Obj
from kubelite.meta.users import LOOPBACK
from kubelite.registry import crds, deletes, lists, patches, strategies, subresources, updates, watch, writes
from kubelite.registry.allocators import Allocators
from kubelite.registry.contract import Admission, DeleteOptions, ListOptions, Patch, Target, WriteOptions
from kubelite.registry.entries import Entries
from kubelite.registry.expiry import Expiry
from kubelite.registry.lists import Page
from kubelite.registry.strategies import table  # noqa: F401 - so that the first request's loop needn't load it
from kubelite.registry.watch import RegistryWatch
from kubelite.schema.kinds import Kind, Kinds
from kubelite.store.contract import Entry, Store

if TYPE_CHECKING:
    from kubelite.registry.updates import Body

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Settings:
    """What of the cluster's configuration the registry needs."""

    service_cidrs: tuple[str, ...] = ("10.96.0.0/16",)
    node_ports: tuple[int, int] = (30000, 32767)


class Registry:
    """See the module. `await start()` once the store is started."""

    def __init__(self, store: Store, kinds: Kinds, admission: Admission, settings: Settings | None = None) -> None:
        self.store = store
        self.kinds = kinds
        self.admission = admission
        self.settings = settings or Settings()
        self.entries = Entries(kinds)
        self.allocators = Allocators(self)
        self.custom_kinds = crds.CustomKinds(self)
        #: Options of the writes that the registry makes itself.
        self.own_options = WriteOptions(LOOPBACK)
        self._lists = lists.Lists(self)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Takes up what the store has: custom kinds, and the addresses and ports of services."""
        await self._ensure_service_cidr()
        self.allocators.load()
        self.custom_kinds.load()
        self._run(self.custom_kinds.run(), "registry.custom_kinds")
        self._run(Expiry(self).run(), "registry.expiry")

    def _run(self, part: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(part, name=name)
        task.add_done_callback(_ended)
        self._tasks.append(task)

    async def _ensure_service_cidr(self) -> None:
        """The ranges that the server is configured with stand as the ServiceCIDR `kubernetes`."""
        kind = self.kinds.preferred("servicecidrs.networking.k8s.io")
        target = Target(kind, "", "kubernetes")
        if self.store.newest(kind.key("", "kubernetes")) is not None:
            return
        cidrs = list(self.settings.service_cidrs)
        wanted: Obj = {"metadata": {"name": "kubernetes"}, "spec": {"cidrs": cidrs}}
        made = self.parsed(await writes.create(self, Target(kind), wanted, self.own_options))
        ready = {
            "type": "Ready",
            "status": "True",
            "lastTransitionTime": made["metadata"]["creationTimestamp"],
            "reason": "",
            "message": "Kubernetes default Service CIDR is ready",
        }

        def set_ready(old: Obj) -> Obj:
            return {**old, "metadata": {**old["metadata"]}, "status": {"conditions": [ready]}}

        await updates.modify(self, target, set_ready)

    async def stop(self) -> None:
        """Ends the registry's own tasks. The store outlives it."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def get(self, target: Target, resource_version: str = "") -> Entry:
        """The object, or what the target's subresource shows of it."""
        entry = await lists.get(self, target, resource_version)
        if target.subresource:
            return subresources.shown(self, target, entry)
        return entry

    async def list(self, target: Target, options: ListOptions) -> Page:
        """One page of the target's collection."""
        return await self._lists.page(target, options)

    def watch(self, target: Target, options: ListOptions) -> RegistryWatch:
        """Events of the target's collection. Raises Invalid or BadRequest for bad options; a compacted revision shows at the
        first batch."""
        watch.check_watch(options)
        return RegistryWatch(self, target, options)

    async def create(self, target: Target, obj: Obj, options: WriteOptions) -> Entry:
        """Creates an object, or acts through a subresource (binding, eviction)."""
        if target.subresource or target.kind.plural == "bindings":
            return await subresources.create(self, target, obj, options)
        return await writes.create(self, target, obj, options)

    async def update(self, target: Target, obj: Obj, options: WriteOptions) -> tuple[Entry, bool]:
        """Replaces an object; the bool says whether it was created."""
        body = self._body(target)
        if body is not None:
            return await subresources.update(self, target, obj, options, body)
        return await updates.update(self, target, obj, options)

    async def patch(self, target: Target, patch: Patch, options: WriteOptions) -> tuple[Entry, bool]:
        """Patches an object; the bool says whether an apply created it."""
        return await patches.patch(self, target, patch, options, body=self._body(target))

    async def delete(self, target: Target, wanted: DeleteOptions, options: WriteOptions) -> tuple[Entry | None, Obj | None, bool]:
        """Deletes an object or marks it: (entry, None, finished) or (None, Status, True)."""
        return await deletes.delete(self, target, wanted, options)

    async def delete_collection(self, target: Target, chosen: ListOptions, wanted: DeleteOptions, options: WriteOptions) -> Page:
        """Deletes what the list options select; returns it."""
        return await deletes.delete_collection(self, target, chosen, wanted, options)

    def parsed(self, entry: Entry) -> Obj:
        """The entry's object, shared: not to be mutated."""
        return self.entries.parsed(entry)

    def reset_fields(self, kind: Kind, subresource: str) -> tuple[tuple[str, ...], ...]:
        """The paths that a write of this subresource (or of the object itself) cannot change."""
        if kind.custom and not subresource:
            return (("status",),) if "status" in kind.subresources else ()
        return strategies.of(kind).reset_fields(subresource)

    def _body(self, target: Target) -> "Body | None":
        return subresources.body_of(self, target) if target.subresource else None


def _ended(task: "asyncio.Task[None]") -> None:
    """These tasks end by being cancelled only."""
    if not task.cancelled():
        log.critical("registry_task_ended", task=task.get_name(), exc_info=task.exception())
