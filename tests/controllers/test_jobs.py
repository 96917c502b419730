from typing import Any

from kubelite.controllers import jobcounting, jobplan
from kubelite.controllers.garbage import GarbageCollector
from kubelite.controllers.jobcounting import UNCOUNTED_LIMIT, Sync
from kubelite.controllers.jobs import Jobs
from kubelite.meta.types import Obj
from tests.controllers.conftest import Cluster, pod_template

RESOURCE = "jobs.batch"


def job(name: str = "sum", **spec: Any) -> Obj:
    template = pod_template("sum", restartPolicy=spec.pop("restartPolicy", "Never"))
    return {"metadata": {"name": name, "namespace": "default"}, "spec": {"template": template, **spec}}


def has(found: Obj | None, type_: str, reason: str = "") -> bool:
    for condition in ((found or {}).get("status") or {}).get("conditions") or ():
        if condition["type"] == type_ and condition["status"] == "True":
            return not reason or condition["reason"] == reason
    return False


async def until_condition(cluster: Cluster, type_: str, reason: str = "", name: str = "sum") -> Obj:
    async def there() -> Obj | None:
        found = await cluster.get(RESOURCE, name)
        return found if has(found, type_, reason) else None

    found: Obj = await cluster.until(there, f"{type_} {reason}")
    return found


async def finish(cluster: Cluster, pod: Obj, exit_code: int = 0, **status: Any) -> None:
    terminated = {"exitCode": exit_code, "finishedAt": "2026-01-01T00:00:00Z", "reason": "Done"}
    container = {"name": "c", "image": "web:1", "imageID": "", "ready": False, "restartCount": 0}
    container["state"] = {"terminated": terminated}
    phase = "Succeeded" if exit_code == 0 else "Failed"
    await cluster.set_pod(pod, phase, ready=False, containerStatuses=[container], **status)


async def test_a_job_is_complete_when_enough_pods_have_succeeded_each_counted_once(cluster: Cluster) -> None:
    cluster.start(Jobs)
    await cluster.client.create(RESOURCE, job(completions=3, parallelism=2))
    first = await cluster.until_count("pods", 2)
    assert all(jobplan.FINALIZER in p["metadata"]["finalizers"] for p in first)
    await cluster.until_status(RESOURCE, "sum", active=2, ready=0, terminating=0)
    for pod in first:
        await finish(cluster, pod)
    last = await cluster.until_count("pods", 3)
    (running,) = [p for p in last if p["metadata"]["name"] not in {f["metadata"]["name"] for f in first}]
    await cluster.until_status(RESOURCE, "sum", succeeded=2, active=1)
    await finish(cluster, running)
    done = await until_condition(cluster, "Complete", "CompletionsReached")
    assert has(done, "SuccessCriteriaMet")
    assert done["status"]["succeeded"] == 3 and "active" not in done["status"]
    assert done["status"]["completionTime"] and done["status"]["startTime"]
    assert done["status"]["uncountedTerminatedPods"] == {}

    async def freed() -> bool:
        return not any(p["metadata"].get("finalizers") for p in await cluster.list("pods"))

    await cluster.until(freed)
    assert len(await cluster.list("pods")) == 3

    async def told() -> bool:
        return "Completed" in await cluster.reasons("sum")

    await cluster.until(told)


async def test_a_job_fails_when_too_many_pods_fail(cluster: Cluster) -> None:
    cluster.start(Jobs)
    await cluster.client.create(RESOURCE, job(backoffLimit=0, completions=2, parallelism=2))
    bad, other = await cluster.until_count("pods", 2)
    await cluster.bind(other)
    await finish(cluster, bad, 1)
    failed = await until_condition(cluster, "FailureTarget", "BackoffLimitExceeded")
    assert failed["status"].get("failed", 0) >= 1 or failed["status"]["uncountedTerminatedPods"]
    assert not has(failed, "Failed")  # a pod still ends
    await cluster.client.delete("pods", other["metadata"]["name"], "default", grace_period_s=0)
    done = await until_condition(cluster, "Failed", "BackoffLimitExceeded")
    assert done["status"]["failed"] == 2
    assert any(c["message"] == "Job has reached the specified backoff limit" for c in done["status"]["conditions"])


async def test_a_failed_pod_is_replaced_only_after_its_back_off(cluster: Cluster) -> None:
    cluster.start(Jobs)
    await cluster.client.create(RESOURCE, job(backoffLimit=3))
    (pod,) = await cluster.until_count("pods", 1)
    await finish(cluster, pod, 1)  # it ended long ago, so its back-off is over
    await cluster.until_status(RESOURCE, "sum", failed=1, active=1)
    assert len(await cluster.list("pods")) == 2
    assert jobplan.backoff_left(1, 100.0, 105.0) == 5.0
    assert jobplan.backoff_left(3, 100.0, 105.0) == 35.0
    assert jobplan.backoff_left(30, 100.0, 105.0) == 595.0
    assert jobplan.backoff_left(0, 100.0, 105.0) == 0.0


