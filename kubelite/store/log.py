"""The log on disk: one SQLite file, and the only module that speaks SQL.

Two connections, each with the thread that aiosqlite gives it: the *writer* appends batches and deletes what is compacted, the
*side* one reads history and copies the write-ahead log into the database, so that neither holds up a commit. Knows rows and
revisions; knows nothing of who waits for a write or watches.

A batch is one statement with a row of values for each write: in autocommit mode that is one transaction, and SQLite runs it in
one step. That matters more than the SQL: Python gives up its lock for every step, and while the event loop is busy a thread
waits up to 5 ms to get it back. With `executemany` that is 5 ms for each row (measured: 32 rows took 41 ms instead of 6).
"""

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ParamSpec, Protocol, TypeVar

import aiosqlite

from kubelite.store.contract import Entry, Event, Revision, StoreError

P = ParamSpec("P")
T = TypeVar("T")

#: "KubL": tells SQLite files of ours from others'.
APPLICATION_ID = 0x4B75624C
#: Grows when an older kubelite could no longer read the file.
FORMAT = 1

SCHEMA = """
CREATE TABLE log (
  revision INTEGER PRIMARY KEY,
  key TEXT NOT NULL,
  create_revision INTEGER NOT NULL,
  previous_revision INTEGER NOT NULL,
  deleted INTEGER NOT NULL,
  value BLOB NOT NULL
);
CREATE TABLE state (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO state VALUES ('compacted', 0), ('newest', 1), ('clean', 1);
"""

#: No previous_revision in the kept log points at a live row: what others point at is history.
LIVE = """
SELECT key, value, revision, create_revision FROM log
WHERE NOT deleted AND revision NOT IN (SELECT previous_revision FROM log) ORDER BY key
"""

HISTORY = """
SELECT e.key, e.value, e.revision, e.create_revision, e.deleted, p.value, p.revision, p.create_revision
FROM log e LEFT JOIN log p ON p.revision = e.previous_revision
WHERE e.revision > ? AND e.revision <= ? AND e.key >= ? AND e.key < ? ORDER BY e.revision LIMIT ?
"""

DELETE_HISTORY = """
DELETE FROM log WHERE revision IN (SELECT previous_revision FROM log WHERE revision > :after AND revision <= :upto)
"""

#: The newest revision may be a deletion that is compacted away, and must not be given out again after a start.
NOTE_NEWEST = """
UPDATE state SET value = max(value, (SELECT coalesce(max(revision), 1) FROM log)) WHERE name = 'newest'
"""


#: What a sealed value starts with, whoever sealed it.
SEALED = b"k8s:enc:"


class Seal(Protocol):
    """Encrypts values on their way to the disk; ValueError where a value can't be decrypted. Called on the log's threads."""

    def encrypt(self, value: bytes, key: str, /) -> bytes: ...

    def decrypt(self, value: bytes, key: str, /) -> bytes: ...


