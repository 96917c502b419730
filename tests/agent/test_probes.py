"""Probes against real sockets, and hooks."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import HealthServicer

from kubelite.agent import hooks, requests
from kubelite.agent.context import Context
from kubelite.agent.observation import Observed
from kubelite.agent.podstate import Verdict
from kubelite.agent.probes import Probers
from kubelite.meta.types import Obj
from runtimes.interface import ExecResult, RuntimeFault
from tests.agent.pods import container, observed, pod, record, sandbox

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


TIMES_OUT, ERRORS = -1, -2


@dataclass
class Server:
    """Answers each request with what `answer` gives; a connection alone is an answer too."""

    port: int
    answer: Callable[[], bytes]
    asked: list[str] = field(default_factory=list)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server(0, lambda: OK)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.read(4096)
        if head:
            made.asked.append(head.decode("latin-1"))
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
        self.reasons: list[str] = []
        self.commands: list[tuple[str, ...]] = []
        self.changes: asyncio.Queue[dict[str, Verdict]] = asyncio.Queue()
        recorder = SimpleNamespace(pod=self._tell)
        options = SimpleNamespace(simulated=False)
        runtime = SimpleNamespace(exec_sync=self._exec)
        context = SimpleNamespace(recorder=recorder, options=options, runtime=runtime, now=time.time, host_ips=())
        self.probers = Probers(cast(Context, context), self._changed)

    def _tell(self, pod: Obj, kind: str, reason: str, message: str, path: str) -> None:
        assert kind == "Warning"
        self.told.append(message)
        self.reasons.append(reason)

    async def _exec(self, container_id: str, command: tuple[str, ...], timeout_s: float) -> ExecResult:
        self.commands.append(command)
        code = self.results.pop(0) if len(self.results) > 1 else self.results[0]
        if code == ERRORS:
            raise RuntimeFault("no such command", "Unknown")
        if code == TIMES_OUT:
            raise TimeoutError
        return ExecResult(b"said", b"", code)

    def _changed(self) -> None:
        self.changes.put_nowait(dict(self.probers.verdicts))

    def start(self, *others: Obj, terminating: bool = False, seen: Observed | None = None, **probes: Obj) -> None:
        spec = pod(container("c", ports=[{"name": "web", "containerPort": 1}], **probes), *others)
        box = sandbox()
        local = type(box)(**{f: getattr(box, f) for f in box.__slots__} | {"ips": ("127.0.0.1",)})
        self.probers.update(spec, seen or observed(record("c"), sandboxes=(local,)), terminating)

    async def periods(self) -> None:
        """Waits until CLOCK, which must be among the others that run, has been probed so often that all else was due, too."""
        until = self.commands.count(TICK) + 4
        await turns(lambda: self.commands.count(TICK) >= until)

    async def verdict(self, id_: str = "c-0") -> Verdict:
        """The next one."""
        async with asyncio.timeout(30):
            return (await self.changes.get())[id_]


def every(**fields: Any) -> Obj:
    return {"periodSeconds": 0.005, "timeoutSeconds": 1, **fields}


EXEC = {"exec": {"command": ["check", "it"]}}
TICK = ("tick",)
CLOCK = container("clock", startupProbe=every(failureThreshold=1000, exec={"command": list(TICK)}))


async def turns(condition: Callable[[], bool]) -> None:
    """Lets the loop run until the condition holds."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0)


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


async def test_a_redirect_elsewhere_is_not_followed_and_counts_as_a_success_with_a_warning(server: Server) -> None:
    head = b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/secret\r\nTransfer-Encoding: chunked\r\n\r\n"
    server.answer = lambda: head + b"4\r\ngone\r\n5\r\n away\r\n0\r\n\r\n"
    prober = Prober()
    prober.start(readinessProbe=every(httpGet={"path": "/", "port": server.port}, periodSeconds=60))
    assert (await prober.verdict()).ready is True
    assert prober.told == ["Readiness probe warning: Probe terminated redirects, Response body: gone away"]
    assert prober.reasons == ["ProbeWarning"]
    assert len(server.asked) == 1
    await prober.probers.stop()


