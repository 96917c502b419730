"""Watch: the store's events of a kind as a client of that kind sees them.

A watch is a position in the store's log. With selectors, an object that starts to match is ADDED and one that stops is
DELETED, whatever happened to it. Each event is framed once for all watchers that see it the same way. A watch that starts
at a compacted revision fails at its first batch, so that it reaches the client as an event of the stream.

Source: apiserver pkg/storage/cacher and etcd3/watcher.go, KEP-956 (bookmarks), KEP-3157 (sendInitialEvents), v0.34.
"""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import orjson

from kubelite.meta import errors
from kubelite.registry import faults, lists, selection
from kubelite.registry.contract import ListOptions, Target, View
from kubelite.store.contract import Entry, Event, Revision, StoreError, Watch

if TYPE_CHECKING:
    from kubelite.registry.registry import Registry

WatchType: TypeAlias = Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]

BOOKMARK_INTERVAL_S = 60.0
#: The last bookmark comes so long before the watch's end.
BOOKMARK_LEAD_S = 2.0
INITIAL_EVENTS_END = "k8s.io/initial-events-end"

#: So many initial objects make a batch.
_INITIAL_BATCH = 500


class WatchItem(NamedTuple):
    """One event for one client. `event` is None for initial objects and bookmarks."""

    type: WatchType
    entry: Entry
    event: Event | None


