"""Names and amounts of resources, wherever they stand: in containers, quotas, limit ranges and nodes; what containers and
pods ask for.

Source: kubernetes pkg/apis/core/helper and pkg/apis/core/validation, v1.34.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from kubelite.meta import errors, names, quantities
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import fields
from kubelite.schema import podspecs

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
_HUGE_PAGE = "hugepages-"
_HUGE_PAGES = (_HUGE_PAGE, "requests.hugepages-")
_COMPUTE = ("cpu", "memory")
NOT_INTEGER = "must be an integer"


def is_overcommittable(name: str) -> bool:
    """Whether requests of a resource may be below its limits."""
    return names.is_native_resource(name) and not name.startswith(_HUGE_PAGE)


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
        if value not in _OF_CONTAINERS and not value.startswith(_HUGE_PAGE):
            causes.append(errors.invalid(path, value, "must be a standard resource for containers"))
    elif not names.is_native_resource(value) and not names.is_extended_resource(value):
        causes.append(errors.invalid(path, value, "doesn't follow extended resource name standard"))
    return causes


def _pod_name(value: str, path: str) -> list[Cause]:
    """A resource that a pod as a whole may ask for."""
    causes = name(value, path)
    if not causes and value not in ("cpu", "memory") and not value.startswith(_HUGE_PAGE):
        causes.append(errors.not_supported(path, value, ("cpu", "memory", _HUGE_PAGE)))
    return causes


def amount(resource: str, value: Any, path: str) -> list[Cause]:
    """How much of a resource: not negative, and a whole number of what is counted."""
    causes = fields.quantity(value, path)
    whole = resource in _COUNTED or names.is_extended_resource(resource)
    if whole and quantities.is_quantity(value) and quantities.parse(str(value)).denominator != 1:
        causes.append(errors.invalid(path, value, NOT_INTEGER))
    return causes


def fraction_warnings(amounts: Mapping[str, str], of: str, path: str) -> Iterator[str]:
    """Of an amount of bytes that isn't whole."""
    if of in amounts and quantities.milli(amounts[of]) % 1000:
        yield f'{path}[{of}]: fractional byte value "{amounts[of]}" is invalid, must be an integer'


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


def check_requirements(
    resources: Obj, claims: Collection[str], path: str, check_name: Callable[[str, str], list[Cause]] = container_name
) -> list[Cause]:
    """What a container asks for: names, amounts, requests within limits. `claims` are the names of the pod's resource claims."""
    causes: list[Cause] = []
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for side, given in (("limits", limits), ("requests", requests)):
        for resource, value in given.items():
            at = f"{path}.{side}[{resource}]"
            causes += check_name(resource, at)
            causes += amount(resource, value, at)
            if resource.startswith(_HUGE_PAGE) and not _is_divisible(resource, value):
                causes.append(errors.invalid(at, value, f"{value} is not positive integer multiple of {resource}"))
    for resource, value in requests.items():
        causes += _check_request(resource, value, limits.get(resource), path)
    asked_for = {*limits, *requests}
    if any(resource.startswith(_HUGE_PAGE) for resource in asked_for) and not asked_for & {"cpu", "memory"}:
        causes.append(errors.forbidden(path, "HugePages require cpu or memory"))
    if resources.get("claims"):
        causes += _check_claims(resources["claims"], claims, f"{path}.claims")
    return causes


def _check_request(resource: str, value: str, limit: str | None, path: str) -> list[Cause]:
    if limit is None:
        if is_overcommittable(resource):
            return []
        return [errors.required(f"{path}.limits", "Limit must be set for non overcommitable resources")]
    if value == limit:
        return []
    asked, most = quantities.parse(value), quantities.parse(limit)
    if asked != most and not is_overcommittable(resource):
        return [errors.invalid(f"{path}.requests", value, f"must be equal to {resource} limit of {limit}")]
    if asked > most:
        return [errors.invalid(f"{path}.requests", value, f"must be less than or equal to {resource} limit of {limit}")]
    return []


def _is_divisible(resource: str, value: str) -> bool:
    """Whether an amount of huge pages is a multiple of their size, which their name says."""
    try:
        size = quantities.parse(resource.removeprefix(_HUGE_PAGE))
    except ValueError:
        return False
    return size > 0 and size.denominator == 1 and quantities.value(value) % size.numerator == 0


