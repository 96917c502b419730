"""SPDY/3.1, the server's side: the streams that exec, attach and port-forward of older clients are made of.

Only what those clients use (moby/spdystream): no push, no flow-control windows, which that library neither sends nor heeds.
A stream that is not read holds back the whole session, so the connection's own flow control is what bounds memory.

Source: SPDY protocol draft 3.1 (frames, header compression); moby/spdystream v0.5.
"""

import asyncio
import struct
import zlib
from collections.abc import AsyncIterator

from kubelite.api.streaming.bytestream import ByteStream, Closed, Reader

MAX_STREAMS = 256
MAX_FRAME_BYTES = 4 * 1024 * 1024
MAX_HEADER_BYTES = 64 * 1024
#: What may wait in one stream before the session's reading stops.
STREAM_BUFFER_BYTES = 512 * 1024
WRITE_PIECE_BYTES = 64 * 1024

_SYN_STREAM, _SYN_REPLY, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _HEADERS = 1, 2, 3, 4, 6, 7, 8
_FIN = 0x01
_CONTROL = 0x8003
_RST_REFUSED, _RST_CANCEL = 3, 5

#: The words that both sides' header compression starts with, and the rest that stands behind them unframed.
_WORDS = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow "
    "authorization cache-control connection content-base content-encoding content-language content-length content-location "
    "content-md5 content-range content-type date etag expect expires from host if-match if-modified-since if-none-match "
    "if-range if-unmodified-since last-modified location max-forwards pragma proxy-authenticate proxy-authorization range "
    "referer retry-after server te trailer transfer-encoding upgrade user-agent vary via warning www-authenticate method get "
    "status|200 OK|version HTTP/1.1 url public set-cookie keep-alive origin"
)
_TAIL = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden"
    "404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,public"
    "privatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)


def _dictionary() -> bytes:
    before, value, after = _WORDS.split("|")
    words = [*before.split(), value, *after.split()]
    return b"".join(struct.pack(">I", len(w)) + w.encode() for w in words) + _TAIL.encode()


DICTIONARY = _dictionary()


class Stream:
    """One stream: read until empty bytes, write, close."""

    def __init__(self, session: "Session", number: int, headers: dict[str, str]) -> None:
        self.number = number
        self.headers = headers
        self._session = session
        self._chunks: list[bytes] = []
        self._size = 0
        self._ended = False
        self._changed = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()
        self._write_closed = False

    async def read(self) -> bytes:
        """What came meanwhile; none at the end."""
        while not self._chunks:
            if self._ended:
                return b""
            self._changed.clear()
            await self._changed.wait()
        data = b"".join(self._chunks)
        self._chunks.clear()
        self._size = 0
        self._drained.set()
        return data

    async def write(self, data: bytes) -> None:
        """Raises Closed."""
        for start in range(0, len(data), WRITE_PIECE_BYTES):
            if self._write_closed:
                raise Closed("the stream is closed")
            await self._session._data(self.number, data[start : start + WRITE_PIECE_BYTES], 0)

    async def close(self) -> None:
        """Ends our side."""
        if not self._write_closed:
            self._write_closed = True
            await self._session._data(self.number, b"", _FIN)
            self._session._forget(self)

    async def reset(self) -> None:
        self._write_closed = True
        self._end()
        await self._session._reset(self.number, _RST_CANCEL)
        self._session._forget(self)

    async def _feed(self, data: bytes) -> None:
        if self._ended:
            return
        self._chunks.append(data)
        self._size += len(data)
        self._changed.set()
        if self._size > STREAM_BUFFER_BYTES:
            self._drained.clear()
            await self._drained.wait()

    def _end(self) -> None:
        self._ended = True
        self._changed.set()
        self._drained.set()


