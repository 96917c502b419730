"""Names inside a pod: its hostname, its /etc/hosts and its resolver.

Source: pkg/kubelet/kubelet_pods.go (hosts files, hostname and domain), pkg/kubelet/network/dns (policies and limits), v1.34.
"""

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kubelite.agent.faults import ConfigFault
from kubelite.meta.types import Obj
from runtimes.interface import DnsConfig

HOSTNAME_LIMIT = 63
NAMESERVER_LIMIT = 3
SEARCH_LIMIT = 32
SEARCH_PATH_LIMIT = 253
SEARCH_TEXT_LIMIT = 2048
_HEADER = "# Kubernetes-managed hosts file"


@dataclass(frozen=True, slots=True)
class Dns:
    """The cluster's DNS as a node's pods see it, and the host's own configuration file."""

    domain: str = "cluster.local"
    server: str = ""
    resolv_conf: str = "/etc/resolv.conf"


def hostname_of(pod: Obj, domain: str) -> tuple[str, str]:
    """The pod's hostname and its domain (empty: none)."""
    spec = pod["spec"]
    hostname = spec.get("hostname") or pod["metadata"]["name"]
    if len(hostname) > HOSTNAME_LIMIT:
        hostname = hostname[:HOSTNAME_LIMIT].rstrip("-.")
    if spec.get("subdomain"):
        return hostname, f"{spec['subdomain']}.{pod['metadata']['namespace']}.svc.{domain}"
    return hostname, ""


def kernel_hostname(pod: Obj, domain: str) -> str:
    """What the pod's UTS namespace gets. Raises ConfigFault where the full name does not fit."""
    hostname, its_domain = hostname_of(pod, domain)
    if pod["spec"].get("setHostnameAsFQDN") and its_domain:
        full = f"{hostname}.{its_domain}"
        if len(full) > 64:
            raise ConfigFault(
                f"failed to construct FQDN from pod hostname and cluster domain, FQDN {full} is too long "
                f"(64 characters is the max, {len(full)} characters requested)"
            )
        return full
    return hostname


def hosts_file(pod: Obj, ips: Sequence[str], domain: str) -> str:
    """The content of the pod's /etc/hosts."""
    aliases = "".join(
        f"{alias['ip']}\t" + "\t".join(alias.get("hostnames") or ()) + "\n" for alias in pod["spec"].get("hostAliases") or ()
    )
    if aliases:
        aliases = "\n# Entries added by HostAliases.\n" + aliases
    if pod["spec"].get("hostNetwork"):
        return f"{_HEADER} (host network).\n{Path('/etc/hosts').read_text(errors='replace')}{aliases}"
    hostname, its_domain = hostname_of(pod, domain)
    names = f"{hostname}.{its_domain}\t{hostname}" if its_domain else hostname
    own = "".join(f"{ip}\t{names}\n" for ip in ips)
    return (
        f"{_HEADER}.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n"
        f"fe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n{own}{aliases}"
    )


def dns_of(pod: Obj, dns: Dns) -> DnsConfig:
    """The pod's resolver by its DNS policy and its own dnsConfig, as much of it as resolvers take."""
    return _fitted(_composed(pod, dns))


def dns_faults(pod: Obj, dns: Dns) -> list[str]:
    """What of the pod's resolver had to be left out, in words."""
    whole = _composed(pod, dns)
    fitted = _fitted(whole)
    texts = []
    if fitted.servers != whole.servers:
        text = "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is"
        texts.append(f"{text}: {' '.join(fitted.servers)}")
    if fitted.searches != whole.searches:
        text = "Search Line limits were exceeded, some search paths have been omitted, the applied search line is"
        texts.append(f"{text}: {' '.join(fitted.searches)}")
    return texts


def _composed(pod: Obj, dns: Dns) -> DnsConfig:
    spec = pod["spec"]
    policy = spec.get("dnsPolicy", "ClusterFirst")
    host = _host_dns(dns.resolv_conf)
    if policy == "ClusterFirst" and spec.get("hostNetwork"):
        policy = "Default"
    if policy == "None":
        base = DnsConfig()
    elif policy == "Default" or not dns.server:
        base = host
    else:
        searches = (f"{pod['metadata']['namespace']}.svc.{dns.domain}", f"svc.{dns.domain}", dns.domain)
        base = DnsConfig((dns.server,), tuple(dict.fromkeys((*searches, *host.searches))), ("ndots:5",))
    own = spec.get("dnsConfig")
    if not own:
        return base
    options = {o.partition(":")[0]: o for o in base.options}
    for option in own.get("options") or ():
        options[option["name"]] = f"{option['name']}:{option['value']}" if option.get("value") else option["name"]
    return DnsConfig(
        tuple(dict.fromkeys((*base.servers, *(own.get("nameservers") or ())))),
        tuple(dict.fromkeys((*base.searches, *(own.get("searches") or ())))),
        tuple(options.values()),
    )


def _fitted(whole: DnsConfig) -> DnsConfig:
    kept = tuple(s for s in whole.searches[:SEARCH_LIMIT] if len(s) <= SEARCH_PATH_LIMIT)
    while kept and len(" ".join(kept)) > SEARCH_TEXT_LIMIT:
        kept = kept[:-1]
    return DnsConfig(whole.servers[:NAMESERVER_LIMIT], kept, whole.options)


def parse_resolv_conf(text: str) -> DnsConfig:
    servers: list[str] = []
    searches: list[str] = []
    options: dict[str, str] = {}
    for line in text.splitlines():
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        if fields[0] == "nameserver" and len(fields) > 1:
            servers.append(fields[1])
        elif fields[0] == "search":
            searches = [s.rstrip(".") for s in fields[1:] if s != "."]
        elif fields[0] == "options":
            options |= {option.partition(":")[0]: option for option in fields[1:]}
    return DnsConfig(tuple(servers), tuple(searches), tuple(options.values()))


@functools.lru_cache(maxsize=8)
def _parsed(path: str, changed_ns: int) -> DnsConfig:
    return parse_resolv_conf(Path(path).read_text(errors="replace"))


def _host_dns(path: str) -> DnsConfig:
    try:
        return _parsed(path, os.stat(path).st_mtime_ns)
    except OSError:
        return DnsConfig()  # a machine without a resolver: pods get none from it
