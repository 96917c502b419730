"""Checks of what runs pods: replication controllers, the apps group and the batch group.

Source: kubernetes pkg/apis/{core,apps,batch}/validation, v1.34.
"""

import re
import zoneinfo
from typing import Any

from kubelite.meta import errors, names, schedules, selectors
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import fields, pods, storage

_PERCENT = re.compile(r"[0-9]+%")
_NO_MATCH = "`selector` does not match template `labels`"
MAX_INDEXED_PARALLELISM = 100_000
MAX_POLICY_RULES = 20


def check_replication_controller(obj: Obj) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes = fields.non_negative(spec.get("minReadySeconds"), "spec.minReadySeconds")
    causes += fields.non_negative(spec.get("replicas"), "spec.replicas")
    selector = spec.get("selector") or {}
    if not selector:
        causes.append(errors.required("spec.selector"))
    template = spec.get("template")
    if template is None:
        return [*causes, errors.required("spec.template")]
    labels = (template.get("metadata") or {}).get("labels") or {}
    if selector and any(labels.get(k) != v for k, v in selector.items()):
        causes.append(errors.invalid("spec.template.metadata.labels", labels, _NO_MATCH))
    causes += pods.check_template(template, "spec.template")
    return causes + _always_restarts(template, "ReplicationController", "spec.template")


def check_replica_set(obj: Obj) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes = fields.non_negative(spec.get("replicas"), "spec.replicas")
    causes += fields.non_negative(spec.get("minReadySeconds"), "spec.minReadySeconds")
    causes += _check_selector(spec, "deployment")
    causes += _check_template(spec)
    return causes + _always_restarts(spec.get("template") or {}, "ReplicaSet", "spec.template")


def check_deployment(obj: Obj) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes = fields.non_negative(spec.get("replicas"), "spec.replicas")
    causes += _check_selector(spec, "deployment")
    causes += _check_template(spec)
    causes += _always_restarts(spec.get("template") or {}, "ReplicaSet", "spec.template")
    strategy = spec.get("strategy") or {}
    kind = strategy.get("type", "")
    if kind == "Recreate":
        if strategy.get("rollingUpdate") is not None:
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
    spec = obj.get("spec") or {}
    causes: list[Cause] = []
    policy = spec.get("podManagementPolicy")
    if not policy:
        causes.append(errors.required("spec.podManagementPolicy"))
    elif policy not in ("OrderedReady", "Parallel"):
        causes.append(errors.invalid("spec.podManagementPolicy", policy, "must be 'OrderedReady' or 'Parallel'"))
    strategy = spec.get("updateStrategy") or {}
    kind = strategy.get("type")
    if not kind:
        causes.append(errors.required("spec.updateStrategy"))
    elif kind == "OnDelete":
        if strategy.get("rollingUpdate") is not None:
            text = "only allowed for updateStrategy 'RollingUpdate'"
            causes.append(errors.invalid("spec.updateStrategy.rollingUpdate", strategy["rollingUpdate"], text))
    elif kind == "RollingUpdate":
        partition = (strategy.get("rollingUpdate") or {}).get("partition")
        causes += fields.non_negative(partition, "spec.updateStrategy.rollingUpdate.partition")
    else:
        causes.append(errors.invalid("spec.updateStrategy", strategy, "must be 'RollingUpdate' or 'OnDelete'"))
    retention = spec.get("persistentVolumeClaimRetentionPolicy") or {}
    for name in ("whenDeleted", "whenScaled"):
        if name in retention and retention[name] not in ("Retain", "Delete"):
            path = f"spec.persistentVolumeClaimRetentionPolicy.{name}"
            causes.append(errors.not_supported(path, retention[name], ("Retain", "Delete")))
    causes += fields.non_negative(spec.get("replicas"), "spec.replicas")
    causes += fields.non_negative(spec.get("minReadySeconds"), "spec.minReadySeconds")
    causes += fields.non_negative((spec.get("ordinals") or {}).get("start"), "spec.ordinals.start")
    name = obj["metadata"].get("name", "")
    if len(name) > names.LABEL_MAX:
        causes.append(errors.invalid("metadata.name", name, names.too_long(names.LABEL_MAX)))
    for i, claim in enumerate(spec.get("volumeClaimTemplates") or ()):
        for cause in storage.check_claim(claim):
            causes.append(Cause(f"spec.volumeClaimTemplates[{i}].{cause.field}", cause.reason, cause.message))
    causes += _check_selector(spec, "statefulset")
    causes += _check_template(spec)
    return causes + _always_restarts(spec.get("template") or {}, "StatefulSet", "spec.template")


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
    now, was = new["spec"], old["spec"]
    changed = {k for k in {*now, *was} - _STATEFUL_SET_FIELDS if (now.get(k) or None) != (was.get(k) or None)}
    if not changed:
        return []
    text = (
        "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', "
        "'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
    )
    return [errors.forbidden("spec", text)]


