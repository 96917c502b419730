"""The pod network of a node: the CNI configuration for its range, routes to the other nodes' ranges, what the kernel must allow.

Pods hang on a bridge of the node's own. Traffic between pods of one bridge does not pass the node's IP layer, where service
addresses are translated back, unless the kernel hands bridged packets to it (br_netfilter). Where it can't, each pod gets a
point-to-point link instead (the CNI plugin ptp): then all of its traffic is routed.

Other nodes are reached by host routes (the node's address is the gateway), so nodes must share a network. Nodes on the same
machine need no route.
"""

import asyncio
import errno
import ipaddress
import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from kubelite.meta.types import Obj
from kubelite.network import nft

log = structlog.get_logger(__name__)

_CNI_VERSION = "0.4.0"  # what the plugins of Debian 12 and all newer ones speak
_SYSCTLS = Path("/proc/sys/net")
_RETRY_S = 5.0
#: How often what others may have taken away is looked after.
_CHECK_S = 60.0
#: Marks routes as ours: a protocol number that no routing daemon has. Source: /etc/iproute2/rt_protos.
ROUTE_PROTOCOL = 75
#: Where host-local keeps which addresses are taken.
_LEASES = Path("/var/lib/cni/networks")
_BRIDGE = re.compile(r"kl-[0-9a-f]{8}")


class NetworkFault(Exception):
    """The pod network could not be set up; the message says what and how to mend it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the kernel and the CNI directory should hold, worked out from the nodes."""

    pod_cidrs: tuple[str, ...] = ()
    #: Other nodes' ranges and the address behind which each lies.
    routes: tuple[tuple[str, str], ...] = ()


def plan(node_name: str, nodes: Mapping[str, Obj]) -> Plan:
    """Pure: from Node objects. A node without addresses, or with one of this machine's, needs no route."""
    own = nodes.get(node_name)
    if own is None:
        return Plan()
    own_addresses = set(_addresses(own))
    routes: list[tuple[str, str]] = []
    if not own_addresses:  # a node that registers right now: whether another one is on this machine can't be told yet
        return Plan(tuple(_cidrs(own)))
    for name, node in nodes.items():
        addresses = _addresses(node)
        if name == node_name or not addresses or own_addresses & set(addresses):
            continue
        for cidr in _cidrs(node):
            version = ipaddress.ip_network(cidr).version
            gateway = next((a for a in addresses if ipaddress.ip_address(a).version == version), "")
            if gateway:
                routes.append((cidr, gateway))
    return Plan(tuple(_cidrs(own)), tuple(sorted(routes)))


def _cidrs(node: Obj) -> list[str]:
    spec = node.get("spec") or {}
    found = spec.get("podCIDRs") or [spec.get("podCIDR")]
    return [cidr for cidr in found if cidr]


def _addresses(node: Obj) -> list[str]:
    """Without loopback addresses, which simulated nodes have: nothing is reached by them."""
    listed = [a["address"] for a in (node.get("status") or {}).get("addresses") or () if a.get("type") == "InternalIP"]
    return [address for address in listed if not ipaddress.ip_address(address).is_loopback]


def conflist(node_name: str, pod_cidrs: Iterable[str], *, bridged: bool, mtu: int = 0, data_dir: str = "") -> dict[str, Any]:
    """The CNI configuration of a node."""
    cidrs = list(pod_cidrs)
    ipam: dict[str, Any] = {
        "type": "host-local",
        "ranges": [[{"subnet": cidr}] for cidr in cidrs],
        "routes": [{"dst": "0.0.0.0/0" if ipaddress.ip_network(c).version == 4 else "::/0"} for c in cidrs],
    }
    if data_dir:
        ipam["dataDir"] = data_dir
    # masquerading is this module's: the plugins' own would hide pods from pods of other nodes
    main: dict[str, Any] = {"type": "ptp", "ipMasq": False, "ipam": ipam}
    if bridged:
        main = {
            "type": "bridge",
            "bridge": bridge_name(node_name),
            "isGateway": True,
            "forceAddress": True,  # the bridge may have one of a range that the node had before
            "hairpinMode": True,
            "ipMasq": False,
            "ipam": ipam,
        }
    if mtu:
        main["mtu"] = mtu
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True}
    return {"cniVersion": _CNI_VERSION, "name": bridge_name(node_name), "plugins": [main, portmap]}


