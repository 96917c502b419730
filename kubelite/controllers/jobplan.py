"""What a Job's pods mean for it: indexes, failure and success policies, back-off, and when it is over. Pure.

Source: kubernetes pkg/controller/job, v1.34.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kubelite.controllers import conditions, pods
from kubelite.meta import names, times
from kubelite.meta.types import Obj

OURS = "kubernetes.io/job-controller"
FINALIZER = "batch.kubernetes.io/job-tracking"
INDEX = "batch.kubernetes.io/job-completion-index"
FAILURES = "batch.kubernetes.io/job-index-failure-count"
IGNORED_FAILURES = "batch.kubernetes.io/job-index-ignored-failure-count"
UNLIMITED = 2**31 - 1
FIRST_BACKOFF_S = 10.0
LAST_BACKOFF_S = 600.0


def is_ours(job: Obj) -> bool:
    """The job is not left to somebody else's controller."""
    return bool(job["spec"].get("managedBy", OURS) == OURS)


def is_indexed(job: Obj) -> bool:
    return bool(job["spec"].get("completionMode") == "Indexed")


def is_suspended(job: Obj) -> bool:
    return bool(job["spec"].get("suspend", False))


def finished_condition(job: Obj) -> Obj | None:
    """The Complete or Failed condition of a job that is over."""
    for condition in (job.get("status") or {}).get("conditions") or ():
        if condition["type"] in ("Complete", "Failed") and condition["status"] == "True":
            found: Obj = condition
            return found
    return None


def has_finalizer(pod: Obj) -> bool:
    return FINALIZER in (pod["metadata"].get("finalizers") or ())


def index_of(pod: Obj) -> int | None:
    """The completion index of an Indexed job's pod; None where it has no valid one."""
    text = (pod["metadata"].get("annotations") or {}).get(INDEX, "")
    return int(text) if text.isdecimal() else None


def replaces_only_failed(job: Obj) -> bool:
    """A pod that is going away is replaced only when it has failed."""
    return bool(job["spec"].get("podReplacementPolicy") == "Failed" or job["spec"].get("podFailurePolicy") is not None)


def is_failed(job: Obj, pod: Obj) -> bool:
    """The pod counts as a failure, which one that is going away may do before it ended."""
    if pods.phase(pod) == "Failed":
        return True
    if replaces_only_failed(job):
        return False
    return pods.is_terminating(pod) and pods.phase(pod) != "Succeeded"


def parse_indexes(text: str, limit: int) -> set[int]:
    """The indexes below the limit that `1,3-5` names; what is malformed names none."""
    found: set[int] = set()
    for part in text.split(",") if text else ():
        first, _, last = part.partition("-")
        if first.isdecimal() and (not last or last.isdecimal()):
            found.update(range(int(first), min(int(last or first), limit - 1) + 1))
    return {index for index in found if index < limit}