def check_daemon_set(obj: Obj) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes = _check_selector(spec, "daemonset")
    causes += _check_template(spec)
    causes += _always_restarts(spec.get("template") or {}, "DaemonSet", "spec.template")
    causes += fields.non_negative(spec.get("minReadySeconds"), "spec.minReadySeconds")
    causes += fields.non_negative(spec.get("revisionHistoryLimit"), "spec.revisionHistoryLimit")
    strategy = spec.get("updateStrategy") or {}
    kind = strategy.get("type", "")
    if kind == "RollingUpdate":
        rolling = strategy.get("rollingUpdate")
        path = "spec.updateStrategy.rollingUpdate"
        if rolling is None:
            causes.append(errors.required(path))
        else:
            for name in ("maxUnavailable", "maxSurge"):
                causes += _check_int_or_percent(rolling.get(name, 0), f"{path}.{name}")
                causes += _check_at_most_all(rolling.get(name, 0), f"{path}.{name}")
            if not _is_zero(rolling.get("maxUnavailable", 0)) and not _is_zero(rolling.get("maxSurge", 0)):
                text = "may not be set when maxUnavailable is non-zero"
                causes.append(errors.invalid(f"{path}.maxSurge", rolling["maxSurge"], text))
            elif _is_zero(rolling.get("maxUnavailable", 0)) and _is_zero(rolling.get("maxSurge", 0)):
                causes.append(errors.required(f"{path}.maxUnavailable", "cannot be 0 when maxSurge is 0"))
    elif kind != "OnDelete":
        causes.append(errors.not_supported("spec.updateStrategy", strategy, ("OnDelete", "RollingUpdate")))
    return causes


def check_controller_revision(obj: Obj) -> list[Cause]:
    causes = [] if obj.get("data") else [errors.required("data", "data is mandatory")]
    return causes + fields.non_negative(obj.get("revision"), "revision")


def check_job(obj: Obj) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes = check_job_spec(spec, "spec")
    causes += _check_generated(obj)
    if spec.get("selector") is None:
        causes.append(errors.required("spec.selector"))
    elif not _matches(spec):
        labels = (spec.get("template", {}).get("metadata") or {}).get("labels") or {}
        causes.append(errors.invalid("spec.template.metadata.labels", labels, _NO_MATCH))
    if spec.get("completionMode") == "Indexed" and (spec.get("completions") or 0) > 0:
        host = f"{obj['metadata'].get('name', '')}-{spec['completions'] - 1}"
        if names.dns1123_label(host):
            text = f"will not able to create pod with invalid DNS label: {host}"
            causes.append(errors.invalid("metadata.name", obj["metadata"].get("name", ""), text))
    return causes


