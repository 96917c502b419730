from typing import Any

import pytest

from kubelite.controllers import Settings, nodes
from kubelite.controllers.eviction import TaintEviction, tolerated_for
from kubelite.controllers.nodes import NodeLifecycle, NodeNetworks
from kubelite.controllers.podgc import PodCollector
from kubelite.meta import nodefit, times
from kubelite.meta.types import Obj
from tests.controllers.conftest import Cluster, pod_template


async def node(cluster: Cluster, name: str = "n1", ready: str = "True", **spec: Any) -> Obj:
    meta = {"name": name, "labels": {"kubernetes.io/os": "linux"}}
    made = await cluster.client.create("nodes", {"metadata": meta, "spec": spec})
    await report(cluster, name, ready)
    return made


async def report(cluster: Cluster, name: str, value: str, kind: str = "Ready") -> None:
    now = times.now()
    condition = {"type": kind, "status": value, "lastHeartbeatTime": now, "lastTransitionTime": now, "reason": "Test"}
    change = {"status": {"conditions": [condition]}}
    await cluster.client.patch("nodes", name, "", change, form="strategic", subresource="status")


async def until_taints(cluster: Cluster, name: str, *wanted: str) -> Obj:
    async def there() -> Obj | None:
        found = await cluster.get("nodes", name, "")
        assert found is not None
        taints = {f"{t['key'].removeprefix('node.kubernetes.io/')}:{t['effect']}" for t in found["spec"].get("taints") or ()}
        return found if taints == set(wanted) else None

    found: Obj = await cluster.until(there, f"taints {wanted}")
    return found


async def pod_on(cluster: Cluster, name: str, where: str = "n1", **spec: Any) -> Obj:
    made = await cluster.client.create("pods", {"metadata": {"name": name}, "spec": pod_template(**spec)["spec"]}, "default")
    await cluster.bind(made, where)
    await cluster.set_pod(made)
    return made


async def test_conditions_become_taints_and_go_with_them(cluster: Cluster) -> None:
    cluster.start(NodeLifecycle)
    await node(cluster, "good")
    foreign = {"key": "example.com/own", "effect": "NoSchedule", "value": "x"}
    await node(cluster, "n1", ready="False", taints=[foreign])
    await until_taints(cluster, "n1", "example.com/own:NoSchedule", "not-ready:NoSchedule", "not-ready:NoExecute")
    await report(cluster, "n1", "True")
    found = await until_taints(cluster, "n1", "example.com/own:NoSchedule")
    assert found["metadata"]["labels"]["beta.kubernetes.io/os"] == "linux"
    for kind, taint in (
        ("MemoryPressure", "memory-pressure"),
        ("DiskPressure", "disk-pressure"),
        ("PIDPressure", "pid-pressure"),
    ):
        await report(cluster, "n1", "True", kind)
        await until_taints(cluster, "n1", "example.com/own:NoSchedule", f"{taint}:NoSchedule")
        await report(cluster, "n1", "False", kind)
    await until_taints(cluster, "n1", "example.com/own:NoSchedule")
    await cluster.client.patch("nodes", "n1", "", {"spec": {"unschedulable": True}})
    await until_taints(cluster, "n1", "example.com/own:NoSchedule", "unschedulable:NoSchedule")


async def test_nothing_is_driven_away_while_no_node_at_all_is_ready(cluster: Cluster) -> None:
    cluster.start(NodeLifecycle)
    await node(cluster, "n1", ready="False")
    await until_taints(cluster, "n1", "not-ready:NoSchedule")
    await node(cluster, "n2")
    await until_taints(cluster, "n1", "not-ready:NoSchedule", "not-ready:NoExecute")


async def test_a_node_that_is_not_heard_of_becomes_unknown_and_its_pods_unready(cluster: Cluster) -> None:
    settings = Settings(node_grace_s=0.2, node_startup_grace_s=0.2)
    object.__setattr__(cluster.env, "settings", settings)
    cluster.start(NodeLifecycle)
    await node(cluster)
    made = await pod_on(cluster, "p")
    ready = {c["type"]: c for c in (await cluster.until_status("pods", "p", phase="Running"))["status"]["conditions"]}
    assert ready["Ready"]["status"] == "True"

    async def unknown() -> Obj | None:
        found = await cluster.get("nodes", "n1", "")
        listed = {c["type"]: c for c in (found or {})["status"]["conditions"]}
        return listed if listed["Ready"]["status"] == "Unknown" else None

    listed = await cluster.until(unknown)
    assert listed["Ready"]["reason"] == "NodeStatusUnknown"
    assert listed["MemoryPressure"]["reason"] == "NodeStatusNeverUpdated"

    async def unready() -> bool:
        found = await cluster.get("pods", made["metadata"]["name"])
        assert found is not None
        return any(c["type"] == "Ready" and c["status"] == "False" for c in found["status"]["conditions"])

    await cluster.until(unready)
    await report(cluster, "n1", "True")
    await until_taints(cluster, "n1")


