"""How a Deployment goes from one template to the next: numbers, revisions and conditions. Pure.

Source: kubernetes pkg/controller/deployment/util/deployment_util.go and sync.go, progress.go, v1.34.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kubelite.controllers import conditions
from kubelite.meta import times
from kubelite.meta.types import Obj

HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED_REPLICAS = "deployment.kubernetes.io/desired-replicas"
MAX_REPLICAS = "deployment.kubernetes.io/max-replicas"
ROLLBACK_TO = "deprecated.deployment.rollback.to"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
#: Annotations that a Deployment and its sets don't share.
OWN_ANNOTATIONS = frozenset({LAST_APPLIED, REVISION, REVISION_HISTORY, DESIRED_REPLICAS, MAX_REPLICAS, ROLLBACK_TO})
HISTORY_CHARS = 2000
UNLIMITED = 2**31 - 1

_NUMBER = re.compile(r"[+-]?[0-9]+").fullmatch
#: What makes a Progressing condition another one than the last.
_CHANGES = ("status", "reason")


def scaled(value: Any, total: int, *, up: bool) -> int:
    """A number as it is, or a percentage of the total, rounded up or down."""
    if isinstance(value, str):
        share = int(value.removesuffix("%")) * total / 100 if value.endswith("%") else float(value)
        return math.ceil(share) if up else math.floor(share)
    return int(value or 0)


def fenceposts(surge: Any, unavailable: Any, desired: int) -> tuple[int, int]:
    """(surge, unavailable) as numbers; never both zero, or nothing would ever move."""
    surge_n, unavailable_n = scaled(surge, desired, up=True), scaled(unavailable, desired, up=False)
    return (surge_n, 1) if surge_n == 0 and unavailable_n == 0 else (surge_n, unavailable_n)


def is_rolling(deployment: Obj) -> bool:
    return bool((deployment["spec"].get("strategy") or {}).get("type", "RollingUpdate") == "RollingUpdate")


def _limits(deployment: Obj) -> tuple[int, int]:
    rolling = (deployment["spec"].get("strategy") or {}).get("rollingUpdate") or {}
    return fenceposts(rolling.get("maxSurge"), rolling.get("maxUnavailable"), desired(deployment))


def max_surge(deployment: Obj) -> int:
    """How many pods there may be above the desired number."""
    return _limits(deployment)[0] if is_rolling(deployment) else 0


def max_unavailable(deployment: Obj) -> int:
    """How many of the desired pods may be missing during a rollout."""
    if not is_rolling(deployment) or desired(deployment) == 0:
        return 0
    return min(_limits(deployment)[1], desired(deployment))


def desired(obj: Obj) -> int:
    """The replicas that a Deployment or ReplicaSet asks for."""
    count: int = obj["spec"].get("replicas", 1)
    return count


def wanted_of(sets: Iterable[Obj]) -> int:
    return sum(map(desired, sets))


def count_of(sets: Iterable[Obj], field: str = "replicas") -> int:
    """The sum of a number in the status of the sets."""
    return sum((s.get("status") or {}).get(field, 0) for s in sets)


def same_template(one: Obj, other: Obj) -> bool:
    """The two pod templates are the same but for the hash label that a set's has."""
    return one.get("spec") == other.get("spec") and _template_meta(one) == _template_meta(other)


def _template_meta(template: Obj) -> Obj:
    meta = {key: value for key, value in (template.get("metadata") or {}).items() if value}
    labels = {key: value for key, value in meta.pop("labels", {}).items() if key != HASH_LABEL}
    return {**meta, "labels": labels}


def oldest_first(sets: Iterable[Obj]) -> list[Obj]:
    return sorted(sets, key=lambda s: (s["metadata"].get("creationTimestamp", ""), s["metadata"]["name"]))


def newest_set(deployment: Obj, sets: Sequence[Obj]) -> Obj | None:
    """The set of the Deployment's current template; the oldest, should there be several."""
    template = deployment["spec"]["template"]
    return next((s for s in oldest_first(sets) if same_template(s["spec"]["template"], template)), None)