def _check_generated(job: Obj) -> list[Cause]:
    """Unless it is told otherwise, a job selects what the server labelled for it."""
    spec, meta = job["spec"], job["metadata"]
    if spec.get("manualSelector") or spec.get("selector") is None:
        return []
    uid, name = meta.get("uid", ""), meta.get("name", "")
    own = {
        "controller-uid": uid,
        "job-name": name,
        "batch.kubernetes.io/controller-uid": uid,
        "batch.kubernetes.io/job-name": name,
    }
    if selectors.from_object(spec["selector"]).matches(own):
        return []
    return [errors.invalid("spec.selector", spec["selector"], "`selector` not auto-generated")]


def check_job_update(new: Obj, old: Obj) -> list[Cause]:
    """What never changes of a job; its template may while it is suspended and has not started."""
    now, was = new["spec"], old["spec"]
    causes: list[Cause] = []
    for name in ("selector", "podFailurePolicy", "backoffLimitPerIndex", "successPolicy", "managedBy", "completionMode"):
        causes += fields.immutable(now.get(name), was.get(name), f"spec.{name}")
    if now.get("completions") != was.get("completions"):
        elastic = now.get("completionMode") == "Indexed" and now.get("completions") == now.get("parallelism")
        if not (elastic and was.get("completions") == was.get("parallelism")):
            text = "can only be modified in tandem with spec.parallelism" if elastic else fields.IMMUTABLE
            causes.append(errors.invalid("spec.completions", now.get("completions"), text))
    mutable = was.get("suspend") and not (old.get("status") or {}).get("startTime")
    before, after = _template_parts(was, mutable), _template_parts(now, mutable)
    return causes + fields.immutable(after, before, "spec.template")


def _template_parts(spec: Obj, mutable: Any) -> Obj:
    template = dict(spec.get("template") or {})
    if mutable:  # scheduling directives may be set until the job starts
        meta = {k: v for k, v in (template.get("metadata") or {}).items() if k not in ("labels", "annotations")}
        hidden = ("nodeSelector", "affinity", "tolerations", "schedulingGates")
        inner = {k: v for k, v in (template.get("spec") or {}).items() if k not in hidden}
        template.update(metadata=meta, spec=inner)
    return template


def check_job_spec(spec: Obj, path: str) -> list[Cause]:
    """The spec of a job or of a cron job's template."""
    causes: list[Cause] = []
    for name in (
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ):
        causes += fields.non_negative(spec.get(name), f"{path}.{name}")
    indexed = spec.get("completionMode") == "Indexed"
    if spec.get("completionMode") not in (None, "Indexed", "NonIndexed"):
        causes.append(errors.not_supported(f"{path}.completionMode", spec["completionMode"], ("NonIndexed", "Indexed")))
    if spec.get("maxFailedIndexes") is not None and spec.get("backoffLimitPerIndex") is None:
        causes.append(errors.required(f"{path}.backoffLimitPerIndex", "when maxFailedIndexes is specified"))
    if indexed:
        if spec.get("completions") is None:
            causes.append(errors.required(f"{path}.completions", "when completion mode is Indexed"))
        if (spec.get("parallelism") or 0) > MAX_INDEXED_PARALLELISM:
            text = f"must be less than or equal to {MAX_INDEXED_PARALLELISM} when completion mode is Indexed"
            causes.append(errors.invalid(f"{path}.parallelism", spec["parallelism"], text))
        limit, completions = spec.get("maxFailedIndexes"), spec.get("completions")
        if limit is not None and completions is not None and limit > completions:
            text = "must be less than or equal to completions"
            causes.append(errors.invalid(f"{path}.maxFailedIndexes", limit, text))
    else:
        for name in ("backoffLimitPerIndex", "maxFailedIndexes", "successPolicy"):
            if spec.get(name) is not None:
                causes.append(errors.invalid(f"{path}.{name}", spec[name], "requires indexed completion mode"))
    replacement = spec.get("podReplacementPolicy")
    if spec.get("podFailurePolicy") is not None:
        causes += _check_failure_policy(spec, f"{path}.podFailurePolicy")
        if replacement not in (None, "Failed"):
            causes.append(errors.not_supported(f"{path}.podReplacementPolicy", replacement, ("Failed",)))
    elif replacement not in (None, "Failed", "TerminatingOrFailed"):
        allowed = ("Failed", "TerminatingOrFailed")
        causes.append(errors.not_supported(f"{path}.podReplacementPolicy", replacement, allowed))
    if spec.get("successPolicy") is not None and indexed:
        causes += _check_success_policy(spec["successPolicy"], spec.get("completions") or 0, f"{path}.successPolicy")
    if spec.get("managedBy") is not None:
        causes += fields.domain_path(spec["managedBy"], f"{path}.managedBy")
    template = spec.get("template") or {}
    causes += pods.check_template(template, f"{path}.template")
    policy = (template.get("spec") or {}).get("restartPolicy")
    at = f"{path}.template.spec.restartPolicy"
    if policy in (None, "", "Always"):
        causes.append(errors.required(at, 'valid values: "OnFailure", "Never"'))
    elif policy not in ("OnFailure", "Never"):
        causes.append(errors.not_supported(at, policy, ("OnFailure", "Never")))
    elif spec.get("podFailurePolicy") is not None and policy != "Never":
        causes.append(errors.invalid(at, policy, 'only "Never" is supported when podFailurePolicy is specified'))
    return causes


