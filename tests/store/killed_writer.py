"""What tests/store/test_kill.py starts and kills: writes as fast as it can and prints every write that was acknowledged.

A line is `key counter`. Eight writers each update a key of their own and create and delete others on the way; history is
compacted all the time.

Without a path it is the parent of such processes, so that a hundred of them load their modules once: it forks one for each path
on its standard input, and prints `started PID`, then, after whatever that one printed, `ended STATUS`.
"""

import asyncio
import os
import signal
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


async def main(path: str) -> None:
    store = SqliteStore(path, window_s=0.02)
    await store.start()
    await asyncio.gather(*(write(store, f"writer-{i}") for i in range(8)))


def fork_for(path: str) -> None:
    pid = os.fork()
    if not pid:
        try:
            asyncio.run(main(path))
        finally:
            os._exit(1)
    os.write(1, f"started {pid}\n".encode())
    _, status = os.waitpid(pid, 0)
    os.write(1, f"ended {os.waitstatus_to_exitcode(status)}\n".encode())


if len(sys.argv) > 1:
    # A test run that was started in the background of a shell ignores SIGINT, and so would its children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    asyncio.run(main(sys.argv[1]))
else:
    for line in sys.stdin:
        fork_for(line.strip())
