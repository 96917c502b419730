"""Container logs: the files that the runtime writes in the CRI's format, read as `kubectl logs` asks, and rotated.

A line of a file is `TIME STREAM TAG TEXT`; the tag P says that the text goes on in the next line of its stream. Rotated files lie
beside the current one (`0.log.20260102-030405`, older ones gzipped).

Source: pkg/kubelet/kuberuntime/logs, pkg/kubelet/logs (rotation), v1.34.
"""

import asyncio
import contextlib
import gzip
import os
import shutil
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from kubelite.agent import inotify
from kubelite.meta import times

CHUNK_BYTES = 64 * 1024
MAX_FILE_BYTES = 10 * 1024 * 1024
MAX_FILES = 5


@dataclass(frozen=True, slots=True)
class Query:
    """What of a log is asked for. `since_s` in seconds since the epoch; None: everything; `stream` Stdout, Stderr or empty."""

    follow: bool = False
    timestamps: bool = False
    since_s: float | None = None
    tail_lines: int | None = None
    limit_bytes: int | None = None
    stream: str = ""


async def read(
    path: Path, query: Query, ended: Callable[[], bool], looked: Callable[[], Awaitable[object]]
) -> AsyncIterator[bytes]:
    """The log's text in chunks. With `follow` until the container has ended (`ended`, asked again whenever `looked` returns)."""
    left = query.limit_bytes if query.limit_bytes is not None else -1
    async for chunk in _lines(path, query, ended, looked):
        if left == 0:
            return
        if left > 0:
            chunk = chunk[:left]
            left -= len(chunk)
        yield chunk


async def _lines(
    path: Path, query: Query, ended: Callable[[], bool], looked: Callable[[], Awaitable[object]]
) -> AsyncIterator[bytes]:
    lines = _Lines(query)
    log = await asyncio.to_thread(_OpenLog, path)
    try:
        if query.tail_lines is not None:
            await asyncio.to_thread(log.seek_tail, query.tail_lines)
        rest = b""
        with contextlib.ExitStack() as stack:
            changes = stack.enter_context(inotify.watching(path.parent)) if query.follow else None
            while True:
                if changes is not None:
                    changes.changed.clear()
                was_ended = ended()
                data = await asyncio.to_thread(log.read)
                if data:
                    head, newline, tail = (rest + data).rpartition(b"\n")
                    rest = tail
                    if newline and (text := lines.rendered(head + newline)):
                        yield text
                    continue
                if changes is None or was_ended:
                    break
                if await asyncio.to_thread(log.reopen):
                    continue
                await _either(changes.changed.wait(), looked())
        if rest and (text := lines.rendered(rest)):
            yield text
    finally:
        await asyncio.to_thread(log.close)


class _OpenLog:
    """A log file, used on threads.

    Whoever is cancelled while he waits for a thread leaves it behind, and closes. Each use excludes the others, and none comes
    after the close: the number of the closed descriptor may be another file's by then, the database's or a connection's.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("rb", buffering=0)
        self._lock = threading.Lock()

    def read(self) -> bytes:
        """What comes next; nothing at the end, or when it is closed."""
        with self._lock:
            return b"" if self._file.closed else self._file.read(CHUNK_BYTES)

    def seek_tail(self, lines: int) -> None:
        with self._lock:
            if not self._file.closed:
                _seek_tail(self._file.fileno(), lines)

    def reopen(self) -> bool:
        """Goes on with the file that now has the name, where the log was rotated and the old one is read to its end. Returns
        whether it does."""
        with self._lock:
            if self._file.closed:
                return False
            try:
                if os.path.samestat(self._path.stat(), os.fstat(self._file.fileno())):
                    return False
                fresh = self._path.open("rb", buffering=0)
            except FileNotFoundError:
                return False  # between the renaming and the new file
            self._file.close()
            self._file = fresh
            return True

    def close(self) -> None:
        with self._lock:
            self._file.close()


async def _either(*waits: Awaitable[object]) -> None:
    tasks = [asyncio.ensure_future(w) for w in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


class _Lines:
    """Makes a file's lines the text that was asked for."""

    def __init__(self, query: Query) -> None:
        self._timestamps = query.timestamps
        self._stream = query.stream.lower().encode()
        self._since = _nanos_text(query.since_s)
        #: Whether what comes next begins a line of the container's: the parts of one have one time.
        self._fresh = True

    def rendered(self, data: bytes) -> bytes:
        """The texts of whole lines, filtered."""
        out = []
        for line in data.split(b"\n"):
            stamp, _, after = line.partition(b" ")
            stream, _, after = after.partition(b" ")
            tag, _, text = after.partition(b" ")
            if not stamp or (self._since and _comparable(stamp) < self._since) or (self._stream and stream != self._stream):
                continue
            if self._timestamps and self._fresh:
                out.append(_shown(stamp) + b" ")
            self._fresh = not tag.startswith(b"P")
            out.append(text + b"\n" if self._fresh else text)
        return b"".join(out)


