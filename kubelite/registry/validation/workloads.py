"""Checks of what runs pods: replication controllers and the apps group; and of disruption budgets.

Source: kubernetes pkg/apis/{core,apps,policy}/validation, v1.34.
"""

import re
import sys
from collections.abc import Mapping
from typing import Any

from kubelite.meta import errors, names, selectors
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import claims, fields, pods

_PERCENT = re.compile(r"[0-9]+%")
NO_MATCH = "`selector` does not match template `labels`"


def check_replication_controller(obj: Obj) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes = fields.non_negative(spec.get("minReadySeconds"), "spec.minReadySeconds")
    causes += fields.non_negative(spec.get("replicas"), "spec.replicas")
    selector, template = spec.get("selector") or {}, spec.get("template")
    if not selector:
        causes.append(errors.required("spec.selector"))
    if template is None:
        return [*causes, errors.required("spec.template")]
    labels = (template.get("metadata") or {}).get("labels") or {}
    if any(labels.get(k) != v for k, v in selector.items()):
        causes.append(errors.invalid("spec.template.metadata.labels", labels, NO_MATCH))
    return causes + pods.check_template(template, "spec.template") + _always_restarts(spec, "ReplicationController")


def check_replica_set(obj: Obj) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes = fields.non_negative(spec.get("replicas"), "spec.replicas")
    causes += fields.non_negative(spec.get("minReadySeconds"), "spec.minReadySeconds")
    return causes + _check_selector_and_template(spec, "deployment", "ReplicaSet")


def check_deployment(obj: Obj) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes = fields.non_negative(spec.get("replicas"), "spec.replicas")
    causes += _check_selector_and_template(spec, "deployment", "ReplicaSet")
    strategy = spec.get("strategy") or {}
    kind = strategy.get("type", "")
    if kind == "Recreate":
        if "rollingUpdate" in strategy:
            text = "may not be specified when strategy `type` is 'Recreate'"
            causes.append(errors.forbidden("spec.strategy.rollingUpdate", text))
    elif kind == "RollingUpdate":
        causes += _check_rolling(strategy.get("rollingUpdate") or {}, "spec.strategy.rollingUpdate")
    else:
        causes.append(errors.not_supported("spec.strategy", strategy, ("Recreate", "RollingUpdate")))
    ready_s, deadline_s = spec.get("minReadySeconds", 0), spec.get("progressDeadlineSeconds")
    causes += fields.non_negative(ready_s, "spec.minReadySeconds")
    causes += fields.non_negative(spec.get("revisionHistoryLimit"), "spec.revisionHistoryLimit")
    if deadline_s is not None:
        causes += fields.non_negative(deadline_s, "spec.progressDeadlineSeconds")
        if deadline_s <= ready_s:
            text = "must be greater than minReadySeconds"
            causes.append(errors.invalid("spec.progressDeadlineSeconds", deadline_s, text))
    return causes


def check_selector_update(new: Obj, old: Obj) -> list[Cause]:
    """The selector of a Deployment, ReplicaSet or DaemonSet never changes."""
    return fields.immutable(new["spec"].get("selector"), old["spec"].get("selector"), "spec.selector")


def check_stateful_set(obj: Obj) -> list[Cause]:
    """A stateful set as it is created."""
    spec = obj.get("spec") or {}
    causes = _check_stateful_set(spec)
    for i, claim in enumerate(spec.get("volumeClaimTemplates") or ()):
        causes += claims.check_spec(claim.get("spec") or {}, f"spec.volumeClaimTemplates[{i}].spec")
    service = spec.get("serviceName")
    return causes + (fields.invalid_if(names.dns1123_label(service), "spec.serviceName", service) if service else [])


def _check_stateful_set(spec: Obj) -> list[Cause]:
    causes: list[Cause] = []
    policy = spec.get("podManagementPolicy")
    if not policy:
        causes.append(errors.required("spec.podManagementPolicy"))
    elif policy not in ("OrderedReady", "Parallel"):
        causes.append(errors.invalid("spec.podManagementPolicy", policy, "must be 'OrderedReady' or 'Parallel'"))
    causes += _check_stateful_strategy(spec.get("updateStrategy") or {}, "spec.updateStrategy")
    retention = spec.get("persistentVolumeClaimRetentionPolicy") or {}
    for name in ("whenDeleted", "whenScaled"):
        if name in retention and retention[name] not in ("Retain", "Delete"):
            path = f"spec.persistentVolumeClaimRetentionPolicy.{name}"
            causes.append(errors.not_supported(path, retention[name], ("Retain", "Delete")))
    causes += fields.non_negative(spec.get("replicas"), "spec.replicas")
    causes += fields.non_negative(spec.get("minReadySeconds"), "spec.minReadySeconds")
    causes += fields.non_negative((spec.get("ordinals") or {}).get("start"), "spec.ordinals.start")
    template = spec.get("template")
    if template:
        spec = {**spec, "template": {**template, "spec": _as_run(template.get("spec") or {}, spec)}}
    return causes + _check_selector_and_template(spec, "statefulset", "StatefulSet")


