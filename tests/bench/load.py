"""A load generator over raw HTTP/1.1: requests are bytes made before the clock starts, so that the server is what is measured.

Each connection has one request in flight. A response is read by its Content-Length or its chunks and is not parsed further.
"""

import asyncio
import socket
import ssl
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
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
        return _rate(latencies, failures, seconds)

    def run_large(self, request: bytes, count: int, in_flight: int) -> Rate:
        """Sends a request `count` times over `in_flight` connections of as many threads, for answers of many megabytes: an
        event loop's copies of one cost more than the server spends on it. Blocks."""
        latencies: list[float] = []
        failures: list[str] = []

        def worker(share: int) -> None:
            with (
                socket.create_connection((self.host, self.port)) as plain,
                self.tls.wrap_socket(plain, server_hostname=self.host) as connection,
            ):
                buffer = bytearray(1 << 18)
                for _ in range(share):
                    start = time.perf_counter()
                    head = _drain(connection, request, buffer)
                    if head[9:12] == b"200":
                        latencies.append(time.perf_counter() - start)
                    else:
                        failures.append(head.decode(errors="replace"))

        start = time.perf_counter()
        with ThreadPoolExecutor(in_flight) as threads:
            list(threads.map(worker, [count // in_flight] * in_flight))
        return _rate(latencies, failures, time.perf_counter() - start)


def _drain(connection: ssl.SSLSocket, request: bytes, buffer: bytearray) -> bytes:
    """Sends a request and reads its answer, which has a Content-Length, to the end; returns the head."""
    connection.sendall(request)
    head = b""
    while (end := head.find(b"\r\n\r\n") + 4) < 4:
        received = connection.recv(1 << 14)
        if not received:
            raise ConnectionError("the server closed the connection before its answer's head was complete")
        head += received
    lower = head[:end].lower()
    at = lower.index(b"content-length:") + 15
    rest = int(lower[at : lower.index(b"\r\n", at)]) - (len(head) - end)
    while rest > 0:
        received_bytes = connection.recv_into(buffer)
        if not received_bytes:
            raise ConnectionError(f"the server closed the connection {rest} bytes before its answer's end")
        rest -= received_bytes
    return head[:end]


def _rate(latencies: list[float], failures: list[str], seconds: float) -> Rate:
    latencies.sort()
    return Rate(
        len(latencies),
        len(failures),
        seconds,
        statistics.median(latencies) * 1000 if latencies else 0.0,
        latencies[len(latencies) * 99 // 100] * 1000 if latencies else 0.0,
        failures[0] if failures else "",
    )