def _check_claims(claims: Sequence[Obj], known: Collection[str], path: str) -> list[Cause]:
    """Which of the pod's resource claims a container uses, each once, as a whole or by requests of it."""
    causes: list[Cause] = []
    whole: set[str] = set()
    parts: set[tuple[str, str]] = set()
    for i, claim in enumerate(claims):
        at, claim_name, request = f"{path}[{i}]", claim.get("name", ""), claim.get("request", "")
        if not claim_name:
            causes.append(errors.required(at))
            continue
        if claim_name in whole:
            causes.append(errors.duplicate(at, claim_name))
        elif request:
            causes += fields.invalid_if(names.dns1123_label(request), f"{at}.request", request)
            if (claim_name, request) in parts:
                causes.append(errors.duplicate(at, f"{claim_name}/{request}"))
            parts.add((claim_name, request))
        else:
            causes += [errors.duplicate(at, claim_name) for part, _ in parts if part == claim_name]
            whole.add(claim_name)
        if claim_name not in known:
            listed = f": {', '.join(sorted(known))}" if known else " which is empty"
            text = f"Not found: {errors.format_value(claim_name)}: must be one of the names in pod.spec.resourceClaims{listed}"
            causes.append(Cause(at, "FieldValueNotFound", text))
    return causes


def check_pod_requirements(spec: Obj, claims: Collection[str], path: str) -> list[Cause]:
    """`spec.resources`: what a pod asks for as a whole, no less than its containers together."""
    resources = spec["resources"]
    if (spec.get("os") or {}).get("name") == "windows":
        return [errors.forbidden(path, "may not be set for a windows pod")]
    causes: list[Cause] = []
    if resources.get("claims"):
        causes.append(errors.forbidden(f"{path}.claims", "claims may not be set for Resources at pod-level"))
    causes += check_requirements(resources, claims, path, _pod_name)
    for side in ("requests", "limits"):
        own = resources.get(side) or {}
        for resource, value in podspecs.aggregate(spec, side).items() if own else ():
            compared = resource in own and (side == "requests" or resource.startswith(_HUGE_PAGE))
            if compared and quantities.parse(value) > quantities.parse(own[resource]):
                text = f"must be greater than or equal to aggregate container {side} of {value}"
                causes.append(errors.invalid(f"{path}.{side}[{resource}]", own[resource], text))
    limits = resources.get("limits") or {}
    for i, container in enumerate(spec.get("containers") or () if limits else ()):
        for resource, value in ((container.get("resources") or {}).get("limits") or {}).items():
            if resource in limits and quantities.parse(value) > quantities.parse(limits[resource]):
                text = f"must be less than or equal to pod limits of {limits[resource]}"
                causes.append(errors.invalid(f"{path}.containers[{i}][{resource}].limits", value, text))
    return causes


def quality_of_service(spec: Mapping[str, Any]) -> str:
    """Guaranteed, Burstable or BestEffort, by the requests and limits of all containers or of the pod itself."""
    own = spec.get("resources")
    parts = (
        [own]
        if own is not None
        else [c.get("resources") or {} for c in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ()))]
    )
    requests: dict[str, int] = {}
    limits: dict[str, int] = {}
    guaranteed = True
    for resources in parts:
        _add_compute(requests, resources.get("requests"))
        limited = _add_compute(limits, resources.get("limits"))
        if len(limited) < len(_COMPUTE):
            guaranteed = False
    if not requests and not limits:
        return "BestEffort"
    if guaranteed and len(requests) == len(limits) and all(limits.get(name) == n for name, n in requests.items()):
        return "Guaranteed"
    return "Burstable"


def _add_compute(total: dict[str, int], listed: Mapping[str, Any] | None) -> set[str]:
    found = set()
    for name in _COMPUTE:
        text = (listed or {}).get(name)
        if text is None:
            continue
        try:
            amount = quantities.milli(text)
        except ValueError:
            continue  # validation says what is wrong with it
        if amount > 0:
            total[name] = total.get(name, 0) + amount
            found.add(name)
    return found
