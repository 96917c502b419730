"""containerd: the shared suite, and what only real containers and a real daemon can show."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from runtimes import containerd
from runtimes import interface as to
from runtimes.containerd import daemon
from runtimes.interface import BackendOptions, ContainerState, Resources, RuntimeFault, SandboxState, Unreachable
from runtimes.suite import Pod, RuntimeSuite, chunks, cni_configuration, remove_network, suite_image

pytestmark = [pytest.mark.containerd, pytest.mark.root, pytest.mark.slow]


class TestContainerd(RuntimeSuite):
    backend = containerd.Backend

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _ended(cls, options: BackendOptions) -> Iterator[None]:
        yield
        _terminate(options)

    async def test_stderr_and_long_lines_reach_the_log(self, pod: Pod) -> None:
        await pod.ended(await pod.run("sh", "-c", "echo err >&2; head -c 20000 /dev/zero | tr '\\0' x; echo"))
        lines = pod.log()
        assert ("stderr", "F", "err") in lines
        parts = [(tag, len(line)) for stream, tag, line in lines if stream == "stdout"]
        assert [tag for tag, _ in parts] == ["P", "F"]
        assert sum(length for _, length in parts) == 20000

    async def test_log_goes_on_in_the_new_file_after_rotation(self, runtime: to.Runtime, pod: Pod) -> None:
        container = await pod.run("sh", "-c", "while read line; do echo got $line; done", stdin=True)
        stream = await runtime.attach(container, tty=False, stdin=True)
        await stream.write_stdin(b"one\n")
        await _until(lambda: pod.log() == [("stdout", "F", "got one")])
        path = Path(pod.config.log_directory) / "c1" / "0.log"
        path.rename(path.with_suffix(".log.1"))
        await runtime.reopen_container_log(container)
        await stream.write_stdin(b"two\n")
        await _until(lambda: path.exists() and pod.log() == [("stdout", "F", "got two")])
        await stream.close()

    async def test_attach_sees_output_and_writes_stdin(self, runtime: to.Runtime, pod: Pod) -> None:
        container = await pod.run("sh", "-c", "read a; echo hello $a; exit 6", stdin=True, stdin_once=True)
        stream = await runtime.attach(container, tty=False, stdin=True)
        await stream.write_stdin(b"you\n")
        assert b"".join([data async for _, data in stream.output()]) == b"hello you\n"
        assert (await pod.ended(container)).exit_code == 6
        await stream.close()

    async def test_exec_separates_stderr_and_a_terminal_does_not(self, runtime: to.Runtime, pod: Pod) -> None:
        container = await pod.run("sleep", "1000")
        command = ["sh", "-c", "echo out; echo err >&2; test -t 1"]
        stream = await runtime.exec(container, command, tty=False, stdin=False)
        assert sorted([chunk async for chunk in stream.output()]) == [(1, b"out\n"), (2, b"err\n")]
        assert await stream.exit_code() == 1
        stream = await runtime.exec(container, command, tty=True, stdin=False)
        assert b"".join([data async for number, data in stream.output() if number == 1]) == b"out\r\nerr\r\n"
        assert await stream.exit_code() == 0

    async def test_terminal_is_resized(self, runtime: to.Runtime, pod: Pod) -> None:
        container = await pod.run("sleep", "1000")
        stream = await runtime.exec(container, ["sh"], tty=True, stdin=True)
        await stream.resize(101, 41)
        await stream.write_stdin(b"until stty size | grep '41 101'; do sleep 0.05; done; exit 3\n")
        output = b"".join([data async for _, data in stream.output()])
        assert b"\n41 101" in output
        assert await stream.exit_code() == 3

    async def test_megabytes_go_both_ways_through_exec(self, runtime: to.Runtime, pod: Pod) -> None:
        container = await pod.run("sleep", "1000")
        stream = await runtime.exec(container, ["cat"], tty=False, stdin=True)
        sent = os.urandom(1 << 16) * 48

        async def write() -> None:
            await stream.write_stdin(sent)
            await stream.write_stdin(b"")

        writer = asyncio.create_task(write())
        received = b"".join([data async for _, data in stream.output()])
        await writer
        assert received == sent

    async def test_port_forward_reaches_a_server_on_the_pods_loopback(self, runtime: to.Runtime, pod: Pod) -> None:
        await pod.run("httpd", "-f", "-p", "127.0.0.1:8080", "-h", "/etc")
        for attempt in range(100):
            try:
                stream = await runtime.port_forward(pod.id, 8080)
                break
            except RuntimeFault:
                assert attempt < 99
                await asyncio.sleep(0.02)
        await stream.write(b"GET /passwd HTTP/1.0\r\n\r\n")
        answer = b""
        while data := await stream.read():
            answer += data
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert b"root:x:0:0" in answer
        await stream.close()

    async def test_host_network_pod_is_reached_on_the_hosts_loopback(self, runtime: to.Runtime, pod: Pod) -> None:
        config = replace(pod.config, name="hostnet", uid="hostnet", security=to.SecurityContext(network=to.NamespaceMode.NODE))
        sandbox = await runtime.run_sandbox(config)
        assert (await runtime.sandbox_status(sandbox)).ips == ()
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
        stream = await runtime.port_forward(sandbox, server.sockets[0].getsockname()[1])
        assert await stream.read() == b""
        server.close()

    async def test_limits_become_cgroups_and_change(self, runtime: to.Runtime, pod: Pod) -> None:
        limits = Resources(cpu_period_us=100_000, cpu_quota_us=50_000, cpu_shares=512, memory_limit_bytes=64 << 20)
        parent = f"/kubepods/burstable/pod{pod.config.uid}"
        config = replace(pod.config, name="limited", uid=f"{pod.config.uid}-l", cgroup_parent=parent)
        limited = Pod(runtime, config, await runtime.run_sandbox(config))
        container = await limited.run("sleep", "1000", resources=limits)
        assert _limits(parent, container) == (50_000, 64 << 20)
        await runtime.update_container_resources(container, replace(limits, cpu_quota_us=70_000, memory_limit_bytes=96 << 20))
        assert _limits(parent, container) == (70_000, 96 << 20)
        await runtime.stop_sandbox(limited.id)
        await runtime.remove_sandbox(limited.id)
        assert daemon.cgroup_dirs(parent) == []

    async def test_memory_above_the_limit_is_an_oom_kill(self, runtime: to.Runtime, pod: Pod) -> None:
        script = "x=a; while true; do x=$x$x; done"
        container = await pod.create("sh", "-c", script, resources=Resources(memory_limit_bytes=16 << 20))
        watcher = await pod.watch(container, "oom")
        await runtime.start_container(container)
        _, found = await asyncio.wait_for(watcher, 20)
        assert found.reason == "OOMKilled"
        status = await pod.ended(container)
        assert (status.exit_code, status.reason) == (137, "OOMKilled")

    async def test_user_groups_and_privileges_are_the_configured_ones(self, runtime: to.Runtime, pod: Pod) -> None:
        security = to.SecurityContext(
            run_as_user=1000,
            run_as_group=3000,
            supplemental_groups=(4000,),
            readonly_rootfs=True,
            no_new_privs=True,
            drop_capabilities=("ALL",),
        )
        script = (
            "id -u; id -g; id -G; touch /x 2>/dev/null; echo $?; grep -E 'CapPrm|NoNewPrivs|Seccomp:' /proc/self/status | cut -f2"
        )
        await pod.ended(await pod.run("sh", "-c", script, security=security))
        assert [line for _, _, line in pod.log()] == ["1000", "3000", "3000 4000", "1", "0000000000000000", "1", "2"]

    async def test_cve_2023_2431_a_seccomp_profile_that_cannot_be_applied_fails_the_container(self, pod: Pod) -> None:
        security = to.SecurityContext(seccomp=to.SecurityProfile("Localhost", "/no/such/profile.json"))
        with pytest.raises(RuntimeFault):
            await pod.run("true", security=security)

    async def test_mounts_and_working_directory(self, pod: Pod, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("content")
        mounts = (to.Mount("/data", str(tmp_path)), to.Mount("/fixed", str(tmp_path), readonly=True))
        script = "cat file; touch /data/made; touch /fixed/no 2>/dev/null || echo readonly; hostname; cat /etc/resolv.conf"
        await pod.ended(await pod.run("sh", "-c", script, mounts=mounts, working_dir="/data"))
        lines = [line for _, _, line in pod.log()]
        assert lines[0] == "contentreadonly"
        assert lines[1] == pod.config.hostname
        assert lines[2:] == ["search default.svc.cluster.local", "nameserver 10.96.0.10", "options ndots:5"]
        assert (tmp_path / "made").exists()

    async def test_stop_signal_is_handled_within_the_grace_time(self, runtime: to.Runtime, pod: Pod) -> None:
        container = await pod.run("sh", "-c", "trap 'echo bye; exit 9' TERM; echo up; while true; do sleep 0.05; done")
        await _until(lambda: ("stdout", "F", "up") in pod.log())
        await runtime.stop_container(container, 20)
        assert (await runtime.container_status(container)).exit_code == 9
        assert ("stdout", "F", "bye") in pod.log()

    async def test_host_port_leads_to_the_pod(self, runtime: to.Runtime, pod: Pod) -> None:
        port = 39017
        config = replace(pod.config, name="ported", uid="ported", port_mappings=(to.PortMapping("TCP", 8080, port),))
        ported = Pod(runtime, config, await runtime.run_sandbox(config))
        await ported.run("httpd", "-f", "-p", "8080", "-h", "/etc")
        for attempt in range(100):
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                break
            except OSError:
                assert attempt < 99
                await asyncio.sleep(0.02)
        writer.write(b"GET /group HTTP/1.0\r\n\r\n")
        assert b"root:x:0" in await reader.read()
        writer.close()

    async def test_crashed_process_leaves_its_containers_to_the_next(
        self, runtime: to.Runtime, pod: Pod, options: BackendOptions
    ) -> None:
        """A process that uses the backend is killed: the daemon and the containers go on, and are taken up."""
        container = await pod.run("sleep", "1000")
        program = textwrap.dedent(f"""
            import asyncio, sys
            from runtimes.containerd import Backend
            from runtimes.interface import BackendOptions
            async def main():
                backend = Backend(BackendOptions(state_dir={options.state_dir!r}, cni_conf_dir={options.cni_conf_dir!r}))
                await backend.start()
                print(len(await backend.list_containers()), flush=True)
                await asyncio.sleep(100)
            asyncio.run(main())
        """)
        user = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        assert user.stdout is not None
        assert (await asyncio.to_thread(user.stdout.readline)).strip() == "1"
        user.kill()
        user.wait()
        assert (await runtime.container_status(container)).state == ContainerState.RUNNING


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[BackendOptions]:
    """Options of a daemon for one test."""
    cni_configuration(tmp_path / "cni", "10.212.0.0/24")
    options = BackendOptions(state_dir=str(tmp_path / "state"), cni_conf_dir=str(tmp_path / "cni"))
    yield options
    backend = containerd.Backend(options)
    await backend.start()
    async with asyncio.timeout(30):
        while sandboxes := await backend.list_sandboxes():
            for sandbox in sandboxes:
                # As an agent does, again where it failed: containerd now and then loses a shim while it stops what is in it.
                with contextlib.suppress(RuntimeFault):
                    await backend.stop_sandbox(sandbox.id)
                    await backend.remove_sandbox(sandbox.id)
    await backend.stop()
    assert backend.daemon is not None
    await backend.daemon.remove()
    remove_network(tmp_path / "cni")


async def test_first_start_brings_the_sandbox_image_without_a_registry(own: BackendOptions) -> None:
    backend = containerd.Backend(own)
    await backend.start()
    image = await backend.image_status(own.sandbox_image)
    assert image is not None
    assert own.sandbox_image in image.tags
    await backend.stop()


async def test_killed_daemon_comes_back_with_the_containers(own: BackendOptions, tmp_path: Path) -> None:
    backend = containerd.Backend(own)
    await backend.start()
    await backend.import_image(chunks(suite_image()))
    config = to.SandboxConfig(name="a", namespace="default", uid="a", log_directory=str(tmp_path))
    pod = Pod(backend, config, await backend.run_sandbox(config))
    container = await pod.run("sleep", "1000")
    events = backend.events()
    waiting = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0.1)  # a subscription has no acknowledgement
    assert backend.daemon is not None
    daemon_of_backend = backend.daemon
    os.kill(daemon_of_backend.pid(), signal.SIGKILL)
    with pytest.raises(Unreachable):
        await waiting
    await _until(lambda: daemon_of_backend.pid() == 0)
    # who watches again brings it back
    waiting = asyncio.ensure_future(anext(backend.events()))
    await _until_answers(backend)
    assert (await backend.container_status(container)).state == ContainerState.RUNNING
    assert (await backend.sandbox_status(pod.id)).state == SandboxState.READY
    await backend.stop_container(container, 0)
    async with asyncio.timeout(30):
        while not waiting.done():  # a subscription has no acknowledgement: until it is there, events are lost
            await pod.run("true")
    assert (await waiting).sandbox_id == pod.id
    await backend.stop()


async def test_changed_configuration_restarts_the_daemon_only(own: BackendOptions, tmp_path: Path) -> None:
    backend = containerd.Backend(own)
    await backend.start()
    await backend.import_image(chunks(suite_image()))
    assert backend.daemon is not None
    first = backend.daemon.pid()
    config = to.SandboxConfig(name="a", namespace="default", uid="a", log_directory=str(tmp_path))
    pod = Pod(backend, config, await backend.run_sandbox(config))
    container = await pod.run("sleep", "1000")
    await backend.stop()

    same = containerd.Backend(own)
    await same.start()
    assert same.daemon is not None
    assert same.daemon.pid() == first
    await same.stop()

    changed = containerd.Backend(replace(own, registries_dir=str(tmp_path / "registries")))
    await changed.start()
    assert changed.daemon is not None
    assert changed.daemon.pid() not in (0, first)
    assert (await changed.container_status(container)).state == ContainerState.RUNNING
    await changed.stop()


async def test_daemon_that_cannot_start_says_why(tmp_path: Path) -> None:
    options = BackendOptions(state_dir=str(tmp_path / "state"), cni_conf_dir=str(tmp_path / "cni"))
    backend = containerd.Backend(options)
    assert backend.daemon is not None
    state = Path(options.state_dir)
    state.mkdir()
    (state / "root").write_text("a file where containerd wants a directory")
    with pytest.raises(Unreachable, match="root"):
        await backend.start()
    await backend.stop()
    await backend.daemon.remove()


async def test_endpoint_without_a_daemon_is_told_with_the_remedy(tmp_path: Path) -> None:
    options = BackendOptions(state_dir=str(tmp_path), endpoint=f"unix://{tmp_path}/none.sock")
    assert "none.sock" in (await asyncio.to_thread(containerd.Backend.missing, options))[0]
    backend = containerd.Backend(options)
    with pytest.raises(Unreachable, match="is it running"):
        await backend.start()
    await backend.stop()


async def test_two_daemons_share_a_machine(own: BackendOptions, tmp_path: Path) -> None:
    cni_configuration(tmp_path / "cni2", "10.213.0.0/24")
    other = replace(own, state_dir=str(tmp_path / "state2"), cni_conf_dir=str(tmp_path / "cni2"))
    backends = [containerd.Backend(own), containerd.Backend(other)]
    addresses = []
    for backend in backends:
        await backend.start()
        config = to.SandboxConfig(name="a", namespace="default", uid="same")
        addresses.append((await backend.sandbox_status(await backend.run_sandbox(config))).ips[0])
        assert len(await backend.list_sandboxes()) == 1
    assert addresses[0].startswith("10.212.")
    assert addresses[1].startswith("10.213.")
    for sandbox in await backends[1].list_sandboxes():
        await backends[1].stop_sandbox(sandbox.id)
        await backends[1].remove_sandbox(sandbox.id)
    for backend in backends:
        await backend.stop()
    assert backends[1].daemon is not None
    await backends[1].daemon.remove()
    remove_network(tmp_path / "cni2")


def test_configuration_names_what_the_machine_can_do(tmp_path: Path) -> None:
    options = BackendOptions(state_dir=str(tmp_path), cni_conf_dir="/etc/cni", sandbox_image="pause:1")
    text = daemon.configuration(options, tmp_path, tmp_path / "run", snapshotter="native", restrict_oom=True)
    assert "restrict_oom_score_adj = true" in text
    assert 'snapshotter = "native"' in text
    assert 'sandbox_image = "pause:1"' in text
    assert 'conf_dir = "/etc/cni"' in text


def test_socket_paths_are_short_wherever_the_data_lies(tmp_path: Path) -> None:
    made = daemon.Daemon(BackendOptions(state_dir=str(tmp_path / ("long" * 40))))
    assert len(made.socket) < 60


def _terminate(options: BackendOptions) -> None:
    made = containerd.Backend(options).daemon
    assert made is not None
    asyncio.run(made.remove())
    assert not made.run_dir.exists()
    remove_network(Path(options.cni_conf_dir))


def _limits(parent: str, container: str) -> tuple[int, int]:
    """(CPU quota, memory limit) of a container, from either version of cgroups."""
    found: dict[str, str] = {}
    for path in daemon.cgroup_dirs(f"{parent}/{container}"):
        for name in ("cpu.cfs_quota_us", "memory.limit_in_bytes", "cpu.max", "memory.max"):
            if (path / name).exists():
                found[name] = (path / name).read_text().split()[0]
    return int(found.get("cpu.max") or found["cpu.cfs_quota_us"]), int(found.get("memory.max") or found["memory.limit_in_bytes"])


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.02)


async def _until_answers(backend: containerd.Backend) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                await backend.info()
                return
            except RuntimeFault:
                await asyncio.sleep(0.05)


def test_a_machine_without_containerd_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonsense")
    monkeypatch.setattr(daemon, "_PATH", "/nonsense")
    options = BackendOptions(state_dir=str(tmp_path), cni_bin_dirs=(str(tmp_path),))
    (lacking,) = containerd.Backend.missing(options)
    assert lacking.startswith("not installed: containerd, containerd-shim-runc-v2, runc, CNI plugins bridge host-local")
    assert lacking.endswith("apt-get install containerd runc containernetworking-plugins iptables")
