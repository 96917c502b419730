from typing import Any

from kubelite.controllers import daemonplan
from kubelite.controllers.daemonsets import DaemonSets
from kubelite.meta import nodefit
from kubelite.meta.types import Obj
from tests.controllers.conftest import Cluster, pod_template, workload

RESOURCE = "daemonsets.apps"


async def node(cluster: Cluster, name: str, taints: list[Obj] | None = None, **labels: str) -> None:
    await cluster.client.create("nodes", {"metadata": {"name": name, "labels": labels}, "spec": {"taints": taints or []}})


def places(found: list[Obj]) -> list[str]:
    return sorted(daemonplan.node_of(p) for p in found)


async def test_one_pod_runs_on_each_node_that_fits(cluster: Cluster) -> None:
    cluster.start(DaemonSets)
    await node(cluster, "n1", zone="a")
    await node(cluster, "n2", zone="b")
    await node(cluster, "tainted", [{"key": "k", "effect": "NoSchedule"}], zone="a")
    await node(cluster, "cordoned", [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}], zone="a")
    wanted = workload("DaemonSet")
    wanted["spec"]["template"]["spec"]["nodeSelector"] = {"zone": "a"}
    await cluster.client.create(RESOURCE, wanted)
    found = await cluster.until_count("pods", 2)
    assert places(found) == ["cordoned", "n1"]
    pod = found[0]
    assert pod["metadata"]["labels"][daemonplan.HASH_LABEL]
    assert {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"} in pod["spec"]["tolerations"]
    counts = {"desiredNumberScheduled": 2, "currentNumberScheduled": 2, "numberReady": 0, "numberMisscheduled": 0}
    await cluster.until_status(RESOURCE, "web", **counts)

    # A node that begins to fit gets a pod, one that does not any more loses it.
    await cluster.client.patch("nodes", "n2", "", {"metadata": {"labels": {"zone": "a"}}})
    await cluster.client.patch("nodes", "n1", "", {"metadata": {"labels": {"zone": "c"}}})

    async def moved() -> bool:
        return places(await cluster.list("pods")) == ["cordoned", "n2"]

    await cluster.until(moved)
    await cluster.client.delete("nodes", "n2")

    async def gone() -> bool:
        return places(await cluster.list("pods")) == ["cordoned"]

    await cluster.until(gone)


async def test_a_new_template_replaces_the_pods_one_by_one(cluster: Cluster) -> None:
    cluster.start(DaemonSets)
    for name in ("n1", "n2"):
        await node(cluster, name)

    async def run_all() -> None:
        for pod in await cluster.list("pods"):
            if pod["status"]["phase"] == "Pending":
                await cluster.bind(pod, daemonplan.node_of(pod))
                await cluster.set_pod(pod)
            elif "deletionTimestamp" in pod["metadata"]:
                await cluster.client.delete("pods", pod["metadata"]["name"], "default", grace_period_s=0)

    await cluster.client.create(RESOURCE, workload("DaemonSet"))
    await cluster.until_count("pods", 2)
    await run_all()
    await cluster.until_status(RESOURCE, "web", numberAvailable=2, updatedNumberScheduled=2)
    old = {p["metadata"]["name"] for p in await cluster.list("pods")}
    change = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "web:2"}]}}}}
    await cluster.client.patch(RESOURCE, "web", "default", change, form="strategic")

    async def one_going() -> bool:
        return sum("deletionTimestamp" in p["metadata"] for p in await cluster.list("pods")) == 1

    await cluster.until(one_going)

    async def done() -> bool:
        found = await cluster.list("pods")
        at_most_one = sum(p["metadata"]["name"] in old and "deletionTimestamp" in p["metadata"] for p in found) <= 1
        assert at_most_one
        await run_all()
        status = ((await cluster.get(RESOURCE, "web")) or {})["status"]
        renewed = not old & {p["metadata"]["name"] for p in found}
        return renewed and status.get("updatedNumberScheduled") == 2 and status.get("numberAvailable") == 2

    await cluster.until(done)
    history = await cluster.list("controllerrevisions.apps")
    assert sorted(r["revision"] for r in history) == [1, 2]
    template = history[0]["data"]["spec"]["template"]
    assert template["$patch"] == "replace" and [*template] == ["$patch", "metadata", "spec"]
    assert [*template["spec"]] == sorted(template["spec"])
    # Back to the first template: the first revision becomes the newest, none is added.
    first = next(r for r in history if r["revision"] == 1)
    await cluster.client.patch(RESOURCE, "web", "default", first["data"], form="strategic")

    async def rolled_back() -> bool:
        return sorted(r["revision"] for r in await cluster.list("controllerrevisions.apps")) == [2, 3]

    await cluster.until(rolled_back)


async def test_a_failed_pod_is_replaced(cluster: Cluster) -> None:
    cluster.start(DaemonSets)
    await node(cluster, "n1")
    await cluster.client.create(RESOURCE, workload("DaemonSet"))
    (pod,) = await cluster.until_count("pods", 1)
    await cluster.set_pod(pod, "Failed", ready=False)

    async def replaced() -> bool:
        return [p["metadata"]["uid"] for p in await cluster.list("pods")] not in ([], [pod["metadata"]["uid"]])

    await cluster.until(replaced)

    async def told() -> bool:
        return "FailedDaemonPod" in await cluster.reasons("web")

    await cluster.until(told)


