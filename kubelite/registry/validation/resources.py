"""Names and amounts of resources, wherever they stand: in containers, quotas, limit ranges and nodes.

Source: kubernetes pkg/apis/core/helper and pkg/apis/core/validation, v1.34.
"""

from collections.abc import Mapping
from typing import Any

from kubelite.meta import errors, names, quantities
from kubelite.meta.errors import Cause
from kubelite.registry.validation import fields

_OF_CONTAINERS = frozenset(("cpu", "memory", "ephemeral-storage"))
_OF_QUOTAS = frozenset(
    (
        *("cpu", "memory", "ephemeral-storage", "requests.cpu", "requests.memory", "requests.storage"),
        *("requests.ephemeral-storage", "limits.cpu", "limits.memory", "limits.ephemeral-storage", "pods"),
        *("resourcequotas", "services", "replicationcontrollers", "secrets", "persistentvolumeclaims", "configmaps"),
        *("services.nodeports", "services.loadbalancers"),
    )
)
_STANDARD = _OF_QUOTAS | {"storage"}
_COUNTED = frozenset(
    (
        *("pods", "resourcequotas", "services", "replicationcontrollers", "secrets", "configmaps"),
        *("persistentvolumeclaims", "services.nodeports", "services.loadbalancers"),
    )
)
_HUGE_PAGES = ("hugepages-", "requests.hugepages-")
NOT_INTEGER = "must be an integer"


def is_native(name: str) -> bool:
    """Whether a resource is Kubernetes' own."""
    return "/" not in name or "kubernetes.io/" in name


def is_extended(name: str) -> bool:
    """Whether devices of a domain other than Kubernetes' are counted by this name, in quotas too."""
    return not is_native(name) and not name.startswith("requests.") and not names.qualified_name(f"requests.{name}")


def is_overcommittable(name: str) -> bool:
    """Whether requests of a resource may be below its limits."""
    return is_native(name) and not name.startswith("hugepages-")


def is_quota(name: str) -> bool:
    return name in _OF_QUOTAS or name.startswith(_HUGE_PAGES)


def name(value: str, path: str) -> list[Cause]:
    """Any resource: qualified, and one of Kubernetes' own where it has no domain."""
    causes = fields.invalid_if(names.qualified_name(value), path, value)
    if not causes and "/" not in value and value not in _STANDARD and not value.startswith(_HUGE_PAGES):
        return [errors.invalid(path, value, "must be a standard resource type or fully qualified")]
    return causes


def container_name(value: str, path: str) -> list[Cause]:
    """A resource that a container may ask for."""
    causes = name(value, path)
    if "/" not in value:
        if value not in _OF_CONTAINERS and not value.startswith("hugepages-"):
            causes.append(errors.invalid(path, value, "must be a standard resource for containers"))
    elif not is_native(value) and not is_extended(value):
        causes.append(errors.invalid(path, value, "doesn't follow extended resource name standard"))
    return causes


def amount(resource: str, value: Any, path: str) -> list[Cause]:
    """How much of a resource: not negative, and a whole number of what is counted."""
    causes = fields.quantity(value, path)
    whole = resource in _COUNTED or is_extended(resource)
    if whole and quantities.is_quantity(value) and quantities.parse(str(value)).denominator != 1:
        causes.append(errors.invalid(path, value, NOT_INTEGER))
    return causes


def quota_amounts(amounts: Mapping[str, Any] | None, path: str) -> list[Cause]:
    """What a quota allows or counts."""
    causes: list[Cause] = []
    for resource, value in (amounts or {}).items():
        at = f"{path}[{resource}]"
        causes += name(resource, at)
        if "/" not in resource and not is_quota(resource):
            causes.append(errors.invalid(at, resource, "must be a standard resource for quota"))
        causes += amount(resource, value, at)
    return causes
