"""Checks of events: loose where they come through the core group, strict through events.k8s.io.

Source: kubernetes pkg/apis/core/validation/events.go, v1.34.
"""

from typing import Any

from kubelite.meta import errors, names
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import fields

_ELSEWHERE = "does not match event.namespace"
MAX_TEXT, MAX_NOTE_BYTES = 128, 1024
_UNSET = (
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
)
#: What a stored event keeps: (the name in the fault, the name in events.k8s.io, its zero).
_KEPT: tuple[tuple[str, str, Any], ...] = (
    ("involvedObject", "regarding", {}),
    ("reason", "reason", ""),
    ("message", "note", ""),
    ("source", "deprecatedSource", {}),
    ("firstTimestamp", "deprecatedFirstTimestamp", None),
    ("lastTimestamp", "deprecatedLastTimestamp", None),
    ("count", "deprecatedCount", 0),
    ("type", "type", ""),
    ("eventTime", "eventTime", None),
    ("action", "action", ""),
    ("related", "related", None),
    ("reportingController", "reportingController", ""),
    ("reportingInstance", "reportingInstance", ""),
)


def check(obj: Obj, is_core: bool) -> list[Cause]:
    """An event in the shape of its group."""
    subject = obj.get("involvedObject" if is_core else "regarding") or {}
    where, own = subject.get("namespace", ""), obj["metadata"].get("namespace", "")
    path = "involvedObject.namespace"
    if not obj.get("eventTime"):
        fits = where == own if where else own in ("", "default")
        return [] if fits else [errors.invalid(path, where, _ELSEWHERE)]
    causes = []
    if not where and own not in ("default", "kube-system"):
        causes.append(errors.invalid(path, where, _ELSEWHERE))
    reporter = "reportingComponent" if is_core else "reportingController"
    name = obj.get(reporter) or ""
    if not name:
        causes.append(errors.required(reporter))
    causes += fields.invalid_if(names.qualified_name(name), reporter, name)
    for field in ("reportingInstance", "action", "reason"):
        text = obj.get(field) or ""
        if not text:
            causes.append(errors.required(field))
        elif len(text.encode()) > MAX_TEXT:
            causes.append(errors.invalid(field, "", f"can have at most {MAX_TEXT} characters"))
    note = obj.get("message" if is_core else "note") or ""
    if len(note) > MAX_NOTE_BYTES // 4 and len(note.encode()) > MAX_NOTE_BYTES:
        causes.append(errors.invalid("message", "", f"can have at most {MAX_NOTE_BYTES} characters"))
    return causes


def check_strictly(obj: Obj) -> list[Cause]:
    """What a new event of events.k8s.io has to be beyond that."""
    causes = _check_series(obj)
    if not obj.get("eventTime"):
        causes.append(errors.required("eventTime"))
    kind = obj.get("type", "")
    if kind not in ("Normal", "Warning"):
        causes.append(errors.invalid("type", "", f"has invalid value: {kind}"))
    causes += [errors.invalid(name, "", "needs to be unset") for name, field in _UNSET if obj.get(field)]
    if any((obj.get("deprecatedSource") or {}).values()):
        causes.append(errors.invalid("source", "", "needs to be unset"))
    return causes


def check_update_strictly(new: Obj, old: Obj) -> list[Cause]:
    """An event of events.k8s.io changes in its series only."""
    causes = _check_series(new) if new.get("series") != old.get("series") else []
    for name, field, zero in _KEPT:
        causes += fields.immutable(new.get(field, zero), old.get(field, zero), name)
    return causes


def _check_series(obj: Obj) -> list[Cause]:
    series = obj.get("series")
    causes: list[Cause] = []
    if series is not None:
        if series.get("count", 0) < 2:
            causes.append(errors.invalid("series.count", "", "should be at least 2"))
        if not series.get("lastObservedTime"):
            causes.append(errors.required("series.lastObservedTime"))
    return causes