def _check_stateful_strategy(strategy: Obj, path: str) -> list[Cause]:
    kind = strategy.get("type")
    if not kind:
        return [errors.required(path)]
    if kind not in ("OnDelete", "RollingUpdate"):
        return [errors.invalid(path, strategy, "must be 'RollingUpdate' or 'OnDelete'")]
    rolling = strategy.get("rollingUpdate")
    if rolling is None:
        return []
    if kind == "OnDelete":
        return [errors.invalid(f"{path}.rollingUpdate", rolling, "only allowed for updateStrategy 'RollingUpdate'")]
    return fields.non_negative(rolling.get("partition"), f"{path}.rollingUpdate.partition")


def _as_run(inner: Obj, spec: Obj) -> Obj:
    """The spec of a stateful set's pods, whose host names are made, and whose volumes are those of its claims too."""
    made = [
        {"name": name, "persistentVolumeClaim": {"claimName": name}}
        for name in {(claim.get("metadata") or {}).get("name", ""): None for claim in spec.get("volumeClaimTemplates") or ()}
    ]
    kept = {field: value for field, value in inner.items() if field not in ("hostname", "subdomain")}
    if made:
        own = {volume["name"] for volume in made}
        kept["volumes"] = [*made, *(v for v in inner.get("volumes") or () if v.get("name", "") not in own)]
    return kept


_STATEFUL_SET_FIELDS = frozenset(
    (
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
    )
)


def check_stateful_set_update(new: Obj, old: Obj) -> list[Cause]:
    """A stateful set as it is updated: what never changes of it is not checked again."""
    now, was = new["spec"], old["spec"]
    causes = _check_stateful_set(now)
    if any(now.get(k) != was.get(k) for k in {*now, *was} - _STATEFUL_SET_FIELDS):
        text = (
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', "
            "'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
        )
        causes.append(errors.forbidden("spec", text))
    return causes


def check_daemon_set(obj: Obj) -> list[Cause]:
    spec = obj.get("spec") or {}
    template = spec.get("template") or {}
    causes = fields.label_selector(spec.get("selector"), "spec.selector")
    if not causes:
        causes += _check_match(spec)
    if spec.get("selector") == {}:
        causes.append(errors.invalid("spec.selector", {}, "empty selector is invalid for daemonset"))
    causes += pods.check_template(template, "spec.template") + _always_restarts(spec, "DaemonSet")
    causes += fields.non_negative(spec.get("minReadySeconds"), "spec.minReadySeconds")
    causes += fields.non_negative(spec.get("revisionHistoryLimit"), "spec.revisionHistoryLimit")
    strategy = spec.get("updateStrategy") or {}
    kind = strategy.get("type", "")
    if kind == "RollingUpdate":
        causes += _check_daemon_rolling(strategy.get("rollingUpdate"), "spec.updateStrategy.rollingUpdate")
    elif kind != "OnDelete":
        causes.append(errors.not_supported("spec.updateStrategy", strategy, ("OnDelete", "RollingUpdate")))
    return causes


def _check_daemon_rolling(rolling: Obj | None, path: str) -> list[Cause]:
    if rolling is None:
        return [errors.required(path)]
    unavailable, surge = rolling.get("maxUnavailable", 0), rolling.get("maxSurge", 0)
    causes: list[Cause] = []
    for name, value in (("maxUnavailable", unavailable), ("maxSurge", surge)):
        causes += _check_int_or_percent(value, f"{path}.{name}")
        causes += _check_at_most_all(value, f"{path}.{name}")
    if _amount(unavailable) and _amount(surge):
        causes.append(errors.invalid(f"{path}.maxSurge", surge, "may not be set when maxUnavailable is non-zero"))
    elif not _amount(unavailable) and not _amount(surge):
        causes.append(errors.required(f"{path}.maxUnavailable", "cannot be 0 when maxSurge is 0"))
    return causes


def check_controller_revision(obj: Obj) -> list[Cause]:
    """A controller revision as it is created."""
    causes = fields.non_negative(obj.get("revision"), "revision")
    data = obj.get("data")
    if data is None:
        causes.append(errors.required("data", "data is mandatory"))
    elif not isinstance(data, dict):
        causes.append(errors.required("data", "data must be a valid JSON object"))
    return causes


