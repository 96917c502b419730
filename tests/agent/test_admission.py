"""What a node refuses, and what it will not run in a weaker form than asked."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from kubelite.agent import admission, containers
from kubelite.agent.admission import Claim
from kubelite.agent.context import Context
from kubelite.agent.faults import ConfigFault
from kubelite.agent.objects import Objects
from kubelite.meta.types import Obj
from tests.agent.pods import container, pod


def context(**allocatable: str) -> Context:
    options = SimpleNamespace(node_name="n1", max_pods=2, allowed_unsafe_sysctls=("net.core.*",))
    objects = Objects()
    labels = {"disk": "ssd"}
    objects.changed("nodes", {"metadata": {"name": "n1", "resourceVersion": "1", "labels": labels}, "spec": {}})
    return cast(Context, SimpleNamespace(options=options, objects=objects, allocatable=allocatable))


def asking(cpu: str, **spec: Any) -> Obj:
    return pod(container("c", resources={"requests": {"cpu": cpu}}), **spec)


def test_a_pod_that_fits_is_taken() -> None:
    assert admission.check(context(cpu="2", pods="2"), asking("1"), [Claim({"cpu": 1000})]) is None


def test_a_pod_that_does_not_fit_says_what_is_short() -> None:
    text = "Node didn't have enough resource: cpu, requested: 1000, used: 1500, capacity: 2000"
    assert admission.check(context(cpu="2"), asking("1"), [Claim({"cpu": 1500})]) == ("OutOfcpu", text)
    refusal = admission.check(context(), pod(), [Claim({}), Claim({})])
    assert refusal is not None
    assert refusal[0] == "OutOfpods"


def test_a_node_selector_is_checked_on_the_nodes_own_labels() -> None:
    assert admission.check(context(), pod(nodeSelector={"disk": "ssd"}), []) is None
    refusal = admission.check(context(), pod(nodeSelector={"disk": "hdd"}), [])
    assert refusal is not None
    assert refusal[0] == "NodeAffinity"


@pytest.mark.parametrize(
    ("name", "allowed"), [("net.ipv4.tcp_syncookies", True), ("net/core/somaxconn", True), ("kernel.msgmax", False)]
)
def test_only_safe_and_allowed_sysctls_are_taken(name: str, allowed: bool) -> None:
    refusal = admission.check(context(), pod(securityContext={"sysctls": [{"name": name, "value": "1"}]}), [])
    assert (refusal is None) == allowed
    assert allowed or refusal == ("SysctlForbidden", f'forbidden sysctl: "{name}" not allowlisted')


def test_a_profile_that_cannot_be_put_on_is_refused() -> None:
    profile = {"appArmorProfile": {"type": "Localhost", "localhostProfile": "p"}}
    for spec in (pod(securityContext=profile), pod(initContainers=[container("i", securityContext=profile)])):
        refusal = admission.check(context(), spec, [])
        assert refusal is not None
        assert refusal[0] == "AppArmor"


@pytest.mark.parametrize("field", [{"hostUsers": False}, {"resourceClaims": [{"name": "gpu"}]}])
def test_what_the_node_cannot_isolate_gets_no_sandbox(field: Obj) -> None:
    with pytest.raises(ConfigFault, match="not supported by this node"):
        containers.sandbox_config(context(), pod(**field), 0)


def test_requests_are_those_of_the_largest_moment() -> None:
    def asks(name: str, cpu: str, **fields: Any) -> Obj:
        return container(name, resources={"requests": {"cpu": cpu}}, **fields)

    init = [asks("i", "3"), asks("s", "500m", restartPolicy="Always"), asks("late", "100m")]
    assert admission.requests_of(pod(asks("c", "1"), initContainers=init)) == {"cpu": 3000}
    assert admission.requests_of(pod(asks("c", "3"), initContainers=init, overhead={"cpu": "100m"})) == {"cpu": 3600}


def test_a_host_port_is_taken_once() -> None:
    def using(port: int, **fields: Any) -> Obj:
        return pod(container("c", ports=[{"containerPort": 80, "hostPort": port, **fields}]))

    others = [admission.claim_of(using(8080, hostIP="192.0.2.7"))]
    refusal = admission.check(context(), using(8080), others)
    assert refusal is not None
    assert refusal[0] == "NodePorts"
    assert admission.check(context(), using(8081), others) is None
    assert admission.check(context(), using(8080, protocol="UDP"), others) is None
    assert admission.check(context(), using(8080, hostIP="192.0.2.8"), others) is None
