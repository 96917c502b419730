"""Requests and limits as the kernel takes them: CPU shares and quota, memory, OOM scores, QoS classes. Pure.

Source: pkg/apis/core/v1/helper/qos, pkg/kubelet/cm/helpers_linux.go, pkg/kubelet/qos, v1.34.
"""

from kubelite.admission.usage import pod_limits, pod_requests
from kubelite.meta import quantities
from kubelite.meta.types import Obj
from runtimes.interface import Resources

MIN_SHARES = 2
MAX_SHARES = 262144
QUOTA_PERIOD_US = 100_000
MIN_QUOTA_US = 1000
_COMPUTE = ("cpu", "memory")
#: From this priority on a pod is critical: it is taken and stays whatever the node is short of.
CRITICAL_PRIORITY = 2_000_000_000


def requests_of(container: Obj) -> Obj:
    """What a container, or a pod's spec as a whole, asks for."""
    return (container.get("resources") or {}).get("requests") or {}


def limits_of(container: Obj) -> Obj:
    return (container.get("resources") or {}).get("limits") or {}


def qos_class(pod: Obj) -> str:
    """Guaranteed, Burstable or BestEffort; the one that the API server has fixed where it did."""
    fixed = pod.get("status", {}).get("qosClass")
    if fixed:
        return str(fixed)
    spec = pod["spec"]
    whole = spec.get("resources")
    if whole and (whole.get("requests") or whole.get("limits")):
        holders = [{"resources": whole}]
    else:
        holders = [*(spec.get("initContainers") or ()), *spec["containers"]]
    anything = False
    guaranteed = True
    for holder in holders:
        requests, limits = requests_of(holder), limits_of(holder)
        for name in _COMPUTE:
            request = quantities.parse(requests[name]) if name in requests else 0
            limit = quantities.parse(limits[name]) if name in limits else 0
            anything = anything or bool(request) or bool(limit)
            if not limit or (name in requests and request != limit):
                guaranteed = False
    if not anything:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def is_critical(pod: Obj) -> bool:
    return (pod["spec"].get("priority") or 0) >= CRITICAL_PRIORITY


def shares(cpu_milli: int) -> int:
    """CPU shares (cgroup v1's unit; runtimes turn it into a weight on v2)."""
    if not cpu_milli:
        return MIN_SHARES
    return min(max(cpu_milli * 1024 // 1000, MIN_SHARES), MAX_SHARES)


def quota_us(cpu_milli: int) -> int:
    """Microseconds of CPU in each period; 0: no limit."""
    return max(cpu_milli * QUOTA_PERIOD_US // 1000, MIN_QUOTA_US) if cpu_milli else 0


def of_container(pod: Obj, container: Obj, memory_bytes: int) -> Resources:
    """A container's cgroup limits. `memory_bytes` is the machine's."""
    requests, limits = requests_of(container), limits_of(container)
    whole = (pod["spec"].get("resources") or {}).get("limits") or {}
    cpu_limit = limits.get("cpu") or whole.get("cpu")
    memory_limit = limits.get("memory") or whole.get("memory")
    cpu_request = requests.get("cpu", cpu_limit if "cpu" not in requests else None)
    return Resources(
        cpu_period_us=QUOTA_PERIOD_US if cpu_limit and quantities.milli(cpu_limit) else 0,
        cpu_quota_us=quota_us(quantities.milli(cpu_limit)) if cpu_limit else 0,
        cpu_shares=shares(quantities.milli(cpu_request) if cpu_request else 0),
        memory_limit_bytes=quantities.value(memory_limit) if memory_limit else 0,
        memory_swap_limit_bytes=quantities.value(memory_limit) if memory_limit else 0,
        oom_score_adj=oom_score(pod, container, memory_bytes),
        hugepages={
            name.removeprefix("hugepages-"): quantities.value(text)
            for name, text in limits.items()
            if name.startswith("hugepages-")
        },
    )


def oom_score(pod: Obj, container: Obj, memory_bytes: int) -> int:
    """How soon the kernel kills the container when memory is short: -997 the last, 1000 the first."""
    qos = qos_class(pod)
    if pod["spec"].get("priorityClassName") == "system-node-critical" or qos == "Guaranteed":
        return -997
    if qos == "BestEffort":
        return 1000
    wanted = _memory_request(container)
    if container.get("restartPolicy") == "Always" and container in (pod["spec"].get("initContainers") or ()):
        # A sidecar goes no sooner than those that it serves.
        wanted = max(wanted, min(_memory_request(c) for c in pod["spec"]["containers"]))
    wanted += _unshared_memory(pod)
    return min(max(1000 - 1000 * wanted // max(memory_bytes, 1), 3), 999)


def _memory_request(container: Obj) -> int:
    return quantities.value(requests_of(container).get("memory") or limits_of(container).get("memory") or "0")


def _unshared_memory(pod: Obj) -> int:
    """Each container's part of what the pod as a whole asks for beyond its containers."""
    spec = pod["spec"]
    whole = quantities.value(requests_of(spec).get("memory") or "0")
    theirs = pod_requests({"spec": {**spec, "resources": {}, "overhead": {}}}).get("memory", "0")
    count = len(spec["containers"]) + len(spec.get("initContainers") or ())
    return max(whole - quantities.value(theirs), 0) // count


def of_pod(pod: Obj) -> Resources:
    """The limits of the pod's own cgroup: what it may take as a whole, unlimited where one of its containers is."""
    spec = pod["spec"]
    bare: Obj = {"spec": spec}
    requests, limits = pod_requests(bare), pod_limits(bare)
    every = [*spec["containers"], *(spec.get("initContainers") or ())]

    def limit_of(name: str) -> str:
        declared = all(limits_of(c).get(name) for c in every) or bool(limits_of(spec).get(name))
        return limits.get(name, "0") if declared else "0"

    cpu = quantities.milli(limit_of("cpu"))
    return Resources(
        cpu_period_us=QUOTA_PERIOD_US if cpu else 0,
        cpu_quota_us=quota_us(cpu),
        cpu_shares=shares(quantities.milli(requests.get("cpu", "0"))),
        memory_limit_bytes=quantities.value(limit_of("memory")),
    )