async def test_an_indexed_job_gives_each_pod_its_index(cluster: Cluster) -> None:
    cluster.start(Jobs)
    await cluster.client.create(RESOURCE, job(completionMode="Indexed", completions=3, parallelism=3))
    found = await cluster.until_count("pods", 3)
    assert sorted(jobplan.index_of(p) or 0 for p in found) == [0, 1, 2]
    for pod in found:
        index = pod["metadata"]["annotations"][jobplan.INDEX]
        assert pod["spec"]["hostname"] == f"sum-{index}"
        assert pod["metadata"]["name"].startswith(f"sum-{index}-")
        (variable,) = pod["spec"]["containers"][0]["env"]
        assert variable["valueFrom"]["fieldRef"]["fieldPath"] == f"metadata.labels['{jobplan.INDEX}']"
    for pod in found:
        if jobplan.index_of(pod) != 1:
            await finish(cluster, pod)
    await cluster.until_status(RESOURCE, "sum", completedIndexes="0,2", succeeded=2)
    (last,) = [p for p in found if jobplan.index_of(p) == 1]
    await finish(cluster, last)
    done = await until_condition(cluster, "Complete")
    assert done["status"]["completedIndexes"] == "0-2"


async def test_a_failure_policy_can_end_the_job_or_overlook_a_failure(cluster: Cluster) -> None:
    cluster.start(Jobs)
    rules = [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}},
    ]
    await cluster.client.create(RESOURCE, job(backoffLimit=0, podFailurePolicy={"rules": rules}))
    (pod,) = await cluster.until_count("pods", 1)
    await finish(cluster, pod, 1, conditions=[{"type": "DisruptionTarget", "status": "True"}])

    async def replaced() -> list[Obj]:
        return [p for p in await cluster.list("pods") if p["metadata"]["uid"] != pod["metadata"]["uid"]]

    (second,) = await cluster.until(replaced)
    assert not (await until_running(cluster))["status"].get("failed")
    await finish(cluster, second, 42)
    done = await until_condition(cluster, "Failed", "PodFailurePolicy")
    (condition,) = [c for c in done["status"]["conditions"] if c["type"] == "Failed"]
    name = second["metadata"]["name"]
    text = f"Container c for pod default/{name} failed with exit code 42 matching FailJob rule at index 1"
    assert condition["message"] == text


async def until_running(cluster: Cluster) -> Obj:
    return await cluster.until_status(RESOURCE, "sum", active=1)


async def test_each_index_may_have_a_limit_of_its_own(cluster: Cluster) -> None:
    cluster.start(Jobs)
    await cluster.client.create(
        RESOURCE, job(completionMode="Indexed", completions=2, parallelism=2, backoffLimitPerIndex=1, maxFailedIndexes=2)
    )
    found = await cluster.until_count("pods", 2)
    (zero,) = [p for p in found if jobplan.index_of(p) == 0]
    (one,) = [p for p in found if jobplan.index_of(p) == 1]
    await finish(cluster, one)
    await finish(cluster, zero, 1)

    async def again() -> list[Obj]:
        pods = await cluster.list("pods")
        return [p for p in pods if p["metadata"]["annotations"].get(jobplan.FAILURES) == "1"]

    (retry,) = await cluster.until(again, "the index to be tried again")
    await finish(cluster, retry, 1)
    done = await until_condition(cluster, "Failed", "FailedIndexes")
    assert done["status"]["failedIndexes"] == "0" and done["status"]["completedIndexes"] == "1"
    assert done["status"]["failed"] == 2


async def test_a_success_policy_ends_the_job_early(cluster: Cluster) -> None:
    cluster.start(Jobs)
    policy = {"rules": [{"succeededIndexes": "0"}]}
    await cluster.client.create(RESOURCE, job(completionMode="Indexed", completions=2, parallelism=2, successPolicy=policy))
    found = await cluster.until_count("pods", 2)
    (zero,) = [p for p in found if jobplan.index_of(p) == 0]
    (one,) = [p for p in found if jobplan.index_of(p) == 1]
    await cluster.bind(one)
    await finish(cluster, zero)
    met = await until_condition(cluster, "SuccessCriteriaMet", "SuccessPolicy")
    assert not has(met, "Complete")
    await cluster.client.delete("pods", one["metadata"]["name"], "default", grace_period_s=0)
    done = await until_condition(cluster, "Complete", "SuccessPolicy")
    assert done["status"]["completedIndexes"] == "0"


