"""What a server, an agent or both are told, from the command line and a configuration file of the same names."""

import ipaddress
import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from kubelite.agent import thresholds
from kubelite.meta import names

DEFAULT_HTTPS_PORT = 6443
#: What `--disable` may name.
DISABLEABLE = ("scheduler", "controllers", "dns", "proxy")
RUNTIMES = ("auto", "containerd", "cri", "docker", "fake")
LOG_FORMATS = ("console", "json")
LOG_LEVELS = ("debug", "info", "warning", "error")


class SettingsError(Exception):
    """A setting can't be used; the message names it, says what was wrong, and what is allowed."""


def default_data_dir() -> Path:
    """/var/lib/kubelite as root, else the user's data directory."""
    if os.geteuid() == 0:
        return Path("/var/lib/kubelite")
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "kubelite"


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class Settings:
    """Frozen: a part that was given settings sees the same for life."""

    data_dir: Path = field(default_factory=default_data_dir)
    https_port: int = DEFAULT_HTTPS_PORT
    #: The nodes' gRPC port; 0: the one after `https_port`.
    grpc_port: int = 0
    bind: str = "0.0.0.0"  # a server is for its nodes and users; --bind narrows it
    #: Where clients and nodes reach the server; empty: found out.
    advertise_address: str = ""
    cluster_cidr: str = "10.244.0.0/16"
    service_cidr: str = "10.96.0.0/16"
    cluster_domain: str = "cluster.local"
    node_port_range: tuple[int, int] = (30000, 32767)
    disable: frozenset[str] = frozenset()
    audit_log: bool = True
    # The agent's part
    node_name: str = ""
    runtime: Literal["auto", "containerd", "cri", "docker", "fake"] = "auto"
    runtime_endpoint: str = ""
    registries_dir: Path = Path("/etc/containerd/certs.d")
    #: A directory of image archives that are imported when the agent starts.
    images: Path | None = None
    #: The thresholds below which a node evicts pods, as the kubelet's option of that name has them; empty: it evicts none.
    eviction_hard: str = thresholds.DEFAULT_HARD
    #: Simulated nodes, with the fake runtime.
    nodes: int = 1
    #: The addresses of the server that an agent joins, and its token.
    server: str = ""
    token: str = ""
    #: `sha256:...`, what the server's CA must have; a token from `kubelite token create` carries it too.
    ca_hash: str = ""
    log_format: Literal["console", "json"] = "console"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    def __post_init__(self) -> None:
        for name in ("https_port", "grpc_port"):
            port = getattr(self, name)
            if not 0 <= port <= 65535:
                raise SettingsError(f"--{name.replace('_', '-')} {port}: a port is between 1 and 65535")
        for name in ("cluster_cidr", "service_cidr"):
            text = getattr(self, name)
            try:
                network = ipaddress.ip_network(text)
            except ValueError as e:
                raise SettingsError(f"--{name.replace('_', '-')} {text}: {e}; give a network such as 10.244.0.0/16") from e
            if network.version != 4:
                raise SettingsError(f"--{name.replace('_', '-')} {text}: only IPv4 is built yet, such as 10.244.0.0/16")
            if network.prefixlen > 24:
                raise SettingsError(f"--{name.replace('_', '-')} {text}: at least a /24 is needed")
        if self._network(self.cluster_cidr).overlaps(self._network(self.service_cidr)):
            raise SettingsError(
                f"--cluster-cidr {self.cluster_cidr} and --service-cidr {self.service_cidr} overlap: choose apart ones"
            )
        unknown = sorted(self.disable - set(DISABLEABLE))
        if unknown:
            raise SettingsError(f"--disable {','.join(unknown)}: only {', '.join(DISABLEABLE)} can be disabled")
        if self.runtime not in RUNTIMES:
            raise SettingsError(f"--runtime {self.runtime}: choose one of {', '.join(RUNTIMES)}")
        if not _is_address(self.bind):
            raise SettingsError(f"--bind {self.bind}: give an address of this machine, or 0.0.0.0 for all")
        if self.advertise_address and not _is_address(self.advertise_address):
            raise SettingsError(f"--advertise-address {self.advertise_address}: give an IP address where nodes reach it")
        if self.node_name and (wrong := names.dns1123_subdomain(self.node_name)):
            raise SettingsError(f"--node-name {self.node_name}: {'; '.join(wrong)}")
        for name, allowed in (("log_format", LOG_FORMATS), ("log_level", LOG_LEVELS)):
            if getattr(self, name) not in allowed:
                raise SettingsError(f"--{name.replace('_', '-')} {getattr(self, name)}: choose one of {', '.join(allowed)}")
        if self.images is not None and not self.images.is_dir():
            raise SettingsError(f"--images {self.images}: there is no such directory; give one that holds image archives")
        try:
            thresholds.parse(self.eviction_hard)
        except ValueError as e:
            raise SettingsError(f"--eviction-hard {self.eviction_hard}: {e}") from e
        if self.nodes < 1:
            raise SettingsError(f"--nodes {self.nodes}: at least one")
        if self.nodes > 1 and self.runtime != "fake":
            raise SettingsError("--nodes needs --runtime fake: one machine is one real node; other machines join with `agent`")

    @staticmethod
    def _network(text: str) -> Any:
        return ipaddress.ip_network(text)

    @cached_property
    def pki_dir(self) -> Path:
        return self.data_dir / "pki"

    @cached_property
    def kubeconfig(self) -> Path:
        return self.data_dir / "kubeconfig"

    @cached_property
    def node_grpc_port(self) -> int:
        return self.grpc_port or (self.https_port + 1 if self.https_port else 0)

    @cached_property
    def api_service_ip(self) -> str:
        """The cluster IP of the `kubernetes` service: the first of the services' range."""
        return str(self._network(self.service_cidr)[1])

    @cached_property
    def dns_service_ip(self) -> str:
        return str(self._network(self.service_cidr)[10])

    @cached_property
    def issuer(self) -> str:
        return f"https://kubernetes.default.svc.{self.cluster_domain}"

    def is_enabled(self, part: str) -> bool:
        return part not in self.disable