def _nanos_text(since_s: float | None) -> bytes:
    return b"" if since_s is None else _comparable(times.format_micro_time(since_s).encode())


def _comparable(stamp: bytes) -> bytes:
    """A time stamp in UTC cut to microseconds, so that two of them compare as texts."""
    if not stamp.endswith(b"Z"):
        with contextlib.suppress(ValueError):
            return times.format_micro_time(times.parse_time(stamp.decode())).encode()
    head, _, fraction = stamp[:-1].partition(b".")
    return head + b"." + fraction[:6].ljust(6, b"0") + b"Z"


def _shown(stamp: bytes) -> bytes:
    """A time stamp with all nine digits of its fraction, which runtimes leave out where they are zeros."""
    zone = len(stamp) - 1 if stamp.endswith(b"Z") else max(stamp.rfind(b"+"), stamp.rfind(b"-"))
    seconds, _, fraction = stamp[:zone].partition(b".")
    return seconds + b"." + fraction[:9].ljust(9, b"0") + stamp[zone:]


def _seek_tail(descriptor: int, lines: int) -> None:
    """Sets the position to the beginning of the last `lines` whole lines (those with the tag P belong to the one after)."""
    end = os.lseek(descriptor, 0, os.SEEK_END)
    position, block, found = end, b"", 0
    while position > 0:
        size = min(CHUNK_BYTES, position)
        position -= size
        block = os.pread(descriptor, size, position) + block
        starts = _starts(block, position)
        found = len(starts)
        if found > lines:
            os.lseek(descriptor, starts[found - lines] if lines else end, os.SEEK_SET)
            return
    starts = _starts(block, 0)
    os.lseek(descriptor, starts[-lines] if lines and len(starts) >= lines else (end if not lines else 0), os.SEEK_SET)


def _starts(block: bytes, base: int) -> list[int]:
    """Where whole lines begin in a block. The first, perhaps cut, counts only at the file's beginning."""
    starts = []
    offset = 0
    fresh = base == 0
    for line in block.split(b"\n")[:-1]:
        if fresh:
            starts.append(base + offset)
        tag = line.split(b" ", 3)[2:3]
        fresh = not (tag and tag[0].startswith(b"P"))
        offset += len(line) + 1
    return starts


def next_number(directory: Path) -> int:
    """The number of the log that follows those in a container's directory."""
    numbers = [name.partition(".log")[0] for name in os.listdir(directory) if ".log" in name]
    return max((int(number) for number in numbers if number.isdigit()), default=-1) + 1


def remove(directory: Path, number: int) -> None:
    """Removes a log from a container's directory, and what was rotated out of it."""
    for file in directory.glob(f"{number}.log*"):
        file.unlink(missing_ok=True)


def needs_rotation(path: Path) -> bool:
    try:
        return path.stat().st_size >= MAX_FILE_BYTES
    except FileNotFoundError:
        return False


async def rotate(path: Path, reopen: Callable[[], Awaitable[None]]) -> None:
    """Renames the log and has the runtime open a new one; compresses the older ones and keeps at most five files."""
    rotated = path.with_name(f"{path.name}.{time.strftime('%Y%m%d-%H%M%S')}")
    await asyncio.to_thread(path.rename, rotated)
    try:
        await reopen()
    except Exception:
        if not await asyncio.to_thread(path.exists):
            await asyncio.to_thread(rotated.rename, path)  # the runtime still writes to it
        raise
    await asyncio.to_thread(_tidy, path, rotated)


def _tidy(path: Path, newest: Path) -> None:
    older = sorted(p for p in path.parent.glob(f"{path.name}.*") if p != newest)
    for file in older[: -(MAX_FILES - 2)] if len(older) > MAX_FILES - 2 else []:
        file.unlink(missing_ok=True)
    for file in older[-(MAX_FILES - 2) :]:
        if file.suffix != ".gz":
            packed = file.with_name(file.name + ".gz")
            with file.open("rb") as source, gzip.open(packed, "wb") as target:
                shutil.copyfileobj(source, target)
            file.unlink()