async def test_a_redirect_to_the_same_host_is_followed_up_to_ten_times(server: Server) -> None:
    answers = [f"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{server.port}/there?x\r\n\r\n".encode(), OK]
    server.answer = lambda: answers.pop(0)
    assert (await requests.get(f"http://127.0.0.1:{server.port}/", (), 1)).status == 200
    assert server.asked[1].startswith("GET /there?x HTTP/1.1\r\n")
    server.answer = lambda: b"HTTP/1.1 301 Moved\r\nLocation: /again\r\n\r\n"
    with pytest.raises(requests.Fault, match="stopped after 10 redirects"):
        await requests.get(f"http://127.0.0.1:{server.port}/", (), 1)
    assert len(server.asked) == 12


async def test_what_does_not_speak_http_fails_the_probe(server: Server) -> None:
    url = f"http://127.0.0.1:{server.port}/"
    server.answer = lambda: b"SSH-2.0-OpenSSH\r\n"
    broken = 'net/http: HTTP/1.x transport connection broken: malformed HTTP response "SSH-2.0-OpenSSH"'
    with pytest.raises(requests.Fault, match=re.escape(f'Get "{url}": {broken}')):
        await requests.get(url, (), 1)
    server.answer = lambda: b""
    with pytest.raises(requests.Fault, match=re.escape(f'Get "{url}": EOF')):
        await requests.get(url, (), 1)
    server.answer = lambda: OK
    with pytest.raises(requests.PlainAnswer, match="http: server gave HTTP response to HTTPS client"):
        await requests.get(f"https://127.0.0.1:{server.port}/", (), 1)


async def test_nothing_of_a_probes_path_or_headers_gets_into_the_request_as_a_line(server: Server) -> None:
    url = requests.url_of("HTTP", "127.0.0.1", server.port, "/a b\r\nX: y")
    await requests.get(url, (), 1)
    assert server.asked[0].startswith("GET /a%20b%0D%0AX:%20y HTTP/1.1\r\n")
    with pytest.raises(requests.Fault, match="line break"):
        await requests.get(url, [("X", "a\r\nY: b")], 1)


async def test_headers_replace_ours_and_may_be_repeated(server: Server) -> None:
    headers = [("Host", "web.example"), ("X-A", "1"), ("X-A", "2"), ("Accept", "")]
    await requests.get(f"http://127.0.0.1:{server.port}/", headers, 1)
    fields = server.asked[0].strip().split("\r\n")[1:]
    assert fields == ["Host: web.example", "Connection: close", "User-Agent: kube-probe/1.34", "X-A: 1", "X-A: 2"]


async def test_a_tcp_probe_needs_only_a_connection(server: Server) -> None:
    prober = Prober()
    prober.start(readinessProbe=every(tcpSocket={"port": server.port}))
    assert (await prober.verdict()).ready is True
    await prober.probers.stop()
    refused = Prober()
    refused.start(livenessProbe=every(tcpSocket={"port": 1}, failureThreshold=1))
    assert (await refused.verdict()).alive is False
    assert refused.told == ["Liveness probe failed: dial tcp 127.0.0.1:1: connect: connection refused"]


async def test_a_grpc_probe_asks_the_health_service(server: Server) -> None:
    health = HealthServicer()
    listening = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health, listening)
    bare = grpc.aio.server()
    ports = [made.add_insecure_port("127.0.0.1:0") for made in (listening, bare)]
    await listening.start()
    await bare.start()

    async def said(port: int, service: str = "", timeout_s: float = 5) -> str:
        prober = Prober()
        spec = {"port": port, "service": service}
        prober.start(livenessProbe=every(grpc=spec, timeoutSeconds=timeout_s, failureThreshold=1, periodSeconds=60))
        await prober.verdict()
        await prober.probers.stop()
        return prober.told[0].removeprefix("Liveness probe failed: ") if prober.told else ""

    assert await said(ports[0]) == ""
    health.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    assert await said(ports[0]) == 'service unhealthy (responded with "NOT_SERVING")'
    assert await said(ports[0], "other") == "error: health rpc probe failed: rpc error: code = NotFound desc = "
    assert (await said(ports[1])).startswith("error: this server does not implement the grpc health protocol")
    text = 'timeout: failed to connect service "127.0.0.1:1" within 200ms: context deadline exceeded'
    assert await said(1, timeout_s=0.2) == text
    await listening.stop(None)
    await bare.stop(None)


