"""Counting a Job's pods, each exactly once.

Every pod carries a finalizer until it is counted. A finished pod is first noted in status.uncountedTerminatedPods, then
loses its finalizer, and only then goes into the counts and out of the note: whichever step a crash falls into, the next
reconcile knows where to go on.

Source: kubernetes pkg/controller/job (trackJobStatusAndRemoveFinalizers), v1.34; KEP-2307.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from kubelite.client.contract import Client
from kubelite.client.events import EventRecorder
from kubelite.client.informers import Informer
from kubelite.controllers import conditions, jobplan, pods
from kubelite.controllers.written import Written
from kubelite.meta.errors import ApiError, NotFound
from kubelite.meta.types import Obj

RESOURCE = "jobs.batch"
UNCOUNTED_LIMIT = 500
#: Fields of the status that say something when they are zero or empty.
EVEN_ZERO = ("ready", "terminating", "uncountedTerminatedPods", "failedIndexes")


@dataclass(slots=True)
class Sync:
    """What one reconcile found out and is about to write."""

    key: str
    job: Obj
    owned: list[Obj]
    active: list[Obj]
    now: float
    status: Obj
    succeeded: int = 0
    failed: int = 0
    terminating: int = 0
    ready: int = 0
    succeeded_indexes: set[int] = field(default_factory=set)
    failed_indexes: set[int] = field(default_factory=set)
    #: By index, where each has a limit: the failed pod that no other has taken the place of. It keeps its finalizer until then,
    #: for it knows how often the index has failed.
    unreplaced: dict[int, Obj] = field(default_factory=dict)
    #: The condition that ends the job: SuccessCriteriaMet or FailureTarget.
    ending: Obj | None = None
    #: (failures in a row, when the last was), with the pods that are counted now.
    backoff: tuple[int, float] = (0, 0.0)
    #: The pods that are counted now have been noted in the status: they will not be seen as new ones again.
    noted: bool = False

    @property
    def spec(self) -> Obj:
        spec: Obj = self.job["spec"]
        return spec


class Counting:
    """Writes statuses and takes finalizers off. `again(key)` queues a job whose pods are too many for one go."""

    def __init__(self, client: Client, events: EventRecorder, all_pods: Informer, again: Callable[[str], None]) -> None:
        self._client = client
        self._events = events
        self._pods = all_pods
        self._again = again
        self._written = Written()
        #: Pods whose finalizer is off, though the cache may not show it yet.
        self._released: set[str] = set()

    def newest(self, job: Obj) -> Obj:
        """The job as last written, where the cache is behind that: it would start pods anew that are counted there."""
        return self._written.newest(job)

    def forget(self, key: str) -> None:
        """The job is over or gone."""
        self._written.forget(key)

    def saw(self, pod: Obj, *, present: bool) -> None:
        """The cache shows this state of a pod now."""
        if not present or not jobplan.has_finalizer(pod):
            self._released.discard(pod["metadata"]["uid"])

    def is_tracked(self, pod: Obj) -> bool:
        """The pod is not counted yet: it has its finalizer."""
        return jobplan.has_finalizer(pod) and pod["metadata"]["uid"] not in self._released

    async def track(self, sync: Sync) -> None:
        """Counts what can be counted, writes the status, and ends the job where its time has come."""
        job, status = sync.job, sync.status
        uncounted = status["uncountedTerminatedPods"]
        good, bad = list(uncounted.get("succeeded") or ()), list(uncounted.get("failed") or ())
        carrying = {p["metadata"]["uid"]: p for p in sync.owned if self.is_tracked(p)}
        status = _count(status, good, bad, carrying)
        good, bad = [u for u in good if u in carrying], [u for u in bad if u in carrying]
        to_release, complete = noted(sync, carrying, good, bad)
        if not complete:
            self._again(sync.key)
        status["uncountedTerminatedPods"] = _uncounted(good, bad)
        if jobplan.is_indexed(job):
            status["succeeded"] = len(sync.succeeded_indexes)
            status["completedIndexes"] = jobplan.format_indexes(sync.succeeded_indexes)
            if "backoffLimitPerIndex" in sync.spec:
                status["failedIndexes"] = jobplan.format_indexes(sync.failed_indexes)
        if sync.ending is not None and conditions.find(status.get("conditions"), sync.ending["type"]) is None:
            status["conditions"] = [*(status.get("conditions") or ()), sync.ending]
        job = await self._write(job, status)
        sync.noted = True
        await self._release_all(to_release)
        for pod in to_release:
            carrying.pop(pod["metadata"]["uid"], None)
        status = _count(job["status"], good, bad, carrying)
        left_good, left_bad = [u for u in good if u in carrying], [u for u in bad if u in carrying]
        status["uncountedTerminatedPods"] = _uncounted(left_good, left_bad)
        if jobplan.is_indexed(job):
            status["succeeded"] = len(sync.succeeded_indexes)
        over = complete and sync.ending is not None and not left_good and not left_bad and sync.terminating == 0
        if over:
            assert sync.ending is not None
            self._finish(status, sync)
        await self._write(job, status)
        if over:
            self._tell_end(sync, status)

    def _finish(self, status: Obj, sync: Sync) -> None:
        assert sync.ending is not None
        type_ = "Complete" if sync.ending["type"] == "SuccessCriteriaMet" else "Failed"
        final = jobplan.condition_of(type_, sync.ending.get("reason", ""), sync.ending.get("message", ""), sync.now)
        status["conditions"] = conditions.put(status.get("conditions"), final)
        if type_ == "Complete":
            status["completionTime"] = final["lastTransitionTime"]

    def _tell_end(self, sync: Sync, status: Obj) -> None:
        assert sync.ending is not None
        if sync.ending["type"] == "FailureTarget":
            self._events.event(sync.job, "Warning", sync.ending["reason"], sync.ending["message"])
            return
        completions = sync.spec.get("completions")
        if completions is not None and status.get("succeeded", 0) > completions:
            text = "Too many succeeded pods running after completion count reached"
            self._events.event(sync.job, "Warning", "TooManySucceededPods", text)
        self._events.event(sync.job, "Normal", "Completed", "Job completed")

    async def _write(self, job: Obj, status: Obj) -> Obj:
        wanted = {key: value for key, value in status.items() if value or key in EVEN_ZERO}
        if wanted == job.get("status"):
            return job
        changed = {**job, "metadata": {**job["metadata"]}, "status": wanted}
        return self._written.note(await self._client.update(RESOURCE, changed, subresource="status"))

    async def _release_all(self, listed: Sequence[Obj]) -> None:
        results = await asyncio.gather(*map(self.release, listed), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def release(self, pod: Obj) -> None:
        """Takes the finalizer off."""
        meta = pod["metadata"]
        if not self.is_tracked(pod):
            return
        change = {"metadata": {"$deleteFromPrimitiveList/finalizers": [jobplan.FINALIZER], "uid": meta["uid"]}}
        self._released.add(meta["uid"])
        try:
            await self._client.patch("pods", meta["name"], meta["namespace"], change, form="strategic")
        except NotFound:
            self._released.discard(meta["uid"])
        except ApiError as e:
            self._released.discard(meta["uid"])
            if e.code != 409:
                raise
        if self._pods.get(meta["name"], meta["namespace"]) is None:
            self._released.discard(meta["uid"])


def noted(sync: Sync, carrying: Mapping[str, Obj], good: list[str], bad: list[str]) -> tuple[list[Obj], bool]:
    """Adds pods that are to be counted to `good` and `bad`. Returns those that may lose their finalizer, and whether these are
    all of them: a status has room for only so many notes.
    """
    job = sync.job
    indexed, completions = jobplan.is_indexed(job), sync.spec.get("completions") or 0
    kept = {p["metadata"]["uid"] for p in sync.unreplaced.values()}
    failed_end = sync.ending is not None and sync.ending["type"] == "FailureTarget"
    ends = "deletionTimestamp" in job["metadata"] or sync.ending is not None
    before = (job.get("status") or {}).get("completedIndexes", "")
    newly_done = sync.succeeded_indexes - jobplan.parse_indexes(before, completions)
    to_release: list[Obj] = []
    done = 0
    for uid, pod in carrying.items():
        succeeded, failed = pods.phase(pod) == "Succeeded", jobplan.is_failed(job, pod)
        if not (ends or succeeded or (failed and uid not in kept)):
            continue
        to_release.append(pod)
        if succeeded and uid not in bad:
            if indexed:
                done += jobplan.index_of(pod) in newly_done
            elif uid not in good:
                good.append(uid)
        elif failed or failed_end:
            index = jobplan.index_of(pod)
            fits = not indexed or (index is not None and index < completions)
            if uid not in bad and fits and jobplan.judge(job, pod).counts:
                bad.append(uid)
        if done + len(good) + len(bad) >= UNCOUNTED_LIMIT:
            return to_release, False
    return to_release, True


def _uncounted(good: Sequence[str], bad: Sequence[str]) -> Obj:
    return {key: list(uids) for key, uids in (("succeeded", good), ("failed", bad)) if uids}


def _count(status: Obj, good: Sequence[str], bad: Sequence[str], carrying: Collection[str]) -> Obj:
    """The status with the noted pods counted that have lost their finalizer."""
    new = dict(status)
    for name, uids in (("succeeded", good), ("failed", bad)):
        counted = sum(uid not in carrying for uid in uids)
        if counted:
            new[name] = new.get(name, 0) + counted
    return new
