"""One attempt of a probe: a command, an HTTP request, a connection or a health call, and what came of it.

Source: pkg/probe, pkg/kubelet/prober/prober.go (results and texts), v1.34.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from kubelite.agent import environment, hooks, requests
from kubelite.agent.context import Context
from kubelite.meta import times
from kubelite.meta.types import Obj
from runtimes.interface import RuntimeFault

OUTPUT_LIMIT = 10 * 1024


class Errored(Exception):
    """The check could not be made, which says nothing of the container."""


@dataclass(frozen=True, slots=True)
class Result:
    """`warning` is a success that its text is told of; a failure's text says why."""

    good: bool
    text: str = ""
    warning: bool = False


GOOD = Result(True)


async def run(context: Context, container: Obj, container_id: str, probe: Obj, ips: Sequence[str]) -> Result:
    """Checks a container once.

    Raises:
        Errored: nothing is known.
    """
    timeout_s = float(probe.get("timeoutSeconds") or 1)
    ip = ips[0] if ips else ""
    try:
        if exec_ := probe.get("exec"):
            return await _exec(context, container, container_id, exec_.get("command") or (), timeout_s)
        if context.options.simulated:
            return GOOD  # nothing listens in a simulated pod
        if get := probe.get("httpGet"):
            return await _http(get, container, ip, timeout_s)
        if (tcp := probe.get("tcpSocket")) is not None:
            return await _tcp(tcp.get("host") or ip, hooks.port_of(tcp["port"], container), timeout_s)
        if (grpc := probe.get("grpc")) is not None:
            return await _grpc(ip, grpc["port"], grpc.get("service") or "", timeout_s)
    except hooks.HookFault as e:
        raise Errored(str(e)) from e
    raise Errored(f"missing probe handler for {container['name']}")


async def _exec(context: Context, container: Obj, container_id: str, command: Sequence[str], timeout_s: float) -> Result:
    # What refers to something stays empty: it is known to the container's own processes only.
    variables = {entry["name"]: entry.get("value") or "" for entry in container.get("env") or ()}
    command = tuple(environment.expand(part, variables.get) for part in command)
    try:
        result = await context.runtime.exec_sync(container_id, command, timeout_s)
    except TimeoutError:
        length = times.format_go_duration(int(timeout_s * 1e9))
        return Result(False, f'command timed out: "{" ".join(command)}" timed out after {length}')
    except RuntimeFault as e:
        raise Errored(e.described) from e
    if result.exit_code == 0:
        return GOOD
    return Result(False, (result.stdout + result.stderr)[:OUTPUT_LIMIT].decode(errors="replace"))


async def _http(get: Obj, container: Obj, ip: str, timeout_s: float) -> Result:
    port = hooks.port_of(get["port"], container)
    url = requests.url_of(get.get("scheme") or "HTTP", get.get("host") or ip, port, get.get("path") or "")
    headers = [(header["name"], header.get("value", "")) for header in get.get("httpHeaders") or ()]
    try:
        answer = await requests.get(url, headers, timeout_s)
    except requests.Fault as e:
        return Result(False, str(e))
    if 200 <= answer.status < 300:
        return GOOD
    if 300 <= answer.status < 400:
        return Result(True, f"Probe terminated redirects, Response body: {answer.body.decode(errors='replace')}", warning=True)
    return Result(False, f"HTTP probe failed with statuscode: {answer.status}")


async def _tcp(host: str, port: int, timeout_s: float) -> Result:
    try:
        await requests.dial(host, port, timeout_s)
    except requests.Fault as e:
        return Result(False, str(e))
    return GOOD


async def _grpc(host: str, port: int, service: str, timeout_s: float) -> Result:
    import grpc.aio  # only few pods have such a probe
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    length = times.format_go_duration(int(timeout_s * 1e9))
    ends_at_s = time.monotonic() + timeout_s
    async with grpc.aio.insecure_channel(address, [("grpc.primary_user_agent", requests.USER_AGENT)]) as channel:
        try:
            async with asyncio.timeout(timeout_s):
                await channel.channel_ready()
            stub = health_pb2_grpc.HealthStub(channel)
            request = health_pb2.HealthCheckRequest(service=service)
            answer = await stub.Check(request, timeout=max(ends_at_s - time.monotonic(), 0))
        except TimeoutError:
            text = f'timeout: failed to connect service "{address}" within {length}: context deadline exceeded'
            return Result(False, text)
        except grpc.aio.AioRpcError as e:
            if e.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                return Result(False, f"timeout: health rpc did not complete within {length}")
            if e.code() is grpc.StatusCode.UNIMPLEMENTED:
                text = "error: this server does not implement the grpc health protocol (grpc.health.v1.Health)"
                return Result(False, f"{text}: {e.details()}")
            code = "".join(word.capitalize() for word in e.code().name.split("_"))
            return Result(False, f"error: health rpc probe failed: rpc error: code = {code} desc = {e.details()}")
    if answer.status == health_pb2.HealthCheckResponse.SERVING:
        return GOOD
    state = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    return Result(False, f'service unhealthy (responded with "{state}")')
