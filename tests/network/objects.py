"""Services, slices and nodes for tests."""

from kubelite.meta.types import Obj


def service(name: str, cluster_ip: str = "", *, ports: list[Obj] | None = None, **spec: object) -> Obj:
    ips = {"clusterIP": cluster_ip, "clusterIPs": [cluster_ip]} if cluster_ip else {}
    default = [{"name": "http", "port": 80, "protocol": "TCP"}]
    return {
        "metadata": {"namespace": "default", "name": name},
        "spec": {"type": "ClusterIP", **ips, "ports": ports or default, **spec},
    }


def endpoint(address: str, *, node: str = "n1", hostname: str = "", **conditions: bool) -> Obj:
    made: Obj = {"addresses": [address], "conditions": {"ready": True, **conditions}, "nodeName": node}
    if hostname:
        made["hostname"] = hostname
    return made


def endpoint_slice(name: str, *endpoints: Obj, ports: list[Obj] | None = None, number: int = 0, family: str = "IPv4") -> Obj:
    return {
        "metadata": {"namespace": "default", "name": f"{name}-{number}", "labels": {"kubernetes.io/service-name": name}},
        "addressType": family,
        "ports": ports or [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": list(endpoints),
    }


def node(name: str, pod_cidr: str, *addresses: str) -> Obj:
    return {
        "metadata": {"name": name},
        "spec": {"podCIDR": pod_cidr, "podCIDRs": [pod_cidr]},
        "status": {"addresses": [{"type": "InternalIP", "address": a} for a in addresses]},
    }
