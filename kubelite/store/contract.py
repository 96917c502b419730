"""What a store promises: bytes under keys, one revision a write, and every change to whoever watches.

A store knows keys, bytes and revisions; it knows no kinds, no JSON and no HTTP. Invariants, tested for every backend by
one shared suite:

- a write is acknowledged, readable and published only after it is durable;
- revisions grow by one a write; every event carries its write's revision, and a watch delivers all of them in order, once;
- what a store handed out is never mutated (`Entry.view` and `Event.frame` are scratch space of the one reader, the
  registry, and hold only what can be derived from the bytes).
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeAlias

Revision: TypeAlias = int

#: Makes the bytes of a write once its revision is known. Called at once, exactly once, and must not await.
Encode: TypeAlias = Callable[[Revision], bytes]


class StoreError(Exception):
    """The root of what a store raises. registry/ translates these to ApiErrors, in one place."""


class KeyExists(StoreError):
    """A create found its key taken."""


class KeyNotFound(StoreError):
    """An update or a delete found no such key."""


class Conflict(StoreError):
    """The key's newest revision is not the expected one."""

    def __init__(self, key: str, expected: Revision, actual: Revision) -> None:
        super().__init__(f"{key}: expected revision {expected}, newest is {actual}")
        self.key, self.expected, self.actual = key, expected, actual


class Compacted(StoreError):
    """The revision asked for is no longer kept; `oldest` is the first that a watch may resume after."""

    def __init__(self, asked: Revision, oldest: Revision) -> None:
        super().__init__(f"revision {asked} is compacted, the oldest kept is {oldest}")
        self.asked, self.oldest = asked, oldest


class FutureRevision(StoreError):
    """The revision asked for is newer than the newest one."""

    def __init__(self, asked: Revision, newest: Revision) -> None:
        super().__init__(f"revision {asked} is in the future, the newest is {newest}")
        self.asked, self.newest = asked, newest


class Unavailable(StoreError):
    """A commit failed, or the store is stopping: this write did not happen and may be tried again."""


class Entry:
    """One key's state at one revision. Immutable but for `view`, which the reader fills when it first looks."""

    __slots__ = ("create_revision", "key", "revision", "value", "view")

    def __init__(self, key: str, value: bytes, revision: Revision, create_revision: Revision, view: Any = None) -> None:
        self.key = key
        self.value = value
        self.revision = revision
        self.create_revision = create_revision
        self.view = view

    def __repr__(self) -> str:
        return f"Entry({self.key!r}, revision={self.revision}, {len(self.value)} bytes)"


class Event:
    """One write. `entry` is the state after it (for a deletion: the last state, its bytes written with the deletion's
    revision); `previous` the state before it, None for a creation. `frame` caches the event as watchers of the wire see it."""

    __slots__ = ("deleted", "entry", "frame", "previous")

    def __init__(self, entry: Entry, previous: Entry | None, deleted: bool) -> None:
        self.entry = entry
        self.previous = previous
        self.deleted = deleted
        self.frame: Any = None

    @property
    def revision(self) -> Revision:
        return self.entry.revision

    def __repr__(self) -> str:
        verb = "deleted" if self.deleted else "updated" if self.previous else "created"
        return f"Event({verb} {self.entry!r})"


class Watch(Protocol):
    """A position in the log, not a queue: a slow reader costs no memory and is never cut off before its revision is compacted."""

    @property
    def position(self) -> Revision:
        """Every event up to this revision has been handed out (or lies outside the prefix)."""
        ...

    async def next_batch(self) -> Sequence[Event]:
        """Waits for the next events under the prefix, in order, at least one; a batch is what is there at that moment, bounded.

        Raises:
            Compacted: the position fell behind what is kept.
            Unavailable: the store stopped; everything acknowledged before has been handed out.
        """
        ...

    def close(self) -> None:
        """Ends the watch; a waiting `next_batch` raises Unavailable. Closing twice is fine."""
        ...


class Store(Protocol):
    """The contract. Reads are synchronous and served from memory; a write is checked and queued in the call itself and its
    result awaited: `await store.create(...)`. Cancelling who awaits does not take the write back."""

    async def start(self) -> None:
        """Opens, verifies and loads the data. Raises StoreError naming the remedy when it was written by a newer version or is
        damaged."""
        ...

    async def stop(self) -> None:
        """Commits what is queued, ends every watch and closes."""
        ...

    @property
    def revision(self) -> Revision:
        """The newest readable revision; at least 1."""
        ...

    @property
    def compacted_revision(self) -> Revision:
        """A watch may start after this revision or any later one."""
        ...

    def get(self, key: str) -> Entry | None:
        """The committed state of a key."""
        ...

    def newest(self, key: str) -> Entry | None:
        """The state of a key with the writes that still wait for their commit: what a read-modify-write starts from. Not to be
        shown to a client; a write built on it is acknowledged only after the one it builds on."""
        ...

    def scan(self, prefix: str) -> Sequence[Entry]:
        """The committed entries whose key starts with the prefix, ordered by key. A prefix ends with a slash."""
        ...

    def count(self, prefix: str) -> int: ...

    async def scan_at(self, prefix: str, revision: Revision) -> Sequence[Entry]:
        """`scan` as it was at an earlier revision. Raises Compacted or FutureRevision."""
        ...

    async def wait_revision(self, revision: Revision) -> None:
        """Returns once `revision` is readable. For reads that must be at least that fresh."""
        ...

    def create(self, key: str, encode: Encode, view: Any = None) -> Awaitable[Entry]:
        """Raises KeyExists at once, Unavailable at once or when awaited."""
        ...

    def update(self, key: str, encode: Encode, expected: Revision, view: Any = None) -> Awaitable[Entry]:
        """Replaces the newest state, which must have the expected revision. Raises KeyNotFound, Conflict, Unavailable."""
        ...

    def delete(self, key: str, encode: Encode, expected: Revision, view: Any = None) -> Awaitable[Entry]:
        """Removes the key; `encode` makes the last state that watchers see. Raises as `update` does."""
        ...

    def watch(self, prefix: str, after: Revision) -> Watch:
        """Every event under the prefix with a revision greater than `after`. Raises Compacted or FutureRevision at once."""
        ...

    def statistics(self) -> dict[str, int | float]:
        """Numbers for metrics: keys, bytes, waiting writes, commits, batch sizes, watches, the slowest watch's lag."""
        ...
