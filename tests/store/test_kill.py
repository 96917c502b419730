"""A process killed in the middle of its writes: the next start finds every write that was acknowledged."""

import asyncio
import os
import random
import signal
import sys
from pathlib import Path

import pytest

from kubelite.store.sqlite import SqliteStore

ROUNDS = 100


class Writers:
    """Starts one process after the other that writes, and kills it."""

    async def __aenter__(self) -> "Writers":
        pipe = asyncio.subprocess.PIPE
        command = [sys.executable, "-m", "tests.store.killed_writer"]
        self._parent = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._in, self._out = self._parent.stdin, self._parent.stdout
        return self

    async def __aexit__(self, *_: object) -> None:
        self._in.close()
        assert await self._parent.wait() == 0

    async def write_and_kill(self, path: Path, after_s: float) -> list[tuple[str, str]]:
        """Starts a writer, kills it a while after its first acknowledgement, and returns the acknowledgements."""
        self._in.write(f"{path}\n".encode())
        pid = 0
        lines: list[tuple[str, str]] = []
        while not (pid and lines):  # the writer may print much before its parent says that it has started
            key, value = await self._line()
            if key == "started":
                pid = int(value)
            else:
                lines.append((key, value))
        rest = asyncio.create_task(self._until_end())
        await asyncio.sleep(after_s)
        os.kill(pid, signal.SIGKILL)
        return lines + await rest

    async def _until_end(self) -> list[tuple[str, str]]:
        lines = []
        while (line := await self._line())[0] != "ended":
            lines.append(line)
        assert line[1] == str(-signal.SIGKILL)
        return lines

    async def _line(self) -> tuple[str, str]:
        key, _, value = (await self._out.readline()).decode().rstrip("\n").partition(" ")
        assert key, "the writers' parent ended"
        return key, value


async def test_a_process_that_fails_without_stopping_the_store_ends(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.store.killed_writer",
        str(tmp_path / "store.db"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    await process.stdout.readline()
    rest = asyncio.create_task(process.stdout.read())
    process.send_signal(signal.SIGINT)  # KeyboardInterrupt, which nobody handles
    async with asyncio.timeout(30):
        assert await process.wait() != 0
        await rest


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_every_acknowledged_write_is_found_after_a_hundred_kills(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    dice = random.Random(7)
    acknowledged: dict[str, str] = {}
    writes = 0
    async with Writers() as writers:
        for _ in range(ROUNDS):
            new = await writers.write_and_kill(path, dice.uniform(0, 0.12))
            writes += len(new)
            acknowledged.update(new)
            await check(path, acknowledged)
    assert writes > ROUNDS * 8


async def check(path: Path, acknowledged: dict[str, str]) -> None:
    """Starts a store on what a killed process left, and looks for everything that was acknowledged ever. What it shows counts as
    acknowledged from then on: the next writer goes on from there, and may be killed before it acknowledges anything."""
    store = SqliteStore(path)
    await store.start()  # verifies the file thoroughly, as its end was not clean
    found = {entry.key: int(entry.value.split()[0]) for entry in store.scan("/")}
    for key, value in acknowledged.items():
        if value == "deleted":
            assert key not in found, f"the deletion of {key} is lost"
        elif key.startswith("/pods/"):
            # A write may be durable and its acknowledgement not printed yet; several can't be.
            assert found[key] - int(value) in (0, 1), f"{key}: acknowledged {value}, found {found[key]}"
            acknowledged[key] = str(found[key])
        elif int(value) % 10:
            assert found[key] == int(value)
    await store.stop()
