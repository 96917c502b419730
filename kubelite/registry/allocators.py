"""Cluster IPs and node ports: who has which, kept in memory and rebuilt from the services that the store has.

Values that the server picks come from the upper part of a range first, so that those that people pick by hand from the lower
part seldom collide. Every allocation is part of a Transaction that the service's write commits or takes back.

Source: kubernetes pkg/registry/core/service/{ipallocator,portallocator}, KEP-1880 (ServiceCIDR, IPAddress), v1.34.
"""

import asyncio
import ipaddress
import random
import uuid
from collections.abc import Coroutine, Iterable, Iterator
from typing import TYPE_CHECKING, TypeAlias

import structlog

from kubelite.meta import addresses, times
from kubelite.meta.types import Obj
from kubelite.registry.contract import View
from kubelite.registry.entries import encoder
from kubelite.store.contract import StoreError

if TYPE_CHECKING:
    from kubelite.registry.registry import Registry

log = structlog.get_logger()

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

#: So many random picks before the range is searched in order.
_RANDOM_PICKS = 16


class Full(Exception):
    """Nothing of the range is free."""


class Taken(Exception):
    """The value asked for is in use; the text is the API's."""


class Pool:
    """Free numbers of some ranges."""

    def __init__(self, ranges: Iterable[tuple[int, int, int]] = ()) -> None:
        #: (first, last, so many at the start are left for people) of each range.
        self.ranges = list(ranges)
        self.used: set[int] = set()

    def contains(self, number: int) -> bool:
        return any(first <= number <= last for first, last, _ in self.ranges)

    def pick(self) -> int:
        """Takes a free number. Raises Full."""
        for first, last, reserved in self.ranges:
            for number in self._candidates(first, last, reserved):
                if number not in self.used:
                    self.used.add(number)
                    return number
        raise Full("range is full")

    def _candidates(self, first: int, last: int, reserved: int) -> Iterator[int]:
        start = first + reserved
        if start <= last:
            for _ in range(_RANDOM_PICKS):
                yield random.randint(start, last)
            yield from range(start, last + 1)
        yield from range(first, min(start, last + 1))


