import copy
from typing import Any

import orjson
import pytest

from kubelite.schema import builtin, conversion
from kubelite.schema.kinds import Kind

KINDS = builtin.kinds()


def kind(group: str, version: str, plural: str) -> Kind:
    found = KINDS.resource(group, version, plural)
    assert found is not None
    return found


CORE, EVENTS = kind("", "v1", "events"), kind("events.k8s.io", "v1", "events")
V1, V2 = (kind("autoscaling", version, "horizontalpodautoscalers") for version in ("v1", "v2"))


def test_events_change_the_names_of_their_fields_and_come_back() -> None:
    event = {
        "kind": "Event",
        "apiVersion": "v1",
        "metadata": {"name": "a"},
        "involvedObject": {"kind": "Pod", "name": "p"},
        "message": "m",
        "source": {"component": "c"},
        "firstTimestamp": "2026-01-01T00:00:00Z",
        "count": 3,
        "reportingComponent": "",
        "reportingInstance": "",
    }
    before = copy.deepcopy(event)
    newer = conversion.convert(event, CORE, EVENTS)
    assert newer == {
        "kind": "Event",
        "apiVersion": "events.k8s.io/v1",
        "metadata": {"name": "a"},
        "regarding": {"kind": "Pod", "name": "p"},
        "note": "m",
        "deprecatedSource": {"component": "c"},
        "deprecatedFirstTimestamp": "2026-01-01T00:00:00Z",
        "deprecatedCount": 3,
    }
    assert conversion.convert(newer, EVENTS, CORE) == before == event


def autoscaler(**spec: Any) -> Any:
    return {
        "kind": "HorizontalPodAutoscaler",
        "apiVersion": "autoscaling/v2",
        "metadata": {"name": "a", "annotations": {"mine": "x"}},
        "spec": {"maxReplicas": 3, **spec},
        "status": {"desiredReplicas": 0},
    }


MEMORY = {"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "512Mi"}}}
PODS = {"type": "Pods", "pods": {"metric": {"name": "x"}, "target": {"type": "AverageValue", "averageValue": "1"}}}
CPU = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}}
OBJECT = {
    "type": "Object",
    "object": {"describedObject": {"kind": "S", "name": "s"}, "metric": {"name": "y"}, "target": {"type": "Value", "value": "5"}},
}
BEHAVIOR = {"scaleUp": {"selectPolicy": "Max", "policies": [{"type": "Pods", "value": 1, "periodSeconds": 5}]}}


def test_autoscalers_keep_in_annotations_what_the_older_version_has_no_fields_for() -> None:
    older = conversion.convert(autoscaler(metrics=[MEMORY, PODS, CPU], behavior=BEHAVIOR), V2, V1)
    assert older["spec"] == {"maxReplicas": 3, "targetCPUUtilizationPercentage": 70}
    assert older["status"] == {"desiredReplicas": 0, "currentReplicas": 0}
    annotations = older["metadata"]["annotations"]
    assert orjson.loads(annotations["autoscaling.alpha.kubernetes.io/metrics"]) == [
        {"type": "Resource", "resource": {"name": "memory", "targetAverageValue": "512Mi"}},
        {"type": "Pods", "pods": {"metricName": "x", "targetAverageValue": "1"}},
    ]


def test_autoscalers_come_back_as_they_were() -> None:
    newer = autoscaler(metrics=[MEMORY, PODS, OBJECT, CPU], behavior=BEHAVIOR)
    newer["status"]["conditions"] = [{"type": "AbleToScale", "status": "True"}]
    newer["status"]["currentMetrics"] = [
        {"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 5, "averageValue": "1m"}}}
    ]
    older = conversion.convert(newer, V2, V1)
    assert older["status"]["currentCPUUtilizationPercentage"] == 5
    assert conversion.convert(older, V1, V2) == newer


def test_an_autoscaler_without_metrics_gets_the_default_one() -> None:
    older = {"metadata": {}, "spec": {"maxReplicas": 1}, "status": {}}
    assert conversion.convert(older, V1, V2)["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"] == 80


def test_annotations_that_can_not_be_read_are_ignored() -> None:
    older = {"metadata": {"annotations": {"autoscaling.alpha.kubernetes.io/metrics": "[1"}}, "spec": {}, "status": {}}
    assert len(conversion.convert(older, V1, V2)["spec"]["metrics"]) == 1


def test_there_is_no_way_between_other_kinds() -> None:
    with pytest.raises(ValueError):
        conversion.convert({}, CORE, V1)