def _check_failure_policy(spec: Obj, path: str) -> list[Cause]:
    rules = spec["podFailurePolicy"].get("rules") or ()
    causes: list[Cause] = []
    if len(rules) > MAX_POLICY_RULES:
        causes.append(errors.too_many(f"{path}.rules", len(rules), MAX_POLICY_RULES))
    inner = (spec.get("template") or {}).get("spec") or {}
    known = {c.get("name") for name in ("initContainers", "containers") for c in inner.get(name) or ()}
    actions = ("Count", "FailIndex", "FailJob", "Ignore")
    for i, rule in enumerate(rules):
        at = f"{path}.rules[{i}]"
        action = rule.get("action", "")
        causes += fields.one_of(action, f"{at}.action", actions)
        if action == "FailIndex" and spec.get("backoffLimitPerIndex") is None:
            causes.append(errors.invalid(f"{at}.action", action, "requires the backoffLimitPerIndex to be set"))
        codes, conditions = rule.get("onExitCodes"), rule.get("onPodConditions")
        if codes is not None and conditions:
            causes.append(_omitted(at, "specifying both OnExitCodes and OnPodConditions is not supported"))
        elif codes is None and not conditions:
            causes.append(_omitted(at, "specifying one of OnExitCodes and OnPodConditions is required"))
        if codes is not None:
            causes += _check_exit_codes(codes, known, f"{at}.onExitCodes")
        for j, condition in enumerate(conditions or ()):
            status = condition.get("status", "")
            causes += fields.one_of(status, f"{at}.onPodConditions[{j}].status", ("False", "True", "Unknown"))
    return causes


def _omitted(path: str, text: str) -> Cause:
    return Cause(path, "FieldValueInvalid", f"Invalid value: {text}")


def _check_exit_codes(codes: Obj, known: set[Any], path: str) -> list[Cause]:
    causes = fields.one_of(codes.get("operator"), f"{path}.operator", ("In", "NotIn"))
    name, values = codes.get("containerName"), codes.get("values") or []
    if name is not None and name not in known:
        text = "must be one of the container or initContainer names in the pod template"
        causes.append(errors.invalid(f"{path}.containerName", name, text))
    if not values:
        causes.append(errors.invalid(f"{path}.values", values, "at least one value is required"))
    elif len(values) > 255:
        causes.append(errors.too_many(f"{path}.values", len(values), 255))
    for i, value in enumerate(values):
        if codes.get("operator") == "In" and value == 0:
            causes.append(errors.invalid(f"{path}.values[{i}]", value, "must not be 0 for the In operator"))
        if value in values[:i]:
            causes.append(errors.duplicate(f"{path}.values[{i}]", value))
    if values != sorted(values):
        causes.append(errors.invalid(f"{path}.values", values, "must be ordered"))
    return causes


