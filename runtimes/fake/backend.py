"""A runtime that only simulates: no process is started, and a sandbox costs a kilobyte.

What a container does is read from its command: `sleep 5` ends after 5 s, `true` at once, `sh -c "echo hi; exit 3"` logs a
line and ends with 3; anything else runs until it is stopped. Settings (`BackendOptions.settings`):

`run_sandbox_s`, `create_s`, `start_s`, `stop_s`, `pull_s`   how long each verb takes (default 0)
`faults`        verb -> message, raised each time; or a callable (verb, subject) -> exception or None, asked at every call
`missing_images`  substrings of references that cannot be pulled
`pod_cidr`      where sandboxes' addresses come from (default 10.88.0.0/16; `use_pod_cidr` changes it later)
`logs`          whether log files are written (default True)
`layer_bytes`   what each container's writable layer takes up (default 0)
`ports`         ports on which every sandbox listens; what is written to one comes back

The simulation knows its clock only through the event loop, so that tests may fake time.
"""

import asyncio
import hashlib
import ipaddress
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from runtimes import archives, references
from runtimes import interface as to
from runtimes.fake.commands import Behaviour, behaviour_of
from runtimes.fake.streams import Echo, FakeStream
from runtimes.interface import BackendOptions, ContainerState, ImagePullFault, NotFound, RuntimeFault, SandboxState

_KILLED, _TERMINATED = 137, 143
_QUEUE = 4096


@dataclass(slots=True)
class _Sandbox:
    config: to.SandboxConfig
    created_at_ns: int
    ip: str
    ready: bool = True
    containers: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Container:
    sandbox_id: str
    config: to.ContainerConfig
    image_ref: str
    log_path: str
    created_at_ns: int
    state: ContainerState = ContainerState.CREATED
    started_at_ns: int = 0
    finished_at_ns: int = 0
    exit_code: int = 0
    reason: str = ""
    timer: asyncio.TimerHandle | None = None
    resources: to.Resources = field(default_factory=to.Resources)
    attached: list[FakeStream] = field(default_factory=list)


