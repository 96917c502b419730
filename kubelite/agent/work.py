"""Carries a pod's decisions out: makes and stops sandboxes, starts containers in order, resizes them. `ends` kills them.

Each piece of work is a task of the pod's worker, named by the container (or SANDBOX) that it keeps busy; when it ends the worker
is woken and decides again. Nothing here decides anything.
"""

import asyncio
import contextlib
import shutil
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from kubelite.agent import containers, faults, hooks, hosts, logs, podstate, resources
from kubelite.agent.ends import Ends
from kubelite.agent.events import field_path
from kubelite.agent.faults import ConfigFault, StartFault
from kubelite.agent.observation import Record
from kubelite.agent.podstate import MINIMUM_GRACE_S, SANDBOX, Backoff, Decision, Start, Waiting, container_of
from kubelite.agent.volumes.volumes import Prepared
from kubelite.meta import quantities
from kubelite.meta.types import Obj
from runtimes.interface import ContainerConfig, Image, RuntimeFault, SandboxConfig

if TYPE_CHECKING:
    from kubelite.agent.sync import PodWorker

log = structlog.get_logger()

FIRST_RETRY_S = 0.5
LAST_RETRY_S = 122.0
LAST_FAILURE_RETRY_S = 10.0
#: How long a missing object may take to arrive before a mount counts as failed.
PATIENCE_S = 0.3
IMAGE_REASONS = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError")


