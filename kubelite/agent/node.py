"""The Node object: what this agent says of its machine and of itself. Pure; the agent decides when it is said.

Source: pkg/kubelet/nodestatus, pkg/kubelet/kubelet_node_status.go, v1.34 (fields, reasons and messages).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kubelite.agent.context import Options
from kubelite.agent.machine import Machine
from kubelite.meta import names, quantities, times
from kubelite.meta.types import Obj
from runtimes.interface import Image, RuntimeInfo

VERSION = "v1.34.3"
IMAGES_LIMIT = 50
NAMES_LIMIT = 5
_TRANSITIONS = {
    "MemoryPressure": ("NodeHasInsufficientMemory", "NodeHasSufficientMemory"),
    "DiskPressure": ("NodeHasDiskPressure", "NodeHasNoDiskPressure"),
    "PIDPressure": ("NodeHasInsufficientPID", "NodeHasSufficientPID"),
    "Ready": ("NodeReady", "NodeNotReady"),
}
#: What a condition of pressure says, as reason and message: when it is there, when it is not.
_PRESSURE = {
    "MemoryPressure": (
        ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
        ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ),
    "DiskPressure": (
        ("KubeletHasDiskPressure", "kubelet has disk pressure"),
        ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ),
    "PIDPressure": (
        ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
        ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    ),
}
#: The resources that are kept back for a threshold, by its signal.
_KEPT_BACK = {"memory.available": "memory", "nodefs.available": "ephemeral-storage"}


@dataclass(frozen=True, slots=True)
class Health:
    """How the node is at the moment: the conditions of pressure that it is in, and why the runtime does not answer, or an empty
    string."""

    pressure: tuple[str, ...] = ()
    runtime_fault: str = ""
    runtime: RuntimeInfo | None = None


def capacity_of(options: Options, machine: Machine, disk_bytes: int) -> tuple[dict[str, str], dict[str, str]]:
    """The node's capacity and what of it pods may have."""
    capacity = {
        "cpu": str(machine.cpus),
        "memory": quantities.format_value(machine.memory_bytes // 1024 * 1024, "1Ki"),
        "ephemeral-storage": quantities.format_value(disk_bytes // 1024 * 1024, "1Ki"),
        "hugepages-1Gi": "0",
        "hugepages-2Mi": "0",
        "pods": str(options.max_pods),
        **options.capacity,
    }
    allocatable = dict(capacity)
    for threshold in options.eviction_hard:
        if (name := _KEPT_BACK.get(threshold.signal)) is not None:
            whole = quantities.value(capacity[name])
            allocatable[name] = quantities.format_value(max(whole - threshold.least(whole), 0), "1Ki")
    for name, amount in options.reserved.items():
        if name in allocatable:
            left = quantities.parse(allocatable[name]) - quantities.parse(amount)
            allocatable[name] = quantities.format_value(left if left > 0 else 0, allocatable[name])
    return capacity, allocatable


def node_of(
    options: Options,
    machine: Machine,
    health: Health,
    capacity: Mapping[str, str],
    allocatable: Mapping[str, str],
    images: Sequence[Image],
    previous: Obj | None,
    advertised: Mapping[str, str],
) -> Obj:
    """The Node as this agent would have it. `previous` is the Node as it is, for the times of transitions; `advertised` are the
    extended resources that others gave it."""
    hostname = options.node_name
    labels = {
        "beta.kubernetes.io/arch": machine.architecture,
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": machine.architecture,
        "kubernetes.io/hostname": hostname,
        "kubernetes.io/os": "linux",
        **options.labels,
    }
    addresses = [{"type": "InternalIP", "address": ip} for ip in options.host_ips]
    runtime = health.runtime
    status: Obj = {
        "addresses": [*addresses, {"type": "Hostname", "address": hostname}],
        "allocatable": {**allocatable, **advertised},
        "capacity": {**capacity, **advertised},
        "conditions": _conditions(health, previous),
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 0}},
        "images": [
            {"names": [*i.digests, *i.tags][:NAMES_LIMIT], "sizeBytes": i.size_bytes}
            for i in sorted(images, key=lambda i: -i.size_bytes)[:IMAGES_LIMIT]
        ],
        "nodeInfo": {
            "architecture": machine.architecture,
            "bootID": machine.boot_id,
            "containerRuntimeVersion": f"{runtime.name}://{runtime.version}" if runtime else f"{options.runtime_name}://",
            "kernelVersion": machine.kernel,
            "kubeProxyVersion": "",
            "kubeletVersion": VERSION,
            "machineID": machine.machine_id,
            "operatingSystem": "linux",
            "osImage": machine.os_image,
            "systemUUID": machine.system_uuid,
        },
    }
    if machine.swap_bytes:
        status["nodeInfo"]["swap"] = {"capacity": machine.swap_bytes}
    if runtime is not None:
        status["features"] = {"supplementalGroupsPolicy": runtime.strict_groups}
        status["runtimeHandlers"] = [
            {
                "name": handler.name,
                # User namespaces are not given to pods, whatever the runtime could do.
                "features": {"recursiveReadOnlyMounts": handler.recursive_readonly, "userNamespaces": False},
            }
            for handler in runtime.handlers
        ]
    meta = {
        "name": options.node_name,
        "labels": labels,
        "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"},
    }
    node: Obj = {"apiVersion": "v1", "kind": "Node", "metadata": meta, "spec": {}, "status": status}
    if options.taints:
        node["spec"]["taints"] = list(options.taints)
    return node


