"""The newest committed state of every key, in memory and in order: what reads are served from.

Keys lie in buckets by their first segment (`/pods/default/web` in `/pods/`), one for each kind of object. A bucket keeps its
keys sorted as they come and go, so a scan sorts nothing. Invariant: what `scan` returned never changes afterwards.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence

from kubelite.store.contract import Entry, Event

#: So many scans of a bucket are kept at most: a client may ask for any prefix.
SCANS_KEPT = 64


def bucket_of(key: str) -> str:
    """The first segment with its slashes; of a key or prefix without one, all of it."""
    return key[: key.find("/", 1) + 1] or key


class Bucket:
    __slots__ = ("entries", "keys", "scans")

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.keys: list[str] = []
        #: Prefix -> its entries in order, until the next write; kept because the same lists come again and again.
        self.scans: dict[str, list[Entry]] = {}

    def span(self, prefix: str) -> tuple[int, int]:
        """Where the keys that start with the prefix stand. Its last character is a slash, and "0" is the one after that."""
        return bisect_left(self.keys, prefix), bisect_left(self.keys, prefix[:-1] + "0")

    def scan(self, prefix: str) -> list[Entry]:
        found = self.scans.get(prefix)
        if found is None:
            first, end = self.span(prefix)
            found = self.scans[prefix] = list(map(self.entries.__getitem__, self.keys[first:end]))
            if len(self.scans) > SCANS_KEPT:
                del self.scans[next(iter(self.scans))]
        return found


class Index:
    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        """`entries` come ordered by key."""
        self._buckets: dict[str, Bucket] = {}
        self.keys = 0
        self.size_bytes = 0
        for entry in entries:
            bucket = self._buckets.setdefault(bucket_of(entry.key), Bucket())
            bucket.entries[entry.key] = entry
            bucket.keys.append(entry.key)
            self.keys += 1
            self.size_bytes += len(entry.value)

    def get(self, key: str) -> Entry | None:
        bucket = self._buckets.get(bucket_of(key))
        return bucket.entries.get(key) if bucket else None

    def apply(self, event: Event) -> None:
        entry = event.entry
        key = entry.key
        name = bucket_of(key)
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = Bucket()
        bucket.scans.clear()
        if event.previous:
            self.size_bytes -= len(event.previous.value)
        if event.deleted:
            del bucket.entries[key]
            del bucket.keys[bisect_left(bucket.keys, key)]
            self.keys -= 1
            return
        bucket.entries[key] = entry
        self.size_bytes += len(entry.value)
        if not event.previous:
            insort(bucket.keys, key)
            self.keys += 1

    def scan(self, prefix: str) -> Sequence[Entry]:
        if prefix == "/":
            return [entry for name, bucket in sorted(self._buckets.items()) for entry in bucket.scan(name)]
        bucket = self._buckets.get(bucket_of(prefix))
        return bucket.scan(prefix) if bucket else []

    def count(self, prefix: str) -> int:
        if prefix == "/":
            return self.keys
        bucket = self._buckets.get(bucket_of(prefix))
        if not bucket:
            return 0
        first, end = bucket.span(prefix)
        return end - first


def rewound(entries: Sequence[Entry], events: Sequence[Event]) -> Sequence[Entry]:
    """What `entries`, ordered by key, were before `events`, all of them under the same prefix and in order."""
    if not events:
        return entries
    state = {entry.key: entry for entry in entries}
    for event in reversed(events):
        if event.previous:
            state[event.entry.key] = event.previous
        else:
            del state[event.entry.key]
    return [state[key] for key in sorted(state)]
