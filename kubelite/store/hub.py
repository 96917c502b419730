"""Fan-out of committed events to watches, as positions in a log that all share.

Each bucket (the first segment of a key) has the events of the recent past in one list, the ring; a watch is an index into it.
Publishing appends once and wakes who waits, whatever the number of watches; a slow watch holds nothing. A watch that is older
than the ring reads the log on disk until it has caught up; one that is older than the compacted revision gets Compacted.

Invariants: only committed events come here, in order; `floor` is the revision above which every event is in the ring;
compacted <= floor <= revision.
"""

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from operator import attrgetter

from kubelite.store.contract import Compacted, Event, FutureRevision, Revision, Unavailable
from kubelite.store.index import bucket_of

#: Reads events from disk: (prefix, after, upto, limit).
ReadHistory = Callable[[str, Revision, Revision, int], Awaitable[list[Event]]]

#: The most events that `next_batch` returns at once: what a reader handles before it gives the loop back.
BATCH = 500

_revision_of = attrgetter("revision")


class Ring:
    """The recent events of one bucket. `base` is the number of events that were there before the first one still kept."""

    __slots__ = ("base", "events", "waiting")

    def __init__(self) -> None:
        self.base = 0
        self.events: list[Event] = []
        self.waiting: set[asyncio.Future[None]] = set()

    @property
    def end(self) -> int:
        return self.base + len(self.events)

    def number_after(self, revision: Revision) -> int:
        return self.base + bisect_right(self.events, revision, key=_revision_of)

    def trim(self, upto: Revision) -> None:
        gone = bisect_right(self.events, upto, key=_revision_of)
        if gone:
            del self.events[:gone]
            self.base += gone

    def wake(self) -> None:
        waiting, self.waiting = self.waiting, set()
        for future in waiting:
            if not future.done():
                future.set_result(None)


class Hub:
    def __init__(self, read_history: ReadHistory, revision: Revision, compacted: Revision, ring_bytes: int) -> None:
        self.read_history = read_history
        self.revision = revision
        self.compacted = compacted
        self.floor = revision
        self.closed = False
        self.watches: set[HubWatch] = set()
        self._rings: dict[str, Ring] = {}
        self._ring_bytes = ring_bytes
        self._sizes: deque[tuple[Revision, int]] = deque()
        self._size_bytes = 0

    def publish(self, events: Sequence[Event]) -> None:
        size = 0
        touched: set[Ring] = set()
        everything = self._rings.get("/")
        for event in events:
            ring = self._ring(bucket_of(event.entry.key))
            ring.events.append(event)
            touched.add(ring)
            size += len(event.entry.value)
            if everything:
                everything.events.append(event)
        self.revision = events[-1].revision
        self._sizes.append((self.revision, size))
        self._size_bytes += size
        if self._size_bytes > self._ring_bytes:
            self._shrink()
        if everything:
            touched.add(everything)
        for ring in touched:
            ring.wake()

    def _shrink(self) -> None:
        """Makes room for a good while at once, as trimming costs a pass over all rings; what was just published stays."""
        upto = self.floor
        while len(self._sizes) > 1 and self._size_bytes > self._ring_bytes * 3 // 4:
            upto, size = self._sizes.popleft()
            self._size_bytes -= size
        self._trim(upto)

    def _trim(self, upto: Revision) -> None:
        while self._sizes and self._sizes[0][0] <= upto:
            self._size_bytes -= self._sizes.popleft()[1]
        if upto > self.floor:
            self.floor = upto
            for ring in self._rings.values():
                ring.trim(upto)

    def compact(self, revision: Revision) -> None:
        """From now on nothing up to `revision` can be asked for."""
        self.compacted = revision
        self._trim(revision)

    def since(self, prefix: str, revision: Revision) -> list[Event] | None:
        """All events under the prefix after `revision`; None when the ring no longer reaches that far back."""
        if revision < self.floor:
            return None
        ring = self._ring(bucket_of(prefix))
        events = ring.events[ring.number_after(revision) - ring.base :]
        return events if bucket_of(prefix) == prefix else [e for e in events if e.entry.key.startswith(prefix)]

    def watch(self, prefix: str, after: Revision) -> "HubWatch":
        if self.closed:
            raise Unavailable("the store is stopped")
        if after < self.compacted:
            raise Compacted(after, self.compacted)
        if after > self.revision:
            raise FutureRevision(after, self.revision)
        watch = HubWatch(self, self._ring(bucket_of(prefix)), prefix, after)
        self.watches.add(watch)
        return watch

    def close(self) -> None:
        self.closed = True
        for ring in self._rings.values():
            ring.wake()

    def statistics(self) -> dict[str, int | float]:
        return {
            "ring_events": sum(len(ring.events) for name, ring in self._rings.items() if name != "/"),
            "ring_bytes": self._size_bytes,
            "watches": len(self.watches),
            "slowest_watch_lag": max((self.revision - watch.position for watch in self.watches), default=0),
        }

    def _ring(self, bucket: str) -> Ring:
        ring = self._rings.get(bucket)
        if ring is None:
            ring = self._rings[bucket] = Ring()
            if bucket == "/":  # someone watches everything: from here on the events stand here too
                ring.events = sorted((e for r in self._rings.values() for e in r.events), key=_revision_of)
        return ring


