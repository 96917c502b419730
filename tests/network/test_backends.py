"""Which endpoints a service's port leads to."""

import pytest

from kubelite.meta.types import Obj
from kubelite.network import backends
from tests.network.objects import endpoint, endpoint_slice

PORT = {"name": "http", "port": 80, "protocol": "TCP"}


def hinted(made: Obj, *, zones: str = "", nodes: str = "") -> Obj:
    hints = {"forZones": [{"name": zone} for zone in zones], "forNodes": [{"name": node} for node in nodes.split()]}
    return {**made, "hints": {name: listed for name, listed in hints.items() if listed}}


def chosen(*endpoints: Obj, node: str = "n1", zone: str = "a", **policies: bool) -> tuple[str, str]:
    """The last letters of the addresses that clients inside and outside get."""
    found = backends.of_port([endpoint_slice("web", *endpoints)], PORT, "IPv4", node)
    policies = {"internal_local": False, "external_local": False, **policies}
    choice = backends.choose(found, node=node, zone=zone, **policies)
    return "".join(b.address[-1] for b in choice.cluster), "".join(b.address[-1] for b in choice.external)


def test_local_policies_allow_endpoints_of_the_node_only() -> None:
    both = endpoint("10.244.0.1"), endpoint("10.244.1.2", node="n2")
    assert chosen(*both) == ("12", "12")
    assert chosen(*both, internal_local=True) == ("1", "12")
    assert chosen(*both, external_local=True) == ("12", "1")
    assert chosen(both[1], external_local=True) == ("2", "")


def test_endpoints_that_end_serve_while_there_is_no_ready_one() -> None:
    ending = endpoint("10.244.0.1", ready=False, serving=True, terminating=True)
    gone = endpoint("10.244.0.2", ready=False, serving=False, terminating=True)
    assert chosen(ending, gone) == ("1", "1")
    assert chosen(ending, gone, endpoint("10.244.0.3")) == ("3", "3")


@pytest.mark.parametrize(
    ("node", "zone", "wanted"),
    [("n1", "a", "1"), ("n3", "a", "1"), ("n3", "b", "2"), ("n3", "c", "12"), ("n3", "", "12"), ("n2", "a", "2")],
)
def test_hints_for_the_node_go_before_those_for_its_zone(node: str, zone: str, wanted: str) -> None:
    one = hinted(endpoint("10.244.0.1"), zones="a", nodes="n1")
    two = hinted(endpoint("10.244.1.2", node="n2"), zones="b", nodes="n2")
    assert chosen(one, two, node=node, zone=zone)[0] == wanted


def test_hints_count_only_where_every_ready_endpoint_has_one() -> None:
    one, two = hinted(endpoint("10.244.0.1"), zones="a"), endpoint("10.244.1.2")
    assert chosen(one, two)[0] == "12"
    unready = endpoint("10.244.1.2", ready=False, serving=False)
    assert chosen(one, unready)[0] == "1"
    ending = hinted(endpoint("10.244.0.1", ready=False, serving=True, terminating=True), zones="b")
    assert chosen(ending)[0] == "1", "what is left serves everybody"
