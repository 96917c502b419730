"""Settings: what is derived from them, and what they refuse in words."""

from pathlib import Path

import pytest

from kubelite.server.settings import Settings, SettingsError


def test_ports_and_addresses_follow_from_what_is_given():
    settings = Settings(data_dir=Path("/x"), https_port=7443, service_cidr="10.1.0.0/16")
    assert settings.node_grpc_port == 7444
    assert settings.api_service_ip == "10.1.0.1"
    assert settings.dns_service_ip == "10.1.0.10"
    assert settings.kubeconfig == Path("/x/kubeconfig")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"https_port": 70000}, "between 1 and 65535"),
        ({"cluster_cidr": "nonsense"}, "give a network"),
        ({"cluster_cidr": "10.0.0.0/28"}, "at least a /24"),
        ({"cluster_cidr": "10.96.0.0/12"}, "overlap"),
        ({"disable": frozenset({"gravity"})}, "only scheduler, controllers, dns, proxy"),
        ({"runtime": "rkt"}, "choose one of"),
        ({"bind": "localhost"}, "give an address"),
        ({"nodes": 0}, "at least one"),
        ({"cluster_cidr": "fd00::/48"}, "only IPv4"),
        ({"advertise_address": "here"}, "give an IP address"),
        ({"node_name": "My_Node"}, "must consist of lower case"),
        ({"log_format": "xml"}, "choose one of console, json"),
        ({"log_level": "loud"}, "choose one of debug, info, warning, error"),
        ({"images": Path("/nonsense")}, "there is no such directory"),
        ({"nodes": 2, "runtime": "containerd"}, "needs --runtime fake"),
        ({"eviction_hard": "memory<1Gi"}, "--eviction-hard memory<1Gi: unknown signal 'memory'; known are memory.available"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(given, words):
    with pytest.raises(SettingsError, match=words):
        Settings(**given)