class HubWatch:
    """A store.contract.Watch. One reader at a time."""

    __slots__ = ("_closed", "_filtered", "_hub", "_number", "_position", "_prefix", "_ring", "_waiter")

    def __init__(self, hub: Hub, ring: Ring, prefix: str, after: Revision) -> None:
        self._hub, self._ring, self._prefix = hub, ring, prefix
        self._filtered = bucket_of(prefix) != prefix
        self._closed = False
        self._waiter: asyncio.Future[None] | None = None
        self._position = after
        #: The number of the next event in the ring; below its base where events are on disk only.
        self._number = ring.number_after(after) if after >= hub.floor else -1

    @property
    def position(self) -> Revision:
        return self._hub.revision if self._number >= self._ring.end else self._position

    async def next_batch(self) -> Sequence[Event]:
        while True:
            if self._closed:
                raise Unavailable("the watch is closed")
            if self._number < self._ring.base:
                batch = await self._read_behind()
            elif self._number < self._ring.end:
                batch = self._read_ring()
            elif self._hub.closed:
                raise Unavailable("the store is stopped")
            else:
                self._position = self._hub.revision
                await self._wait()
                continue
            if batch:
                return batch

    def _read_ring(self) -> list[Event]:
        first = self._number - self._ring.base
        events = self._ring.events[first : first + BATCH]
        self._number += len(events)
        self._position = events[-1].revision
        if self._filtered:
            prefix = self._prefix
            return [event for event in events if event.entry.key.startswith(prefix)]
        return events

    async def _read_behind(self) -> list[Event]:
        hub = self._hub
        if hub.closed:
            raise Unavailable("the store is stopped")
        self._check_kept()
        upto = hub.revision  # the log may hold commits that are not published yet
        events = await hub.read_history(self._prefix, self._position, upto, BATCH)
        self._check_kept()
        self._position = events[-1].revision if len(events) == BATCH else upto
        if self._position >= hub.floor:
            self._number = self._ring.number_after(self._position)
        return events

    def _check_kept(self) -> None:
        if self._position < self._hub.compacted:
            raise Compacted(self._position, self._hub.compacted)

    async def _wait(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiter = waiter
        self._ring.waiting.add(waiter)
        try:
            await waiter
        finally:
            self._ring.waiting.discard(waiter)
            self._waiter = None

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._hub.watches.discard(self)
            if self._waiter and not self._waiter.done():
                self._waiter.set_result(None)
