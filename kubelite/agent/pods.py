"""The pods of a node: a worker for each, and what must be told to which.

Owns the picture of the runtime as a whole: it hands runtime events to the workers, lists everything now and then in case an event
was lost, and ends what the runtime has of pods that the API no longer knows.
"""

import asyncio
import contextlib
import math
from collections import defaultdict

import structlog

from kubelite.agent import admission, resources
from kubelite.agent import observation as keys
from kubelite.agent.context import Context
from kubelite.agent.sync import PodWorker
from kubelite.meta import times
from kubelite.meta.types import Obj
from runtimes.interface import Container, RuntimeFault, Sandbox

log = structlog.get_logger()

EVENTS_RETRY_S = 1.0
REFERENCED = ("configmaps", "secrets", "persistentvolumeclaims", "persistentvolumes")


class Pods:
    """All workers."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._workers: dict[str, PodWorker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None
        #: What the runtime had when the agent started, by pod uid, until a worker takes it.
        self._found: dict[str, tuple[list[Sandbox], list[Container]]] = {}
        #: Deleted pods that have ended here while something else, a finalizer, keeps them in the API.
        self._ended: set[str] = set()
        self.ready = asyncio.Event()

    def worker(self, namespace: str, name: str, uid: str = "") -> PodWorker | None:
        """The worker of a pod; of its uid where that is given."""
        if uid:
            return self._workers.get(uid)
        for worker in self._workers.values():
            meta = worker.pod["metadata"]
            if meta["name"] == name and meta["namespace"] == namespace:
                return worker
        return None

    def all(self) -> list[PodWorker]:
        return list(self._workers.values())

    # What the session brings.

    def changed(self, resource: str, old: Obj | None, new: Obj | None) -> None:
        """A handler of `Objects`."""
        if resource == "pods":
            self._pod_changed(old, new)
        elif resource in REFERENCED:
            meta = (new or old or {})["metadata"]
            for worker in self._workers.values():
                if meta.get("namespace", "") in ("", worker.pod["metadata"]["namespace"]):
                    worker.object_changed(resource, meta["name"])

    def _pod_changed(self, old: Obj | None, new: Obj | None) -> None:
        if new is None:
            self._ended.discard((old or {})["metadata"]["uid"])
            worker = self._workers.get((old or {})["metadata"]["uid"])
            if worker is not None:
                worker.removed()
            return
        worker = self._workers.get(new["metadata"]["uid"])
        if worker is not None:
            worker.changed(new)
            if worker.wants_resize:
                self._resize()
            else:
                worker.resize(None)
        elif self._group is not None and new["metadata"]["uid"] not in self._ended:
            self._add(new)

    def _add(self, pod: Obj, *, adopted: bool = False) -> PodWorker:
        uid = pod["metadata"]["uid"]
        worker = PodWorker(self._context, pod, self._gone)
        self._workers[uid] = worker
        sandboxes, containers = self._found.pop(uid, ([], []))
        if sandboxes or containers:
            worker.found(sandboxes, containers)
        elif not adopted and not worker.memory.terminal and "deletionTimestamp" not in pod["metadata"]:
            refusal = admission.check(
                self._context, pod, [w.claim for w in self._workers.values() if w.active and w is not worker]
            )
            if refusal is not None:
                worker.refuse(*refusal)
        assert self._group is not None
        task = self._group.create_task(worker.run(), name=f"pod {worker.name}")
        self._tasks[uid] = task
        task.add_done_callback(lambda _: self._tasks.pop(uid, None))
        return worker

    def _resize(self) -> None:
        """Gives pods what they ask for where the node has it now: first those that ask for no more, then by their importance."""
        waiting = [worker for worker in self._workers.values() if worker.wants_resize]
        for worker in sorted(waiting, key=_urgency):
            others = [w.claim for w in self._workers.values() if w.active and w is not worker]
            worker.resize(admission.check_resize(self._context, worker.wish, others))

    def _gone(self, uid: str) -> None:
        worker = self._workers.pop(uid, None)
        if worker is None:
            return
        self._resize()
        meta = worker.pod["metadata"]
        present = self._context.objects.get("pods", meta["name"], meta["namespace"])
        if present is not None and present["metadata"]["uid"] == uid:
            self._ended.add(uid)

    def synced(self) -> None:
        """The session has brought everything: what the runtime has beyond it belongs to pods that were deleted meanwhile."""
        for uid, (sandboxes, containers) in list(self._found.items()):
            log.info("orphan_pod_ends", uid=uid, sandboxes=len(sandboxes), containers=len(containers))
            worker = self._add(_stand_in(uid, sandboxes, containers), adopted=True)
            worker.removed()
        if not self._context.options.simulated and self._group is not None:
            self._group.create_task(self._remove_directories(), name="directories of pods that are gone")

    async def _remove_directories(self) -> None:
        """Directories of pods that ended while no agent ran."""
        for uid in await self._context.volumes.pods_on_disk():
            if uid not in self._workers:
                await self._context.volumes.remove(uid)

    # The loop.

    async def run(self) -> None:
        """Keeps every pod of `Objects` as it should be, until cancelled. Containers go on running after it."""
        await self._find()
        async with asyncio.TaskGroup() as group:
            self._group = group
            self._context.objects.subscribe(self.changed)
            self.ready.set()
            group.create_task(self._follow_events(), name="runtime events")
            try:
                while True:
                    await asyncio.sleep(self._context.options.resync_s)
                    await self._resync()
            finally:
                self._group = None
                for task in self._tasks.values():
                    task.cancel()

    async def _find(self) -> None:
        while True:
            try:
                sandboxes, containers = await self._listed()
                break
            except RuntimeFault as e:
                log.warning("runtime_not_listed", error=str(e), again_in_s=EVENTS_RETRY_S)
                await asyncio.sleep(EVENTS_RETRY_S)
        for uid in {*sandboxes, *containers}:
            self._found[uid] = (sandboxes[uid], containers[uid])

    async def _listed(self) -> tuple[dict[str, list[Sandbox]], dict[str, list[Container]]]:
        """What the runtime has of this node's pods, by their uid."""
        own = self._context.options.node_name
        sandboxes: dict[str, list[Sandbox]] = defaultdict(list)
        containers: dict[str, list[Container]] = defaultdict(list)
        for sandbox in await self._context.runtime.list_sandboxes():
            if sandbox.labels.get(keys.NODE_LABEL) == own:
                sandboxes[sandbox.labels.get(keys.POD_UID_LABEL, sandbox.uid)].append(sandbox)
        for container in await self._context.runtime.list_containers():
            if container.labels.get(keys.NODE_LABEL) == own:
                containers[container.labels.get(keys.POD_UID_LABEL, "")].append(container)
        return sandboxes, containers

    async def _follow_events(self) -> None:
        while True:
            try:
                async for event in self._context.runtime.events():
                    for worker in self._workers.values():
                        if event.sandbox_id in worker.sandboxes or event.container_id in worker.records:
                            worker.happened(event)
                            break
            except RuntimeFault as e:
                log.warning("runtime_events_lost", error=str(e), again_in_s=EVENTS_RETRY_S)
            await asyncio.sleep(EVENTS_RETRY_S)
            with contextlib.suppress(RuntimeFault):
                await self._resync()

    async def _resync(self) -> None:
        """Compares the runtime's list with what the workers know."""
        try:
            sandboxes, containers = await self._listed()
        except RuntimeFault as e:
            log.warning("runtime_not_listed", error=str(e))
            return
        for uid, worker in self._workers.items():
            worker.resync(sandboxes.get(uid, []), containers.get(uid, []))
        self._resize()


