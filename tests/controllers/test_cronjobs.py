from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from kubelite.controllers.cronjobs import SCHEDULED, CronJobs, FinishedJobs
from kubelite.meta import times
from kubelite.meta.schedules import Schedule, ScheduleError
from kubelite.meta.types import Obj
from tests.controllers.conftest import Cluster, pod_template

RESOURCE = "cronjobs.batch"


def at(text: str) -> float:
    return times.parse_seconds(text)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Sets the wall clock: `clock("2026-...")`."""
    now = at("2026-03-01T10:00:30Z")
    monkeypatch.setattr(times, "clock", lambda: now)

    def set_to(text: str) -> None:
        nonlocal now
        now = at(text)

    yield set_to


def cron(**spec: Any) -> Obj:
    template = {"spec": {"template": pod_template("sum", restartPolicy="Never")}, "metadata": {"labels": {"l": "v"}}}
    wanted = {"schedule": "*/1 * * * *", "jobTemplate": template, **spec}
    return {"metadata": {"name": "tick", "namespace": "default"}, "spec": wanted}


async def wake(cluster: Cluster) -> None:
    """Any change of the cron job has it looked at again."""
    change = {"metadata": {"annotations": {"woken": times.now()}}}
    await cluster.client.patch(RESOURCE, "tick", "default", change)


async def end(cluster: Cluster, job: Obj, type_: str = "Complete") -> None:
    now = times.now()
    conditions = [{"type": type_, "status": "True", "lastTransitionTime": now, "reason": "Test", "message": ""}]
    status: Obj = {"conditions": conditions, "startTime": now}
    if type_ == "Complete":
        conditions.insert(0, {**conditions[0], "type": "SuccessCriteriaMet"})
        status["completionTime"] = now
        status["succeeded"] = 1
    else:
        conditions.insert(0, {**conditions[0], "type": "FailureTarget"})
    await cluster.client.patch("jobs.batch", job["metadata"]["name"], "default", {"status": status}, subresource="status")


async def test_a_job_is_started_at_its_time_once(cluster: Cluster, clock: Any) -> None:
    cluster.start(CronJobs)
    await cluster.client.create(RESOURCE, cron())
    clock("2026-03-01T10:01:00Z")
    await wake(cluster)
    (job,) = await cluster.until_count("jobs.batch", 1)
    minutes = int(at("2026-03-01T10:01:00Z")) // 60
    assert job["metadata"]["name"] == f"tick-{minutes}"
    assert job["metadata"]["labels"]["l"] == "v"
    assert job["metadata"]["annotations"][SCHEDULED] == "2026-03-01T10:01:00Z"
    found = await cluster.until_status(RESOURCE, "tick", lastScheduleTime="2026-03-01T10:01:00Z")
    (active,) = found["status"]["active"]
    assert active["name"] == job["metadata"]["name"]
    await wake(cluster)
    await end(cluster, job)
    await cluster.until_status(RESOURCE, "tick", active=None, lastSuccessfulTime="2026-03-01T10:01:00Z")
    assert len(await cluster.list("jobs.batch")) == 1


async def test_forbidden_concurrency_leaves_a_time_out(cluster: Cluster, clock: Any) -> None:
    cluster.start(CronJobs)
    await cluster.client.create(RESOURCE, cron(concurrencyPolicy="Forbid"))
    clock("2026-03-01T10:01:00Z")
    await wake(cluster)
    await cluster.until_status(RESOURCE, "tick", lastScheduleTime="2026-03-01T10:01:00Z")
    clock("2026-03-01T10:02:00Z")
    await wake(cluster)

    async def told() -> bool:
        return "JobAlreadyActive" in await cluster.reasons("tick")

    await cluster.until(told)
    assert len(await cluster.list("jobs.batch")) == 1


async def test_replacing_concurrency_deletes_the_running_job(cluster: Cluster, clock: Any) -> None:
    cluster.start(CronJobs)
    await cluster.client.create(RESOURCE, cron(concurrencyPolicy="Replace"))
    clock("2026-03-01T10:01:00Z")
    await wake(cluster)
    (first,) = await cluster.until_count("jobs.batch", 1)
    await cluster.until_status(RESOURCE, "tick", lastScheduleTime="2026-03-01T10:01:00Z")
    clock("2026-03-01T10:02:00Z")
    await wake(cluster)
    await cluster.until_gone("jobs.batch", first["metadata"]["name"])
    await cluster.until_count("jobs.batch", 1)


async def test_a_start_that_comes_too_late_is_left_out(cluster: Cluster, clock: Any) -> None:
    cluster.start(CronJobs)
    await cluster.client.create(RESOURCE, cron(schedule="0 * * * *", startingDeadlineSeconds=60))
    clock("2026-03-01T12:30:00Z")
    await wake(cluster)
    await cluster.client.patch(RESOURCE, "tick", "default", {"spec": {"startingDeadlineSeconds": 3600}})
    (job,) = await cluster.until_count("jobs.batch", 1)
    assert job["metadata"]["annotations"][SCHEDULED] == "2026-03-01T12:00:00Z"


async def test_a_suspended_cron_job_starts_nothing_and_old_jobs_are_deleted(cluster: Cluster, clock: Any) -> None:
    cluster.start(CronJobs)
    await cluster.client.create(RESOURCE, cron(successfulJobsHistoryLimit=1))
    for minute in (1, 2):
        clock(f"2026-03-01T10:0{minute}:00Z")
        await wake(cluster)
        await cluster.until_status(RESOURCE, "tick", lastScheduleTime=f"2026-03-01T10:0{minute}:00Z")
        found = await cluster.list("jobs.batch")
        (running,) = [j for j in found if not (j.get("status") or {}).get("completionTime")]
        await end(cluster, running)
    (left,) = await cluster.until_count("jobs.batch", 1)
    assert left["metadata"]["annotations"][SCHEDULED] == "2026-03-01T10:02:00Z"
    await cluster.client.patch(RESOURCE, "tick", "default", {"spec": {"suspend": True}})
    clock("2026-03-01T10:03:00Z")
    await wake(cluster)
    await cluster.until_status(RESOURCE, "tick", active=None)
    assert len(await cluster.list("jobs.batch")) == 1


async def test_a_finished_job_goes_when_its_time_to_live_is_over(cluster: Cluster, clock: Any) -> None:
    cluster.start(FinishedJobs)
    spec = {"template": pod_template("sum", restartPolicy="Never"), "ttlSecondsAfterFinished": 60}
    job = await cluster.client.create("jobs.batch", {"metadata": {"name": "done", "namespace": "default"}, "spec": spec})
    await end(cluster, job)
    clock("2026-03-01T10:01:29Z")
    await cluster.client.patch("jobs.batch", "done", "default", {"metadata": {"annotations": {"a": "b"}}})
    assert await cluster.get("jobs.batch", "done") is not None
    clock("2026-03-01T10:01:31Z")
    await cluster.client.patch("jobs.batch", "done", "default", {"metadata": {"annotations": {"a": "c"}}})

    async def going() -> bool:
        found = await cluster.get("jobs.batch", "done")
        return found is None or "deletionTimestamp" in found["metadata"]

    await cluster.until(going)


def test_schedules_are_read_as_cron_reads_them() -> None:
    start = at("2026-03-01T10:00:30Z")  # a Sunday

    def next_of(text: str, zone: str = "") -> str:
        found = Schedule(text, zone).next_after(start)
        return "" if found is None else datetime.fromtimestamp(found, UTC).strftime("%m-%d %H:%M")

    assert next_of("*/15 * * * *") == "03-01 10:15"
    assert next_of("0 9 * * mon-fri") == "03-02 09:00"
    assert next_of("30 6-16/4 * * ?") == "03-01 10:30"
    assert next_of("@daily") == "03-02 00:00"
    assert next_of("0 0 * * *", "America/New_York") == "03-02 05:00"
    assert Schedule("@every 90s").next_after(start) == start + 90
    assert Schedule("@every 90s").last_until(start + 200, start) == start + 180
    assert Schedule("0 * * * *").last_until(at("2026-03-01T12:30:00Z"), start) == at("2026-03-01T12:00:00Z")
    assert Schedule("0 * * * *").last_until(at("2026-03-01T10:59:59Z"), start) is None
    for bad in ("* * * *", "61 * * * *", "nonsense", "@every x"):
        with pytest.raises(ScheduleError):
            Schedule(bad)
    with pytest.raises(ScheduleError, match="unknown time zone"):
        Schedule("* * * * *", "Mars/Olympus")


async def test_a_new_schedule_does_not_make_up_for_what_it_would_have_started(cluster: Cluster, clock: Any) -> None:
    (controller,) = cluster.start(CronJobs)
    await cluster.client.create(RESOURCE, cron(schedule="0 0 1 1 *"))

    async def looked() -> bool:
        return controller.queue.statistics()["added"] > 0 and controller.queue.idle

    await cluster.until(looked)
    clock("2026-03-01T10:05:30Z")
    await cluster.client.patch(RESOURCE, "tick", "default", {"spec": {"schedule": "*/1 * * * *"}})

    async def waits() -> bool:
        return controller.queue.statistics()["delayed"] > 0 and controller.queue.idle

    await cluster.until(waits)
    assert not await cluster.list("jobs.batch")
    clock("2026-03-01T10:06:01Z")
    await wake(cluster)
    (made,) = await cluster.until_count("jobs.batch", 1)
    assert made["metadata"]["annotations"][SCHEDULED] == "2026-03-01T10:06:00Z"


async def test_jobs_that_are_not_kept_are_deleted_before_anybody_sees_them_end(cluster: Cluster, clock: Any) -> None:
    cluster.start(CronJobs)
    await cluster.client.create(RESOURCE, cron(successfulJobsHistoryLimit=0))
    clock("2026-03-01T10:01:01Z")
    await wake(cluster)
    (made,) = await cluster.until_count("jobs.batch", 1)
    await end(cluster, made)
    await cluster.until_count("jobs.batch", 0)
    await cluster.until_status(RESOURCE, "tick", active=None, lastSuccessfulTime="2026-03-01T10:01:01Z")
    await cluster.events.flush()
    assert "SawCompletedJob" not in await cluster.reasons("tick")
