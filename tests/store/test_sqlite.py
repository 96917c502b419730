"""The SQLite store against the shared suite, and what is its own: the file, the lock, failing commits."""

import asyncio
import sqlite3
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from kubelite.store.contract import StoreError, Unavailable
from kubelite.store.sqlite import SqliteStore
from tests.store.suite import *  # noqa: F403
from tests.store.suite import MakeStore, collect, text


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest_asyncio.fixture(params=[32 << 20, 0], ids=["history in memory", "history on disk"])
async def make_store(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[MakeStore]:
    """Both ways to serve the past: a ring that holds all of it, and one that holds the last commit alone."""
    stores: list[SqliteStore] = []

    async def make() -> SqliteStore:
        store = SqliteStore(tmp_path / "data" / "store.db", ring_bytes=request.param)
        stores.append(store)
        await store.start()
        return store

    yield make
    for store in stores:
        await store.stop()


@pytest_asyncio.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(tmp_path / "store.db", retry_s=5.0, clock=Clock())
    await store.start()
    yield store
    await store.stop()


def execute(path: Path, sql: str) -> list[tuple[object, ...]]:
    db = sqlite3.connect(path)
    try:
        rows = db.execute(sql).fetchall()
        db.commit()
        return rows
    finally:
        db.close()


class TestFile:
    async def test_files_and_directory_are_for_the_owner_only(self, make_store: MakeStore, tmp_path: Path) -> None:
        store = await make_store()
        await store.create("/secrets/a/a", text("1"))
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "data").iterdir()}
        assert modes == dict.fromkeys(["store.db", "store.db-wal", "store.db-shm", "store.db.lock"], 0o600)
        assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700

    async def test_a_second_server_can_not_open_the_file(self, sqlite: SqliteStore, tmp_path: Path) -> None:
        second = SqliteStore(tmp_path / "store.db")
        with pytest.raises(StoreError, match="in use by another process"):
            await second.start()
        await second.stop()
        await sqlite.create("/pods/a/a", text("1"))

    async def test_a_file_of_a_newer_version_is_refused_and_left_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "store.db"
        store = SqliteStore(path)
        await store.start()
        await store.stop()
        execute(path, "PRAGMA user_version=99")
        before = path.read_bytes()
        with pytest.raises(StoreError, match="written by a newer kubelite"):
            await SqliteStore(path).start()
        assert path.read_bytes() == before
        execute(path, "PRAGMA user_version=1")
        again = SqliteStore(path)  # the lock was let go of
        await again.start()
        await again.stop()

    async def test_a_foreign_database_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "store.db"
        execute(path, "CREATE TABLE theirs (x)")
        with pytest.raises(StoreError, match="not a kubelite database"):
            await SqliteStore(path).start()

    async def test_a_file_that_is_no_database_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "store.db"
        path.write_bytes(b"nothing like SQLite" * 1000)
        with pytest.raises(StoreError, match="is damaged"):
            await SqliteStore(path).start()
        assert path.read_bytes().startswith(b"nothing like SQLite")

    async def test_damaged_pages_are_found_at_the_start(self, tmp_path: Path) -> None:
        path = tmp_path / "store.db"
        store = SqliteStore(path)
        await store.start()
        for i in range(200):
            await store.create(f"/pods/a/{i}", text("x" * 500))
        await store.stop()
        content = bytearray(path.read_bytes())
        content[8192:12288] = b"\xff" * 4096
        path.write_bytes(content)
        with pytest.raises(StoreError, match="is damaged"):
            await SqliteStore(path).start()

    async def test_a_broken_chain_of_revisions_is_found_at_the_start(self, tmp_path: Path) -> None:
        path = tmp_path / "store.db"
        store = SqliteStore(path)
        await store.start()
        a = await store.create("/pods/a/a", text("1"))
        await store.update("/pods/a/a", text("2"), a.revision)
        await store.stop()
        execute(path, f"DELETE FROM log WHERE revision = {a.revision}")
        with pytest.raises(StoreError, match=f"follows {a.revision}"):
            await SqliteStore(path).start()

    async def test_compaction_deletes_superseded_rows_and_keeps_the_rest(self, tmp_path: Path) -> None:
        path = tmp_path / "store.db"
        store = SqliteStore(path)
        await store.start()
        kept = await store.create("/pods/a/kept", text("1"))
        entry = await store.create("/pods/a/a", text("1"))
        for i in range(600):
            entry = await store.update("/pods/a/a", text(str(i)), entry.revision)
        gone = await store.create("/pods/a/gone", text("1"))
        await store.delete("/pods/a/gone", text("1"), gone.revision)
        await store.compact(store.revision)
        assert store.statistics()["ring_events"] == 0
        await store.stop()
        assert execute(path, "SELECT revision FROM log") == [(kept.revision,), (entry.revision,)]

    async def test_the_write_ahead_log_stays_short(self, tmp_path: Path) -> None:
        store = SqliteStore(tmp_path / "store.db")
        await store.start()
        wal = tmp_path / "store.db-wal"
        sizes = []
        for i in range(30):
            await asyncio.gather(*(store.create(f"/pods/a/{i}-{j}", lambda _: b"x" * 100_000) for j in range(20)))
            sizes.append(wal.stat().st_size)
        await store.stop()
        assert max(sizes) < 40 << 20  # 60 MB were written
        assert (tmp_path / "store.db").stat().st_size > 50 << 20


