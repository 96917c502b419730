"""The cluster's DNS on a node: answers for the cluster's names from the session's own data, the rest from the host's servers.

It listens on the DNS service's address, which is put on the node's loopback interface; several agents of one machine share it
(SO_REUSEPORT), and answer the same. It asks nothing of the API server and keeps no copy beside `records.Zone`.
"""

import asyncio
import ipaddress
import random
import socket
import struct
from collections.abc import Iterable
from pathlib import Path

import structlog

from kubelite.meta.types import Obj
from kubelite.network import dnswire, nft
from kubelite.network.dnswire import AAAA, ANY, NOERROR, NXDOMAIN, REFUSED, SERVFAIL, A, FormatFault, Query, Record
from kubelite.network.records import Zone

log = structlog.get_logger(__name__)

_UPSTREAM_TIMEOUT_S = 2.0
_TCP_IDLE_S = 30.0
#: Queries under way upstream; above it they are refused. A flood of them must cost nothing else.
_MAX_FORWARDED = 512
_MAX_TCP_CONNECTIONS = 128
_MAX_ALIASES = 8
_RETRY_S = 5.0


class DnsServer:
    """One for each node. `changed` takes services and endpoint slices; answers begin with `synced`. `ready` is set once it
    listens; `port` is the bound one."""

    def __init__(
        self,
        address: str = "10.96.0.10",
        domain: str = "cluster.local",
        *,
        cidrs: Iterable[str] = (),
        port: int = 53,
        resolv_conf: Path = Path("/etc/resolv.conf"),
        upstreams: Iterable[str] | None = None,
    ) -> None:
        self.zone = Zone(domain, cidrs)
        self._address = address
        self.port = port
        self._forwarder = Forwarder(address, resolv_conf, upstreams)
        self._synced = asyncio.Event()
        self.ready = asyncio.Event()
        self._connections: set[asyncio.Task[None]] = set()
        self._answering: set[asyncio.Task[None]] = set()

    def changed(self, resource: str, old: Obj | None, new: Obj | None) -> None:
        self.zone.changed(resource, old, new)

    def synced(self) -> None:
        self._synced.set()

    async def run(self) -> None:
        """Serves until it is cancelled."""
        await self._synced.wait()
        loop = asyncio.get_running_loop()
        while True:
            try:
                await self._own_address()
                udp, tcp = self._sockets()
                break
            except OSError as e:
                log.warning("dns_not_listening", address=self._address, port=self.port, error=str(e), again_in_s=_RETRY_S)
                await asyncio.sleep(_RETRY_S)
        transport, _ = await loop.create_datagram_endpoint(lambda: _Udp(self), sock=udp)
        server = await asyncio.start_server(self._serve_stream, sock=tcp)
        self.ready.set()
        try:
            await asyncio.Event().wait()
        finally:
            transport.close()
            server.close()
            for task in (*self._connections, *self._answering):
                task.cancel()

    async def _own_address(self) -> None:
        """Puts the address on the loopback interface where no interface has it."""
        probe = socket.socket(socket.AF_INET6 if ":" in self._address else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            probe.bind((self._address, 0))
            return
        except OSError:
            length = ipaddress.ip_address(self._address).max_prefixlen
            # of this host only: the kernel must not take it for the source of what leaves by an interface without addresses
            own = (f"{self._address}/{length}", "dev", "lo", "scope", "host")
            status, _, errors = await nft.run("ip", "address", "replace", *own)
            if status != 0:
                raise OSError(f"{self._address} cannot be put on the loopback interface: {errors.strip()}") from None
        finally:
            probe.close()

    def _sockets(self) -> tuple[socket.socket, socket.socket]:
        """For datagrams and for streams, on the same port; a port 0 takes one that is free for both."""
        udp = self._socket(socket.SOCK_DGRAM, self.port)
        port = udp.getsockname()[1]
        try:
            tcp = self._socket(socket.SOCK_STREAM, port)
        except OSError:
            udp.close()
            raise
        self.port = port
        return udp, tcp

    def _socket(self, kind: int, port: int) -> socket.socket:
        made = socket.socket(socket.AF_INET6 if ":" in self._address else socket.AF_INET, kind)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            made.setblocking(False)
            made.bind((self._address, port))
            if kind == socket.SOCK_STREAM:
                made.listen(128)
        except OSError:
            made.close()
            raise
        return made

    def answer_nowait(self, message: bytes, *, stream: bool = False) -> bytes | None:
        """The answer where it needs nobody else; None for a query that is to be forwarded, empty bytes for what deserves none."""
        try:
            query = dnswire.parse_query(message)
        except FormatFault:
            return b"" if len(message) < 12 or message[2] & 0x80 else message[:2] + b"\x80\x81" + b"\0" * 8
        if not self.zone.has(query.name):
            return None
        reply = self.zone.look_up(query.name, query.type)
        if reply.alias:
            return None
        authority = [] if reply.answers else [self.zone.authority()]
        return dnswire.response(query, reply.code, reply.answers, authority, reply.extra, stream=stream)

    async def answer(self, message: bytes, *, stream: bool = False) -> bytes:
        """The answer, forwarding what is not the cluster's."""
        if (ready := self.answer_nowait(message, stream=stream)) is not None:
            return ready
        query = dnswire.parse_query(message)
        if not self.zone.has(query.name):
            return await self._forwarder.forward(query, message, stream=stream)
        code, records = await self._follow(query)
        return dnswire.response(query, code, records, stream=stream)

    async def _follow(self, query: Query) -> tuple[int, list[Record]]:
        """An ExternalName's answer: the alias, and what it stands for."""
        records: list[Record] = []
        name = query.name
        for _ in range(_MAX_ALIASES):
            owner = "" if name == query.name else name
            if not self.zone.has(name):
                if query.type not in (A, AAAA, ANY):
                    return NOERROR, records
                question = dnswire.packed_name(name) + struct.pack(">HH", query.type, 1)
                asked = Query(random.getrandbits(16), name, query.type, question, True, 1232, False)
                header = struct.pack(">HHHHHH", asked.id, 0x0100, 1, 0, 0, 0)
                message = await self._forwarder.forward(asked, header + question, stream=False)
                try:
                    found = dnswire.answer_records(message)
                except FormatFault:
                    return SERVFAIL, records
                # a name that cannot be resolved from here still has its alias, which some clients ask for
                code = dnswire.response_code(message)
                return (NOERROR if code == SERVFAIL else code), [*records, *found]
            reply = self.zone.look_up(name, query.type)
            records += [record._replace(name=owner) for record in reply.answers]
            if not reply.alias:
                return reply.code, records
            if query.type == dnswire.CNAME:
                return NOERROR, records
            name = reply.alias
        return SERVFAIL, records

    def answer_later(self, message: bytes, transport: asyncio.DatagramTransport, peer: tuple[str, int]) -> None:
        """For UDP: forwards in a task."""
        if len(self._answering) >= _MAX_FORWARDED:
            query = dnswire.parse_query(message)
            transport.sendto(dnswire.response(query, REFUSED, authoritative=False), peer)
            return
        task = asyncio.create_task(self._send_later(message, transport, peer), name="dns-forward")
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _send_later(self, message: bytes, transport: asyncio.DatagramTransport, peer: tuple[str, int]) -> None:
        answer = await self.answer(message)
        if answer and not transport.is_closing():
            transport.sendto(answer, peer)

    async def _serve_stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._connections) >= _MAX_TCP_CONNECTIONS:
            writer.close()
            return
        self._connections.add(task)
        try:
            while True:
                async with asyncio.timeout(_TCP_IDLE_S):
                    (length,) = struct.unpack(">H", await reader.readexactly(2))
                    message = await reader.readexactly(length)
                answer = await self.answer(message, stream=True)
                if not answer:
                    return
                writer.write(struct.pack(">H", len(answer)) + answer)
                await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, OSError):
            return  # the client went away or idles
        finally:
            self._connections.discard(task)
            writer.close()


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.DatagramTransport) or hasattr(transport, "sendto")
        self._transport = transport  # type: ignore[assignment]  # uvloop's is no subclass

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = self._server.answer_nowait(data)
        if answer is None:
            self._server.answer_later(data, self._transport, addr)
        elif answer:
            self._transport.sendto(answer, addr)


