"""What the scheduler writes: bindings, conditions, events, and the end of preempted pods. Nothing is decided here.

Source: pkg/scheduler/schedule_one.go (texts of events and conditions), framework/preemption, v1.34.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from kubelite.client.contract import Client
from kubelite.client.events import EventRecorder
from kubelite.client.informers import Informers
from kubelite.meta import times
from kubelite.meta.errors import ApiError, InternalError, NotFound
from kubelite.meta.types import Obj
from kubelite.scheduler.preemption import Candidate
from kubelite.scheduler.snapshot import PodInfo
from kubelite.scheduler.volumes import SELECTED_NODE, Binding, is_bound, refers_to

BOUND_BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"
VOLUME_TIMEOUT_S = 600.0
#: An event's text has this length at most, with this at the end of one that was longer.
LONGEST_NOTE, CUT = 1024, " ..."
_COMPARED = ("status", "reason", "message", "observedGeneration")


@dataclass(frozen=True, slots=True)
class Report:
    """What is said of an attempt that failed. `nominated` is the node that is being cleared for the pod; empty: none any more;
    None: as it was."""

    message: str
    reason: str
    nominated: str | None


class Writer:
    def __init__(self, client: Client, informers: Informers, recorder: EventRecorder, scheduler_name: str) -> None:
        self._client = client
        self._recorder = recorder
        self._scheduler_name = scheduler_name
        self._claims = informers.of("persistentvolumeclaims")

    async def bind(self, pod: PodInfo, node: str, bindings: Sequence[Binding]) -> None:
        """Binds a pod, its claims first. Raises ApiError, TimeoutError."""
        if bindings:
            await self._bind_claims(bindings, node)
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": pod.name, "namespace": pod.namespace, "uid": pod.obj["metadata"].get("uid", "")},
            "target": {"kind": "Node", "name": node},
        }
        await self._client.create("pods", binding, pod.namespace, name=pod.name, subresource="binding")
        self._recorder.event(pod.obj, "Normal", "Scheduled", f"Successfully assigned {pod.key} to {node}")

    async def _bind_claims(self, bindings: Sequence[Binding], node: str) -> None:
        """Gives claims their volumes, or has them provisioned for the node, and waits until they are bound. Raises ApiError,
        TimeoutError."""
        waiting = {_key(binding.claim): binding for binding in bindings}
        changed = asyncio.Event()
        faults: list[str] = []

        def claim_changed(old: Obj | None, new: Obj | None) -> None:
            claim = new or old or {}
            binding = waiting.get(_key(claim))
            if binding is None:
                return
            if new is None:
                faults.append(f'persistentvolumeclaim "{claim["metadata"]["name"]}" not found')
            elif is_bound(new):
                del waiting[_key(new)]
            elif binding.volume is None and _selected(old) == node and _selected(new) != node:
                faults.append(f'provisioning failed for PVC "{claim["metadata"]["name"]}"')
            changed.set()

        unsubscribe = self._claims.subscribe(claim_changed)
        try:
            for binding in [*waiting.values()]:
                await self._bind_claim(binding, node)
            async with asyncio.timeout(VOLUME_TIMEOUT_S):
                while waiting and not faults:
                    changed.clear()
                    await changed.wait()
        finally:
            unsubscribe()
        if faults:
            raise InternalError(f"binding volumes: {faults[0]}")

    async def _bind_claim(self, binding: Binding, node: str) -> None:
        """What a controller or a provisioner then takes up."""
        meta = binding.claim["metadata"]
        if binding.volume is None:
            patch: Obj = {"metadata": {"annotations": {SELECTED_NODE: node}}}
            await self._client.patch("persistentvolumeclaims", meta["name"], meta["namespace"], patch)
            return
        reference = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "namespace": meta["namespace"],
            "name": meta["name"],
            "uid": meta.get("uid", ""),
            "resourceVersion": meta.get("resourceVersion", ""),
        }
        volume = binding.volume["metadata"]
        written: Obj = {"resourceVersion": volume.get("resourceVersion", "")}
        if not refers_to(binding.volume, binding.claim):
            written["annotations"] = {BOUND_BY_CONTROLLER: "yes"}
        await self._client.patch("persistentvolumes", volume["name"], "", {"metadata": written, "spec": {"claimRef": reference}})

    async def report_failure(self, pod: PodInfo, report: Report) -> None:
        """Says why a pod has no node: an event, and a condition where that is new."""
        text = report.message
        if len(text) > LONGEST_NOTE:
            text = text[: LONGEST_NOTE - len(CUT)] + CUT
        self._recorder.event(pod.obj, "Warning", "FailedScheduling", text)
        status = pod.obj.get("status") or {}
        condition: Obj = {
            "type": "PodScheduled",
            "status": "False",
            "lastProbeTime": None,
            "lastTransitionTime": times.now(),
            "reason": report.reason,
            "message": report.message,
        }
        if "generation" in pod.obj["metadata"]:
            condition["observedGeneration"] = pod.obj["metadata"]["generation"]
        patch: Obj = {}
        old = next((c for c in status.get("conditions") or () if c.get("type") == "PodScheduled"), None)
        if old is not None and old.get("status") == "False":
            condition["lastTransitionTime"] = old.get("lastTransitionTime", condition["lastTransitionTime"])
        if old is None or any(old.get(name) != condition.get(name) for name in _COMPARED):
            patch["conditions"] = [condition]
        if report.nominated is not None and report.nominated != status.get("nominatedNodeName", ""):
            patch["nominatedNodeName"] = report.nominated or None
        if patch:
            await self._patch_status(pod, patch)

    async def clear_nomination(self, pod: PodInfo) -> None:
        """The node that was kept for the pod is not any more."""
        if (pod.obj.get("status") or {}).get("nominatedNodeName"):
            await self._patch_status(pod, {"nominatedNodeName": None})

    async def _patch_status(self, pod: PodInfo, status: Obj) -> None:
        patch: Obj = {"status": status}
        if pod.obj["metadata"].get("uid"):
            patch["metadata"] = {"uid": pod.obj["metadata"]["uid"]}
        await self._client.patch("pods", pod.name, pod.namespace, patch, form="strategic", subresource="status")

    async def preempt(self, pod: PodInfo, candidate: Candidate) -> None:
        """Deletes the victims. One that is gone already is fine. Raises ApiError."""
        await asyncio.gather(*(self._preempt_one(pod, victim, candidate.node) for victim in candidate.victims))

    async def _preempt_one(self, pod: PodInfo, victim: PodInfo, node: str) -> None:
        condition = {
            "type": "DisruptionTarget",
            "status": "True",
            "lastProbeTime": None,
            "lastTransitionTime": times.now(),
            "reason": "PreemptionByScheduler",
            "message": f"{self._scheduler_name}: preempting to accommodate a higher priority pod",
        }
        uid = victim.obj["metadata"].get("uid", "")
        try:
            await self._patch_status(victim, {"conditions": [condition]})
            await self._client.delete("pods", victim.name, victim.namespace, precondition_uid=uid)
        except NotFound:
            return
        preemptor = pod.obj["metadata"].get("uid", "")
        self._recorder.event(victim.obj, "Normal", "Preempted", f"Preempted by pod {preemptor} on node {node}")


def is_pointless(error: ApiError) -> bool:
    """Whether a pod whose binding failed so need not be tried again: it is gone, or has a node, as its informer will say."""
    return isinstance(error, NotFound) or error.code == 409


def _key(claim: Obj) -> tuple[str, str]:
    return claim["metadata"]["namespace"], claim["metadata"]["name"]


def _selected(claim: Obj | None) -> str:
    return str((((claim or {}).get("metadata") or {}).get("annotations") or {}).get(SELECTED_NODE, ""))
