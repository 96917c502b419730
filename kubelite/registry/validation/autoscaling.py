"""Checks of horizontal pod autoscalers, in both versions.

Source: kubernetes pkg/apis/autoscaling/validation, v1.34.
"""

from collections.abc import Mapping
from typing import Any

from kubelite.meta import errors, names
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import fields

_SOURCES = {
    "ContainerResource": "containerResource",
    "External": "external",
    "Object": "object",
    "Pods": "pods",
    "Resource": "resource",
}
MAX_PERIOD_S, MAX_STABILIZATION_S = 1800, 3600


def check_autoscaler(obj: Obj) -> list[Cause]:
    spec = obj.get("spec") or {}
    least, most = spec.get("minReplicas"), spec.get("maxReplicas", 0)
    causes: list[Cause] = []
    if least is not None and least < 1:
        causes.append(errors.invalid("spec.minReplicas", least, "must be greater than or equal to 1"))
    if most < 1:
        causes.append(errors.invalid("spec.maxReplicas", most, "must be greater than 0"))
    if least is not None and most < least:
        causes.append(errors.invalid("spec.maxReplicas", most, "must be greater than or equal to `minReplicas`"))
    ref = spec.get("scaleTargetRef") or {}
    for field in ("kind", "name"):
        value = ref.get(field, "")
        if not value:
            causes.append(errors.required(f"spec.scaleTargetRef.{field}"))
        causes += fields.invalid_if(names.path_segment(value), f"spec.scaleTargetRef.{field}", value)
    version = ref.get("apiVersion", "")
    if "/" not in version and not (version == "v1" and ref.get("kind") == "ReplicationController"):
        path = "spec.scaleTargetRef.apiVersion"
        causes.append(errors.invalid(path, version, "apiVersion must specify API group"))
    for index, metric in enumerate(spec.get("metrics") or ()):
        causes += _check_metric(metric, f"spec.metrics[{index}]")
    behavior = spec.get("behavior") or {}
    for direction in ("scaleUp", "scaleDown"):
        if behavior.get(direction) is not None:
            causes += _check_rules(behavior[direction], f"spec.behavior.{direction}")
    return causes


def _check_metric(metric: Mapping[str, Any], path: str) -> list[Cause]:
    kind = metric.get("type", "")
    if kind not in _SOURCES:
        return [errors.not_supported(f"{path}.type", kind, _SOURCES)]
    wanted = _SOURCES[kind]
    text = "must populate information for the given metric source"
    causes = [] if metric.get(wanted) is not None else [errors.required(f"{path}.{wanted}", text)]
    causes += [
        errors.forbidden(f"{path}.{other}", "must populate the given metric source only")
        for other in _SOURCES.values()
        if other != wanted and metric.get(other) is not None
    ]
    return causes


def _check_rules(rules: Mapping[str, Any], path: str) -> list[Cause]:
    causes: list[Cause] = []
    window = rules.get("stabilizationWindowSeconds")
    at = f"{path}.stabilizationWindowSeconds"
    if window is not None and window < 0:
        causes.append(errors.invalid(at, window, "must be greater than or equal to zero"))
    if window is not None and window > MAX_STABILIZATION_S:
        causes.append(errors.invalid(at, window, f"must be less than or equal to {MAX_STABILIZATION_S}"))
    select = rules.get("selectPolicy")
    if select is not None and select not in ("Max", "Min", "Disabled"):
        causes.append(errors.not_supported(f"{path}.selectPolicy", select, ("Disabled", "Max", "Min")))
    policies = rules.get("policies") or ()
    if not policies:
        causes.append(errors.required(f"{path}.policies", "must specify at least one Policy"))
    for index, policy in enumerate(policies):
        inner = f"{path}.policies[{index}]"
        if policy.get("type") not in ("Pods", "Percent"):
            causes.append(errors.not_supported(f"{inner}.type", policy.get("type", ""), ("Percent", "Pods")))
        empty = [field for field in ("value", "periodSeconds") if policy.get(field, 0) <= 0]
        causes += [errors.invalid(f"{inner}.{f}", policy.get(f, 0), "must be greater than zero") for f in empty]
        if policy.get("periodSeconds", 0) > MAX_PERIOD_S:
            text = f"must be less than or equal to {MAX_PERIOD_S}"
            causes.append(errors.invalid(f"{inner}.periodSeconds", policy["periodSeconds"], text))
    return causes