class Values:
    """Values as the file has them: those under some prefixes sealed, the others as they are."""

    def __init__(self, seal: Seal | None = None, prefixes: tuple[str, ...] = ()) -> None:
        self._seal, self._prefixes = seal, prefixes

    def written(self, key: str, value: bytes) -> bytes:
        return self._seal.encrypt(value, key) if self._seal and key.startswith(self._prefixes) else value

    def read(self, key: str, value: bytes) -> bytes:
        if not value.startswith(SEALED):
            return value
        if self._seal is None:
            raise ValueError(f"{key} is encrypted, and there is no key to decrypt it with")
        return self._seal.decrypt(value, key)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a start finds: the live entries ordered by key, the newest revision and the compacted one."""

    entries: list[Entry]
    revision: Revision
    compacted: Revision


class Connection(aiosqlite.Connection):
    """An aiosqlite connection that runs a whole function on its thread: one hop, however many statements."""

    def __init__(self, connector: Callable[[], sqlite3.Connection]) -> None:
        super().__init__(connector, iter_chunk_size=64)
        # A process that fails before it has closed the store must still end; to the data that is as a kill is.
        self._thread.daemon = True

    async def run(self, function: Callable[..., T], *args: object) -> T:
        result: T = await self._execute(function, self._conn, *args)  # type: ignore[no-untyped-call]  # aiosqlite has no types here
        return result

    async def wait_ended(self) -> None:
        """After a connect that failed: aiosqlite tells the thread to end, which reports to the loop once more."""
        await asyncio.to_thread(self._thread.join)


class Log:
    """The file at `path`. `open()` first; then `append`, `history`, `compact` and `checkpoint` in any order; `close()` last."""

    def __init__(
        self, path: str | os.PathLike[str], seal: Callable[[], Seal] | None = None, sealed: tuple[str, ...] = ()
    ) -> None:
        self.path = Path(path)
        self._make_seal, self._sealed = seal, sealed
        self._values = Values()
        self._lock = -1
        self._writer: Connection | None = None
        self._side: Connection | None = None

    async def open(self) -> Loaded:
        """Locks, verifies and loads the file, which it makes if there is none.

        Raises:
            StoreError: another process has it, a newer version wrote it, it is damaged, or the key of sealed values is missing.
        """
        self._lock = await asyncio.to_thread(lock, self.path)
        try:
            await asyncio.to_thread(create_file, self.path)
            if self._make_seal is not None:
                self._values = Values(await asyncio.to_thread(self._make_seal), self._sealed)
            self._writer = await connect(self.path)
            loaded = await self._writer.run(verify_and_load, self.path, self._values)
            self._side = await connect(self.path)
        except sqlite3.DatabaseError as e:
            await self._release()
            raise damaged(self.path, str(e)) from e
        except ValueError as e:
            await self._release()
            raise StoreError(f"{self.path} can't be read: {e}") from e
        except BaseException:
            await self._release()
            raise
        return loaded

    async def close(self) -> None:
        """Marks the file as cleanly closed, if it can, and lets go of it."""
        try:
            if self._writer:
                await self._writer.run(set_state, "clean", 1)
        finally:
            await self._release()

    async def _release(self) -> None:
        side, writer, lock_fd = self._side, self._writer, self._lock
        self._side, self._writer, self._lock = None, None, -1
        try:
            for connection in (side, writer):
                if connection:
                    await connection.close()
        finally:
            if lock_fd >= 0:
                os.close(lock_fd)

    async def append(self, events: Sequence[Event]) -> None:
        """Makes all of them durable, or none and raises sqlite3.Error."""
        if not self._writer:
            raise sqlite3.ProgrammingError("the log is closed")
        await self._writer.run(insert, events, self._values)

    async def history(self, prefix: str, after: Revision, upto: Revision, limit: int) -> list[Event]:
        """The events under the prefix with after < revision <= upto, in order, at most `limit`. What is compacted is missing:
        whoever asks compares `after` with the compacted revision, once more when it has the answer."""
        if not self._side:
            raise sqlite3.ProgrammingError("the log is closed")
        return await self._side.run(read_history, prefix, after, upto, limit, self._values)

    async def compact(self, after: Revision, upto: Revision) -> None:
        """Deletes what nobody can see any more once history starts after `upto`; it is known to be done up to `after`."""
        if not self._writer:
            raise sqlite3.ProgrammingError("the log is closed")
        await self._writer.run(delete_superseded, after, upto)

    async def checkpoint(self, *, finish: bool = False) -> int:
        """Copies the write-ahead log into the database beside the writer and returns how many pages are left to copy. With
        `finish` the writer does it, between two commits, so that none are left and its file is used from the beginning again."""
        connection = self._writer if finish else self._side
        if not connection:
            raise sqlite3.ProgrammingError("the log is closed")
        return await connection.run(checkpoint)


def bounds(prefix: str) -> tuple[str, str]:
    """The half-open range of the keys that start with a prefix: its last character, a slash, becomes the one after it."""
    return prefix, prefix[:-1] + "0"


def lock(path: Path) -> int:
    """Takes the lock file beside the database, which the kernel lets go of however the process ends."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        os.close(fd)
        raise StoreError(f"{path} is in use by another process: stop that one, or choose another data directory") from e
    return fd


