"""The cluster's names: services, their ports and endpoints, pods by address, and back from addresses. Pure.

Kept by change: a service's records are built when they are first asked for and dropped when the service or its slices change.

Source: the specification of Kubernetes DNS-based service discovery, 1.1.0; for its gaps the kubernetes plugin of CoreDNS.
"""

import ipaddress
import random
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from kubelite.meta.types import Obj
from kubelite.network import dnswire
from kubelite.network.dnswire import CNAME, NOERROR, NS, NXDOMAIN, SOA, SRV, Record

TTL_S = 5
_SPECIFICATION = "1.1.0"
_SLICES = "endpointslices.discovery.k8s.io"
_SERVICE_NAME = "kubernetes.io/service-name"
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Reply:
    """What is known of a name. `alias` is the name that an ExternalName service stands for, which is to be looked up next."""

    code: int
    answers: list[Record] = field(default_factory=list)
    extra: list[Record] = field(default_factory=list)
    alias: str = ""


_UNKNOWN = Reply(NXDOMAIN)
_NO_DATA = Reply(NOERROR)


@dataclass(slots=True)
class _ServiceRecords:
    """By the labels before the service's name: "" itself, `_http._tcp`, an endpoint's name."""

    records: dict[str, list[Record]] = field(default_factory=lambda: defaultdict(list))
    alias: str = ""
    #: A target's own addresses, for the extra section of SRV answers.
    targets: dict[str, list[Record]] = field(default_factory=lambda: defaultdict(list))