class Backend:
    """Implements `runtimes.interface.Runtime`."""

    name: ClassVar[str] = "fake"

    def __init__(self, options: BackendOptions) -> None:
        self._options = options
        self._settings: dict[str, Any] = dict(options.settings)
        self._sandboxes: dict[str, _Sandbox] = {}
        self._containers: dict[str, _Container] = {}
        self._images: dict[str, to.Image] = {}
        self._listeners: set[asyncio.Queue[to.RuntimeEvent]] = set()
        self._serial = 0
        self._addresses: Iterator[str] = iter(())
        self._used: set[str] = set()
        self.use_pod_cidr(str(self._settings.get("pod_cidr", "10.88.0.0/16")))

    @classmethod
    def missing(cls, options: BackendOptions) -> Sequence[str]:
        return []

    def use_pod_cidr(self, cidr: str) -> None:
        """Sandboxes made from now on get addresses of this range."""
        self._network = ipaddress.ip_network(cidr)
        self._addresses = self._cycle()

    def set(self, **settings: Any) -> None:
        """Changes settings while it runs."""
        self._settings.update(settings)

    async def start(self) -> None:
        await self._doing("start", "")

    async def stop(self) -> None:
        return

    async def end_idle(self) -> None:
        return  # there is no daemon

    async def info(self) -> to.RuntimeInfo:
        await self._doing("info", "")
        conditions = (to.Condition("RuntimeReady", True), to.Condition("NetworkReady", True))
        return to.RuntimeInfo("fake", "1.0", conditions)

    # sandboxes

    async def run_sandbox(self, config: to.SandboxConfig) -> str:
        await self._doing("run_sandbox", config.name)
        sandbox_id = self._new_id()
        ip = "" if config.security.network == to.NamespaceMode.NODE else self._address()
        self._sandboxes[sandbox_id] = _Sandbox(config, time.time_ns(), ip)
        self._emit(sandbox_id, sandbox_id, "started")
        return sandbox_id

    async def stop_sandbox(self, sandbox_id: str) -> None:
        await self._doing("stop_sandbox", sandbox_id)
        sandbox = self._sandboxes.get(sandbox_id)
        if sandbox is None or not sandbox.ready:
            return
        for container_id in list(sandbox.containers):
            self._end(container_id, _KILLED)
        sandbox.ready = False
        self._used.discard(sandbox.ip)
        self._emit(sandbox_id, sandbox_id, "stopped")

    async def remove_sandbox(self, sandbox_id: str) -> None:
        await self.stop_sandbox(sandbox_id)
        sandbox = self._sandboxes.pop(sandbox_id, None)
        if sandbox is not None:
            for container_id in sandbox.containers:
                self._containers.pop(container_id, None)
            self._emit(sandbox_id, sandbox_id, "deleted")

    async def sandbox_status(self, sandbox_id: str) -> to.Sandbox:
        await self._doing("sandbox_status", sandbox_id)
        sandbox = self._sandbox(sandbox_id)
        shown = self._shown_sandbox(sandbox_id, sandbox)
        return replace(shown, ips=(sandbox.ip,)) if sandbox.ip and sandbox.ready else shown

    async def list_sandboxes(self) -> Sequence[to.Sandbox]:
        await self._doing("list_sandboxes", "")
        return [self._shown_sandbox(sandbox_id, sandbox) for sandbox_id, sandbox in self._sandboxes.items()]

    # containers

    async def create_container(self, sandbox_id: str, config: to.ContainerConfig, sandbox: to.SandboxConfig) -> str:
        await self._doing("create_container", config.name)
        owner = self._sandbox(sandbox_id)
        if not owner.ready:
            raise RuntimeFault(f"sandbox {sandbox_id!r} is not running")
        image = self._find_image(config.image)
        if image is None:
            raise NotFound(f"failed to resolve image {config.image!r}: not found")
        container_id = self._new_id()
        log_path = os.path.join(sandbox.log_directory, config.log_path) if config.log_path and sandbox.log_directory else ""
        self._containers[container_id] = _Container(
            sandbox_id, config, image.id, log_path, time.time_ns(), resources=config.resources
        )
        owner.containers.add(container_id)
        self._emit(sandbox_id, container_id, "created")
        return container_id

    async def start_container(self, container_id: str) -> None:
        await self._doing("start_container", self._container(container_id).config.name)
        container = self._container(container_id)
        if container.state != ContainerState.CREATED:
            raise RuntimeFault(f"container {container_id!r} is in {container.state} state")
        container.state, container.started_at_ns = ContainerState.RUNNING, time.time_ns()
        command = (*container.config.command, *container.config.args)
        behaviour = behaviour_of(command, dict(container.config.env)) or Behaviour(runs_s=None)
        if container.log_path and self._settings.get("logs", True):
            _write_log(Path(container.log_path), behaviour)
        self._emit(container.sandbox_id, container_id, "started")
        if behaviour.runs_s is not None:
            loop = asyncio.get_running_loop()
            container.timer = loop.call_later(behaviour.runs_s, self._end, container_id, behaviour.exit_code)

    async def stop_container(self, container_id: str, timeout_s: float) -> None:
        await self._doing("stop_container", container_id)
        self._end(container_id, _TERMINATED if timeout_s > 0 else _KILLED)

    def exit_container(self, container_id: str, exit_code: int, reason: str = "") -> None:
        """Ends a container as a crash would. For simulations."""
        self._end(container_id, exit_code, reason)

    def run_out_of_memory(self, container_id: str) -> None:
        """Says of a container, running or ended, that a process of it was killed for want of memory. For simulations."""
        container = self._container(container_id)
        container.reason = "OOMKilled"
        self._emit(container.sandbox_id, container_id, "oom")

    async def remove_container(self, container_id: str) -> None:
        await self._doing("remove_container", container_id)
        self._end(container_id, _KILLED)
        container = self._containers.pop(container_id, None)
        if container is not None:
            self._sandboxes[container.sandbox_id].containers.discard(container_id)
            self._emit(container.sandbox_id, container_id, "deleted")

    async def container_status(self, container_id: str) -> to.Container:
        await self._doing("container_status", container_id)
        container = self._container(container_id)
        return replace(
            self._shown_container(container_id, container),
            started_at_ns=container.started_at_ns,
            finished_at_ns=container.finished_at_ns,
            exit_code=container.exit_code,
            reason=container.reason,
            log_path=container.log_path,
        )

    async def list_containers(self) -> Sequence[to.Container]:
        await self._doing("list_containers", "")
        return [self._shown_container(container_id, container) for container_id, container in self._containers.items()]

    async def update_container_resources(self, container_id: str, resources: to.Resources) -> None:
        await self._doing("update_container_resources", container_id)
        self._container(container_id).resources = resources

    async def reopen_container_log(self, container_id: str) -> None:
        await self._doing("reopen_container_log", container_id)
        container = self._container(container_id)
        if container.state != ContainerState.RUNNING:
            raise RuntimeFault("container is not running")
        if container.log_path and self._settings.get("logs", True):
            await asyncio.to_thread(_touch, Path(container.log_path))

    async def container_stats(self) -> Sequence[to.ContainerStats]:
        await self._doing("container_stats", "")
        now = time.time_ns()
        return [
            to.ContainerStats(
                container_id=container_id,
                timestamp_ns=now,
                cpu_usage_core_ns=(now - container.started_at_ns) // 100,  # a hundredth of a core
                memory_working_set_bytes=8 << 20,
                memory_rss_bytes=6 << 20,
                memory_usage_bytes=10 << 20,
                filesystem_used_bytes=self._settings.get("layer_bytes", 0),
            )
            for container_id, container in self._containers.items()
            if container.state == ContainerState.RUNNING
        ]

    # commands and ports

    async def exec_sync(self, container_id: str, command: Sequence[str], timeout_s: float) -> to.ExecResult:
        behaviour = await self._executed(container_id, command)
        if behaviour.runs_s is None or (behaviour.runs_s > timeout_s > 0):
            await asyncio.sleep(timeout_s)
            raise TimeoutError(f"command {command!r} timed out after {timeout_s:g} s")
        await asyncio.sleep(behaviour.runs_s)
        return to.ExecResult(behaviour.stdout, behaviour.stderr, behaviour.exit_code)

    async def exec(self, container_id: str, command: Sequence[str], *, tty: bool, stdin: bool) -> to.ExecStream:
        behaviour = await self._executed(container_id, command)
        return FakeStream(behaviour, stdin=stdin, tty=tty)

    async def attach(self, container_id: str, *, tty: bool, stdin: bool) -> to.ExecStream:
        await self._doing("attach", container_id)
        container = self._container(container_id)
        if container.state != ContainerState.RUNNING:
            raise RuntimeFault(f"container is in {container.state} state")
        stream = FakeStream(Behaviour(runs_s=None, echoes_stdin=True), stdin=stdin, tty=tty)
        container.attached.append(stream)
        return stream

    async def port_forward(self, sandbox_id: str, port: int) -> to.ByteStream:
        await self._doing("port_forward", sandbox_id)
        if not self._sandbox(sandbox_id).ready or port not in self._settings.get("ports", ()):
            raise RuntimeFault(f"failed to connect to port {port} inside the sandbox: connection refused")
        return Echo()

    async def events(self) -> AsyncIterator[to.RuntimeEvent]:
        queue: asyncio.Queue[to.RuntimeEvent] = asyncio.Queue(_QUEUE)
        self._listeners.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._listeners.discard(queue)

    # images

    async def pull_image(self, reference: str, auth: to.RegistryAuth | None = None) -> str:
        full = references.full(reference)
        await self._doing("pull_image", reference)
        if any(part in reference for part in self._settings.get("missing_images", ())):
            raise ImagePullFault(f'failed to resolve reference "{full}": {full}: not found')
        return self._learn_image(full).id

    async def image_status(self, reference: str) -> to.Image | None:
        await self._doing("image_status", reference)
        return self._find_image(reference)

    async def list_images(self) -> Sequence[to.Image]:
        await self._doing("list_images", "")
        return list(self._images.values())

    async def remove_image(self, reference: str) -> None:
        await self._doing("remove_image", reference)
        image = self._find_image(reference)
        if image is not None:
            del self._images[image.id]

    async def import_image(self, archive: AsyncIterator[bytes]) -> Sequence[str]:
        await self._doing("import_image", "")
        with tempfile.TemporaryFile() as file:
            await archives.spool(archive, file)
            with archives.opened(file) as tar:
                opened = await asyncio.to_thread(archives.Archive, tar)
                names = [name for name, _ in (await asyncio.to_thread(opened.contents)).names]
        for name in names:
            self._learn_image(name)
        return names

    # inside

    async def _doing(self, verb: str, subject: str) -> None:
        """Takes the verb's time and raises its fault."""
        delay_s = self._settings.get(_DELAYS.get(verb, ""), 0)
        if delay_s:
            await asyncio.sleep(delay_s)
        faults: Mapping[str, str] | Callable[[str, str], Exception | None] | None = self._settings.get("faults")
        if not faults:
            return
        if callable(faults):
            if (error := faults(verb, subject)) is not None:
                raise error
        elif verb in faults:
            raise (ImagePullFault if verb == "pull_image" else RuntimeFault)(faults[verb])

    async def _executed(self, container_id: str, command: Sequence[str]) -> Behaviour:
        await self._doing("exec", container_id)
        container = self._container(container_id)
        if container.state != ContainerState.RUNNING:
            raise RuntimeFault(f"container is in {container.state} state")
        environment = {"HOSTNAME": self._sandboxes[container.sandbox_id].config.hostname, **dict(container.config.env)}
        behaviour = behaviour_of(command, environment)
        if behaviour is None:
            raise RuntimeFault(
                f'exec failed: unable to start container process: exec: "{command[0]}": executable file not found in $PATH'
            )
        return behaviour

    def _end(self, container_id: str, exit_code: int, reason: str = "") -> None:
        container = self._containers.get(container_id)
        if container is None or container.state != ContainerState.RUNNING:
            return
        if container.timer is not None:
            container.timer.cancel()
            container.timer = None
        container.state, container.finished_at_ns = ContainerState.EXITED, time.time_ns()
        container.exit_code = exit_code
        container.reason = reason or container.reason or ("Completed" if exit_code == 0 else "Error")
        for stream in container.attached:
            stream.end(exit_code)
        container.attached.clear()
        self._emit(container.sandbox_id, container_id, "stopped")

    def _emit(self, sandbox_id: str, container_id: str, kind: str) -> None:
        event = to.RuntimeEvent(sandbox_id, container_id, kind, time.time_ns())
        for queue in self._listeners:
            if queue.full():
                queue.get_nowait()  # events may be lost, and the newest say more
            queue.put_nowait(event)

    def _new_id(self) -> str:
        self._serial += 1
        return hashlib.sha256(f"{id(self)}/{self._serial}".encode()).hexdigest()

    def _cycle(self) -> Iterator[str]:
        """Every usable address again and again, without the network's, the gateway's and the broadcast address."""
        size = self._network.num_addresses
        offset = 0
        while True:
            offset = 2 if offset >= size - 2 or offset < 2 else offset + 1
            yield str(self._network[offset])

    def _address(self) -> str:
        for _ in range(self._network.num_addresses):
            if (candidate := next(self._addresses)) not in self._used:
                self._used.add(candidate)
                return candidate
        raise RuntimeFault(f"no IP addresses available in range set: {self._network}")

    def _sandbox(self, sandbox_id: str) -> _Sandbox:
        if (sandbox := self._sandboxes.get(sandbox_id)) is None:
            raise NotFound(f"an error occurred when try to find sandbox: {sandbox_id!r}: not found")
        return sandbox

    def _container(self, container_id: str) -> _Container:
        if (container := self._containers.get(container_id)) is None:
            raise NotFound(f"an error occurred when try to find container {container_id!r}: not found")
        return container

    def _learn_image(self, full: str) -> to.Image:
        image_id = f"sha256:{hashlib.sha256(full.encode()).hexdigest()}"
        name, _, digest = full.partition("@")
        digest = digest or image_id
        repository = str(references.parse(name).name)
        tags = (name,) if ":" in name.rpartition("/")[2] else ()
        image = to.Image(image_id, tags, (f"{repository}@{digest}",), 1 << 20)
        self._images[image_id] = image
        return image

    def _find_image(self, reference: str) -> to.Image | None:
        if reference in self._images:
            return self._images[reference]
        try:
            full = references.full(reference)
        except to.InvalidImageName:
            return None
        return self._images.get(f"sha256:{hashlib.sha256(full.encode()).hexdigest()}")

    def _shown_sandbox(self, sandbox_id: str, sandbox: _Sandbox) -> to.Sandbox:
        config = sandbox.config
        return to.Sandbox(
            id=sandbox_id,
            name=config.name,
            namespace=config.namespace,
            uid=config.uid,
            attempt=config.attempt,
            state=SandboxState.READY if sandbox.ready else SandboxState.NOT_READY,
            created_at_ns=sandbox.created_at_ns,
            labels=config.labels,
            annotations=config.annotations,
            runtime_handler=config.runtime_handler,
        )

    def _shown_container(self, container_id: str, container: _Container) -> to.Container:
        config = container.config
        return to.Container(
            id=container_id,
            sandbox_id=container.sandbox_id,
            name=config.name,
            attempt=config.attempt,
            image=config.image,
            image_ref=container.image_ref,
            state=container.state,
            created_at_ns=container.created_at_ns,
            labels=config.labels,
            annotations=config.annotations,
        )


_DELAYS = {
    "run_sandbox": "run_sandbox_s",
    "create_container": "create_s",
    "start_container": "start_s",
    "stop_container": "stop_s",
    "stop_sandbox": "stop_s",
    "pull_image": "pull_s",
}


def _write_log(path: Path, behaviour: Behaviour) -> None:
    """A container's output in the CRI's log format."""
    stamp = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime())}.{time.time_ns() % 1_000_000_000:09d}Z"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as log:
        for stream, output in (("stdout", behaviour.stdout), ("stderr", behaviour.stderr)):
            log.writelines(f"{stamp} {stream} F {line}\n" for line in output.decode(errors="replace").splitlines())


def _touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
