"""EndpointSlices of services with a selector. What they should be is in `sliceplan`, who should use which endpoint in `hints`.

Source: kubernetes pkg/controller/endpointslice, v1.34.
"""

import contextlib
from typing import ClassVar

from kubelite.controllers import backends, hints, sliceplan
from kubelite.controllers.environment import Environment
from kubelite.controllers.reconciler import Controller, is_namespace_terminating, split_key
from kubelite.controllers.sliceplan import BY_SERVICE, MANAGER, RESOURCE, managed_by, service_key_of
from kubelite.meta.errors import ApiError, NotFound
from kubelite.meta.types import Obj


class EndpointSlices(Controller):
    """Writes the EndpointSlices of services; the garbage collector deletes those of services that are gone."""

    name: ClassVar[str] = "endpointslice-controller"
    component: ClassVar[str] = "endpoint-slice-controller"
    workers: ClassVar[int] = 5

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        self._triggers = backends.TriggerTimes()
        self._zones = hints.Zones()
        self._services = self.informer("services")
        self._pods = self.informer("pods")
        self._nodes = self.informer("nodes")
        self._slices = self.informer(RESOURCE)
        self._slices.add_index(BY_SERVICE, service_key_of)
        self.follow(self._services)
        self.follow(self._slices, lambda s: service_key_of(s) if managed_by(s) == MANAGER else ())
        self._nodes.subscribe(self._node_changed)
        backends.follow_pods(self._pods, self._services, self.add_paced)

    def _node_changed(self, old: Obj | None, new: Obj | None) -> None:
        """Where zones have become larger or smaller, endpoints may be too few in some."""
        if self._zones.node_changed(old, new):
            for key in self._zones.overloaded():
                self.queue.add(key)

    async def reconcile(self, key: str) -> None:
        namespace, name = split_key(key)
        service = self._services.get(name, namespace)
        if service is None:
            self.set_size(key, 0)
            self._triggers.forget(key)
            return
        if not service["spec"].get("selector") or service["spec"].get("type") == "ExternalName":
            return
        selected = backends.selected(service, self._pods)
        self.set_size(key, len(selected))
        changed = self._triggers.changed(key, service, selected)
        ours = [s for s in self._slices.by_index(BY_SERVICE, key) if managed_by(s) == MANAGER]
        plan = sliceplan.of(service, selected, [s for s in ours if "deletionTimestamp" not in s["metadata"]], self._nodes)
        for part in plan.parts:
            for type_, reason, message in self._zones.give(key, service, part):
                self.events.event(service, "Warning" if type_ == "Warning" else "Normal", reason, message)
        try:
            await self._carry_out(service, plan, changed)
        except ApiError as e:
            if is_namespace_terminating(e):
                return
            if e.code not in (404, 409):
                self._tell(service, key, e.message)
            raise
        if plan.skipped:
            text = ", ".join(plan.skipped) if len(plan.skipped) == 1 else f"[{', '.join(plan.skipped)}]"
            self._tell(service, key, text)
            raise ApiError(text)  # the node may only be late

    def _tell(self, service: Obj, key: str, why: str) -> None:
        text = f"Error updating Endpoint Slices for Service {key}: {why}"
        self.events.event(service, "Warning", "FailedToUpdateEndpointSlices", text)

    async def _carry_out(self, service: Obj, plan: sliceplan.Plan, changed: str) -> None:
        for part in plan.parts:
            part.reuse()
            for each in part.create if "deletionTimestamp" not in service["metadata"] else ():
                await self.client.create(RESOURCE, sliceplan.stamped(each, changed))
            for each in part.update:
                await self.client.update(RESOURCE, sliceplan.stamped(each, changed))
            for each in part.delete:
                await self._delete(each)
        for each in plan.delete:
            await self._delete(each)

    async def _delete(self, slice_: Obj) -> None:
        meta = slice_["metadata"]
        with contextlib.suppress(NotFound):
            await self.client.delete(RESOURCE, meta["name"], meta["namespace"], precondition_uid=meta["uid"])
