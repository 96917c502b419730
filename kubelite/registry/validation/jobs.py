"""Checks of jobs and cron jobs.

Source: kubernetes pkg/apis/batch/validation/validation.go, v1.34.
"""

import re
import zoneinfo
from collections.abc import Mapping, Sequence
from typing import Any

from kubelite.meta import errors, names, schedules, selectors
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import fields, pods
from kubelite.registry.validation.workloads import NO_MATCH

MAX_INDEXED_PARALLELISM = MAX_FAILED_INDEXES = MANY_COMPLETIONS = 100_000
#: Limits of jobs with more completions than that.
MAX_PARALLELISM_OF_MANY = MAX_FAILED_INDEXES_OF_MANY = 10_000
MAX_POLICY_RULES = MAX_POLICY_PATTERNS = 20
MAX_EXIT_CODES = 255
MAX_MANAGED_BY = 63
MAX_INDEXES_BYTES = 64 * 1024
MAX_CRON_NAME = 52
_COUNTS = (
    *("parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished"),
    *("backoffLimitPerIndex", "maxFailedIndexes"),
)
_ACTIONS = ("Count", "FailIndex", "FailJob", "Ignore")
_is_index = re.compile("[+]?[0-9]{1,18}").fullmatch
_ZONE_PART = re.compile(r"[A-Za-z._0-9+][A-Za-z.\-_0-9+]{0,13}")


def check_job(obj: Obj, old: Obj | None = None) -> list[Cause]:
    """A job; of an `old` one without today's labels only those of old are expected."""
    spec, name = obj.get("spec") or {}, obj["metadata"].get("name", "")
    causes = check_spec(spec, "spec")
    given = spec.get("selector")
    if given is None:
        causes.append(errors.required("spec.selector"))
    faults = fields.label_selector(given, "spec.selector")
    causes += faults
    selector = selectors.NOTHING if faults else selectors.from_object(given)
    labels = _template_labels(obj)
    if not faults and not selector.matches(labels):
        causes.append(errors.invalid("spec.template.metadata.labels", labels, NO_MATCH))
    if given is not None and not spec.get("manualSelector"):
        expected = generated_labels(obj)
        if old is not None and not expected.keys() <= _template_labels(old).keys():
            expected = {key: value for key, value in expected.items() if "/" not in key}
        causes += _check_generated(labels, expected)
        if not faults and not selector.matches(expected):
            causes.append(errors.invalid("spec.selector", given, "`selector` not auto-generated"))
    if spec.get("completionMode") == "Indexed" and (spec.get("completions") or 0) > 0:
        host = f"{name}-{spec['completions'] - 1}"
        if names.dns1123_label(host):
            text = f"will not able to create pod with invalid DNS label: {host}"
            causes.append(errors.invalid("metadata.name", name, text))
    return causes


def _template_labels(job: Obj) -> Mapping[str, str]:
    return ((job["spec"].get("template") or {}).get("metadata") or {}).get("labels") or {}


def generated_labels(job: Obj) -> dict[str, str]:
    """The labels by which a job knows its pods, of old and of today."""
    uid, name = job["metadata"].get("uid", ""), job["metadata"].get("name", "")
    return {
        "controller-uid": uid,
        "job-name": name,
        "batch.kubernetes.io/controller-uid": uid,
        "batch.kubernetes.io/job-name": name,
    }


def _check_generated(labels: Mapping[str, str], expected: Mapping[str, str]) -> list[Cause]:
    """Unless a job is told its selector, its template has the labels that the server makes."""
    causes: list[Cause] = []
    for key, value in expected.items():
        path, text = f"spec.template.metadata.labels[{key}]", f"must be '{value}'"
        if key not in labels:
            causes.append(errors.required(path, text))
        elif labels[key] != value:
            causes.append(errors.invalid(path, labels, text))
    return causes