def _check_success_policy(policy: Obj, completions: int, path: str) -> list[Cause]:
    rules = policy.get("rules") or ()
    if not rules:
        text = "at least one rules must be specified when the successPolicy is specified"
        return [errors.required(f"{path}.rules", text)]
    causes: list[Cause] = []
    if len(rules) > MAX_POLICY_RULES:
        causes.append(errors.too_many(f"{path}.rules", len(rules), MAX_POLICY_RULES))
    for i, rule in enumerate(rules):
        if rule.get("succeededCount") is None and rule.get("succeededIndexes") is None:
            text = "at least one of succeededCount or succeededIndexes must be specified"
            causes.append(errors.required(f"{path}.rules[{i}]", text))
        causes += _check_success_rule(rule, completions, f"{path}.rules[{i}]")
    return causes


def _check_success_rule(rule: Obj, completions: int, path: str) -> list[Cause]:
    indexes, count = rule.get("succeededIndexes"), rule.get("succeededCount")
    causes: list[Cause] = []
    total = 0
    if indexes is not None:
        try:
            total = _count_indexes(indexes, completions)
        except ValueError as e:
            text = f"error parsing succeededIndexes: {e}"
            causes.append(errors.invalid(f"{path}.succeededIndexes", indexes, text))
    at = f"{path}.succeededCount"
    causes += fields.non_negative(count, at)
    if count is not None and count > completions:
        text = f"must be less than or equal to {completions} (the number of specified completions)"
        causes.append(errors.invalid(at, count, text))
    if count is not None and indexes is not None and count > total:
        text = f"must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
        causes.append(errors.invalid(at, count, text))
    return causes


def _count_indexes(text: str, completions: int) -> int:
    """How many indexes `0,2-4` names. Raises ValueError where it can't be read."""
    total, last = 0, -1
    for interval in text.split(",") if text else ():
        parts = interval.split("-")
        if len(parts) > 2:
            raise ValueError(
                f'the fragment "{interval}" violates the requirement that an index interval can have at most two parts'
            )
        ends = []
        for part in parts:
            if not part.isascii() or not part.isdigit():
                raise ValueError(f'cannot convert string to integer for index: "{part}"')
            if int(part) >= completions:
                raise ValueError(f'too large index: "{part}"')
            ends.append(int(part))
        if len(ends) == 2 and ends[0] >= ends[1]:
            raise ValueError(f"non-increasing order, previous: {ends[0]}, current: {ends[1]}")
        if last >= ends[0]:
            raise ValueError(f"non-increasing order, previous: {last}, current: {ends[0]}")
        total += ends[-1] - ends[0] + 1
        last = ends[-1]
    return total