def _reserved(size: int, step: int, least: int, most: int) -> int:
    return 0 if size <= least else min(max(least, size // step), most)


def ip_range(network: Network) -> tuple[int, int, int]:
    """The numbers of a service network that may be given out."""
    size = network.num_addresses
    first = int(network.network_address) + 1
    last = int(network.broadcast_address) - (1 if network.version == 4 else 0)
    # a range of IPv6 is cut to what one would ever search
    last = min(last, first + (1 << 20))
    return first, max(first, last) if size > 1 else first - 1, _reserved(size, 16, 16, 256)


class Transaction:
    """What one write of a service takes and gives back."""

    def __init__(self, allocators: "Allocators", namespace: str, name: str) -> None:
        self._allocators = allocators
        self._service = (namespace, name)
        self._ips: list[str] = []
        self._ports: list[int] = []
        self._free_ips: list[str] = []
        self._free_ports: list[int] = []

    def take_ip(self, family: str, wanted: str = "") -> str:
        """An address of the family, or the one that is wanted. Raises Full or Taken."""
        pool = self._allocators.ips[family]
        if not wanted:
            number = pool.pick()
            ip = str(ipaddress.IPv4Address(number) if family == "IPv4" else ipaddress.IPv6Address(number))
        else:
            ip, number = wanted, int(addresses.parse(wanted))
            if not pool.contains(number):
                raise Taken("the provided network does not match the current range")
            if number in pool.used:
                raise Taken("provided IP is already allocated")
            pool.used.add(number)
        self._ips.append(ip)
        return ip

    def take_port(self, wanted: int = 0) -> int:
        """A node port, or the one that is wanted. Raises Full or Taken."""
        pool = self._allocators.ports
        if not wanted:
            port = pool.pick()
        else:
            port = wanted
            if not pool.contains(port):
                first, last, _ = pool.ranges[0]
                raise Taken(f"provided port is not in the valid range. The range of valid ports is {first}-{last}")
            if port in pool.used:
                raise Taken("provided port is already allocated")
            pool.used.add(port)
        self._ports.append(port)
        return port

    def free_ip(self, ip: str) -> None:
        """Gives an address back once the write is committed."""
        self._free_ips.append(ip)

    def free_port(self, port: int) -> None:
        self._free_ports.append(port)

    def finish(self, committed: bool) -> None:
        allocators = self._allocators
        if committed:
            for ip in self._ips:
                allocators.publish(ip, *self._service)
            allocators.release(self._free_ips, self._free_ports)
        else:
            allocators.forget(self._ips, self._ports)


class Allocators:
    """The service networks and the node ports of one registry. `load` before the first service is written."""

    def __init__(self, registry: "Registry") -> None:
        self._registry = registry
        self._networks: list[Network] = []
        self.ips: dict[str, Pool] = {}
        self.ports = Pool()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def families(self) -> list[str]:
        """The families that services may have, the default one first."""
        return list(self.ips)

    def load(self) -> None:
        """Reads the ranges and what services and IPAddress objects use of them."""
        registry = self._registry
        first, last = registry.settings.node_ports
        self.ports = Pool([(first, last, _reserved(last - first + 1, 32, 16, 128))])
        self._networks = [ipaddress.ip_network(cidr) for cidr in registry.settings.service_cidrs]
        for entry in registry.store.scan("/servicecidrs.networking.k8s.io/"):
            obj = registry.parsed(entry)
            if not obj["metadata"].get("deletionTimestamp"):
                self._add_networks(obj)
        self._make_pools()
        used = []
        for entry in registry.store.scan("/services/"):
            spec = registry.parsed(entry).get("spec") or {}
            used += [ip for ip in spec.get("clusterIPs") or [spec.get("clusterIP")] if ip and ip != "None"]
            self.ports.used.update(node_ports(spec))
        used += [entry.key.rpartition("/")[2] for entry in registry.store.scan("/ipaddresses.networking.k8s.io/")]
        for ip in used:
            self.note_address(ip)

    def _add_networks(self, obj: Obj) -> None:
        for cidr in (obj.get("spec") or {}).get("cidrs") or ():
            network = ipaddress.ip_network(cidr)
            if network not in self._networks:
                self._networks.append(network)

    def _make_pools(self) -> None:
        self.ips = {}
        for network in self._networks:
            self.ips.setdefault(f"IPv{network.version}", Pool()).ranges.append(ip_range(network))

    def networks_changed(self) -> None:
        """A ServiceCIDR came or went. What writes under way have taken stays taken."""
        before, ports = self.ips, self.ports
        self.load()
        for family, pool in self.ips.items():
            if family in before:
                pool.used |= before[family].used
        self.ports.used |= ports.used

    def note_address(self, ip: str) -> None:
        """The address is in use."""
        try:
            address = addresses.parse(ip)
        except ValueError:
            return  # validation keeps such values out; an old object must not stop the start
        pool = self.ips.get(f"IPv{address.version}")
        if pool is not None:
            pool.used.add(int(address))

    def forget(self, ips: Iterable[str], ports: Iterable[int] = ()) -> None:
        for ip in ips:
            address = addresses.parse(ip)
            pool = self.ips.get(f"IPv{address.version}")
            if pool is not None:
                pool.used.discard(int(address))
        self.ports.used.difference_update(ports)

    def release(self, ips: Iterable[str], ports: Iterable[int]) -> None:
        """Gives back what a service had, and removes the IPAddress objects."""
        ips = list(ips)
        self.forget(ips, ports)
        for ip in ips:
            entry = self._registry.store.newest(_key(ip))
            if entry is not None:
                obj = self._registry.parsed(entry)
                final = {**obj, "metadata": dict(obj["metadata"])}
                self._write(self._delete(entry.key, final, entry.revision))

    async def _delete(self, key: str, final: Obj, revision: int) -> None:
        await self._registry.store.delete(key, encoder(final), revision)

    def publish(self, ip: str, namespace: str, name: str) -> None:
        """Writes the IPAddress object of an address that a service took."""
        family = f"IPv{addresses.parse(ip).version}"
        obj = {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "IPAddress",
            "metadata": {
                "name": ip,
                "uid": str(uuid.uuid4()),
                "creationTimestamp": times.now(),
                "labels": {
                    "ipaddress.kubernetes.io/ip-family": family,
                    "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
                },
            },
            "spec": {"parentRef": {"resource": "services", "namespace": namespace, "name": name}},
        }
        self._write(self._create(ip, obj))

    async def _create(self, ip: str, obj: Obj) -> None:
        labels = obj["metadata"]["labels"]
        await self._registry.store.create(_key(ip), encoder(obj), View(labels, {"metadata.name": ip}, obj))

    def _write(self, writing: Coroutine[object, object, None]) -> None:
        """Runs a write that nobody waits for; the object is a record of what the service says anyhow."""
        task = asyncio.get_running_loop().create_task(writing, name="registry.ipaddress")
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            if not isinstance(fault, StoreError):
                raise fault
            log.info("ip_address_not_written", fault=str(fault))


def _key(ip: str) -> str:
    return f"/ipaddresses.networking.k8s.io/{ip}"


def node_ports(spec: Obj) -> list[int]:
    """The node ports that a service has."""
    found = [port["nodePort"] for port in spec.get("ports") or () if port.get("nodePort")]
    if spec.get("healthCheckNodePort"):
        found.append(spec["healthCheckNodePort"])
    return found
