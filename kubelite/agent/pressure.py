"""Keeps a node from running out of memory, disk or process numbers: says so in the node's conditions, gives back what nobody
uses, and where that is not enough ends a pod, one at a time, those first that take more than they asked for.

`Pressure` owns the loop, which also ends pods beyond their own limits (`eviction`); what is judged is pure (`observe`, `ranked`,
`words`). Looking costs a few reads of files; pods are measured only once one of them must go.

Source: pkg/kubelet/eviction/eviction_manager.go, helpers.go, v1.34 (order, messages, intervals; hard thresholds only).
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping

import structlog

from kubelite.agent import eviction, housekeeping, machine, thresholds
from kubelite.agent.admission import requests_of
from kubelite.agent.context import Context
from kubelite.agent.machine import Disk, Load
from kubelite.agent.pods import Pods
from kubelite.agent.podstate import all_containers
from kubelite.agent.resources import is_critical
from kubelite.agent.resources import requests_of as asked_by
from kubelite.agent.stats import Stats
from kubelite.agent.sync import PodWorker
from kubelite.agent.thresholds import SIGNALS, Observation, Threshold
from kubelite.meta import quantities
from kubelite.meta.types import Obj
from runtimes.interface import RuntimeFault

log = structlog.get_logger()

INTERVAL_S = 10.0
#: How long a condition stays after it was last observed, so that nodes don't go back and forth.
TRANSITION_S = 300.0
#: How long the next look waits for an evicted pod to be gone.
CLEANUP_S = 30.0
MEND = "make room, or give other thresholds with --eviction-hard"
#: Where a pod's entry in the stats summary has what it takes of a resource.
_TAKEN = {
    "memory": ("memory", "workingSetBytes"),
    "ephemeral-storage": ("ephemeral-storage", "usedBytes"),
    "inodes": ("ephemeral-storage", "inodesUsed"),
    "pids": ("process_stats", "process_count"),
}


class Pressure:
    """One node's. Its conditions are `Context.pressure`; `changed` is called when they are others than before."""

    def __init__(self, context: Context, pods: Pods, changed: Callable[[], None]) -> None:
        self._context = context
        self._pods = pods
        self._changed = changed
        self._stats = Stats(context, pods)
        self._last_met_s: dict[str, float] = {}

    async def run(self) -> None:
        while True:
            evicted: list[PodWorker] = []
            try:
                evicted = await self.check()
            except (RuntimeFault, OSError) as e:
                log.warning("pressure_not_measured", error=str(e))
            if not evicted:
                await asyncio.sleep(INTERVAL_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLEANUP_S):
                    for worker in evicted:
                        await worker.ended.wait()

    async def check(self) -> list[PodWorker]:
        """One look: what is short is given back, or a pod evicted. Returns the pods that were."""
        observed = await self.observe()
        evicted = await eviction.check(self._context, self._pods)
        met = thresholds.met(self._context.options.eviction_hard, observed)
        if evicted or not met:
            return evicted
        resource = met[0].about.resource
        self._context.recorder.node("Warning", "EvictionThresholdMet", f"Attempting to reclaim {resource}")
        if resource in ("ephemeral-storage", "inodes") and await self._reclaim():
            return []
        return await self._evict(met[0], observed[met[0].signal])

    async def _reclaim(self) -> bool:
        """Gives back the disk that nobody uses; whether that was enough."""
        try:
            await housekeeping.remove_ended(self._context, self._pods)
            await housekeeping.remove_images(self._context, self._pods)
        except RuntimeFault as e:
            log.warning("disk_not_reclaimed", error=str(e))
        return not thresholds.met(self._context.options.eviction_hard, await self.observe())

    async def _evict(self, threshold: Threshold, observed: Observation) -> list[PodWorker]:
        entries = {entry["podRef"]["uid"]: entry for entry in (await self._stats.summary())["pods"]}
        candidates = [worker for worker in self._pods.all() if worker.active and not is_critical(worker.pod)]
        first = ranked(candidates, threshold.about.resource, entries)[:1]
        for worker in first:
            message = words(worker.pod, threshold, observed, entries.get(worker.uid, {}))
            log.warning("pod_evicted", pod=worker.name, reason=message.strip())
            worker.evict(message, disruption=True)
        return first

    async def observe(self) -> dict[str, Observation]:
        """How the signals stand; brings the node's conditions up to date."""
        context, now_s = self._context, self._context.now()
        load = await asyncio.to_thread(machine.load)
        observed = observe(load, await asyncio.to_thread(machine.disk, context.options.data_dir))
        for threshold in thresholds.met(context.options.eviction_hard, observed):
            condition, there = threshold.about.condition, observed[threshold.signal]
            if condition not in context.pressure:
                left = f"{there.available} of {there.capacity}, threshold {threshold.text(there.capacity)}"
                log.warning("node_under_pressure", condition=condition, signal=threshold.signal, left=left, mend=MEND)
            self._last_met_s[condition] = now_s
        current = tuple(
            condition
            for condition in dict.fromkeys(signal.condition for signal in SIGNALS.values())
            if now_s - self._last_met_s.get(condition, float("-inf")) < TRANSITION_S
        )
        if current != context.pressure:
            context.pressure = current
            self._changed()
        return observed


