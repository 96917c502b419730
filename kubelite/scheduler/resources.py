"""What a pod requests and what a node offers, as integers: `cpu` in thousandths, everything else in whole units.

Source: component-helpers resource.PodRequests (init and sidecar containers, pod-level resources, overhead), v0.34.
"""

from kubelite.meta import quantities
from kubelite.meta.types import Obj

#: What a container without a request counts for when nodes are compared (not when they are checked).
DEFAULT_CPU_MILLI = 100
DEFAULT_MEMORY = 200 * 1024 * 1024

Amounts = dict[str, int]


def amounts(quantity_by_name: Obj | None) -> Amounts:
    return {
        name: quantities.milli(text) if name == "cpu" else quantities.value(text)
        for name, text in (quantity_by_name or {}).items()
    }


def _add(total: Amounts, more: Amounts) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, 0) + amount


def _at_least(total: Amounts, other: Amounts) -> None:
    for name, amount in other.items():
        if amount > total.get(name, 0):
            total[name] = amount


def of_pod(spec: Obj, *, missing: Amounts | None = None) -> Amounts:
    """What a pod needs at once. `missing` stands in for the requests that a container doesn't make."""
    floor = missing or {}
    total: Amounts = {}
    for container in spec.get("containers") or ():
        _add(total, {**floor, **amounts((container.get("resources") or {}).get("requests"))})
    sidecars: Amounts = {}
    peak: Amounts = {}
    for container in spec.get("initContainers") or ():
        needs = {**floor, **amounts((container.get("resources") or {}).get("requests"))}
        if container.get("restartPolicy") == "Always":  # it goes on beside everything that starts after it
            _add(total, needs)
            _add(sidecars, needs)
            needs = dict(sidecars)
        else:
            _add(needs, sidecars)
        _at_least(peak, needs)
    _at_least(total, peak)
    pod_level = (spec.get("resources") or {}).get("requests")
    if pod_level:
        total |= amounts(pod_level)
    _add(total, amounts(spec.get("overhead")))
    return total
