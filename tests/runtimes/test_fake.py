import asyncio
import tracemalloc
from collections.abc import AsyncIterator

import pytest

from runtimes import fake
from runtimes.interface import (
    BackendOptions,
    ContainerConfig,
    ContainerState,
    ImagePullFault,
    RuntimeFault,
    SandboxConfig,
    Unreachable,
)
from runtimes.suite import RuntimeSuite


class TestFake(RuntimeSuite):
    backend = fake.Backend


@pytest.fixture
async def runtime() -> AsyncIterator[fake.Backend]:
    made = fake.Backend(BackendOptions(state_dir=""))
    await made.pull_image("busybox")
    yield made


SANDBOX = SandboxConfig(name="a", namespace="default", uid="u")


async def running(runtime: fake.Backend, *command: str) -> str:
    sandbox = await runtime.run_sandbox(SANDBOX)
    container = await runtime.create_container(sandbox, ContainerConfig("c", 0, "busybox", command=command), SANDBOX)
    await runtime.start_container(container)
    return container


async def test_faults_can_be_set_by_verb_and_by_function(runtime: fake.Backend) -> None:
    runtime.set(faults={"run_sandbox": "no space left"})
    with pytest.raises(RuntimeFault, match="no space left"):
        await runtime.run_sandbox(SANDBOX)
    runtime.set(faults=lambda verb, subject: Unreachable("gone") if (verb, subject) == ("run_sandbox", "a") else None)
    with pytest.raises(Unreachable):
        await runtime.run_sandbox(SANDBOX)
    runtime.set(faults=None)
    assert await runtime.run_sandbox(SANDBOX)


async def test_missing_images_cannot_be_pulled(runtime: fake.Backend) -> None:
    runtime.set(missing_images=["broken"])
    with pytest.raises(ImagePullFault, match=r"example.com/broken:1"):
        await runtime.pull_image("example.com/broken:1")
    assert await runtime.image_status("example.com/broken:1") is None


async def test_verbs_take_the_time_that_is_set(runtime: fake.Backend) -> None:
    runtime.set(run_sandbox_s=0.05)
    began = asyncio.get_running_loop().time()
    await runtime.run_sandbox(SANDBOX)
    assert asyncio.get_running_loop().time() - began >= 0.05


async def test_crash_of_a_container_can_be_played(runtime: fake.Backend) -> None:
    container = await running(runtime, "server")
    runtime.exit_container(container, 137, "OOMKilled")
    status = await runtime.container_status(container)
    assert (status.state, status.exit_code, status.reason) == (ContainerState.EXITED, 137, "OOMKilled")


async def test_want_of_memory_is_told_before_and_after_the_end(runtime: fake.Backend) -> None:
    before, after = [await running(runtime, "server") for _ in range(2)]
    events = runtime.events()
    seen = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)  # until it listens
    runtime.run_out_of_memory(before)
    event = await seen
    assert (event.container_id, event.kind) == (before, "oom")
    for container in (before, after):
        runtime.exit_container(container, 137)
    assert [(await runtime.container_status(c)).reason for c in (before, after)] == ["OOMKilled", "Error"]
    runtime.run_out_of_memory(after)
    assert (await runtime.container_status(after)).reason == "OOMKilled"


async def test_addresses_come_from_the_given_range_and_return_to_it(runtime: fake.Backend) -> None:
    runtime.use_pod_cidr("10.1.2.0/29")
    made = [await runtime.run_sandbox(SANDBOX) for _ in range(5)]
    assert sorted([(await runtime.sandbox_status(s)).ips[0] for s in made]) == [f"10.1.2.{n}" for n in range(2, 7)]
    with pytest.raises(RuntimeFault, match="no IP addresses"):
        await runtime.run_sandbox(SANDBOX)
    await runtime.remove_sandbox(made[2])
    assert await runtime.run_sandbox(SANDBOX)


async def test_ports_that_listen_echo(runtime: fake.Backend) -> None:
    runtime.set(ports={8080})
    sandbox = await runtime.run_sandbox(SANDBOX)
    stream = await runtime.port_forward(sandbox, 8080)
    await stream.write(b"ping")
    assert await stream.read() == b"ping"
    await stream.write_eof()
    assert await stream.read() == b""


@pytest.mark.parametrize(
    ("script", "output", "code"),
    [
        ("echo a && echo b", b"a\nb\n", 0),
        ("false && echo b", b"", 1),
        ("echo a; exit 3; echo b", b"a\n", 3),
        ("echo $NAME ${NAME}", b"x x\n", 0),
        ("nosuch", b"", 127),
        ("echo 'quoted words'", b"quoted words\n", 0),
    ],
)
def test_scripts_do_what_they_say(script: str, output: bytes, code: int) -> None:
    behaviour = fake.behaviour_of(["sh", "-c", script], {"NAME": "x"})
    assert behaviour is not None
    assert (behaviour.stdout, behaviour.exit_code, behaviour.runs_s) == (output, code, 0.0)


@pytest.mark.parametrize("script", ["while true; do sleep 1; done", "sleep infinity", "cat /x | grep y"])
def test_scripts_that_are_not_understood_run_until_stopped(script: str) -> None:
    behaviour = fake.behaviour_of(["sh", "-c", script], {})
    assert behaviour is not None
    assert behaviour.runs_s is None or script == "sleep infinity"


@pytest.mark.slow
async def test_thousands_of_sandboxes_are_cheap(runtime: fake.Backend) -> None:
    tracemalloc.start()
    for _ in range(2000):
        await running(runtime, "server")
    used_bytes = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert used_bytes / 2000 < 4096
    assert len(await runtime.list_containers()) == 2000