def observe(load: Load, disk: Disk) -> dict[str, Observation]:
    """The signals, as far as they can be told: some file systems count no inodes. Images are on the disk of the node's data."""
    found = {
        "memory.available": Observation(load.memory_bytes - load.memory_working_set_bytes, load.memory_bytes),
        "nodefs.available": Observation(disk.free_bytes, disk.size_bytes),
        "nodefs.inodesFree": Observation(disk.inodes_free, disk.inodes),
        "imagefs.available": Observation(disk.free_bytes, disk.size_bytes),
        "imagefs.inodesFree": Observation(disk.inodes_free, disk.inodes),
        "pid.available": Observation(load.processes_limit - load.processes, load.processes_limit),
    }
    return {signal: o for signal, o in found.items() if o.capacity}


def ranked(workers: Iterable[PodWorker], resource: str, entries: Mapping[str, Obj]) -> list[PodWorker]:
    """The order in which pods go. `entries` are those of the stats summary by uid; a pod that was not measured goes first."""
    section, field = _TAKEN[resource]

    def place(worker: PodWorker) -> tuple[bool, bool, int, int]:
        taken = entries.get(worker.uid, {}).get(section, {}).get(field)
        over = (taken or 0) - requests_of(worker.pod).get(resource, 0)
        # Nobody asks for process numbers: there priority is first.
        exceeds = over > 0 and resource != "pids"
        return taken is not None, not exceeds, worker.pod["spec"].get("priority") or 0, -over

    return sorted(workers, key=place)


def words(pod: Obj, threshold: Threshold, observed: Observation, entry: Obj) -> str:
    """Why a pod is evicted: what was short, and which of its containers take more of it than they asked for."""
    resource = threshold.about.resource
    in_bytes = resource in ("memory", "ephemeral-storage")
    left = (quantities.format_bytes if in_bytes else quantities.format_value)(observed.available)
    text = f"The node was low on resource: {resource}. "
    text += f"Threshold quantity: {threshold.text(observed.capacity)}, available: {left}. "
    if not in_bytes or not entry:
        return text
    asked = asked_by(pod["spec"]).get(resource) if resource == "memory" else None
    if asked is not None:
        text += _larger("Pod", pod["metadata"]["name"], entry["memory"]["workingSetBytes"], asked, resource)
    containers = {c["name"]: c for c, role in all_containers(pod) if role != "ephemeral"}
    for measured in entry["containers"]:
        if (container := containers.get(measured["name"])) is None:
            continue
        if resource == "memory":
            taken = measured["memory"]["workingSetBytes"]
        else:
            taken = measured["rootfs"]["usedBytes"] + measured["logs"]["usedBytes"]
        asked = asked_by(container).get(resource, "0")
        if taken > quantities.value(asked):
            text += _larger("Container", container["name"], taken, asked, resource)
    return text


def _larger(kind: str, name: str, taken: int, asked: str, resource: str) -> str:
    used, wanted = quantities.format_bytes(taken), quantities.canonical(asked)
    return f"{kind} {name} was using {used}, request is {wanted}, has larger consumption of {resource}. "
