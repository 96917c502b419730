"""Pods that wait for a node: those to try now, those in back-off, those that wait for something to change, and gated ones.

A pod that fits nowhere waits until an event that may help it, as one of the plugins which refused it says (or five minutes), and
then in back-off. Pods come out by priority, then in the order of their coming or of their last failure. Where none is to be
tried now, some come out of back-off early: something has changed for them, and nobody is kept waiting. Only some: those that
failed for another reason than the cluster's state don't, and EARLY_PER_S bounds the others, since all that an event might help
would keep the loop busy.

Source: pkg/scheduler/backend/queue (the queues, back-off, its windows and the limit of waiting), v1.34.
"""

import asyncio
import heapq
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from kubelite.scheduler.framework import Change, Filter, Hinting
from kubelite.scheduler.snapshot import PodInfo
from kubelite.scheduler.templates import Template

INITIAL_BACKOFF_S = 1.0
MAX_BACKOFF_S = 10.0
#: Pods whose back-off ends within one such window come out by priority.
WINDOW_S = 1.0
MAX_WAIT_S = 300.0
#: Pods that may come out of back-off early: a second, and at once.
EARLY_PER_S = 20.0
EARLY_BURST = 20.0

Place = Literal["active", "backoff", "unschedulable", "gated", "out"]


@dataclass(eq=False, slots=True)
class QueuedPod:
    """A pod in the queue, or just taken out of it."""

    pod: PodInfo
    #: When it came, or failed last.
    since: float
    attempts: int = 0
    #: How often it fitted nowhere, and how often attempts failed otherwise since then.
    refusals: int = 0
    errors: int = 0
    place: Place = "out"
    refused_by: frozenset[str] = frozenset()
    number: int = field(default=0)

    @property
    def backoff_s(self) -> float:
        count = self.errors or self.refusals
        return min(INITIAL_BACKOFF_S * 2.0 ** min(count - 1, 30), MAX_BACKOFF_S) if count else 0.0

    @property
    def due(self) -> float:
        return self.since + self.backoff_s


