"""One worker a pod: looks, lets podstate decide, carries out, reports; then sleeps until something changes.

Woken by changes of the pod or of objects that it reads, by runtime events, by probes, by its own work ending, and by the time
that the last decision named. Work (sandbox, starts, kills) runs in tasks of the worker while it goes on looking, so a slow image
pull delays neither a status nor a kill. There is no polling; `resync` asks the runtime again in case an event was lost.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from dataclasses import replace

import orjson
import structlog

from kubelite.agent import admission, containers, messages, podstate, podstatus, resizing
from kubelite.agent.context import Context
from kubelite.agent.events import field_path
from kubelite.agent.observation import RESOURCES_ANNOTATION, Observed, Record, record_of
from kubelite.agent.podstate import Backoff, Decision, Ending, Memory, Verdict
from kubelite.agent.podstatus import TERMINAL, Place
from kubelite.agent.probes import Probers
from kubelite.agent.resizing import Resize, Standing
from kubelite.agent.work import Work
from kubelite.meta import pods, times
from kubelite.meta.types import Obj
from runtimes.interface import Container, NotFound, RuntimeEvent, RuntimeFault, Sandbox

log = structlog.get_logger()

FAULT_RETRY_S = 5.0
EVICTION_GRACE_S = 1.0


class PodWorker:
    """One pod on this node, from its arrival until nothing of it is left."""

    def __init__(self, context: Context, pod: Obj, gone: Callable[[str], None]) -> None:
        self.context = context
        #: The pod with the resources that it was given; `wish` is the pod as the API has it.
        self.pod = self.wish = pod
        self.given = resizing.resources_of(pod)
        self.uid: str = pod["metadata"]["uid"]
        #: What it takes of the node.
        self.claim = admission.claim_of(pod)
        self.sandboxes: dict[str, Sandbox] = {}
        self.records: dict[str, Record] = {}
        self.observed = Observed()
        #: Set once nothing of it runs or ever will, and its volumes are gone.
        self.ended = asyncio.Event()
        #: Set and replaced at each look, for work that waits for a container's end.
        self.looked = asyncio.Event()
        self.work = Work(self)
        self.probers = Probers(context, self.wake)
        self._gone = gone
        self._wake = asyncio.Event()
        self._wake.set()
        self._dirty: set[str] = set()
        self._reported: Obj | None = None
        self._told: set[tuple[str, str]] = set()
        #: Removed from the API while it ran: it ends with its own grace and no status is reported any more.
        self._orphaned = False
        self._finished = False
        self.memory = Memory()
        status = pod.get("status") or {}
        self.memory.terminal = status.get("phase") in TERMINAL
        started = status.get("startTime")
        self.memory.started_at_s = times.parse_seconds(started) if started else context.now()

    # What others tell.

    def wake(self) -> None:
        self._wake.set()

    def found(self, sandboxes: Iterable[Sandbox], made: Iterable[Container]) -> None:
        """What an agent that starts finds of the pod in the runtime."""
        self.sandboxes = {s.id: s for s in sandboxes}
        for container in made:
            record = record_of(container)
            self.records[record.id] = record
            self.work.applied[record.id] = orjson.loads(record.annotations.get(RESOURCES_ANNOTATION, "{}"))
            if record.backoff_s:
                self.work.backoffs[record.name] = Backoff(record.backoff_s, record.created_at_ns / 1e9, record.hash)
        self._dirty |= {*self.sandboxes, *self.records}
        self._trust_status()
        self.given = resizing.given_before(self.wish)
        self.pod = resizing.with_resources(self.wish, self.given)
        self.claim = admission.claim_of(self.pod)
        if self.active and "deletionTimestamp" not in self.pod["metadata"]:
            # What the pod reads may have changed while no agent ran, and its tokens must not run out.
            self.work.refresh_volumes(first=True)
        self.wake()

    def _trust_status(self) -> None:
        """What was reported before this agent started holds until something else is found: a container that was ready is, and
        has the resources that it had."""
        status = self.pod.get("status") or {}
        verdicts = {}
        for entry in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
            id_ = entry.get("containerID", "").rpartition("//")[2]
            if id_ not in self.records:
                continue
            verdicts[id_] = Verdict(entry.get("started") or None, None, entry.get("ready") or None)
            if "resources" in entry:
                self.work.applied[id_] = entry["resources"]
        self.probers.adopt(verdicts)

    def changed(self, pod: Obj) -> None:
        """The API's pod changed: wakes where something that the agent acts on did."""
        old, self.wish = self.pod, pod
        pod = self.pod = resizing.with_resources(pod, self.given)
        grace_s = pod["metadata"].get("deletionGracePeriodSeconds")
        old_grace_s = old["metadata"].get("deletionGracePeriodSeconds")
        if grace_s is not None and (old_grace_s is None or grace_s < old_grace_s):
            self.work.ends.hurry(podstate.grace_of(pod, None, ""))
        if _acted_on(old) != _acted_on(pod):
            if old["metadata"].get("labels") != pod["metadata"].get("labels") or (
                old["metadata"].get("annotations") != pod["metadata"].get("annotations")
            ):
                self.work.refresh_volumes()
            if old["spec"] != pod["spec"]:
                self.claim = admission.claim_of(pod)
                self.work.changed(old)
            self.wake()
        elif self._reported is not None and (pod.get("status") or {}).get("phase") in TERMINAL and not self.memory.terminal:
            self.memory.terminal = True
            self.wake()

    @property
    def wants_resize(self) -> bool:
        return resizing.resources_of(self.wish) != self.given and self.active and "deletionTimestamp" not in self.wish["metadata"]

    def resize(self, refusal: admission.Refusal | None) -> None:
        """The node's word on the resources that the spec asks for: granted, or why not."""
        generation, now_s, before = self.wish["metadata"].get("generation", 0), self.context.now(), self.memory.resize
        if refusal is not None:
            self.memory.resize = replace(before, pending=resizing.waiting(before.pending, *refusal, generation, now_s))
        elif self.wants_resize:
            self.given, old = resizing.resources_of(self.wish), self.pod
            self.pod, self.claim = self.wish, admission.claim_of(self.wish)
            self.memory.resize = Resize(progress=Standing(generation, now_s))
            self.work.changed(old)
        else:
            self.memory.resize = replace(before, pending=None)
        if self.memory.resize != before:
            self.wake()

    def resize_failed(self, message: str) -> None:
        """The runtime does not give a running container what it was granted; it is asked again."""
        before = self.memory.resize.progress or Standing(self.wish["metadata"].get("generation", 0), self.context.now())
        error = resizing.waiting(before, "Error", message, before.generation, self.context.now())
        self.memory.resize = replace(self.memory.resize, progress=error)
        self.wake()

    def _tell_resized(self) -> None:
        """A resize ends when every container that runs has what it was given."""
        if self.memory.resize.progress is None or any(
            record.running and self.work.applied.get(record.id, self.given[record.name]) != self.given[record.name]
            for record in self.observed.containers
            if record.name in self.given
        ):
            return
        self.memory.resize = replace(self.memory.resize, progress=None)
        self.context.recorder.pod(self.pod, "Normal", "ResizeCompleted", resizing.completed(self.pod))

    def removed(self) -> None:
        """The API has no such pod any more: everything of it ends."""
        self._orphaned = True
        if "deletionTimestamp" not in self.pod["metadata"]:
            self.pod = {**self.pod, "metadata": {**self.pod["metadata"], "deletionTimestamp": times.now()}}
        self.wake()

    def object_changed(self, resource: str, name: str) -> None:
        """A config map or secret changed, or a claim: whoever waits for it tries again, and volumes are brought up to date."""
        reads = {"configmaps": pods.config_maps, "secrets": pods.secrets, "persistentvolumeclaims": pods.claims}
        if resource in reads and name not in reads[resource](self.pod):
            return
        self.work.retry()
        self.work.refresh_volumes()
        self.wake()

    def happened(self, event: RuntimeEvent) -> None:
        """A runtime event: what it is about is looked at again, unless this worker knows it already."""
        record = self.records.get(event.container_id)
        if event.kind == "created" or (event.kind == "started" and (record is None or record.running)):
            return
        if event.kind == "stopped" and record is not None and record.exited:
            return
        self._dirty.add(event.container_id)
        self.wake()

    def resync(self, sandboxes: Iterable[Sandbox], made: Iterable[Container]) -> None:
        """The runtime's whole truth, from a list: what differs from what is known is looked at again."""
        there = {s.id: s for s in sandboxes}
        states = {c.id: c.state for c in made}
        for id_, sandbox in there.items():
            known = self.sandboxes.get(id_)
            if known is None or known.state is not sandbox.state:
                self._dirty.add(id_)
                self.sandboxes.setdefault(id_, sandbox)
        self._dirty |= {id_ for id_ in self.sandboxes if id_ not in there}
        self._dirty |= {id_ for id_, record in self.records.items() if states.get(id_) is not record.state}
        if self._dirty:
            self.wake()

    def look_at(self, id_: str) -> None:
        """Asks for a sandbox or container to be looked at again."""
        self._dirty.add(id_)
        self.wake()

    def refuse(self, reason: str, message: str) -> None:
        """The node does not take the pod: it ends as Failed before anything of it began."""
        self.context.recorder.pod(self.pod, "Warning", reason, message)
        self.memory.ending = Ending(reason, f"Pod was rejected: {message}", refused=True)

    def evict(self, message: str, *, disruption: bool = False) -> None:
        """Ends the pod as Failed, quickly: it takes more of its node than it may, or (`disruption`) than the node has to give."""
        self.context.recorder.pod(self.pod, "Warning", "Evicted", message)
        self.memory.ending = Ending("Evicted", message, grace_s=EVICTION_GRACE_S, disruption=disruption)
        self.work.ends.hurry(EVICTION_GRACE_S)
        self.wake()

    # The loop.

    async def run(self) -> None:
        """Lives as long as the pod."""
        try:
            wake_at_s: float | None = None
            while not self._finished:
                await self._wait(wake_at_s)
                try:
                    wake_at_s = await self._sync()
                except Exception as e:  # noqa: BLE001 - a reconcile loop: one pod's fault must not end the agent
                    level = log.warning if isinstance(e, RuntimeFault) else log.exception
                    level("pod_sync_failed", pod=self.name, error=str(e))
                    wake_at_s = self.context.now() + FAULT_RETRY_S
        finally:
            await self.probers.stop()
            await self.work.stop()

    @property
    def active(self) -> bool:
        """Whether the pod uses, or will use, the node's resources."""
        return not self.memory.terminal and self.memory.ending is None

    @property
    def status(self) -> Obj:
        """The pod's status as it was reported last."""
        return self._reported or self.pod.get("status") or {}

    @property
    def name(self) -> str:
        return f"{self.pod['metadata']['namespace']}/{self.pod['metadata']['name']}"

    async def _wait(self, wake_at_s: float | None) -> None:
        if wake_at_s is None:
            await self._wake.wait()
        else:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, wake_at_s - self.context.now())):
                    await self._wake.wait()
        self._wake.clear()

    async def _sync(self) -> float | None:
        await self._look()
        memory = self.memory
        memory.verdicts = self.probers.verdicts
        memory.backoffs = self.work.backoffs
        memory.waiting = self.work.waiting
        memory.busy = self.work.busy
        memory.applied = self.work.applied
        decision = podstate.decide(self.pod, self.observed, memory, self.context.now())
        if decision.ending is not None and memory.ending is None:
            self.memory.ending = decision.ending
            self.context.recorder.pod(self.pod, "Normal", decision.ending.reason, decision.ending.message)
        self.probers.update(self.pod, self.observed, decision.terminating)
        self._tell_holds(decision)
        self._tell_resized()
        # Reported before it is carried out: a status that shows what was found costs nobody a wait.
        self._report(decision)
        self.work.carry_out(decision)
        if decision.finished:
            await self._finish()
        return decision.wake_at_s

    async def _look(self) -> None:
        dirty, self._dirty = self._dirty, set()
        for id_ in dirty:
            try:
                if id_ in self.sandboxes:
                    self.sandboxes[id_] = await self.context.runtime.sandbox_status(id_)
                else:
                    await self._look_at_container(id_)
            except NotFound:
                self.sandboxes.pop(id_, None)
                self.records.pop(id_, None)
            except RuntimeFault:
                self._dirty.add(id_)
                raise
        self.observed = Observed.of(self.sandboxes.values(), self.records.values())
        self.looked.set()
        self.looked = asyncio.Event()

    async def _look_at_container(self, id_: str) -> None:
        record = record_of(await self.context.runtime.container_status(id_))
        if record.exited and not self.context.options.simulated:
            known = self.records.get(id_)
            if known is not None and known.exited:
                record = replace(record, message=known.message)
            else:
                file = self.context.message_path(self.uid, record.name, record.restarts)
                log_file = self.context.log_dir(self.pod) / record.name / f"{record.restarts}.log"
                own = await asyncio.to_thread(messages.read, record, file, log_file)
                record = replace(record, message=": ".join(text for text in (record.message, own) if text))
        self.records[id_] = record

    def _tell_holds(self, decision: Decision) -> None:
        meta = self.pod["metadata"]
        for name in decision.holds:
            record = self.observed.newest(name)
            key = (name, record.id if record else "")
            if key in self._told:
                continue
            self._told.add(key)
            where = f"{meta['name']}_{meta['namespace']}({meta['uid']})"
            text = f"Back-off restarting failed container {name} in pod {where}"
            self.context.recorder.pod(self.pod, "Warning", "BackOff", text, field_path(self.pod, name))

    def _report(self, decision: Decision) -> None:
        if self._orphaned:
            return
        recursive = containers.handler_of(self.context, self.pod).recursive_readonly
        place = Place(self.context.options.runtime_name, self.context.host_ips, recursive)
        now_s = self.context.now()
        status = podstatus.status_of(self.pod, self.observed, self.memory, decision, self.status, place, now_s)
        if status["phase"] in TERMINAL:
            self.memory.terminal = True
        if status != self._reported:
            self._reported = status
            self.context.report(self.pod, status, False)

    async def _finish(self) -> None:
        """Nothing runs and nothing will: gives back what the pod had; and once it is deleted, says so and leaves."""
        deleted = "deletionTimestamp" in self.pod["metadata"]
        await self.work.clean(everything=deleted)
        self.ended.set()
        if not deleted:
            return
        if not self._orphaned and self._reported is not None:
            self.context.report(self.pod, self._reported, True)
        self._finished = True
        self._gone(self.uid)


def _acted_on(pod: Obj) -> tuple[object, ...]:
    """What of a pod the agent acts on, and what of its status it takes over: the rest of its status is the agent's own."""
    meta = pod["metadata"]
    theirs = [c for c in (pod.get("status") or {}).get("conditions") or () if c["type"] not in pods.NODE_CONDITIONS]
    return (
        meta.get("generation"),
        meta.get("deletionTimestamp"),
        meta.get("deletionGracePeriodSeconds"),
        meta.get("labels"),
        meta.get("annotations"),
        pod["spec"],
        theirs,
    )