async def test_a_verdict_changes_only_at_its_threshold() -> None:
    prober = Prober(0, 1, 0, 1, 1, 1)
    prober.start(livenessProbe=every(failureThreshold=3, **EXEC))
    assert (await prober.verdict()).alive is True
    assert (await prober.verdict()).alive is False
    assert len(prober.told) == 4
    assert prober.told[0] == "Liveness probe failed: said"


async def test_a_failed_liveness_probe_is_not_run_again() -> None:
    prober = Prober(1)
    probe = every(failureThreshold=1, **EXEC)
    prober.start(CLOCK, seen=observed(record("c"), record("clock")), livenessProbe=probe)
    assert (await prober.verdict()).alive is False
    await prober.periods()
    assert prober.commands.count(("check", "it")) == prober.told.count("Liveness probe failed: said") == 1
    prober.start(CLOCK, seen=observed(record("c", restarts=1), record("clock")), livenessProbe=probe)
    assert (await prober.verdict("c-1")).alive is False
    await prober.probers.stop()


async def test_a_check_that_could_not_be_made_is_tried_three_times_and_counts_for_nothing() -> None:
    prober = Prober(1, ERRORS, ERRORS, ERRORS, 1)
    prober.start(livenessProbe=every(failureThreshold=2, **EXEC))
    assert (await prober.verdict()).alive is False
    errored = "Liveness probe errored and resulted in unknown state: rpc error: code = Unknown desc = no such command"
    assert prober.told == ["Liveness probe failed: said", errored, "Liveness probe failed: said"]
    assert len(prober.commands) == 5
    await prober.probers.stop()


async def test_a_check_that_succeeds_when_tried_again_says_nothing_of_it() -> None:
    prober = Prober(ERRORS, 0)
    prober.start(livenessProbe=every(**EXEC))
    assert (await prober.verdict()).alive is True
    assert prober.told == []
    await prober.probers.stop()


async def test_a_port_that_is_not_there_is_an_error_of_the_check(server: Server) -> None:
    prober = Prober()
    prober.start(readinessProbe=every(httpGet={"port": "nope"}))
    await turns(lambda: bool(prober.told))
    text = 'Readiness probe errored and resulted in unknown state: strconv.Atoi: parsing "nope": invalid syntax'
    assert prober.told[0] == text
    assert prober.changes.empty()
    await prober.probers.stop()


async def test_a_commands_variables_are_those_whose_values_the_spec_has() -> None:
    env = [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]
    prober = Prober(0)
    command = {"exec": {"command": ["check", "$(A)", "$(B)", "$(C)", "$$(A)"]}}
    prober.start(env=env, livenessProbe=every(**command))
    await prober.verdict()
    assert prober.commands[0] == ("check", "1", "", "$(C)", "$(A)")
    await prober.probers.stop()


async def test_readiness_is_probed_at_once_when_a_status_is_made_and_liveness_at_its_next_period() -> None:
    prober = Prober(0)
    probes = {"readinessProbe": every(periodSeconds=60, **EXEC), "livenessProbe": every(periodSeconds=60, **EXEC)}
    prober.start(seen=observed(), **probes)
    for _ in range(5):  # each has found that there is nothing to probe yet
        await asyncio.sleep(0)
    prober.start(**probes)
    assert (await prober.verdict()) == Verdict(ready=True)
    assert len(prober.commands) == 1
    await prober.probers.stop()


