"""A little network for tests: this process's main thread inside a namespace that stands for a node, with pods on a bridge and a
client outside, each a namespace of its own. Needs root."""

import asyncio
import ctypes
import os
import socket
import subprocess
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


class Topology:
    """Node: 10.244.0.1 on the bridge and 192.0.2.1 outside. Pods: 10.244.0.5 and up. The client outside: 192.0.2.2."""

    def __init__(self, bridge: str = "kl0") -> None:
        self.tag = uuid.uuid4().hex[:6]
        self.bridge = bridge
        self._paths: dict[str, str] = {}
        self._count = 0

    def namespace(self, name: str) -> str:
        full = f"klt-{self.tag}-{name}"
        ip("netns", "add", full)
        self._paths[name] = full
        ip("-n", full, "link", "set", "lo", "up")
        return full

    def build(self) -> None:
        ip("link", "set", "lo", "up")
        ip("link", "add", self.bridge, "type", "bridge")
        ip("address", "add", "10.244.0.1/24", "dev", self.bridge)
        ip("link", "set", self.bridge, "up")
        outside = self.namespace("outside")
        ip("link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", outside)
        ip("address", "add", "192.0.2.1/24", "dev", "eth0")
        ip("link", "set", "eth0", "up")
        ip("-n", outside, "address", "add", "192.0.2.2/24", "dev", "eth0")
        ip("-n", outside, "link", "set", "eth0", "up")
        ip("-n", outside, "route", "add", "default", "via", "192.0.2.1")
        ip("route", "add", "default", "via", "192.0.2.2")
        for name in ("ipv4/ip_forward", "bridge/bridge-nf-call-iptables"):
            with open(f"/proc/sys/net/{name}", "w") as file:
                file.write("1")

    def pod(self, name: str) -> str:
        """A pod's address."""
        self._count += 1
        address = f"10.244.0.{4 + self._count}"
        inside, link = self.namespace(name), f"v{self.tag}{self._count}"
        ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", inside)
        ip("link", "set", link, "master", self.bridge, "up")
        ip("link", "set", link, "type", "bridge_slave", "hairpin", "on")  # as the CNI plugin does
        ip("-n", inside, "address", "add", f"{address}/24", "dev", "eth0")
        ip("-n", inside, "link", "set", "eth0", "up")
        ip("-n", inside, "route", "add", "default", "via", "10.244.0.1")
        return address

    def own(self, where: str, address: str) -> None:
        """Gives a pod's namespace, "outside" or the node (empty) one more address."""
        ip(*(("-n", self._paths[where]) if where else ()), "address", "add", f"{address}/32", "dev", "lo")

    def route(self, where: str, destination: str, gateway: str) -> None:
        """Sends a destination to a gateway, even the loopback range, as an attacker would."""
        full = self._paths[where]
        ip("netns", "exec", full, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet")
        ip("-n", full, "route", "del", "table", "local", "local", "127.0.0.0/8")
        ip("-n", full, "route", "del", "table", "local", "local", "127.0.0.1")
        ip("-n", full, "route", "add", destination, "via", gateway)

    def socket(self, where: str, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """A socket in a pod's namespace, "outside", or the node (empty)."""
        if not where:
            return socket.socket(socket.AF_INET, kind)
        home, there = os.open("/proc/thread-self/ns/net", os.O_RDONLY), os.open(f"/run/netns/{self._paths[where]}", os.O_RDONLY)
        try:
            _enter(there)
            try:
                return socket.socket(socket.AF_INET, kind)
            finally:
                _enter(home)
        finally:
            os.close(there)
            os.close(home)

    @asynccontextmanager
    async def serving(self, where: str, port: int) -> AsyncIterator[None]:
        """A TCP server that says where it is and whom it sees."""
        listener = self.socket(where)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("0.0.0.0", port))
        listener.setblocking(False)

        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(f"{where} {writer.get_extra_info('peername')[0]}".encode())
            writer.close()

        server = await asyncio.start_server(greet, sock=listener)
        try:
            yield
        finally:
            server.close()

    async def ask(self, where: str, host: str, port: int, timeout_s: float = 2.0) -> tuple[str, str]:
        """Connects from somewhere: (who answered, which client address it saw)."""
        made = self.socket(where)
        made.setblocking(False)
        try:
            async with asyncio.timeout(timeout_s):
                loop = asyncio.get_running_loop()
                await loop.sock_connect(made, (host, port))
                answer = (await loop.sock_recv(made, 100)).decode()
        finally:
            made.close()
        server, client = answer.split(" ")
        return server, client

    def remove(self) -> None:
        for full in self._paths.values():
            subprocess.run(["ip", "netns", "delete", full], check=False, capture_output=True)


@contextmanager
def node() -> Iterator[Topology]:
    """Inside it, this thread and every thread and process that it starts are in the node's namespace."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    if _libc.unshare(_CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare: a network namespace needs root")
    topology = Topology()
    try:
        topology.build()
        yield topology
    finally:
        _enter(home)
        os.close(home)
        topology.remove()