class Queue:
    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._pods: dict[str, QueuedPod] = {}
        self._active: list[tuple[int, float, int, QueuedPod]] = []
        #: By window, priority and age: what comes out early. By the end of back-off: what comes out then.
        self._early: list[tuple[int, int, float, int, QueuedPod]] = []
        self._backoff: list[tuple[float, int, QueuedPod]] = []
        self._allowance, self._allowed_at = EARLY_BURST, clock()
        #: In the order in which they began to wait.
        self._unschedulable: dict[str, QueuedPod] = {}
        #: By plugin and template: plugins are asked once for all pods of one, of which a thousand may wait.
        self._refused: dict[str, dict[Template, set[str]]] = {}
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
            self._take_out(queued)
            queued.pod = pod
        if pod.obj["spec"].get("schedulingGates"):
            self._put(queued, "gated")
        else:
            self._requeue(queued)

    def delete(self, uid: str) -> None:
        queued = self._pods.pop(uid, None)
        if queued is not None:
            self._take_out(queued)

    def pop(self) -> QueuedPod | None:
        """The next pod to try. It stays known until `delete`; `unschedulable` or `retry` put it back."""
        self._promote()
        # Places are changed without touching the heaps: an entry counts only if it is the newest of its pod.
        while self._active:
            _, _, number, queued = heapq.heappop(self._active)
            if self._is(queued, "active", number):
                return self._taken(queued)
        if self._refill() >= 1.0:
            while self._early:
                *_, number, queued = heapq.heappop(self._early)
                if self._is(queued, "backoff", number):
                    self._allowance -= 1.0
                    return self._taken(queued)
        self._filled.clear()
        return None

    def unschedulable(self, queued: QueuedPod, refused_by: Iterable[str]) -> None:
        """The pod fits nowhere: it waits for an event."""
        if not self._is_back(queued):
            return
        queued.refusals += 1
        queued.errors = 0
        queued.refused_by = frozenset(refused_by)
        self._put(queued, "unschedulable")
        self._unschedulable[queued.pod.uid] = queued
        for plugin in queued.refused_by:
            self._refused.setdefault(plugin, {}).setdefault(queued.pod.template, set()).add(queued.pod.uid)

    def retry(self, queued: QueuedPod) -> None:
        """The attempt failed for a reason that is not the pod's: it comes back after its back-off."""
        if self._is_back(queued):
            queued.errors += 1
            self._back_off(queued)

    def _is_back(self, queued: QueuedPod) -> bool:
        """Whether a pod that was taken out is to be put back: not if it was deleted, or changed and queued again meanwhile."""
        queued.since = self._clock()
        return self._pods.get(queued.pod.uid) is queued and queued.place == "out"

    def moved(self, change: Change, plugins: Iterable[Filter], most_priority: int | None = None) -> int:
        """Something changed that these plugins look at: pods that they refused are tried again where it may help them.
        `most_priority`: it helps no more important ones. Returns how many."""
        uids: set[str] = set()
        for plugin in plugins:
            for template, refused in self._refused.get(plugin.name, {}).items():
                if not isinstance(plugin, Hinting) or plugin.helps(change, template):
                    uids |= refused
        if most_priority is not None:
            uids = {uid for uid in uids if self._unschedulable[uid].pod.priority <= most_priority}
        for uid in sorted(uids, key=lambda uid: self._unschedulable[uid].number):
            self.activate(uid)
        return len(uids)

    def activate(self, uid: str) -> None:
        """A pod that waits for an event is tried again."""
        queued = self._unschedulable.get(uid)
        if queued is not None:
            self._take_out(queued)
            self._requeue(queued)

    async def wait(self) -> None:
        """Returns when there may be a pod to try."""
        while True:
            self._promote()
            if any(queued.place == "active" for *_, queued in self._active):
                return
            early = any(self._is(queued, "backoff", number) for *_, number, queued in self._early)
            if early and self._refill() >= 1.0:
                return
            self._filled.clear()
            due = self._next_due(early)
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
        if self._clock() >= queued.due:
            self._activate(queued)
        else:
            self._back_off(queued)

    def _taken(self, queued: QueuedPod) -> QueuedPod:
        queued.place = "out"
        queued.attempts += 1
        return queued

    def _is(self, queued: QueuedPod, place: Place, number: int) -> bool:
        return queued.place == place and queued.number == number and self._pods.get(queued.pod.uid) is queued

    def _put(self, queued: QueuedPod, place: Place) -> None:
        queued.place = place
        queued.number = next(self._numbers)

    def _activate(self, queued: QueuedPod) -> None:
        self._put(queued, "active")
        heapq.heappush(self._active, (-queued.pod.priority, queued.since, queued.number, queued))
        self._filled.set()

    def _back_off(self, queued: QueuedPod) -> None:
        self._put(queued, "backoff")
        heapq.heappush(self._backoff, (queued.due, queued.number, queued))
        if not queued.errors:
            window = int(queued.due / WINDOW_S)
            heapq.heappush(self._early, (window, -queued.pod.priority, queued.since, queued.number, queued))
        self._filled.set()  # whoever waits computes its time anew

    def _take_out(self, queued: QueuedPod) -> None:
        if queued.place == "unschedulable":
            self._unschedulable.pop(queued.pod.uid, None)
            for plugin in queued.refused_by:
                of_template = self._refused[plugin][queued.pod.template]
                of_template.discard(queued.pod.uid)
                if not of_template:
                    del self._refused[plugin][queued.pod.template]
        queued.place = "out"

    def _refill(self) -> float:
        """How many pods may come out of back-off early, now."""
        now = self._clock()
        self._allowance = min(EARLY_BURST, self._allowance + (now - self._allowed_at) * EARLY_PER_S)
        self._allowed_at = now
        return self._allowance

    def _promote(self) -> None:
        """Activates what is due."""
        now = self._clock()
        while self._backoff and self._backoff[0][0] <= now:
            _, number, queued = heapq.heappop(self._backoff)
            if self._is(queued, "backoff", number):
                self._activate(queued)
        while self._unschedulable:
            oldest = next(iter(self._unschedulable.values()))
            if oldest.since + MAX_WAIT_S > now:
                break
            self._take_out(oldest)
            self._activate(oldest)

    def _next_due(self, early: bool) -> float | None:
        times = [self._backoff[0][0]] if self._backoff else []
        if self._unschedulable:
            times.append(next(iter(self._unschedulable.values())).since + MAX_WAIT_S)
        if early:
            times.append(self._allowed_at + (1.0 - self._allowance) / EARLY_PER_S)
        return min(times, default=None)