def bridge_name(node_name: str) -> str:
    """Also the network's name, under which host-local keeps its addresses."""
    return f"kl-{nft.short_hash(node_name)}"


def _forwarding_rules(cidr: str) -> list[list[str]]:
    comment = ["-m", "comment", "--comment", "kubelite pods", "-j", "ACCEPT"]
    return [["FORWARD", direction, cidr, *comment] for direction in ("-s", "-d")]


class PodNetwork:
    """One for each node. `changed` takes nodes. `ready` is set once pods can get addresses."""

    def __init__(self, node_name: str, cni_conf_dir: Path | str, cluster_cidrs: Iterable[str] = ("10.244.0.0/16",)) -> None:
        self._node_name = node_name
        self._conf_dir = Path(cni_conf_dir)
        self._cluster_cidrs = tuple(cluster_cidrs)
        self._table = nft.table_name("pods", node_name)
        self._nodes: dict[str, Obj] = {}
        self._applied = Plan()
        self._synced = asyncio.Event()
        self._wake = asyncio.Event()
        self.ready = asyncio.Event()

    def changed(self, resource: str, old: Obj | None, new: Obj | None) -> None:
        if resource != "nodes":
            return
        if new is not None:
            self._nodes[new["metadata"]["name"]] = new
        elif old is not None:
            self._nodes.pop(old["metadata"]["name"], None)
        self._wake.set()

    def synced(self) -> None:
        self._synced.set()

    async def run(self) -> None:
        """Keeps the network as the nodes say until it is cancelled; it stays when kubelite goes."""
        await self._synced.wait()
        while True:
            self._wake.clear()
            wanted = plan(self._node_name, self._nodes)
            if wanted != self._applied:
                try:
                    await self._apply(wanted)
                except (NetworkFault, nft.NftFault, OSError) as e:
                    log.warning("pod_network_not_applied", error=str(e), again_in_s=_RETRY_S)
                    await asyncio.sleep(_RETRY_S)
                    continue
            try:
                async with asyncio.timeout(_CHECK_S):
                    await self._wake.wait()
            except TimeoutError:
                if self._applied.pod_cidrs and await self._is_damaged():
                    log.warning("pod_network_was_removed", node=self._node_name)
                    self._applied = Plan()

    async def _is_damaged(self) -> bool:
        """Whether somebody took rules or routes away: another node of this machine that was reset, say."""
        if not await nft.exists(self._table):
            return True
        if not self._applied.routes:
            return False
        shown = (await nft.run("ip", "route", "show", "proto", str(ROUTE_PROTOCOL)))[1]
        shown += (await nft.run("ip", "-6", "route", "show", "proto", str(ROUTE_PROTOCOL)))[1]
        there = {line.partition(" ")[0] for line in shown.splitlines()}
        return any(cidr not in there for cidr, _ in self._applied.routes)

    async def remove(self) -> None:
        """Takes rules, routes and the bridge away, for a node that goes for good."""
        await nft.apply(f"add table inet {self._table}\ndelete table inet {self._table}\n")
        if (await nft.run("ip", "route", "show", "proto", str(ROUTE_PROTOCOL)))[1].strip():
            await asyncio.to_thread(_set_routes, (), self._cluster_cidrs)
        await nft.run("ip", "link", "delete", bridge_name(self._node_name))
        for cidr in await asyncio.to_thread(self._configured_ranges):
            command = "iptables" if ipaddress.ip_network(cidr).version == 4 else "ip6tables"
            for rule in _forwarding_rules(cidr):
                await nft.run(command, "-D", *rule)  # fails where there was no need for one
        await asyncio.to_thread((self._conf_dir / "10-kubelite.conflist").unlink, True)
        await asyncio.to_thread(shutil.rmtree, _LEASES / bridge_name(self._node_name), True)

    def _configured_ranges(self) -> list[str]:
        """The node's ranges as an earlier run wrote them."""
        try:
            main, *_ = json.loads((self._conf_dir / "10-kubelite.conflist").read_text())["plugins"]
        except FileNotFoundError:
            return []
        return [part["subnet"] for ranges in main["ipam"]["ranges"] for part in ranges]

    async def _apply(self, wanted: Plan) -> None:
        was = self._applied
        if wanted.pod_cidrs and wanted.pod_cidrs != was.pod_cidrs:
            bridged = await asyncio.to_thread(self._prepare_kernel, wanted.pod_cidrs)
            await nft.apply(self._rules(wanted.pod_cidrs))
            await self._allow_forwarding(wanted.pod_cidrs)
            await self._remove_stale_bridges(wanted.pod_cidrs)
            await asyncio.to_thread(self._write_configuration, wanted.pod_cidrs, bridged)
            self.ready.set()
            log.info("pod_network_ready", node=self._node_name, pod_cidrs=list(wanted.pod_cidrs), bridged=bridged)
        if wanted.routes or was.routes:
            await asyncio.to_thread(_set_routes, wanted.routes, self._cluster_cidrs)
        self._applied = wanted

    def _prepare_kernel(self, pod_cidrs: tuple[str, ...]) -> bool:
        """Sysctls; True when bridged packets pass the IP layer's rules."""
        _set_sysctl("ipv4/ip_forward", "1")
        families = {ipaddress.ip_network(cidr).version for cidr in pod_cidrs}
        if 6 in families:
            _set_sysctl("ipv6/conf/all/forwarding", "1")
        if not (_SYSCTLS / "bridge").exists():
            _load_module("br_netfilter")
        if not (_SYSCTLS / "bridge").exists():
            return False
        _set_sysctl("bridge/bridge-nf-call-iptables", "1")
        if 6 in families:
            _set_sysctl("bridge/bridge-nf-call-ip6tables", "1")
        return True

    def _rules(self, pod_cidrs: tuple[str, ...]) -> str:
        """What leaves the cluster leaves with the node's address. A pod may not speak to the node's loopback addresses, which the
        port mapping's route_localnet would otherwise let it."""
        lines = [f"add table inet {self._table}", f"delete table inet {self._table}", f"table inet {self._table} {{"]
        lines += ["chain postrouting { type nat hook postrouting priority srcnat; policy accept;"]
        for cidr in pod_cidrs:
            version = ipaddress.ip_network(cidr).version
            keyword, multicast = ("ip", "224.0.0.0/4") if version == 4 else ("ip6", "ff00::/8")
            inside = [c for c in self._cluster_cidrs if ipaddress.ip_network(c).version == version] or [cidr]
            lines.append(
                f"  {keyword} saddr {cidr} {keyword} daddr != {{ {', '.join([*inside, multicast])} }} masquerade fully-random"
            )
        lines += ["}", "chain guard { type filter hook prerouting priority raw; policy accept;"]
        lines.append(f'  iifname "{bridge_name(self._node_name)}" ip daddr 127.0.0.0/8 drop')
        return "\n".join([*lines, "}", "}"]) + "\n"

    async def _allow_forwarding(self, pod_cidrs: tuple[str, ...]) -> None:
        """Where another program's iptables rules drop forwarded packets (Docker's do), ours are let through."""
        for cidr in pod_cidrs:
            command = "iptables" if ipaddress.ip_network(cidr).version == 4 else "ip6tables"
            status, output, _ = await nft.run(command, "-S", "FORWARD")
            if status != 0 or "-P FORWARD DROP" not in output:
                continue
            for rule in _forwarding_rules(cidr):
                if (await nft.run(command, "-C", *rule))[0] != 0:
                    await nft.run(command, "-I", *rule)

    async def _remove_stale_bridges(self, pod_cidrs: tuple[str, ...]) -> None:
        """A bridge of an earlier node of this machine with the same range would take this one's traffic: removed when nothing
        hangs on it any more."""
        status, output, _ = await nft.run("ip", "-j", "address", "show", "type", "bridge")
        if status != 0 or not output.strip():
            return
        ranges = [ipaddress.ip_network(cidr) for cidr in pod_cidrs]
        for link in json.loads(output):
            name = link.get("ifname", "")
            if not _BRIDGE.fullmatch(name) or name == bridge_name(self._node_name):
                continue
            if not any(ipaddress.ip_address(a["local"]) in cidr for a in link.get("addr_info") or () for cidr in ranges):
                continue
            if (await nft.run("ip", "-o", "link", "show", "master", name))[1].strip():
                log.error(
                    "pod_range_in_use",
                    pod_cidrs=list(pod_cidrs),
                    bridge=name,
                    remedy="end the other node, or give it another range",
                )
                continue
            await nft.run("ip", "link", "delete", name)
            log.info("stale_bridge_removed", bridge=name)

    def _write_configuration(self, pod_cidrs: tuple[str, ...], bridged: bool) -> None:
        self._conf_dir.mkdir(parents=True, exist_ok=True)
        path = self._conf_dir / "10-kubelite.conflist"
        text = json.dumps(conflist(self._node_name, pod_cidrs, bridged=bridged), indent=2)
        if path.exists() and path.read_text() == text:
            return
        partial = path.with_suffix(".partial")  # the runtime watches the directory, and must not see half of it
        partial.write_text(text)
        partial.replace(path)