def annotations_of(obj: Obj) -> Mapping[str, str]:
    found: Mapping[str, str] = obj["metadata"].get("annotations") or {}
    return found


def rollback_of(deployment: Obj) -> int | None:
    """The revision that somebody asks the Deployment to go back to, 0 for the last; what is no number asks for nothing."""
    text = annotations_of(deployment).get(ROLLBACK_TO, "")
    return int(text) if _NUMBER(text) else None


def revision(obj: Obj) -> int:
    """The object's revision; 0 where it has none or one that is no number."""
    text = annotations_of(obj).get(REVISION, "")
    return int(text) if text.isdecimal() else 0


def by_revision(sets: Iterable[Obj]) -> list[Obj]:
    return sorted(sets, key=lambda s: (revision(s), s["metadata"].get("creationTimestamp", ""), s["metadata"]["name"]))


def last_revision(sets: Iterable[Obj]) -> int:
    """The revision before the current one; 0 where there is none."""
    revisions = sorted(map(revision, sets))
    return revisions[-2] if len(revisions) > 1 else 0


def set_annotations(deployment: Obj, existing: Mapping[str, str], new_revision: int) -> dict[str, str]:
    """The annotations of the newest set: the Deployment's, the revision, and the revisions that it had before."""
    result = {**existing, **{k: v for k, v in annotations_of(deployment).items() if k not in OWN_ANNOTATIONS}}
    old = existing.get(REVISION, "")
    if old and not old.isdecimal():
        return result
    if int(old or 0) < new_revision:
        result[REVISION] = str(new_revision)
        if old:
            history = [r for r in existing.get(REVISION_HISTORY, "").split(",") if r]
            while history and len(",".join([*history, old])) > HISTORY_CHARS:
                history.pop(0)
            result[REVISION_HISTORY] = ",".join([*history, old])
    return result


def replica_annotations(deployment: Obj) -> dict[str, str]:
    """What each set remembers of the Deployment's size, to tell a change of scale from a rollout."""
    size = desired(deployment)
    return {DESIRED_REPLICAS: str(size), MAX_REPLICAS: str(size + max_surge(deployment))}


def is_scaled(deployment: Obj, sets: Iterable[Obj]) -> bool:
    """Some set that has pods was last sized for another number of replicas."""
    for each in sets:
        remembered = annotations_of(each).get(DESIRED_REPLICAS, "")
        if desired(each) > 0 and remembered.isdecimal() and int(remembered) != desired(deployment):
            return True
    return False


def is_saturated(deployment: Obj, newest: Obj | None) -> bool:
    """The newest set has all that the Deployment wants, available, and was sized for that."""
    if newest is None:
        return False
    size = desired(deployment)
    remembered = annotations_of(newest).get(DESIRED_REPLICAS, "")
    return remembered == str(size) and desired(newest) == size and count_of([newest], "availableReplicas") == size


def new_set_size(deployment: Obj, sets: Sequence[Obj], newest_size: int) -> int:
    """How large the newest set may be now."""
    if not is_rolling(deployment):
        return desired(deployment)
    room = desired(deployment) + max_surge(deployment) - wanted_of(sets)
    if room <= 0:
        return newest_size
    return newest_size + min(room, desired(deployment) - newest_size)


def proportional_sizes(deployment: Obj, sets: Sequence[Obj]) -> dict[str, int]:
    """The sizes of the sets with pods, by name, after a change of scale in the middle of a rollout."""
    active = [s for s in sets if desired(s) > 0]
    allowed = desired(deployment) + max_surge(deployment) if desired(deployment) > 0 else 0
    to_add = allowed - wanted_of(active)
    # The largest first; of one size the newest first when growing, the oldest first when shrinking.
    ordered = oldest_first(active)
    if to_add > 0:
        ordered.reverse()
    ordered.sort(key=lambda s: -desired(s))
    sizes: dict[str, int] = {}
    added = 0
    for each in ordered:
        share = _share(deployment, each, to_add, added)
        sizes[each["metadata"]["name"]] = desired(each) + share
        added += share
    if ordered and to_add:
        name = ordered[0]["metadata"]["name"]
        sizes[name] = max(sizes[name] + to_add - added, 0)
    return sizes


