"""Waits for a file or directory to change, without polling: inotify through libc on the event loop."""

import asyncio
import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

_IN_MODIFY, _IN_CREATE, _IN_MOVED_TO, _IN_DELETE_SELF, _IN_MOVE_SELF = 0x2, 0x100, 0x80, 0x400, 0x800


class Changes:
    """`changed` is set at every change; who waits clears it before looking."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.changed.set()


@contextlib.contextmanager
def watching(directory: Path) -> Iterator[Changes]:
    """Watches the files of a directory while the block runs. Raises OSError where the kernel refuses (too many watches)."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "inotify_init1")
    loop = asyncio.get_running_loop()
    changes = Changes()

    def read() -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(descriptor, 65536)
        changes.changed.set()

    try:
        mask = _IN_MODIFY | _IN_CREATE | _IN_MOVED_TO | _IN_DELETE_SELF | _IN_MOVE_SELF
        if libc.inotify_add_watch(descriptor, os.fsencode(directory), mask) < 0:
            raise OSError(ctypes.get_errno(), "inotify_add_watch", str(directory))
        loop.add_reader(descriptor, read)
        yield changes
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
