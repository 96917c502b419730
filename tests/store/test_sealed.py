"""Values that are encrypted on the disk and plain in memory."""

from collections.abc import Callable
from pathlib import Path

import pytest

from kubelite.auth.encryption import Encryptor
from kubelite.store.contract import StoreError
from kubelite.store.sqlite import SqliteStore

SECRET = b'{"data":{"password":"c2VzYW1l"}}'


def sealed_store(path: Path, key: Path | None = None, *, ring_bytes: int = 32 << 20) -> SqliteStore:
    seal = (lambda: Encryptor.load_or_create(key)) if key is not None else None
    return SqliteStore(path / "store.db", seal=seal, sealed=("/secrets/",), ring_bytes=ring_bytes)


def value(data: bytes) -> Callable[[int], bytes]:
    return lambda revision: data


def on_disk(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in path.glob("store.db*"))


async def test_a_sealed_value_is_plain_in_memory_and_nowhere_on_the_disk(tmp_path: Path) -> None:
    store = sealed_store(tmp_path, tmp_path / "key")
    await store.start()
    await store.create("/secrets/ns/a", value(SECRET))
    await store.create("/configmaps/ns/a", value(b'{"plain":1}'))
    entry = store.get("/secrets/ns/a")
    assert entry is not None
    assert entry.value == SECRET
    assert b"c2VzYW1l" not in on_disk(tmp_path)
    assert b'{"plain":1}' in on_disk(tmp_path)
    await store.stop()

    again = sealed_store(tmp_path, tmp_path / "key")
    await again.start()
    entry = again.get("/secrets/ns/a")
    assert entry is not None
    assert entry.value == SECRET
    await again.stop()


async def test_history_that_is_read_from_the_disk_is_decrypted(tmp_path: Path) -> None:
    store = sealed_store(tmp_path, tmp_path / "key", ring_bytes=0)
    await store.start()
    first = await store.create("/secrets/ns/a", value(SECRET))
    await store.update("/secrets/ns/a", value(b'{"new":1}'), first.revision)
    await store.create("/configmaps/ns/b", value(b"{}"))
    watch = store.watch("/secrets/", first.revision - 1)
    events = list(await watch.next_batch())
    while len(events) < 2:
        events += await watch.next_batch()
    watch.close()
    assert [event.entry.value for event in events] == [SECRET, b'{"new":1}']
    assert events[1].previous is not None
    assert events[1].previous.value == SECRET
    await store.stop()


async def test_what_was_written_before_encryption_is_still_read(tmp_path: Path) -> None:
    plain = sealed_store(tmp_path)
    await plain.start()
    await plain.create("/secrets/ns/a", value(SECRET))
    await plain.stop()
    store = sealed_store(tmp_path, tmp_path / "key")
    await store.start()
    entry = store.get("/secrets/ns/a")
    assert entry is not None
    assert entry.value == SECRET
    await store.stop()


async def test_without_its_key_the_store_says_what_is_missing(tmp_path: Path) -> None:
    store = sealed_store(tmp_path, tmp_path / "key")
    await store.start()
    await store.create("/secrets/ns/a", value(SECRET))
    await store.stop()
    with pytest.raises(StoreError, match="/secrets/ns/a is encrypted, and there is no key"):
        await sealed_store(tmp_path).start()
    with pytest.raises(StoreError, match="which the key file lacks"):
        await sealed_store(tmp_path, tmp_path / "other").start()
    await (again := sealed_store(tmp_path, tmp_path / "key")).start()
    await again.stop()
