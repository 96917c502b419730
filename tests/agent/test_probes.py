"""Probes against real sockets, and hooks."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kubelite.agent import hooks, requests
from kubelite.agent.context import Context
from kubelite.agent.observation import Observed
from kubelite.agent.podstate import Verdict
from kubelite.agent.probes import Probers
from kubelite.meta.types import Obj
from runtimes.interface import ExecResult
from tests.agent.pods import container, observed, pod, record, sandbox


@dataclass
class Server:
    """Answers each request with what `answer` gives; a connection alone is an answer too."""

    port: int
    answer: Callable[[], bytes]
    asked: list[str] = field(default_factory=list)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server(0, lambda: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.read(4096)
        if head:
            made.asked.append(head.decode())
            writer.write(made.answer())
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    made.port = listening.sockets[0].getsockname()[1]
    yield made
    listening.close()


class Prober:
    """One pod's probes, with what they say."""

    def __init__(self, *results: int) -> None:
        self.results = list(results)
        self.told: list[str] = []
        self.changes: asyncio.Queue[dict[str, Verdict]] = asyncio.Queue()
        recorder = SimpleNamespace(pod=lambda pod, kind, reason, message, path: self.told.append(message))
        options = SimpleNamespace(simulated=False)
        runtime = SimpleNamespace(exec_sync=self._exec)
        context = SimpleNamespace(recorder=recorder, options=options, runtime=runtime, now=time.time, host_ips=())
        self.probers = Probers(cast(Context, context), self._changed)

    async def _exec(self, container_id: str, command: tuple[str, ...], timeout_s: float) -> ExecResult:
        code = self.results.pop(0) if len(self.results) > 1 else self.results[0]
        if code < 0:
            raise TimeoutError
        return ExecResult(b"said", b"", code)

    def _changed(self) -> None:
        self.changes.put_nowait(dict(self.probers.verdicts))

    def start(self, *, terminating: bool = False, seen: Observed | None = None, **probes: Obj) -> None:
        spec = pod(container("c", ports=[{"name": "web", "containerPort": 1}], **probes))
        box = sandbox()
        local = type(box)(**{f: getattr(box, f) for f in box.__slots__} | {"ips": ("127.0.0.1",)})
        self.probers.update(spec, seen or observed(record("c"), sandboxes=(local,)), terminating)

    async def verdict(self) -> Verdict:
        """The next one."""
        async with asyncio.timeout(30):
            return (await self.changes.get())["c-0"]


def every(**fields: Any) -> Obj:
    return {"periodSeconds": 0.005, "timeoutSeconds": 1, **fields}


EXEC = {"exec": {"command": ["check", "it"]}}


async def test_an_http_probe_succeeds_on_200_to_399(server: Server) -> None:
    prober = Prober()
    get = {"path": "/healthz?a=b", "port": server.port, "httpHeaders": [{"name": "X-A", "value": "1"}]}
    prober.start(readinessProbe=every(httpGet=get))
    assert (await prober.verdict()).ready is True
    assert server.asked[0].startswith("GET /healthz?a=b HTTP/1.1\r\n")
    assert "User-Agent: kube-probe/1.34" in server.asked[0]
    assert "X-A: 1" in server.asked[0]
    server.answer = lambda: b"HTTP/1.1 503 Busy\r\n\r\n"
    assert (await prober.verdict()).ready is False
    assert prober.told[0] == "Readiness probe failed: HTTP probe failed with statuscode: 503"
    await prober.probers.stop()


async def test_a_redirect_elsewhere_is_not_followed(server: Server) -> None:
    server.answer = lambda: b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/secret\r\n\r\n"
    status, _ = await requests.get("127.0.0.1", server.port, "/", "HTTP", {}, 1)
    assert status == 302
    assert len(server.asked) == 1


async def test_what_does_not_speak_http_fails_the_probe(server: Server) -> None:
    server.answer = lambda: b"SSH-2.0-OpenSSH\r\n"
    with pytest.raises(requests.Malformed):
        await requests.get("127.0.0.1", server.port, "/", "HTTP", {}, 1)
    with pytest.raises(requests.Malformed):
        await requests.get("127.0.0.1", server.port, "/a\r\nX: y", "HTTP", {}, 1)


async def test_a_tcp_probe_needs_only_a_connection(server: Server) -> None:
    prober = Prober()
    prober.start(readinessProbe=every(tcpSocket={"port": server.port}))
    assert (await prober.verdict()).ready is True
    await prober.probers.stop()
    refused = Prober()
    refused.start(livenessProbe=every(tcpSocket={"port": 1}, failureThreshold=1))
    assert (await refused.verdict()).alive is False
    assert refused.told == ["Liveness probe failed: dial tcp 127.0.0.1:1: connect: connection refused"]


async def test_a_verdict_changes_only_at_its_threshold() -> None:
    prober = Prober(0, 1, 0, 1, 1, 1)
    prober.start(livenessProbe=every(failureThreshold=3, **EXEC))
    assert (await prober.verdict()).alive is True
    assert (await prober.verdict()).alive is False
    assert len(prober.told) == 4
    assert prober.told[0] == "Liveness probe failed: said"


async def test_a_failed_liveness_probe_is_not_run_again() -> None:
    prober = Prober(1)
    prober.start(livenessProbe=every(failureThreshold=1, **EXEC))
    assert (await prober.verdict()).alive is False
    async with asyncio.timeout(30):
        while any(not task.done() for task in prober.probers._tasks.values()):
            await asyncio.sleep(0)
    assert len(prober.told) == 1


async def test_readiness_waits_for_the_startup_probe() -> None:
    prober = Prober(1, 1, 0)
    prober.start(startupProbe=every(failureThreshold=30, **EXEC), readinessProbe=every(**EXEC))
    first = await prober.verdict()
    assert (first.started, first.ready) == (True, None)
    assert (await prober.verdict()).ready is True
    await prober.probers.stop()


async def test_an_exec_probe_that_takes_too_long_fails() -> None:
    prober = Prober(-1)
    prober.start(livenessProbe=every(failureThreshold=1, **EXEC))
    assert (await prober.verdict()).alive is False
    assert prober.told == ["Liveness probe failed: command timed out: 'check it' timed out after 1s"]


async def test_a_pod_on_its_way_out_keeps_only_its_readiness_probes() -> None:
    prober = Prober(0)
    prober.start(terminating=True, livenessProbe=every(**EXEC), readinessProbe=every(**EXEC))
    assert [kind for _, kind in prober.probers._tasks] == ["readiness"]
    await prober.probers.stop()


async def test_probes_end_with_their_container() -> None:
    prober = Prober(0)
    prober.start(readinessProbe=every(**EXEC))
    await prober.verdict()
    prober.start(seen=observed(), readinessProbe=every(**EXEC))
    assert prober.probers._tasks == {}
    assert prober.probers.verdicts == {}


async def test_an_http_hook_that_is_refused_fails(server: Server) -> None:
    get = {"httpGet": {"port": server.port, "path": "/stop"}}
    await hooks.run(cast(Any, None), get, container("c"), "id", ["127.0.0.1"], 1)
    server.answer = lambda: b"HTTP/1.1 500 No\r\n\r\n"
    with pytest.raises(hooks.HookFault, match="status 500"):
        await hooks.run(cast(Any, None), get, container("c"), "id", ["127.0.0.1"], 1)


async def test_a_hooks_port_may_be_named() -> None:
    spec = container("c", ports=[{"name": "web", "containerPort": 8080}])
    assert hooks.port_of("web", spec) == 8080
    with pytest.raises(hooks.HookFault):
        hooks.port_of("other", spec)
