"""postStart and preStop: a command in the container, an HTTP request to the pod, or a pause.

Source: pkg/kubelet/lifecycle/handlers.go, v1.34.
"""

import asyncio
from collections.abc import Mapping, Sequence

from kubelite.agent import requests
from kubelite.meta.types import Obj
from runtimes.interface import Runtime, RuntimeFault


class HookFault(Exception):
    """A hook failed; the message may hold output of the container's and goes into no event."""


async def run(runtime: Runtime, hook: Obj, container: Obj, container_id: str, pod_ips: Sequence[str], timeout_s: float) -> None:
    """Runs a hook to its end.

    Raises:
        HookFault: it failed or took too long.
    """
    try:
        if exec_ := hook.get("exec"):
            result = await runtime.exec_sync(container_id, tuple(exec_.get("command") or ()), timeout_s)
            if result.exit_code != 0:
                output = (result.stdout + result.stderr).decode(errors="replace")
                raise HookFault(f"command {exec_.get('command')} exited with {result.exit_code}: {output}")
        elif get := hook.get("httpGet"):
            host = get.get("host") or (pod_ips[0] if pod_ips else "127.0.0.1")
            status, _ = await requests.get(
                host, port_of(get["port"], container), get.get("path") or "/", get.get("scheme", "HTTP"), _headers(get), timeout_s
            )
            if not 200 <= status < 400:
                raise HookFault(f"HTTP hook answered with status {status}")
        elif (tcp := hook.get("tcpSocket")) is not None:
            host = tcp.get("host") or (pod_ips[0] if pod_ips else "127.0.0.1")
            await requests.connect(host, port_of(tcp["port"], container), timeout_s)
        elif (sleep := hook.get("sleep")) is not None:
            await asyncio.sleep(min(float(sleep["seconds"]), timeout_s))
    except (RuntimeFault, OSError, TimeoutError, requests.Malformed) as e:
        raise HookFault(str(e) or type(e).__name__) from e


def port_of(port: int | str, container: Obj) -> int:
    """A port by its number or its name in the container. Raises HookFault for a name that it doesn't have."""
    if isinstance(port, int):
        return port
    for candidate in container.get("ports") or ():
        if candidate.get("name") == port:
            return int(candidate["containerPort"])
    if port.isdigit():
        return int(port)
    raise HookFault(f"couldn't find port: {port!r} in container {container['name']}")


def _headers(get: Obj) -> Mapping[str, str]:
    return {h["name"]: h.get("value", "") for h in get.get("httpHeaders") or ()}
