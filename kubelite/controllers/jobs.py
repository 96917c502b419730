"""Jobs: pods that run to their end, until enough have succeeded or too many failed. They are counted in `jobcounting`, what
they mean for the job is in `jobplan`.

Source: kubernetes pkg/controller/job, v1.34.
"""

import asyncio
import itertools
from collections.abc import Collection, Iterable, Sequence
from typing import Any, ClassVar

from kubelite.client.expectations import Expectations
from kubelite.controllers import conditions, jobplan, owners, pods
from kubelite.controllers.environment import Environment
from kubelite.controllers.jobcounting import RESOURCE, Counting, Sync
from kubelite.controllers.podcontrol import PodControl, slow_start
from kubelite.controllers.reconciler import Controller, key_of, split_key
from kubelite.meta import selectors, times
from kubelite.meta.errors import ApiError
from kubelite.meta.types import Obj

PER_SYNC = 500
ORPHAN = "orphan:"
LIMIT_REACHED = "Job has reached the specified backoff limit"
TOO_LONG = "Job was active longer than specified deadline"
TOO_MANY_INDEXES = "Job has exceeded the specified maximal number of failed indexes"
SUCCEEDED = "Reached expected number of succeeded pods"


class Jobs(Controller):
    """Runs pods until enough have succeeded or too many failed."""

    name: ClassVar[str] = "job-controller"
    workers: ClassVar[int] = 5
    base_backoff_s: ClassVar[float] = 1.0
    max_backoff_s: ClassVar[float] = 60.0

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        self._expectations = Expectations()
        self._control = PodControl(self.client, self.events)
        self._claims = owners.Claims(self.client, "pods", RESOURCE, "batch/v1", "Job")
        #: key -> (failures in a row, when the last was).
        self._backoff: dict[str, tuple[int, float]] = {}
        self._jobs = self.informer(RESOURCE)
        self._pods = self.informer("pods")
        self._counting = Counting(self.client, self.events, self._pods, self.queue.add)
        owners.index_by_controller(self._pods)
        self.follow(self._jobs)
        self._pods.subscribe(self._pod_changed)

    def _pod_changed(self, old: Obj | None, new: Obj | None) -> None:
        pod = new or old
        assert pod is not None
        self._counting.saw(pod, present=new is not None)
        for key in self._keys_of(pod):
            if owners.controller_of(pod) is not None:
                if old is None:
                    self._expectations.creation_observed(key)
                if new is None or pods.is_terminating(new):
                    self._expectations.deletion_observed(key, pod["metadata"]["uid"])
            self.add_paced(key)
        if old is not None and new is not None:
            for key in self._keys_of(old):
                self.queue.add(key)
        if new is not None and jobplan.has_finalizer(new) and self._is_orphan(new):
            self.queue.add(ORPHAN + key_of(new))

    def _keys_of(self, pod: Obj) -> Iterable[str]:
        namespace = pod["metadata"]["namespace"]
        reference = owners.controller_of(pod)
        if reference is not None:
            if reference["kind"] == "Job":
                yield f"{namespace}/{reference['name']}"
            return
        labels = pod["metadata"].get("labels") or {}
        for job in self._jobs.list(namespace) if labels else ():
            if selectors.from_object(job["spec"].get("selector")).matches(labels):
                yield key_of(job)

    def _is_orphan(self, pod: Obj) -> bool:
        """No job counts the pod any more, so that its finalizer may go. Somebody else's pods are theirs."""
        reference = owners.controller_of(pod)
        if reference is None:
            return True
        if (reference["apiVersion"], reference["kind"]) != ("batch/v1", "Job"):
            return False
        job = self._jobs.get(reference["name"], pod["metadata"]["namespace"])
        if job is None or job["metadata"]["uid"] != reference["uid"]:
            return True
        return jobplan.is_ours(job) and jobplan.finished_condition(job) is not None

    async def reconcile(self, key: str) -> None:
        if key.startswith(ORPHAN):
            await self._free_orphan(key.removeprefix(ORPHAN))
            return
        namespace, name = split_key(key)
        job = self._jobs.get(name, namespace)
        if job is None or jobplan.finished_condition(job) is not None:
            self._expectations.forget(key)
            self._backoff.pop(key, None)
            self._counting.forget(key)
            self.set_size(key, 0)
            owned = owners.owned(self._pods, job) if job is not None else []
            for pod in [*owned, *(p for p in self._pods.list(namespace) if job is None and self._names(p, name))]:
                if jobplan.has_finalizer(pod) and self._is_orphan(pod):
                    self.queue.add(ORPHAN + key_of(pod))
            return
        if not jobplan.is_ours(job):
            return
        job = self._counting.newest(job)
        if jobplan.finished_condition(job) is not None:
            return
        settled = self._expectations.is_satisfied(key)
        selector = selectors.from_object(job["spec"].get("selector"))
        candidates = owners.owned(self._pods, job) + owners.orphans(self._pods, namespace)
        owned = await self._claims.claim(job, selector, candidates, finalizers=[jobplan.FINALIZER])
        self.set_size(key, len(owned))
        sync = self._look(key, job, owned)
        self._judge(sync)
        failure: ApiError | None = None
        if sync.ending is not None:
            ended, failure = await self._end_pods(sync)
            if not (ended and settled):
                # Pods may be left that the cache does not show: first they must be accounted for.
                sync.ending = None
        else:
            managed = settled and "deletionTimestamp" not in job["metadata"]
            if managed:
                failure = await self._manage(sync)
            self._conclude(sync, managed=managed)
        sync.status["active"] = len(sync.active)
        sync.status["ready"] = sync.ready
        sync.status["terminating"] = sync.terminating
        try:
            await self._counting.track(sync)
        finally:
            # Not before its pods are noted: had that failed, the same failures would be counted twice.
            if sync.noted:
                self._backoff[key] = sync.backoff
        if failure is not None:
            raise failure

    def _names(self, pod: Obj, name: str) -> bool:
        reference = owners.controller_of(pod)
        return reference is not None and reference["kind"] == "Job" and reference["name"] == name

    def _look(self, key: str, job: Obj, owned: list[Obj]) -> Sync:
        """Counts the pods, with those that finished and are not in the status yet."""
        now = self.env.now()
        old = job.get("status") or {}
        uncounted = old.get("uncountedTerminatedPods") or {}
        status = {**old, "uncountedTerminatedPods": uncounted}
        active = [pod for pod in owned if pods.is_active(pod)]
        sync = Sync(key, job, owned, active, now, status)
        sync.terminating = sum(pods.is_terminating(p) and not pods.is_finished(p) for p in owned)
        sync.ready = sum(map(pods.is_ready, active))
        noted_good, noted_bad = uncounted.get("succeeded") or (), uncounted.get("failed") or ()
        fresh = [p for p in owned if self._is_uncounted(sync, p, {*noted_good, *noted_bad})]
        good = [p for p in fresh if pods.phase(p) == "Succeeded"]
        bad = [p for p in fresh if jobplan.is_failed(job, p)]
        sync.succeeded = old.get("succeeded", 0) + len(good) + len(noted_good)
        sync.failed = old.get("failed", 0) + len(noted_bad) + sum(jobplan.judge(job, p).counts for p in bad)
        if jobplan.is_indexed(job):
            limit = job["spec"]["completions"]
            sync.succeeded_indexes = jobplan.parse_indexes(old.get("completedIndexes", ""), limit)
            sync.succeeded_indexes |= {index for p in good if (index := jobplan.index_of(p)) is not None}
            sync.failed_indexes = jobplan.failed_indexes(job, owned)
            sync.succeeded = len(sync.succeeded_indexes)
            if "backoffLimitPerIndex" in job["spec"]:
                settled = sync.succeeded_indexes | sync.failed_indexes | {jobplan.index_of(p) for p in active}
                tracked = [p for p in owned if self._is_uncounted(sync, p, ()) and jobplan.index_of(p) not in settled]
                sync.unreplaced = jobplan.last_failures(job, tracked, now)
        sync.backoff = self._new_backoff(key, good, bad, now)
        if "startTime" not in status and not jobplan.is_suspended(job):
            status["startTime"] = times.format_time(now)
        return sync

    def _is_uncounted(self, sync: Sync, pod: Obj, noted: Collection[str]) -> bool:
        uid = pod["metadata"]["uid"]
        if not self._counting.is_tracked(pod) or uid in noted:
            return False
        if not jobplan.is_indexed(sync.job):
            return True
        index = jobplan.index_of(pod)
        return index is not None and index < sync.spec["completions"]

    def _new_backoff(self, key: str, good: Sequence[Obj], bad: Sequence[Obj], now: float) -> tuple[int, float]:
        """Failures in a row with these newly ended pods: those after the last success, and when the last of them was."""
        failures, last = self._backoff.get(key, (0, 0.0))
        last_good = max((jobplan.finished_at(p, now) for p in good), default=0.0)
        if good:
            failures, last = 0, 0.0
        ends = [jobplan.finished_at(p, now) for p in bad]
        after = [end for end in ends if end > last_good]
        return failures + len(after), max([last, *after])

    def _judge(self, sync: Sync) -> None:
        """Sets `ending` where the job has succeeded or failed already."""
        job, spec = sync.job, sync.spec
        listed = sync.status.get("conditions") or []
        for type_ in ("SuccessCriteriaMet", "FailureTarget"):
            found = conditions.find(listed, type_)
            if found is not None and found["status"] == "True":
                sync.ending = found
                return
        messages = [jobplan.judge(job, p).message for p in sync.owned if jobplan.is_failed(job, p)]
        if message := next(filter(None, messages), ""):
            self._fail(sync, "PodFailurePolicy", message)
        elif sync.failed > spec.get("backoffLimit", 6) or jobplan.restarts_exceed(job, sync.owned):
            self._fail(sync, "BackoffLimitExceeded", LIMIT_REACHED)
        elif self._is_overdue(sync):
            self._fail(sync, "DeadlineExceeded", TOO_LONG)
        elif jobplan.is_indexed(job):
            failed, done = len(sync.failed_indexes), len(sync.succeeded_indexes)
            if spec.get("maxFailedIndexes") is not None and failed > spec["maxFailedIndexes"]:
                self._fail(sync, "MaxFailedIndexesExceeded", TOO_MANY_INDEXES)
            elif failed and failed + done >= spec["completions"]:
                self._fail(sync, "FailedIndexes", "Job has failed indexes")
            elif message := jobplan.success_message(job, sync.succeeded_indexes):
                sync.ending = jobplan.condition_of("SuccessCriteriaMet", "SuccessPolicy", message, sync.now)

    def _fail(self, sync: Sync, reason: str, message: str) -> None:
        sync.ending = jobplan.condition_of("FailureTarget", reason, message, sync.now)

    def _is_overdue(self, sync: Sync) -> bool:
        deadline_s, started = sync.spec.get("activeDeadlineSeconds"), sync.status.get("startTime")
        if deadline_s is None or not started or jobplan.is_suspended(sync.job):
            return False
        left_s = times.parse_seconds(started) + deadline_s - sync.now
        if left_s > 0:
            self.queue.add_after(sync.key, left_s)
        return bool(left_s <= 0)

    def _conclude(self, sync: Sync, *, managed: bool) -> None:
        """Sees whether enough pods have succeeded; else notes a suspension that began or ended."""
        wanted = sync.spec.get("completions")
        enough = sync.succeeded > 0 if wanted is None else sync.succeeded >= wanted
        if enough and not sync.active:
            sync.ending = jobplan.condition_of("SuccessCriteriaMet", "CompletionsReached", SUCCEEDED, sync.now)
            return
        if not managed:
            return
        listed = sync.status.get("conditions") or []
        current = conditions.find(listed, "Suspended")
        was_suspended = current is not None and current["status"] == "True"
        suspended = jobplan.is_suspended(sync.job)
        if suspended == was_suspended:
            return
        reason, message, event = (
            ("JobSuspended", "Job suspended", "Suspended") if suspended else ("JobResumed", "Job resumed", "Resumed")
        )
        new = jobplan.condition_of("Suspended", reason, message, sync.now, "True" if suspended else "False")
        sync.status["conditions"] = conditions.put(listed, new)
        self.events.event(sync.job, "Normal", event, message)
        if not suspended:
            sync.status["startTime"] = times.format_time(sync.now)

    async def _end_pods(self, sync: Sync) -> tuple[bool, ApiError | None]:
        """Deletes what still runs. The finalizers stay, so that each pod is counted."""
        results = await asyncio.gather(*(self._control.delete(p, sync.job) for p in sync.active), return_exceptions=True)
        failures = [r for r in results if isinstance(r, BaseException)]
        for failure in failures:
            if not isinstance(failure, ApiError):
                raise failure
        if not failures:
            sync.terminating += len(sync.active)
            sync.active, sync.ready = [], 0
            return True, None
        first = failures[0]
        assert isinstance(first, ApiError)
        return False, first

    async def _manage(self, sync: Sync) -> ApiError | None:
        """Creates missing pods, or deletes those too many."""
        spec, active = sync.spec, len(sync.active)
        parallelism, completions = spec.get("parallelism", 1), spec.get("completions")
        if jobplan.is_suspended(sync.job):
            return await self._remove(sync, sync.active)
        if completions is None:
            wanted = active if sync.succeeded > 0 else parallelism
        else:
            wanted = max(min(parallelism, completions - sync.succeeded), 0)
        surplus = jobplan.pods_to_remove(sync.job, sync.active, max(active - wanted, 0))
        if surplus:
            return await self._remove(sync, surplus[:PER_SYNC])
        waiting = sync.terminating if jobplan.replaces_only_failed(sync.job) else 0
        missing = min(wanted - active - waiting, PER_SYNC)
        if missing <= 0:
            return None
        if "backoffLimitPerIndex" not in spec:
            left_s = jobplan.backoff_left(*sync.backoff, sync.now)
            if left_s > 0:
                self.queue.add_after(sync.key, left_s)
                return None
        indexes: list[int | None] = [None] * missing
        if jobplan.is_indexed(sync.job):
            indexes = [*self._due_indexes(sync, missing)]
        return await self._create(sync, indexes)

    def _due_indexes(self, sync: Sync, count: int) -> Iterable[int]:
        """Of so many free indexes, the lowest, those whose last failure is long enough ago. The others are waited for, while
        higher ones don't take their place.
        """
        taken = {jobplan.index_of(p) for p in sync.active} | sync.succeeded_indexes | sync.failed_indexes
        if jobplan.replaces_only_failed(sync.job):
            taken |= {jobplan.index_of(p) for p in sync.owned if pods.is_terminating(p) and not pods.is_finished(p)}
        free = itertools.islice((index for index in range(sync.spec["completions"]) if index not in taken), count)
        for index in free:
            pod = sync.unreplaced.get(index)
            left_s = 0.0
            if pod is not None:
                failures = sum(jobplan.failures_of(pod)) + 1
                left_s = jobplan.backoff_left(failures, jobplan.finished_at(pod, sync.now), sync.now)
            if left_s > 0:
                self.queue.add_after(sync.key, left_s)
            else:
                yield index

    async def _create(self, sync: Sync, indexes: Sequence[int | None]) -> ApiError | None:
        if not indexes:
            return None
        job, template = sync.job, sync.spec["template"]
        reference: Any = owners.reference_to(job, "batch/v1", "Job")
        self._expectations.expect(sync.key, len(indexes))
        made: list[Obj] = []

        async def create(position: int) -> None:
            index = indexes[position]
            replaced = None if index is None else sync.unreplaced.get(index)
            pod = await self._control.create(jobplan.pod_of(job, template, index, reference, replaced), job)
            if pod is None:
                self._expectations.creation_observed(sync.key)
            else:
                made.append(pod)

        created, failure = await slow_start(len(indexes), create)
        for _ in range(len(indexes) - created):
            self._expectations.creation_observed(sync.key)
        sync.active = [*sync.active, *made]
        return failure

    async def _remove(self, sync: Sync, surplus: Sequence[Obj]) -> ApiError | None:
        """Deletes pods that are not wanted any more, without counting them."""
        if not surplus:
            return None
        self._expectations.expect(sync.key, 0, [p["metadata"]["uid"] for p in surplus])

        async def remove(pod: Obj) -> None:
            await self._counting.release(pod)
            if not await self._control.delete(pod, sync.job):
                self._expectations.deletion_observed(sync.key, pod["metadata"]["uid"])

        results = await asyncio.gather(*map(remove, surplus), return_exceptions=True)
        failures = [r for r in results if isinstance(r, BaseException)]
        gone = {p["metadata"]["uid"] for p, r in zip(surplus, results, strict=True) if r is None}
        sync.active = [p for p in sync.active if p["metadata"]["uid"] not in gone]
        sync.ready = sum(map(pods.is_ready, sync.active))
        sync.terminating += len(gone)
        for failure in failures:
            self._expectations.forget(sync.key)
            if not isinstance(failure, ApiError):
                raise failure
            return failure
        return None

    async def _free_orphan(self, key: str) -> None:
        namespace, name = split_key(key)
        pod = self._pods.get(name, namespace)
        if pod is not None and jobplan.has_finalizer(pod) and self._is_orphan(pod):
            await self._counting.release(pod)