def check_job_update(new: Obj, old: Obj) -> list[Cause]:
    """What never changes of a job; its template may while it is suspended and has not started."""
    now, was = new["spec"], old["spec"]
    causes: list[Cause] = []
    for name in ("selector", "completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"):
        causes += fields.immutable(now.get(name), was.get(name), f"spec.{name}")
    completions = now.get("completions")
    if now.get("completionMode") != "Indexed":
        causes += fields.immutable(completions, was.get("completions"), "spec.completions")
    elif completions is not None and completions != was.get("completions") and completions != now.get("parallelism"):
        text = "can only be modified in tandem with spec.parallelism"
        causes.append(errors.invalid("spec.completions", completions, text))
    template, before = now.get("template") or {}, was.get("template") or {}
    if was.get("suspend") and not (old.get("status") or {}).get("startTime"):
        template, before = _without_directives(template), _without_directives(before)
    return causes + fields.immutable(template, before, "spec.template")


def _without_directives(template: Obj) -> Obj:
    """A template without what says where its pods are scheduled."""
    meta = {k: v for k, v in (template.get("metadata") or {}).items() if k not in ("labels", "annotations")}
    hidden = ("nodeSelector", "affinity", "tolerations", "schedulingGates")
    spec = {k: v for k, v in (template.get("spec") or {}).items() if k not in hidden}
    affinity = (template.get("spec") or {}).get("affinity") or {}
    pod_affinity = {k: v for k, v in affinity.items() if k != "nodeAffinity"}
    return {"metadata": meta, "spec": spec, "affinity": pod_affinity}


def check_spec(spec: Obj, path: str) -> list[Cause]:
    """The spec of a job or of a cron job's template."""
    causes: list[Cause] = []
    for name in _COUNTS:
        causes += fields.non_negative(spec.get(name), f"{path}.{name}")
    if "maxFailedIndexes" in spec and "backoffLimitPerIndex" not in spec:
        causes.append(errors.required(f"{path}.backoffLimitPerIndex", "when maxFailedIndexes is specified"))
    if "managedBy" in spec:
        causes += fields.domain_path(spec["managedBy"], f"{path}.managedBy")
        if len(spec["managedBy"].encode()) > MAX_MANAGED_BY:
            causes.append(errors.too_long(f"{path}.managedBy", MAX_MANAGED_BY))
    causes += _check_mode(spec, path)
    replacement = spec.get("podReplacementPolicy")
    allowed = ("Failed",) if "podFailurePolicy" in spec else ("Failed", "TerminatingOrFailed")
    if "podFailurePolicy" in spec:
        causes += _check_failure_policy(spec, f"{path}.podFailurePolicy")
    if replacement is not None and replacement not in allowed:
        causes.append(errors.not_supported(f"{path}.podReplacementPolicy", replacement, allowed))
    template = spec.get("template") or {}
    causes += pods.check_template(template, f"{path}.template")
    policy, at = (template.get("spec") or {}).get("restartPolicy"), f"{path}.template.spec.restartPolicy"
    if policy in (None, "Always"):
        causes.append(errors.required(at, 'valid values: "OnFailure", "Never"'))
    elif policy not in ("OnFailure", "Never"):
        causes.append(errors.not_supported(at, policy, ("OnFailure", "Never")))
    elif "podFailurePolicy" in spec and policy != "Never":
        causes.append(errors.invalid(at, policy, 'only "Never" is supported when podFailurePolicy is specified'))
    return causes


def _check_mode(spec: Obj, path: str) -> list[Cause]:
    """What is allowed of jobs whose pods have an index, and of others."""
    mode = spec.get("completionMode", "NonIndexed")
    causes: list[Cause] = []
    if mode == "Indexed":
        causes += _check_indexed(spec, path)
        if "successPolicy" in spec:
            causes += _check_success_policy(spec["successPolicy"], spec.get("completions") or 0, f"{path}.successPolicy")
        return causes
    if mode != "NonIndexed":
        causes.append(errors.not_supported(f"{path}.completionMode", mode, ("NonIndexed", "Indexed")))
    for name in ("backoffLimitPerIndex", "maxFailedIndexes") if mode == "NonIndexed" else ():
        if name in spec:
            causes.append(errors.invalid(f"{path}.{name}", spec[name], "requires indexed completion mode"))
    if "successPolicy" in spec:
        causes.append(errors.invalid(f"{path}.successPolicy", spec["successPolicy"], "requires indexed completion mode"))
    return causes


