"""A service as nftables chains, sets and map elements. Pure: `services` applies the difference to the kernel.

The table's frame is fixed: packets to a service's address and port are found by one lookup in a map whose value is the service's
chain, so the cost of a packet does not depend on how many services there are. A service's chain picks an endpoint by a random
number and translates the address; with session affinity an endpoint has a chain and a set of clients of its own.

Source for what the rules must do: pkg/proxy/nftables/proxier.go, v1.34.
"""

import hashlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field

from kubelite.meta.types import Obj
from kubelite.network import backends
from kubelite.network.backends import Backend

#: Marks what leaves with this node's address: the same bit as kube-proxy's.
MASQUERADE_MARK = "0x4000"
_PROTOCOLS = {"TCP": "tcp", "UDP": "udp", "SCTP": "sctp"}
_DEFAULT_AFFINITY_S = 10800


@dataclass(frozen=True, slots=True)
class Family:
    """What differs between IPv4 and IPv6 in rules."""

    name: str
    number: str
    keyword: str
    address_type: str


FAMILIES = (Family("IPv4", "4", "ip", "ipv4_addr"), Family("IPv6", "6", "ip6", "ipv6_addr"))


@dataclass(slots=True)
class Rules:
    """What one service needs: chains with their rules, sets of clients with their definitions, and elements, each (map, key) with
    its value (empty in a set)."""

    chains: dict[str, tuple[str, ...]] = field(default_factory=dict)
    sets: dict[str, str] = field(default_factory=dict)
    elements: dict[tuple[str, str], str] = field(default_factory=dict)
    #: UDP: (address, port) that clients use -> (address, port) of its endpoints; no address for node ports. For conntrack.
    udp: dict[tuple[str, int], frozenset[tuple[str, int]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Frame:
    """What rules depend on beside the services."""

    table: str
    node_name: str
    cluster_cidrs: tuple[str, ...]
    zone: str = ""
    external_ips: bool = False
    service_cidrs: tuple[str, ...] = ()

    def cidr(self, family: Family) -> str:
        """The pods' range in a family, empty where there is none."""
        return _of_family(self.cluster_cidrs, family)

    def service_cidr(self, family: Family) -> str:
        """The services' range in a family, empty where there is none."""
        return _of_family(self.service_cidrs, family)


def _of_family(cidrs: Sequence[str], family: Family) -> str:
    return next((cidr for cidr in cidrs if f"IPv{ipaddress.ip_network(cidr).version}" == family.name), "")


def skeleton(frame: Frame) -> str:
    """Commands that make the table anew, without services."""
    lines = [f"add table inet {frame.table}", f"delete table inet {frame.table}", f"table inet {frame.table} {{"]
    for f in FAMILIES:
        lines += [
            f"map service_ips{f.number} {{ type {f.address_type} . inet_proto . inet_service : verdict; }}",
            f"map refused_ips{f.number} {{ type {f.address_type} . inet_proto . inet_service : verdict; }}",
            f"set cluster_ips{f.number} {{ type {f.address_type}; }}",
            f"set hairpin{f.number} {{ type {f.address_type} . {f.address_type}; }}",
            f"map node_ports{f.number} {{ type inet_proto . inet_service : verdict; }}",
            f"map refused_ports{f.number} {{ type inet_proto . inet_service : verdict; }}",
        ]
    transport = "meta l4proto { tcp, udp, sctp }"
    lookups = [
        *(f"{f.keyword} daddr . meta l4proto . th dport vmap @service_ips{f.number}" for f in FAMILIES),
        *(
            f"meta nfproto ipv{f.number} fib daddr type local meta l4proto . th dport vmap @node_ports{f.number}"
            for f in FAMILIES
        ),
    ]
    refusals = [
        *(f"{f.keyword} daddr . meta l4proto . th dport vmap @refused_ips{f.number}" for f in FAMILIES),
        *(
            f"meta nfproto ipv{f.number} fib daddr type local meta l4proto . th dport vmap @refused_ports{f.number}"
            for f in FAMILIES
        ),
        *(f"{f.keyword} daddr @cluster_ips{f.number} reject" for f in FAMILIES),
        # an address that no service has leads nowhere, least of all to the default route; cluster DNS has one on this node
        *(f"{f.keyword} daddr {cidr} fib daddr type != local drop" for f in FAMILIES if (cidr := frame.service_cidr(f))),
    ]
    lines += [
        f"chain masquerade_later {{ meta mark set meta mark or {MASQUERADE_MARK}; }}",
        "chain refuse { reject; }",
        "chain services {",
        *(f"  {transport} {lookup}" for lookup in lookups),
        "}",
        "chain refusals {",
        *(f"  {rule}" for rule in refusals),
        "}",
        "chain prerouting { type nat hook prerouting priority dstnat; policy accept; jump services; }",
        "chain output { type nat hook output priority -100; policy accept; jump services; }",
        # node ports answer on 127.0.0.1 too, for which the kernel must route such addresses (route_localnet): only from here
        "chain guard {",
        "  type filter hook prerouting priority raw; policy accept;",
        '  iifname != "lo" ip daddr 127.0.0.0/8 drop',
        '  iifname != "lo" ip saddr 127.0.0.0/8 drop',
        "}",
        "chain postrouting {",
        "  type nat hook postrouting priority srcnat; policy accept;",
        f"  meta mark & {MASQUERADE_MARK} != 0 meta mark set meta mark xor {MASQUERADE_MARK} masquerade fully-random",
        *(f"  {f.keyword} saddr . {f.keyword} daddr @hairpin{f.number} masquerade fully-random" for f in FAMILIES),
        "}",
        # after translation (on the way out that is at -100): what still goes to a service's address has no endpoint
        *(
            f"chain filter_{hook} {{ type filter hook {hook} priority -90; policy accept; ct state new jump refusals; }}"
            for hook in ("input", "forward", "output")
        ),
        "}",
    ]
    return "\n".join(lines) + "\n"


def of_service(service: Obj, slices: Sequence[Obj], frame: Frame) -> Rules:
    """The rules of a service that has cluster IPs."""
    rules = Rules()
    spec = service["spec"]
    for address in spec.get("clusterIPs") or [spec["clusterIP"]]:
        family = _family(address)
        rules.elements[f"cluster_ips{family.number}", address] = ""
        for port in spec.get("ports") or ():
            if port.get("protocol", "TCP") in _PROTOCOLS:
                _port(rules, service, slices, frame, family, address, port)
    return rules


def _port(rules: Rules, service: Obj, slices: Sequence[Obj], frame: Frame, family: Family, cluster_ip: str, port: Obj) -> None:
    spec, meta = service["spec"], service["metadata"]
    protocol = _PROTOCOLS[port.get("protocol", "TCP")]
    is_exposed = spec.get("type") in ("NodePort", "LoadBalancer")
    internal_local = spec.get("internalTrafficPolicy") == "Local"
    external_local = spec.get("externalTrafficPolicy") == "Local" and (is_exposed or bool(spec.get("externalIPs")))
    all_backends = backends.of_port(slices, port, family.name, frame.node_name)
    place = {"node": frame.node_name, "zone": frame.zone}
    choice = backends.choose(all_backends, internal_local=internal_local, external_local=external_local, **place)
    anywhere = backends.choose(all_backends, internal_local=False, external_local=False, **place).cluster

    key = _digest(meta["namespace"], meta["name"], port.get("name") or "", protocol, family.number)
    affinity_s = 0
    if spec.get("sessionAffinity") == "ClientIP":
        client = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
        affinity_s = client.get("timeoutSeconds") or _DEFAULT_AFFINITY_S
    destinations = _Destinations(rules, family, protocol, key, affinity_s)
    for backend in {*choice.cluster, *choice.external, *anywhere}:
        if backend.local:
            rules.elements[f"hairpin{family.number}", f"{backend.address} . {backend.address}"] = ""

    cidr = frame.cidr(family)
    outside = (f"{family.keyword} saddr != {cidr} jump masquerade_later",) if cidr else ()
    target = _verdict(choice, choice.cluster)
    if not target:
        rules.chains[f"svc{key}"] = (*outside, *destinations.rules("cluster", choice.cluster))
        target = f"goto svc{key}"
    _expose(rules, family, protocol, cluster_ip, port["port"], target)
    if protocol == "udp":
        rules.udp[cluster_ip, port["port"]] = frozenset((b.address, b.port) for b in choice.cluster)

    externals = [ip for ip in (spec.get("externalIPs") or () if frame.external_ips else ()) if _family(ip) == family]
    balancers = [
        item["ip"]
        for item in ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
        if item.get("ip") and item.get("ipMode", "VIP") == "VIP" and _family(item["ip"]) == family
    ]
    node_port = port.get("nodePort") if is_exposed else None
    if not (externals or balancers or node_port):
        return
    target = _verdict(choice, choice.external)
    if not target:
        rules.chains[f"ext{key}"] = (
            *_shortcut(rules, destinations, family, key, cidr, anywhere, external_local),
            *(destinations.rules("external", choice.external)),
        )
        target = f"goto ext{key}"
    elif external_local and anywhere:  # from inside the cluster the policy does not count
        rules.chains[f"ext{key}"] = (*_shortcut(rules, destinations, family, key, cidr, anywhere, True), "drop")
        target = f"goto ext{key}"
    for address in externals:
        _expose(rules, family, protocol, address, port["port"], target)
    ranges = [r.strip() for r in spec.get("loadBalancerSourceRanges") or ()]
    ranges = [r for r in ranges if _family(r.split("/")[0]) == family]
    if balancers and ranges and target.startswith("goto ext"):
        rules.chains[f"fw{key}"] = (f"{family.keyword} saddr {{ {', '.join(ranges)} }} {target}", "drop")
    for address in balancers:
        _expose(rules, family, protocol, address, port["port"], f"goto fw{key}" if f"fw{key}" in rules.chains else target)
    if node_port:
        kind = "node_ports" if target.startswith("goto ext") else "refused_ports"
        rules.elements[f"{kind}{family.number}", f"{protocol} . {node_port}"] = target
    if protocol == "udp":
        used = frozenset((b.address, b.port) for b in choice.external)
        rules.udp.update({(address, port["port"]): used for address in (*externals, *balancers)})
        if node_port:
            rules.udp["", node_port] = used


def _shortcut(
    rules: Rules,
    destinations: "_Destinations",
    family: Family,
    key: str,
    cidr: str,
    anywhere: Sequence[Backend],
    external_local: bool,
) -> tuple[str, ...]:
    """What comes before the endpoints in the chain of outside addresses. Under the Cluster policy everything leaves with this
    node's address, so that answers come back here. Under Local, clients keep theirs; pods and this node may use any endpoint."""
    if not external_local:
        return ("jump masquerade_later",)
    rules.chains[f"any{key}"] = tuple(destinations.rules("any", anywhere)) or ("drop",)
    local = "fib saddr type local jump masquerade_later", f"fib saddr type local goto any{key}"
    return (f"{family.keyword} saddr {cidr} goto any{key}", *local) if cidr else local


def _verdict(choice: backends.Choice, usable: Sequence[Backend]) -> str:
    """What happens where no endpoint may be used; empty where one may."""
    if usable:
        return ""
    return "drop" if choice.anywhere else "goto refuse"


def _expose(rules: Rules, family: Family, protocol: str, address: str, port: int, target: str) -> None:
    """One owner is enough for an address and port: the first wins, as the map can have one value only."""
    kind = "refused_ips" if target in ("drop", "goto refuse") else "service_ips"
    rules.elements.setdefault((f"{kind}{family.number}", f"{address} . {protocol} . {port}"), target)


class _Destinations:
    """Rules that send a packet to one of some endpoints, and the chains and sets that those need."""

    def __init__(self, rules: Rules, family: Family, protocol: str, key: str, affinity_s: int) -> None:
        self._rules, self._family, self._protocol, self._key = rules, family, protocol, key
        self._affinity_s = affinity_s

    def rules(self, purpose: str, usable: Sequence[Backend]) -> list[str]:
        if not usable:
            return []
        if not self._affinity_s:
            return [f"meta l4proto {self._protocol} {self._translation(usable)}"]
        chains = [self._with_affinity(backend) for backend in usable]
        remembered = [f"{self._family.keyword} saddr @clients{chain} goto ep{chain}" for chain in chains]
        spread = ", ".join(f"{n} : goto ep{chain}" for n, chain in enumerate(chains))
        return [*remembered, f"numgen random mod {len(chains)} vmap {{ {spread} }}"]

    def _translation(self, usable: Sequence[Backend]) -> str:
        family = self._family.keyword
        if len(usable) == 1:
            return f"dnat {family} to {_socket(usable[0])}"
        spread = ", ".join(f"{n} : {b.address} . {b.port}" for n, b in enumerate(usable))
        return f"dnat {family} to numgen random mod {len(usable)} map {{ {spread} }}"

    def _with_affinity(self, backend: Backend) -> str:
        """The name behind `ep` and `clients` of an endpoint whose clients are remembered."""
        name = _digest(self._key, backend.address, str(backend.port), str(self._affinity_s))
        family = self._family
        self._rules.sets[f"clients{name}"] = f"type {family.address_type}; flags dynamic, timeout; timeout {self._affinity_s}s;"
        self._rules.chains[f"ep{name}"] = (
            f"update @clients{name} {{ {family.keyword} saddr }}",
            f"meta l4proto {self._protocol} dnat {family.keyword} to {_socket(backend)}",
        )
        return name


def _socket(backend: Backend) -> str:
    return f"[{backend.address}]:{backend.port}" if ":" in backend.address else f"{backend.address}:{backend.port}"


def _family(address: str) -> Family:
    return FAMILIES[1] if ":" in address else FAMILIES[0]


def _digest(*parts: str) -> str:
    return hashlib.sha256("/".join(parts).encode()).hexdigest()[:16]