async def test_each_node_gets_a_network_of_its_own(cluster: Cluster) -> None:
    cluster.start(NodeNetworks)
    for name in ("n1", "n2", "n3"):
        await cluster.client.create("nodes", {"metadata": {"name": name}})

    async def all_have() -> set[str]:
        cidrs = {n["spec"].get("podCIDR", "") for n in await cluster.list("nodes", "")}
        return cidrs if "" not in cidrs else set()

    assert await cluster.until(all_have) == {"10.244.0.0/24", "10.244.1.0/24", "10.244.2.0/24"}
    await cluster.client.delete("nodes", "n2")
    await cluster.client.create("nodes", {"metadata": {"name": "n4"}})

    async def again() -> bool:
        found = await cluster.get("nodes", "n4", "")
        return found is not None and found["spec"].get("podCIDRs") == ["10.244.1.0/24"]

    await cluster.until(again)


def test_the_lowest_free_network_is_given_and_none_that_overlaps_a_taken_one() -> None:
    networks = nodes.Networks("10.0.0.0/22", 24)
    networks.take("small", ["10.0.0.0/26", "fd00::/64"])
    networks.take("other", ["10.0.2.0/24"])
    assert networks.give("a") == networks.give("a") == "10.0.1.0/24"
    assert networks.give("b") == "10.0.3.0/24"
    assert networks.give("c") is None
    networks.release("small")
    assert networks.give("c") == "10.0.0.0/24"
    networks.take("c", ["10.0.0.0/24"])
    networks.release("c")
    assert networks.give("d") == "10.0.0.0/24"
    with pytest.raises(ValueError, match="do not fit"):
        nodes.Networks("10.0.0.0/22", 20)


@pytest.mark.slow
async def test_an_evicting_taint_drives_away_what_does_not_tolerate_it(cluster: Cluster) -> None:
    cluster.start(TaintEviction)
    await node(cluster)
    await pod_on(cluster, "goes")
    await pod_on(cluster, "stays", tolerations=[{"key": "evict", "operator": "Exists"}])
    soon = [{"key": "evict", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1}]
    await pod_on(cluster, "later", tolerations=soon)
    hour = [{"key": "evict", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 3600}]
    await pod_on(cluster, "cancelled", tolerations=hour)
    taint = {"key": "evict", "value": "me", "effect": "NoExecute"}
    await cluster.client.patch("nodes", "n1", "", {"spec": {"taints": [taint]}})

    async def going(name: str) -> bool:
        found = await cluster.get("pods", name)
        return found is None or "deletionTimestamp" in found["metadata"]

    await cluster.until(lambda: going("goes"))
    evicted = await cluster.get("pods", "goes")
    assert evicted is not None
    (reason,) = [c["reason"] for c in evicted["status"]["conditions"] if c["type"] == "DisruptionTarget"]
    assert reason == "DeletionByTaintManager"
    assert not await going("later")
    await cluster.until(lambda: going("later"))
    await cluster.client.patch("nodes", "n1", "", {"spec": {"taints": []}})

    async def told() -> bool:
        return "TaintManagerEviction" in await cluster.reasons("cancelled")

    await cluster.until(told)
    assert not await going("stays") and not await going("cancelled")


def test_tolerations_match_by_key_effect_and_operator() -> None:
    taint = {"key": "k", "value": "v", "effect": "NoExecute"}
    assert nodefit.tolerates({"operator": "Exists"}, taint)
    assert nodefit.tolerates({"key": "k", "value": "v"}, taint)
    assert not nodefit.tolerates({"key": "k", "value": "w"}, taint)
    assert not nodefit.tolerates({"key": "k", "operator": "Exists", "effect": "NoSchedule"}, taint)
    assert tolerated_for([taint], []) == 0
    assert tolerated_for([taint], [{"operator": "Exists"}]) is None
    assert tolerated_for([taint], [{"operator": "Exists", "tolerationSeconds": 5}, {"key": "k", "value": "v"}]) == 5
    assert tolerated_for([taint], [{"operator": "Exists", "tolerationSeconds": -5}]) == 0


async def test_pods_of_a_node_that_is_gone_are_collected(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubelite.controllers.podgc.QUARANTINE_S", 0.05)
    await node(cluster)
    await pod_on(cluster, "p")
    cluster.start(PodCollector)
    await cluster.client.delete("nodes", "n1")
    await cluster.until_gone("pods", "p")


async def test_the_oldest_finished_pods_go_when_there_are_too_many(cluster: Cluster) -> None:
    object.__setattr__(cluster.env, "settings", Settings(terminated_pods_kept=1))
    await node(cluster)
    cluster.start(PodCollector)
    for name in ("a", "b", "c"):
        made = await pod_on(cluster, name)
        await cluster.set_pod(made, "Succeeded", ready=False)
    await cluster.until_count("pods", 1)