class Zone:
    """The names under a cluster's domain."""

    def __init__(self, domain: str = "cluster.local", cidrs: Iterable[str] = ()) -> None:
        self.domain = domain
        self._suffix = f".{domain}"
        self._cidrs = [ipaddress.ip_network(cidr) for cidr in cidrs]
        self._services: dict[Key, Obj] = {}
        self._slices: dict[Key, dict[str, Obj]] = defaultdict(dict)
        self._namespaces: dict[str, int] = defaultdict(int)
        self._built: dict[Key, _ServiceRecords] = {}
        self._pointers: dict[str, dict[Key, str]] = defaultdict(dict)
        self._pointed: dict[Key, list[str]] = {}
        self.serial = 1

    def changed(self, resource: str, old: Obj | None, new: Obj | None) -> None:
        obj = new or old
        if obj is None:
            return
        meta = obj["metadata"]
        if resource == "services":
            key = (meta["namespace"], meta["name"])
            self._namespaces[key[0]] += (new is not None) - (key in self._services)
            if new is not None:
                self._services[key] = new
            else:
                self._services.pop(key, None)
            if not self._namespaces[key[0]]:
                del self._namespaces[key[0]]
        elif resource == _SLICES:
            name = (meta.get("labels") or {}).get(_SERVICE_NAME)
            if not name:
                return
            key = (meta["namespace"], name)
            if new is not None:
                self._slices[key][meta["name"]] = new
            else:
                self._slices[key].pop(meta["name"], None)
                if not self._slices[key]:
                    del self._slices[key]
        else:
            return
        self.serial += 1
        self._built.pop(key, None)
        self._point(key)

    def has(self, name: str) -> bool:
        """Whether the zone speaks for a name (lower case, no last dot); reverse names only of addresses that it knows or owns."""
        if name == self.domain or name.endswith(self._suffix):
            return True
        ip = _reversed_address(name)
        return bool(ip) and (ip in self._pointers or any(ipaddress.ip_address(ip) in cidr for cidr in self._cidrs))

    def look_up(self, name: str, kind: int) -> Reply:
        """What the zone answers for a name that it `has`."""
        if ip := _reversed_address(name):
            names = self._pointers.get(ip)
            if not names:
                return _UNKNOWN
            return Reply(
                NOERROR, dnswire.of_type([dnswire.pointer(target, TTL_S) for target in sorted(set(names.values()))], kind)
            )
        if name == self.domain:
            records = [dnswire.authority(self.domain, TTL_S, self.serial), dnswire.pointer(f"ns.dns.{self.domain}", TTL_S, NS)]
            return Reply(NOERROR, dnswire.of_type(records, kind))
        labels = name.removesuffix(self._suffix).split(".")
        if labels == ["dns-version"]:
            return Reply(NOERROR, dnswire.of_type([dnswire.text(_SPECIFICATION, TTL_S)], kind))
        if labels[-1] == "svc":
            return self._look_up_service(labels[:-1], kind)
        if labels[-1] == "pod":
            return self._look_up_pod(labels[:-1], kind)
        return _UNKNOWN

    def authority(self) -> Record:
        return dnswire.authority(self.domain, TTL_S, self.serial)

    def _look_up_service(self, labels: list[str], kind: int) -> Reply:
        if not labels:
            return _NO_DATA
        namespace = labels[-1]
        if len(labels) == 1:
            return _NO_DATA if namespace in self._namespaces else _UNKNOWN
        records = self._of((namespace, labels[-2]))
        if records is None:
            return _UNKNOWN
        prefix = ".".join(labels[:-2])
        if records.alias and not prefix:
            return Reply(NOERROR, [dnswire.pointer(records.alias, TTL_S, CNAME)], alias=records.alias)
        found = records.records.get(prefix)
        if not found:
            below = prefix and any(known.endswith(f".{prefix}") for known in records.records)
            return _NO_DATA if below else _UNKNOWN
        answers = dnswire.of_type(found, kind)
        extra: list[Record] = []
        if kind == SRV:
            extra = [record for target in sorted(records.targets) for record in records.targets[target]][:32]
        if len(answers) > 1:
            answers = random.sample(answers, len(answers))  # clients take the first: spread them
        return Reply(NOERROR, answers, extra)

    def _look_up_pod(self, labels: list[str], kind: int) -> Reply:
        """`10-244-0-5.namespace.pod`: an address spelt as a name. Whether such a pod exists is not asked (pods insecure)."""
        if not labels:
            return _NO_DATA
        if len(labels) == 1:
            return _NO_DATA if labels[0] in self._namespaces else _UNKNOWN
        text = labels[0]
        for candidate in (text.replace("-", "."), text.replace("-", ":")):
            try:
                ip = str(ipaddress.ip_address(candidate))
            except ValueError:
                continue
            if len(labels) == 2:
                return Reply(NOERROR, dnswire.of_type([dnswire.address(ip, TTL_S)], kind))
        return _UNKNOWN

    def _of(self, key: Key) -> _ServiceRecords | None:
        service = self._services.get(key)
        if service is None:
            return None
        if (built := self._built.get(key)) is None:
            built = self._built[key] = self._build(key, service)
        return built

    def _build(self, key: Key, service: Obj) -> _ServiceRecords:
        spec = service.get("spec") or {}
        out = _ServiceRecords()
        if spec.get("type") == "ExternalName":
            out.alias = (spec.get("externalName") or "").rstrip(".").lower()
            return out
        full = f"{key[1]}.{key[0]}.svc.{self.domain}"
        ips = [ip for ip in spec.get("clusterIPs") or [spec.get("clusterIP")] if ip and ip != "None"]
        if ips:
            own = [dnswire.address(ip, TTL_S) for ip in ips]
            out.records[""] += own
            out.targets[full] = [record._replace(name=full) for record in own]
            for port in spec.get("ports") or ():
                self._add_port(out, port, port["port"], full)
            return out
        self._build_headless(out, key, full)
        return out

    def _build_headless(self, out: _ServiceRecords, key: Key, full: str) -> None:
        seen: set[tuple[str, str]] = set()
        for item in self._slices.get(key, {}).values():
            for endpoint in item.get("endpoints") or ():
                if not _is_ready(endpoint):
                    continue
                for ip in endpoint.get("addresses") or ():
                    name = _endpoint_name(endpoint, ip)
                    if not name:
                        continue
                    target = f"{name}.{full}"
                    record = dnswire.address(ip, TTL_S)
                    if (name, ip) not in seen:
                        seen.add((name, ip))
                        out.records[""].append(record)
                        out.records[name].append(record)
                        out.targets[target].append(record._replace(name=target))
                    for port in item.get("ports") or ():
                        if port.get("port"):
                            self._add_port(out, port, port["port"], target)

    @staticmethod
    def _add_port(out: _ServiceRecords, port: Obj, number: int, target: str) -> None:
        name, protocol = port.get("name") or "", (port.get("protocol") or "TCP").lower()
        record = dnswire.service(target, number, TTL_S)
        for prefix in ("", f"_{name}._{protocol}" if name else ""):
            if record not in out.records[prefix]:
                out.records[prefix].append(record)

    def _point(self, key: Key) -> None:
        """Keeps the way back from a service's addresses: its cluster IPs, or a headless one's endpoints."""
        for ip in self._pointed.pop(key, ()):
            self._pointers[ip].pop(key, None)
            if not self._pointers[ip]:
                del self._pointers[ip]
        service = self._services.get(key)
        spec = (service or {}).get("spec") or {}
        if service is None or spec.get("type") == "ExternalName":
            return
        full = f"{key[1]}.{key[0]}.svc.{self.domain}"
        ips = [ip for ip in spec.get("clusterIPs") or [spec.get("clusterIP")] if ip and ip != "None"]
        targets = dict.fromkeys(ips, full)
        if not ips:
            for item in self._slices.get(key, {}).values():
                for endpoint in item.get("endpoints") or ():
                    if _is_ready(endpoint):
                        names = {ip: _endpoint_name(endpoint, ip) for ip in endpoint.get("addresses") or ()}
                        targets.update({ip: f"{name}.{full}" for ip, name in names.items() if name})
        for ip, target in targets.items():
            self._pointers[str(ipaddress.ip_address(ip))][key] = target
        self._pointed[key] = [str(ipaddress.ip_address(ip)) for ip in targets]


def _is_ready(endpoint: Obj) -> bool:
    return (endpoint.get("conditions") or {}).get("ready") is not False


def _endpoint_name(endpoint: Obj, ip: str) -> str:
    """An endpoint's label: its hostname, else its address with dashes; empty for what is no label (an FQDN slice)."""
    name = (endpoint.get("hostname") or ip.replace(".", "-").replace(":", "-")).lower()
    try:
        ipaddress.ip_address(ip)
    except ValueError:
        return ""
    return name if _LABEL.fullmatch(name.strip("-") or "-") else ""


def _reversed_address(name: str) -> str:
    """The address in a reverse name, empty when it is none."""
    try:
        if name.endswith(".in-addr.arpa"):
            labels = name.removesuffix(".in-addr.arpa").split(".")
            return str(ipaddress.IPv4Address(".".join(reversed(labels)))) if len(labels) == 4 else ""
        if name.endswith(".ip6.arpa"):
            digits = "".join(reversed(name.removesuffix(".ip6.arpa").split(".")))
            return str(ipaddress.IPv6Address(bytes.fromhex(digits))) if len(digits) == 32 else ""
    except ValueError:
        return ""
    return ""


__all__ = ["SOA", "TTL_S", "Reply", "Zone"]