def _share(deployment: Obj, each: Obj, to_add: int, added: int) -> int:
    if desired(each) == 0 or to_add in (0, added):
        return 0
    left = to_add - added
    fraction = _fraction(deployment, each)
    return min(fraction, left) if to_add > 0 else max(fraction, left)


def _fraction(deployment: Obj, each: Obj) -> int:
    if desired(deployment) == 0:
        return -desired(each)
    remembered = annotations_of(each).get(MAX_REPLICAS, "")
    before = int(remembered) if remembered.isdecimal() else 0
    before = before or (deployment.get("status") or {}).get("replicas", 0)
    if before == 0:
        return 0
    size = desired(each) * (desired(deployment) + max_surge(deployment)) / before
    return math.floor(size + 0.5) - desired(each)


def steps_down(deployment: Obj, olds: Sequence[Obj], newest: Obj) -> list[tuple[str, int]]:
    """(name, new size) of old sets in a rolling update, in order: first what is not available goes, then what the newest
    replaced. A set may have a step of each.
    """
    least = desired(deployment) - max_unavailable(deployment)
    newest_missing = desired(newest) - count_of([newest], "availableReplicas")
    may_go = wanted_of(olds) + desired(newest) - least - newest_missing
    if wanted_of(olds) == 0 or may_go <= 0:
        return []
    sizes = {s["metadata"]["name"]: desired(s) for s in olds}
    ordered = oldest_first(s for s in olds if desired(s) > 0)
    steps = []
    for each in ordered:
        gone = min(may_go, max(desired(each) - count_of([each], "availableReplicas"), 0))
        if gone:
            sizes[each["metadata"]["name"]] -= gone
            steps.append((each["metadata"]["name"], desired(each) - gone))
        may_go -= gone
    spare = count_of([*olds, newest], "availableReplicas") - least
    for each in ordered:
        name = each["metadata"]["name"]
        gone = min(sizes[name], max(spare, 0))
        if gone:
            sizes[name] -= gone
            steps.append((name, sizes[name]))
        spare -= gone
    return steps


def has_deadline(deployment: Obj) -> bool:
    return bool(deployment["spec"].get("progressDeadlineSeconds", UNLIMITED) != UNLIMITED)


def condition(type_: str, status: str, reason: str, message: str, now: str) -> Obj:
    """A Deployment's condition, which also says when it was last renewed."""
    return conditions.make(type_, status, now, reason, message, lastUpdateTime=now)


def put_condition(listed: Sequence[Obj], new: Obj) -> list[Obj]:
    """The conditions with one set: unchanged where status and reason are, moved to the end where not."""
    old = conditions.find(listed, new["type"])
    if old is not None and all(old.get(key, "") == new.get(key, "") for key in _CHANGES):
        return list(listed)
    if old is not None and old["status"] == new["status"]:
        new = {**new, "lastTransitionTime": old.get("lastTransitionTime", new["lastTransitionTime"])}
    return [*conditions.without(listed, new["type"]), new]


def status_of(deployment: Obj, sets: Sequence[Obj], newest: Obj | None, now: str) -> Obj:
    """The counts and the Available condition."""
    old = deployment.get("status") or {}
    available = count_of(sets, "availableReplicas")
    counts = {
        "observedGeneration": deployment["metadata"].get("generation", 0),
        "replicas": count_of(sets),
        "updatedReplicas": count_of([newest]) if newest is not None else 0,
        "readyReplicas": count_of(sets, "readyReplicas"),
        "availableReplicas": available,
        "unavailableReplicas": max(wanted_of(sets) - available, 0),
    }
    status: Obj = {key: value for key, value in counts.items() if value}
    if "collisionCount" in old:
        status["collisionCount"] = old["collisionCount"]
    if available >= desired(deployment) - max_unavailable(deployment):
        new = condition("Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability.", now)
    else:
        text = "Deployment does not have minimum availability."
        new = condition("Available", "False", "MinimumReplicasUnavailable", text, now)
    status["conditions"] = put_condition(old.get("conditions") or [], new)
    return status