class Work:
    """What is under way for one pod."""

    def __init__(self, worker: "PodWorker") -> None:
        self._worker = worker
        self._context = worker.context
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._chains: set[asyncio.Task[None]] = set()
        self._starting: dict[str, Start] = {}
        self._images: dict[str, asyncio.Task[Image]] = {}
        self._volumes: dict[str, Prepared] | None = None
        #: Whether the pod has begun, so that its volumes are kept up to date.
        self._has_volumes = False
        self._refresh: asyncio.Task[None] | None = None
        self._retries: dict[str, float] = {}
        self._failures: dict[str, float] = {}
        self._others: set[asyncio.Task[None]] = set()
        self._cleaned = False
        self.ends = Ends(worker, self._also)
        self.backoffs: dict[str, Backoff] = {}
        self.waiting: dict[str, Waiting] = {}
        #: The resources that containers have, by their id.
        self.applied: dict[str, Obj] = {}

    @property
    def pod(self) -> Obj:
        return self._worker.pod

    @property
    def busy(self) -> frozenset[str]:
        return frozenset((*self._tasks, *self._starting))

    @property
    def volumes(self) -> Mapping[str, Prepared]:
        """The volumes that are there, by name."""
        return self._volumes or {}

    def carry_out(self, decision: Decision) -> None:
        if decision.terminating:
            for chain in self._chains:
                chain.cancel()
        for kill in decision.kills:
            self._run(kill.record.name, self.ends.kill(kill))
        for record in decision.resizes:
            self._run(record.name, self._resize(record))
        if decision.stop_sandboxes:
            self._run(SANDBOX, self._stop_sandboxes(decision.stop_sandboxes))
        elif decision.create_sandbox is not None:
            self._run(SANDBOX, self._create_sandbox(decision.create_sandbox))
        starts = [s for s in decision.starts if s.name not in self.busy]
        if starts and not decision.terminating:
            self._start_all(starts)

    def retry(self) -> None:
        """Something that was missing may be there now: what waits for it may start at once."""
        for name, waiting in list(self.waiting.items()):
            if waiting.reason in ("", "CreateContainerConfigError") and name != SANDBOX:
                del self.waiting[name]
        self._retries.pop("/volumes", None)

    def changed(self, old: Obj) -> None:
        """The pod's spec is a new one: what could not be started may start at once where its own part of the spec changed."""
        before = {container["name"]: container for container, _ in podstate.all_containers(old)}
        for container, _ in podstate.all_containers(self.pod):
            if before.get(container["name"]) != container:
                self.waiting.pop(container["name"], None)
                if (task := self._images.pop(container["name"], None)) is not None:
                    task.cancel()

    async def stop(self) -> None:
        """Ends all work without undoing any: containers stay as they are."""
        tasks: list[asyncio.Task[Any]] = [*self._tasks.values(), *self._images.values(), *self._others, *self._chains]
        tasks += [] if self._refresh is None else [self._refresh]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _run(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(self._guarded(name, work), name=f"{name} of {self._worker.name}")
        self._tasks[name] = task

    def _also(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(self._guarded("", work), name=f"extra work for {self._worker.name}")
        self._others.add(task)
        task.add_done_callback(self._others.discard)
        return task

    async def _guarded(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
            self._failures.pop(name, None)
        except Exception as e:  # noqa: BLE001 - a supervisor: what failed is told and tried again, the agent goes on
            delay_s = self._failures[name] = min(self._failures.get(name, FIRST_RETRY_S / 2) * 2, LAST_FAILURE_RETRY_S)
            self._log_failure(name, e, delay_s)
            # What it was about stays busy meanwhile: a runtime that does not answer must not be asked in a busy loop.
            await asyncio.sleep(delay_s)
        finally:
            if name:
                self._tasks.pop(name, None)
            self._worker.wake()

    def _log_failure(self, what: str, error: Exception, delay_s: float) -> None:
        level = log.warning if isinstance(error, RuntimeFault | OSError) else log.exception
        level("pod_work_failed", pod=self._worker.name, what=what, error=str(error), again_in_s=delay_s)

    def _wait_for(self, name: str, reason: str, message: str) -> None:
        delay_s = min(self._retries.get(name, FIRST_RETRY_S / 2) * 2, LAST_RETRY_S)
        self._retries[name] = delay_s
        self.waiting[name] = Waiting(reason, message, self._context.now() + delay_s)

    # The sandbox.

    async def _create_sandbox(self, attempt: int) -> None:
        context, pod = self._context, self.pod
        if attempt and self._worker.observed.sandboxes:
            context.recorder.pod(pod, "Normal", "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.")
        self._prefetch()
        try:
            if context.options.simulated:
                config = containers.sandbox_config(context, pod, attempt)
            else:
                config, dns_faults = await asyncio.to_thread(self._prepare_sandbox, attempt)
                for text in dns_faults:
                    context.recorder.pod(pod, "Warning", "DNSConfigForming", text)
            # The volumes are made meanwhile; whoever starts first waits for them.
            self.refresh_volumes(first=True)
            # A sandbox that is being made when the agent stops must be found by the next one, not half made.
            async with context.sandbox_slots:
                id_ = await _to_the_end(context.runtime.run_sandbox(config))
            self._worker.sandboxes[id_] = await context.runtime.sandbox_status(id_)
        except (RuntimeFault, ConfigFault) as e:
            if "deletionTimestamp" not in self.pod["metadata"]:
                text = f"Failed to create pod sandbox: {e.described if isinstance(e, RuntimeFault) else e}"
                context.recorder.pod(pod, "Warning", "FailedCreatePodSandBox", text)
            self._wait_for(SANDBOX, "", str(e))
            return
        self.waiting.pop(SANDBOX, None)
        self._retries.pop(SANDBOX, None)

    def _prepare_sandbox(self, attempt: int) -> tuple[SandboxConfig, list[str]]:
        """The sandbox's configuration, with the cgroup and the directory that it names made; what of its resolver is left out."""
        config = containers.sandbox_config(self._context, self.pod, attempt)
        self._context.cgroups.ensure(self.pod)
        self._context.log_dir(self.pod).mkdir(parents=True, exist_ok=True)
        return config, hosts.dns_faults(self.pod, self._context.dns)

    async def _stop_sandboxes(self, ids: tuple[str, ...]) -> None:
        for id_ in ids:
            with self.ends.told_of_failing("KillPodSandbox", self._worker.uid):
                await self._context.runtime.stop_sandbox(id_)
            self._worker.look_at(id_)

    def _prefetch(self) -> None:
        """Has the images of what starts first pulled while the sandbox is made."""
        spec = self.pod["spec"]
        first = (spec.get("initContainers") or spec["containers"])[: 1 if spec.get("initContainers") else None]
        for container in first:
            if container["name"] not in self._images and self._worker.observed.newest(container["name"]) is None:
                task = asyncio.create_task(self._ensure_image(container), name=f"image of {container['name']}")
                task.add_done_callback(_retrieve)
                self._images[container["name"]] = task

    async def _ensure_image(self, container: Obj) -> Image:
        meta, spec = self.pod["metadata"], self.pod["spec"]
        names = [ref["name"] for ref in spec.get("imagePullSecrets") or () if ref.get("name")]
        found = {name: self._context.objects.get("secrets", name, meta["namespace"]) for name in names}
        if missing := [name for name, secret in found.items() if secret is None]:
            text = f"Unable to retrieve some image pull secrets ({', '.join(missing)})"
            text += "; attempting to pull the image may not succeed."
            self._context.recorder.pod(self.pod, "Warning", "FailedToRetrieveImagePullSecret", text)
        return await self._context.images.ensure(self.pod, container, [s for s in found.values() if s is not None])

    # Volumes.

    def refresh_volumes(self, first: bool = False) -> None:
        """Makes the volumes, or brings them up to date; at most one such run at a time and one after it."""
        self._has_volumes = self._has_volumes or first
        if not self._has_volumes or self._cleaned:
            return
        before = self._refresh
        if before is not None and not before.done() and first:
            return

        async def refresh() -> None:
            if before is not None:
                await asyncio.wait([before])
            try:
                self._volumes = await self._prepare_volumes()
            except ConfigFault as e:
                if self._volumes is not None:
                    log.info("volumes_not_refreshed", pod=self._worker.name, error=str(e))

        self._refresh = asyncio.create_task(refresh(), name=f"volumes of {self._worker.name}")

    async def _prepare_volumes(self) -> dict[str, Prepared]:
        if self._context.options.simulated:
            return {v["name"]: Prepared(Path("/")) for v in self.pod["spec"].get("volumes") or ()}
        return await self._context.volumes.prepare(self.pod)

    async def _ready_volumes(self) -> dict[str, Prepared]:
        """The volumes, made if need be. Raises StartFault (with no reason to show) while one can't be."""
        if self._refresh is not None and not self._refresh.done():
            await asyncio.wait([self._refresh])
        if self._volumes is not None:
            return self._volumes
        for patience_s in (PATIENCE_S, 0.0):
            try:
                self._volumes = await self._prepare_volumes()
                return self._volumes
            except ConfigFault as e:
                fault = e
                await asyncio.sleep(patience_s)
        self._context.recorder.pod(self.pod, "Warning", "FailedMount", str(fault))
        self._wait_for("/volumes", "", str(fault))
        raise StartFault("", str(fault), self.waiting.pop("/volumes").retry_at_s)

    # Starting.

    def _start_all(self, starts: list[Start]) -> None:
        """Starts containers one after the other, as their order in the spec promises."""
        for start in starts:
            self._starting[start.name] = start

        async def run() -> None:
            try:
                for start in starts:
                    await self._start(start)
            finally:
                for start in starts:
                    if self._starting.get(start.name) is start:
                        del self._starting[start.name]
                self._worker.wake()

        chain = asyncio.create_task(run(), name=f"starts of {self._worker.name}")
        self._chains.add(chain)
        chain.add_done_callback(self._chains.discard)
        chain.add_done_callback(_retrieve)

    async def _start(self, start: Start) -> None:
        """Starts one container; a failure becomes its waiting reason, and the next in the chain goes on."""
        name = start.name
        found = container_of(self.pod, name)
        try:
            if found is not None:
                await self._start_container(start, found[0])
                self.waiting.pop(name, None)
                self._retries.pop(name, None)
        except StartFault as e:
            self.waiting[name] = e.waiting
            if e.reason in IMAGE_REASONS:
                text = f"Error: {e.reason}"
                self._context.recorder.pod(self.pod, "Warning", "Failed", text, field_path(self.pod, name))
        except Exception as e:  # noqa: BLE001 - a supervisor: what failed is told and tried again, the agent goes on
            self._log_failure(name, e, faults.RETRY_S)
            self.waiting[name] = Waiting("", str(e), self._context.now() + faults.RETRY_S)
        finally:
            if self._starting.get(name) is start:
                del self._starting[name]
            self._worker.wake()

    async def _start_container(self, start: Start, container: Obj) -> None:
        context, pod, worker = self._context, self.pod, self._worker
        path = field_path(pod, start.name)
        task = self._images.pop(start.name, None)
        image = await (self._ensure_image(container) if task is None else task)
        volumes = await self._ready_volumes()
        sandbox = worker.observed.active
        if sandbox is None:
            raise StartFault("", "the pod's sandbox went away", context.now())
        retry_at_s = context.now() + faults.RETRY_S
        try:
            target_id = self._target(container)
            ips = context.host_ips if pod["spec"].get("hostNetwork") else sandbox.ips

            def configure() -> tuple[ContainerConfig, SandboxConfig]:
                counted = start
                if not context.options.simulated:
                    # The pod may have been given other resources since its cgroup was made.
                    context.cgroups.ensure(pod)
                    logs_dir = context.log_dir(pod) / start.name
                    logs_dir.mkdir(parents=True, exist_ok=True)
                    # A runtime that lost its containers must not make their logs and counts begin anew.
                    counted = replace(start, restarts=max(start.restarts, logs.next_number(logs_dir)))
                config = containers.container_config(context, pod, container, counted, image, volumes, ips, target_id)
                return config, containers.sandbox_config(context, pod, sandbox.attempt)

            # A thread costs more than a simulated pod's configuration, which touches no file.
            config, sandbox_config = configure() if context.options.simulated else await asyncio.to_thread(configure)
        except (ConfigFault, OSError) as e:
            context.recorder.pod(pod, "Warning", "Failed", f"Error: {e}", path)
            raise StartFault("CreateContainerConfigError", str(e), retry_at_s) from e
        try:
            id_ = await _to_the_end(context.runtime.create_container(sandbox.id, config, sandbox_config))
        except RuntimeFault as e:
            context.recorder.pod(pod, "Warning", "Failed", f"Error: {e}", path)
            raise StartFault("CreateContainerError", str(e), retry_at_s) from e
        context.recorder.pod(pod, "Normal", "Created", f"Created container: {start.name}", path)
        self.backoffs[start.name] = start.backoff
        self.applied[id_] = container.get("resources") or {}
        try:
            await _to_the_end(context.runtime.start_container(id_))
        except RuntimeFault as e:
            context.recorder.pod(pod, "Warning", "Failed", f"Error: {e}", path)
            raise StartFault("RunContainerError", str(e), context.now() + MINIMUM_GRACE_S) from e
        finally:
            worker.look_at(id_)
        context.recorder.pod(pod, "Normal", "Started", f"Started container {start.name}", path)
        await self._post_start(container, id_, ips)
        await self._prune(start.name)

    def _target(self, container: Obj) -> str:
        name = container.get("targetContainerName")
        if not name:
            return ""
        record = self._worker.observed.newest(name)
        if record is None or not record.running:
            raise ConfigFault(f"unable to find target container {name}")
        return record.id

    async def _post_start(self, container: Obj, id_: str, ips: tuple[str, ...]) -> None:
        hook = (container.get("lifecycle") or {}).get("postStart")
        if hook is None:
            return
        context, name, meta = self._context, container["name"], self.pod["metadata"]
        try:
            await self.ends.run_hook(hook, container, id_, ips)
        except hooks.HookFault as e:
            path = field_path(self.pod, name)
            context.recorder.pod(self.pod, "Warning", "FailedPostStartHook", "PostStartHook failed", path)
            await self.ends.end(name, id_, container, podstate.grace_of(self.pod, container, ""), "FailedPostStartHook")
            where = f'Container "{name}" in Pod "{meta["name"]}_{meta["namespace"]}({meta["uid"]})"'
            raise StartFault("PostStartHookError", f"{hooks.what(hook)} for {where} failed - error: {e}", context.now()) from e

    async def _prune(self, name: str) -> None:
        """Of a container that was restarted only the last ended one is kept, with its log."""
        records = sorted((r for r in self._worker.records.values() if r.name == name), key=lambda r: -r.created_at_ns)
        ended = [r for r in records if r.exited]
        for record in ended[1:]:
            with contextlib.suppress(RuntimeFault):  # tried again after the next restart
                await self._context.runtime.remove_container(record.id)
                self._worker.records.pop(record.id, None)
                self.applied.pop(record.id, None)
                if not self._context.options.simulated:
                    await asyncio.to_thread(logs.remove, self._context.log_dir(self.pod) / name, record.restarts)

    # Resizing.

    async def _resize(self, record: Record) -> None:
        """Gives a running container the limits that its spec has now, the pod's cgroup too: first the one that grows."""
        context, pod = self._context, self.pod
        found = container_of(pod, record.name)
        if found is None:
            return
        container = found[0]
        if not context.options.simulated:
            await asyncio.to_thread(context.cgroups.ensure, pod)
        limits = resources.of_container(pod, container, context.memory_bytes)
        try:
            await self._check_shrinks(record, limits.memory_limit_bytes)
            await context.runtime.update_container_resources(record.id, limits)
        except RuntimeFault as e:
            self._worker.resize_failed(str(e))
            raise
        if not context.options.simulated:
            # Shrinking works only once no container needs more.
            await asyncio.to_thread(context.cgroups.ensure, pod)
        self.applied[record.id] = container.get("resources") or {}

    async def _check_shrinks(self, record: Record, limit_bytes: int) -> None:
        """A container is not given less memory than it uses, which would end it. Raises RuntimeFault."""
        before = resources.limits_of({"resources": self.applied.get(record.id)}).get("memory")
        if not limit_bytes or (before is not None and limit_bytes >= quantities.value(before)):
            return
        for stats in await self._context.runtime.container_stats():
            if stats.container_id == record.id and stats.memory_usage_bytes >= limit_bytes:
                text = f'attempting to set container "{record.name}" memory limit ({limit_bytes}) below current usage'
                raise RuntimeFault(f"cannot decrease memory limits: {text} ({stats.memory_usage_bytes})")

    # The end.

    async def clean(self, everything: bool) -> None:
        """Gives back volumes and cgroup once nothing runs; with `everything` also sandboxes, containers, logs and directory."""
        context = self._context
        uid = self._worker.uid
        if not self._cleaned:
            self._cleaned = True
            for task in (self._refresh, *self._images.values()):
                if task is not None and not task.done():
                    task.cancel()
            context.images.forget(uid)
            context.tokens.forget(uid)
            if not context.options.simulated:
                await context.volumes.remove(uid, keep_directory=not everything)
                await asyncio.to_thread(context.cgroups.remove, uid)
        elif everything and not context.options.simulated:
            await context.volumes.remove(uid, keep_directory=False)
        if everything:
            for id_ in list(self._worker.sandboxes):
                await context.runtime.remove_sandbox(id_)
            if not context.options.simulated:
                # Again: the runtime has taken its own below it away by now.
                await asyncio.to_thread(context.cgroups.remove, uid)
                await asyncio.to_thread(shutil.rmtree, context.log_dir(self.pod), ignore_errors=True)


async def _to_the_end(call: Coroutine[Any, Any, Any]) -> Any:
    """Awaits a runtime call that must not be left half done: a cancellation waits for its end first."""
    task = asyncio.ensure_future(call)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if not task.done():
            await asyncio.wait([task])
        _retrieve(task)
        raise


def _retrieve(task: "asyncio.Task[Any]") -> None:
    """Looks at a task's outcome so that nobody warns that no one did; its failures have been told where they happened."""
    if not task.cancelled():
        task.exception()