async def test_probes_of_containers_that_were_taken_over_begin_at_different_times(monkeypatch: pytest.MonkeyPatch) -> None:
    shares: list[tuple[float, float]] = []
    monkeypatch.setattr("random.uniform", lambda low, high: shares.append((low, high)) or 0.0)
    prober = Prober(1)
    prober.probers.adopt({"c-0": Verdict(ready=True)})
    prober.start(readinessProbe=every(failureThreshold=1, **EXEC))
    assert prober.probers.verdicts["c-0"].ready is True
    assert (await prober.verdict()).ready is False
    assert shares == [(0, 0.005)]
    await prober.probers.stop()


async def test_readiness_waits_for_the_startup_probe() -> None:
    prober = Prober(1, 1, 0)
    prober.start(startupProbe=every(failureThreshold=30, **EXEC), readinessProbe=every(**EXEC))
    first = await prober.verdict()
    assert (first.started, first.ready) == (True, None)
    assert (await prober.verdict()).ready is True
    await prober.probers.stop()


async def test_an_exec_probe_that_takes_too_long_fails() -> None:
    prober = Prober(TIMES_OUT)
    prober.start(livenessProbe=every(failureThreshold=1, **EXEC))
    assert (await prober.verdict()).alive is False
    assert prober.told == ['Liveness probe failed: command timed out: "check it" timed out after 1s']


async def test_a_pod_on_its_way_out_keeps_only_its_readiness_probes() -> None:
    prober = Prober(0)
    prober.start(terminating=True, livenessProbe=every(**EXEC), readinessProbe=every(**EXEC))
    assert [kind for _, kind in prober.probers._probes] == ["readiness"]
    await prober.probers.stop()


async def test_probes_end_with_their_container() -> None:
    prober = Prober(1)
    probe = every(failureThreshold=1, **EXEC)
    prober.start(CLOCK, seen=observed(record("c"), record("clock")), readinessProbe=probe)
    assert (await prober.verdict()).ready is False
    prober.start(CLOCK, seen=observed(record("clock")), readinessProbe=probe)
    assert "c-0" not in prober.probers.verdicts
    made = prober.commands.count(("check", "it"))
    await prober.periods()
    assert prober.commands.count(("check", "it")) == made
    await prober.probers.stop()


async def test_an_http_hook_is_content_with_any_answer(server: Server) -> None:
    get = {"httpGet": {"port": server.port, "path": "/stop"}}
    server.answer = lambda: b"HTTP/1.1 500 No\r\n\r\n"
    await hooks.run(cast(Any, None), get, container("c"), "id", ["127.0.0.1"], 1)
    assert "User-Agent: kube-lifecycle/1.34" in server.asked[0]
    with pytest.raises(hooks.HookFault, match="connection refused"):
        await hooks.run(cast(Any, None), {"httpGet": {"port": 1}}, container("c"), "id", ["127.0.0.1"], 1)
    with pytest.raises(hooks.HookFault, match="no address"):
        await hooks.run(cast(Any, None), get, container("c"), "id", [], 1)


async def test_an_https_hook_that_is_answered_in_http_falls_back_without_its_credentials(server: Server) -> None:
    headers = [{"name": "Authorization", "value": "secret"}, {"name": "X-A", "value": "1"}]
    get = {"httpGet": {"port": server.port, "path": "/stop", "scheme": "HTTPS", "httpHeaders": headers}}
    told: list[str] = []
    await hooks.run(cast(Any, None), get, container("c"), "id", ["127.0.0.1"], 1, told.append)
    assert told == [f"127.0.0.1:{server.port}"]
    assert "secret" not in server.asked[-1]
    assert "X-A: 1" in server.asked[-1]


async def test_a_hooks_port_may_be_named() -> None:
    spec = container("c", ports=[{"name": "web", "containerPort": 8080}])
    assert hooks.port_of("web", spec) == 8080
    with pytest.raises(hooks.HookFault):
        hooks.port_of("other", spec)
