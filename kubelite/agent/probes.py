"""Startup, liveness and readiness probes: one task a probe while its container runs, its verdict kept for podstate.

A verdict changes only after as many equal results in a row as its threshold asks for. Liveness and readiness wait for the startup
probe; a container that failed liveness or startup is not probed again until it was restarted (it then has another id).

Source: pkg/kubelet/prober/worker.go, pkg/probe, v1.34.
"""

import asyncio
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import structlog

from kubelite.agent import hooks, requests
from kubelite.agent.context import Context
from kubelite.agent.events import field_path
from kubelite.agent.observation import Observed, Record
from kubelite.agent.podstate import Verdict, all_containers
from kubelite.meta.types import Obj
from runtimes.interface import RuntimeFault

log = structlog.get_logger()

Kind = Literal["startup", "liveness", "readiness"]
_VERDICT_FIELD = {"startup": "started", "liveness": "alive", "readiness": "ready"}
MAX_MESSAGE = 1024


class Probers:
    """The probes of one pod's containers. `changed` is called when a verdict does."""

    def __init__(self, context: Context, changed: Callable[[], None]) -> None:
        self._context = context
        self._changed = changed
        self._tasks: dict[tuple[str, Kind], asyncio.Task[None]] = {}
        self._started: dict[str, asyncio.Event] = {}
        #: By container id.
        self.verdicts: dict[str, Verdict] = {}

    def update(self, pod: Obj, observed: Observed, terminating: bool) -> None:
        """Probes what runs now and has probes, and nothing else. A pod on its way out keeps its readiness probes only."""
        wanted: set[tuple[str, Kind]] = set()
        for container, role in all_containers(pod):
            record = observed.newest(container["name"])
            if record is None or not record.running or role in ("init", "ephemeral"):
                continue
            for kind in ("startup", "liveness", "readiness"):
                probe = container.get(f"{kind}Probe")
                if probe is None or (terminating and kind != "readiness"):
                    continue
                wanted.add((record.id, kind))
                if (record.id, kind) not in self._tasks:
                    self._start(pod, container, record, kind, probe, observed.ips)
        for key in [k for k in self._tasks if k not in wanted]:
            self._tasks.pop(key).cancel()
        alive = {record.id for record in observed.containers}
        for id_ in [i for i in self.verdicts if i not in alive]:
            del self.verdicts[id_]
            self._started.pop(id_, None)

    def _start(self, pod: Obj, container: Obj, record: Record, kind: Kind, probe: Obj, ips: Sequence[str]) -> None:
        started = self._started.setdefault(record.id, asyncio.Event())
        if container.get("startupProbe") is None:
            started.set()
        if pod["spec"].get("hostNetwork"):
            ips = self._context.host_ips
        task = asyncio.create_task(
            self._probe(pod, container, record, kind, probe, ips, started),
            name=f"{kind} probe of {container['name']} in {pod['metadata']['namespace']}/{pod['metadata']['name']}",
        )
        self._tasks[record.id, kind] = task

    async def stop(self) -> None:
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _probe(
        self, pod: Obj, container: Obj, record: Record, kind: Kind, probe: Obj, ips: Sequence[str], started: asyncio.Event
    ) -> None:
        if kind != "startup":
            await started.wait()
        period_s = float(probe.get("periodSeconds") or 10)
        began_s = record.started_at_ns / 1e9
        await asyncio.sleep(max(0.0, began_s + (probe.get("initialDelaySeconds") or 0) - self._context.now()))
        threshold = {True: probe.get("successThreshold") or 1, False: probe.get("failureThreshold") or 3}
        current = self._verdict(record.id, kind)
        last: bool | None = None
        run = 0
        while True:
            failure = await self._attempt(container, record, probe, ips)
            good = failure is None
            if failure is not None:
                text = f"{kind.capitalize()} probe {failure}"
                self._context.recorder.pod(pod, "Warning", "Unhealthy", text, field_path(pod, container["name"]))
            run = run + 1 if good is last else 1
            last = good
            if run >= threshold[good] and current is not good:
                current = good
                self._set(record.id, kind, good)
                if kind == "startup" and good:
                    started.set()
                    return
                if not good and kind != "readiness":
                    log.info("probe_failed", probe=kind, pod=pod["metadata"]["name"], container=container["name"])
                    return
            await asyncio.sleep(period_s)

    def _verdict(self, id_: str, kind: Kind) -> bool | None:
        value: bool | None = getattr(self.verdicts.get(id_, Verdict()), _VERDICT_FIELD[kind])
        return value

    def _set(self, id_: str, kind: Kind, value: bool) -> None:
        self.verdicts[id_] = replace(self.verdicts.get(id_, Verdict()), **{_VERDICT_FIELD[kind]: value})
        self._changed()

    async def _attempt(self, container: Obj, record: Record, probe: Obj, ips: Sequence[str]) -> str | None:
        """None for a success, else `failed: ...` or `errored: ...` as the event says it."""
        timeout_s = float(probe.get("timeoutSeconds") or 1)
        ip = ips[0] if ips else ""
        try:
            if exec_ := probe.get("exec"):
                return await self._exec(record, exec_.get("command") or (), timeout_s)
            if self._context.options.simulated:
                return None  # nothing listens in a simulated pod
            if get := probe.get("httpGet"):
                return await _http(get, container, get.get("host") or ip, timeout_s)
            if (tcp := probe.get("tcpSocket")) is not None:
                return await _tcp(tcp.get("host") or ip, hooks.port_of(tcp["port"], container), timeout_s)
            if (grpc := probe.get("grpc")) is not None:
                return await _grpc(ip, grpc["port"], grpc.get("service") or "", timeout_s)
        except hooks.HookFault as e:
            return f"errored: {e}"
        return None

    async def _exec(self, record: Record, command: Sequence[str], timeout_s: float) -> str | None:
        try:
            result = await self._context.runtime.exec_sync(record.id, tuple(command), timeout_s)
        except TimeoutError:
            return f"failed: command timed out: {shlex.join(command)!r} timed out after {timeout_s:g}s"
        except RuntimeFault as e:
            return f"errored: {e}"
        if result.exit_code == 0:
            return None
        return f"failed: {_shown(result.stdout + result.stderr)}"


