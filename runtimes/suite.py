"""What every backend must do: the one suite. A backend's test is a subclass that names it.

    class TestFake(RuntimeSuite):
        backend = fake.Backend

Containers use commands that the simulation knows too. What only real containers can show is in the backend's own tests.
"""

import asyncio
import hashlib
import json
import subprocess
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest

from runtimes import imagebuild
from runtimes import interface as to
from runtimes.interface import BackendOptions, ContainerState, NotFound, Runtime, SandboxState

IMAGE = "docker.io/library/suite:1"
_SOON_S = 20.0


@dataclass
class Pod:
    """A sandbox and what made it."""

    runtime: Runtime
    config: to.SandboxConfig
    id: str
    made: int = field(default=0)

    async def run(self, *command: str, **settings: object) -> str:
        """A started container's id."""
        container_id = await self.create(*command, **settings)
        await self.runtime.start_container(container_id)
        return container_id

    async def create(self, *command: str, **settings: object) -> str:
        self.made += 1
        name = f"c{self.made}"
        config = to.ContainerConfig(
            name=name, attempt=0, image=IMAGE, command=command, log_path=f"{name}/0.log", labels={"container": name}, **settings  # type: ignore[arg-type]
        )  # fmt: skip
        (Path(self.config.log_directory) / name).mkdir(parents=True, exist_ok=True)
        return await self.runtime.create_container(self.id, config, self.config)

    async def ended(self, container_id: str) -> to.Container:
        """The container's status once it has exited."""
        async with asyncio.timeout(_SOON_S):
            while True:
                status = await self.runtime.container_status(container_id)
                if status.state == ContainerState.EXITED:
                    return status
                await asyncio.sleep(0.01)

    async def watch(self, container_id: str, kind: str) -> asyncio.Task[tuple[list[to.RuntimeEvent], to.Container]]:
        """Watches from now on: gives the events up to that one, and the status that whoever looks when it arrives finds."""
        seen: list[to.RuntimeEvent] = []

        async def watch() -> tuple[list[to.RuntimeEvent], to.Container]:
            async for event in self.runtime.events():
                seen.append(event)
                if (event.container_id, event.kind) == (container_id, kind):
                    return seen, await self.runtime.container_status(container_id)
            raise AssertionError("events ended")

        watcher = asyncio.create_task(watch())
        async with asyncio.timeout(_SOON_S):
            while not seen:  # a subscription has no acknowledgement: it is there when something is seen
                await self.ended(await self.run("true"))
        return watcher

    def log(self, number: int = 1) -> list[tuple[str, str, str]]:
        """A container's log as (stream, tag, line)."""
        lines = (Path(self.config.log_directory) / f"c{number}" / "0.log").read_text().splitlines()
        return [(line.split(" ", 3)[1], line.split(" ", 3)[2], line.split(" ", 3)[3]) for line in lines]


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 100_000):
        yield data[start : start + 100_000]


def suite_image(name: str = IMAGE) -> bytes:
    return imagebuild.archive([imagebuild.busybox(name, Path("/bin/busybox"))])


def cni_configuration(directory: Path, subnet: str) -> None:
    """A bridge network, as the agent would write it. Its bridge is named after the subnet: a second one with the same addresses
    would take the first one's traffic."""
    directory.mkdir(parents=True, exist_ok=True)
    name = "kls-" + hashlib.sha256(subnet.encode()).hexdigest()[:8]
    bridge = {
        "type": "bridge",
        "bridge": name,
        "isGateway": True,
        "ipMasq": True,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": subnet}]],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": f"{directory}/ipam",
        },
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    (directory / "10-suite.conflist").write_text(json.dumps({"cniVersion": "0.4.0", "name": name, "plugins": [bridge, portmap]}))


def remove_network(directory: Path) -> None:
    """Removes the bridge of `cni_configuration`, unless pods of somebody else's run are on it."""
    name = json.loads((directory / "10-suite.conflist").read_text())["name"]
    if not list(Path(f"/sys/class/net/{name}/brif").glob("*")):
        subprocess.run(["ip", "link", "delete", name], check=False, capture_output=True)


