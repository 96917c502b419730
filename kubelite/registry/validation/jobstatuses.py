"""Checks of the statuses that controllers, other servers' among them (`spec.managedBy`), write of jobs.

A rule is only held to where what it is about changes, so that a status that already breaks it can still be written.

Source: kubernetes pkg/apis/batch/validation (ValidateJobUpdateStatus) and pkg/registry/batch/job/strategy.go, v1.34.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from kubelite.meta import errors
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import fields, jobs

_TERMINAL = ("Failed", "Complete", "FailureTarget")


@dataclass(slots=True)
class _Status:
    """A job's status, and which of its conditions are true."""

    status: Obj
    true: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, job: Obj) -> "_Status":
        status = job.get("status") or {}
        conditions = status.get("conditions") or ()
        return cls(status, {c.get("type", "") for c in conditions if c.get("status") == "True"})

    @property
    def is_finished(self) -> bool:
        return bool(self.true & {"Complete", "Failed"})

    def count(self, name: str) -> int:
        return int(self.status.get(name) or 0)


def check_update(new: Obj, old: Obj) -> list[Cause]:
    now, was = _Status.of(new), _Status.of(old)
    causes: list[Cause] = []
    for name in ("active", "succeeded", "failed", "ready", "terminating"):
        causes += fields.non_negative(now.status.get(name), f"status.{name}")
    causes += _check_uncounted(now.status.get("uncountedTerminatedPods") or {})
    causes += [
        Cause("status.conditions", "FieldValueInvalid", f"Invalid value: {text}")
        for text in _condition_faults(now, was, new["spec"])
    ]
    causes += _check_times(now, was, new)
    causes += _check_finished(now, was, new["spec"])
    causes += _check_counters(now, was, new["spec"])
    return causes + _check_indexes(now, was, new["spec"])


def _check_uncounted(uncounted: Obj) -> list[Cause]:
    """The pods that have ended and are not counted yet, each in one list and once."""
    causes: list[Cause] = []
    seen: set[str] = set()
    for name in ("succeeded", "failed"):
        for i, uid in enumerate(uncounted.get(name) or ()):
            path = f"status.uncountedTerminatedPods.{name}[{i}]"
            if not uid:
                causes.append(errors.invalid(path, uid, "must not be empty"))
            elif uid in seen:
                causes.append(errors.duplicate(path, uid))
            seen.add(uid)
    return causes


def _condition_faults(now: _Status, was: _Status, spec: Obj) -> Iterator[str]:
    def changed(*kinds: str) -> bool:
        return any((kind in now.true) != (kind in was.true) for kind in kinds)

    def both(one: str, other: str) -> bool:
        return one in now.true and other in now.true

    if changed("Complete", "Failed") and both("Complete", "Failed"):
        yield "cannot set Complete=True and Failed=true conditions"
    if changed("Complete", "FailureTarget") and both("Complete", "FailureTarget"):
        yield "cannot set Complete=True and FailureTarget=true conditions"
    failing = changed("Failed") or now.status.get("failedIndexes") != was.status.get("failedIndexes")
    if failing and "Failed" in now.true and "FailureTarget" not in now.true:
        yield "cannot set Failed=True condition without the FailureTarget=true condition"
    if changed("Complete", "SuccessCriteriaMet") and "Complete" in now.true and "SuccessCriteriaMet" not in now.true:
        yield "cannot set Complete=True condition without the SuccessCriteriaMet=true condition"
    for other in ("Failed", "FailureTarget"):
        if both("SuccessCriteriaMet", other):
            yield f"cannot set SuccessCriteriaMet=True and {other}=true conditions"
    if "successPolicy" in spec and "Complete" in now.true and "SuccessCriteriaMet" not in now.true:
        yield "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True"
    for kind in _TERMINAL:
        if kind in was.true and kind not in now.true:
            yield f"cannot disable the terminal {kind}=True condition"
    met, was_met = "SuccessCriteriaMet" in now.true, "SuccessCriteriaMet" in was.true
    if was_met and not met:
        yield "cannot disable the SuccessCriteriaMet=True condition"
    if "Complete" in was.true and not was_met and met:
        yield "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions"