def is_complete(deployment: Obj, status: Obj) -> bool:
    """All desired pods are of the current template and available, and no others are left."""
    size = desired(deployment)
    fields = ("updatedReplicas", "replicas", "availableReplicas")
    if status.get("observedGeneration", 0) < deployment["metadata"].get("generation", 0):
        return False
    return all(status.get(field, 0) == size for field in fields)


def is_progressing(deployment: Obj, status: Obj) -> bool:
    """The new status is further than the one that the Deployment has."""
    old = deployment.get("status") or {}
    old_left = old.get("replicas", 0) - old.get("updatedReplicas", 0)
    new_left = status.get("replicas", 0) - status.get("updatedReplicas", 0)
    fields = ("updatedReplicas", "readyReplicas", "availableReplicas")
    return new_left < old_left or any(status.get(f, 0) > old.get(f, 0) for f in fields)


def is_timed_out(deployment: Obj, status: Obj, now_s: float) -> bool:
    """No progress was seen for longer than the deadline."""
    current = conditions.find(status.get("conditions"), "Progressing")
    if current is None or current.get("reason") == "NewReplicaSetAvailable":
        return False
    if current.get("reason") == "ProgressDeadlineExceeded":
        return True
    since = times.parse_seconds(current.get("lastUpdateTime") or current["lastTransitionTime"])
    return bool(since + deployment["spec"]["progressDeadlineSeconds"] < now_s)


def rollout_status(deployment: Obj, sets: Sequence[Obj], newest: Obj | None, now_s: float) -> Obj:
    """The whole status during a rollout: counts, Available, Progressing, ReplicaFailure."""
    now = times.format_time(now_s)
    status = status_of(deployment, sets, newest, now)
    listed = status["conditions"]
    current = conditions.find((deployment.get("status") or {}).get("conditions"), "Progressing")
    who = f'ReplicaSet "{newest["metadata"]["name"]}"' if newest else f'Deployment "{deployment["metadata"]["name"]}"'
    done = (
        current is not None
        and current.get("reason") == "NewReplicaSetAvailable"
        and status.get("replicas", 0) == status.get("updatedReplicas", 0)
    )
    if not has_deadline(deployment):
        listed = conditions.without(listed, "Progressing")
    elif not done:
        if is_complete(deployment, status):
            text = f"{who} has successfully progressed."
            listed = put_condition(listed, condition("Progressing", "True", "NewReplicaSetAvailable", text, now))
        elif is_progressing(deployment, status):
            new = condition("Progressing", "True", "ReplicaSetUpdated", f"{who} is progressing.", now)
            if current is not None and current["status"] == "True":
                new["lastTransitionTime"] = current.get("lastTransitionTime", now)
            # Renewed although status and reason are the same: lastUpdateTime is what the deadline counts from.
            listed = put_condition(conditions.without(listed, "Progressing"), new)
        elif is_timed_out(deployment, status, now_s):
            text = f"{who} has timed out progressing."
            listed = put_condition(listed, condition("Progressing", "False", "ProgressDeadlineExceeded", text, now))
    failure = _failure([newest] if newest else []) or _failure(sets)
    if failure is None:
        listed = conditions.without(listed, "ReplicaFailure")
    else:
        listed = put_condition(listed, {**failure, "lastUpdateTime": failure.get("lastTransitionTime", now)})
    status["conditions"] = listed
    return status


def _failure(sets: Iterable[Obj]) -> Obj | None:
    for each in sets:
        found = conditions.find((each.get("status") or {}).get("conditions"), "ReplicaFailure")
        if found is not None:
            return found
    return None
