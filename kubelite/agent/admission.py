"""Whether this node takes a pod that was bound to it: its own check of what the scheduler decided, on the node's own truth.

A pod that is refused ends as Failed with the reason; whoever made it makes another. Pure.

Source: pkg/kubelet/lifecycle/predicate.go, pkg/kubelet/sysctl, v1.34.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from kubelite.agent import resources
from kubelite.agent.context import Context
from kubelite.agent.podstate import all_containers
from kubelite.meta import quantities
from kubelite.meta.types import Obj

SAFE_SYSCTLS = (
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
)


_UNITS: Mapping[str, Callable[[str], int]] = {
    "cpu": quantities.milli,
    "memory": quantities.value,
    "ephemeral-storage": quantities.value,
}


@dataclass(frozen=True, slots=True)
class Claim:
    """What a pod takes of its node: resources (CPU in thousandths), and host ports as (protocol, address, port)."""

    requests: Mapping[str, int]
    ports: frozenset[tuple[str, str, int]] = frozenset()


def claim_of(pod: Obj) -> Claim:
    spec = pod["spec"]
    sidecars = [c for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"]
    ports = frozenset(
        (p.get("protocol", "TCP"), p.get("hostIP") or "0.0.0.0", p["hostPort"])
        for c in (*sidecars, *spec["containers"])
        for p in c.get("ports") or ()
        if p.get("hostPort")
    )
    return Claim(requests_of(pod), ports)


def check(context: Context, pod: Obj, others: Sequence[Claim]) -> tuple[str, str] | None:
    """Why the pod is refused: reason and message; None: it is taken. `others` are the claims of the node's other pods."""
    own = claim_of(pod)
    return (
        _os(pod)
        or _apparmor(pod)
        or _sysctls(context, pod)
        or _resources(context, own, others)
        or _selector(context, pod)
        or _ports(own, others)
    )


def _os(pod: Obj) -> tuple[str, str] | None:
    name = (pod["spec"].get("os") or {}).get("name", "linux")
    if name == "linux":
        return None
    return "PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"


def _apparmor(pod: Obj) -> tuple[str, str] | None:
    """A profile that can't be put on is refused, not left out. RuntimeDefault is up to the runtime."""
    holders = [pod["spec"], *(c for c, _ in all_containers(pod))]
    profiles = [(h.get("securityContext") or {}).get("appArmorProfile") or {} for h in holders]
    if any(p.get("type") == "Localhost" for p in profiles):
        return "AppArmor", "Cannot enforce AppArmor: profiles of the node are not supported"
    return None


def _sysctls(context: Context, pod: Obj) -> tuple[str, str] | None:
    allowed = (*SAFE_SYSCTLS, *context.options.allowed_unsafe_sysctls)
    for entry in (pod["spec"].get("securityContext") or {}).get("sysctls") or ():
        name = entry["name"].replace("/", ".")
        if not any(name == a or (a.endswith("*") and name.startswith(a[:-1])) for a in allowed):
            return "SysctlForbidden", f'forbidden sysctl: "{entry["name"]}" not allowlisted'
    return None


def _selector(context: Context, pod: Obj) -> tuple[str, str] | None:
    node = context.objects.get("nodes", context.options.node_name)
    wanted = pod["spec"].get("nodeSelector") or {}
    if node is None or not wanted:
        return None
    labels = node["metadata"].get("labels") or {}
    if all(labels.get(key) == value for key, value in wanted.items()):
        return None
    return "NodeAffinity", "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"


def _ports(own: Claim, others: Sequence[Claim]) -> tuple[str, str] | None:
    for protocol, address, port in own.ports:
        for other in others:
            for its_protocol, its_address, its_port in other.ports:
                anywhere = "0.0.0.0" in (address, its_address)
                if (protocol, port) == (its_protocol, its_port) and (anywhere or address == its_address):
                    return "NodePorts", "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
    return None


def _resources(context: Context, own: Claim, others: Sequence[Claim]) -> tuple[str, str] | None:
    allocatable = context.allocatable
    if len(others) + 1 > int(allocatable.get("pods", context.options.max_pods)):
        return _short("pods", 1, len(others), int(allocatable.get("pods", context.options.max_pods)))
    for name, wanted in own.requests.items():
        if name not in allocatable:
            continue
        used = sum(other.requests.get(name, 0) for other in others)
        capacity = _UNITS[name](allocatable[name])
        if used + wanted > capacity:
            return _short(name, wanted, used, capacity)
    return None


def _short(name: str, wanted: int, used: int, capacity: int) -> tuple[str, str]:
    text = f"Node didn't have enough resource: {name}, requested: {wanted}, used: {used}, capacity: {capacity}"
    return f"OutOf{name}", text


def requests_of(pod: Obj) -> dict[str, int]:
    """What a pod asks for of each resource (CPU in thousandths), where it asks for any."""
    return {name: amount for name in _UNITS if (amount := _request_of(pod, name))}


def _request_of(pod: Obj, name: str) -> int:
    """Its containers together or its largest init step, plus overhead."""
    unit = _UNITS[name]
    spec = pod["spec"]

    def of(container: Obj) -> int:
        text = resources.requests_of(container).get(name)
        return unit(text) if text else 0

    sidecars = 0
    largest = 0
    for container in spec.get("initContainers") or ():
        if container.get("restartPolicy") == "Always":
            sidecars += of(container)
        else:
            largest = max(largest, sidecars + of(container))
    total = max(sidecars + sum(of(c) for c in spec["containers"]), largest)
    whole = ((spec.get("resources") or {}).get("requests") or {}).get(name)
    overhead = (spec.get("overhead") or {}).get(name)
    return (unit(whole) if whole else total) + (unit(overhead) if overhead else 0)
