"""WebSocket and SPDY framing, spoken by a client written for the test."""

import asyncio
import struct
import zlib

import pytest

from kubelite.api.streaming import remotecommand, spdy
from kubelite.api.streaming.bytestream import Closed
from kubelite.api.streaming.websocket import BINARY, CLOSE, PING, PONG, TEXT, WebSocket, unmasked


class Pipe:
    """A ByteStream whose other end is the test."""

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[bytes] = asyncio.Queue()
        self.outgoing = bytearray()
        self.closed = False

    async def read(self) -> bytes:
        return await self.incoming.get()

    async def write(self, data: bytes) -> None:
        if self.closed:
            raise Closed("closed")
        self.outgoing += data

    def close(self) -> None:
        self.closed = True

    def feed(self, data: bytes) -> None:
        self.incoming.put_nowait(data)


def frame(opcode: int, data: bytes, *, final: bool = True, mask: bytes = b"abcd") -> bytes:
    head = bytes(((0x80 if final else 0) | opcode,))
    if len(data) < 126:
        head += bytes((0x80 | len(data),))
    else:
        head += struct.pack(">BH", 0x80 | 126, len(data))
    return head + mask + unmasked(data, mask)


async def test_a_masked_message_is_read():
    pipe = Pipe()
    pipe.feed(frame(BINARY, b"x" * 1000))
    message = await WebSocket(pipe).receive()
    assert message == (BINARY, b"x" * 1000)


async def test_a_message_in_pieces_is_put_together_and_pings_between_are_answered():
    pipe = Pipe()
    pipe.feed(frame(TEXT, b"one ", final=False) + frame(PING, b"p") + frame(0, b"two"))
    message = await WebSocket(pipe).receive()
    assert message == (TEXT, b"one two")
    assert bytes(pipe.outgoing) == bytes((0x80 | PONG, 1)) + b"p"


async def test_an_unmasked_frame_ends_the_connection():
    pipe = Pipe()
    pipe.feed(bytes((0x80 | BINARY, 1)) + b"x")
    assert await WebSocket(pipe).receive() is None
    assert pipe.closed
    assert pipe.outgoing[0] == 0x80 | CLOSE


async def test_a_close_is_answered_with_its_reason():
    pipe = Pipe()
    pipe.feed(frame(CLOSE, struct.pack(">H", 1000)))
    assert await WebSocket(pipe).receive() is None
    assert bytes(pipe.outgoing) == bytes((0x80 | CLOSE, 2)) + struct.pack(">H", 1000)


async def test_long_messages_get_long_headers():
    pipe = Pipe()
    await WebSocket(pipe).send(b"x" * 70000)
    assert pipe.outgoing[:10] == struct.pack(">BBQ", 0x80 | BINARY, 127, 70000)


def test_masking_is_its_own_inverse():
    assert unmasked(unmasked(b"hello world", b"\1\2\3\4"), b"\1\2\3\4") == b"hello world"


class SpdyClient:
    """The other side of a session, as moby/spdystream speaks it."""

    def __init__(self) -> None:
        self.pipe = Pipe()
        self.session = spdy.Session(self.pipe)
        self._compress = zlib.compressobj(zdict=spdy.DICTIONARY)
        self.running = asyncio.ensure_future(self.session.run())

    def control(self, kind: int, flags: int, body: bytes) -> None:
        self.pipe.feed(struct.pack(">HHI", 0x8003, kind, flags << 24 | len(body)) + body)

    def open(self, number: int, **headers: str) -> None:
        block = struct.pack(">I", len(headers))
        for name, value in headers.items():
            block += struct.pack(">I", len(name)) + name.encode() + struct.pack(">I", len(value)) + value.encode()
        packed = self._compress.compress(block) + self._compress.flush(zlib.Z_SYNC_FLUSH)
        self.control(1, 0, struct.pack(">IIH", number, 0, 0) + packed)

    def data(self, number: int, data: bytes, *, fin: bool = False) -> None:
        self.pipe.feed(struct.pack(">II", number, (1 if fin else 0) << 24 | len(data)) + data)

    def end(self) -> None:
        self.pipe.feed(b"")


@pytest.fixture
async def client():
    made = SpdyClient()
    yield made
    made.running.cancel()
    await asyncio.gather(made.running, return_exceptions=True)


async def test_a_stream_is_accepted_with_its_headers_and_carries_data_until_its_end(client):
    client.open(1, streamtype="data", port="80")
    client.open(3, streamtype="error")
    client.data(1, b"hello ")
    client.data(1, b"world", fin=True)
    accepted = client.session.accept()
    stream, other = await anext(accepted), await anext(accepted)
    assert stream.headers == {"streamtype": "data", "port": "80"}
    assert other.headers == {"streamtype": "error"}
    got = b""
    while data := await stream.read():
        got += data
    assert got == b"hello world"


async def test_what_is_written_arrives_as_data_frames_and_an_end(client):
    client.open(1, streamtype="data")
    stream = await anext(client.session.accept())
    del client.pipe.outgoing[:]
    await stream.write(b"abc")
    await stream.close()
    assert bytes(client.pipe.outgoing) == struct.pack(">II", 1, 3) + b"abc" + struct.pack(">II", 1, 1 << 24)
    with pytest.raises(Closed):
        await stream.write(b"more")


async def test_pings_are_answered(client):
    client.control(6, 0, struct.pack(">I", 7))
    while not client.pipe.outgoing:
        await asyncio.sleep(0)
    assert bytes(client.pipe.outgoing) == struct.pack(">HHI", 0x8003, 6, 4) + struct.pack(">I", 7)


async def test_streams_end_with_their_session(client):
    client.open(1, streamtype="data")
    stream = await anext(client.session.accept())
    client.end()
    assert await stream.read() == b""


async def test_cve_2023_44487_streams_beyond_the_bound_are_refused(client):
    for number in range(spdy.MAX_STREAMS + 1):
        client.open(2 * number + 1, streamtype="data")
    refused = struct.pack(">HHI", 0x8003, 3, 8) + struct.pack(">II", 2 * spdy.MAX_STREAMS + 1, 3)
    async with asyncio.timeout(30):
        while refused not in bytes(client.pipe.outgoing):
            await asyncio.sleep(0)


async def test_headers_that_unpack_to_too_much_end_the_session(client):
    client.open(1, streamtype="x" * (spdy.MAX_HEADER_BYTES + 1))
    async with asyncio.timeout(30):
        await client.running


@pytest.mark.parametrize(
    ("text", "size"),
    [(b'{"Width":80,"Height":24}', (80, 24)), (b'{"Width":0,"Height":24}', None), (b"nonsense", None), (b"[]", None)],
)
def test_terminal_sizes_are_read_and_nonsense_is_ignored(text, size):
    found = remotecommand.parse_resize(text)
    assert (found and (found.resize.columns, found.resize.rows)) == size
