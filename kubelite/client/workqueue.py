"""The work queue: keys to reconcile, each at most once in the queue and never handed to two workers at a time.

A key that is added while a worker has it is queued again when the worker is done. It is bounded by the number of keys.

Source: client-go util/workqueue (the meaning of its methods and the default delays).
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

BASE_DELAY_S = 0.005
MAX_DELAY_S = 1000.0


class ShutDown(Exception):
    """The queue was shut down and is empty: a worker that waits on it ends."""


class WorkQueue(Generic[K]):
    """Keys with delays and back-off per key."""

    def __init__(self, *, base_delay_s: float = BASE_DELAY_S, max_delay_s: float = MAX_DELAY_S) -> None:
        self._base_delay_s = base_delay_s
        self._max_delay_s = max_delay_s
        self._ready: deque[K] = deque()
        self._dirty: set[K] = set()
        self._processing: set[K] = set()
        self._failures: dict[K, int] = {}
        self._due: dict[K, float] = {}
        self._delayed: list[tuple[float, int, K]] = []
        self._sequence = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._closed = False
        self._added = self._retried = 0

    def add(self, key: K) -> None:
        """Queues a key, unless it is queued already."""
        if self._closed or key in self._dirty:
            return
        self._added += 1
        self._dirty.add(key)
        if key not in self._processing:
            self._ready.append(key)
            self._wake()

    def add_after(self, key: K, delay_s: float) -> None:
        """Queues a key when the delay is over; of several delays of one key the earliest counts."""
        if self._closed:
            return
        if delay_s <= 0:
            self.add(key)
            return
        due = asyncio.get_running_loop().time() + delay_s
        if self._due.get(key, due + 1) <= due:
            return
        self._due[key] = due
        self._sequence += 1
        heapq.heappush(self._delayed, (due, self._sequence, key))
        self._schedule()

    def add_rate_limited(self, key: K) -> None:
        """Queues a key after its back-off, which doubles with each call until `forget`."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        self._retried += 1
        self.add_after(key, min(self._base_delay_s * 2 ** min(failures, 40), self._max_delay_s))

    def forget(self, key: K) -> None:
        """Ends a key's back-off."""
        self._failures.pop(key, None)

    def failures(self, key: K) -> int:
        """How often the key was added with back-off since it was forgotten."""
        return self._failures.get(key, 0)

    async def get(self) -> K:
        """Waits for a key and gives it to the caller, who must call `done`.

        Raises:
            ShutDown: the queue was shut down and nothing is left in it.
        """
        while not self._ready:
            if self._closed:
                raise ShutDown
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._wake()  # the wake-up was ours: another worker must have it
                raise
        key = self._ready.popleft()
        self._dirty.discard(key)
        self._processing.add(key)
        return key

    def done(self, key: K) -> None:
        """The worker is finished with the key; queues it again where it was added meanwhile."""
        self._processing.discard(key)
        if key in self._dirty:
            self._ready.append(key)
            self._wake()

    def shut_down(self) -> None:
        """Takes no more keys and wakes every worker; what is queued and due is still handed out."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._delayed.clear()
        self._due.clear()
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)

    def __len__(self) -> int:
        return len(self._ready)

    @property
    def idle(self) -> bool:
        """Nothing is queued or being worked on; delayed keys may wait."""
        return not self._ready and not self._processing

    def statistics(self) -> dict[str, int]:
        """Numbers for metrics."""
        return {
            "depth": len(self._ready),
            "processing": len(self._processing),
            "delayed": len(self._due),
            "backing_off": len(self._failures),
            "added": self._added,
            "retried": self._retried,
        }

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _schedule(self) -> None:
        if not self._delayed:
            return
        due = self._delayed[0][0]
        if self._timer is not None:
            if self._timer_due <= due:
                return
            self._timer.cancel()
        # The handle isn't asked: uvloop hands out one without when() where the time has come already.
        self._timer_due = due
        self._timer = asyncio.get_running_loop().call_at(due, self._fire)

    def _fire(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        while self._delayed and self._delayed[0][0] <= now:
            due, _, key = heapq.heappop(self._delayed)
            if self._due.get(key) == due:
                del self._due[key]
                self.add(key)
        self._schedule()