class TestWindow:
    async def test_history_older_than_the_window_goes_by_itself(self, tmp_path: Path) -> None:
        clock = Clock()
        store = SqliteStore(tmp_path / "store.db", window_s=0.1, clock=clock)
        await store.start()
        entry = await store.create("/pods/a/a", text("1"))
        entry = await store.update("/pods/a/a", text("2"), entry.revision)
        assert store.compacted_revision < entry.revision
        async with asyncio.timeout(30):
            while store.compacted_revision < entry.revision:
                clock.now += 0.05
                await asyncio.sleep(0.01)
        await store.stop()
        assert execute(tmp_path / "store.db", "SELECT revision FROM log") == [(entry.revision,)]


class TestFailingCommits:
    """The disk is full: PRAGMA max_page_count stands in for it."""

    async def fill(self, store: SqliteStore) -> None:
        connection = store._log._writer
        assert connection is not None
        (pages,) = await connection.run(lambda db: db.execute("PRAGMA page_count").fetchone())
        await connection.run(lambda db: db.execute(f"PRAGMA max_page_count={pages + 4}").fetchone())

    async def free(self, store: SqliteStore) -> None:
        connection = store._log._writer
        assert connection is not None
        await connection.run(lambda db: db.execute("PRAGMA max_page_count=1000000").fetchone())

    async def test_a_failed_commit_fails_all_that_was_queued_behind_it_and_shows_none_of_it(self, sqlite: SqliteStore) -> None:
        a = await sqlite.create("/pods/a/a", text("1"))
        watch = sqlite.watch("/pods/", sqlite.revision)
        await self.fill(sqlite)
        writes = [sqlite.create(f"/pods/a/big-{i}", lambda _: b"x" * 20_000) for i in range(3)]
        small = sqlite.update("/pods/a/a", text("2"), a.revision)
        for write in [*writes, small]:
            with pytest.raises(Unavailable, match="database or disk is full"):
                await write
        assert [e.key for e in sqlite.scan("/pods/")] == ["/pods/a/a"]
        assert sqlite.get("/pods/a/a") is a
        assert sqlite.newest("/pods/a/a") is a
        assert watch.position == sqlite.revision == a.revision
        assert sqlite.statistics()["waiting_writes"] == 0

    async def test_writes_are_refused_after_a_failure_and_taken_again_after_a_success(self, sqlite: SqliteStore) -> None:
        a = await sqlite.create("/pods/a/a", text("1"))
        await self.fill(sqlite)
        lost = sqlite.create("/pods/a/big", lambda _: b"x" * 50_000)
        with pytest.raises(Unavailable):
            await lost
        await self.free(sqlite)
        with pytest.raises(Unavailable, match="Writes are refused until one succeeds again"):
            sqlite.create("/pods/a/b", text("1"))
        assert sqlite.statistics()["writable"] == 0
        assert sqlite.get("/pods/a/a") is a  # reads go on
        sqlite._clock.now += 5  # type: ignore[attr-defined]
        b = await sqlite.create("/pods/a/b", text("1"))
        assert sqlite.statistics()["writable"] == 1
        assert b.revision == a.revision + 2  # the lost one's is not given out again
        assert [e.entry.key for e in await collect(sqlite.watch("/pods/", a.revision), 1)] == ["/pods/a/b"]
        await sqlite.create("/pods/a/c", text("1"))

    async def test_a_restart_after_a_failure_finds_what_was_acknowledged(self, tmp_path: Path) -> None:
        store = SqliteStore(tmp_path / "store.db")
        await store.start()
        await self.fill(store)
        results = [store.create(f"/pods/a/{i:03}", text("x" * 1000)) for i in range(2)]
        acknowledged = [await result for result in results]
        with pytest.raises(Unavailable):
            while True:
                await store.create("/pods/a/more", text("x" * 50_000))
        assert acknowledged
        await store.stop()
        store = SqliteStore(tmp_path / "store.db")
        await store.start()
        assert [(e.key, e.value) for e in store.scan("/pods/")] == [(e.key, e.value) for e in acknowledged]
        await store.stop()

    async def test_compaction_that_fails_is_tried_again(self, tmp_path: Path) -> None:
        clock = Clock()
        store = SqliteStore(tmp_path / "store.db", window_s=0.1, clock=clock)
        await store.start()
        entry = await store.create("/pods/a/a", text("1"))
        entry = await store.update("/pods/a/a", text("2"), entry.revision)
        connection = store._log._writer
        assert connection is not None
        await connection.run(lambda db: db.execute("PRAGMA query_only=1").fetchone())
        async with asyncio.timeout(30):
            while store.compacted_revision < entry.revision:
                clock.now += 0.05
                await asyncio.sleep(0.01)
        await connection.run(lambda db: db.execute("PRAGMA query_only=0").fetchone())
        await asyncio.sleep(0.05)
        await store.stop()
        assert execute(tmp_path / "store.db", "SELECT revision FROM log") == [(entry.revision,)]

    async def test_more_waiting_writes_than_allowed_are_refused(self, tmp_path: Path) -> None:
        store = SqliteStore(tmp_path / "store.db", max_waiting=10)
        await store.start()
        writes = [store.create(f"/pods/a/{i}", text("1")) for i in range(10)]
        with pytest.raises(Unavailable, match="10 writes wait"):
            store.create("/pods/a/more", text("1"))
        for write in writes:
            await write
        await store.create("/pods/a/more", text("1"))
        await store.stop()

    async def test_a_key_that_is_no_unicode_fails_alone_and_the_store_lives(self, sqlite: SqliteStore) -> None:
        with pytest.raises(Unavailable):
            await sqlite.create("/pods/a/\ud800", text("1"))
        sqlite._clock.now += 5  # type: ignore[attr-defined]
        await sqlite.create("/pods/a/a", text("1"))
