"""CronJobs: a Job at each time of a schedule.

Source: kubernetes pkg/controller/cronjob, v1.34.
"""

import contextlib
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime, tzinfo
from typing import ClassVar
from zoneinfo import ZoneInfo

from kubelite.controllers import jobplan, owners
from kubelite.controllers.environment import Environment
from kubelite.controllers.reconciler import Controller, is_namespace_terminating, key_of, split_key
from kubelite.controllers.written import Written
from kubelite.meta import times
from kubelite.meta.copies import deep_copy
from kubelite.meta.errors import AlreadyExists, ApiError, NotFound
from kubelite.meta.schedules import Schedule, ScheduleError, UnknownTimeZone
from kubelite.meta.types import Obj

RESOURCE = "cronjobs.batch"
JOBS = "jobs.batch"
SCHEDULED = "batch.kubernetes.io/cronjob-scheduled-timestamp"
#: Clocks differ: the next look is a little after the scheduled time.
PADDING_S = 0.1
MANY_MISSED = 100


class CronJobs(Controller):
    """Starts jobs in time, keeps track of them, and deletes old ones."""

    name: ClassVar[str] = "cronjob-controller"
    workers: ClassVar[int] = 5

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        self._written = Written()
        self._crons = self.informer(RESOURCE)
        self._jobs = self.informer(JOBS)
        owners.index_by_controller(self._jobs)
        self._crons.subscribe(self._changed)
        self.follow(self._jobs, self._owner_of)

    def _changed(self, old: Obj | None, new: Obj | None) -> None:
        """Another schedule counts from now on: it does not make up for what it would have started before."""
        cron = new or old
        assert cron is not None
        delay_s = 0.0
        if old is not None and new is not None and _timing(old) != _timing(new):
            with contextlib.suppress(ScheduleError):
                now = self.env.now()
                later = Schedule(*_timing(new)).next_after(now)
                delay_s = 0.0 if later is None else later + PADDING_S - now
        self.queue.add_after(key_of(cron), delay_s)

    def _owner_of(self, job: Obj) -> Iterable[str]:
        reference = owners.controller_of(job)
        if reference is not None and reference["kind"] == "CronJob":
            yield f"{job['metadata']['namespace']}/{reference['name']}"

    async def reconcile(self, key: str) -> None:
        namespace, name = split_key(key)
        cron = self._crons.get(name, namespace)
        if cron is None:
            self._written.forget(key)
            return
        cron = self._written.newest(cron)
        owned = owners.owned(self._jobs, cron)
        status = await self._look(cron, owned, await self._clean_up(cron, owned))
        status = await self._start_due(key, cron, status)
        status = {k: v for k, v in status.items() if v}
        if status != (cron.get("status") or {}):
            changed = {**cron, "metadata": {**cron["metadata"]}, "status": status}
            self._written.note(await self.client.update(RESOURCE, changed, subresource="status"))

    async def _look(self, cron: Obj, owned: Sequence[Obj], deleted: Collection[str]) -> Obj:
        """The status with the jobs taken out that have ended, are `deleted` (their uids) or gone."""
        status = dict(cron.get("status") or {})
        active = [reference for reference in status.get("active") or () if reference["uid"] not in deleted]
        uids = {reference["uid"] for reference in active}
        for job in owned:
            meta = job["metadata"]
            end = jobplan.finished_condition(job)
            if end is None:
                if meta["uid"] not in uids:
                    text = f"Saw a job that the controller did not create or forgot: {meta['name']}"
                    self.events.event(cron, "Warning", "UnexpectedJob", text)
                continue
            if meta["uid"] in uids:
                active = [reference for reference in active if reference["uid"] != meta["uid"]]
                text = f"Saw completed job: {meta['name']}, condition: {end['type']}"
                self.events.event(cron, "Normal", "SawCompletedJob", text)
            completed = (job.get("status") or {}).get("completionTime", "")
            if end["type"] == "Complete" and completed > status.get("lastSuccessfulTime", ""):
                status["lastSuccessfulTime"] = completed
        present = {job["metadata"]["uid"] for job in owned}
        for reference in [r for r in active if r["uid"] not in present]:
            try:
                await self.client.get(JOBS, reference["name"], cron["metadata"]["namespace"])
            except NotFound:
                active = [r for r in active if r["uid"] != reference["uid"]]
                self.events.event(cron, "Normal", "MissingJob", f"Active job went missing: {reference['name']}")
        status["active"] = active
        return status

    async def _start_due(self, key: str, cron: Obj, status: Obj) -> Obj:
        spec, meta = cron["spec"], cron["metadata"]
        if "deletionTimestamp" in meta:
            return status
        try:
            schedule = Schedule(*_timing(cron))
        except UnknownTimeZone as e:
            self.events.event(cron, "Warning", "UnknownTimeZone", f'invalid timeZone: "{spec["timeZone"]}": {e}')
            return status
        except ScheduleError as e:
            if not spec.get("suspend"):
                text = f'unparseable schedule: "{spec["schedule"]}" : {e}'
                self.events.event(cron, "Warning", "UnparseableSchedule", text)
            return status
        if spec.get("suspend"):
            return status
        now = self.env.now()
        due = self._due(cron, status, schedule, now)
        later = schedule.next_after(now)
        if later is not None:
            self.queue.add_after(key, later + PADDING_S - now)
        if due is None:
            return status
        deadline_s = spec.get("startingDeadlineSeconds")
        if deadline_s is not None and due + deadline_s < now:
            stamp = datetime.fromtimestamp(due, UTC).strftime("%a, %d %b %Y %H:%M:%S +0000")
            self.events.event(cron, "Warning", "MissSchedule", f"Missed scheduled time to start a job: {stamp}")
            return status
        job_name = f"{meta['name']}-{int(due) // 60}"
        if any(r["name"] == job_name for r in status["active"]) or status.get("lastScheduleTime") == times.format_time(due):
            return status
        policy = spec.get("concurrencyPolicy", "Allow")
        if policy == "Forbid" and status["active"]:
            text = "Not starting job because prior execution is running and concurrency policy is Forbid"
            self.events.event(cron, "Normal", "JobAlreadyActive", text)
            return status
        if policy == "Replace":
            for reference in status["active"]:
                await self._delete_job(cron, reference["name"], reference["uid"])
            status = {**status, "active": []}
        return await self._start(cron, status, job_name, due)

    def _due(self, cron: Obj, status: Obj, schedule: Schedule, now: float) -> float | None:
        """The newest scheduled time that no job was started for."""
        earliest = times.parse_seconds(status.get("lastScheduleTime") or cron["metadata"]["creationTimestamp"])
        deadline_s = cron["spec"].get("startingDeadlineSeconds")
        if deadline_s is not None:
            earliest = max(earliest, now - deadline_s)
        first = schedule.next_after(earliest)
        if first is None or first > now:
            return None
        second = schedule.next_after(first)
        if second is not None and (now - first) // max(second - first, 1) + 1 > MANY_MISSED:
            text = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew"
            self.events.event(cron, "Warning", "TooManyMissedTimes", text)
        return schedule.last_until(now, earliest)

    async def _start(self, cron: Obj, status: Obj, name: str, due: float) -> Obj:
        namespace = cron["metadata"]["namespace"]
        try:
            job = await self.client.create(JOBS, job_of(cron, name, due))
            self.events.event(cron, "Normal", "SuccessfulCreate", f"Created job {name}")
        except AlreadyExists:
            job = await self.client.get(JOBS, name, namespace)
            if not owners.is_controlled_by(job, cron):
                return status
        except ApiError as e:
            if not is_namespace_terminating(e):
                self.events.event(cron, "Warning", "FailedCreate", f"Error creating job: {e.message}")
                raise
            return status
        meta = job["metadata"]
        reference = {"kind": "Job", "namespace": namespace, "name": name, "uid": meta["uid"], "apiVersion": "batch/v1"}
        reference["resourceVersion"] = meta["resourceVersion"]
        active = [r for r in status["active"] if r["uid"] != meta["uid"]]
        return {**status, "active": [*active, reference], "lastScheduleTime": times.format_time(due)}

    async def _clean_up(self, cron: Obj, owned: Sequence[Obj]) -> set[str]:
        """Deletes the oldest ended jobs beyond those kept; returns their uids."""
        spec, deleted = cron["spec"], set()
        for type_, kept in (
            ("Complete", spec.get("successfulJobsHistoryLimit")),
            ("Failed", spec.get("failedJobsHistoryLimit")),
        ):
            if kept is None:
                continue
            ended = [j for j in owned if (end := jobplan.finished_condition(j)) and end["type"] == type_]
            ended = [j for j in ended if "deletionTimestamp" not in j["metadata"]]
            ended.sort(key=lambda j: ((j.get("status") or {}).get("startTime") or "~", j["metadata"]["name"]))
            for job in ended[: max(len(ended) - kept, 0)]:
                await self._delete_job(cron, job["metadata"]["name"], job["metadata"]["uid"])
                deleted.add(job["metadata"]["uid"])
        return deleted

    async def _delete_job(self, cron: Obj, name: str, uid: str) -> None:
        namespace = cron["metadata"]["namespace"]
        try:
            await self.client.delete(JOBS, name, namespace, propagation_policy="Background", precondition_uid=uid)
        except NotFound:
            return
        except ApiError as e:
            self.events.event(cron, "Warning", "FailedDelete", f"Deleted job: {e.message}")
            raise
        self.events.event(cron, "Normal", "SuccessfulDelete", f"Deleted job {name}")


