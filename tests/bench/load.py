"""A load generator over raw HTTP/1.1: requests are bytes made before the clock starts, so that the server is what is measured.

Each connection has one request in flight. A response is read by its Content-Length or its chunks and is not parsed further.
"""

import asyncio
import ssl
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Rate:
    """What a measure found: requests, how many failed, and the latencies' quantiles in milliseconds."""

    count: int
    errors: int
    seconds: float
    p50_ms: float
    p99_ms: float
    first_error: str = ""

    @property
    def per_second(self) -> float:
        return self.count / self.seconds if self.seconds else 0.0


class Connection:
    """One keep-alive connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def exchange(self, request: bytes) -> tuple[int, bytes]:
        """Status code and body of one request."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        code = int(head[9:12])
        lower = head.lower()
        at = lower.find(b"content-length:")
        if at >= 0:
            length = int(lower[at + 15 : lower.index(b"\r\n", at)])
            return code, await self._reader.readexactly(length)
        body = bytearray()
        while True:
            size = int((await self._reader.readline()).split(b";")[0], 16)
            chunk = await self._reader.readexactly(size + 2)
            if size == 0:
                return code, bytes(body)
            body += chunk[:-2]

    async def stream(self, request: bytes, on_data: Callable[[bytes], None]) -> None:
        """Sends a request and hands on the decoded chunks of its endless response until cancelled or closed."""
        self._writer.write(request)
        await self._reader.readuntil(b"\r\n\r\n")
        rest = b""
        while data := await self._reader.read(1 << 18):
            rest += data
            at = 0
            while (line_end := rest.find(b"\r\n", at)) >= 0:
                start = line_end + 2
                end = start + int(rest[at:line_end].split(b";")[0], 16)
                if len(rest) < end + 2:
                    break
                if start == end:
                    return
                on_data(rest[start:end])
                at = end + 2
            rest = rest[at:]

    def close(self) -> None:
        self._writer.close()


class Target:
    """A server to load: its address, its TLS settings and the headers of every request."""

    def __init__(self, server: str, tls: ssl.SSLContext, token: str = "") -> None:
        parts = urlsplit(server)
        self.host, self.port = parts.hostname or "127.0.0.1", parts.port or 443
        self.tls = tls
        self._headers = f"Host: {self.host}:{self.port}\r\nAccept: application/json\r\n"
        if token:
            self._headers += f"Authorization: Bearer {token}\r\n"

    async def connect(self) -> Connection:
        return Connection(
            *await asyncio.open_connection(self.host, self.port, ssl=self.tls, server_hostname=self.host, limit=1 << 24)
        )

    def request(self, method: str, path: str, body: bytes = b"", content_type: str = "application/json") -> bytes:
        """One request as it goes over the wire."""
        head = f"{method} {path} HTTP/1.1\r\n{self._headers}"
        if body:
            head += f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        return head.encode() + b"\r\n" + body

    async def run(self, requests: Sequence[bytes], expected: int, in_flight: int = 32) -> Rate:
        """Sends all requests over `in_flight` connections; a response with another code than `expected` is an error."""
        connections = [await self.connect() for _ in range(in_flight)]
        latencies: list[float] = []
        failures: list[str] = []
        todo = iter(requests)

        async def worker(connection: Connection) -> None:
            for request in todo:
                start = time.perf_counter()
                code, body = await connection.exchange(request)
                if code == expected:
                    latencies.append(time.perf_counter() - start)
                else:
                    failures.append(f"{code} {body[:300].decode(errors='replace')}")

        start = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for connection in connections:
                group.create_task(worker(connection))
        seconds = time.perf_counter() - start
        for connection in connections:
            connection.close()
        latencies.sort()
        return Rate(
            len(latencies),
            len(failures),
            seconds,
            statistics.median(latencies) * 1000 if latencies else 0.0,
            latencies[len(latencies) * 99 // 100] * 1000 if latencies else 0.0,
            failures[0] if failures else "",
        )