def create_file(path: Path) -> None:
    """Makes the file with mode 0600, which SQLite gives to its -wal and -shm files too, and its directory entry durable."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    path.chmod(0o600)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


async def connect(path: Path) -> Connection:
    def connector() -> sqlite3.Connection:
        connection = sqlite3.connect(path, isolation_level=None, cached_statements=256)
        try:
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000", "wal_autocheckpoint=0"):
                connection.execute(f"PRAGMA {pragma}")
        except BaseException:
            connection.close()
            raise
        return connection

    connection = Connection(connector)
    try:
        await connection
    except BaseException:
        await connection.wait_ended()
        raise
    return connection


def damaged(path: Path, detail: str) -> StoreError:
    return StoreError(f"{path} is damaged: {detail}. Restore it from a backup, or move it away to start empty")


def verify_and_load(db: sqlite3.Connection, path: Path, values: Values) -> Loaded:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version == 0 and db.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,):
        db.executescript(
            f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={FORMAT}; COMMIT"
        )
    elif db.execute("PRAGMA application_id").fetchone() != (APPLICATION_ID,):
        raise StoreError(f"{path} is not a kubelite database: choose another data directory, or move the file away")
    elif version > FORMAT:
        raise StoreError(
            f"{path} was written by a newer kubelite (format {version}, this one reads up to {FORMAT}): "
            "run that version or a newer one, or choose another data directory"
        )
    clean = get_state(db, "clean")
    verify(db, path, thorough=not clean)
    set_state(db, "clean", 0)
    read = values.read
    entries = [Entry(key, read(key, value), *revisions) for key, value, *revisions in db.execute(LIVE)]
    compacted = get_state(db, "compacted")
    (newest,) = db.execute("SELECT coalesce(max(revision), 1) FROM log").fetchone()
    return Loaded(entries, max(newest, compacted, get_state(db, "newest")), compacted)


def verify(db: sqlite3.Connection, path: Path, *, thorough: bool) -> None:
    """SQLite's own check of the pages (the thorough one after an unclean end), then that each key's revisions make a chain."""
    faults = db.execute("PRAGMA integrity_check(3)" if thorough else "PRAGMA quick_check(3)").fetchall()
    if faults != [("ok",)]:
        raise damaged(path, "; ".join(str(fault) for (fault,) in faults))
    newest: dict[str, Revision] = {}
    compacted = get_state(db, "compacted")
    rows = db.execute("SELECT revision, key, previous_revision, deleted FROM log ORDER BY revision")
    for revision, key, previous, deleted in rows:
        # Rows up to the compacted revision may have lost what they point at.
        if newest.get(key, 0) != previous and revision > compacted:
            raise damaged(path, f"revision {revision} of {key} follows {previous}, but {newest.get(key, 0)} is the one before it")
        if deleted:
            newest.pop(key, None)
        else:
            newest[key] = revision


def get_state(db: sqlite3.Connection, name: str) -> int:
    (value,) = db.execute("SELECT value FROM state WHERE name = ?", (name,)).fetchone()
    return int(value)


def set_state(db: sqlite3.Connection, name: str, value: int) -> None:
    db.execute("UPDATE state SET value = ? WHERE name = ?", (value, name))


@cache
def insert_statement(rows: int) -> str:
    return "INSERT INTO log VALUES " + ",".join(["(?,?,?,?,?,?)"] * rows)


def insert(db: sqlite3.Connection, events: Sequence[Event], sealing: Values) -> None:
    values: list[Any] = []
    for event in events:
        entry, previous = event.entry, event.previous
        before = previous.revision if previous else 0
        values += (entry.revision, entry.key, entry.create_revision, before, event.deleted)
        values.append(sealing.written(entry.key, entry.value))
    db.execute(insert_statement(len(events)), values)


def read_history(db: sqlite3.Connection, prefix: str, after: Revision, upto: Revision, limit: int, values: Values) -> list[Event]:
    rows = db.execute(HISTORY, (after, upto, *bounds(prefix), limit)).fetchall()
    return list(decode(rows, values))


def decode(rows: Iterable[tuple[Any, ...]], values: Values) -> Iterable[Event]:
    for key, value, revision, created, deleted, old_value, old_revision, old_created in rows:
        previous = Entry(key, values.read(key, old_value), old_revision, old_created) if old_revision else None
        yield Event(Entry(key, values.read(key, value), revision, created), previous, bool(deleted))


def delete_superseded(db: sqlite3.Connection, after: Revision, upto: Revision) -> None:
    span = {"after": after, "upto": upto}
    db.execute("BEGIN IMMEDIATE")
    try:
        db.execute(DELETE_HISTORY, span)
        db.execute(NOTE_NEWEST)
        db.execute("DELETE FROM log WHERE revision > :after AND revision <= :upto AND deleted", span)
        set_state(db, "compacted", upto)
        db.execute("COMMIT")
    except sqlite3.Error:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def checkpoint(db: sqlite3.Connection) -> int:
    _busy, pages, copied = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return max(0, int(pages) - int(copied))