class Session:
    """Speaks SPDY on a ByteStream. `run` reads until the client ends; `accept` gives the streams that it opens."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._reader = Reader(stream)
        self._streams: dict[int, Stream] = {}
        self._accepted: asyncio.Queue[Stream | None] = asyncio.Queue(MAX_STREAMS)
        self._compress = zlib.compressobj(zdict=DICTIONARY)
        self._decompress = zlib.decompressobj(zdict=DICTIONARY)

    async def run(self) -> None:
        """Returns when the session is over, however it ended."""
        try:
            while await self._frame():
                pass
        except (Closed, zlib.error, struct.error, UnicodeDecodeError):
            return
        finally:
            for stream in self._streams.values():
                stream._end()
            if not self._accepted.full():
                self._accepted.put_nowait(None)

    async def accept(self) -> AsyncIterator[Stream]:
        while (stream := await self._accepted.get()) is not None:
            yield stream

    def close(self) -> None:
        self._stream.close()

    async def _frame(self) -> bool:
        head = await self._reader.exactly(8)
        flags = head[4]
        length = int.from_bytes(head[5:8], "big")
        if length > MAX_FRAME_BYTES:
            return False
        body = await self._reader.exactly(length)
        if not head[0] & 0x80:
            stream = self._streams.get(int.from_bytes(head[:4], "big"))
            if stream is not None:
                if body:
                    await stream._feed(body)
                if flags & _FIN:
                    stream._end()
            return True
        kind = int.from_bytes(head[2:4], "big")
        if kind == _SYN_STREAM:
            await self._opened(body, flags)
        elif kind == _RST_STREAM:
            stream = self._streams.pop(struct.unpack(">I", body[:4])[0], None)
            if stream is not None:
                stream._write_closed = True
                stream._end()
        elif kind == _HEADERS:
            self._headers(body[4:])
        elif kind == _PING:
            await self._control(_PING, 0, body)
        elif kind == _GOAWAY:
            return False
        return True

    async def _opened(self, body: bytes, flags: int) -> None:
        number = struct.unpack(">I", body[:4])[0] & 0x7FFFFFFF
        # The header block must be read even when the stream is refused: its compression is one for the session.
        headers = self._headers(body[10:])
        if len(self._streams) >= MAX_STREAMS or number in self._streams or self._accepted.full():
            await self._reset(number, _RST_REFUSED)
            return
        stream = Stream(self, number, headers)
        self._streams[number] = stream
        if flags & _FIN:
            stream._end()
        await self._control(_SYN_REPLY, 0, struct.pack(">I", number) + self._block({}))
        self._accepted.put_nowait(stream)

    def _headers(self, block: bytes) -> dict[str, str]:
        data = self._decompress.decompress(block, MAX_HEADER_BYTES)
        if self._decompress.unconsumed_tail:
            raise Closed("headers too large")
        (count,) = struct.unpack_from(">I", data)
        position = 4
        headers: dict[str, str] = {}
        for _ in range(min(count, 256)):
            (size,) = struct.unpack_from(">I", data, position)
            name = data[position + 4 : position + 4 + size].decode()
            position += 4 + size
            (size,) = struct.unpack_from(">I", data, position)
            headers[name.lower()] = data[position + 4 : position + 4 + size].decode().partition("\0")[0]
            position += 4 + size
        return headers

    def _block(self, headers: dict[str, str]) -> bytes:
        parts = [struct.pack(">I", len(headers))]
        for name, value in headers.items():
            parts += [struct.pack(">I", len(text)) + text.encode() for text in (name, value)]
        return self._compress.compress(b"".join(parts)) + self._compress.flush(zlib.Z_SYNC_FLUSH)

    async def _control(self, kind: int, flags: int, body: bytes) -> None:
        await self._stream.write(struct.pack(">HHI", _CONTROL, kind, flags << 24 | len(body)) + body)

    async def _data(self, number: int, data: bytes, flags: int) -> None:
        await self._stream.write(struct.pack(">II", number, flags << 24 | len(data)) + data)

    async def _reset(self, number: int, status: int) -> None:
        await self._control(_RST_STREAM, 0, struct.pack(">II", number, status))

    def _forget(self, stream: Stream) -> None:
        if stream._ended and stream._write_closed:
            self._streams.pop(stream.number, None)
