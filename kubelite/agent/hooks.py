"""postStart and preStop: a command in the container, an HTTP request to the pod, or a pause.

Source: pkg/kubelet/lifecycle/handlers.go, v1.34.
"""

import asyncio
from collections.abc import Callable, Sequence

from kubelite.agent import requests
from kubelite.meta.types import Obj
from runtimes.interface import Runtime, RuntimeFault

USER_AGENT = "kube-lifecycle/1.34"


class HookFault(Exception):
    """A hook failed; the message may hold output of the container's and goes into no event."""


async def run(
    runtime: Runtime,
    hook: Obj,
    container: Obj,
    container_id: str,
    pod_ips: Sequence[str],
    timeout_s: float,
    fell_back: Callable[[str], None] = lambda address: None,
) -> None:
    """Runs a hook to its end. `fell_back` is told of an HTTPS hook that only answers over HTTP.

    Raises:
        HookFault: it failed or took too long.
    """
    if exec_ := hook.get("exec"):
        await _exec(runtime, tuple(exec_.get("command") or ()), container_id, timeout_s)
    elif get := hook.get("httpGet"):
        await _http(get, container, pod_ips, timeout_s, fell_back)
    elif (sleep := hook.get("sleep")) is not None:
        await asyncio.sleep(min(float(sleep["seconds"]), timeout_s))
    else:
        raise HookFault(f"invalid handler: {', '.join(hook) or 'none'}")


def what(hook: Obj) -> str:
    """The hook in the words of a failure's message."""
    if exec_ := hook.get("exec"):
        return f"Exec lifecycle hook ([{' '.join(exec_.get('command') or ())}])"
    if get := hook.get("httpGet"):
        return f"HTTP lifecycle hook ({get.get('path', '')})"
    return f"Sleep lifecycle hook ({(hook.get('sleep') or {}).get('seconds', 0)})"


async def _exec(runtime: Runtime, command: Sequence[str], container_id: str, timeout_s: float) -> None:
    try:
        result = await runtime.exec_sync(container_id, command, timeout_s)
    except RuntimeFault as e:
        raise HookFault(f'{e.described}, message: ""') from e
    except TimeoutError as e:
        raise HookFault(f"command timed out: {' '.join(command)}") from e
    if result.exit_code != 0:
        errors, output = result.stderr.decode(errors="replace"), (result.stdout + result.stderr).decode(errors="replace")
        text = output.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        raise HookFault(f"command '{' '.join(command)}' exited with {result.exit_code}: {errors}, message: \"{text}\"")


async def _http(get: Obj, container: Obj, pod_ips: Sequence[str], timeout_s: float, fell_back: Callable[[str], None]) -> None:
    """Any answer is good, whatever its status."""
    host = get.get("host") or (pod_ips[0] if pod_ips else "")
    if not host:
        raise HookFault("failed to find networking container: the pod has no address")
    scheme, port, path = get.get("scheme") or "HTTP", port_of(get["port"], container), get.get("path") or ""
    headers = [(header["name"], header.get("value", "")) for header in get.get("httpHeaders") or ()]
    try:
        try:
            await requests.get(requests.url_of(scheme, host, port, path), headers, timeout_s, USER_AGENT)
        except requests.PlainAnswer:
            # What was meant for a server that proved to be none of TLS' is not sent in the clear.
            open_headers = [(name, value) for name, value in headers if name.lower() != "authorization"]
            await requests.get(requests.url_of("HTTP", host, port, path), open_headers, timeout_s, USER_AGENT)
            fell_back(f"{host}:{port}")
    except requests.Fault as e:
        raise HookFault(str(e)) from e


def port_of(port: int | str, container: Obj) -> int:
    """A port by its number or its name in the container. Raises HookFault for a name that it doesn't have."""
    if isinstance(port, int):
        return port
    for candidate in container.get("ports") or ():
        if candidate.get("name") == port:
            return int(candidate["containerPort"])
    if port.isdigit():
        return int(port)
    raise HookFault(f'strconv.Atoi: parsing "{port}": invalid syntax')
