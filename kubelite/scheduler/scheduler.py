"""The scheduler: takes pods from the queue, decides, and has the decisions written.

Decisions are made one after the other, without giving up the loop, each on a snapshot that has the ones before it; a slice of
them is then bound at once, so that their bindings share a commit, while the next slice is decided. What is written and when
it fails is the only asynchronous part.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeAlias

import structlog

from kubelite.client.contract import Client
from kubelite.client.events import EventRecorder
from kubelite.client.informers import Informers
from kubelite.meta.errors import ApiError
from kubelite.meta.types import Obj
from kubelite.scheduler import profile
from kubelite.scheduler.binding import Report, Writer, is_pointless
from kubelite.scheduler.cluster import Cluster, nominated_node
from kubelite.scheduler.decide import Diagnosis, Nominees, decide
from kubelite.scheduler.owners import KINDS, Owners
from kubelite.scheduler.placement import place
from kubelite.scheduler.preemption import Candidate, Outcome, preempt
from kubelite.scheduler.queue import Queue, QueuedPod
from kubelite.scheduler.snapshot import PodInfo
from kubelite.scheduler.templates import DEFAULT_SCHEDULER
from kubelite.scheduler.volumes import Binding, Volumes

#: How long decisions may hold the loop before others have a turn, and how many of them are bound together at most.
SLICE_S = 0.008
SLICE = 64
#: Writes that may be under way; beyond that, decisions wait.
MAX_WRITES = 1024

#: What is to be written after a decision.
Write: TypeAlias = Callable[[], Coroutine[Any, Any, None]]

log = structlog.get_logger()

RESOURCES = (
    "namespaces",
    "nodes",
    "services",
    *KINDS,
    "persistentvolumeclaims",
    "persistentvolumes",
    "storageclasses.storage.k8s.io",
    "csinodes.storage.k8s.io",
    "csidrivers.storage.k8s.io",
    "csistoragecapacities.storage.k8s.io",
    "volumeattachments.storage.k8s.io",
    "poddisruptionbudgets.policy",
    "pods",
)


class Scheduler:
    """Places the pods that ask for `name`. `recorder` is whoever writes events; without one it has its own."""

    def __init__(
        self,
        client: Client,
        informers: Informers,
        *,
        recorder: EventRecorder | None = None,
        name: str = DEFAULT_SCHEDULER,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._informers = [informers.of(resource) for resource in RESOURCES]
        self._all_informers = informers
        self._budgets = informers.of("poddisruptionbudgets.policy")
        self._own_recorder = recorder is None
        self.recorder = recorder or EventRecorder(client, name)
        self._writer = Writer(client, informers, self.recorder, name)
        self._clock = clock
        self.cluster = self._new_cluster()
        #: Set while it follows the cluster and places pods.
        self.ready = asyncio.Event()
        self._writes = asyncio.Semaphore(MAX_WRITES)
        #: Bindings that wait minutes for volumes, perhaps: they take no slot from the others.
        self._slow_writes: list[Write] = []
        self._counts = {"scheduled": 0, "unschedulable": 0, "errors": 0, "preemptions": 0}

    def _new_cluster(self) -> Cluster:
        self.queue = Queue(self._clock)
        owners, volumes = Owners(), Volumes()
        return Cluster(profile.default(owners, volumes), owners, volumes, self.queue, self.name)

    async def run(self) -> None:
        """Schedules until cancelled. May be run again, as one does who holds a lease at times."""
        for informer in self._informers:
            await informer.synced.wait()
        subscriptions = self.cluster.subscribe(self._all_informers)
        try:
            async with asyncio.TaskGroup() as group:
                if self._own_recorder:
                    group.create_task(self.recorder.run(), name="scheduler-events")
                self.ready.set()
                await self._loop(group)
        finally:
            self.ready.clear()
            for unsubscribe in subscriptions:
                unsubscribe()
            self.cluster = self._new_cluster()  # what it knew grows old from here on

    def statistics(self) -> dict[str, int]:
        """Numbers for metrics."""
        return {
            **{f"queue_{place}": count for place, count in self.queue.statistics().items()},
            **self._counts,
            "nodes": self.cluster.snapshot.node_count,
            "pods": self.cluster.snapshot.pod_count,
            "assumed": len(self.cluster.assumed),
            "nominated": len(self.cluster.nominated),
        }

    async def _loop(self, group: asyncio.TaskGroup) -> None:
        while True:
            await self.queue.wait()
            writes: list[Write] = []
            end = time.monotonic() + SLICE_S
            while len(writes) < SLICE and time.monotonic() < end:
                queued = self.queue.pop()
                if queued is None:
                    break
                write = self._attempt(queued)
                if write is not None:
                    writes.append(write)
            for write in writes:
                await self._writes.acquire()
                group.create_task(self._guarded(write, self._writes), name="scheduler-write")
            for write in self._slow_writes:
                group.create_task(self._guarded(write, None), name="scheduler-volumes")
            self._slow_writes.clear()
            await asyncio.sleep(0)

    async def _guarded(self, write: Write, slots: asyncio.Semaphore | None) -> None:
        try:
            await write()
        except Exception:  # one pod's fault must not end the scheduler
            self._counts["errors"] += 1
            log.exception("scheduler_write_failed")
        finally:
            if slots is not None:
                slots.release()

    def _attempt(self, queued: QueuedPod) -> Write | None:
        """Decides about one pod; returns what is to be written."""
        try:
            return self._decide(queued)
        except Exception as e:  # one pod's fault must not end the scheduler
            self._counts["errors"] += 1
            log.exception("scheduling_failed", pod=queued.pod.key)
            self.queue.retry(queued)
            return partial(self._report, queued.pod, Report(f"running scheduling: {e}", "SchedulerError", ""))

    def _decide(self, queued: QueuedPod) -> Write | None:
        pod, cluster = queued.pod, self.cluster
        if self.queue.get(pod.uid) is not queued:
            return None
        nominees = cluster.nominees_before(pod) if cluster.nominated else None
        nominated = nominated_node(pod.obj)
        decision = decide(cluster.snapshot, cluster.framework, pod.template, nominees=nominees, nominated=nominated)
        if not decision.node:
            assert decision.diagnosis is not None
            return self._unschedulable(queued, decision.diagnosis, nominees)
        bindings: list[Binding] = []
        if pod.template.claims:
            placement = place(cluster.volumes, cluster.snapshot, pod.template)
            bindings = placement.bindings(cluster.snapshot.rows[decision.node])
            if bindings:
                cluster.volumes.promise(bindings, decision.node)
                cluster.framework.forget(lambda template: bool(template.claims))
        cluster.assume(pod, decision.node)
        write = partial(self._bind, queued, decision.node, bindings)
        if bindings:
            self._slow_writes.append(write)
            return None
        return write

    def _unschedulable(self, queued: QueuedPod, diagnosis: Diagnosis, nominees: Nominees | None) -> Write:
        self._counts["unschedulable"] += 1
        pod, cluster = queued.pod, self.cluster
        outcome = Outcome(None)
        if diagnosis.may_preempt:
            budgets = self._budgets_by_namespace()
            outcome = preempt(cluster.snapshot, cluster.framework, pod, diagnosis, budgets, nominees)
        refused_by = diagnosis.plugins or frozenset(("NodeName",))  # without nodes: any new one is worth a try
        self.queue.unschedulable(queued, refused_by)
        candidate = outcome.candidate
        nominated: str | None = None
        cleared: list[PodInfo] = []
        if candidate is not None:
            self._counts["preemptions"] += 1
            nominated = candidate.node
            cleared = self._nominees_displaced_by(pod, candidate)
            for info in cleared:
                del cluster.nominated[info.uid]
            cluster.nominated[pod.uid] = candidate.node, pod
        elif not diagnosis.nodes or (diagnosis.may_preempt and outcome.eligible):
            cluster.nominated.pop(pod.uid, None)
            nominated = ""
        report = Report(diagnosis.message(outcome.message), "Unschedulable", nominated)
        return partial(self._report, pod, report, candidate, cleared)

    def _nominees_displaced_by(self, pod: PodInfo, candidate: Candidate) -> list[PodInfo]:
        """Pods of lower priority that wait for the same node may not fit there any more."""
        return [
            info
            for node, info in self.cluster.nominated.values()
            if node == candidate.node and info.priority < pod.priority and info.uid != pod.uid
        ]

    def _budgets_by_namespace(self) -> dict[str, list[Obj]]:
        found: dict[str, list[Obj]] = {}
        for budget in self._budgets.list():
            found.setdefault(budget["metadata"]["namespace"], []).append(budget)
        return found

    # Writes

    async def _bind(self, queued: QueuedPod, node: str, bindings: list[Binding]) -> None:
        pod = queued.pod
        try:
            await self._writer.bind(pod, node, bindings)
        except (ApiError, TimeoutError) as e:
            self._counts["errors"] += 1
            self.cluster.volumes.forget(bindings)
            self.cluster.forget(pod)
            if isinstance(e, ApiError) and is_pointless(e):
                log.info("pod_not_bound", pod=pod.key, node=node, error=str(e))
                self.queue.delete(pod.uid)
                return
            log.warning("pod_not_bound", pod=pod.key, node=node, error=str(e))
            self.queue.retry(queued)
            await self._report(pod, Report(f"binding rejected: {e}", "SchedulerError", ""))
        else:
            self._counts["scheduled"] += 1
            if self.queue.get(pod.uid) is queued:
                self.queue.delete(pod.uid)

    async def _report(
        self, pod: PodInfo, report: Report, candidate: Candidate | None = None, cleared: Sequence[PodInfo] = ()
    ) -> None:
        try:
            await self._writer.report_failure(pod, report)
            for other in cleared:
                await self._writer.clear_nomination(other)
            if candidate is not None:
                await self._writer.preempt(pod, candidate)
        except ApiError as e:  # the pod is gone, or the next attempt reports again
            log.info("failure_not_reported", pod=pod.key, error=str(e))
            if candidate is not None:  # nobody leaves for it: it needn't wait for that
                self.queue.activate(pod.uid)
