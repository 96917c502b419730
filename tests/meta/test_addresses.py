"""Tests for addresses and networks, loose and strict."""

import pytest

from kubelite.meta import addresses


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("1.2.3.4", "1.2.3.4"),
        ("010.002.3.04", "10.2.3.4"),
        ("0.00.000.0", "0.0.0.0"),
        ("::ffff:1.2.3.4", "1.2.3.4"),
        ("::ffff:1.02.3.004", "1.2.3.4"),
        ("FE00:0::1", "fe00::1"),
    ],
)
def test_an_address_is_read_loosely(text: str, meant: str) -> None:
    assert str(addresses.parse(text)) == meant
    assert not addresses.loose_fault(text)


@pytest.mark.parametrize("text", ["", "a", "1.2.3", "1.2.3.256", "1.2.3.4 ", "1.2.3.4\n", "fe80::1%eth0", "1.2.3.4/8", "::00001"])
def test_what_is_no_address(text: str) -> None:
    assert addresses.loose_fault(text) == addresses.IP_TEXT
    assert addresses.strict_faults(text) == [addresses.IP_TEXT]
    assert not addresses.warnings(text, "a")
    assert not addresses.family_of(text)


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("1.2.3.4", []),
        ("fe00::1", []),
        ("01.2.3.4", ["must not have leading 0s"]),
        ("::ffff:1.2.3.4", ["must not be an IPv4-mapped IPv6 address"]),
        ("FE00::1", ['must be in canonical form ("fe00::1")']),
    ],
)
def test_an_address_of_a_newer_field_has_one_form(text: str, faults: list[str]) -> None:
    assert addresses.strict_faults(text) == faults
    assert bool(addresses.warnings(text, "a")) == bool(faults)


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("10.0.0.0/8", []),
        ("fd00::/112", []),
        ("10.0.0.0/08", ["must not have leading 0s in IP or prefix length"]),
        ("10.0.0.1/8", ["must not have bits set beyond the prefix length"]),
        ("::ffff:10.0.0.0/104", ["must not have an IPv4-mapped IPv6 address"]),
        ("FD00::/112", ['must be in canonical form ("fd00::/112")']),
        ("10.0.0.0", [addresses.CIDR_TEXT]),
        ("10.0.0.0/33", [addresses.CIDR_TEXT]),
        ("10.0.0.0/+8", [addresses.CIDR_TEXT]),
        ("10.0.0.0/٨", [addresses.CIDR_TEXT]),
        ("fd00::%1/8", [addresses.CIDR_TEXT]),
    ],
)
def test_a_network_of_a_newer_field_has_one_form(text: str, faults: list[str]) -> None:
    assert addresses.strict_cidr_faults(text) == faults
    assert bool(addresses.loose_cidr_fault(text)) == (faults == [addresses.CIDR_TEXT])


def test_warnings_say_what_a_loose_network_means() -> None:
    assert addresses.cidr_warnings("10.0.0.1/08", "spec.cidr") == [
        'spec.cidr: CIDR value "10.0.0.1/08" is ambiguous in this context (should be "10.0.0.0/8" or "10.0.0.1/32"?)',
        'spec.cidr: non-standard CIDR value "10.0.0.1/08" will be considered invalid in a future Kubernetes release: '
        'use "10.0.0.0/8"',
    ]
    assert not addresses.cidr_warnings("10.0.0.0/8", "spec.cidr")
