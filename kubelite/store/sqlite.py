"""The embedded store: one writer, group commit, everything that is read held in memory.

A write is checked against the newest state of its key (writes that still wait included), given its revision and queued, all in
the call. One task takes whatever waits, has it committed in one hop to the log's thread, and only then applies it to the index,
publishes it to the hub and acknowledges it, in that order and without giving up the loop in between. So a read never returns
what is not durable, and whoever was acknowledged reads its own write.

When a commit fails, the writes behind it were built on it and fail with it. Writes are refused from then on, except for one try
every `retry_s`, until one succeeds. Revisions that were lost that way are never given out again.
"""

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence
from heapq import heappop, heappush
from os import PathLike
from typing import Any

import structlog

from kubelite.store.compaction import Compaction
from kubelite.store.contract import (
    Compacted,
    Conflict,
    Encode,
    Entry,
    Event,
    FutureRevision,
    KeyExists,
    KeyNotFound,
    Revision,
    Unavailable,
    Watch,
)
from kubelite.store.hub import BATCH, Hub
from kubelite.store.index import Index, rewound
from kubelite.store.log import Log, Seal

#: The most writes in one transaction; bounds the statement, and how long the writes behind it wait.
MAX_BATCH = 256
#: The most bytes in one transaction, beyond its first write.
MAX_BATCH_BYTES = 4 << 20

logger = structlog.get_logger()


