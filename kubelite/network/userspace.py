"""The service proxy for machines without nftables: this process relays connections itself.

Every service address is put on the node's loopback interface and listened on, so traffic of pods and of the node arrives here.
Slower than the kernel, and endpoints see the node's address as the client; otherwise the same choice of endpoints. Not served:
SCTP, external and load balancer addresses.
"""

import asyncio
import random
import socket
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

import structlog

from kubelite.meta.types import Obj
from kubelite.network import backends, nft
from kubelite.network.backends import Backend
from kubelite.network.healthchecks import HealthChecks
from kubelite.network.services import Inputs, Key

log = structlog.get_logger(__name__)

_CONNECT_TIMEOUT_S = 5.0
_UDP_IDLE_S = 60.0
_MAX_FLOWS = 4096
_MAX_CLIENTS = 65535
_CHUNK_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Front:
    """Where clients connect: an address (empty: all of the node's) and port."""

    protocol: str
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class Target:
    """Where a front leads. No endpoint: connections are closed at once."""

    endpoints: tuple[Backend, ...]
    affinity_s: int = 0


def targets(service: Obj, slices: Iterable[Obj], node_name: str) -> dict[Front, Target]:
    """Pure: a service's fronts and where they lead."""
    found: dict[Front, Target] = {}
    spec, slices = service["spec"], list(slices)
    affinity_s = 0
    if spec.get("sessionAffinity") == "ClientIP":
        affinity_s = ((spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}).get("timeoutSeconds") or 10800
    for address in spec.get("clusterIPs") or [spec["clusterIP"]]:
        family = "IPv6" if ":" in address else "IPv4"
        for port in spec.get("ports") or ():
            protocol = port.get("protocol", "TCP")
            if protocol not in ("TCP", "UDP"):
                continue
            choice = backends.choose(
                backends.of_port(slices, port, family, node_name),
                internal_local=spec.get("internalTrafficPolicy") == "Local",
                external_local=spec.get("externalTrafficPolicy") == "Local",
                node=node_name,
            )
            found[Front(protocol, address, port["port"])] = Target(choice.cluster, affinity_s)
            if port.get("nodePort") and family == "IPv4":
                found[Front(protocol, "", port["nodePort"])] = Target(choice.external, affinity_s)
    return found


class UserspaceProxy:
    """One for each node; told the same as `services.ServiceProxy`."""

    def __init__(self, node_name: str, *, own_addresses: bool = True) -> None:
        self._node_name = node_name
        self._inputs = Inputs()
        self._health_checks = HealthChecks(node_name)
        self._own_addresses = own_addresses
        self._targets: dict[Key, dict[Front, Target]] = {}
        self._listeners: dict[Front, _Listener] = {}
        self._synced = asyncio.Event()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()

    def changed(self, resource: str, old: Obj | None, new: Obj | None) -> None:
        if self._inputs.changed(resource, old, new) is not None:
            self._idle.clear()
            self._wake.set()

    def synced(self) -> None:
        self._synced.set()
        self._wake.set()

    async def wait_applied(self) -> None:
        """Until everything told so far is listened on."""
        await self._idle.wait()

    async def run(self) -> None:
        """Relays until it is cancelled; connections end with it."""
        await self._synced.wait()
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                await self._apply()
                if not self._wake.is_set():
                    self._idle.set()
        finally:
            self._health_checks.close()
            for listener in self._listeners.values():
                listener.close()

    async def _apply(self) -> None:
        dirty = self._inputs.take_dirty()
        await self._health_checks.follow(dirty, self._inputs.services, self._inputs.slices)
        for key in dirty:
            service = self._inputs.services.get(key)
            if service is None:
                self._targets.pop(key, None)
            else:
                self._targets[key] = targets(service, self._inputs.slices.get(key, {}).values(), self._node_name)
        wanted: dict[Front, Target] = {}
        for fronts in self._targets.values():
            for front, target in fronts.items():
                wanted.setdefault(front, target)
        for front in [f for f in self._listeners if f not in wanted]:
            self._listeners.pop(front).close()
        for front, target in wanted.items():
            listener = self._listeners.get(front)
            if listener is not None:
                listener.target = target
                continue
            try:
                await self._own(front.address)
                made: _Listener = _TcpListener(front, target) if front.protocol == "TCP" else _UdpListener(front, target)
                await made.open()
                self._listeners[front] = made
            except OSError as e:
                log.warning("service_not_served", protocol=front.protocol, address=front.address, port=front.port, error=str(e))

    async def _own(self, address: str) -> None:
        if address and self._own_addresses:
            await nft.run("ip", "address", "replace", f"{address}/{128 if ':' in address else 32}", "dev", "lo")


