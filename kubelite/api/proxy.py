"""HTTP towards pods and services, over a tunnel of the node that they are on.

Nothing is dialled from here: the node's agent connects, to its own pods' addresses only, after the address itself was
checked (CVE-2022-3294, CVE-2020-8562). Redirects are never followed; an upgrade that is not answered with 101 ends the
connection (CVE-2018-1002105, CVE-2020-8559).

Source: apimachinery pkg/util/proxy/{upgradeaware,transport}.go, v0.34.
"""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpProcessingError, HttpResponseParser

from kubelite.api.connections import STATUS_LINES
from kubelite.api.requests import Reply, Request, Streamed
from kubelite.api.streaming.bytestream import ByteStream, Closed, Upgraded
from kubelite.meta.errors import ServiceUnavailable
from kubelite.rpc import node_pb2 as pb

if TYPE_CHECKING:
    from kubelite.nodes.tunnels import NodeStream

_HOP_BY_HOP = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
#: Who the client is to us is nobody else's business.
_OURS = frozenset(("authorization", "host", "content-length", "expect"))
MAX_BODY_BYTES = 4 * 1024 * 1024
_LINKS = re.compile(
    rb"""(\b(?:href|src|action|formaction|cite|background|icon|longdesc|profile|manifest|usemap|classid|codebase|data|poster)"""
    rb"""\s*=\s*)("([^"]*)"|'([^']*)')""",
    re.IGNORECASE,
)


class NodeBytes:
    """A node's stream as plain bytes."""

    def __init__(self, stream: "NodeStream") -> None:
        self._stream = stream
        self.problem = ""

    async def read(self) -> bytes:
        while (frame := await self._stream.read()) is not None:
            which = frame.WhichOneof("frame")
            if which == "stdout" and frame.stdout:
                return frame.stdout
            if which == "exit":
                import orjson

                status = orjson.loads(frame.exit.status_json) if frame.exit.status_json else {}
                if status.get("status") == "Failure":
                    self.problem = str(status.get("message", ""))
                return b""
        return b""

    async def write(self, data: bytes) -> None:
        await self._stream.write(pb.TunnelFrame(stdin=data))

    def close(self) -> None:
        self._closing = asyncio.get_running_loop().create_task(self._stream.close(), name="tunnel close")


def unverified_tls() -> ssl.SSLContext:
    """For pods and services, whose certificates are their own affair, as upstream's proxies hold it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class TlsBytes:
    """TLS over a ByteStream, the client's side. `name`: what the certificate must be for, where the context verifies it."""

    def __init__(self, stream: ByteStream, context: ssl.SSLContext, name: str | None = None) -> None:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=name)
        self._stream = stream

    async def handshake(self) -> None:
        """Raises ssl.SSLError or Closed."""
        while True:
            try:
                self._tls.do_handshake()
                await self._flush()
                return
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fill()

    async def _fill(self) -> None:
        data = await self._stream.read()
        if not data:
            raise Closed("the connection ended during the TLS handshake")
        self._in.write(data)

    async def _flush(self) -> None:
        if self._out.pending:
            await self._stream.write(self._out.read())

    async def read(self) -> bytes:
        while True:
            try:
                return self._tls.read(65536)
            except ssl.SSLWantReadError:
                data = await self._stream.read()
                if not data:
                    return b""
                self._in.write(data)
            except ssl.SSLError:
                return b""

    async def write(self, data: bytes) -> None:
        self._tls.write(data)
        await self._flush()

    def close(self) -> None:
        self._stream.close()


class _Sink(BaseProtocol):
    """The response parser's idea of a connection: pausing it stops our reading."""

    def __init__(self) -> None:
        super().__init__(asyncio.get_running_loop(), None)
        self.flowing = asyncio.Event()
        self.flowing.set()

    @property
    def connected(self) -> bool:
        return True

    def pause_reading(self) -> None:
        self._reading_paused = True
        self.flowing.clear()

    def resume_reading(self, resume_parser: bool = True) -> None:
        self._reading_paused = False
        self.flowing.set()

    def data_received(self, data: bytes) -> None:
        """Nothing comes this way: who feeds the parser is `_feed`."""


