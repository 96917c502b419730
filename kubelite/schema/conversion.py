"""Built-in kinds that are served in two versions, from one to the other.

There are two: horizontal pod autoscalers (autoscaling/v1 keeps what it has no fields for in annotations) and events (v1 and
events.k8s.io/v1 name the same fields differently). Nothing is lost in a round trip.

Source: kubernetes pkg/apis/autoscaling/v1/conversion.go and pkg/apis/events/v1/conversion.go, v1.34.
"""

from collections.abc import Callable
from typing import Any

import orjson

from kubelite.meta.types import Obj
from kubelite.schema.kinds import Kind

DEFAULT_CPU_UTILIZATION = 80
_METRICS = "autoscaling.alpha.kubernetes.io/metrics"
_STATUSES = "autoscaling.alpha.kubernetes.io/current-metrics"
_CONDITIONS = "autoscaling.alpha.kubernetes.io/conditions"
_BEHAVIOR = "autoscaling.alpha.kubernetes.io/behavior"
_KEPT = (_METRICS, _STATUSES, _CONDITIONS, _BEHAVIOR)

#: Fields of an event in v1 and in events.k8s.io/v1.
_EVENT_FIELDS = (
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
)


def convert(obj: Obj, from_kind: Kind, to_kind: Kind) -> Obj:
    """The object in another version of its kind. What is handed in is not changed; parts of it may be shared.

    Raises:
        ValueError: there is no way from the one to the other.
    """
    if from_kind is to_kind:
        return obj
    converter = _CONVERTERS.get((from_kind.api_version, to_kind.api_version, to_kind.kind))
    if converter is None:
        raise ValueError(f"{from_kind.kind} can't be converted from {from_kind.api_version} to {to_kind.api_version}")
    converted = converter(obj)
    return {"kind": to_kind.kind, "apiVersion": to_kind.api_version, **converted}


def _renamed(obj: Obj, names: dict[str, str]) -> Obj:
    return {names.get(key, key): value for key, value in obj.items() if key not in ("apiVersion", "kind")}


def _event_to_events(obj: Obj) -> Obj:
    out = _renamed(obj, dict(_EVENT_FIELDS))
    # these are always written in the one version and only where they say something in the other
    for name in ("reportingController", "reportingInstance"):
        if out.get(name) == "":
            del out[name]
    out.setdefault("regarding", {})
    out.setdefault("deprecatedSource", {})
    return out


def _event_to_core(obj: Obj) -> Obj:
    out = _renamed(obj, {new: old for old, new in _EVENT_FIELDS})
    for name, empty in (("involvedObject", {}), ("source", {}), ("reportingComponent", ""), ("reportingInstance", "")):
        out.setdefault(name, empty)
    return out


def _autoscaler_to_v1(obj: Obj) -> Obj:
    out = {key: value for key, value in obj.items() if key not in ("apiVersion", "kind")}
    spec, status = dict(obj.get("spec") or {}), dict(obj.get("status") or {})
    metrics, behavior = spec.pop("metrics", None) or [], spec.pop("behavior", None)
    statuses, conditions = status.pop("currentMetrics", None), status.pop("conditions", None)
    status.setdefault("currentReplicas", 0)
    kept: dict[str, str] = {}
    for metric in metrics:
        if _is_cpu_utilization(metric):
            spec.setdefault("targetCPUUtilizationPercentage", metric["resource"]["target"]["averageUtilization"])
    others = [_metric_to_v1(metric, "target") for metric in metrics if not _is_cpu_utilization(metric)]
    if others:
        kept[_METRICS] = orjson.dumps(others).decode()
    if statuses:
        for found in statuses:
            resource = found.get("resource") or {}
            utilization = (resource.get("current") or {}).get("averageUtilization")
            if found.get("type") == "Resource" and resource.get("name") == "cpu" and utilization is not None:
                status["currentCPUUtilizationPercentage"] = utilization
        kept[_STATUSES] = orjson.dumps([_metric_to_v1(found, "current") for found in statuses]).decode()
    if behavior is not None:
        kept[_BEHAVIOR] = orjson.dumps(_behavior_to_v1(behavior)).decode()
    if conditions:
        kept[_CONDITIONS] = orjson.dumps(conditions).decode()
    out["metadata"] = _with_annotations(obj.get("metadata") or {}, kept)
    out["spec"], out["status"] = spec, status
    return out


