"""IP addresses and networks as Kubernetes reads them: loosely where its API always did, strictly in newer fields.

The loose way takes numbers with zeros before them and IPv4 addresses written as IPv6; both are said in warnings.

Source: apimachinery pkg/util/validation/ip.go, v0.34; k8s.io/utils/net (ParseIPSloppy).
"""

import ipaddress
import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

IP_TEXT = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
CIDR_TEXT = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
_ZEROS = re.compile(r"(?<![^.:])0+(?=[0-9]+(?:\.|$))")


def parse(text: str) -> IPv4Address | IPv6Address:
    """An address, read loosely; one of IPv4 that is written as IPv6 is one of IPv4.

    Raises:
        ValueError: it is none.
    """
    if "%" in text:
        raise ValueError("zones are not allowed")
    plain = _ZEROS.sub("", text) if "." in text else text
    address = ipaddress.ip_address(plain)
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def parse_cidr(text: str) -> tuple[IPv4Address | IPv6Address, IPv4Network | IPv6Network]:
    """An address in a network and that network, read loosely.

    Raises:
        ValueError: it is none.
    """
    before, slash, length = text.partition("/")
    if not slash or not (length.isascii() and length.isdigit()):
        raise ValueError("there is no length of a prefix")
    address, prefix_bits = parse(before), int(length)
    if ":" in before and address.version == 4:
        prefix_bits = max(prefix_bits - 96, 0)
    return address, ipaddress.ip_network((address, prefix_bits), strict=False)


def family_of(text: str) -> str:
    """`IPv4` or `IPv6`; an empty text for what is no address."""
    try:
        return f"IPv{parse(text).version}"
    except ValueError:
        return ""


def loose_fault(text: str) -> str:
    """What is wrong with an address, an empty text where nothing is."""
    return "" if family_of(text) else IP_TEXT


def loose_cidr_fault(text: str) -> str:
    try:
        parse_cidr(text)
    except ValueError:
        return CIDR_TEXT
    return ""


def strict_faults(text: str) -> list[str]:
    """What is wrong with an address that has to be in its one form."""
    try:
        address = parse(text)
    except ValueError:
        return [IP_TEXT]
    found = ["must not have leading 0s"] if _has_zeros(text) else []
    if address.version == 4 and ":" in text:
        found.append("must not be an IPv4-mapped IPv6 address")
    return found or ([] if str(address) == text else [f'must be in canonical form ("{address}")'])


def strict_cidr_faults(text: str) -> list[str]:
    """What is wrong with a network that has to be in its one form."""
    try:
        address, network = parse_cidr(text)
    except ValueError:
        return [CIDR_TEXT]
    if _has_zeros(text):
        return ["must not have leading 0s in IP or prefix length"]
    if address.version == 4 and ":" in text:
        return ["must not have an IPv4-mapped IPv6 address"]
    if address != network.network_address:
        return ["must not have bits set beyond the prefix length"]
    return [] if str(network) == text else [f'must be in canonical form ("{network}")']


def interface_faults(text: str) -> list[str]:
    """What is wrong with an address of an interface: one with the length of its network's prefix."""
    try:
        address, network = parse_cidr(text)
    except ValueError:
        return ["must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)"]
    canonical = f"{address}/{network.prefixlen}"
    return [] if text == canonical else [f'must be in canonical form ("{canonical}")']


def warnings(text: str, path: str) -> list[str]:
    """What to say of an address that is taken, but not in its one form."""
    try:
        address = parse(text)
    except ValueError:
        return []
    if _has_zeros(text) or (address.version == 4 and ":" in text):
        future = "will be considered invalid in a future Kubernetes release"
        return [f'{path}: non-standard IP address "{text}" {future}: use "{address}"']
    if str(address) != text:
        return [f'{path}: IPv6 address "{text}" should be in RFC 5952 canonical format ("{address}")']
    return []


def cidr_warnings(text: str, path: str) -> list[str]:
    """What to say of a network that is taken, but not in its one form."""
    try:
        address, network = parse_cidr(text)
    except ValueError:
        return []
    found = []
    if address != network.network_address:
        alone = f"{address}/{address.max_prefixlen}"
        found.append(f'{path}: CIDR value "{text}" is ambiguous in this context (should be "{network}" or "{alone}"?)')
    if _has_zeros(text) or (address.version == 4 and ":" in text):
        future = "will be considered invalid in a future Kubernetes release"
        found.append(f'{path}: non-standard CIDR value "{text}" {future}: use "{network}"')
    if not found and str(network) != text:
        found.append(f'{path}: IPv6 CIDR value "{text}" should be in RFC 5952 canonical format ("{network}")')
    return found


def _has_zeros(text: str) -> bool:
    address, _, length = text.partition("/")
    return ("." in address and _ZEROS.search(address) is not None) or (length[:1] == "0" and length != "0")