async def forward(
    request: Request, stream: ByteStream, host: str, path: str, prefix: str, added: Sequence[tuple[str, str]] = ()
) -> Reply | Streamed:
    """Sends the request to the other end of `stream` and answers with what comes back.

    `path`: what to ask there, with its query. `prefix`: the path here that stands before it, for links and redirects; with an
    empty one they are left alone. `added`: headers of ours; a client's of the same kind are dropped.

    Raises:
        ServiceUnavailable: nothing that is HTTP came back.
    """
    upgrade = request.headers.get("Upgrade", "") if "upgrade" in request.headers.get("Connection", "").lower() else ""
    request_out = _send(request, stream, host, path, prefix, upgrade, added)
    sending = asyncio.get_running_loop().create_task(request_out, name="proxied request")
    sink = _Sink()
    parser: Any = HttpResponseParser(
        sink,
        sink._loop,
        2**16,
        max_line_size=65536,
        max_field_size=65536,
        response_with_body=request.method != "HEAD",
        read_until_eof=True,
        auto_decompress=False,
    )
    try:
        message, payload, tail = await _head(stream, parser)
        if upgrade and message.code == 101:
            await sending
            return await _relay_upgrade(request, stream, message, tail)
        if upgrade and 300 <= message.code < 400:
            raise ServiceUnavailable("error trying to reach service: a redirect in answer to an upgrade is not followed")
        feeding = asyncio.get_running_loop().create_task(_feed(stream, parser, sink, payload), name="proxied response")
        try:
            return await _answer(request, message, payload, host, prefix)
        finally:
            feeding.cancel()
            await asyncio.wait((feeding,))
    except (Closed, HttpProcessingError, ssl.SSLError) as e:
        if request.status:
            raise
        problem = getattr(stream, "problem", "") or str(e)
        raise ServiceUnavailable(f"error trying to reach service: {problem}") from e
    finally:
        sending.cancel()
        await asyncio.wait((sending,))


async def ask(stream: ByteStream, host: str, path: str, added: Sequence[tuple[str, str]]) -> tuple[int, bytes]:
    """A GET of our own: the status and the body. Raises Closed or HttpProcessingError."""
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}", "Accept: application/json", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in added]
    await stream.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    sink = _Sink()
    parser: Any = HttpResponseParser(sink, sink._loop, 2**16, read_until_eof=True, auto_decompress=True)
    message, payload, _ = await _head(stream, parser)
    feeding = asyncio.get_running_loop().create_task(_feed(stream, parser, sink, payload), name="asked response")
    try:
        return message.code, await _whole(payload, Closed("the answer is too large"))
    finally:
        feeding.cancel()
        await asyncio.wait((feeding,))


