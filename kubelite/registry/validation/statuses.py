"""Checks of the statuses that controllers write: counts that are possible, addresses and conditions that can be read.

Source: kubernetes pkg/apis/{apps,batch,core,policy,autoscaling,networking}/validation, v1.34.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from kubelite.meta import addresses, errors, names
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import fields

MAX_REASON, MAX_MESSAGE = 1024, 32 * 1024
#: The counts of each kind's status, and those of them that can't be above its replicas.
_COUNTS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "Deployment": (
        ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas", "unavailableReplicas", "terminatingReplicas"),
        ("updatedReplicas", "readyReplicas", "availableReplicas"),
    ),
    "ReplicaSet": (
        ("replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "terminatingReplicas"),
        ("fullyLabeledReplicas", "readyReplicas", "availableReplicas"),
    ),
    "ReplicationController": (
        ("replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas"),
        ("fullyLabeledReplicas", "readyReplicas", "availableReplicas"),
    ),
    "StatefulSet": (
        ("replicas", "readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"),
        ("readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"),
    ),
    "DaemonSet": (
        (
            *("currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady"),
            *("updatedNumberScheduled", "numberAvailable", "numberUnavailable"),
        ),
        (),
    ),
    "PodDisruptionBudget": (("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"), ()),
    "HorizontalPodAutoscaler": (("currentReplicas", "desiredReplicas"), ()),
}


#: Kinds whose observedGeneration nobody looks at.
_WITHOUT_GENERATION = ("HorizontalPodAutoscaler", "PodDisruptionBudget")


def check_counts(kind: str, obj: Obj, old: Obj | None = None) -> list[Cause]:
    """The status of a kind that counts its pods; with `old`, its count of collisions never goes down."""
    status = obj.get("status") or {}
    counts, bounded = _COUNTS[kind]
    causes: list[Cause] = []
    for field in counts if kind in _WITHOUT_GENERATION else (*counts, "observedGeneration", "collisionCount"):
        causes += fields.non_negative(status.get(field), f"status.{field}")
    collisions, before = (part.get("collisionCount") for part in (status, (old or {}).get("status") or {}))
    if before is not None and (collisions or 0) < before:
        causes.append(errors.invalid("status.collisionCount", collisions or 0, "cannot be decremented"))
    replicas = status.get("replicas") or 0
    for field in bounded:
        count = status.get(field) or 0
        if count > replicas:
            causes.append(errors.invalid(f"status.{field}", count, "cannot be greater than status.replicas"))
    ready, available = status.get("readyReplicas") or 0, status.get("availableReplicas") or 0
    if bounded and available > ready:
        text = "cannot be greater than status.readyReplicas" if kind == "StatefulSet" else "cannot be greater than readyReplicas"
        causes.append(errors.invalid("status.availableReplicas", available, text))
    return causes


_STATUSES = ("True", "False", "Unknown")


def check_conditions(conditions: Sequence[Mapping[str, Any]], path: str = "status.conditions") -> list[Cause]:
    """Conditions in the form that all kinds should have (meta.v1.Condition)."""
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, condition in enumerate(conditions):
        at, kind, status = f"{path}[{index}]", condition.get("type", ""), condition.get("status", "")
        if kind in seen:
            causes.append(errors.duplicate(f"{at}.type", kind))
        seen.add(kind)
        causes += fields.invalid_if(names.qualified_name(kind), f"{at}.type", kind)
        if status not in _STATUSES:
            causes.append(errors.not_supported(f"{at}.status", status, _STATUSES))
        if condition.get("observedGeneration", 0) < 0:
            text = "must be greater than or equal to zero"
            causes.append(errors.invalid(f"{at}.observedGeneration", condition["observedGeneration"], text))
        if not condition.get("lastTransitionTime"):
            causes.append(errors.required(f"{at}.lastTransitionTime"))
        reason = condition.get("reason", "")
        causes += fields.named(reason, f"{at}.reason", names.condition_reason)
        for field, text, limit in (("reason", reason, MAX_REASON), ("message", condition.get("message", ""), MAX_MESSAGE)):
            if len(text.encode()) > limit:
                causes.append(errors.too_long(f"{at}.{field}", limit))
    return causes


def check_load_balancer(obj: Obj, old: Obj | None) -> list[Cause]:
    """The addresses in the status of an ingress or a service; those that it had may be of any form."""
    causes: list[Cause] = []
    known = {entry.get("ip") for entry in _ingress(old)} if old is not None else ()
    for index, entry in enumerate(_ingress(obj)):
        at, address, host = f"status.loadBalancer.ingress[{index}]", entry.get("ip"), entry.get("hostname")
        if address and address not in known:
            causes += fields.address(address, f"{at}.ip")
        if host:
            causes += fields.invalid_if(names.dns1123_subdomain(host), f"{at}.hostname", host)
            if addresses.family_of(host):
                causes.append(errors.invalid(f"{at}.hostname", host, "must be a DNS name, not an IP address"))
    return causes


def _ingress(obj: Obj) -> Sequence[Obj]:
    found: Sequence[Obj] = ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    return found


def address_warnings(obj: Obj) -> list[str]:
    """Addresses of balancers in an unusual form."""
    found: list[str] = []
    for index, entry in enumerate(_ingress(obj)):
        if entry.get("ip"):
            found += addresses.warnings(entry["ip"], f"status.loadBalancer.ingress[{index}]")
    return found


def check_service(obj: Obj, old: Obj) -> list[Cause]:
    path = "status.loadBalancer.ingress"
    entries = _ingress(obj)
    if entries and obj["spec"].get("type") != "LoadBalancer":
        return [errors.forbidden(path, "may only be used when `spec.type` is 'LoadBalancer'")]
    causes = check_load_balancer(obj, old)
    for index, entry in enumerate(entries):
        mode, at = entry.get("ipMode"), f"{path}[{index}].ipMode"
        if mode is None and entry.get("ip"):
            causes.append(errors.required(at, "must be specified when `ip` is set"))
        elif mode is not None and not entry.get("ip"):
            causes.append(errors.forbidden(at, "may not be specified when `ip` is not set"))
        elif mode is not None and mode not in ("Proxy", "VIP"):
            causes.append(errors.not_supported(at, mode, ("Proxy", "VIP")))
    return causes