def _conditions(health: Health, previous: Obj | None) -> list[Obj]:
    fault = _not_ready(health)
    made = [(kind, kind in health.pressure, *_PRESSURE[kind][kind not in health.pressure]) for kind in _PRESSURE]
    ready = ("KubeletNotReady", fault) if fault else ("KubeletReady", "kubelet is posting ready status")
    made.append(("Ready", not fault, *ready))
    olds = {c["type"]: c for c in ((previous or {}).get("status") or {}).get("conditions") or ()}
    now = times.now()
    found = []
    for kind, value, reason, message in made:
        text = "True" if value else "False"
        old = olds.get(kind)
        since = old["lastTransitionTime"] if old is not None and old["status"] == text else now
        found.append(
            {
                "type": kind,
                "status": text,
                "reason": reason,
                "message": message,
                "lastHeartbeatTime": now,
                "lastTransitionTime": since,
            }
        )
    return found


def _not_ready(health: Health) -> str:
    """Why the node is not ready; empty when it is."""
    if health.runtime_fault:
        return f"container runtime is down: {health.runtime_fault}"
    texts = []
    for condition in health.runtime.conditions if health.runtime else ():
        if condition.status:
            continue
        what = "container runtime network not ready" if condition.kind == "NetworkReady" else "container runtime not ready"
        texts.append(f"{what}: {condition.kind}=false reason:{condition.reason} message:{condition.message}")
    return ", ".join(texts)


def advertised(node: Obj | None) -> dict[str, str]:
    """The extended resources of a Node, which whoever wants may put there."""
    capacity = ((node or {}).get("status") or {}).get("capacity") or {}
    return {name: amount for name, amount in capacity.items() if names.is_extended_resource(name)}


def transitions(before: Obj | None, after: Obj) -> list[str]:
    """What has become of the node's conditions, as events' reasons. That a new Node is ready or not goes without saying."""
    olds = {c["type"]: c["status"] for c in ((before or {}).get("status") or {}).get("conditions") or ()}
    found = []
    for condition in after["status"]["conditions"]:
        kind, value, old = condition["type"], condition["status"], olds.get(condition["type"])
        if value != old and (old is not None or kind != "Ready"):
            yes, no = _TRANSITIONS[kind]
            found.append(yes if value == "True" else no)
    return found


def same(a: Obj, b: Obj) -> bool:
    """Whether two reports say the same but for the time they were made."""

    def bare(node: Obj) -> Obj:
        conditions = [{k: v for k, v in c.items() if k != "lastHeartbeatTime"} for c in node["status"]["conditions"]]
        return {**node, "status": {**node["status"], "conditions": conditions}}

    return bare(a) == bare(b)
