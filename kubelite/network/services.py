"""The service proxy: service addresses lead to endpoints, by nftables.

It keeps what it has applied and gives the kernel only what differs: a service whose endpoints changed costs one rewritten chain,
whatever else there is. When a batch is refused, or the table was taken away by somebody else, all of it is made anew in one
transaction. Connections go on meanwhile: what is established lives in connection tracking.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import structlog

from kubelite.meta.types import Obj
from kubelite.network import conntrack, nft, rules
from kubelite.network.healthchecks import HealthChecks
from kubelite.network.rules import Rules

log = structlog.get_logger(__name__)

_SLICES = "endpointslices.discovery.k8s.io"
_SERVICE_NAME = "kubernetes.io/service-name"
_OTHER_PROXY = "service.kubernetes.io/service-proxy-name"
_HEADLESS = "service.kubernetes.io/headless"
_ZONE = "topology.kubernetes.io/zone"
_CHECK_S = 60.0
_RETRY_S = 1.0
_MAX_RETRY_S = 60.0

Key = tuple[str, str]


class Inputs:
    """Services that a proxy serves and their slices, kept by change, and which of them changed."""

    def __init__(self) -> None:
        self.services: dict[Key, Obj] = {}
        self.slices: dict[Key, dict[str, Obj]] = defaultdict(dict)
        self._dirty: set[Key] = set()

    def changed(self, resource: str, old: Obj | None, new: Obj | None) -> Key | None:
        """The service that is concerned, None when none is."""
        obj = new or old
        if obj is None:
            return None
        meta = obj["metadata"]
        if resource == "services":
            key = (meta["namespace"], meta["name"])
            if new is not None and _is_proxied(new):
                self.services[key] = new
            else:
                self.services.pop(key, None)
        elif resource == _SLICES:
            labels = meta.get("labels") or {}
            name = labels.get(_SERVICE_NAME)
            if not name or _HEADLESS in labels:
                return None
            key = (meta["namespace"], name)
            if new is not None:
                self.slices[key][meta["name"]] = new
            else:
                self.slices[key].pop(meta["name"], None)
                if not self.slices[key]:
                    del self.slices[key]
        else:
            return None
        self._dirty.add(key)
        return key

    def mark_all(self) -> None:
        self._dirty.update(self.services)

    def take_dirty(self) -> set[Key]:
        """The services that changed since it was last asked."""
        dirty, self._dirty = self._dirty, set()
        return dirty


class ServiceProxy:
    """One for each node. `changed` takes services, endpoint slices and nodes; nothing is applied before `synced`."""

    def __init__(
        self,
        node_name: str,
        cluster_cidrs: Iterable[str] = ("10.244.0.0/16",),
        service_cidrs: Iterable[str] = (),
        *,
        external_ips: bool = False,
    ) -> None:
        self._frame = rules.Frame(
            nft.table_name("services", node_name),
            node_name,
            tuple(cluster_cidrs),
            external_ips=external_ips,
            service_cidrs=tuple(service_cidrs),
        )
        self._inputs = Inputs()
        self._health_checks = HealthChecks(node_name)
        self._applied: dict[Key, Rules] = {}
        #: Who wants an element and its value; the first one's is applied.
        self._elements: dict[tuple[str, str], dict[Key, str]] = {}
        self._rebuild = True
        self._synced = asyncio.Event()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._batches = 0

    @staticmethod
    def missing() -> list[str]:
        """What this machine lacks, with the remedy."""
        return [] if nft.program() else ["nft is not installed: apt-get install nftables"]

    def changed(self, resource: str, old: Obj | None, new: Obj | None) -> None:
        """An object came, changed or went (new is None)."""
        if resource == "nodes":
            if new is None or new["metadata"]["name"] != self._frame.node_name:
                return
            zone = (new["metadata"].get("labels") or {}).get(_ZONE, "")
            if zone == self._frame.zone:
                return
            self._frame = replace(self._frame, zone=zone)
            self._inputs.mark_all()
        elif self._inputs.changed(resource, old, new) is None:
            return
        self._signal()

    def synced(self) -> None:
        """All that there was has been told."""
        self._synced.set()
        self._signal()

    @property
    def table(self) -> str:
        """The name of its table, of the family inet."""
        return self._frame.table

    async def wait_applied(self) -> None:
        """Until everything told so far is in the kernel."""
        await self._idle.wait()

    def statistics(self) -> dict[str, int]:
        return {"services": len(self._applied), "elements": len(self._elements), "batches": self._batches}

    async def run(self) -> None:
        """Applies changes until it is cancelled. The rules stay: traffic goes on while kubelite restarts."""
        await self._synced.wait()
        try:
            await self._follow()
        finally:
            self._health_checks.close()

    async def _follow(self) -> None:
        retry_s = _RETRY_S
        while True:
            try:
                async with asyncio.timeout(_CHECK_S):
                    await self._wake.wait()
            except TimeoutError:
                if not await nft.exists(self._frame.table):
                    log.warning("service_rules_were_removed", table=self._frame.table)
                    self._rebuild = True
                elif not self._rebuild:
                    continue
            self._wake.clear()
            try:
                await self._apply()
                retry_s = _RETRY_S
            except nft.NftFault as e:
                log.warning("service_rules_not_applied", error=str(e), again_in_s=retry_s)
                self._rebuild = True
                await asyncio.sleep(retry_s)
                retry_s = min(retry_s * 2, _MAX_RETRY_S)
                self._wake.set()
                continue
            if not self._wake.is_set():
                self._idle.set()

    async def remove(self) -> None:
        """Takes the rules out of the kernel, for a node that goes away."""
        await nft.apply(f"add table inet {self._frame.table}\ndelete table inet {self._frame.table}\n")
        self._rebuild = True

    def _signal(self) -> None:
        self._idle.clear()
        self._wake.set()

    async def _apply(self) -> None:
        batch: list[str] = []
        known = self._applied
        if self._rebuild:
            batch.append(rules.skeleton(self._frame).rstrip())
            self._applied, self._elements = {}, {}
            self._inputs.mark_all()
        dirty = self._inputs.take_dirty()
        known = {key: known[key] for key in dirty & known.keys()}
        wanted = {key: self._wanted(key) for key in dirty}
        was = {key: self._applied.get(key, _NOTHING) for key in dirty}
        batch += self._difference(was, wanted)
        if batch:
            self._batches += 1
            await nft.apply("\n".join(batch) + "\n")
        if self._rebuild:
            await asyncio.to_thread(_route_loopback)
        self._rebuild = False
        for key, new in wanted.items():
            if new is _NOTHING:
                self._applied.pop(key, None)
            else:
                self._applied[key] = new
        for key in known:
            await conntrack.forget_stale(known[key].udp, wanted[key].udp)
        await self._health_checks.follow(dirty, self._inputs.services, self._inputs.slices)

    def _wanted(self, key: Key) -> Rules:
        service = self._inputs.services.get(key)
        if service is None:
            return _NOTHING
        return rules.of_service(service, list(self._inputs.slices.get(key, {}).values()), self._frame)

    def _difference(self, was: dict[Key, Rules], wanted: dict[Key, Rules]) -> list[str]:
        """Commands from the one to the other, in an order in which nothing is used before it is there or removed while in use.
        What is kept of elements changes with it: a batch that fails is followed by a rebuild."""
        table = f"inet {self._frame.table}"
        made, filled, gone = [], [], []
        for key, new in wanted.items():
            old = was[key]
            made += [f"add set {table} {name} {{ {text} }}" for name, text in new.sets.items() if old.sets.get(name) != text]
            for name, lines in new.chains.items():
                if old.chains.get(name) == lines:
                    continue
                made.append(f"add chain {table} {name}")
                if name in old.chains:
                    filled.append(f"flush chain {table} {name}")
                filled += [f"add rule {table} {name} {line}" for line in lines]
            removed = [name for name in old.chains if name not in new.chains]
            gone += [f"flush chain {table} {name}" for name in removed]
            gone += [f"delete chain {table} {name}" for name in removed]
            gone += [f"delete set {table} {name}" for name in old.sets if name not in new.sets]
        deleted, added = self._element_changes(was, wanted)
        out = [
            *(f"delete element {table} {name} {{ {', '.join(keys)} }}" for name, keys in deleted.items()),
            *(f"add element {table} {name} {{ {', '.join(items)} }}" for name, items in added.items()),
        ]
        return [*made, *filled, *out, *_ordered(gone)]

    def _element_changes(
        self, was: dict[Key, Rules], wanted: dict[Key, Rules]
    ) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        """Elements to delete and to add, by map."""
        touched: dict[tuple[str, str], str | None] = {}
        for key, new in wanted.items():
            old = was[key]
            for element in old.elements.keys() - new.elements.keys():
                owners = self._elements[element]
                touched.setdefault(element, _first(owners))
                owners.pop(key, None)
            for element, value in new.elements.items():
                if old.elements.get(element) == value:
                    continue
                owners = self._elements.setdefault(element, {})
                touched.setdefault(element, _first(owners))
                owners[key] = value
        deleted: dict[str, list[str]] = defaultdict(list)
        added: dict[str, list[str]] = defaultdict(list)
        for element, before in touched.items():
            name, match = element
            after = _first(self._elements[element])
            if not self._elements[element]:
                del self._elements[element]
            if before == after:
                continue
            if before is not None:
                deleted[name].append(match)
            if after is not None:
                added[name].append(f"{match} : {after}" if after else match)
        return deleted, added


_NOTHING = Rules()


def _route_loopback() -> None:
    """Lets what is sent to a node port of 127.0.0.1 reach its endpoint; the rules' guard keeps others from using it."""
    try:
        Path("/proc/sys/net/ipv4/conf/all/route_localnet").write_text("1")
    except OSError as e:
        log.warning("node_ports_not_on_loopback", error=str(e), remedy="sysctl -w net.ipv4.conf.all.route_localnet=1")


def _first(owners: dict[Key, str]) -> str | None:
    return next(iter(owners.values()), None)


def _ordered(commands: list[str]) -> list[str]:
    """Flushes first: a chain can be deleted once no rule leads to it; sets last."""
    order = {"flush": 0, "delete chain": 1, "delete set": 2}
    return sorted(commands, key=lambda c: next(rank for prefix, rank in order.items() if c.startswith(prefix)))


def _is_proxied(service: Obj) -> bool:
    spec = service.get("spec") or {}
    if spec.get("type") == "ExternalName" or spec.get("clusterIP") in (None, "", "None"):
        return False
    return not {_OTHER_PROXY, _HEADLESS} & (service["metadata"].get("labels") or {}).keys()
