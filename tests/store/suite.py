"""The store contract's shared suite. A backend's test module says `from tests.store.suite import *` and gives a fixture
`make_store`: an async function that returns a started store, the same data again when it is called a second time in a test
(the store before it was stopped then)."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
import pytest_asyncio

from kubelite.store.contract import (
    Compacted,
    Conflict,
    Entry,
    Event,
    FutureRevision,
    KeyExists,
    KeyNotFound,
    Revision,
    Store,
    Unavailable,
    Watch,
)

MakeStore = Callable[[], Awaitable[Store]]


def text(value: str) -> Callable[[Revision], bytes]:
    """Encodes as the registry does: the revision is part of the bytes."""
    return lambda revision: f"{value}@{revision}".encode()


async def collect(watch: Watch, count: int) -> list[Event]:
    """The next `count` events, and no more than those."""
    events: list[Event] = []
    async with asyncio.timeout(30):
        while len(events) < count:
            events += await watch.next_batch()
    assert len(events) == count
    return events


def seen(events: list[Event]) -> list[tuple[str, Revision, bytes, bytes | None]]:
    verbs = [("deleted" if e.deleted else "updated" if e.previous else "created") for e in events]
    return [
        (f"{verb} {e.entry.key}", e.revision, e.entry.value, e.previous.value if e.previous else None)
        for verb, e in zip(verbs, events, strict=True)
    ]


@pytest_asyncio.fixture
async def store(make_store: MakeStore) -> Store:
    return await make_store()


class TestWrites:
    async def test_a_created_key_is_readable_with_the_bytes_made_for_its_revision(self, store: Store) -> None:
        before = store.revision
        entry = await store.create("/pods/default/web", text("a"))
        assert entry.revision == entry.create_revision == before + 1 == store.revision
        assert entry.value == f"a@{entry.revision}".encode()
        assert store.get("/pods/default/web") is entry

    async def test_an_empty_store_has_a_revision_to_watch_from(self, store: Store) -> None:
        assert store.revision >= 1
        assert store.compacted_revision <= store.revision
        assert store.get("/pods/default/web") is None
        assert list(store.scan("/pods/")) == []
        assert store.count("/pods/") == 0

    async def test_the_view_given_with_a_write_stays_with_its_entry(self, store: Store) -> None:
        view = {"labels": {}}
        entry = await store.create("/pods/default/web", text("a"), view)
        assert entry.view is view
        assert store.get("/pods/default/web") is entry

    async def test_a_second_create_of_a_key_is_refused(self, store: Store) -> None:
        await store.create("/pods/default/web", text("a"))
        with pytest.raises(KeyExists):
            await store.create("/pods/default/web", text("b"))

    async def test_a_create_behind_a_waiting_create_of_the_key_is_refused_at_once(self, store: Store) -> None:
        first = store.create("/pods/default/web", text("a"))
        with pytest.raises(KeyExists):
            store.create("/pods/default/web", text("b"))
        await first

    async def test_an_update_keeps_the_create_revision_and_takes_a_new_one(self, store: Store) -> None:
        created = await store.create("/pods/default/web", text("a"))
        updated = await store.update("/pods/default/web", text("b"), created.revision)
        assert (updated.create_revision, updated.revision) == (created.revision, created.revision + 1)
        assert store.get("/pods/default/web") is updated
        assert created.value == f"a@{created.revision}".encode()

    async def test_an_update_from_an_old_revision_conflicts_and_names_both(self, store: Store) -> None:
        created = await store.create("/pods/default/web", text("a"))
        updated = await store.update("/pods/default/web", text("b"), created.revision)
        with pytest.raises(Conflict) as raised:
            await store.update("/pods/default/web", text("c"), created.revision)
        assert (raised.value.expected, raised.value.actual) == (created.revision, updated.revision)
        assert store.get("/pods/default/web") is updated

    async def test_update_and_delete_of_a_missing_key_are_refused(self, store: Store) -> None:
        with pytest.raises(KeyNotFound):
            await store.update("/pods/default/web", text("a"), 1)
        with pytest.raises(KeyNotFound):
            await store.delete("/pods/default/web", text("a"), 1)

    async def test_a_deleted_key_is_gone_and_may_be_created_again(self, store: Store) -> None:
        created = await store.create("/pods/default/web", text("a"))
        last = await store.delete("/pods/default/web", text("last"), created.revision)
        assert last.value == f"last@{last.revision}".encode()
        assert store.get("/pods/default/web") is None
        assert store.count("/pods/") == 0
        again = await store.create("/pods/default/web", text("b"))
        assert again.create_revision == again.revision > last.revision

    async def test_writes_build_on_writes_that_still_wait(self, store: Store) -> None:
        created = store.create("/pods/default/web", text("a"))
        waiting = store.newest("/pods/default/web")
        assert waiting is not None
        assert store.get("/pods/default/web") is None  # not durable, so not readable
        updated = store.update("/pods/default/web", text("b"), waiting.revision)
        deleted = store.delete("/pods/default/web", text("c"), waiting.revision + 1)
        assert store.newest("/pods/default/web") is None
        again = store.create("/pods/default/web", text("d"))
        revisions = [(await done).revision for done in (created, updated, deleted, again)]
        assert revisions == list(range(revisions[0], revisions[0] + 4))
        entry = store.get("/pods/default/web")
        assert entry is not None and entry.value == f"d@{revisions[3]}".encode()

    async def test_a_refused_write_uses_no_revision(self, store: Store) -> None:
        created = await store.create("/pods/default/web", text("a"))
        with pytest.raises(Conflict):
            await store.update("/pods/default/web", text("b"), created.revision + 7)
        assert (await store.create("/pods/default/db", text("c"))).revision == created.revision + 1

    async def test_an_encode_that_fails_changes_nothing(self, store: Store) -> None:
        def broken(_: Revision) -> bytes:
            raise ValueError("no bytes")

        before = store.revision
        with pytest.raises(ValueError, match="no bytes"):
            await store.create("/pods/default/web", broken)
        assert store.newest("/pods/default/web") is None
        assert (await store.create("/pods/default/web", text("a"))).revision == before + 1

    async def test_cancelling_who_waits_does_not_take_the_write_back(self, store: Store) -> None:
        watch = store.watch("/pods/", store.revision)

        async def write() -> None:
            await store.create("/pods/default/web", text("a"))

        task = asyncio.create_task(write())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await collect(watch, 1)
        assert store.get("/pods/default/web") is not None

    async def test_many_concurrent_writes_get_distinct_growing_revisions(self, store: Store) -> None:
        before = store.revision
        writes = [store.create(f"/pods/default/web-{i}", text("a")) for i in range(1000)]
        entries = [await write for write in writes]
        assert [e.revision for e in entries] == list(range(before + 1, before + 1001))

    async def test_wait_revision_returns_once_it_is_readable(self, store: Store) -> None:
        await store.wait_revision(store.revision)
        waiting = asyncio.create_task(store.wait_revision(store.revision + 2))
        await store.create("/pods/default/a", text("a"))
        await asyncio.sleep(0)
        assert not waiting.done()
        await store.create("/pods/default/b", text("a"))
        async with asyncio.timeout(30):
            await waiting


class TestScans:
    async def test_a_scan_is_ordered_and_ends_at_its_prefix(self, store: Store) -> None:
        keys = ["/pods/b/z", "/pods/a/z", "/pods/a/b", "/pods/a-b/c", "/pods/a.b/c"]
        keys += ["/pods.metrics/a/b", "/pod/a/b", "/podsx/a/b"]
        for key in keys:
            await store.create(key, text("v"))
        assert [e.key for e in store.scan("/pods/")] == ["/pods/a-b/c", "/pods/a.b/c", "/pods/a/b", "/pods/a/z", "/pods/b/z"]
        assert [e.key for e in store.scan("/pods/a/")] == ["/pods/a/b", "/pods/a/z"]
        assert [e.key for e in store.scan("/pods/none/")] == []
        assert [e.key for e in store.scan("/")] == sorted(keys)
        assert (store.count("/pods/"), store.count("/pods/a/"), store.count("/")) == (5, 2, 8)

    async def test_a_scan_that_was_returned_never_changes(self, store: Store) -> None:
        entry = await store.create("/pods/a/a", text("v"))
        before, before_in_a = store.scan("/pods/"), store.scan("/pods/a/")
        await store.create("/pods/a/b", text("v"))
        await store.delete("/pods/a/a", text("v"), entry.revision)
        assert list(before) == list(before_in_a) == [entry]
        for prefix in ("/pods/", "/pods/a/"):
            assert [e.key for e in store.scan(prefix)] == ["/pods/a/b"]

    async def test_a_scan_at_an_earlier_revision_shows_what_was_then(self, store: Store) -> None:
        a = await store.create("/pods/a/a", text("a1"))
        b = await store.create("/pods/a/b", text("b1"))
        a2 = await store.update("/pods/a/a", text("a2"), a.revision)
        await store.delete("/pods/a/b", text("b2"), b.revision)
        await store.create("/pods/b/c", text("c1"))

        async def at(prefix: str, revision: Revision) -> list[tuple[str, Revision, bytes]]:
            return [(e.key, e.revision, e.value) for e in await store.scan_at(prefix, revision)]

        def state(*entries: Entry) -> list[tuple[str, Revision, bytes]]:
            return [(e.key, e.revision, e.value) for e in entries]

        assert await at("/pods/", a.revision) == state(a)
        assert await at("/pods/", b.revision) == state(a, b)
        assert await at("/pods/", a2.revision) == state(a2, b)
        assert await at("/pods/a/", store.revision) == state(a2)
        assert await at("/pods/", store.revision) == state(*store.scan("/pods/"))
        with pytest.raises(FutureRevision):
            await store.scan_at("/pods/", store.revision + 1)


class TestWatches:
    async def test_a_watch_delivers_each_write_in_order_with_what_was_before(self, store: Store) -> None:
        watch = store.watch("/pods/", store.revision)
        a = await store.create("/pods/a/web", text("1"))
        await store.create("/services/a/web", text("other"))
        b = await store.update("/pods/a/web", text("2"), a.revision)
        c = await store.delete("/pods/a/web", text("3"), b.revision)
        assert seen(await collect(watch, 3)) == [
            ("created /pods/a/web", a.revision, a.value, None),
            ("updated /pods/a/web", b.revision, b.value, a.value),
            ("deleted /pods/a/web", c.revision, c.value, b.value),
        ]
        assert watch.position == store.revision

    async def test_all_watches_get_the_same_event_objects(self, store: Store) -> None:
        one, other = store.watch("/pods/", store.revision), store.watch("/pods/a/", store.revision)
        entry = await store.create("/pods/a/web", text("1"))
        (first,), (second,) = await collect(one, 1), await collect(other, 1)
        assert first is second
        assert first.entry is entry is store.get("/pods/a/web")

    async def test_a_watch_of_a_namespace_gets_only_its_events_and_moves_on_with_the_others(self, store: Store) -> None:
        watch = store.watch("/pods/a/", store.revision)
        waiting = asyncio.create_task(watch.next_batch())
        for i in range(3):
            await store.create(f"/pods/b/{i}", text("1"))
        assert not waiting.done()
        assert watch.position == store.revision
        await store.create("/pods/a/x", text("1"))
        async with asyncio.timeout(30):
            assert [e.entry.key for e in await waiting] == ["/pods/a/x"]

    async def test_a_watch_of_everything_gets_every_kind_in_order(self, store: Store) -> None:
        start = store.revision
        await store.create("/pods/a/x", text("1"))
        await store.create("/services/a/x", text("1"))
        watch = store.watch("/", start)
        await store.create("/nodes/x", text("1"))
        assert [e.entry.key for e in await collect(watch, 3)] == ["/pods/a/x", "/services/a/x", "/nodes/x"]

    async def test_a_watch_may_start_at_any_earlier_revision(self, store: Store) -> None:
        start = store.revision
        entries = [await store.create(f"/pods/a/{i}", text("1")) for i in range(5)]
        for i in range(6):
            watch = store.watch("/pods/", start + i)
            await store.create(f"/pods/a/last-{i}", text("1"))
            revisions = [e.revision for e in await collect(watch, 6)]
            assert revisions[: 5 - i] == [e.revision for e in entries[i:]]
            assert revisions == sorted(set(revisions))

    async def test_an_event_is_published_only_when_its_write_is_readable(self, store: Store) -> None:
        watch = store.watch("/pods/", store.revision)
        write = store.create("/pods/a/x", text("1"))
        (event,) = await collect(watch, 1)
        assert store.get("/pods/a/x") is event.entry
        assert store.revision >= event.revision
        await write

    async def test_a_watch_from_the_future_is_refused(self, store: Store) -> None:
        with pytest.raises(FutureRevision) as raised:
            store.watch("/pods/", store.revision + 1)
        assert raised.value.newest == store.revision

    async def test_a_slow_watch_gets_everything_in_bounded_batches(self, store: Store) -> None:
        watch = store.watch("/pods/", store.revision)
        writes = [store.create(f"/pods/a/{i}", text("1")) for i in range(3000)]
        expected = [(await write).revision for write in writes]
        sizes, revisions = [], []
        while len(revisions) < 3000:
            batch = await watch.next_batch()
            sizes.append(len(batch))
            revisions += [e.revision for e in batch]
        assert revisions == expected
        assert max(sizes) <= 1000

    async def test_a_cancelled_wait_loses_no_event(self, store: Store) -> None:
        watch = store.watch("/pods/", store.revision)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(watch.next_batch(), 0.01)
        await store.create("/pods/a/x", text("1"))
        assert len(await collect(watch, 1)) == 1

    async def test_closing_a_watch_ends_its_wait(self, store: Store) -> None:
        watch = store.watch("/pods/", store.revision)
        waiting = asyncio.create_task(watch.next_batch())
        await asyncio.sleep(0)
        watch.close()
        watch.close()
        with pytest.raises(Unavailable):
            await waiting
        assert store.statistics()["watches"] == 0

    async def test_stopping_hands_out_what_was_acknowledged_and_then_ends_watches(self, store: Store) -> None:
        watch = store.watch("/pods/", store.revision)
        write = store.create("/pods/a/x", text("1"))
        await store.stop()
        assert [e.revision for e in await watch.next_batch()] == [(await write).revision]
        with pytest.raises(Unavailable):
            await watch.next_batch()
        with pytest.raises(Unavailable):
            await store.create("/pods/a/y", text("1"))


class TestRestarts:
    async def test_a_restart_finds_everything_and_goes_on_with_new_revisions(self, make_store: MakeStore) -> None:
        store = await make_store()
        a = await store.create("/pods/a/a", text("1"))
        a2 = await store.update("/pods/a/a", text("2"), a.revision)
        b = await store.create("/pods/a/b", text("1"))
        gone = await store.delete("/pods/a/b", text("2"), b.revision)
        await store.stop()
        store = await make_store()
        assert [(e.key, e.value, e.revision, e.create_revision) for e in store.scan("/")] == [
            (a2.key, a2.value, a2.revision, a2.create_revision)
        ]
        assert store.revision == gone.revision
        assert (await store.create("/pods/a/c", text("1"))).revision == gone.revision + 1

    async def test_a_watch_resumes_over_a_restart(self, make_store: MakeStore) -> None:
        store = await make_store()
        start = store.revision
        a = await store.create("/pods/a/a", text("1"))
        await store.create("/services/a/a", text("1"))
        a2 = await store.update("/pods/a/a", text("2"), a.revision)
        await store.stop()
        store = await make_store()
        early, late = store.watch("/pods/", start), store.watch("/pods/", a.revision)
        a3 = await store.delete("/pods/a/a", text("3"), a2.revision)
        expected = [
            ("created /pods/a/a", a.revision, a.value, None),
            ("updated /pods/a/a", a2.revision, a2.value, a.value),
            ("deleted /pods/a/a", a3.revision, a3.value, a2.value),
        ]
        assert seen(await collect(early, 3)) == expected
        assert seen(await collect(late, 2)) == expected[1:]
        assert early.position == store.revision

    async def test_history_can_be_scanned_over_a_restart(self, make_store: MakeStore) -> None:
        store = await make_store()
        a = await store.create("/pods/a/a", text("1"))
        await store.update("/pods/a/a", text("2"), a.revision)
        await store.stop()
        store = await make_store()
        await store.create("/pods/a/b", text("1"))
        assert [(e.key, e.value) for e in await store.scan_at("/pods/", a.revision)] == [(a.key, a.value)]


class TestCompaction:
    """A backend's store has `async compact(revision)`."""

    async def test_what_is_compacted_can_not_be_asked_for(self, store: Store) -> None:
        start = store.revision
        a = await store.create("/pods/a/a", text("1"))
        b = await store.update("/pods/a/a", text("2"), a.revision)
        c = await store.create("/pods/a/c", text("1"))
        await store.compact(b.revision)  # type: ignore[attr-defined]  # not for the contract's users
        assert store.compacted_revision == b.revision
        for revision in (start, a.revision):
            with pytest.raises(Compacted) as raised:
                store.watch("/pods/", revision)
            assert raised.value.oldest == b.revision
            with pytest.raises(Compacted):
                await store.scan_at("/pods/", revision)
        assert [e.revision for e in await collect(store.watch("/pods/", b.revision), 1)] == [c.revision]
        assert [e.value for e in await store.scan_at("/pods/", b.revision)] == [b.value]

    async def test_a_watch_that_falls_behind_the_compaction_is_told(self, store: Store) -> None:
        watch, quiet = store.watch("/pods/", store.revision), store.watch("/nodes/", store.revision)
        entry = await store.create("/pods/a/a", text("1"))
        await store.compact(entry.revision)  # type: ignore[attr-defined]
        with pytest.raises(Compacted):
            await watch.next_batch()
        await store.create("/nodes/a", text("1"))  # the quiet one missed nothing
        assert len(await collect(quiet, 1)) == 1

    async def test_a_restart_after_compaction_keeps_states_and_revisions(self, make_store: MakeStore) -> None:
        store = await make_store()
        a = await store.create("/pods/a/a", text("1"))
        a = await store.update("/pods/a/a", text("2"), a.revision)
        b = await store.create("/pods/a/b", text("1"))
        gone = await store.delete("/pods/a/b", text("2"), b.revision)
        await store.compact(gone.revision)  # type: ignore[attr-defined]
        await store.stop()
        store = await make_store()
        assert store.compacted_revision == gone.revision == store.revision
        assert [(e.key, e.value) for e in store.scan("/")] == [(a.key, a.value)]
        with pytest.raises(Compacted):
            store.watch("/pods/", b.revision)
        assert (await store.create("/pods/a/b", text("3"))).revision == gone.revision + 1
        assert (await store.update("/pods/a/a", text("3"), a.revision)).create_revision == a.create_revision
