"""HTTP/1.1 over TLS connections: aiohttp's parser in front, one task for each connection, one write for each reply.

aiohttp's own request handler starts a task and builds a response object with a header map for every request; that alone
costs more than the budget of the whole chain (docs/performance.md). What is kept of aiohttp is what is hard: the C parser
and the body stream with its flow control.

Deadlines are kept by one sweep a second instead of a timer for each request. An upgraded connection (`Connection.upgrade`)
leaves HTTP for good: its transport is handed to a raw byte stream.
"""

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from http import HTTPStatus
from typing import Any, cast

import structlog
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpProcessingError, HttpRequestParser

from kubelite.api.requests import Reply, Request

log = structlog.get_logger(__name__)

#: A connection that shows no credential within this time, and one that idles this long after its last request, is closed.
ANONYMOUS_IDLE_S = 15.0
IDLE_S = 90.0
MAX_HEADER_BYTES = 64 * 1024
MAX_PIPELINED = 16
#: Bodies above this size are written in pieces, each waiting for the client to take the one before.
WRITE_PIECE_BYTES = 256 * 1024
STATUS_LINES = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in HTTPStatus}

Handler = Callable[[Request], Awaitable[None]]


class Disconnected(ConnectionError):
    """The client went away."""


class Connection(BaseProtocol):
    """One client connection. Requests are answered in order."""

    def __init__(self, listener: "Listener", loop: asyncio.AbstractEventLoop) -> None:
        parser = HttpRequestParser(
            self, loop, 2**16, max_line_size=MAX_HEADER_BYTES, max_field_size=MAX_HEADER_BYTES, auto_decompress=True
        )
        super().__init__(loop, parser)
        self._listener = listener
        self._messages: deque[tuple[Any, Any]] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._tail = b""
        self._closing = False
        self._pipelining_paused = False
        #: Set by the chain: when the request under way must be over (monotonic), None for a long-running one.
        self.deadline: float | None = None
        self.timed_out = False
        #: Whether losing the client ends the request under way at once (streams), or lets it finish (writes).
        self.cancel_on_disconnect = False
        self.busy = False
        self.idle_since = loop.time()
        self.authenticated = False
        self.close_after_reply = False
        self.certificate_der: bytes | None = None
        self.remote = ""

    # --- what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None:
            self.certificate_der = tls.getpeercert(True)
        peer = transport.get_extra_info("peername")
        self.remote = peer[0] if peer else ""
        self._listener.connections.add(self)
        self._task = self._loop.create_task(self._serve(), name=f"connection {self.remote}")

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self._listener.connections.discard(self)
        self._closing = True
        if self._parser is not None:
            # A body that will never be complete must not be waited for.
            for _, payload in self._messages:
                payload.set_exception(Disconnected("connection lost"))
            self._messages.clear()
        if self._current_payload is not None and not self._current_payload.is_eof():
            self._current_payload.set_exception(Disconnected("connection lost"))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.cancel()
        elif self.cancel_on_disconnect and self._task is not None:
            self._task.cancel()

    _current_payload: Any = None

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        if self._upgraded:
            self._tail += data
            return
        assert self._parser is not None
        try:
            messages, upgraded, tail = cast(Any, self._parser).feed_data(data)
        except HttpProcessingError as e:
            self._closing = True
            text = f"{e.message}\n".encode(errors="replace")
            self._write_raw(400, b"text/plain; charset=utf-8", text)
            self.close()
            return
        if messages:
            self._messages.extend(messages)
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_result(None)
            if len(self._messages) > MAX_PIPELINED and not self._pipelining_paused:
                self._pipelining_paused = True
                self._pause()
        if upgraded:
            self._upgraded = True
            self._tail = tail

    def eof_received(self) -> bool:
        return False

    # --- the one task

    async def _serve(self) -> None:
        handler = self._listener.handler
        try:
            while not self._closing:
                while not self._messages:
                    self._waiter = self._loop.create_future()
                    try:
                        await self._waiter
                    finally:
                        self._waiter = None
                message, payload = self._messages.popleft()
                if self._pipelining_paused and not self._messages:
                    self._pipelining_paused = False
                    self._resume()
                self.busy = True
                self._current_payload = payload
                try:
                    await handler(Request(self, message.method, message.path, message.headers, payload))
                finally:
                    self._current_payload = None
                    self.busy = False
                    self.deadline = None
                    self.cancel_on_disconnect = False
                if message.should_close or self.close_after_reply or not await self._rest_is_read(payload):
                    break
                self.idle_since = self._loop.time()
        except asyncio.CancelledError:
            # Cancelled by connection_lost, the sweep or the listener's stop: this connection is over in each case.
            task = asyncio.current_task()
            if task is not None and task.cancelling() and self._listener.stopping:
                raise
        except ConnectionError:
            pass
        finally:
            # After an upgrade the transport tells somebody else of its end.
            self._listener.connections.discard(self)
            self.close()

    async def _rest_is_read(self, payload: Any) -> bool:
        """Whether the next request's start is known: what a handler left of a small body is skipped, else the connection ends."""
        if payload.is_eof():
            return True
        try:
            async with asyncio.timeout(1):
                for _ in range(16):
                    await payload.readany()
                    if payload.is_eof():
                        return True
        except TimeoutError:
            return False
        return False

    def expire(self) -> None:
        """Ends the request under way because its time is over; the chain answers with a Timeout."""
        self.deadline = None
        self.timed_out = True
        if self._task is not None:
            self._task.cancel()

    # --- what the chain and the handlers call

    @property
    def is_lost(self) -> bool:
        return self.transport is None

    def write(self, data: bytes) -> None:
        """Raises Disconnected when nobody is there to read it."""
        if self.transport is None or self.transport.is_closing():
            raise Disconnected("the client has gone")
        self.transport.write(data)

    async def drain(self) -> None:
        """Waits until the client has taken enough of what was written."""
        if self._paused:
            await self._drain_helper()

    async def reply(self, request: Request, reply: Reply) -> None:
        request.status = reply.status
        body = reply.body
        head = b"".join(
            (
                STATUS_LINES[reply.status],
                request.reply_headers,
                b"Cache-Control: ",
                reply.cache_control,
                b"\r\nContent-Type: ",
                reply.content_type,
                b"\r\n",
                reply.headers,
                self._listener.date_line(),
                b"Content-Length: %d\r\n\r\n" % (len(body) if reply.pieces is None else reply.length),
            )
        )
        if request.method == "HEAD":
            self.write(head)
        elif reply.pieces is not None:
            self.write(head)
            for piece in reply.pieces:
                self.write(piece)
                await self.drain()
        elif len(body) <= WRITE_PIECE_BYTES:
            self.write(head + body)
            if self._paused:
                await self._drain_helper()
        else:
            self.write(head)
            view = memoryview(body)
            for start in range(0, len(body), WRITE_PIECE_BYTES):
                self.write(cast(bytes, view[start : start + WRITE_PIECE_BYTES]))
                await self.drain()

    def start_stream(self, request: Request, status: int, content_type: bytes, headers: bytes = b"") -> None:
        """Begins a chunked answer; `write_chunk` and `end_stream` follow."""
        request.status = status
        self.write(
            b"".join(
                (
                    STATUS_LINES[status],
                    request.reply_headers,
                    b"Cache-Control: no-cache, private\r\nContent-Type: ",
                    content_type,
                    b"\r\n",
                    headers,
                    self._listener.date_line(),
                    b"Transfer-Encoding: chunked\r\n\r\n",
                )
            )
        )

    def write_chunk(self, data: bytes) -> None:
        self.write(b"%x\r\n%b\r\n" % (len(data), data))

    def end_stream(self) -> None:
        self.write(b"0\r\n\r\n")

    def upgrade(self, request: Request, head: bytes, protocol: asyncio.BaseProtocol) -> None:
        """Answers 101 with `head` and hands the transport over to `protocol`; what the client sent already is fed to it."""
        transport = self.transport
        if transport is None or transport.is_closing():
            raise Disconnected("the client has gone")
        request.status = 101
        self.close_after_reply = True
        transport.write(STATUS_LINES[101] + request.reply_headers + head + b"\r\n")
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if self._tail:
            cast(asyncio.Protocol, protocol).data_received(self._tail)
            self._tail = b""

    def _write_raw(self, status: int, content_type: bytes, body: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(
                b"%bContent-Type: %b\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b"
                % (STATUS_LINES[status], content_type, len(body), body)
            )

    def close(self) -> None:
        self._closing = True
        if self.transport is not None:
            self.transport.close()

    def _pause(self) -> None:
        if self.transport is not None:
            self.transport.pause_reading()

    def _resume(self) -> None:
        if self.transport is not None and not self._reading_paused:
            self.transport.resume_reading()


class Listener:
    """The listening sockets and all their connections."""

    def __init__(self, handler: Handler, tls: ssl.SSLContext | None) -> None:
        self.handler = handler
        self.connections: set[Connection] = set()
        self.stopping = False
        self._tls = tls
        self._servers: list[asyncio.Server] = []
        self._date = b""
        self._date_until = 0.0

    async def start(self, addresses: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
        """Listens on each address; a port 0 takes a free one. Returns the addresses in use."""
        loop = asyncio.get_running_loop()
        for host, port in addresses:
            server = await loop.create_server(
                lambda: Connection(self, loop),
                host,
                port,
                ssl=self._tls,
                backlog=1024,
                reuse_address=True,
                ssl_handshake_timeout=10 if self._tls else None,
                ssl_shutdown_timeout=2 if self._tls else None,
            )
            self._servers.append(server)
        return [s.getsockname()[:2] for server in self._servers for s in server.sockets]

    async def run(self) -> None:
        """Ends what takes too long, once a second, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(1)
            now = loop.time()
            for connection in list(self.connections):
                if connection.busy:
                    if connection.deadline is not None and now >= connection.deadline:
                        connection.expire()
                elif now - connection.idle_since > (IDLE_S if connection.authenticated else ANONYMOUS_IDLE_S):
                    connection.close()

    async def stop(self, grace_s: float) -> None:
        """Takes no more connections, lets short requests finish for `grace_s`, then ends what is left."""
        self.stopping = True
        for server in self._servers:
            server.close()
        for connection in list(self.connections):
            connection.close_after_reply = True
            if not connection.busy:
                connection.close()
            elif connection.cancel_on_disconnect and connection._task is not None:
                connection._task.cancel()
        waiting = [c._task for c in self.connections if c._task is not None and not c._task.done()]
        if waiting:
            _, late = await asyncio.wait(waiting, timeout=grace_s)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=1)
        for connection in list(self.connections):
            connection.close()

    def date_line(self) -> bytes:
        now = time.time()
        if now >= self._date_until:
            self._date_until = float(int(now) + 1)
            self._date = time.strftime("Date: %a, %d %b %Y %H:%M:%S GMT\r\n", time.gmtime(now)).encode()
        return self._date