def _shown(text: bytes) -> str:
    return text[:MAX_MESSAGE].decode(errors="replace")


async def _http(get: Obj, container: Obj, host: str, timeout_s: float) -> str | None:
    port = hooks.port_of(get["port"], container)
    scheme, path = get.get("scheme") or "HTTP", get.get("path") or "/"
    headers = {h["name"]: h.get("value", "") for h in get.get("httpHeaders") or ()}
    name = f"[{host}]" if ":" in host else host
    url = f'Get "{scheme.lower()}://{name}:{port}{path if path.startswith("/") else "/" + path}"'
    try:
        status, _ = await requests.get(host, port, path, scheme, headers, timeout_s)
    except TimeoutError:
        return f"failed: {url}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
    except OSError as e:
        return f"failed: {url}: {_dial(name, port, e)}"
    except requests.Malformed as e:
        return f"failed: {url}: {e}"
    return None if 200 <= status < 400 else f"failed: HTTP probe failed with statuscode: {status}"


async def _tcp(host: str, port: int, timeout_s: float) -> str | None:
    try:
        await requests.connect(host, port, timeout_s)
    except TimeoutError:
        return f"failed: dial tcp {host}:{port}: i/o timeout"
    except OSError as e:
        return f"failed: {_dial(host, port, e)}"
    return None


def _dial(host: str, port: int, error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return f"dial tcp {host}:{port}: connect: connection refused"
    return f"dial tcp {host}:{port}: {(error.strerror or str(error)).lower()}"


async def _grpc(host: str, port: int, service: str, timeout_s: float) -> str | None:
    import grpc.aio  # only few pods have such a probe
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    name = f"[{host}]" if ":" in host else host
    async with grpc.aio.insecure_channel(f"{name}:{port}", [("grpc.primary_user_agent", requests.USER_AGENT)]) as channel:
        try:
            stub = health_pb2_grpc.HealthStub(channel)
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=timeout_s)
        except grpc.aio.AioRpcError as e:
            if e.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                return f"failed: timeout: health rpc did not complete within {timeout_s:g}s"
            if e.code() is grpc.StatusCode.UNAVAILABLE:
                return f'failed: timeout: failed to connect service "{name}:{port}" within {timeout_s:g}s: {e.details()}'
            return f"failed: error: health rpc probe failed: {e.details()}"
    if answer.status == health_pb2.HealthCheckResponse.SERVING:
        return None
    state = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    return f'failed: service unhealthy (responded with "{state}")'