def check_controller_revision_update(new: Obj, old: Obj) -> list[Cause]:
    causes = fields.non_negative(new.get("revision"), "revision")
    return causes + fields.immutable(new.get("data"), old.get("data"), "data")


def _check_selector_and_template(spec: Obj, noun: str, restarting: str) -> list[Cause]:
    """A selector that is required, and the template that it has to match; one of which the selector can't be read is not
    checked."""
    selector, template = spec.get("selector"), spec.get("template") or {}
    causes = [errors.required("spec.selector")] if selector is None else []
    bad = fields.label_selector(selector, "spec.selector")
    if selector == {}:
        causes.append(errors.invalid("spec.selector", {}, f"empty selector is invalid for {noun}"))
    if bad:
        causes += bad
        causes.append(errors.invalid("spec.selector", selector, "invalid label selector" if noun == "deployment" else ""))
    else:
        if selector != {}:
            causes += _check_match(spec)
        causes += pods.check_template(template, "spec.template")
    if noun == "statefulset" or not bad:
        causes += _always_restarts(spec, restarting)
    return causes


def _check_match(spec: Obj) -> list[Cause]:
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    if selectors.from_object(spec.get("selector")).matches(labels):
        return []
    return [errors.invalid("spec.template.metadata.labels", labels, NO_MATCH)]


def _always_restarts(spec: Obj, noun: str) -> list[Cause]:
    inner = (spec.get("template") or {}).get("spec") or {}
    causes: list[Cause] = []
    if inner.get("restartPolicy") not in (None, "Always"):
        causes.append(errors.not_supported("spec.template.spec.restartPolicy", inner["restartPolicy"], ("Always",)))
    if inner.get("activeDeadlineSeconds") is not None:
        text = f"activeDeadlineSeconds in {noun} is not Supported"
        causes.append(errors.forbidden("spec.template.spec.activeDeadlineSeconds", text))
    return causes


def _check_rolling(rolling: Mapping[str, Any], path: str) -> list[Cause]:
    unavailable, surge = rolling.get("maxUnavailable", 0), rolling.get("maxSurge", 0)
    causes = _check_int_or_percent(unavailable, f"{path}.maxUnavailable")
    causes += _check_int_or_percent(surge, f"{path}.maxSurge")
    if not _amount(unavailable) and not _amount(surge):
        text = "may not be 0 when `maxSurge` is 0"
        causes.append(errors.invalid(f"{path}.maxUnavailable", unavailable, text))
    return causes + _check_at_most_all(unavailable, f"{path}.maxUnavailable")


def _check_at_most_all(value: int | str, path: str) -> list[Cause]:
    """A share is at most the whole."""
    if isinstance(value, str) and _PERCENT.fullmatch(value) and _amount(value) > 100:
        return [errors.invalid(path, value, "must not be greater than 100%")]
    return []


def _check_int_or_percent(value: int | str, path: str) -> list[Cause]:
    if isinstance(value, int):
        return fields.non_negative(value, path)
    if _PERCENT.fullmatch(value):
        return []
    text = names.format_faults(
        "a valid percent string must be a numeric string followed by an ending '%'", "[0-9]+%", "1%", "93%"
    )
    return [errors.invalid(path, value, text)]


def _amount(value: int | str) -> int:
    """The number that a count or a share names, 0 where it names none, the largest where it has more digits than Python reads."""
    if isinstance(value, int):
        return value
    try:
        return int(value.removesuffix("%"))
    except ValueError:
        return sys.maxsize if _PERCENT.fullmatch(value) else 0


_EVICTION_POLICIES = ("AlwaysAllow", "IfHealthyBudget")


def check_disruption_budget(obj: Obj) -> list[Cause]:
    """A PodDisruptionBudget."""
    spec = obj.get("spec") or {}
    low, high = spec.get("minAvailable"), spec.get("maxUnavailable")
    causes: list[Cause] = []
    if low is not None and high is not None:
        causes.append(errors.invalid("spec", spec, "minAvailable and maxUnavailable cannot be both set"))
    for name, value in (("minAvailable", low), ("maxUnavailable", high)):
        if value is not None:
            causes += _check_int_or_percent(value, f"spec.{name}")
            causes += _check_at_most_all(value, f"spec.{name}")
    policy, path = spec.get("unhealthyPodEvictionPolicy"), "spec.unhealthyPodEvictionPolicy"
    if policy is not None and policy not in _EVICTION_POLICIES:
        causes.append(errors.not_supported(path, policy, _EVICTION_POLICIES))
    return causes + fields.label_selector(spec.get("selector"), "spec.selector")
