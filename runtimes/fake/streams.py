"""Simulated commands and connections as streams."""

import asyncio
from collections.abc import AsyncIterator

from runtimes.fake.commands import Behaviour


class FakeStream:
    """A simulated command: implements ExecStream."""

    def __init__(self, behaviour: Behaviour, *, stdin: bool, tty: bool) -> None:
        self._behaviour = behaviour
        self._chunks: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        self._exit: asyncio.Future[int] = loop.create_future()
        self._timer: asyncio.TimerHandle | None = None
        if behaviour.stdout:
            self._chunks.put_nowait((1, behaviour.stdout))
        if behaviour.stderr:
            self._chunks.put_nowait((1 if tty else 2, behaviour.stderr))
        reads = stdin and behaviour.echoes_stdin
        if not reads and behaviour.runs_s is not None:
            self._timer = loop.call_later(behaviour.runs_s, self.end, behaviour.exit_code)

    def end(self, exit_code: int) -> None:
        if not self._exit.done():
            self._exit.set_result(exit_code)
            self._chunks.put_nowait(None)

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        while (chunk := await self._chunks.get()) is not None:
            yield chunk
        self._chunks.put_nowait(None)

    async def write_stdin(self, data: bytes) -> None:
        if not self._behaviour.echoes_stdin or self._exit.done():
            return
        if data:
            self._chunks.put_nowait((1, data))
        elif self._behaviour.runs_s is not None:
            self.end(self._behaviour.exit_code)

    async def resize(self, columns: int, rows: int) -> None:
        return

    async def exit_code(self) -> int:
        return await asyncio.shield(self._exit)

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.end(-1)


class Echo:
    """A connection that answers with what it gets: implements ByteStream."""

    def __init__(self) -> None:
        self._chunks: asyncio.Queue[bytes] = asyncio.Queue()

    async def read(self) -> bytes:
        return await self._chunks.get()

    async def write(self, data: bytes) -> None:
        if data:
            self._chunks.put_nowait(data)

    async def write_eof(self) -> None:
        self._chunks.put_nowait(b"")

    async def close(self) -> None:
        self._chunks.put_nowait(b"")
