"""What a pod requests and what a node offers, as integers: `cpu` in thousandths, everything else in whole units.

Source: component-helpers resource.PodRequests (init and sidecar containers, pod-level resources, overhead, resizing), v0.34.
"""

from collections.abc import Iterator, Mapping

from kubelite.meta import quantities
from kubelite.meta.types import Obj

#: What a container without a request counts for when nodes are compared (not when they are checked).
STAND_INS = {"cpu": 100, "memory": 200 * 1024 * 1024}

Amounts = dict[str, int]


def amounts(quantity_by_name: Obj | None) -> Amounts:
    return {
        name: quantities.milli(text) if name == "cpu" else quantities.value(text)
        for name, text in (quantity_by_name or {}).items()
    }


def _add(total: Amounts, more: Mapping[str, int]) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, 0) + amount


def _at_least(total: Amounts, other: Mapping[str, int]) -> None:
    for name, amount in other.items():
        if amount > total.get(name, 0):
            total[name] = amount


def of_pod(spec: Obj, *, missing: Amounts | None = None, resized: Mapping[str, Amounts] | None = None) -> Amounts:
    """What a pod needs at once. `missing` stands in for the requests that a container doesn't make, `resized` says what
    containers (by name) have in place of what they request."""
    total = _of_containers(spec, missing, resized)
    total |= pod_level(spec)
    _add(total, amounts(spec.get("overhead")))
    return total


def _of_containers(spec: Obj, missing: Amounts | None, resized: Mapping[str, Amounts] | None = None) -> Amounts:
    floor, actual = missing or {}, resized or {}

    def needs(container: Obj) -> Amounts:
        own = actual.get(container["name"]) if actual else None
        return {**floor, **(amounts((container.get("resources") or {}).get("requests")) if own is None else own)}

    total: Amounts = {}
    for container in spec.get("containers") or ():
        _add(total, needs(container))
    sidecars: Amounts = {}
    peak: Amounts = {}
    for container in spec.get("initContainers") or ():
        wanted = needs(container)
        if container.get("restartPolicy") == "Always":  # it goes on beside everything that starts after it
            _add(total, wanted)
            _add(sidecars, wanted)
            wanted = dict(sidecars)
        else:
            _add(wanted, sidecars)
        _at_least(peak, wanted)
    _at_least(total, peak)
    return total


def pod_level(spec: Obj) -> Amounts:
    """What is requested for the pod as a whole, of the resources that can be."""
    requests = amounts((spec.get("resources") or {}).get("requests"))
    return {name: amount for name, amount in requests.items() if name in ("cpu", "memory") or name.startswith("hugepages-")}


def looking_for_a_node(spec: Obj) -> tuple[int, int]:
    """What a pod counts for when nodes are compared for it: (CPU, memory). What is requested for the pod as a whole is not
    looked at here, as in Kubernetes."""
    found = _of_containers(spec, STAND_INS)
    _add(found, amounts(spec.get("overhead")))
    return found.get("cpu", 0), found.get("memory", 0)


def on_its_node(spec: Obj, resized: Mapping[str, Amounts] | None = None) -> tuple[int, int]:
    """What a pod that has its node counts for when nodes are compared for another: (CPU, memory)."""
    missing = STAND_INS
    if pod_level(spec):
        requested = of_pod(spec, resized=resized)
        missing = {name: amount for name, amount in STAND_INS.items() if name not in requested}
    found = of_pod(spec, missing=missing, resized=resized)
    return found.get("cpu", 0), found.get("memory", 0)


def resized(pod: Obj) -> dict[str, Amounts]:
    """The containers (by name) that have, or were allocated, something else than they request: what then counts of each, the
    most of it. Where a resize can't be done on the node, what is requested doesn't count."""
    status = pod.get("status") or {}
    if "containerStatuses" not in status and "initContainerStatuses" not in status:  # no node has it yet
        return {}
    pending: Obj = next((c for c in status.get("conditions") or () if c.get("type") == "PodResizePending"), {})
    infeasible = pending.get("reason") == "Infeasible"
    found = {}
    for container, state in _with_resources(pod["spec"], status):
        wanted = (container.get("resources") or {}).get("requests")
        has, allocated = state["resources"].get("requests"), state.get("allocatedResources")
        if wanted == has and allocated in (None, has):  # as nearly always, and compared for each change of a status
            continue
        requests = amounts(wanted)
        most: Amounts = {} if infeasible else dict(requests)
        _at_least(most, amounts(has))
        _at_least(most, amounts(allocated))
        if most != requests:
            found[container["name"]] = most
    return found


def _with_resources(spec: Obj, status: Obj) -> Iterator[tuple[Obj, Obj]]:
    """The containers and sidecars whose status says what they have: (container, its status)."""
    groups = ("containers", "containerStatuses", False), ("initContainers", "initContainerStatuses", True)
    for group, states, sidecars in groups:
        by_name = {state["name"]: state for state in status.get(states) or () if state.get("resources")}
        for container in (spec.get(group) or ()) if by_name else ():
            if container["name"] in by_name and (not sidecars or container.get("restartPolicy") == "Always"):
                yield container, by_name[container["name"]]