def _urgency(worker: PodWorker) -> tuple[bool, int, bool, float]:
    """The order in which pods that wait for other resources are looked at."""
    wanted, taken = admission.requests_of(worker.wish), worker.claim.requests
    grows = any(amount > taken.get(name, 0) for name, amount in wanted.items())
    since_s = worker.memory.resize.pending.since_s if worker.memory.resize.pending else math.inf
    important = resources.qos_class(worker.wish) == "Guaranteed"
    return grows, -(worker.wish["spec"].get("priority") or 0), not important, since_s


def _stand_in(uid: str, sandboxes: list[Sandbox], containers: list[Container]) -> Obj:
    """A pod for what the runtime has of one that is gone: enough to end it with its own grace and hooks."""
    import orjson

    labels = (sandboxes or containers)[0].labels
    grace_s = 2
    specs: list[Obj] = []
    for container in containers:
        grace_s = int(container.annotations.get(keys.GRACE_ANNOTATION, grace_s))
        spec: Obj = {"name": container.labels.get(keys.CONTAINER_NAME_LABEL, container.name), "image": container.image}
        if hook := container.annotations.get(keys.PRE_STOP_ANNOTATION):
            spec["lifecycle"] = {"preStop": orjson.loads(hook)}
        if all(s["name"] != spec["name"] for s in specs):
            specs.append(spec)
    meta = {
        "name": labels.get(keys.POD_NAME_LABEL, uid),
        "namespace": labels.get(keys.POD_NAMESPACE_LABEL, "default"),
        "uid": uid,
        "deletionTimestamp": times.now(),
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta,
        "spec": {"containers": specs, "restartPolicy": "Never", "terminationGracePeriodSeconds": grace_s},
        "status": {},
    }
