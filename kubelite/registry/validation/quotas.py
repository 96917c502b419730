"""Checks of limit ranges and resource quotas.

Source: kubernetes pkg/apis/core/validation (ValidateLimitRange, ValidateResourceQuota), v1.34.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from kubelite.meta import errors, names, quantities
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import fields, resources

_OF_PODS = frozenset(("pods", "cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"))
#: The scopes, and what each may be applied to.
_SCOPES: Mapping[str, frozenset[str]] = {
    "BestEffort": frozenset(("pods",)),
    **dict.fromkeys(("CrossNamespacePodAffinity", "NotBestEffort", "NotTerminating", "PriorityClass", "Terminating"), _OF_PODS),
    "VolumeAttributesClass": frozenset(("persistentvolumeclaims", "requests.storage")),
}
#: Scopes that are there or not, without values.
_FLAGS = frozenset(_SCOPES) - {"PriorityClass", "VolumeAttributesClass"}
_OPPOSITES = (("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating"))


def check_resource_quota(obj: Obj) -> list[Cause]:
    spec = obj.get("spec") or {}
    hard = spec.get("hard") or {}
    causes = resources.quota_amounts(hard, "spec.hard")
    scopes = spec.get("scopes") or ()
    for scope in scopes:
        if scope not in _SCOPES:
            causes.append(errors.invalid("spec.scopes", scopes, "unsupported scope"))
        causes += [
            errors.invalid("spec.scopes", scopes, "unsupported scope applied to resource")
            for name in sorted(hard)
            if not _is_scoped(scope, name)
        ]
    if any(one in scopes and other in scopes for one, other in _OPPOSITES):
        causes.append(errors.invalid("spec.scopes", scopes, "conflicting scopes"))
    selector = spec.get("scopeSelector")
    return causes + (_check_scope_selector(selector, hard, scopes) if selector else [])


def _is_scoped(scope: str, resource: str) -> bool:
    return not resources.is_quota(resource) or scope not in _SCOPES or resource in _SCOPES[scope]


def _check_scope_selector(selector: Mapping[str, Any], hard: Mapping[str, Any], scopes: Sequence[str]) -> list[Cause]:
    path = "spec.scopeSelector.matchExpressions"
    causes: list[Cause] = []
    named = set()
    for requirement in selector.get("matchExpressions") or ():
        scope, operator = requirement.get("scopeName", ""), requirement.get("operator", "")
        values = requirement.get("values") or []
        named.add(scope)
        if scope not in _SCOPES:
            causes.append(errors.invalid(f"{path}.scopeName", scope, "unsupported scope"))
        causes += [
            errors.invalid(path, selector, "unsupported scope applied to resource")
            for n in sorted(hard)
            if not _is_scoped(scope, n)
        ]
        if scope in _FLAGS and operator != "Exists":
            text = (
                "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, "
                "ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity"
            )
            causes.append(errors.invalid(f"{path}.operator", operator, text))
        if operator in ("In", "NotIn"):
            if not values:
                text = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
                causes.append(errors.required(f"{path}.values", text))
        elif operator in ("Exists", "DoesNotExist"):
            if values:
                text = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"
                causes.append(errors.invalid(f"{path}.values", values, text))
        else:
            causes.append(errors.invalid(f"{path}.operator", operator, "not a valid selector operator"))
    if any(one in named and other in named for one, other in _OPPOSITES):
        causes.append(errors.invalid(path, scopes or None, "conflicting scopes"))
    return causes


def check_resource_quota_update(new: Obj, old: Obj) -> list[Cause]:
    """A quota's scopes never change."""
    scopes = (new.get("spec") or {}).get("scopes")
    if set(scopes or ()) != set((old.get("spec") or {}).get("scopes") or ()):
        return [errors.invalid("spec.scopes", scopes, fields.IMMUTABLE)]
    return []


def check_resource_quota_status(obj: Obj) -> list[Cause]:
    status = obj.get("status") or {}
    return resources.quota_amounts(status.get("hard"), "status.hard") + resources.quota_amounts(status.get("used"), "status.used")


