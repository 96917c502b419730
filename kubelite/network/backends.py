"""Which endpoints a service's port leads to, as the traffic policies say. Pure.

Source: pkg/proxy/topology.go, v1.34.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kubelite.meta.types import Obj


@dataclass(frozen=True, slots=True, order=True)
class Backend:
    """An endpoint: where it listens, and whether it is on this node."""

    address: str
    port: int
    local: bool = False
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    zones: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """Where traffic goes: `cluster` for clients inside, `external` for those outside. `anywhere` tells no endpoints at all
    (refuse) from none that a Local policy allows (drop)."""

    cluster: tuple[Backend, ...]
    external: tuple[Backend, ...]
    anywhere: bool


def of_port(slices: Iterable[Obj], port: Obj, family: str, node_name: str) -> list[Backend]:
    """All endpoints of a service's port in slices of an address family (IPv4, IPv6), each address and port once."""
    found: dict[tuple[str, int], Backend] = {}
    name, protocol = port.get("name") or "", port.get("protocol") or "TCP"
    for item in slices:
        if item.get("addressType") != family:
            continue
        for slice_port in item.get("ports") or ():
            if (
                (slice_port.get("name") or "") != name
                or (slice_port.get("protocol") or "TCP") != protocol
                or not slice_port.get("port")
            ):
                continue
            for endpoint in item.get("endpoints") or ():
                backend = _backend(endpoint, slice_port["port"], node_name)
                if backend is not None:
                    key = (backend.address, backend.port)
                    # one address may be in two slices while it moves between them: the ready one counts
                    if key not in found or (backend.ready and not found[key].ready):
                        found[key] = backend
    return sorted(found.values())


def _backend(endpoint: Obj, port: int, node_name: str) -> Backend | None:
    addresses = endpoint.get("addresses") or ()
    if not addresses:
        return None
    conditions = endpoint.get("conditions") or {}
    ready, terminating = conditions.get("ready"), bool(conditions.get("terminating"))
    serving = conditions.get("serving")
    is_ready = ready is None or bool(ready)
    hints = endpoint.get("hints") or {}
    return Backend(
        addresses[0],
        port,
        local=endpoint.get("nodeName") == node_name,
        ready=is_ready,
        serving=is_ready if serving is None else bool(serving),
        terminating=terminating,
        zones=tuple(zone["name"] for zone in hints.get("forZones") or ()),
        nodes=tuple(node["name"] for node in hints.get("forNodes") or ()),
    )


def choose(backends: Sequence[Backend], *, internal_local: bool, external_local: bool, node: str = "", zone: str = "") -> Choice:
    """What each kind of traffic may use on a node in a zone. Endpoints that terminate serve while no ready one is left."""
    everywhere = _usable(backends)
    local = _usable([b for b in backends if b.local])
    anywhere = tuple(_near(everywhere, node, zone))
    return Choice(
        cluster=tuple(local) if internal_local else anywhere,
        external=tuple(local) if external_local else anywhere,
        anywhere=bool(everywhere),
    )


def _usable(backends: Sequence[Backend]) -> list[Backend]:
    ready = [b for b in backends if b.ready]
    return ready or [b for b in backends if b.serving and b.terminating]


def _near(backends: Sequence[Backend], node: str, zone: str) -> Sequence[Backend]:
    """Those meant for the node, else those meant for its zone, where every one has such a hint and some are; else all, as when
    only those that terminate are left."""
    if not all(b.ready for b in backends):
        return backends
    for here, hints in ((node, [b.nodes for b in backends]), (zone, [b.zones for b in backends])):
        if here and all(hints):
            meant = [b for b, names in zip(backends, hints, strict=True) if here in names]
            if meant:
                return meant
    return backends
