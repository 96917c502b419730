"""Kernel parameters that a pod may set for itself. Pure.

Source: pkg/kubelet/sysctl, component-helpers node/util/sysctl, v1.34.
"""

from collections.abc import Sequence

from kubelite.meta.types import Obj

SAFE = (
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
)
#: Beginnings of names: what of the host's a pod may share makes them the host's own.
_NAMESPACES = (
    ("net.", "hostNetwork", "Net"),
    *((prefix, "hostIPC", "IPC") for prefix in ("kernel.sem", "kernel.shm", "kernel.msg", "fs.mqueue.")),
)


def normalized(name: str) -> str:
    """The name with dots between its parts; one that was written with slashes may have dots within them."""
    if name.find("/") != -1 and (name.find(".") == -1 or name.find("/") < name.find(".")):
        return name.translate(str.maketrans("./", "/."))
    return name


def of_pod(spec: Obj) -> dict[str, str]:
    return {normalized(entry["name"]): entry["value"] for entry in _asked(spec)}


def forbidden(spec: Obj, allowed: Sequence[str]) -> str:
    """Why the pod's parameters can't be set, in words; empty where they can. `allowed` beyond the safe ones: names, or prefixes
    that end in a star."""
    for entry in _asked(spec):
        name = normalized(entry["name"])
        if not any(name == a or (a.endswith("*") and name.startswith(a[:-1])) for a in (*SAFE, *allowed)):
            return f'forbidden sysctl: "{name}" not allowlisted'
        for prefix, shared, what in _NAMESPACES:
            if name.startswith(prefix) and spec.get(shared):
                return f'forbidden sysctl: "{name}" not allowed with host {what} enabled'
    return ""


def _asked(spec: Obj) -> Sequence[Obj]:
    return (spec.get("securityContext") or {}).get("sysctls") or ()