def _check_indexed(spec: Obj, path: str) -> list[Cause]:
    completions, failed = spec.get("completions"), spec.get("maxFailedIndexes")
    parallelism = spec.get("parallelism") or 0
    causes: list[Cause] = []

    def limit(field: str, value: int, most: int, when: str) -> None:
        if value > most:
            causes.append(errors.invalid(f"{path}.{field}", value, f"must be less than or equal to {most}{when}"))

    if completions is None:
        causes.append(errors.required(f"{path}.completions", "when completion mode is Indexed"))
    limit("parallelism", parallelism, MAX_INDEXED_PARALLELISM, " when completion mode is Indexed")
    if failed is not None:
        if completions is not None and failed > completions:
            causes.append(errors.invalid(f"{path}.maxFailedIndexes", failed, "must be less than or equal to completions"))
        limit("maxFailedIndexes", failed, MAX_FAILED_INDEXES, "")
    if (completions or 0) > MANY_COMPLETIONS and "backoffLimitPerIndex" in spec:
        when = f" when completions are above {MANY_COMPLETIONS} and used with backoff limit per index"
        limit("parallelism", parallelism, MAX_PARALLELISM_OF_MANY, when)
        if failed is None:
            text = f"must be specified when completions is above {MANY_COMPLETIONS}"
            causes.append(errors.required(f"{path}.maxFailedIndexes", text))
        else:
            limit("maxFailedIndexes", failed, MAX_FAILED_INDEXES_OF_MANY, when)
    return causes


def _one_of(value: str, path: str, allowed: Sequence[str]) -> list[Cause]:
    """As `fields.one_of`; where there is none, the text says which there are."""
    if value:
        return [] if value in allowed else [errors.not_supported(path, value, allowed)]
    listed = " ".join(f'"{item}"' for item in allowed)
    return [errors.required(path, f"valid values: [{listed}]")]


def _check_failure_policy(spec: Obj, path: str) -> list[Cause]:
    rules = spec["podFailurePolicy"].get("rules") or ()
    causes: list[Cause] = []
    if len(rules) > MAX_POLICY_RULES:
        causes.append(errors.too_many(f"{path}.rules", len(rules), MAX_POLICY_RULES))
    inner = (spec.get("template") or {}).get("spec") or {}
    known = {c.get("name") for name in ("initContainers", "containers") for c in inner.get(name) or ()}
    for i, rule in enumerate(rules):
        at = f"{path}.rules[{i}]"
        action, codes, conditions = rule.get("action", ""), rule.get("onExitCodes"), rule.get("onPodConditions") or ()
        causes += _one_of(action, f"{at}.action", _ACTIONS)
        if action == "FailIndex" and "backoffLimitPerIndex" not in spec:
            causes.append(errors.invalid(f"{at}.action", action, "requires the backoffLimitPerIndex to be set"))
        if codes is not None:
            causes += _check_exit_codes(codes, known, f"{at}.onExitCodes")
        if len(conditions) > MAX_POLICY_PATTERNS:
            causes.append(errors.too_many(f"{at}.onPodConditions", len(conditions), MAX_POLICY_PATTERNS))
        for j, condition in enumerate(conditions):
            there, kind = f"{at}.onPodConditions[{j}]", condition.get("type", "")
            causes += fields.invalid_if(names.qualified_name(kind), f"{there}.type", kind)
            causes += _one_of(condition.get("status", ""), f"{there}.status", ("False", "True", "Unknown"))
        if codes is not None and conditions:
            causes.append(_omitted(at, "specifying both OnExitCodes and OnPodConditions is not supported"))
        elif codes is None and not conditions:
            causes.append(_omitted(at, "specifying one of OnExitCodes and OnPodConditions is required"))
    return causes


def _omitted(path: str, text: str) -> Cause:
    return Cause(path, "FieldValueInvalid", f"Invalid value: {text}")


def _check_exit_codes(codes: Obj, known: set[Any], path: str) -> list[Cause]:
    causes = _one_of(codes.get("operator", ""), f"{path}.operator", ("In", "NotIn"))
    name, values = codes.get("containerName"), codes.get("values") or []
    if name is not None and name not in known:
        text = "must be one of the container or initContainer names in the pod template"
        causes.append(errors.invalid(f"{path}.containerName", name, text))
    if not values:
        causes.append(errors.invalid(f"{path}.values", codes.get("values"), "at least one value is required"))
    elif len(values) > MAX_EXIT_CODES:
        causes.append(errors.too_many(f"{path}.values", len(values), MAX_EXIT_CODES))
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
        if len(indexes) > MAX_INDEXES_BYTES:
            causes.append(errors.too_long(f"{path}.succeededIndexes", MAX_INDEXES_BYTES))
        try:
            total = sum(end - start + 1 for start, end in parse_indexes(indexes, completions))
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