def autoscaler_to_v2(obj: Obj) -> Obj:
    """An autoscaling/v1 autoscaler's fields as autoscaling/v2 has them; apiVersion and kind are left out."""
    out = {key: value for key, value in obj.items() if key not in ("apiVersion", "kind")}
    spec, status = dict(obj.get("spec") or {}), dict(obj.get("status") or {})
    annotations = (obj.get("metadata") or {}).get("annotations") or {}
    utilization = spec.pop("targetCPUUtilizationPercentage", None)
    metrics = [_metric_to_v2(metric, "target") for metric in _decoded(annotations, _METRICS, list) or ()]
    if utilization is not None:
        metrics.append(cpu_metric(utilization))
    spec["metrics"] = metrics or [cpu_metric(DEFAULT_CPU_UTILIZATION)]
    behavior = _decoded(annotations, _BEHAVIOR, dict)
    if behavior:
        spec["behavior"] = _behavior_to_v2(behavior)
    current = status.pop("currentCPUUtilizationPercentage", None)
    statuses = _decoded(annotations, _STATUSES, list)
    if statuses:
        status["currentMetrics"] = [_metric_to_v2(found, "current") for found in statuses]
    elif current is not None:
        status["currentMetrics"] = [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": current}}}]
    conditions = _decoded(annotations, _CONDITIONS, list)
    if conditions:
        status["conditions"] = conditions
    if not status.get("currentReplicas"):
        status.pop("currentReplicas", None)
    out["metadata"] = _with_annotations(obj.get("metadata") or {}, {})
    out["spec"], out["status"] = spec, status
    return out


def _with_annotations(metadata: Obj, kept: dict[str, str]) -> Obj:
    """Metadata with these annotations for what the version has no fields for, and no older ones of them."""
    annotations = {key: value for key, value in (metadata.get("annotations") or {}).items() if key not in _KEPT}
    annotations.update(kept)
    out = {key: value for key, value in metadata.items() if key != "annotations"}
    if annotations:
        out["annotations"] = annotations
    return out


def _decoded(annotations: dict[str, str], name: str, wanted: type) -> Any:
    """An annotation's JSON value; None where it is not there or can't be read, as anyone may have written it."""
    text = annotations.get(name)
    if text is None:
        return None
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(value, wanted) or (isinstance(value, list) and not all(isinstance(item, dict) for item in value)):
        return None
    return value


def _is_cpu_utilization(metric: Obj) -> bool:
    resource = metric.get("resource") or {}
    return bool(
        metric.get("type") == "Resource"
        and resource.get("name") == "cpu"
        and (resource.get("target") or {}).get("averageUtilization") is not None
    )


def has_other_metrics(obj: Obj) -> bool:
    """Whether an autoscaling/v1 autoscaler has metrics that its version has no fields for."""
    return bool(_decoded((obj.get("metadata") or {}).get("annotations") or {}, _METRICS, list))


def cpu_metric(utilization: int) -> Obj:
    target = {"type": "Utilization", "averageUtilization": utilization}
    return {"type": "Resource", "resource": {"name": "cpu", "target": target}}


_SOURCES = ("resource", "containerResource", "pods", "object", "external")


def _metric_to_v1(metric: Obj, side: str) -> Obj:
    """A metric or, with `current` for `side`, a metric's status in autoscaling/v1's form."""
    out: Obj = {"type": metric.get("type", "")}
    for source in _SOURCES:
        found = metric.get(source)
        if found is None:
            continue
        amounts, identified, flat = found.get(side) or {}, found.get("metric") or {}, {}
        if source in ("resource", "containerResource"):
            flat = {key: found[key] for key in ("name", "container") if key in found}
        elif source == "object":
            flat["target"] = found.get("describedObject") or {}
        if identified:
            flat["metricName"] = identified.get("name", "")
            if "selector" in identified:
                flat["metricSelector" if source == "external" else "selector"] = identified["selector"]
        average = "averageValue" if source == "object" else f"{side}AverageValue"
        for name, key in (
            ("averageUtilization", f"{side}AverageUtilization"),
            ("averageValue", average),
            ("value", f"{side}Value"),
        ):
            if name in amounts:
                flat[key] = amounts[name]
        if source == "object":
            flat.setdefault(f"{side}Value", "0")
        out[source] = flat
    return out


def _metric_to_v2(metric: Obj, side: str) -> Obj:
    out: Obj = {"type": metric.get("type", "")}
    for source in _SOURCES:
        flat = metric.get(source)
        if not isinstance(flat, dict):
            continue
        found: Obj = {key: flat[key] for key in ("name", "container") if key in flat}
        if source == "object":
            found["describedObject"] = flat.get("target") or {}
        if "metricName" in flat:
            found["metric"] = {"name": flat["metricName"]}
            selector = flat.get("metricSelector" if source == "external" else "selector")
            if selector is not None:
                found["metric"]["selector"] = selector
        average = flat.get("averageValue" if source == "object" else f"{side}AverageValue")
        value, utilization = flat.get(f"{side}Value"), flat.get(f"{side}AverageUtilization")
        amounts: Obj = {}
        if utilization is not None:
            amounts["averageUtilization"] = utilization
        if average is not None:
            amounts["averageValue"] = average
        if value is not None and not (source == "object" and average is not None):
            amounts["value"] = value
        if side == "target":
            kind = "Utilization" if utilization is not None else "AverageValue" if average is not None else "Value"
            amounts = {"type": kind, **amounts}
        found[side] = amounts
        out[source] = found
    return out


#: The behavior annotation has the names of upstream's internal type.
_RULE_NAMES = (
    ("stabilizationWindowSeconds", "StabilizationWindowSeconds"),
    ("selectPolicy", "SelectPolicy"),
    ("policies", "Policies"),
    ("tolerance", "Tolerance"),
)
_POLICY_NAMES = (("type", "Type"), ("value", "Value"), ("periodSeconds", "PeriodSeconds"))


def _behavior_to_v1(behavior: Obj) -> Obj:
    out: Obj = {"ScaleUp": None, "ScaleDown": None}
    for name, upper in (("scaleUp", "ScaleUp"), ("scaleDown", "ScaleDown")):
        rules = behavior.get(name)
        if rules is not None:
            out[upper] = {theirs: rules.get(ours) for ours, theirs in _RULE_NAMES}
            out[upper]["Policies"] = [
                {theirs: policy.get(ours) for ours, theirs in _POLICY_NAMES} for policy in rules.get("policies") or ()
            ]
    return out


def _behavior_to_v2(behavior: Obj) -> Obj:
    out: Obj = {}
    for name, upper in (("scaleUp", "ScaleUp"), ("scaleDown", "ScaleDown")):
        rules = behavior.get(upper)
        if isinstance(rules, dict):
            out[name] = {ours: rules[theirs] for ours, theirs in _RULE_NAMES if rules.get(theirs) is not None}
            if "policies" in out[name]:
                out[name]["policies"] = [
                    {ours: policy[theirs] for ours, theirs in _POLICY_NAMES if policy.get(theirs) is not None}
                    for policy in rules["Policies"]
                ]
    return out


_CONVERTERS: dict[tuple[str, str, str], Callable[[Obj], Obj]] = {
    ("v1", "events.k8s.io/v1", "Event"): _event_to_events,
    ("events.k8s.io/v1", "v1", "Event"): _event_to_core,
    ("autoscaling/v2", "autoscaling/v1", "HorizontalPodAutoscaler"): _autoscaler_to_v1,
    ("autoscaling/v1", "autoscaling/v2", "HorizontalPodAutoscaler"): autoscaler_to_v2,
}