class RuntimeSuite:
    """Subclass it as Test<Backend> with `backend`."""

    backend: ClassVar[Callable[[BackendOptions], Runtime]]

    @pytest.fixture(scope="class")
    @classmethod
    def options(cls, tmp_path_factory: pytest.TempPathFactory) -> BackendOptions:
        directory = tmp_path_factory.mktemp("runtime")
        cni_configuration(directory / "cni", "10.211.0.0/24")
        return BackendOptions(
            state_dir=str(directory / "state"), cni_conf_dir=str(directory / "cni"), settings={"pod_cidr": "10.211.0.0/24"}
        )

    @pytest.fixture
    async def runtime(self, options: BackendOptions) -> AsyncIterator[Runtime]:
        runtime = type(self).backend(options)
        await runtime.start()
        if await runtime.image_status(IMAGE) is None:
            await runtime.import_image(chunks(suite_image()))
        try:
            yield runtime
            for sandbox in await runtime.list_sandboxes():
                await runtime.stop_sandbox(sandbox.id)
                await runtime.remove_sandbox(sandbox.id)
        finally:
            await runtime.stop()

    @pytest.fixture
    async def pod(self, runtime: Runtime, tmp_path: Path) -> Pod:
        name = f"pod-{uuid.uuid4().hex[:8]}"
        config = to.SandboxConfig(
            name=name,
            namespace="default",
            uid=str(uuid.uuid4()),
            hostname=name,
            log_directory=str(tmp_path / "logs"),
            dns=to.DnsConfig(("10.96.0.10",), ("default.svc.cluster.local",), ("ndots:5",)),
            labels={"app": "suite"},
            annotations={"note": "kept"},
        )
        (tmp_path / "logs").mkdir()
        return Pod(runtime, config, await runtime.run_sandbox(config))

    async def test_runtime_says_who_it_is_and_is_ready(self, runtime: Runtime) -> None:
        info = await runtime.info()
        assert info.name
        assert info.version
        assert {c.kind: c.status for c in info.conditions} == {"RuntimeReady": True, "NetworkReady": True}
        assert "" in [handler.name for handler in info.handlers]

    async def test_sandbox_is_ready_with_an_address_and_keeps_its_labels(self, runtime: Runtime, pod: Pod) -> None:
        status = await runtime.sandbox_status(pod.id)
        assert status.state == SandboxState.READY
        assert status.ips[0].startswith("10.211.0.")
        assert (status.name, status.namespace, status.uid) == (pod.config.name, "default", pod.config.uid)
        assert status.labels["app"] == "suite"
        assert status.annotations["note"] == "kept"
        assert [s.id for s in await runtime.list_sandboxes()] == [pod.id]

    async def test_two_sandboxes_have_different_addresses(self, runtime: Runtime, pod: Pod) -> None:
        other = await runtime.run_sandbox(to.SandboxConfig(name="other", namespace="default", uid="other-uid"))
        assert (await runtime.sandbox_status(other)).ips != (await runtime.sandbox_status(pod.id)).ips

    async def test_stopping_and_removing_a_sandbox_may_be_repeated(self, runtime: Runtime, pod: Pod) -> None:
        container = await pod.run("sleep", "1000")
        await runtime.stop_sandbox(pod.id)
        await runtime.stop_sandbox(pod.id)
        assert (await runtime.sandbox_status(pod.id)).state == SandboxState.NOT_READY
        assert (await runtime.container_status(container)).state == ContainerState.EXITED
        await runtime.remove_sandbox(pod.id)
        await runtime.remove_sandbox(pod.id)
        with pytest.raises(NotFound):
            await runtime.sandbox_status(pod.id)

    async def test_container_goes_from_created_to_running_to_exited(self, runtime: Runtime, pod: Pod) -> None:
        container = await pod.create("sleep", "1000")
        created = await runtime.container_status(container)
        assert created.state == ContainerState.CREATED
        assert created.started_at_ns == 0
        await runtime.start_container(container)
        running = await runtime.container_status(container)
        assert running.state == ContainerState.RUNNING
        assert running.started_at_ns >= running.created_at_ns > 0
        assert running.sandbox_id == pod.id
        await runtime.stop_container(container, 0)
        stopped = await runtime.container_status(container)
        assert stopped.state == ContainerState.EXITED
        assert stopped.exit_code == 137
        assert stopped.finished_at_ns >= stopped.started_at_ns

    async def test_exit_code_and_reason_are_reported(self, pod: Pod) -> None:
        failed = await pod.ended(await pod.run("sh", "-c", "exit 3"))
        assert (failed.exit_code, failed.reason) == (3, "Error")
        completed = await pod.ended(await pod.run("true"))
        assert (completed.exit_code, completed.reason) == (0, "Completed")

    async def test_listed_containers_carry_what_identifies_them(self, runtime: Runtime, pod: Pod) -> None:
        container = await pod.create("sleep", "1000")
        (listed,) = await runtime.list_containers()
        assert (listed.id, listed.sandbox_id, listed.name, listed.attempt) == (container, pod.id, "c1", 0)
        assert listed.labels["container"] == "c1"
        assert listed.image_ref

    async def test_stopping_and_removing_a_container_may_be_repeated(self, runtime: Runtime, pod: Pod) -> None:
        container = await pod.run("true")
        await pod.ended(container)
        await runtime.stop_container(container, 1)
        await runtime.remove_container(container)
        await runtime.remove_container(container)
        await runtime.stop_container(container, 1)
        with pytest.raises(NotFound):
            await runtime.container_status(container)
        assert await runtime.list_containers() == []

    async def test_output_lands_in_the_log_with_its_stream(self, pod: Pod) -> None:
        await pod.ended(await pod.run("sh", "-c", "echo one; echo two"))
        assert pod.log() == [("stdout", "F", "one"), ("stdout", "F", "two")]

    async def test_environment_reaches_the_container(self, pod: Pod) -> None:
        await pod.ended(await pod.run("sh", "-c", "echo $GREETING", env=(("GREETING", "hello"),)))
        assert pod.log() == [("stdout", "F", "hello")]

    async def test_log_is_reopened_after_it_was_moved(self, runtime: Runtime, pod: Pod) -> None:
        container = await pod.run("sleep", "1000")
        path = Path(pod.config.log_directory) / "c1" / "0.log"
        path.rename(path.with_suffix(".log.1"))
        await runtime.reopen_container_log(container)
        assert path.exists()

    async def test_exec_sync_returns_output_and_exit_code(self, runtime: Runtime, pod: Pod) -> None:
        container = await pod.run("sleep", "1000")
        result = await runtime.exec_sync(container, ["sh", "-c", "echo hi; exit 4"], 10)
        assert (result.stdout, result.stderr, result.exit_code) == (b"hi\n", b"", 4)

    async def test_exec_sync_raises_when_the_command_outlives_its_timeout(self, runtime: Runtime, pod: Pod) -> None:
        container = await pod.run("sleep", "1000")
        with pytest.raises(TimeoutError):
            await runtime.exec_sync(container, ["sleep", "100"], 1)

    async def test_exec_of_an_unknown_command_names_it(self, runtime: Runtime, pod: Pod) -> None:
        container = await pod.run("sleep", "1000")
        with pytest.raises(to.RuntimeFault, match="nosuchcommand"):
            await runtime.exec_sync(container, ["nosuchcommand"], 10)

    async def test_exec_in_an_exited_container_is_refused(self, runtime: Runtime, pod: Pod) -> None:
        container = await pod.run("true")
        await pod.ended(container)
        with pytest.raises(to.RuntimeFault):
            await runtime.exec_sync(container, ["true"], 10)

    async def test_exec_streams_stdin_to_its_end_and_output_back(self, runtime: Runtime, pod: Pod) -> None:
        container = await pod.run("sleep", "1000")
        stream = await runtime.exec(container, ["cat"], tty=False, stdin=True)
        await stream.write_stdin(b"some ")
        await stream.write_stdin(b"bytes")
        await stream.write_stdin(b"")
        assert b"".join([data async for number, data in stream.output() if number == 1]) == b"some bytes"
        assert await stream.exit_code() == 0
        await stream.close()

    async def test_exec_streams_end_with_the_exit_code(self, runtime: Runtime, pod: Pod) -> None:
        container = await pod.run("sleep", "1000")
        stream = await runtime.exec(container, ["sh", "-c", "echo out; exit 7"], tty=False, stdin=False)
        assert [chunk async for chunk in stream.output()] == [(1, b"out\n")]
        assert await stream.exit_code() == 7
        await stream.close()

    async def test_attach_sees_a_container_that_is_stopped_end(self, runtime: Runtime, pod: Pod) -> None:
        container = await pod.run("sleep", "1000")
        stream = await runtime.attach(container, tty=False, stdin=False)
        await runtime.stop_container(container, 0)
        async with asyncio.timeout(_SOON_S):
            assert [chunk async for chunk in stream.output()] == []
        await stream.close()

    async def test_port_forward_to_a_port_without_listener_fails_and_says_the_port(self, runtime: Runtime, pod: Pod) -> None:
        with pytest.raises(to.RuntimeFault, match="4321"):
            await runtime.port_forward(pod.id, 4321)

    async def test_stats_cover_running_containers(self, runtime: Runtime, pod: Pod) -> None:
        container = await pod.run("sleep", "1000")
        async with asyncio.timeout(_SOON_S):
            while True:
                if stats := [s for s in await runtime.container_stats() if s.container_id == container]:
                    break
                await asyncio.sleep(0.05)
        assert stats[0].timestamp_ns > 0
        assert stats[0].memory_working_set_bytes > 0

    async def test_resources_of_a_running_container_change(self, runtime: Runtime, pod: Pod) -> None:
        container = await pod.run("sleep", "1000", resources=to.Resources(memory_limit_bytes=64 << 20))
        await runtime.update_container_resources(container, to.Resources(memory_limit_bytes=96 << 20, cpu_shares=256))

    async def test_events_tell_of_start_and_stop(self, runtime: Runtime, pod: Pod) -> None:
        container = await pod.create("sleep", "1000")
        watcher = await pod.watch(container, "stopped")
        await runtime.start_container(container)
        await runtime.stop_container(container, 0)
        seen, found = await asyncio.wait_for(watcher, _SOON_S)
        assert found.state == ContainerState.EXITED
        assert [(e.kind, e.sandbox_id) for e in seen if e.container_id == container][:2] == [
            ("started", pod.id),
            ("stopped", pod.id),
        ]

    async def test_imported_image_is_there_under_its_name(self, runtime: Runtime) -> None:
        names = await runtime.import_image(chunks(suite_image("example.com/team/thing:2")))
        assert list(names) == ["example.com/team/thing:2"]
        image = await runtime.image_status("example.com/team/thing:2")
        assert image is not None
        assert "example.com/team/thing:2" in image.tags
        assert image.size_bytes > 0
        assert image.id in [i.id for i in await runtime.list_images()]

    async def test_removed_image_is_gone_and_may_be_removed_again(self, runtime: Runtime) -> None:
        name = f"example.com/gone:{uuid.uuid4().hex[:6]}"
        files = {"unique": imagebuild.File(name.encode())}
        await runtime.import_image(chunks(imagebuild.archive([imagebuild.ImageSource(name, files)])))
        await runtime.remove_image(name)
        await runtime.remove_image(name)
        assert await runtime.image_status(name) is None

    async def test_garbage_is_no_image(self, runtime: Runtime) -> None:
        with pytest.raises(to.RuntimeFault, match="archive"):
            await runtime.import_image(chunks(b"this is not a tar file" * 100))

    @pytest.mark.parametrize("reference", ["registry/UPPER", "name:", "a b", "", "registry/x@sha256:short"])
    async def test_unparsable_image_names_are_told_apart(self, runtime: Runtime, reference: str) -> None:
        with pytest.raises(to.InvalidImageName):
            await runtime.pull_image(reference)

    async def test_container_of_an_unknown_image_is_refused(self, runtime: Runtime, pod: Pod) -> None:
        config = to.ContainerConfig(name="x", attempt=0, image="example.com/never/seen:1")
        with pytest.raises(to.RuntimeFault):
            await runtime.create_container(pod.id, config, pod.config)

    async def test_what_runs_outlives_disconnecting(self, runtime: Runtime, pod: Pod) -> None:
        container = await pod.run("sleep", "1000")
        await runtime.stop()
        await runtime.start()
        assert (await runtime.container_status(container)).state == ContainerState.RUNNING
        assert (await runtime.sandbox_status(pod.id)).state == SandboxState.READY


__all__: Sequence[str] = ["IMAGE", "Pod", "RuntimeSuite", "chunks", "cni_configuration", "remove_network", "suite_image"]