def format_indexes(indexes: Iterable[int]) -> str:
    """`1,3-5`: runs of three and more, and pairs as well, are written with a dash or a comma as Kubernetes does."""
    parts: list[str] = []
    ordered = sorted(indexes)
    position = 0
    while position < len(ordered):
        end = position
        while end + 1 < len(ordered) and ordered[end + 1] == ordered[end] + 1:
            end += 1
        first, last = ordered[position], ordered[end]
        parts.append(str(first) if first == last else f"{first},{last}" if last == first + 1 else f"{first}-{last}")
        position = end + 1
    return ",".join(parts)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the pod failure policy says of a failed pod. `message` is set where the whole job fails."""

    counts: bool = True
    message: str = ""
    fails_index: bool = False
    ignored: bool = False


def judge(job: Obj, pod: Obj) -> Verdict:
    """Applies the pod failure policy, whose first matching rule counts."""
    policy = job["spec"].get("podFailurePolicy") or {}
    meta, status = pod["metadata"], pod.get("status") or {}
    for number, rule in enumerate(policy.get("rules") or ()):
        what = ""
        if rule.get("onExitCodes"):
            container = _failed_container(status, rule["onExitCodes"])
            if container is not None:
                code = container["state"]["terminated"]["exitCode"]
                what = f"Container {container['name']} for pod {meta['namespace']}/{meta['name']} failed with exit code {code}"
        elif rule.get("onPodConditions"):
            wanted = {(pattern["type"], pattern.get("status", "True")) for pattern in rule["onPodConditions"]}
            found = next((c for c in status.get("conditions") or () if (c["type"], c["status"]) in wanted), None)
            if found is not None:
                what = f"Pod {meta['namespace']}/{meta['name']} has condition {found['type']}"
        if not what:
            continue
        action = rule["action"]
        if action == "Ignore":
            return Verdict(counts=False, ignored=True)
        if action == "FailJob":
            return Verdict(message=f"{what} matching {action} rule at index {number}")
        return Verdict(fails_index=action == "FailIndex")
    return Verdict()


def _failed_container(status: Obj, requirement: Obj) -> Obj | None:
    listed = [*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())]
    for container in listed:
        terminated = (container.get("state") or {}).get("terminated")
        if not terminated or terminated["exitCode"] == 0:
            continue
        if requirement.get("containerName") not in (None, container["name"]):
            continue
        if (terminated["exitCode"] in requirement["values"]) == (requirement["operator"] == "In"):
            found: Obj = container
            return found
    return None


def failures_of(pod: Obj) -> tuple[int, int]:
    """(failures, ignored failures) of the pod's index before it."""
    annotations = pod["metadata"].get("annotations") or {}
    counts = [annotations.get(key, "") for key in (FAILURES, IGNORED_FAILURES)]
    failures, ignored = (int(text) if text.isdecimal() else 0 for text in counts)
    return failures, ignored


def failed_indexes(job: Obj, owned: Sequence[Obj]) -> set[int]:
    """The indexes that have failed for good: too often, or by a FailIndex rule."""
    limit = job["spec"].get("backoffLimitPerIndex")
    if limit is None or not is_indexed(job):
        return set()
    found = parse_indexes((job.get("status") or {}).get("failedIndexes", ""), job["spec"]["completions"])
    for pod in owned:
        index = index_of(pod)
        if index is None or index >= job["spec"]["completions"] or not is_failed(job, pod) or not has_finalizer(pod):
            continue
        verdict = judge(job, pod)
        if verdict.fails_index or (verdict.counts and failures_of(pod)[0] >= limit):
            found.add(index)
    return found


def last_failures(job: Obj, listed: Sequence[Obj], now: float) -> dict[int, Obj]:
    """Of each index that has failed, the pod that failed last, with the most failures behind it."""
    found: dict[int, Obj] = {}
    for pod in listed:
        index = index_of(pod)
        if index is not None and is_failed(job, pod):
            best = found.setdefault(index, pod)
            if sum(failures_of(pod)) >= sum(failures_of(best)) and finished_at(pod, now) >= finished_at(best, now):
                found[index] = pod
    return found


def condition_of(type_: str, reason: str, message: str, now: float, status: str = "True") -> Obj:
    """A Job's condition, which also says when it was last looked at."""
    stamp = times.format_time(now)
    return conditions.make(type_, status, stamp, reason, message, lastProbeTime=stamp)


def success_message(job: Obj, succeeded: set[int]) -> str:
    """Why the success policy says that the job has succeeded; empty where it doesn't."""
    rules = (job["spec"].get("successPolicy") or {}).get("rules") or ()
    for number, rule in enumerate(rules if succeeded else ()):
        count = rule.get("succeededCount")
        if rule.get("succeededIndexes") is not None:
            wanted = parse_indexes(rule["succeededIndexes"], job["spec"]["completions"])
            have = len(wanted & succeeded)
            fits = bool(wanted) and (have == len(wanted) or (count is not None and have >= count))
        else:
            fits = count is not None and len(succeeded) >= count
        if fits:
            return f"Matched rules at index {number}"
    return ""


def restarts_exceed(job: Obj, owned: Sequence[Obj]) -> bool:
    """With restartPolicy OnFailure, containers' restarts count against the limit too."""
    if job["spec"]["template"]["spec"].get("restartPolicy") != "OnFailure":
        return False
    total = 0
    for pod in owned:
        if pods.phase(pod) in ("Running", "Pending"):
            status = pod["status"]
            listed = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
            total += sum(c.get("restartCount", 0) for c in listed)
    limit: int = job["spec"].get("backoffLimit", 6)
    return total > 0 if limit == 0 else total >= limit