def _check_times(now: _Status, was: _Status, job: Obj) -> list[Cause]:
    start, end = now.status.get("startTime"), now.status.get("completionTime")
    started, ended = was.status.get("startTime"), was.status.get("completionTime")
    causes: list[Cause] = []
    path = "status.completionTime"
    if ("Complete" in now.true) != ("Complete" in was.true) or end != ended:
        if end is not None and "Complete" not in now.true:
            text = "cannot set completionTime when there is no Complete=True condition"
            causes.append(errors.invalid(path, end, text))
        if end is None and "Complete" in now.true:
            causes.append(errors.required(path, "completionTime is required for Complete jobs"))
    if (start, end) != (started, ended) and start is not None and end is not None and end < start:
        causes.append(errors.invalid(path, end, "must be equal to or after `startTime`"))
    if end is not None and ended is not None and end != ended:
        causes.append(errors.invalid(path, end, fields.IMMUTABLE))
    resuming = "Suspended" in was.true and any(
        c.get("type") == "Suspended" and c.get("status") == "False" for c in now.status.get("conditions") or ()
    )
    if started is not None and start != started and not resuming and not job["spec"].get("suspend"):
        causes.append(errors.required("status.startTime", "startTime cannot be removed for unsuspended job"))
    return causes


def _check_finished(now: _Status, was: _Status, spec: Obj) -> list[Cause]:
    """What a job that is finished has, and has no more."""
    if not now.is_finished:
        return []
    finishing = not was.is_finished
    causes: list[Cause] = []
    needs_start = finishing or "startTime" in was.status
    if needs_start and "startTime" not in now.status and not (spec.get("suspend") and spec.get("completions") == 0):
        causes.append(errors.required("status.startTime", "startTime is required for finished job"))
    causes += [
        errors.invalid(f"status.{name}", now.count(name), f"{name}>0 is invalid for finished job")
        for name in ("active", "terminating")
        if now.count(name) > 0 and (finishing or now.status.get(name) != was.status.get(name))
    ]
    uncounted = now.status.get("uncountedTerminatedPods") or {}
    if any(uncounted.values()) and (finishing or uncounted != (was.status.get("uncountedTerminatedPods") or {})):
        causes.append(errors.invalid("status.uncountedTerminatedPods", uncounted, "must be empty for finished job"))
    return causes


def _check_counters(now: _Status, was: _Status, spec: Obj) -> list[Cause]:
    causes: list[Cause] = []
    if now.count("failed") < was.count("failed"):
        causes.append(errors.invalid("status.failed", now.count("failed"), "cannot decrease the failed counter"))
    elastic = spec.get("completionMode") == "Indexed" and spec.get("completions") == spec.get("parallelism")
    if not elastic and now.count("succeeded") < was.count("succeeded"):
        causes.append(errors.invalid("status.succeeded", now.count("succeeded"), "cannot decrease the succeeded counter"))
    changed = any(now.status.get(name) != was.status.get(name) for name in ("ready", "active"))
    if changed and "ready" in now.status and now.count("ready") > now.count("active"):
        causes.append(errors.invalid("status.ready", now.count("ready"), "cannot set more ready pods than active"))
    return causes


def _check_indexes(now: _Status, was: _Status, spec: Obj) -> list[Cause]:
    """Which indexes are done, by success and by failure."""
    completed, failed = now.status.get("completedIndexes", ""), now.status.get("failedIndexes")
    completed_changed = completed != was.status.get("completedIndexes", "")
    failed_changed = failed != was.status.get("failedIndexes")
    completions, limited = spec.get("completions"), "backoffLimitPerIndex" in spec
    causes: list[Cause] = []
    if completed_changed:
        causes += _check_format(completed, completions, "completedIndexes")
        if completed and spec.get("completionMode") != "Indexed":
            text = "cannot set non-empty completedIndexes when non-indexed completion mode"
            causes.append(errors.invalid("status.completedIndexes", completed, text))
    if failed is None:
        return causes
    if failed_changed:
        causes += _check_format(failed, completions if limited else None, "failedIndexes")
        if not limited:
            text = "cannot set non-null failedIndexes when backoffLimitPerIndex is null"
            causes.append(errors.invalid("status.failedIndexes", failed, text))
    if (completed_changed or failed_changed) and completions is not None:
        shared = _overlap(_intervals(completed, completions), _intervals(failed, completions))
        if shared is not None:
            text = f"failedIndexes and completedIndexes overlap at index: {shared}"
            causes.append(errors.invalid("status.failedIndexes", failed, text))
    return causes


def _check_format(text: str, completions: Any, name: str) -> list[Cause]:
    try:
        if completions is not None:
            jobs.parse_indexes(text, completions)
    except ValueError as e:
        return [errors.invalid(f"status.{name}", text, f"error parsing {name}: {e}")]
    return []


def _intervals(text: str, completions: int) -> list[tuple[int, int]]:
    """The intervals that can be read."""
    found = []
    for part in text.split(",") if text else ():
        try:
            found.append(jobs.parse_interval(part, completions))
        except ValueError:
            continue  # its format is told of already
    return found


def _overlap(completed: list[tuple[int, int]], failed: list[tuple[int, int]]) -> int | None:
    """The first index that is in both."""
    shared = [max(a, c) for a, b in completed for c, d in failed if a <= d and c <= b]
    return min(shared) if shared else None
