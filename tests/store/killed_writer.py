"""What tests/store/test_kill.py starts and kills: writes as fast as it can and prints every write that was acknowledged.

A line is `key counter`. Eight writers each update a key of their own and create and delete others on the way; history is
compacted all the time.
"""

import asyncio
import os
import sys

from kubelite.store.sqlite import SqliteStore


async def write(store: SqliteStore, writer: str) -> None:
    key = f"/pods/a/{writer}"
    entry = store.get(key)
    counter = int(entry.value.split()[0]) if entry else 0
    while True:
        counter += 1
        value = b"%d %s" % (counter, b"x" * (counter * 37 % 2000))
        if entry is None:
            entry = await store.create(key, lambda _, value=value: value)
        else:
            entry = await store.update(key, lambda _, value=value: value, entry.revision)
        os.write(1, f"{key} {counter}\n".encode())
        if counter % 5 == 0:
            other = f"/nodes/{writer}-{counter}"
            created = await store.create(other, lambda _, value=value: value)
            os.write(1, f"{other} {counter}\n".encode())
            if counter % 10 == 0:
                await store.delete(other, lambda _, value=value: value, created.revision)
                os.write(1, f"{other} deleted\n".encode())


async def main() -> None:
    store = SqliteStore(sys.argv[1], window_s=0.02)
    await store.start()
    await asyncio.gather(*(write(store, f"writer-{i}") for i in range(8)))


asyncio.run(main())
