"""The end of events: an hour after its last write, an event is removed.

How old an entry is shows in its revision: marks of (time, revision) are taken while the server runs, and an entry whose
revision is older than the mark of an hour ago has expired. So nothing is parsed to find out. After a restart everything
that is stored counts as just written.

Source: kube-apiserver --event-ttl (1 h by default), v1.34.
"""

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import structlog

from kubelite.registry.entries import encoder
from kubelite.store.contract import Conflict, Entry, KeyNotFound, Revision, Unavailable

if TYPE_CHECKING:
    from kubelite.registry.registry import Registry

log = structlog.get_logger()

PREFIX = "/events/"
EVENT_LIFE_S = 3600.0
#: Between two marks, and between two looks for what has expired.
INTERVAL_S = 60.0
#: So many deletions are under way at once, so that they don't crowd out other writes.
CONCURRENCY = 32


class Expiry:
    """Removes expired events while it runs."""

    def __init__(self, registry: "Registry", life_s: float = EVENT_LIFE_S, interval_s: float = INTERVAL_S) -> None:
        self._registry = registry
        self._life_s = life_s
        self._interval_s = interval_s
        self._marks: deque[tuple[float, Revision]] = deque()

    async def run(self) -> None:
        while True:
            await self.step(asyncio.get_running_loop().time())
            await asyncio.sleep(self._interval_s)

    async def step(self, now: float) -> None:
        """Takes a mark and removes what was last written before the mark that is old enough."""
        marks = self._marks
        marks.append((now, self._registry.store.revision))
        expired: Revision = 0
        while marks and marks[0][0] <= now - self._life_s:
            expired = marks.popleft()[1]
        if not expired:
            return
        old = [entry for entry in self._registry.store.scan(PREFIX) if entry.revision <= expired]
        for start in range(0, len(old), CONCURRENCY):
            await asyncio.gather(*(self._remove(entry) for entry in old[start : start + CONCURRENCY]))
        if old:
            log.info("events_expired", count=len(old))

    async def _remove(self, entry: Entry) -> None:
        obj = self._registry.parsed(entry)
        final = {**obj, "metadata": dict(obj["metadata"])}
        view = self._registry.entries.view_of(self._registry.kinds.preferred("events"), final)
        try:
            await self._registry.store.delete(entry.key, encoder(final), entry.revision, view)
        except (Conflict, KeyNotFound, Unavailable):
            return  # written again, or gone, or tried again at the next step
