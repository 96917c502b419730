"""Logs: tails, times, streams, limits, following through rotation."""

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from kubelite.agent import logs
from kubelite.agent.logs import Query
from kubelite.meta import times


def line(second: int, text: str, stream: str = "stdout", tag: str = "F") -> str:
    return f"2026-01-01T00:00:{second:02}.123456789Z {stream} {tag} {text}\n"


async def read(path: Path, query: Query | None = None, ended: Callable[[], bool] = lambda: True) -> str:
    async def never() -> None:
        await asyncio.Event().wait()

    return b"".join([c async for c in logs.read(path, query or Query(), ended, never)]).decode()


async def test_a_log_is_the_text_of_its_lines_and_partial_lines_are_joined(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_text(line(1, "one") + line(2, "tw", tag="P") + line(2, "o") + line(3, "err", "stderr"))
    assert await read(path) == "one\ntwo\nerr\n"
    assert await read(path, Query(stream="Stderr")) == "err\n"
    assert (await read(path, Query(timestamps=True))).startswith("2026-01-01T00:00:01.123456789Z one\n")


async def test_times_have_all_their_digits_and_the_parts_of_a_line_one_time(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    stamps = ("2026-01-01T00:00:01.5Z", "2026-01-01T02:00:02+02:00", "2026-01-01T00:00:03.000000001Z", "2026-01-01T00:00:04Z")
    tags = ("F", "P", "F", "F")
    path.write_text("".join(f"{stamp} stdout {tag} x\n" for stamp, tag in zip(stamps, tags, strict=True)))
    assert (await read(path, Query(timestamps=True))).splitlines() == [
        "2026-01-01T00:00:01.500000000Z x",
        "2026-01-01T02:00:02.000000000+02:00 xx",
        "2026-01-01T00:00:04.000000000Z x",
    ]


async def test_tail_counts_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_text("".join(line(n % 60, f"line {n} " + "x" * 100) for n in range(2000)) + line(0, "a", tag="P") + line(0, "b"))
    assert await read(path, Query(tail_lines=1)) == "ab\n"
    assert (await read(path, Query(tail_lines=1500))).count("\n") == 1500
    assert (await read(path, Query(tail_lines=5000))).count("\n") == 2001
    assert await read(path, Query(tail_lines=0)) == ""


async def test_since_and_limit_cut_the_text(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_text(line(1, "old") + line(5, "new") + line(6, "newer"))
    since_s = times.parse_seconds("2026-01-01T00:00:05Z")
    assert await read(path, Query(since_s=since_s)) == "new\nnewer\n"
    assert await read(path, Query(limit_bytes=6)) == "old\nne"


async def test_a_followed_log_shows_what_is_added_and_ends_with_the_container(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_text(line(1, "one"))
    running = True
    looked = asyncio.Event()
    seen: asyncio.Queue[bytes] = asyncio.Queue()

    async def follow() -> None:
        async for chunk in logs.read(path, Query(follow=True), lambda: not running, looked.wait):
            seen.put_nowait(chunk)

    async with asyncio.timeout(30):
        following = asyncio.create_task(follow())
        assert await seen.get() == b"one\n"
        with path.open("a") as stream:
            stream.write(line(2, "two"))
        assert await seen.get() == b"two\n"
        path.rename(tmp_path / "0.log.1")
        path.write_text(line(3, "rotated"))
        assert await seen.get() == b"rotated\n"
        running = False
        looked.set()
        await following


async def test_who_stops_following_leaves_no_thread_that_uses_a_closed_files_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = tmp_path / "0.log", tmp_path / "other"
    path.write_text(line(1, "one"))
    other.write_text("untouched")
    inside, leave = threading.Event(), threading.Event()

    def slowly(one: os.stat_result, two: os.stat_result) -> bool:
        inside.set()
        assert leave.wait(30)
        return False

    monkeypatch.setattr(os.path, "samestat", slowly)
    following = asyncio.create_task(read(path, Query(follow=True), lambda: False))
    assert await asyncio.to_thread(inside.wait, 30)
    following.cancel()
    await asyncio.wait([following], timeout=0.1)
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(other.open()) for _ in range(8)]
        leave.set()
        with pytest.raises(asyncio.CancelledError):
            await following
        assert [file.read() for file in opened] == ["untouched"] * 8
        assert str(path) not in {os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()}


async def test_rotation_keeps_five_files_and_packs_the_older_ones(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    for number in range(6):
        (tmp_path / f"0.log.20260101-00000{number}").write_text(line(1, str(number)))
    path.write_text(line(1, "now"))
    reopened = []

    async def reopen() -> None:
        reopened.append(True)
        path.touch()

    await logs.rotate(path, reopen)
    assert reopened == [True]
    left = sorted(p.name for p in tmp_path.iterdir())
    assert len(left) == 5
    assert sum(name.endswith(".gz") for name in left) == 3
