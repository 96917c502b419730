"""Which addresses and names this machine has, for certificates and for what is advertised."""

import ipaddress
import socket
import struct

_SIOCGIFADDR = 0x8915


def advertised(bind: str, given: str = "") -> str:
    """The address where others reach this machine: the one given, the one bound, the one of the default route, any other
    that is not the loopback's, and only then that."""
    if given:
        return given
    if not ipaddress.ip_address(bind).is_unspecified:
        return bind
    return _of_default_route() or next(iter(local_addresses()), "127.0.0.1")


def _of_default_route() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            s.connect(("192.0.2.1", 9))  # documentation range: connecting a datagram socket sends nothing
        except OSError:
            return ""
        return str(s.getsockname()[0])


def local_addresses() -> list[str]:
    """The IPv4 addresses of this machine's interfaces but the loopback."""
    import fcntl

    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        for _, name in socket.if_nameindex():
            if name == "lo":
                continue
            try:
                packed = fcntl.ioctl(s.fileno(), _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
            except OSError:
                continue
            found.append(socket.inet_ntoa(packed[20:24]))
    return found


def server_names(api_service_ip: str, advertise: str, bind: str, cluster_domain: str) -> tuple[list[str], list[str]]:
    """The DNS names and addresses for the server's certificate."""
    host = socket.gethostname()
    names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"]
    names += [f"kubernetes.default.svc.{cluster_domain}", "localhost", host]
    ips = ["127.0.0.1", "::1", api_service_ip, advertise]
    if not ipaddress.ip_address(bind).is_unspecified:
        ips.append(bind)
    else:
        # Bridges of pod networks come and go; a certificate for each would change at every start.
        ips += [a for a in [_of_default_route()] if a]
    try:
        ipaddress.ip_address(advertise)
    except ValueError:
        names.append(advertise)
        ips.remove(advertise)
    return list(dict.fromkeys(names)), list(dict.fromkeys(ips))