class SqliteStore:
    """A store.contract.Store in one SQLite file.

    `window_s`: how long history is kept. `ring_bytes`: how much of it in memory; watches from before are served from the file.
    `max_waiting`: writes that may wait for their commit; further ones are refused with Unavailable. `seal`: makes, at the start,
    what encrypts the values under the prefixes in `sealed`; in memory they are as they were written.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        window_s: float = 300.0,
        ring_bytes: int = 32 << 20,
        retry_s: float = 0.5,
        max_waiting: int = 20_000,
        clock: Callable[[], float] = time.monotonic,
        seal: Callable[[], Seal] | None = None,
        sealed: tuple[str, ...] = (),
    ) -> None:
        self._log = Log(path, seal, sealed)
        self._window_s, self._ring_bytes, self._retry_s, self._max_waiting = window_s, ring_bytes, retry_s, max_waiting
        self._clock = clock
        self._index = Index()
        self._hub = Hub(self._read_history, 1, 0, ring_bytes)
        self._compaction = Compaction(self._log, self._hub, window_s, clock)
        self._next: Revision = 2
        self._queue: list[tuple[Event, asyncio.Future[Entry]]] = []
        self._in_flight = 0
        #: The newest state of each key whose write still waits.
        self._pending: dict[str, Event] = {}
        self._wake = asyncio.Event()
        self._refusal = "the store is not started"
        self._retry_at: float | None = None
        self._stopping = False
        self._waiters: list[tuple[Revision, int, asyncio.Future[None]]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._counts = {"writes": 0, "commits": 0, "commit_failures": 0, "largest_batch": 0}

    # Life

    async def start(self) -> None:
        loaded = await self._log.open()
        self._index = Index(loaded.entries)
        self._hub = Hub(self._read_history, loaded.revision, loaded.compacted, self._ring_bytes)
        self._compaction = Compaction(self._log, self._hub, self._window_s, self._clock)
        self._next = loaded.revision + 1
        self._refusal = ""
        self._tasks = [
            asyncio.create_task(self._write(), name="store-writer"),
            asyncio.create_task(self._compaction.run(), name="store-compaction"),
        ]
        for task in self._tasks:
            task.add_done_callback(self._ended)

    async def stop(self) -> None:
        if self._stopping:
            return
        self._stopping = True
        self._refusal, self._retry_at = "the store is stopping", None
        self._wake.set()
        if self._tasks:
            writer, compaction = self._tasks
            await asyncio.wait([writer])  # it ends when nothing waits any more
            compaction.cancel()
            await asyncio.wait([compaction])
        self._hub.close()
        for _, _, waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(Unavailable("the store is stopped"))
        try:
            await self._log.close()
        except sqlite3.Error as e:  # what was acknowledged is durable all the same; the next start checks more thoroughly
            logger.warning("store_close_failed", error=str(e))

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None or not self._stopping:
            self._refusal, self._retry_at = f"{task.get_name()} ended: {error!r}. Restart kubelite", None
            self._fail_waiting(self._refusal)
            logger.critical("store_task_ended", task=task.get_name(), error=repr(error), exc_info=error)

    # Reads

    @property
    def revision(self) -> Revision:
        return self._hub.revision

    @property
    def compacted_revision(self) -> Revision:
        return self._hub.compacted

    def get(self, key: str) -> Entry | None:
        return self._index.get(key)

    def newest(self, key: str) -> Entry | None:
        event = self._pending.get(key)
        if event is None:
            return self._index.get(key)
        return None if event.deleted else event.entry

    def scan(self, prefix: str) -> Sequence[Entry]:
        return self._index.scan(prefix)

    def count(self, prefix: str) -> int:
        return self._index.count(prefix)

    async def scan_at(self, prefix: str, revision: Revision) -> Sequence[Entry]:
        self._check_kept(revision)
        entries, upto = self._index.scan(prefix), self.revision
        events = self._hub.since(prefix, revision)
        if events is None:
            events = []
            after = revision
            while page := await self._read_history(prefix, after, upto, BATCH):
                events += page
                after = page[-1].revision
            self._check_kept(revision)
        return rewound(entries, events)

    def _check_kept(self, revision: Revision) -> None:
        if revision < self.compacted_revision:
            raise Compacted(revision, self.compacted_revision)
        if revision > self.revision:
            raise FutureRevision(revision, self.revision)

    async def wait_revision(self, revision: Revision) -> None:
        if revision <= self.revision:
            return
        if self._stopping:
            raise Unavailable("the store is stopped")
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heappush(self._waiters, (revision, id(waiter), waiter))
        await waiter

    def watch(self, prefix: str, after: Revision) -> Watch:
        return self._hub.watch(prefix, after)

    def statistics(self) -> dict[str, int | float]:
        return {
            "keys": self._index.keys,
            "bytes": self._index.size_bytes,
            "revision": self.revision,
            "compacted_revision": self.compacted_revision,
            "waiting_writes": len(self._queue) + self._in_flight,
            "writable": int(not self._refusal),
            **self._counts,
            **self._hub.statistics(),
        }

    async def compact(self, revision: Revision) -> None:
        """Forgets the history up to a revision now, without waiting for the window."""
        await self._compaction.to(revision)

    async def _read_history(self, prefix: str, after: Revision, upto: Revision, limit: int) -> list[Event]:
        try:
            return await self._log.history(prefix, after, upto, limit)
        except (sqlite3.Error, ValueError) as e:
            raise Unavailable(f"history can't be read from {self._log.path}: {e}") from e

    # Writes

    def create(self, key: str, encode: Encode, view: Any = None) -> Awaitable[Entry]:
        if self.newest(key) is not None:
            raise KeyExists(key)
        return self._enqueue(key, None, encode, False, view)

    def update(self, key: str, encode: Encode, expected: Revision, view: Any = None) -> Awaitable[Entry]:
        return self._enqueue(key, self._expect(key, expected), encode, False, view)

    def delete(self, key: str, encode: Encode, expected: Revision, view: Any = None) -> Awaitable[Entry]:
        return self._enqueue(key, self._expect(key, expected), encode, True, view)

    def _expect(self, key: str, expected: Revision) -> Entry:
        entry = self.newest(key)
        if entry is None:
            raise KeyNotFound(key)
        if entry.revision != expected:
            raise Conflict(key, expected, entry.revision)
        return entry

    def _enqueue(self, key: str, previous: Entry | None, encode: Encode, deleted: bool, view: Any) -> Awaitable[Entry]:
        if self._refusal and (self._retry_at is None or self._clock() < self._retry_at):
            raise Unavailable(self._refusal)
        if len(self._queue) >= self._max_waiting:
            raise Unavailable(f"{len(self._queue)} writes wait for their commit already, try again later")
        revision = self._next
        value = encode(revision)
        self._next = revision + 1
        entry = Entry(key, value, revision, previous.create_revision if previous else revision, view)
        event = Event(entry, previous, deleted)
        future: asyncio.Future[Entry] = asyncio.get_running_loop().create_future()
        self._pending[key] = event
        self._queue.append((event, future))
        if not self._in_flight:
            self._wake.set()
        return future

    async def _write(self) -> None:
        """The one writer: commits what waits, as much at once as fits, until the store stops and nothing waits."""
        while True:
            if not self._queue:
                if self._stopping:
                    return
                self._wake.clear()
                await self._wake.wait()
                continue
            batch = self._take_batch()
            events = [event for event, _ in batch]
            self._in_flight = len(batch)
            try:
                await self._log.append(events)
            except (sqlite3.Error, ValueError) as e:  # ValueError: a key that is no Unicode
                self._in_flight = 0
                self._failed(batch, str(e))
            else:
                self._in_flight = 0
                self._committed(events, batch)

    def _take_batch(self) -> list[tuple[Event, asyncio.Future[Entry]]]:
        size = taken = 0
        for event, _ in self._queue[:MAX_BATCH]:
            size += len(event.entry.value)
            if taken and size > MAX_BATCH_BYTES:
                break
            taken += 1
        batch, self._queue = self._queue[:taken], self._queue[taken:]
        return batch

    def _committed(self, events: list[Event], batch: list[tuple[Event, asyncio.Future[Entry]]]) -> None:
        pending, apply = self._pending, self._index.apply
        size = 0
        for event in events:
            apply(event)
            entry = event.entry
            size += len(entry.value) + 100
            if pending.get(entry.key) is event:
                del pending[entry.key]
        if self._retry_at is not None:
            self._refusal, self._retry_at = "", None
            logger.info("store_writable_again", path=str(self._log.path))
        self._hub.publish(events)
        for event, future in batch:
            if not future.done():  # who waited may have been cancelled; the write counts all the same
                future.set_result(event.entry)
        while self._waiters and self._waiters[0][0] <= self.revision:
            waiter = heappop(self._waiters)[2]
            if not waiter.done():
                waiter.set_result(None)
        counts = self._counts
        counts["writes"] += len(events)
        counts["commits"] += 1
        counts["largest_batch"] = max(counts["largest_batch"], len(events))
        self._compaction.written(size)

    def _failed(self, batch: list[tuple[Event, asyncio.Future[Entry]]], error: str) -> None:
        self._counts["commit_failures"] += 1
        reason = f"writing to {self._log.path} failed: {error}. Writes are refused until one succeeds again, reads go on"
        if not self._stopping:
            self._refusal, self._retry_at = reason, self._clock() + self._retry_s
        logger.error("store_commit_failed", path=str(self._log.path), error=error, writes_lost=len(batch) + len(self._queue))
        self._queue = batch + self._queue
        self._fail_waiting(reason)

    def _fail_waiting(self, reason: str) -> None:
        queue, self._queue = self._queue, []
        self._pending.clear()
        for _, future in queue:
            if not future.done():
                future.set_exception(Unavailable(reason))
