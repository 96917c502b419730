"""What a node refuses, and what it will not run in a weaker form than asked."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from kubelite.agent import admission, containers, sysctls
from kubelite.agent.admission import Claim
from kubelite.agent.context import Context
from kubelite.agent.faults import ConfigFault
from kubelite.agent.objects import Objects
from kubelite.meta.types import Obj
from runtimes.interface import RuntimeInfo
from tests.agent.pods import container, pod


def context(**allocatable: str) -> Context:
    options = SimpleNamespace(node_name="n1", max_pods=2, allowed_unsafe_sysctls=("net.core.*",))
    objects = Objects()
    labels = {"disk": "ssd"}
    objects.changed("nodes", {"metadata": {"name": "n1", "resourceVersion": "1", "labels": labels}, "spec": {}})
    made = SimpleNamespace(
        options=options, objects=objects, allocatable=allocatable, has_apparmor=False, runtime_info=None, pressure=()
    )
    return cast(Context, made)


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


def test_a_node_selector_and_a_required_affinity_are_checked_on_the_nodes_own_labels() -> None:
    def wanting(disk: str) -> list[Obj]:
        expressions = [{"key": "disk", "operator": "In", "values": [disk]}]
        required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": expressions}]}}
        return [pod(nodeSelector={"disk": disk}), pod(affinity={"nodeAffinity": required})]

    text = "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
    assert [admission.check(context(), made, []) for made in wanting("ssd")] == [None, None]
    assert [admission.check(context(), made, []) for made in wanting("hdd")] == [("NodeAffinity", text)] * 2


def test_a_taint_that_ends_pods_takes_none_in() -> None:
    there = context()
    taints = [{"key": "a", "effect": "NoSchedule"}, {"key": "b", "effect": "NoExecute"}]
    node = {"metadata": {"name": "n1", "resourceVersion": "2"}, "spec": {"taints": taints}}
    there.objects.changed("nodes", node)
    text = "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate"
    assert admission.check(there, pod(), []) == ("TaintToleration", text)
    assert admission.check(there, pod(tolerations=[{"key": "b", "operator": "Exists"}]), []) is None


def test_resources_that_somebody_gave_the_node_count_and_unknown_ones_do_not() -> None:
    there = context(cpu="2")
    status = {"allocatable": {"example.com/thing": "3", "cpu": "1"}}
    there.objects.changed("nodes", {"metadata": {"name": "n1", "resourceVersion": "2"}, "spec": {}, "status": status})
    things = pod(container("c", resources={"requests": {"example.com/thing": "2", "example.com/other": "9", "cpu": "2"}}))
    assert admission.check(there, things, []) is None
    text = "Node didn't have enough resource: example.com/thing, requested: 2, used: 2, capacity: 3"
    assert admission.check(there, things, [Claim({"example.com/thing": 2})]) == ("OutOfexample.com/thing", text)


def test_a_pod_for_another_system_is_refused() -> None:
    labelled = pod()
    labelled["metadata"]["labels"] = {"kubernetes.io/os": "windows"}
    refusals = [admission.check(context(), made, []) for made in (labelled, pod(os={"name": "windows"}))]
    assert [r and r[0] for r in refusals] == ["PodOSSelectorNodeLabelDoesNotMatch", "PodOSNotSupported"]


def test_groups_that_are_ruled_out_need_a_runtime_that_knows_how() -> None:
    strict = pod(securityContext={"supplementalGroupsPolicy": "Strict"})
    text = "SupplementalGroupsPolicy=Strict is not supported in this node"
    assert admission.check(context(), strict, []) == ("SupplementalGroupsPolicyNotSupported", text)
    able = context()
    able.runtime_info = RuntimeInfo("r", "1", (), strict_groups=True)
    assert admission.check(able, strict, []) is None


@pytest.mark.parametrize(
    ("name", "allowed"), [("net.ipv4.tcp_syncookies", True), ("net/core/somaxconn", True), ("kernel.msgmax", False)]
)
def test_only_safe_and_allowed_sysctls_are_taken(name: str, allowed: bool) -> None:
    refusal = admission.check(context(), pod(securityContext={"sysctls": [{"name": name, "value": "1"}]}), [])
    assert (refusal is None) == allowed
    assert allowed or refusal == ("SysctlForbidden", f'forbidden sysctl: "{name}" not allowlisted')


def test_a_sysctl_of_the_hosts_is_not_set_by_a_pod_that_shares_it() -> None:
    asked = {"securityContext": {"sysctls": [{"name": "net/ipv4/tcp_syncookies", "value": "1"}]}}
    text = 'forbidden sysctl: "net.ipv4.tcp_syncookies" not allowed with host Net enabled'
    assert admission.check(context(), pod(**asked), []) is None
    assert admission.check(context(), pod(hostNetwork=True, **asked), []) == ("SysctlForbidden", text)
    assert sysctls.normalized("net/ipv4/conf/eno2.100/rp_filter") == "net.ipv4.conf.eno2/100.rp_filter"


@pytest.mark.parametrize("kind", ["Localhost", "RuntimeDefault"])
def test_a_profile_that_cannot_be_put_on_is_refused(kind: str) -> None:
    profile = {"appArmorProfile": {"type": kind, "localhostProfile": "p"}}
    able = context()
    able.has_apparmor = True
    for spec in (pod(securityContext=profile), pod(initContainers=[container("i", securityContext=profile)])):
        text = "Cannot enforce AppArmor: AppArmor is not enabled on the host"
        assert admission.check(context(), spec, []) == ("AppArmor", text)
        assert admission.check(able, spec, []) is None
    assert admission.check(context(), pod(securityContext={"appArmorProfile": {"type": "Unconfined"}}), []) is None


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


@pytest.mark.parametrize(
    ("conditions", "best_effort", "asks", "tolerates"),
    [
        ((), True, True, True),
        (("MemoryPressure",), False, True, True),
        (("DiskPressure",), False, False, False),
        (("PIDPressure",), False, False, False),
        (("MemoryPressure", "DiskPressure"), False, False, False),
    ],
)
def test_a_node_under_pressure_takes_what_it_can_bear(
    conditions: tuple[str, ...], best_effort: bool, asks: bool, tolerates: bool
) -> None:
    there = context()
    there.pressure = conditions
    toleration = {"key": "node.kubernetes.io/memory-pressure", "operator": "Exists"}
    made = [pod(), asking("1"), pod(tolerations=[toleration])]
    assert [admission.check(there, p, []) is None for p in made] == [best_effort, asks, tolerates]
    assert admission.check(there, pod(priority=2_000_000_000), []) is None
    refusal = admission.check(there, pod(), [])
    assert refusal is None or refusal == ("Evicted", f"The node had condition: [{' '.join(conditions)}]. ")
