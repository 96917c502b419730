"""Pods that wait for a node: those to try now, those in back-off, those that wait for something to change, and gated ones.

A pod that fits nowhere waits until an event that one of the plugins which refused it cares about (or five minutes), and then
still until its back-off is over. Pods come out by priority, then in the order of their coming.

Source: pkg/scheduler/backend/queue (the queues, back-off and the limit of waiting), v1.34.
"""

import asyncio
import heapq
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from kubelite.scheduler.snapshot import PodInfo

INITIAL_BACKOFF_S = 1.0
MAX_BACKOFF_S = 10.0
MAX_WAIT_S = 300.0

Place = Literal["active", "backoff", "unschedulable", "gated", "out"]


@dataclass(eq=False, slots=True)
class QueuedPod:
    """A pod in the queue, or just taken out of it."""

    pod: PodInfo
    added: float
    attempts: int = 0
    place: Place = "out"
    #: Since when it is in that place.
    since: float = 0.0
    refused_by: frozenset[str] = frozenset()
    number: int = field(default=0)

    @property
    def backoff_s(self) -> float:
        return min(INITIAL_BACKOFF_S * 2.0 ** min(max(self.attempts - 1, 0), 30), MAX_BACKOFF_S)


class Queue:
    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._pods: dict[str, QueuedPod] = {}
        self._active: list[tuple[int, float, int, QueuedPod]] = []
        self._backoff: list[tuple[float, int, QueuedPod]] = []
        #: In the order in which they began to wait.
        self._unschedulable: dict[str, QueuedPod] = {}
        self._refused: dict[str, set[str]] = {}
        self._numbers = itertools.count()
        self._filled = asyncio.Event()

    def __len__(self) -> int:
        return len(self._pods)

    def get(self, uid: str) -> QueuedPod | None:
        return self._pods.get(uid)

    def add(self, pod: PodInfo) -> None:
        """A pod without a node appeared, or changed so that another try is worth it."""
        queued = self._pods.get(pod.uid)
        if queued is None:
            queued = self._pods[pod.uid] = QueuedPod(pod, self._clock())
        else:
            queued.pod = pod
            self._take_out(queued)
        if pod.obj["spec"].get("schedulingGates"):
            self._put(queued, "gated")
        elif queued.attempts and not self._backoff_over(queued):
            self._back_off(queued)
        else:
            self._activate(queued)

    def delete(self, uid: str) -> None:
        queued = self._pods.pop(uid, None)
        if queued is not None:
            self._take_out(queued)

    def pop(self) -> QueuedPod | None:
        """The next pod to try. It stays known until `delete`; `unschedulable` or `retry` put it back."""
        self._promote()
        while self._active:
            queued = heapq.heappop(self._active)[3]
            # Places are changed without touching the heaps: an entry counts only if it is the newest of its pod.
            if queued.place == "active" and self._pods.get(queued.pod.uid) is queued:
                queued.place = "out"
                queued.attempts += 1
                queued.since = self._clock()
                return queued
        self._filled.clear()
        return None

    def unschedulable(self, queued: QueuedPod, refused_by: Iterable[str]) -> None:
        """The pod fits nowhere: it waits for an event."""
        if self._pods.get(queued.pod.uid) is not queued or queued.place != "out":
            return  # deleted, or changed and queued again meanwhile
        queued.refused_by = frozenset(refused_by)
        self._put(queued, "unschedulable")
        self._unschedulable[queued.pod.uid] = queued
        for plugin in queued.refused_by:
            self._refused.setdefault(plugin, set()).add(queued.pod.uid)

    def retry(self, queued: QueuedPod) -> None:
        """The attempt failed for a reason that is not the pod's: it comes back after its back-off."""
        if self._pods.get(queued.pod.uid) is queued and queued.place == "out":
            self._back_off(queued)

    def moved(self, plugins: frozenset[str]) -> int:
        """Something changed that these plugins look at: pods that they refused are tried again. Returns how many."""
        uids: set[str] = set()
        for plugin in plugins:
            uids |= self._refused.get(plugin, set())
        for uid in uids:
            self._requeue(self._unschedulable[uid])
        return len(uids)

    def move_all(self) -> None:
        """Something changed that any pod may have waited for."""
        for queued in list(self._unschedulable.values()):
            self._requeue(queued)

    async def wait(self) -> None:
        """Returns when there may be a pod to try."""
        while True:
            self._promote()
            if any(queued.place == "active" for *_, queued in self._active):
                return
            self._filled.clear()
            due = self._next_due()
            try:
                await asyncio.wait_for(self._filled.wait(), None if due is None else max(0.0, due - self._clock()))
            except TimeoutError:
                continue

    def statistics(self) -> dict[str, int]:
        counts = {"active": 0, "backoff": 0, "unschedulable": 0, "gated": 0, "out": 0}
        for queued in self._pods.values():
            counts[queued.place] += 1
        return counts

    def _requeue(self, queued: QueuedPod) -> None:
        self._take_out(queued)
        if self._backoff_over(queued):
            self._activate(queued)
        else:
            self._back_off(queued)

    def _backoff_over(self, queued: QueuedPod) -> bool:
        return self._clock() >= queued.since + queued.backoff_s

    def _put(self, queued: QueuedPod, place: Place) -> None:
        queued.place = place
        queued.number = next(self._numbers)

    def _activate(self, queued: QueuedPod) -> None:
        self._put(queued, "active")
        heapq.heappush(self._active, (-queued.pod.priority, queued.added, queued.number, queued))
        self._filled.set()

    def _back_off(self, queued: QueuedPod) -> None:
        self._put(queued, "backoff")
        heapq.heappush(self._backoff, (queued.since + queued.backoff_s, queued.number, queued))
        self._filled.set()  # whoever waits computes its time anew

    def _take_out(self, queued: QueuedPod) -> None:
        if queued.place == "unschedulable":
            self._unschedulable.pop(queued.pod.uid, None)
            for plugin in queued.refused_by:
                self._refused[plugin].discard(queued.pod.uid)
        queued.place = "out"

    def _promote(self) -> None:
        """Activates what is due."""
        now = self._clock()
        while self._backoff and self._backoff[0][0] <= now:
            _, number, queued = heapq.heappop(self._backoff)
            if queued.place == "backoff" and queued.number == number and self._pods.get(queued.pod.uid) is queued:
                self._activate(queued)
        while self._unschedulable:
            oldest = next(iter(self._unschedulable.values()))
            if oldest.since + MAX_WAIT_S > now:
                break
            self._take_out(oldest)
            self._activate(oldest)

    def _next_due(self) -> float | None:
        times = [self._backoff[0][0]] if self._backoff else []
        if self._unschedulable:
            times.append(next(iter(self._unschedulable.values())).since + MAX_WAIT_S)
        return min(times, default=None)