def backoff_left(failures: int, last_failure: float, now: float) -> float:
    """Seconds until a pod may be created after so many failures in a row."""
    if failures == 0:
        return 0.0
    delay = min(FIRST_BACKOFF_S * 2.0 ** min(failures - 1, 30), LAST_BACKOFF_S)
    return max(last_failure + delay - now, 0.0)


def finished_at(pod: Obj, now: float) -> float:
    """When a failed or succeeded pod ended, as well as its status tells: its last container, sidecars too; when it was not
    ready any more; when its deletion began; when it was made.
    """
    meta, status = pod["metadata"], pod.get("status") or {}
    sidecars = {c["name"] for c in pod["spec"].get("initContainers") or () if c.get("restartPolicy") == "Always"}
    listed = [*(status.get("containerStatuses") or ())]
    listed += [c for c in status.get("initContainerStatuses") or () if c["name"] in sidecars]
    ends = [str(((c.get("state") or {}).get("terminated") or {}).get("finishedAt") or "") for c in listed]
    ready = conditions.find(status.get("conditions"), "Ready")
    if ends and all(ends):
        end = max(map(times.parse_seconds, ends))
    elif ready is not None and ready["status"] == "False" and ready.get("lastTransitionTime"):
        end = times.parse_seconds(ready["lastTransitionTime"])
    elif "deletionTimestamp" in meta:
        end = times.parse_seconds(meta["deletionTimestamp"]) - meta.get("deletionGracePeriodSeconds", 0)
    else:
        end = times.parse_seconds(meta["creationTimestamp"])
    return float(min(end, now))


def pods_to_remove(job: Obj, active: Sequence[Obj], surplus: int) -> list[Obj]:
    """Active pods too many: those of an index twice or out of range, then the least worth ones."""
    ordered = pods.removal_order(active)
    removed: list[Obj] = []
    if is_indexed(job):
        seen: set[int] = set()
        for pod in reversed(ordered):
            index = index_of(pod)
            if index is None or index >= job["spec"]["completions"] or index in seen:
                removed.append(pod)
            else:
                seen.add(index)
        ordered = [pod for pod in ordered if pod not in removed]
    return removed + ordered[: max(surplus - len(removed), 0)]


def pod_of(job: Obj, template: Obj, index: int | None, reference: Obj, previous: Obj | None) -> Obj:
    """A new pod of the job, for an index where the job has indexes. `previous` is the failed pod that it replaces."""
    name, namespace = job["metadata"]["name"], job["metadata"]["namespace"]
    prefix = pods.name_prefix(name) if index is None else _indexed_prefix(name, index)
    pod = pods.from_template(template, reference, namespace=namespace, prefix=prefix)  # type: ignore[arg-type]
    meta, spec = pod["metadata"], pod["spec"]
    meta["finalizers"] = [f for f in meta.get("finalizers") or () if f != FINALIZER] + [FINALIZER]
    if index is None:
        return pod
    meta["annotations"][INDEX] = meta["labels"][INDEX] = str(index)
    spec["hostname"] = f"{name}-{index}"
    variable = {"name": "JOB_COMPLETION_INDEX", "valueFrom": {"fieldRef": {"fieldPath": f"metadata.labels['{INDEX}']"}}}
    for container in [*(spec.get("initContainers") or ()), *spec["containers"]]:
        listed = container.get("env") or []
        if not any(entry["name"] == variable["name"] for entry in listed):
            container["env"] = [*listed, variable]
    if job["spec"].get("backoffLimitPerIndex") is not None:
        failures = ignored = 0
        if previous is not None:
            failures, ignored = failures_of(previous)
            verdict = judge(job, previous)
            failures, ignored = (failures, ignored + 1) if verdict.ignored else (failures + 1, ignored)
        meta["annotations"][FAILURES] = str(failures)
        if ignored:
            meta["annotations"][IGNORED_FAILURES] = str(ignored)
    return pod


def _indexed_prefix(name: str, index: int) -> str:
    """The index stays readable: of a long name what is cut off is before it."""
    suffix = f"-{index}-"
    return name[: names.GENERATED_BASE_MAX - len(suffix)] + suffix
