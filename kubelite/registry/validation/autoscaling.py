"""Checks of horizontal pod autoscalers, in the form of autoscaling/v2.

Source: kubernetes pkg/apis/autoscaling/validation, v1.34.
"""

from collections.abc import Mapping
from typing import Any

from kubelite.meta import errors, names, quantities
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import fields, resources

#: The types of metrics and their fields, in the order in which the first that is there is looked at.
_SOURCES = {
    "Object": "object",
    "External": "external",
    "Pods": "pods",
    "Resource": "resource",
    "ContainerResource": "containerResource",
}
MAX_PERIOD_S, MAX_STABILIZATION_S = 1800, 3600


def check_autoscaler(obj: Obj, old: Obj | None = None) -> list[Cause]:
    """An autoscaler of autoscaling/v2. The version of what it scales is looked at when it is another than the old one's."""
    spec = obj.get("spec") or {}
    least, most = spec.get("minReplicas"), spec.get("maxReplicas", 0)
    causes: list[Cause] = []
    if least is not None and least < 1:
        causes.append(errors.invalid("spec.minReplicas", least, "must be greater than or equal to 1"))
    if most < 1:
        causes.append(errors.invalid("spec.maxReplicas", most, "must be greater than 0"))
    if least is not None and most < least:
        causes.append(errors.invalid("spec.maxReplicas", most, "must be greater than or equal to `minReplicas`"))
    ref, path = spec.get("scaleTargetRef") or {}, "spec.scaleTargetRef"
    causes += _check_reference(ref, path)
    was = ((old or {}).get("spec") or {}).get("scaleTargetRef") or {}
    if old is None or any(ref.get(field) != was.get(field) for field in ("kind", "apiVersion")):
        causes += _check_version(ref, path, any_group=ref.get("kind") == "ReplicationController")
    metrics = spec.get("metrics") or ()
    if least == 0 and not any(metric.get("type") in ("Object", "External") for metric in metrics):
        text = "must specify at least one Object or External metric to support scaling to zero replicas"
        causes.append(errors.forbidden("spec.metrics", text))
    for index, metric in enumerate(metrics):
        causes += _check_metric(metric, f"spec.metrics[{index}]")
    behavior = spec.get("behavior") or {}
    for direction in ("scaleUp", "scaleDown"):
        if behavior.get(direction) is not None:
            causes += _check_rules(behavior[direction], f"spec.behavior.{direction}")
    return causes


def _check_metric(metric: Mapping[str, Any], path: str) -> list[Cause]:
    kind = metric.get("type", "")
    causes = [] if kind else [errors.required(f"{path}.type", "must specify a metric source type")]
    if kind not in _SOURCES:
        causes.append(errors.not_supported(f"{path}.type", kind, _SOURCES))
    given = [source for source in _SOURCES.values() if metric.get(source) is not None]
    if given:
        causes += _check_source(given[0], metric[given[0]], f"{path}.{given[0]}")
    wanted = _SOURCES.get(kind, "")
    if wanted and wanted not in given:
        text = "must populate information for the given metric source"
        causes.append(errors.required(f"{path}.{wanted}", text))
    if len(given) != 1:
        text = "must populate the given metric source only"
        causes += [errors.forbidden(f"{path}.{other}", text) for other in given if other != wanted]
    return causes


def _check_source(kind: str, source: Obj, path: str) -> list[Cause]:
    causes: list[Cause] = []
    target, at = source.get("target") or {}, f"{path}.target"
    if kind in ("resource", "containerResource"):
        name, container = source.get("name"), source.get("container") or ""
        if not name:
            causes.append(errors.required(f"{path}.name", "must specify a resource name"))
        elif kind == "containerResource":
            causes += resources.container_name(name, f"{path}.name")
        if kind == "containerResource" and not container:
            causes.append(errors.required(f"{path}.container", "must specify a container"))
        elif kind == "containerResource":
            causes += fields.invalid_if(names.dns1123_label(container), f"{path}.container", container)
    else:
        if kind == "object":
            described, below = source.get("describedObject") or {}, f"{path}.describedObject"
            causes += _check_reference(described, below) + _check_version(described, below, any_group=True)
        name = (source.get("metric") or {}).get("name", "")
        if not name:
            causes.append(errors.required(f"{path}.metric.name", "must specify a metric name"))
        causes += fields.invalid_if(names.path_segment(name), f"{path}.metric.name", name)
    return causes + _check_target(target, at) + _check_given(kind, target, at)


def _check_given(kind: str, target: Obj, path: str) -> list[Cause]:
    """The values that a source of a kind needs, and those that exclude each other."""
    value, average, share = (target.get(f) is not None for f in ("value", "averageValue", "averageUtilization"))
    if kind in ("resource", "containerResource"):
        if not share and not average:
            text = "must set either a target raw value or a target utilization"
            return [errors.required(f"{path}.averageUtilization", text)]
        if share and average:
            return [errors.forbidden(f"{path}.averageValue", "may not set both a target raw value and a target utilization")]
    elif kind == "pods":
        if not average:
            return [errors.required(f"{path}.averageValue", "must specify a positive target averageValue")]
    elif not value and not average:
        per = "averageValue" if kind == "object" else "value for metric or a per-pod target"
        text = f"must set either a target value or {per}" if kind == "object" else f"must set either a target {per}"
        return [errors.required(f"{path}.averageValue", text)]
    elif kind == "external" and value and average:
        return [errors.forbidden(f"{path}.value", "may not set both a target value for metric and a per-pod target")]
    return []


def _check_target(target: Obj, path: str) -> list[Cause]:
    kind = target.get("type") or ""
    causes = [] if kind else [errors.required(f"{path}.type", "must specify a metric target type")]
    if kind not in ("Utilization", "Value", "AverageValue"):
        causes.append(errors.invalid(f"{path}.type", kind, "must be either Utilization, Value, or AverageValue"))
    for field in ("value", "averageValue"):
        amount = target.get(field)
        if amount is not None and quantities.is_quantity(amount) and quantities.parse(amount) <= 0:
            causes.append(errors.invalid(f"{path}.{field}", amount, "must be positive"))
    share = target.get("averageUtilization")
    if share is not None and share < 1:
        causes.append(errors.invalid(f"{path}.averageUtilization", share, "must be greater than 0"))
    return causes


def _check_reference(ref: Obj, path: str) -> list[Cause]:
    """What is scaled or looked at: any kind, by its name."""
    causes: list[Cause] = []
    for field in ("kind", "name"):
        value = ref.get(field, "")
        if not value:
            causes.append(errors.required(f"{path}.{field}"))
        causes += fields.invalid_if(names.path_segment(value), f"{path}.{field}", value)
    return causes


def _check_version(ref: Obj, path: str, any_group: bool) -> list[Cause]:
    version = ref.get("apiVersion") or ""
    if version.count("/") > 1:
        return [errors.invalid(f"{path}.apiVersion", version, f"unexpected GroupVersion string: {version}")]
    if not any_group and not version.rpartition("/")[0]:
        return [errors.invalid(f"{path}.apiVersion", version, "apiVersion must specify API group")]
    return []


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
