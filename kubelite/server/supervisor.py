"""Owns the tasks of one server: each has a name, is watched, and ends in reverse order under one deadline.

A task that must not end and does is an error: it is logged, and `failed` carries it to whoever runs the server.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog

log = structlog.get_logger(__name__)


class PartFailed(Exception):
    """A part of the server ended though it must not."""


class Supervisor:
    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[Any]] = []
        self._stops: list[tuple[str, Callable[[], Awaitable[None]], int]] = []
        self._stopping = False
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def run(self, name: str, part: Coroutine[Any, Any, None]) -> None:
        """Starts a part that runs until it is stopped."""
        task = asyncio.get_running_loop().create_task(part, name=name)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def on_stop(self, name: str, stop: Callable[[], Awaitable[None]]) -> None:
        """Calls `stop` when everything that was started later has ended."""
        self._stops.append((name, stop, len(self._tasks)))

    def names(self) -> list[str]:
        return [t.get_name() for t in self._tasks if not t.done()]

    def _ended(self, task: asyncio.Task[Any]) -> None:
        if self._stopping or task.cancelled():
            if not task.cancelled() and (error := task.exception()) is not None:
                log.error("part_failed_while_stopping", part=task.get_name(), exc_info=error)
            return
        error = task.exception()
        log.error("part_ended", part=task.get_name(), exc_info=error)
        if not self.failed.done():
            failure = PartFailed(f"{task.get_name()} ended: {error or 'without an error'}")
            failure.__cause__ = error
            self.failed.set_exception(failure)

    async def stop(self, deadline_s: float) -> None:
        """Ends everything in reverse order. What does not end in its share of the deadline is left behind and logged."""
        self._stopping = True
        if not self.failed.done():
            self.failed.cancel()
        elif not self.failed.cancelled():
            self.failed.exception()
        loop = asyncio.get_running_loop()
        until = loop.time() + deadline_s
        remaining = len(self._tasks)
        for name, stop, started_before in reversed(self._stops):
            await self._end(self._tasks[started_before:remaining], until)
            remaining = min(remaining, started_before)
            try:
                async with asyncio.timeout_at(max(until, loop.time() + 1)):
                    await stop()
            except TimeoutError:
                log.error("stop_took_too_long", part=name)
            except Exception:
                log.exception("stop_failed", part=name)
        await self._end(self._tasks[:remaining], until)

    async def _end(self, tasks: list[asyncio.Task[Any]], until: float) -> None:
        waiting = [t for t in tasks if not t.done()]
        for task in waiting:
            task.cancel()
        if waiting:
            timeout = max(0.5, until - asyncio.get_running_loop().time())
            _, late = await asyncio.wait(waiting, timeout=timeout)
            for task in late:
                log.error("part_does_not_end", part=task.get_name())
