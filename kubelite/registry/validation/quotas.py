"""Checks of limit ranges and resource quotas.

Source: kubernetes pkg/apis/core/validation (ValidateLimitRange, ValidateResourceQuota), v1.34.
"""

from collections.abc import Mapping
from typing import Any

from kubelite.meta import errors, names, quantities
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import fields

_QUOTA_RESOURCES = frozenset(
    ("cpu", "memory", "ephemeral-storage", "storage", "pods", "services", "resourcequotas", "secrets", "configmaps")
)
_COUNTED = frozenset(("pods", "services", "resourcequotas", "secrets", "configmaps", "persistentvolumeclaims"))


def check_resource_quota(obj: Obj) -> list[Cause]:
    causes: list[Cause] = []
    for name, amount in ((obj.get("spec") or {}).get("hard") or {}).items():
        path = f"spec.hard[{name}]"
        causes += fields.invalid_if(names.qualified_name(name), path, name)
        causes += fields.quantity(amount, path)
        counted = name in _COUNTED or name.startswith(("count/", "services."))
        if counted and quantities.is_quantity(amount) and quantities.milli(amount) % 1000:
            causes.append(errors.invalid(path, amount, "must be an integer"))
    return causes


#: The pairs that a limit's amounts must be ordered by: (smaller, larger, whose path is blamed, the text).
_ORDER = (
    ("min", "max", "min", "min value {0} is greater than max value {1}"),
    ("min", "defaultRequest", "defaultRequest", "min value {0} is greater than default request value {1}"),
    ("defaultRequest", "max", "defaultRequest", "default request value {0} is greater than max value {1}"),
    ("defaultRequest", "default", "defaultRequest", "default request value {0} is greater than default limit value {1}"),
    ("min", "default", "default", "min value {0} is greater than default value {1}"),
    ("default", "max", "default", "default value {0} is greater than max value {1}"),
)


def check_limit_range(obj: Obj) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, limit in enumerate((obj.get("spec") or {}).get("limits") or ()):
        path, kind = f"spec.limits[{index}]", limit.get("type", "")
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
    for small, large, blamed, text in _ORDER:
        first, second = limit.get(small) or {}, limit.get(large) or {}
        for name in first.keys() & second.keys():
            if quantities.parse(first[name]) > quantities.parse(second[name]):
                value = second[name] if blamed == large else first[name]
                message = text.format(first[name], second[name])
                causes.append(errors.invalid(f"{path}.{blamed}[{name}]", value, message))
    for name, ratio in (limit.get("maxLimitRequestRatio") or {}).items():
        if quantities.parse(ratio) < 1:
            causes.append(errors.invalid(f"{path}.maxLimitRequestRatio[{name}]", ratio, f"ratio {ratio} is less than 1"))
    return causes