async def _send(
    request: Request, stream: ByteStream, host: str, path: str, prefix: str, upgrade: str, added: Sequence[tuple[str, str]]
) -> None:
    lines = [f"{request.method} {path} HTTP/1.1", f"Host: {host}"]
    for name, value in request.headers.items():
        lowered = name.lower()
        if lowered not in _HOP_BY_HOP and lowered not in _OURS and not lowered.startswith(("impersonate-", "x-remote-")):
            lines.append(f"{name}: {value}")
    lines.append(f"X-Forwarded-For: {request.connection.remote}")
    lines.append(f"X-Forwarded-Uri: {prefix.rstrip('/')}{path.partition('?')[0]}")
    lines += [f"{name}: {value}" for name, value in added]
    if upgrade:
        lines += ["Connection: Upgrade", f"Upgrade: {upgrade}"]
    else:
        lines.append("Connection: close")
    length = request.headers.get("Content-Length", "")
    chunked = not length and not request.payload.is_eof()
    if chunked:
        lines.append("Transfer-Encoding: chunked")
    elif length.isdigit():
        lines.append(f"Content-Length: {length}")
    await stream.write(("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape"))
    if upgrade or not (chunked or length.isdigit()):
        return
    payload = request.payload
    if request.headers.get("Expect", "").lower() == "100-continue":
        request.connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    while not payload.at_eof():
        data = await payload.readany()
        if data:
            await stream.write(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
    if chunked:
        await stream.write(b"0\r\n\r\n")


async def _head(stream: ByteStream, parser: Any) -> tuple[Any, Any, bytes]:
    """The response's head (after any 1xx but 101), its body's reader, and bytes that came behind an upgrade."""
    while True:
        data = await stream.read()
        if not data:
            raise Closed("the connection was closed without an answer")
        messages, upgraded, tail = parser.feed_data(data)
        for message, payload in messages:
            if message.code == 101 or message.code >= 200:
                return message, payload, tail if upgraded else b""


async def _feed(stream: ByteStream, parser: Any, sink: _Sink, payload: Any) -> None:
    while not payload.is_eof():
        await sink.flowing.wait()
        data = await stream.read()
        if not data:
            with suppress(HttpProcessingError):
                parser.feed_eof()
            if not payload.is_eof():
                payload.set_exception(Closed("the answer was cut off"))
            return
        parser.feed_data(data)


async def _answer(request: Request, message: Any, payload: Any, host: str, prefix: str) -> Reply | Streamed:
    connection = request.connection
    lines: list[bytes] = []
    content_type = ""
    for name, value in message.headers.items():
        lowered = name.lower()
        if lowered in _HOP_BY_HOP or lowered in ("content-length", "date"):
            continue
        if lowered == "location" and prefix:
            value = rewritten(value, host, prefix)
        if lowered == "content-type":
            content_type = value
            continue
        lines.append(f"{name}: {value}\r\n".encode("utf-8", "surrogateescape"))
    headers = b"".join(lines)
    kind = content_type.encode("utf-8", "surrogateescape") or b"application/octet-stream"
    status = message.code if message.code in STATUS_LINES else 502
    if prefix and content_type.partition(";")[0].strip() == "text/html" and "Content-Encoding" not in message.headers:
        page = await _whole(payload, ServiceUnavailable("error trying to reach service: the page is too large to be proxied"))
        return Reply(status, rewritten_html(page, host, prefix), kind, headers)
    if request.method == "HEAD" or status in (204, 304):
        return Reply(status, b"", kind, headers)
    connection.start_stream(request, status, kind, headers)
    async for chunk in _chunks(payload):
        connection.write_chunk(chunk)
        await connection.drain()
    connection.end_stream()
    return Streamed(status)


async def _whole(payload: Any, too_large: Exception) -> bytes:
    """A body that is kept in memory; raises `too_large` past MAX_BODY_BYTES."""
    body = bytearray()
    async for chunk in _chunks(payload):
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise too_large
    return bytes(body)


async def _chunks(payload: Any) -> AsyncIterator[bytes]:
    while not payload.at_eof():
        data = await payload.readany()
        if data:
            yield data


async def _relay_upgrade(request: Request, stream: ByteStream, message: Any, tail: bytes) -> Streamed:
    lines = [f"{name}: {value}\r\n" for name, value in message.headers.items() if name.lower() != "content-length"]
    client = Upgraded()
    request.connection.upgrade(request, "".join(lines).encode("utf-8", "surrogateescape"), client)
    if tail:
        await client.write(tail)
    loop = asyncio.get_running_loop()
    both = (
        loop.create_task(_pump(client, stream), name="proxied upgrade up"),
        loop.create_task(_pump(stream, client), name="proxied upgrade down"),
    )
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in both:
            task.cancel()
        await asyncio.wait(both)
        client.close()
    return Streamed(101, closed=True)


async def _pump(source: ByteStream, target: ByteStream) -> None:
    try:
        while data := await source.read():
            await target.write(data)
    except Closed:
        return


def rewritten(url: str, host: str, prefix: str) -> str:
    """A link of the other side's as it must read here: absolute paths of the same host get the prefix."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    if (parts.netloc and parts.netloc != host) or not parts.path.startswith("/") or parts.scheme not in ("", "http", "https"):
        return url
    path = parts.path if parts.path.startswith(prefix) else prefix.rstrip("/") + parts.path
    return path + (f"?{parts.query}" if parts.query else "") + (f"#{parts.fragment}" if parts.fragment else "")


def rewritten_html(body: bytes, host: str, prefix: str) -> bytes:
    def link(match: "re.Match[bytes]") -> bytes:
        quoted = match.group(2)
        url = quoted[1:-1].decode("utf-8", "surrogateescape")
        return match.group(1) + quoted[:1] + rewritten(url, host, prefix).encode("utf-8", "surrogateescape") + quoted[:1]

    return _LINKS.sub(cast(Callable[["re.Match[bytes]"], bytes], link), body)