def check_cron_job(obj: Obj) -> list[Cause]:
    spec = obj.get("spec") or {}
    name = obj["metadata"].get("name", "")
    causes: list[Cause] = []
    if len(name) > 52:
        causes.append(errors.invalid("metadata.name", name, "must be no more than 52 characters"))
    schedule = spec.get("schedule", "")
    if not schedule:
        causes.append(errors.required("spec.schedule"))
    elif "TZ" in schedule:
        text = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
        causes.append(errors.invalid("spec.schedule", schedule, text))
    else:
        causes += _check_schedule(schedule)
    causes += fields.non_negative(spec.get("startingDeadlineSeconds"), "spec.startingDeadlineSeconds")
    zone = spec.get("timeZone")
    if zone is not None:
        causes += _check_zone(zone)
    causes += fields.one_of(spec.get("concurrencyPolicy"), "spec.concurrencyPolicy", ("Allow", "Forbid", "Replace"))
    for name in ("successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
        causes += fields.non_negative(spec.get(name), f"spec.{name}")
    job = (spec.get("jobTemplate") or {}).get("spec") or {}
    if job.get("selector") is not None:
        causes.append(errors.invalid("spec.jobTemplate.spec.selector", job["selector"], "`selector` will be auto-generated"))
    if job.get("manualSelector"):
        text = 'Unsupported value: true: supported values: "nil", "false"'
        causes.append(Cause("spec.jobTemplate.spec.manualSelector", "FieldValueNotSupported", text))
    return causes + check_job_spec(job, "spec.jobTemplate.spec")


def _check_schedule(schedule: str) -> list[Cause]:
    try:
        schedules.Schedule(schedule)
    except schedules.ScheduleError as e:
        return [errors.invalid("spec.schedule", schedule, str(e))]
    return []


def _check_zone(zone: str) -> list[Cause]:
    if not zone:
        return [errors.invalid("spec.timeZone", zone, "timeZone must be nil or non-empty string")]
    if zone.lower() == "local":
        text = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"
        return [errors.invalid("spec.timeZone", zone, text)]
    try:
        zoneinfo.ZoneInfo(zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        return [errors.invalid("spec.timeZone", zone, f"unknown time zone {zone}")]
    return []


def _check_selector(spec: Obj, noun: str) -> list[Cause]:
    selector = spec.get("selector")
    if selector is None:
        return [] if noun == "daemonset" else [errors.required("spec.selector")]
    causes = fields.label_selector(selector, "spec.selector")
    if noun == "deployment" and causes:
        causes.append(errors.invalid("spec.selector", selector, "invalid label selector"))
    if not selector.get("matchLabels") and not selector.get("matchExpressions"):
        causes.append(errors.invalid("spec.selector", selector, f"empty selector is invalid for {noun}"))
    return causes


def _matches(spec: Obj) -> bool:
    """Whether the selector takes the template's labels; none takes nothing."""
    selector = spec.get("selector")
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    return selector is not None and selectors.from_object(selector).matches(labels)


def _check_template(spec: Obj) -> list[Cause]:
    template = spec.get("template")
    if template is None:
        return [errors.required("spec.template")]
    causes: list[Cause] = []
    selector = spec.get("selector")
    is_empty = selector is not None and not selector.get("matchLabels") and not selector.get("matchExpressions")
    is_bad = selector is not None and bool(fields.label_selector(selector, ""))
    if not is_empty and not is_bad and not _matches(spec):
        labels = (template.get("metadata") or {}).get("labels") or {}
        causes.append(errors.invalid("spec.template.metadata.labels", labels, _NO_MATCH))
    return causes + pods.check_template(template, "spec.template")


def _always_restarts(template: Obj, noun: str, path: str) -> list[Cause]:
    inner = template.get("spec") or {}
    causes: list[Cause] = []
    if inner.get("restartPolicy") not in (None, "Always"):
        causes.append(errors.not_supported(f"{path}.spec.restartPolicy", inner["restartPolicy"], ("Always",)))
    if inner.get("activeDeadlineSeconds") is not None:
        text = f"activeDeadlineSeconds in {noun} is not Supported"
        causes.append(errors.forbidden(f"{path}.spec.activeDeadlineSeconds", text))
    return causes


def _check_rolling(rolling: Obj, path: str) -> list[Cause]:
    causes: list[Cause] = []
    for name in ("maxUnavailable", "maxSurge"):
        causes += _check_int_or_percent(rolling.get(name, 0), f"{path}.{name}")
    if _is_zero(rolling.get("maxUnavailable", 0)) and _is_zero(rolling.get("maxSurge", 0)):
        text = "may not be 0 when `maxSurge` is 0"
        causes.append(errors.invalid(f"{path}.maxUnavailable", rolling.get("maxUnavailable", 0), text))
    return causes + _check_at_most_all(rolling.get("maxUnavailable", 0), f"{path}.maxUnavailable")


def _check_at_most_all(value: int | str, path: str) -> list[Cause]:
    """A share is at most the whole."""
    if isinstance(value, str) and _PERCENT.fullmatch(value) and int(value[:-1]) > 100:
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


def _is_zero(value: int | str) -> bool:
    return value in (0, "0", "0%")


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