#: The pairs that a limit's amounts must be ordered by: (smaller, larger, whose path is blamed, whose value, the text).
_ORDER = (
    ("min", "max", "min", "min", "min value {0} is greater than max value {1}"),
    ("min", "defaultRequest", "defaultRequest", "defaultRequest", "min value {0} is greater than default request value {1}"),
    ("defaultRequest", "max", "defaultRequest", "defaultRequest", "default request value {0} is greater than max value {1}"),
    (
        "defaultRequest",
        "default",
        "defaultRequest",
        "defaultRequest",
        "default request value {0} is greater than default limit value {1}",
    ),
    ("min", "default", "default", "min", "min value {0} is greater than default value {1}"),
    ("default", "max", "default", "max", "default value {0} is greater than max value {1}"),
)
_LIMIT_TYPES = ("Pod", "Container", "PersistentVolumeClaim")


def check_limit_range(obj: Obj) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, limit in enumerate((obj.get("spec") or {}).get("limits") or ()):
        path, kind = f"spec.limits[{index}]", limit.get("type", "")
        faults = names.qualified_name(kind)
        causes += fields.invalid_if(faults, f"{path}.type", kind)
        if not faults and "/" not in kind and kind not in _LIMIT_TYPES:
            causes.append(errors.invalid(f"{path}.type", kind, "must be a standard limit type or fully qualified"))
        check_name = resources.container_name if kind in ("Pod", "Container") else resources.name
        for field in ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio"):
            if kind != "Pod" or not field.startswith("default"):
                for name in limit.get(field) or ():
                    causes += check_name(name, f"{path}.{field}[{name}]")
        if kind in seen:
            causes.append(errors.duplicate(f"{path}.type", kind))
        seen.add(kind)
        if kind == "Pod":
            given = [field for field in ("default", "defaultRequest") if limit.get(field)]
            causes += [errors.forbidden(f"{path}.{f}", "may not be specified when `type` is 'Pod'") for f in given]
        if kind == "PersistentVolumeClaim" and not any("storage" in (limit.get(f) or {}) for f in ("min", "max")):
            text = "either minimum or maximum storage value is required, but neither was provided"
            causes.append(errors.required(f"{path}.limits", text))
        causes += _check_amounts(limit, path)
    return causes


def _check_amounts(limit: Mapping[str, Any], path: str) -> list[Cause]:
    causes: list[Cause] = []
    if limit.get("type") == "Pod":  # its defaults are refused as a whole
        limit = {field: amounts for field, amounts in limit.items() if not field.startswith("default")}
    for small, large, blamed, shown, text in _ORDER:
        first, second = limit.get(small) or {}, limit.get(large) or {}
        for name in sorted(first.keys() & second.keys()):
            if quantities.parse(first[name]) > quantities.parse(second[name]):
                message = text.format(first[name], second[name])
                causes.append(errors.invalid(f"{path}.{blamed}[{name}]", (limit.get(shown) or {})[name], message))
    low, high = limit.get("min") or {}, limit.get("max") or {}
    for name, ratio in (limit.get("maxLimitRequestRatio") or {}).items():
        at = f"{path}.maxLimitRequestRatio[{name}]"
        if quantities.parse(ratio) < 1:
            causes.append(errors.invalid(at, ratio, f"ratio {ratio} is less than 1"))
        if name in low and name in high and quantities.parse(low[name]):
            largest = quantities.parse(high[name]) / quantities.parse(low[name])
            if quantities.parse(ratio) > largest:
                text = f"ratio {ratio} is greater than max/min = {float(largest):f}"
                causes.append(errors.invalid(at, ratio, text))
    limits, requests = limit.get("default") or {}, limit.get("defaultRequest") or {}
    for name in sorted(limits.keys() & requests.keys()):
        fixed = not resources.is_overcommittable(name)
        if fixed and quantities.parse(limits[name]) != quantities.parse(requests[name]):
            text = f"default value {limits[name]} must equal to defaultRequest value {requests[name]} in {name}"
            causes.append(errors.invalid(f"{path}.defaultRequest[{name}]", requests[name], text))
    return causes
