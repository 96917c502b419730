"""The small HTTP client of probes and hooks: one GET a connection, no redirects to other hosts, bounded answers.

A client library would keep connections and cookies and verify certificates; a probe must do none of these, and there may be
hundreds a second.

Source: pkg/probe/http (10 KiB of the body, certificates not verified, User-Agent), v1.34.
"""

import asyncio
import ssl
from collections.abc import Mapping
from functools import cache

BODY_LIMIT = 10 * 1024
HEAD_LIMIT = 32 * 1024
USER_AGENT = "kube-probe/1.34"
REDIRECT_LIMIT = 10


class Malformed(Exception):
    """What answered does not speak HTTP."""


@cache
def _unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def connect(host: str, port: int, timeout_s: float) -> None:
    """Opens a TCP connection and closes it. Raises OSError or TimeoutError."""
    async with asyncio.timeout(timeout_s):
        _, writer = await asyncio.open_connection(host, port)
    writer.close()


async def get(host: str, port: int, path: str, scheme: str, headers: Mapping[str, str], timeout_s: float) -> tuple[int, bytes]:
    """The status and the beginning of the body. A redirect to the same host is followed; one elsewhere is the answer.

    Raises:
        OSError: no connection.
        TimeoutError: it took too long.
        Malformed: the answer is not HTTP.
    """
    async with asyncio.timeout(timeout_s):
        for _ in range(REDIRECT_LIMIT):
            status, fields, body = await _get_once(host, port, path, scheme, headers)
            location = fields.get("location", "")
            if status not in (301, 302, 303, 307, 308) or not location.startswith("/") or location.startswith("//"):
                return status, body
            path = location
        raise Malformed("stopped after 10 redirects")


async def _get_once(
    host: str, port: int, path: str, scheme: str, headers: Mapping[str, str]
) -> tuple[int, dict[str, str], bytes]:
    tls = _unverified() if scheme.upper() == "HTTPS" else None
    reader, writer = await asyncio.open_connection(host, port, ssl=tls, limit=HEAD_LIMIT)
    try:
        name = f"[{host}]" if ":" in host else host
        fields = {"Host": f"{name}:{port}", "User-Agent": USER_AGENT, "Accept": "*/*", "Connection": "close"}
        for key, value in headers.items():
            fields = {k: v for k, v in fields.items() if k.lower() != key.lower()} | {key: value}
        if not path.startswith("/"):
            path = f"/{path}"
        lines = [f"GET {path} HTTP/1.1", *(f"{key}: {value}" for key, value in fields.items() if value)]
        if any("\r" in line or "\n" in line for line in lines):
            raise Malformed("a path or header holds a line break")
        writer.write("\r\n".join([*lines, "", ""]).encode())
        await writer.drain()
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as e:
            raise Malformed("the answer has no HTTP head") from e
        status_line, *rest = head.decode("latin-1").split("\r\n")
        parts = status_line.split(" ", 2)
        if len(parts) < 2 or not parts[0].startswith("HTTP/") or not parts[1].isdigit():
            raise Malformed(f"malformed HTTP response {status_line[:80]!r}")
        found = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in rest if line)}
        body = await _body(reader, found)
        return int(parts[1]), found, body
    finally:
        writer.close()


async def _body(reader: asyncio.StreamReader, fields: Mapping[str, str]) -> bytes:
    """The body's beginning; framing is not undone, since only people read it."""
    length = fields.get("content-length", "")
    wanted = min(int(length), BODY_LIMIT) if length.isdigit() else BODY_LIMIT
    chunks = b""
    while len(chunks) < wanted:
        chunk = await reader.read(wanted - len(chunks))
        if not chunk:
            break
        chunks += chunk
        if fields.get("transfer-encoding", "").lower() == "chunked" and chunks.endswith(b"0\r\n\r\n"):
            break
    return chunks