class _Listener:
    def __init__(self, front: Front, target: Target) -> None:
        self.front = front
        self.target = target
        #: Which endpoint a client had, and until when: the oldest is forgotten first.
        self._clients: OrderedDict[str, tuple[str, int, float]] = OrderedDict()

    async def open(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def choose(self, client: str) -> list[Backend]:
        """Endpoints in the order in which they are to be tried."""
        shuffled = random.sample(self.target.endpoints, len(self.target.endpoints))
        if not self.target.affinity_s:
            return shuffled
        address, port, until = self._clients.get(client, ("", 0, 0.0))
        if until > time.monotonic():
            shuffled.sort(key=lambda b: (b.address, b.port) != (address, port))
        return shuffled

    def remember(self, client: str, chosen: Backend) -> None:
        if self.target.affinity_s:
            self._clients[client] = (chosen.address, chosen.port, time.monotonic() + self.target.affinity_s)
            self._clients.move_to_end(client)
            if len(self._clients) > _MAX_CLIENTS:
                self._clients.popitem(last=False)

    def _socket(self, kind: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.front.address else socket.AF_INET
        made = socket.socket(family, kind)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # another agent's proxy of this machine
        made.setblocking(False)
        try:
            made.bind((self.front.address or "0.0.0.0", self.front.port))
        except OSError:
            made.close()
            raise
        return made


class _TcpListener(_Listener):
    _server: asyncio.Server | None = None

    async def open(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._serve, sock=self._socket(socket.SOCK_STREAM))

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        client = writer.get_extra_info("peername")[0]
        try:
            for backend in self.choose(client):
                try:
                    async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                        there_reader, there_writer = await asyncio.open_connection(backend.address, backend.port)
                except (OSError, TimeoutError):
                    continue
                self.remember(client, backend)
                try:
                    async with asyncio.TaskGroup() as group:
                        group.create_task(_relay(reader, there_writer), name="service to endpoint")
                        group.create_task(_relay(there_reader, writer), name="endpoint to client")
                finally:
                    there_writer.close()
                return
        finally:
            writer.close()
            self._tasks.discard(task)


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until one side ends; the end goes on to the other side."""
    try:
        while data := await reader.read(_CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        writer.close()  # either side is gone: so is the connection


class _UdpListener(_Listener, asyncio.DatagramProtocol):
    """A flow for each client: a socket of its own towards its endpoint, forgotten when idle."""

    async def open(self) -> None:
        self._flows: OrderedDict[tuple[str, int], _Flow] = OrderedDict()
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, sock=self._socket(socket.SOCK_DGRAM))
        self._opening: set[asyncio.Task[None]] = set()

    def close(self) -> None:
        self._transport.close()
        for flow in list(self._flows.values()):
            flow.close()
        for task in self._opening:
            task.cancel()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        flow = self._flows.get(addr)
        if flow is not None and flow.backend in self.target.endpoints:
            flow.send(data)
            self._flows.move_to_end(addr)
            return
        task = asyncio.create_task(self._begin(data, addr), name="service flow")
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _begin(self, data: bytes, peer: tuple[str, int]) -> None:
        if peer in self._flows:
            self._flows.pop(peer).close()
        for backend in self.choose(peer[0])[:1]:
            flow = _Flow(self, peer, backend)
            try:
                await asyncio.get_running_loop().create_datagram_endpoint(
                    lambda flow=flow: flow,  # type: ignore[misc]
                    remote_addr=(backend.address, backend.port),
                )
            except OSError:
                return
            self.remember(peer[0], backend)
            self._flows[peer] = flow
            if len(self._flows) > _MAX_FLOWS:
                self._flows.popitem(last=False)[1].close()
            flow.send(data)

    def back(self, data: bytes, peer: tuple[str, int]) -> None:
        if not self._transport.is_closing():
            self._transport.sendto(data, peer)

    def forget(self, peer: tuple[str, int], flow: "_Flow") -> None:
        if self._flows.get(peer) is flow:
            del self._flows[peer]


class _Flow(asyncio.DatagramProtocol):
    def __init__(self, listener: _UdpListener, peer: tuple[str, int], backend: Backend) -> None:
        self._listener, self._peer, self.backend = listener, peer, backend
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def send(self, data: bytes) -> None:
        self._transport.sendto(data)  # type: ignore[attr-defined]
        self._rearm()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._listener.back(data, self._peer)
        self._rearm()

    def _rearm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(_UDP_IDLE_S, self.close)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._listener.forget(self._peer, self)
        self._transport.close()