def _timing(cron: Obj) -> tuple[str, str]:
    """(schedule, time zone)."""
    return cron["spec"]["schedule"], cron["spec"].get("timeZone") or ""


def job_of(cron: Obj, name: str, due: float) -> Obj:
    """The job for one scheduled time. Its name follows from the time, so that it can't be started twice."""
    template = deep_copy(cron["spec"]["jobTemplate"])
    meta = template.get("metadata") or {}
    zone: tzinfo = ZoneInfo(cron["spec"]["timeZone"]) if cron["spec"].get("timeZone") else UTC
    stamp = datetime.fromtimestamp(due, zone).isoformat(timespec="seconds").replace("+00:00", "Z")
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": cron["metadata"]["namespace"],
            "labels": meta.get("labels") or {},
            "annotations": {**(meta.get("annotations") or {}), SCHEDULED: stamp},
            "ownerReferences": [owners.reference_to(cron, "batch/v1", "CronJob")],
        },
        "spec": template["spec"],
    }


class FinishedJobs(Controller):
    """Deletes finished jobs when their time to live is over.

    Source: kubernetes pkg/controller/ttlafterfinished, v1.34.
    """

    name: ClassVar[str] = "ttl-after-finished-controller"

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        self._jobs = self.informer(JOBS)
        self.follow(self._jobs, lambda job: (key_of(job),) if _expires(job) is not None else ())

    async def reconcile(self, key: str) -> None:
        namespace, name = split_key(key)
        job = self._jobs.get(name, namespace)
        expires = None if job is None else _expires(job)
        if job is None or expires is None or "deletionTimestamp" in job["metadata"]:
            return
        left_s = expires - self.env.now()
        if left_s > 0:
            self.queue.add_after(key, left_s)
            return
        fresh = await self.client.get(JOBS, name, namespace)
        expires = _expires(fresh)
        if expires is None or expires > self.env.now():
            return
        uid = fresh["metadata"]["uid"]
        await self.client.delete(JOBS, name, namespace, propagation_policy="Foreground", precondition_uid=uid)


def _expires(job: Obj) -> float | None:
    """When a finished job may go; None where it may stay."""
    ttl_s, end = job["spec"].get("ttlSecondsAfterFinished"), jobplan.finished_condition(job)
    if ttl_s is None or end is None:
        return None
    return times.parse_seconds(end["lastTransitionTime"]) + float(ttl_s)