def test_node_affinity_and_fields_decide_where_a_daemon_runs() -> None:
    here: Obj = {"metadata": {"name": "n1", "labels": {"zone": "a", "cores": "8"}}, "spec": {}}

    def spec(*terms: Obj) -> Obj:
        return {"affinity": {"nodeAffinity": {nodefit.REQUIRED: {"nodeSelectorTerms": list(terms)}}}}

    in_a = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}
    in_b = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["b"]}]}
    large = {"matchExpressions": [{"key": "cores", "operator": "Gt", "values": ["4"]}]}
    other = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]}
    assert nodefit.matches(spec(in_b, in_a), here)
    assert nodefit.matches(spec(large), here)
    assert not nodefit.matches(spec(in_b), here)
    assert not nodefit.matches(spec(other), here)
    assert not nodefit.matches(spec({}), here)
    assert nodefit.matches({}, here)


def _owner(**rolling: Any) -> Obj:
    strategy = {"type": "RollingUpdate", "rollingUpdate": rolling}
    return {"metadata": {"name": "d", "uid": "d"}, "spec": {"template": pod_template(), "updateStrategy": strategy}}


def _pod(name: str, where: str, hash_: str, ready: bool = True) -> Obj:
    conditions = [{"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": "2026-01-01T00:00:00Z"}]
    meta = {"name": name, "uid": name, "namespace": "default", "labels": {daemonplan.HASH_LABEL: hash_}}
    return {"metadata": meta, "spec": {"nodeName": where}, "status": {"phase": "Running", "conditions": conditions}}


def test_with_surge_the_new_pod_comes_before_the_old_one_goes() -> None:
    nodes: list[Obj] = [{"metadata": {"name": f"n{n}"}, "spec": {}} for n in range(3)]
    owner = _owner(maxSurge=1, maxUnavailable=0)
    old = {f"n{n}": [_pod(f"old{n}", f"n{n}", "old")] for n in range(3)}
    first = daemonplan.rolling_update(owner, nodes, old, "new", 0.0)
    assert first.create == ["n0"] and first.delete == []
    surging = {**old, "n0": [*old["n0"], _pod("new0", "n0", "new", ready=False)]}
    waiting = daemonplan.rolling_update(owner, nodes, surging, "new", 0.0)
    assert waiting.create == [] and waiting.delete == []
    ready = {**old, "n0": [*old["n0"], _pod("new0", "n0", "new")]}
    after = daemonplan.rolling_update(owner, nodes, ready, "new", 0.0)
    assert [p["metadata"]["name"] for p in after.delete] == ["old0"]


def test_an_unavailable_old_pod_is_replaced_at_once() -> None:
    nodes: list[Obj] = [{"metadata": {"name": f"n{n}"}, "spec": {}} for n in range(3)]
    placed = {"n0": [_pod("a", "n0", "old", ready=False)], "n1": [_pod("b", "n1", "old")], "n2": [_pod("c", "n2", "old")]}
    plan = daemonplan.rolling_update(_owner(maxUnavailable=1), nodes, placed, "new", 0.0)
    assert [p["metadata"]["name"] for p in plan.delete] == ["a"]


async def test_revisions_that_say_the_same_become_one_and_no_pod_is_made_anew(cluster: Cluster) -> None:
    await node(cluster, "n1")
    cluster.start(DaemonSets)
    owner = await cluster.client.create(RESOURCE, workload("DaemonSet"))
    (pod,) = await cluster.until_count("pods", 1)
    (first,) = await cluster.list("controllerrevisions.apps")
    meta = {
        "name": "web-older",
        "namespace": "default",
        "labels": {**first["metadata"]["labels"], daemonplan.HASH_LABEL: "older"},
    }
    meta["ownerReferences"] = first["metadata"]["ownerReferences"]
    await cluster.client.patch(
        "pods", pod["metadata"]["name"], "default", {"metadata": {"labels": {daemonplan.HASH_LABEL: "older"}}}
    )
    await cluster.client.create("controllerrevisions.apps", {**first, "metadata": meta, "revision": 0})
    await cluster.until_gone("controllerrevisions.apps", "web-older")
    (kept,) = await cluster.list("pods")
    assert kept["metadata"]["uid"] == pod["metadata"]["uid"]
    assert kept["metadata"]["labels"][daemonplan.HASH_LABEL] == first["metadata"]["labels"][daemonplan.HASH_LABEL]
    assert owner["metadata"]["uid"] == kept["metadata"]["ownerReferences"][0]["uid"]


def test_a_template_gives_a_daemon_no_time_to_leave() -> None:
    short = {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}
    found = daemonplan.tolerations_of({"tolerations": [short]})
    assert found[0] == {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}
    assert len(found) == len(daemonplan.TOLERATIONS)
