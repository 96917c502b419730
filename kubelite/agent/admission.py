"""Whether this node takes a pod that was bound to it: its own check of what the scheduler decided, on the node's own truth.

A pod that is refused ends as Failed with the reason; whoever made it makes another. Pure.

Source: pkg/kubelet/lifecycle (predicate.go, handlers.go), pkg/kubelet/eviction Admit, pkg/scheduler AdmissionCheck, v1.34.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from kubelite.admission.usage import pod_requests
from kubelite.agent import resources, sysctls
from kubelite.agent.context import Context
from kubelite.agent.podstate import all_containers
from kubelite.meta import nodefit, quantities
from kubelite.meta.types import Obj

#: Reason and message.
Refusal: TypeAlias = tuple[str, str]
_MEMORY_TAINT = {"key": "node.kubernetes.io/memory-pressure", "effect": "NoSchedule"}


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


def check(context: Context, pod: Obj, others: Sequence[Claim]) -> Refusal | None:
    """Why the pod is refused; None: it is taken. `others` are the claims of the node's other pods."""
    own = claim_of(pod)
    return (
        _pressure(context, pod)
        or _sysctls(context, pod)
        or _os(pod)
        or _supplemental_groups(context, pod)
        or _resources(context, own, others)
        or _affinity(context, pod)
        or _ports(own, others)
        or _taints(context, pod)
        or _apparmor(context, pod)
    )


def check_resize(context: Context, pod: Obj, others: Sequence[Claim]) -> Refusal | None:
    """Why a pod does not get the resources that it asks for now: Infeasible, or Deferred until others go; None: it does."""
    wanted = requests_of(pod)
    for name in ("memory", "cpu"):
        capacity = _amount(name, context.allocatable.get(name, "0"))
        if wanted.get(name, 0) > capacity:
            text = f"Node didn't have enough capacity: {name}, requested: {wanted[name]}, capacity: {capacity}"
            return "Infeasible", text
    refusal = check(context, pod, others)
    return None if refusal is None else ("Deferred", refusal[1])


def _pressure(context: Context, pod: Obj) -> Refusal | None:
    """A node that is short of memory alone still takes pods that ask for what they need, and those that put up with it."""
    if not context.pressure or resources.is_critical(pod):
        return None
    if context.pressure == ("MemoryPressure",) and (
        resources.qos_class(pod) != "BestEffort"
        or any(nodefit.tolerates(t, _MEMORY_TAINT) for t in pod["spec"].get("tolerations") or ())
    ):
        return None
    return "Evicted", f"The node had condition: [{' '.join(context.pressure)}]. "


def _os(pod: Obj) -> Refusal | None:
    if (pod["metadata"].get("labels") or {}).get("kubernetes.io/os", "linux") != "linux":
        text = "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label"
        return "PodOSSelectorNodeLabelDoesNotMatch", text
    if (pod["spec"].get("os") or {}).get("name", "linux") != "linux":
        return "PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"
    return None


def _supplemental_groups(context: Context, pod: Obj) -> Refusal | None:
    """Groups that were ruled out must not be added after all by a runtime that knows no such rule."""
    strict = (pod["spec"].get("securityContext") or {}).get("supplementalGroupsPolicy") == "Strict"
    if not strict or (context.runtime_info is not None and context.runtime_info.strict_groups):
        return None
    return "SupplementalGroupsPolicyNotSupported", "SupplementalGroupsPolicy=Strict is not supported in this node"


def _apparmor(context: Context, pod: Obj) -> Refusal | None:
    """A profile that can't be put on is refused, not left out."""
    holders = [pod["spec"], *(c for c, _ in all_containers(pod))]
    kinds = {((h.get("securityContext") or {}).get("appArmorProfile") or {}).get("type", "Unconfined") for h in holders}
    if kinds == {"Unconfined"} or context.has_apparmor:
        return None
    return "AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host"


def _sysctls(context: Context, pod: Obj) -> Refusal | None:
    text = sysctls.forbidden(pod["spec"], context.options.allowed_unsafe_sysctls)
    return ("SysctlForbidden", text) if text else None


def _affinity(context: Context, pod: Obj) -> Refusal | None:
    node = context.objects.get("nodes", context.options.node_name)
    if node is None or nodefit.matches(pod["spec"], node):
        return None
    return "NodeAffinity", "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"


def _taints(context: Context, pod: Obj) -> Refusal | None:
    node = context.objects.get("nodes", context.options.node_name)
    tolerations = pod["spec"].get("tolerations") or ()
    for taint in (node or {"spec": {}})["spec"].get("taints") or ():
        if taint["effect"] == "NoExecute" and not any(nodefit.tolerates(t, taint) for t in tolerations):
            return "TaintToleration", "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate"
    return None


def _ports(own: Claim, others: Sequence[Claim]) -> Refusal | None:
    for protocol, address, port in own.ports:
        for other in others:
            for its_protocol, its_address, its_port in other.ports:
                anywhere = "0.0.0.0" in (address, its_address)
                if (protocol, port) == (its_protocol, its_port) and (anywhere or address == its_address):
                    return "NodePorts", "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
    return None


def _resources(context: Context, own: Claim, others: Sequence[Claim]) -> Refusal | None:
    """Resources that the node says it has; of others, which it doesn't know, it is no judge."""
    node = context.objects.get("nodes", context.options.node_name) or {}
    allocatable = {**((node.get("status") or {}).get("allocatable") or {}), **context.allocatable}
    most = int(allocatable.get("pods", context.options.max_pods))
    if len(others) + 1 > most:
        return _short("pods", 1, len(others), most)
    for name, wanted in own.requests.items():
        if not wanted or name not in allocatable:
            continue
        used = sum(other.requests.get(name, 0) for other in others)
        if used + wanted > (capacity := _amount(name, allocatable[name])):
            return _short(name, wanted, used, capacity)
    return None


def _short(name: str, wanted: int, used: int, capacity: int) -> Refusal:
    text = f"Node didn't have enough resource: {name}, requested: {wanted}, used: {used}, capacity: {capacity}"
    return f"OutOf{name}", text


def requests_of(pod: Obj) -> dict[str, int]:
    """What a pod asks for of each resource (CPU in thousandths)."""
    return {name: _amount(name, text) for name, text in pod_requests({"spec": pod["spec"]}).items()}


def _amount(name: str, text: str) -> int:
    return quantities.milli(text) if name == "cpu" else quantities.value(text)