async def test_a_suspended_job_runs_nothing_until_it_is_resumed(cluster: Cluster) -> None:
    cluster.start(Jobs)
    await cluster.client.create(RESOURCE, job(suspend=True))
    suspended = await until_condition(cluster, "Suspended", "JobSuspended")
    assert "startTime" not in suspended["status"]
    assert await cluster.list("pods") == []
    await cluster.client.patch(RESOURCE, "sum", "default", {"spec": {"suspend": False}})
    await cluster.until_count("pods", 1)
    resumed = await cluster.until_status(RESOURCE, "sum", active=1)
    assert resumed["status"]["startTime"] and not has(resumed, "Suspended")


async def test_a_deadline_ends_the_job(cluster: Cluster) -> None:
    cluster.start(Jobs)
    await cluster.client.create(RESOURCE, job(activeDeadlineSeconds=1))
    await cluster.until_count("pods", 1)
    await until_condition(cluster, "FailureTarget", "DeadlineExceeded")


async def test_pods_of_a_deleted_job_are_not_held_by_their_finalizer(cluster: Cluster) -> None:
    cluster.start(Jobs, GarbageCollector)
    await cluster.client.create(RESOURCE, job())
    (pod,) = await cluster.until_count("pods", 1)
    await cluster.client.delete(RESOURCE, "sum", "default", propagation_policy="Background")
    await cluster.until_gone("pods", pod["metadata"]["name"])


def test_indexes_are_written_as_ranges_of_three_and_more() -> None:
    assert jobplan.format_indexes({0, 1, 2, 5, 7, 8}) == "0-2,5,7,8"
    assert jobplan.parse_indexes("0-2,5,7,8", 8) == {0, 1, 2, 5, 7}
    assert jobplan.parse_indexes("", 8) == set()
    assert jobplan.format_indexes(()) == ""


def _ended(name: str, index: int, failures: int = 0, at: str = "2026-01-01T00:00:10Z", phase: str = "Failed") -> Obj:
    annotations = {jobplan.INDEX: str(index), jobplan.FAILURES: str(failures)}
    meta = {"name": name, "uid": name, "annotations": annotations, "finalizers": [jobplan.FINALIZER], "creationTimestamp": at}
    terminated = {"exitCode": phase == "Failed", "finishedAt": at}
    return {
        "metadata": meta,
        "spec": {},
        "status": {"phase": phase, "containerStatuses": [{"state": {"terminated": terminated}}]},
    }


def test_of_an_index_the_pod_with_the_most_failures_stands_for_it() -> None:
    per_index = job(completionMode="Indexed", completions=3, backoffLimitPerIndex=5)
    pods = [_ended("a", 1), _ended("b", 1, 1, "2026-01-01T00:00:20Z"), _ended("c", 2), _ended("d", 2, 1, "2025-01-01T00:00:00Z")]
    found = jobplan.last_failures(per_index, pods, 1800000000.0)
    assert {index: pod["metadata"]["name"] for index, pod in found.items()} == {1: "b", 2: "c"}


async def test_a_status_has_room_for_so_many_notes_and_the_job_does_not_end_before_all_are_counted() -> None:
    many = [_ended(f"p{number}", number, phase="Succeeded") for number in range(UNCOUNTED_LIMIT + 1)]
    sync = Sync("default/sum", job(completions=len(many)), many, [], 0.0, {})
    sync.ending = jobplan.condition_of("SuccessCriteriaMet", "CompletionsReached", "", 0.0)
    good: list[str] = []
    released, complete = jobcounting.noted(sync, {p["metadata"]["uid"]: p for p in many}, good, [])
    assert len(released) == len(good) == UNCOUNTED_LIMIT
    assert not complete


async def test_the_finalizer_of_somebody_elses_pod_stays(cluster: Cluster) -> None:
    cluster.start(Jobs)
    owner = await cluster.client.create("configmaps", {"metadata": {"name": "owner", "namespace": "default"}})
    meta = {"name": "theirs", "namespace": "default", "finalizers": [jobplan.FINALIZER]}
    reference = {
        "apiVersion": "example.com/v1",
        "kind": "Batch",
        "name": "b",
        "uid": owner["metadata"]["uid"],
        "controller": True,
    }
    theirs = {"metadata": {**meta, "ownerReferences": [reference]}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    await cluster.client.create("pods", theirs)
    nobodys = {"metadata": {**meta, "name": "nobodys"}, "spec": theirs["spec"]}
    await cluster.client.create("pods", nobodys)

    async def freed() -> bool:
        return not (await cluster.client.get("pods", "nobodys", "default"))["metadata"].get("finalizers")

    await cluster.until(freed)
    assert (await cluster.client.get("pods", "theirs", "default"))["metadata"]["finalizers"] == [jobplan.FINALIZER]