class Forwarder:
    """Asks the host's own servers, one after the other."""

    def __init__(self, own_address: str, resolv_conf: Path, upstreams: Iterable[str] | None = None) -> None:
        self._own = own_address
        self._path = resolv_conf
        self._fixed = list(upstreams) if upstreams is not None else None
        self._read: tuple[float, list[str]] = (-1.0, [])

    def upstreams(self) -> list[str]:
        """Addresses, or address:port, of the servers to ask; read again when the file changes."""
        if self._fixed is not None:
            return self._fixed
        try:
            changed_at = self._path.stat().st_mtime
        except OSError:
            return []
        if self._read[0] != changed_at:
            words = [line.split() for line in self._path.read_text(errors="replace").splitlines()]
            found = [w[1] for w in words if len(w) > 1 and w[0] == "nameserver" and w[1] != self._own]
            self._read = (changed_at, found)
        return self._read[1]

    async def forward(self, query: Query, message: bytes, *, stream: bool) -> bytes:
        """The first server's answer; SERVFAIL when none answers. NXDOMAIN for single labels, which are never public names."""
        if "." not in query.name and query.type in (A, AAAA):
            return dnswire.response(query, NXDOMAIN, authoritative=False)
        for upstream in await asyncio.to_thread(self.upstreams):
            host, _, port = upstream.rpartition(":") if upstream.count(":") == 1 else (upstream, "", "53")
            try:
                async with asyncio.timeout(_UPSTREAM_TIMEOUT_S):
                    return await (_ask_tcp if stream else _ask_udp)(host, int(port), message)
            except (OSError, TimeoutError, asyncio.IncompleteReadError):
                continue
        return dnswire.response(query, SERVFAIL, authoritative=False)


async def _ask_udp(host: str, port: int, message: bytes) -> bytes:
    """Over a socket of its own, with an id of its own: both are hard to guess for who would forge an answer."""
    loop = asyncio.get_running_loop()
    asked = random.SystemRandom().getrandbits(16).to_bytes(2, "big")
    answered: asyncio.Future[bytes] = loop.create_future()

    class Upstream(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            if data[:2] == asked and not answered.done():
                answered.set_result(data)

        def error_received(self, exc: Exception) -> None:
            if not answered.done():
                answered.set_exception(exc)

    transport, _ = await loop.create_datagram_endpoint(Upstream, remote_addr=(host, port))
    try:
        transport.sendto(asked + message[2:])
        answer = await answered
    finally:
        transport.close()
    return message[:2] + answer[2:]


async def _ask_tcp(host: str, port: int, message: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(struct.pack(">H", len(message)) + message)
        (length,) = struct.unpack(">H", await reader.readexactly(2))
        return await reader.readexactly(length)
    finally:
        writer.close()