def parse_indexes(text: str, completions: int) -> list[tuple[int, int]]:
    """The intervals that `0,2-4` names, ends included.

    Raises:
        ValueError: it can't be read, or is not in order.
    """
    found: list[tuple[int, int]] = []
    for interval in text.split(",") if text else ():
        start, end = parse_interval(interval, completions)
        if found and found[-1][1] >= start:
            raise ValueError(f"non-increasing order, previous: {found[-1][1]}, current: {start}")
        found.append((start, end))
    return found


def parse_interval(text: str, completions: int) -> tuple[int, int]:
    """The ends of `3` or `2-4`. Raises ValueError."""
    parts = text.split("-")
    if len(parts) > 2:
        fault = "violates the requirement that an index interval can have at most two parts separated by '-'"
        raise ValueError(f'the fragment "{text}" {fault}')
    for part in parts:
        if not _is_index(part):
            raise ValueError(f'cannot convert string to integer for index: "{part}"')
        if int(part) >= completions:
            raise ValueError(f'too large index: "{part}"')
    start, end = int(parts[0]), int(parts[-1])
    if len(parts) == 2 and start >= end:
        raise ValueError(f"non-increasing order, previous: {start}, current: {end}")
    return start, end


def check_cron_job(obj: Obj, old: Obj | None = None) -> list[Cause]:
    """A cron job; an `old` one keeps a name that is too long, and a time zone that is not known any more."""
    spec, name = obj.get("spec") or {}, obj["metadata"].get("name", "")
    causes: list[Cause] = []
    if old is None and len(name) > MAX_CRON_NAME:
        causes.append(errors.invalid("metadata.name", name, "must be no more than 52 characters"))
    schedule, zone = spec.get("schedule", ""), spec.get("timeZone")
    causes += _check_schedule(schedule, "spec.schedule") if schedule else [errors.required("spec.schedule")]
    causes += fields.non_negative(spec.get("startingDeadlineSeconds"), "spec.startingDeadlineSeconds")
    if zone is not None and (old is None or zone != old["spec"].get("timeZone")):
        causes += _check_zone(zone, "spec.timeZone")
    causes += fields.one_of(spec.get("concurrencyPolicy"), "spec.concurrencyPolicy", ("Allow", "Forbid", "Replace"))
    for field in ("successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
        causes += fields.non_negative(spec.get(field), f"spec.{field}")
    job = (spec.get("jobTemplate") or {}).get("spec") or {}
    causes += check_spec(job, "spec.jobTemplate.spec")
    if "selector" in job:
        causes.append(errors.invalid("spec.jobTemplate.spec.selector", job["selector"], "`selector` will be auto-generated"))
    if job.get("manualSelector"):
        text = 'Unsupported value: true: supported values: "nil", "false"'
        causes.append(Cause("spec.jobTemplate.spec.manualSelector", "FieldValueNotSupported", text))
    return causes


def _check_schedule(schedule: str, path: str) -> list[Cause]:
    if "TZ" in schedule:
        text = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
        return [errors.invalid(path, schedule, text)]
    try:
        schedules.Schedule(schedule)
    except schedules.ScheduleError as e:
        return [errors.invalid(path, schedule, str(e))]
    return []


def _check_zone(zone: str, path: str) -> list[Cause]:
    if not zone:
        return [errors.invalid(path, zone, "timeZone must be nil or non-empty string")]
    if any(part in (".", "..") or not _ZONE_PART.fullmatch(part) for part in zone.split("/")):
        return [errors.invalid(path, zone, f"unknown time zone {zone}")]
    if zone.lower() == "local":
        text = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"
        return [errors.invalid(path, zone, text)]
    try:
        zoneinfo.ZoneInfo(zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return [errors.invalid(path, zone, f"unknown time zone {zone}")]
    return []