def _set_sysctl(name: str, value: str) -> None:
    path = _SYSCTLS / name
    try:
        if path.read_text().strip() == value:
            return
        path.write_text(value)
    except OSError as e:
        dotted = "net." + name.replace("/", ".")
        raise NetworkFault(
            f"{dotted} must be {value} and cannot be set: {e.strerror}; set it with: sysctl -w {dotted}={value}"
        ) from e


def _load_module(name: str) -> None:
    """Asks for a kernel module; where there is no modprobe or no module, what needs it does without."""
    import subprocess

    try:
        subprocess.run(
            ["modprobe", name], check=False, capture_output=True, timeout=10, env={**os.environ, "PATH": "/sbin:/usr/sbin"}
        )
    except (OSError, subprocess.TimeoutExpired) as e:
        log.info("kernel_module_not_loaded", module=name, reason=str(e))


def _set_routes(wanted: Iterable[tuple[str, str]], cluster_cidrs: Iterable[str]) -> None:
    """Makes the routes into the cluster's ranges the wanted ones. Ours, also of earlier runs, are known by their protocol number.

    Raises: NetworkFault when a node cannot be a gateway.
    """
    from pyroute2 import IPRoute  # 100 ms that a cluster of one node does without
    from pyroute2.netlink.exceptions import NetlinkError

    keep = dict(wanted)
    ranges = [ipaddress.ip_network(cidr) for cidr in cluster_cidrs]
    with IPRoute() as netlink:
        ours = {
            f"{route.get_attr('RTA_DST')}/{route['dst_len']}": route.get_attr("RTA_GATEWAY")
            for route in netlink.get_routes(proto=ROUTE_PROTOCOL)
        }
        for cidr, gateway in keep.items():
            if ours.get(cidr) == gateway:
                continue
            try:
                # Only our own are replaced: the same range behind a bridge of this machine must not be taken over.
                netlink.route("replace" if cidr in ours else "add", dst=cidr, gateway=gateway, proto=ROUTE_PROTOCOL)
            except NetlinkError as e:
                raise NetworkFault(
                    f"no route to {cidr} by {gateway}: {e.args[-1]}; nodes must share a network (host routes are the only mode)"
                ) from e
        for cidr, gateway in ours.items():
            if cidr in keep or not any(_is_within(cidr, cluster) for cluster in ranges):
                continue
            try:
                netlink.route("del", dst=cidr, gateway=gateway, proto=ROUTE_PROTOCOL)
            except NetlinkError as e:
                if e.code != errno.ESRCH:  # gone already
                    raise NetworkFault(f"the route to {cidr} cannot be removed: {e.args[-1]}") from e


def _is_within(cidr: str, cluster: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    network = ipaddress.ip_network(cidr, strict=False)
    return network.version == cluster.version and network.subnet_of(cluster)  # type: ignore[arg-type]
