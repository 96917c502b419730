"""Forgets history that is older than the window, and keeps the write-ahead log short; neither may hold up a write.

Compaction first moves the compacted revision in memory, so that nobody asks for what is about to go, then deletes the rows in
small steps between commits, resting after each so that the writer's thread is mostly free. Its clock runs from the start of
the process: what an earlier one wrote counts as written at the start.

Copying the write-ahead log into the database happens beside the writer; only the few pages that were written meanwhile are
copied by the writer itself, after which SQLite uses that file from its beginning again.
"""

import asyncio
import contextlib
import sqlite3
import time
from collections import deque
from collections.abc import Callable

import structlog

from kubelite.store.contract import FutureRevision, Revision
from kubelite.store.hub import Hub
from kubelite.store.log import Log

#: Revisions whose history one step deletes: a few milliseconds of the writer's thread.
STEP = 250
#: Bytes written to the log after which it is worth copying it into the database.
CHECKPOINT_BYTES = 8 << 20
#: Pages that the writer may copy itself between two commits.
FEW_PAGES = 250

logger = structlog.get_logger()


class Compaction:
    def __init__(self, log: Log, hub: Hub, window_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._log, self._hub, self._window_s, self._clock = log, hub, window_s, clock
        self._marks: deque[tuple[float, Revision]] = deque()
        self._deleted_upto = hub.compacted
        self._unflushed_bytes = 0
        self._much_written = asyncio.Event()
        self._deleting = asyncio.Lock()

    def written(self, size_bytes: int) -> None:
        """The writer tells what it committed."""
        self._unflushed_bytes += size_bytes
        if self._unflushed_bytes >= CHECKPOINT_BYTES:
            self._much_written.set()

    async def run(self) -> None:
        """Keeps the window and the write-ahead log, until cancelled."""
        tick_s = max(0.01, self._window_s / 10)
        self.mark()
        while True:
            with contextlib.suppress(TimeoutError):  # the ordinary tick
                await asyncio.wait_for(self._much_written.wait(), tick_s)
            try:
                if self._much_written.is_set():
                    await self.checkpoint()
                self.mark()
                await self.to(self.due())
            except sqlite3.Error as e:  # a full disk, for one: the next tick tries again
                logger.warning("store_compaction_failed", error=str(e))
                await asyncio.sleep(tick_s)

    def mark(self) -> None:
        """Notes which revision is the newest now."""
        now = self._clock()
        # Under load this comes more often than a tick; ten marks a window are enough.
        if not self._marks or now - self._marks[-1][0] >= self._window_s / 10:
            self._marks.append((now, self._hub.revision))

    def due(self) -> Revision:
        """The newest revision that was written before the window."""
        revision = self._hub.compacted
        while self._marks and self._marks[0][0] <= self._clock() - self._window_s:
            revision = max(revision, self._marks.popleft()[1])
        return revision

    async def to(self, revision: Revision) -> None:
        """Compacts up to a revision: the states at that revision stay, what led there goes."""
        if revision > self._hub.revision:
            raise FutureRevision(revision, self._hub.revision)
        if revision > self._hub.compacted:
            self._hub.compact(revision)
        async with self._deleting:
            while self._deleted_upto < revision:
                upto = min(revision, self._deleted_upto + STEP)
                begun = time.monotonic()
                await self._log.compact(self._deleted_upto, upto)
                self._deleted_upto = upto
                await asyncio.sleep(2 * (time.monotonic() - begun))

    async def checkpoint(self) -> None:
        """Copies the write-ahead log into the database."""
        self._much_written.clear()
        self._unflushed_bytes = 0
        for _attempt in range(3):  # under heavy load the rest stays large: then the writer has more to copy, once
            if await self._log.checkpoint() <= FEW_PAGES:
                break
        await self._log.checkpoint(finish=True)