class RegistryWatch:
    """One client's watch. `next_batch` until it raises; `close` ends it from anywhere."""

    def __init__(self, registry: "Registry", target: Target, options: ListOptions) -> None:
        self._registry = registry
        self._entries = registry.entries
        self._kind = target.kind
        self._chosen = selection.of(target.kind, options.label_selector, options.field_selector)
        self._matches = None if self._chosen.is_everything else registry.entries.matcher(target.kind, self._chosen)
        self._converts = target.kind.custom or target.kind.stored_as is not None
        self._prefix = target.kind.namespace_prefix(target.namespace)
        self._initial: Sequence[Entry] = ()
        self._initial_position = 0
        self._end_of_initial = False
        self._skip_to: Revision = 0
        self._fault: errors.ApiError | None = None
        self._watch: Watch | None = None
        loop = asyncio.get_running_loop()
        self._now = loop.time
        self._last_bookmark_at = loop.time() + options.timeout_s - BOOKMARK_LEAD_S if options.timeout_s else None
        self._bookmark_at = self._next_bookmark() if options.allow_watch_bookmarks else None
        self._start(options)

    def _start(self, options: ListOptions) -> None:
        store = self._registry.store
        after = lists.parse_revision(options.resource_version)
        initial = options.send_initial_events is True or (after == 0 and options.send_initial_events is None)
        if initial:
            # A scan at the newest revision is at least as fresh as what was asked for, unless that is in the future.
            self._initial_revision = after = max(after, store.revision)
            if after == store.revision:
                self._take_initial(options)
            else:
                self._pending = options  # taken once the revision is there
        elif after == 0:
            after = store.revision
        self._revision = after
        try:
            self._watch = store.watch(self._prefix, min(after, store.revision))
            self._skip_to = after
        except StoreError as e:
            self._fault = faults.of_read(e, self._kind, "watch")

    _pending: ListOptions | None = None
    _initial_revision: Revision = 0

    def _take_initial(self, options: ListOptions) -> None:
        entries = self._registry.store.scan(self._prefix)
        is_wanted = self._matches
        if is_wanted is None or self._entries.conversions.needs(self._kind):
            self._initial = entries  # what a webhook converts is selected after that
        else:
            self._initial = [entry for entry in entries if is_wanted(entry)]
        self._end_of_initial = options.send_initial_events is True and options.allow_watch_bookmarks

    async def next_batch(self) -> list[WatchItem]:
        """The next events, at least one, in order.

        Raises:
            Expired: the position is compacted: list again.
            ServerTimeout: the store stopped.
        """
        if self._fault is not None:
            raise self._fault
        if self._pending is not None:
            await self._await_initial(self._pending)
        while self._initial_position < len(self._initial):
            batch = await self._initial_batch()
            if batch:
                return batch
        if self._end_of_initial:
            self._end_of_initial = False
            self._initial = ()
            return [self._bookmark(self._initial_revision, initial_end=True)]
        assert self._watch is not None
        while True:
            try:
                if self._bookmark_at is None:
                    events = await self._watch.next_batch()
                else:
                    async with asyncio.timeout_at(self._bookmark_at):
                        events = await self._watch.next_batch()
            except TimeoutError:
                self._bookmark_at = self._next_bookmark()
                position = self._watch.position
                if position <= self._skip_to:
                    position = self._skip_to
                return [self._bookmark(position)]
            except StoreError as e:
                raise faults.of_read(e, self._kind, "watch") from e
            if self._skip_to and events and events[0].revision <= self._skip_to:
                events = [event for event in events if event.revision > self._skip_to]
            if self._kind.custom:
                self._follow_definition()
                both = (entry for event in events for entry in (event.entry, event.previous))
                await self._entries.conversions.prepare(self._kind, both)
            items = self._select(events)
            if items:
                return items

    async def _await_initial(self, options: ListOptions) -> None:
        await lists.wait_fresh(self._registry.store, self._initial_revision)
        self._pending = None
        store = self._registry.store
        if self._watch is not None:
            self._watch.close()
        self._skip_to = self._initial_revision = store.revision
        self._watch = store.watch(self._prefix, store.revision)
        self._take_initial(options)

    def _follow_definition(self) -> None:
        """A definition that changed has new rows; the watch goes on with the one that took its row's place."""
        kind = self._registry.kinds.resource(self._kind.group, self._kind.version, self._kind.plural)
        if kind is not None and kind is not self._kind:
            self._kind = kind
            if self._matches is not None:
                self._matches = self._entries.matcher(kind, self._chosen)

    async def _initial_batch(self) -> list[WatchItem]:
        start = self._initial_position
        self._initial_position = end = min(start + _INITIAL_BATCH, len(self._initial))
        batch = self._initial[start:end]
        if self._entries.conversions.needs(self._kind):
            await self._entries.conversions.prepare(self._kind, batch)
            if self._matches is not None:
                batch = [entry for entry in batch if self._matches(entry)]
        if self._converts:
            return [WatchItem("ADDED", self._entries.in_version(entry, self._kind), None) for entry in batch]
        return [WatchItem("ADDED", entry, None) for entry in batch]

    def _select(self, events: Sequence[Event]) -> list[WatchItem]:
        matches = self._matches
        if matches is None:
            items = [
                WatchItem("DELETED" if event.deleted else "ADDED" if event.previous is None else "MODIFIED", event.entry, event)
                for event in events
            ]
        else:
            items = []
            for event in events:
                entry, previous = event.entry, event.previous
                before = previous is not None and matches(previous)
                now = not event.deleted and matches(entry)
                if now:
                    items.append(WatchItem("MODIFIED" if before else "ADDED", entry, event))
                elif before and previous is not None:
                    items.append(WatchItem("DELETED", entry if event.deleted else self._gone(event, previous), event))
        if self._converts:
            convert, kind = self._entries.in_version, self._kind
            return [WatchItem(item.type, convert(item.entry, kind), item.event) for item in items]
        return items

    def _gone(self, event: Event, previous: Entry) -> Entry:
        """The last matching state of an object that lives on, at the revision of the event that ended the match."""
        obj = self._entries.object_in(previous, self._kind) if self._kind.custom else self._entries.parsed(previous)
        obj = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(event.revision)}}
        return Entry(previous.key, orjson.dumps(obj), event.revision, previous.create_revision)

    def frame(self, item: WatchItem) -> bytes:
        """`{"type":...,"object":...}` and a newline, cached on the store's event for the next watcher."""
        event = item.event
        if event is None:
            return b'{"type":"%b","object":%b}\n' % (item.type.encode(), item.entry.value)
        frames: dict[object, bytes] | None = event.frame
        if frames is None:
            frames = event.frame = {}
        key: object = (item.type, self._kind.version, self._kind.group) if self._converts else item.type
        framed = frames.get(key)
        if framed is None:
            framed = frames[key] = b'{"type":"%b","object":%b}\n' % (item.type.encode(), item.entry.value)
        return framed

    def _bookmark(self, revision: Revision, initial_end: bool = False) -> WatchItem:
        meta: dict[str, object] = {"resourceVersion": str(revision), "creationTimestamp": None}
        if initial_end:
            meta["annotations"] = {INITIAL_EVENTS_END: "true"}
        body = {"kind": self._kind.kind, "apiVersion": self._kind.api_version, "metadata": meta}
        return WatchItem("BOOKMARK", Entry("", orjson.dumps(body), revision, 0, View({}, {}, body)), None)

    def _next_bookmark(self) -> float:
        now = self._now()
        usual = now + BOOKMARK_INTERVAL_S
        last = self._last_bookmark_at
        return last if last is not None and now < last < usual else usual

    def close(self) -> None:
        """Ends the watch; a waiting `next_batch` raises."""
        if self._watch is not None:
            self._watch.close()


def check_watch(options: ListOptions) -> None:
    """Raises Invalid for parameters of a watch that exclude each other."""
    match = options.resource_version_match
    causes = []
    if options.send_initial_events is not None and match != "NotOlderThan":
        causes.append(
            errors.forbidden("resourceVersionMatch", "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan")
        )
    if match:
        if options.send_initial_events is None:
            causes.append(
                errors.forbidden(
                    "resourceVersionMatch",
                    "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                )
            )
        if match != "NotOlderThan":
            causes.append(errors.not_supported("resourceVersionMatch", match, ("NotOlderThan",)))
    if options.continue_token:
        causes.append(errors.forbidden("resourceVersionMatch", "resourceVersionMatch is forbidden when continue is provided"))
    lists.raise_invalid_options(causes)
