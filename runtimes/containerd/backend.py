"""The backend: the interface's verbs over the CRI's calls. Conversion, streams, events, import and the daemon are beside it."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import grpc

from runtimes import imagebuild, references
from runtimes import interface as to
from runtimes.containerd import calls, conversion, daemon, importing, streams, watching
from runtimes.interface import BackendOptions, ImagePullFault, InvalidImageName, NotFound, RuntimeFault, Unreachable
from runtimes.rpc import cri_pb2 as cri
from runtimes.rpc import cri_pb2_grpc as cri_grpc

T = TypeVar("T")

_QUICK_S = 30.0
_SANDBOX_S = 240.0
_PULL_S = 3600.0
_START_S = 60.0
_DEFAULT_ENDPOINT = "/run/containerd/containerd.sock"


class Backend:
    """Implements `runtimes.interface.Runtime`."""

    name: ClassVar[str] = "containerd"

    def __init__(self, options: BackendOptions) -> None:
        self._options = options
        self.daemon = None if options.endpoint else daemon.Daemon(options)
        self._socket = self.daemon.socket if self.daemon else options.endpoint.removeprefix("unix://")
        self._channel: grpc.aio.Channel | None = None
        self._runtime_stub: Any = None
        self._image_stub: Any = None
        self._owners = watching.Owners(self._listed_owners)

    @classmethod
    def missing(cls, options: BackendOptions) -> Sequence[str]:
        if options.endpoint:
            socket = Path(options.endpoint.removeprefix("unix://"))
            return [] if socket.is_socket() else [f"{socket} is no socket: start containerd, or leave out --runtime-endpoint"]
        return daemon.missing(options)

    async def start(self) -> None:
        self._channel = calls.channel(self._socket)
        self._runtime_stub = cri_grpc.RuntimeServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._image_stub = cri_grpc.ImageServiceStub(self._channel)  # type: ignore[no-untyped-call]
        await self._bring_up()
        if self.daemon is not None:
            await self._bring_sandbox_image()

    async def stop(self) -> None:
        if self._channel is not None:
            channel, self._channel = self._channel, None
            self._runtime_stub = self._image_stub = None
            await channel.close()

    async def end_idle(self) -> None:
        if self.daemon is not None and self._channel is not None and not await self.list_sandboxes():
            await self.daemon.terminate()

    async def _bring_up(self) -> None:
        """Until the daemon answers; an owned one is started when it does not run."""
        if self.daemon is None:
            await self._wait_answer()
            return
        started = await self.daemon.ensure()
        try:
            await self._wait_answer()
        except Unreachable:
            if started or self.daemon.pid():
                raise
            await self.daemon.ensure()  # it was about to end when it was taken up
            await self._wait_answer()

    async def _wait_answer(self) -> None:
        """Until the CRI plugin answers."""
        deadline = asyncio.get_running_loop().time() + _START_S
        while True:
            try:
                await self._call(self._runtime.Version(cri.VersionRequest(), timeout=2))
                return
            except RuntimeFault as e:  # Unimplemented until its plugins are loaded
                if self.daemon is not None and not self.daemon.pid():
                    raise Unreachable(self.daemon.ended()) from e
                if self.daemon is None or asyncio.get_running_loop().time() > deadline:
                    hint = f"see {self.daemon.log}" if self.daemon else "is it running, with its CRI plugin enabled?"
                    raise Unreachable(f"containerd at {self._socket} does not answer: {e}; {hint}") from e
            await asyncio.sleep(0.02)  # the socket of a starting daemon can only be tried

    async def _bring_sandbox_image(self) -> None:
        if await self.image_status(self._options.sandbox_image) is not None:
            return
        data = imagebuild.archive([imagebuild.pause(self._options.sandbox_image)])

        async def chunks() -> AsyncIterator[bytes]:
            yield data

        await self.import_image(chunks())

    @property
    def _connected(self) -> grpc.aio.Channel:
        if self._channel is None:
            raise Unreachable("the containerd backend is not started")
        return self._channel

    @property
    def _runtime(self) -> Any:  # the generated stubs have no types
        if self._runtime_stub is None:
            raise Unreachable("the containerd backend is not started")
        return self._runtime_stub

    @property
    def _images(self) -> Any:
        if self._image_stub is None:
            raise Unreachable("the containerd backend is not started")
        return self._image_stub

    async def _call(self, call: Awaitable[T]) -> T:
        return await calls.answer(call, self._socket)

    async def info(self) -> to.RuntimeInfo:
        version, status = await asyncio.gather(
            self._call(self._runtime.Version(cri.VersionRequest(), timeout=_QUICK_S)),
            self._call(self._runtime.Status(cri.StatusRequest(verbose=True), timeout=_QUICK_S)),
        )
        handlers = [
            to.Handler(h.name, h.features.recursive_read_only_mounts, h.features.user_namespaces) for h in status.runtime_handlers
        ]
        if not handlers:
            config = json.loads(status.info.get("config") or "{}")
            handlers = [to.Handler(name) for name in ("", *((config.get("containerd") or {}).get("runtimes") or {}))]
        return to.RuntimeInfo(
            name=version.runtime_name,
            version=version.runtime_version,
            conditions=tuple(to.Condition(c.type, c.status, c.reason, c.message) for c in status.status.conditions),
            handlers=tuple(handlers),
            strict_groups=status.features.supplemental_groups_policy,
        )

    # sandboxes

    async def run_sandbox(self, config: to.SandboxConfig) -> str:
        request = cri.RunPodSandboxRequest(config=conversion.sandbox_config(config), runtime_handler=config.runtime_handler)
        answer = await self._call(self._runtime.RunPodSandbox(request, timeout=_SANDBOX_S))
        self._owners.learn(answer.pod_sandbox_id, answer.pod_sandbox_id)
        return str(answer.pod_sandbox_id)

    async def stop_sandbox(self, sandbox_id: str) -> None:
        try:
            await self._call(
                self._runtime.StopPodSandbox(cri.StopPodSandboxRequest(pod_sandbox_id=sandbox_id), timeout=_SANDBOX_S)
            )
        except NotFound:
            return

    async def remove_sandbox(self, sandbox_id: str) -> None:
        try:
            status = await self._verbose_status(sandbox_id)
            await self._call(
                self._runtime.RemovePodSandbox(cri.RemovePodSandboxRequest(pod_sandbox_id=sandbox_id), timeout=_SANDBOX_S)
            )
        except NotFound:
            return
        finally:
            self._owners.forget(sandbox_id)
        parent = ((status.get("config") or {}).get("linux") or {}).get("cgroup_parent", "")
        await asyncio.to_thread(_remove_cgroups, parent)

    async def sandbox_status(self, sandbox_id: str) -> to.Sandbox:
        answer = await self._call(
            self._runtime.PodSandboxStatus(cri.PodSandboxStatusRequest(pod_sandbox_id=sandbox_id), timeout=_QUICK_S)
        )
        return conversion.sandbox(answer.status)

    async def list_sandboxes(self) -> Sequence[to.Sandbox]:
        answer = await self._call(self._runtime.ListPodSandbox(cri.ListPodSandboxRequest(), timeout=_QUICK_S))
        for item in answer.items:
            self._owners.learn(item.id, item.id)
        return [conversion.sandbox(item) for item in answer.items]

    async def _verbose_status(self, sandbox_id: str) -> dict[str, Any]:
        request = cri.PodSandboxStatusRequest(pod_sandbox_id=sandbox_id, verbose=True)
        answer = await self._call(self._runtime.PodSandboxStatus(request, timeout=_QUICK_S))
        info: dict[str, Any] = json.loads(answer.info.get("info") or "{}")
        return info

    # containers

    async def create_container(self, sandbox_id: str, config: to.ContainerConfig, sandbox: to.SandboxConfig) -> str:
        request = cri.CreateContainerRequest(
            pod_sandbox_id=sandbox_id,
            config=conversion.container_config(config),
            sandbox_config=conversion.sandbox_config(sandbox),
        )
        answer = await self._call(self._runtime.CreateContainer(request, timeout=_SANDBOX_S))
        self._owners.learn(answer.container_id, sandbox_id)
        return str(answer.container_id)

    async def start_container(self, container_id: str) -> None:
        await self._call(self._runtime.StartContainer(cri.StartContainerRequest(container_id=container_id), timeout=_SANDBOX_S))

    async def stop_container(self, container_id: str, timeout_s: float) -> None:
        request = cri.StopContainerRequest(container_id=container_id, timeout=max(0, round(timeout_s)))
        try:
            await self._call(self._runtime.StopContainer(request, timeout=timeout_s + _SANDBOX_S))
        except NotFound:
            return

    async def remove_container(self, container_id: str) -> None:
        try:
            await self._call(
                self._runtime.RemoveContainer(cri.RemoveContainerRequest(container_id=container_id), timeout=_SANDBOX_S)
            )
        except NotFound:
            return
        self._owners.forget(container_id)

    async def container_status(self, container_id: str) -> to.Container:
        answer = await self._call(
            self._runtime.ContainerStatus(cri.ContainerStatusRequest(container_id=container_id), timeout=_QUICK_S)
        )
        return conversion.container_status(answer.status, await self._owners.of(container_id))

    async def list_containers(self) -> Sequence[to.Container]:
        answer = await self._call(self._runtime.ListContainers(cri.ListContainersRequest(), timeout=_QUICK_S))
        for item in answer.containers:
            self._owners.learn(item.id, item.pod_sandbox_id)
        return [conversion.container(item) for item in answer.containers]

    async def _listed_owners(self) -> None:
        await self.list_sandboxes()
        await self.list_containers()

    async def update_container_resources(self, container_id: str, resources: to.Resources) -> None:
        request = cri.UpdateContainerResourcesRequest(container_id=container_id, linux=conversion.resources(resources))
        await self._call(self._runtime.UpdateContainerResources(request, timeout=_QUICK_S))

    async def reopen_container_log(self, container_id: str) -> None:
        await self._call(
            self._runtime.ReopenContainerLog(cri.ReopenContainerLogRequest(container_id=container_id), timeout=_QUICK_S)
        )

    async def container_stats(self) -> Sequence[to.ContainerStats]:
        answer = await self._call(self._runtime.ListContainerStats(cri.ListContainerStatsRequest(), timeout=_QUICK_S))
        found = [conversion.stats(item) for item in answer.stats]
        if self.daemon is not None and await asyncio.to_thread(self.daemon.copies_images):
            return [replace(stats, filesystem_used_bytes=0) for stats in found]
        return found

    # commands and ports

    async def exec_sync(self, container_id: str, command: Sequence[str], timeout_s: float) -> to.ExecResult:
        request = cri.ExecSyncRequest(container_id=container_id, cmd=command, timeout=max(1, round(timeout_s)))
        try:
            answer = await self._call(self._runtime.ExecSync(request, timeout=timeout_s + _QUICK_S))
        except Unreachable as e:
            if isinstance(e.__cause__, grpc.aio.AioRpcError) and e.__cause__.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                raise TimeoutError(f"command {command!r} timed out after {timeout_s:g} s") from e
            raise
        return to.ExecResult(answer.stdout, answer.stderr, answer.exit_code)

    async def exec(self, container_id: str, command: Sequence[str], *, tty: bool, stdin: bool) -> to.ExecStream:
        request = cri.ExecRequest(container_id=container_id, cmd=command, tty=tty, stdin=stdin, stdout=True, stderr=not tty)
        answer = await self._call(self._runtime.Exec(request, timeout=_QUICK_S))
        return await streams.open_command(answer.url, tty=tty, stdin=stdin)

    async def attach(self, container_id: str, *, tty: bool, stdin: bool) -> to.ExecStream:
        request = cri.AttachRequest(container_id=container_id, tty=tty, stdin=stdin, stdout=True, stderr=not tty)
        answer = await self._call(self._runtime.Attach(request, timeout=_QUICK_S))
        return await streams.open_command(answer.url, tty=tty, stdin=stdin)

    async def port_forward(self, sandbox_id: str, port: int) -> to.ByteStream:
        status = await self._verbose_status(sandbox_id)
        namespaces = ((status.get("runtimeSpec") or {}).get("linux") or {}).get("namespaces") or []
        path = next((n.get("path", "") for n in namespaces if isinstance(n, dict) and n.get("type") == "network"), "")
        return await streams.connect_inside(path, port)

    async def events(self) -> AsyncIterator[to.RuntimeEvent]:
        await self._bring_up()  # where it crashed, this is how the agent comes back to it
        async for event in watching.events(self._connected, self._socket, self._owners, self._is_known):
            yield event

    async def _is_known(self, event: to.RuntimeEvent) -> bool:
        """Whether the CRI plugin, which reads the same events, knows of an end, or of a process killed for want of memory."""
        try:
            if event.container_id == event.sandbox_id:
                return (await self.sandbox_status(event.sandbox_id)).state != to.SandboxState.READY
            status = await self.container_status(event.container_id)
            return status.reason == "OOMKilled" if event.kind == "oom" else status.state != to.ContainerState.RUNNING
        except NotFound:
            return True

    # images

    async def pull_image(self, reference: str, auth: to.RegistryAuth | None = None) -> str:
        references.parse(reference)
        request = cri.PullImageRequest(image=cri.ImageSpec(image=reference), auth=conversion.auth(auth) if auth else None)
        try:
            answer = await self._call(self._images.PullImage(request, timeout=_PULL_S))
        except Unreachable:
            raise
        except RuntimeFault as e:
            if "invalid reference format" in str(e):
                raise InvalidImageName(str(e), e.code) from e
            raise ImagePullFault(str(e), e.code) from e
        return str(answer.image_ref)

    async def image_status(self, reference: str) -> to.Image | None:
        answer = await self._call(
            self._images.ImageStatus(cri.ImageStatusRequest(image=cri.ImageSpec(image=reference)), timeout=_QUICK_S)
        )
        return conversion.image(answer.image) if answer.HasField("image") else None

    async def list_images(self) -> Sequence[to.Image]:
        answer = await self._call(self._images.ListImages(cri.ListImagesRequest(), timeout=_QUICK_S))
        return [conversion.image(item) for item in answer.images]

    async def remove_image(self, reference: str) -> None:
        await self._call(
            self._images.RemoveImage(cri.RemoveImageRequest(image=cri.ImageSpec(image=reference)), timeout=_SANDBOX_S)
        )

    async def import_image(self, archive: AsyncIterator[bytes]) -> Sequence[str]:
        await asyncio.to_thread(os.makedirs, self._options.state_dir, exist_ok=True)
        names = await importing.import_archive(self._connected, self._socket, archive, Path(self._options.state_dir))
        deadline = asyncio.get_running_loop().time() + _QUICK_S
        for name in names:  # the CRI plugin learns of them by events, and says nothing when it has
            while await self.image_status(name) is None:
                if asyncio.get_running_loop().time() > deadline:
                    raise RuntimeFault(f"containerd took {name} in, but its CRI plugin does not list it")
                await asyncio.sleep(0.01)
        return names


def _remove_cgroups(parent: str) -> None:
    """Removes a pod's cgroup once nothing is in it; the directories above it stay."""
    for path in daemon.cgroup_dirs(parent):
        if path.name.startswith("pod") or "-pod" in path.name:
            try:
                path.rmdir()
            except OSError:  # something lives in it: whoever removes that comes here again
                continue
