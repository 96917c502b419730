from kubelite.controllers import pods
from kubelite.controllers.replicasets import ReplicaSets, ReplicationControllers
from kubelite.meta.errors import Forbidden
from kubelite.meta.types import Obj
from tests.controllers.conftest import Cluster, pod_template, workload


async def test_a_replica_set_creates_its_pods_and_counts_them(cluster: Cluster) -> None:
    cluster.start(ReplicaSets)
    created = await cluster.client.create("replicasets.apps", workload("ReplicaSet", replicas=3))
    found = await cluster.until_count("pods", 3)
    for pod in found:
        reference = pod["metadata"]["ownerReferences"][0]
        assert reference["uid"] == created["metadata"]["uid"] and reference["controller"] and reference["blockOwnerDeletion"]
        assert pod["metadata"]["name"].startswith("web-")
    await cluster.until_status("replicasets.apps", "web", replicas=3, fullyLabeledReplicas=3, readyReplicas=None)
    for pod in found:
        await cluster.set_pod(pod)
    done = await cluster.until_status("replicasets.apps", "web", readyReplicas=3, availableReplicas=3)
    assert done["status"]["observedGeneration"] == done["metadata"]["generation"]

    async def told() -> bool:
        return len(await cluster.reasons("web")) == 3

    await cluster.until(told)
    assert set(await cluster.reasons("web")) == {"SuccessfulCreate"}


async def test_scaling_down_deletes_the_cheapest_pod(cluster: Cluster) -> None:
    cluster.start(ReplicaSets)
    await cluster.client.create("replicasets.apps", workload("ReplicaSet", replicas=3))
    found = await cluster.until_count("pods", 3)
    for number, pod in enumerate(found):
        name = pod["metadata"]["name"]
        change = {"metadata": {"annotations": {pods.DELETION_COST: str(number - 1)}}}
        await cluster.client.patch("pods", name, "default", change)
    await cluster.client.patch("replicasets.apps", "web", "default", {"spec": {"replicas": 2}})
    await cluster.until_gone("pods", found[0]["metadata"]["name"])
    assert len(await cluster.list("pods")) == 2


async def test_a_pod_that_is_deleted_is_replaced(cluster: Cluster) -> None:
    cluster.start(ReplicaSets)
    await cluster.client.create("replicasets.apps", workload("ReplicaSet", replicas=1))
    (first,) = await cluster.until_count("pods", 1)
    await cluster.client.delete("pods", first["metadata"]["name"], "default", grace_period_s=0)

    async def other() -> bool:
        return [p["metadata"]["uid"] for p in await cluster.list("pods")] not in ([], [first["metadata"]["uid"]])

    await cluster.until(other)


async def test_orphans_that_match_are_adopted_and_pods_that_match_no_more_are_released(cluster: Cluster) -> None:
    orphan = {"apiVersion": "v1", "kind": "Pod", **pod_template()}
    orphan["metadata"] = {"name": "orphan", "labels": {"app": "web"}}
    await cluster.client.create("pods", orphan, "default")
    cluster.start(ReplicaSets)
    owner = await cluster.client.create("replicasets.apps", workload("ReplicaSet", replicas=1))
    await cluster.until_status("replicasets.apps", "web", replicas=1)
    adopted = await cluster.get("pods", "orphan")
    assert adopted is not None
    assert adopted["metadata"]["ownerReferences"][0]["uid"] == owner["metadata"]["uid"]
    assert len(await cluster.list("pods")) == 1

    await cluster.client.patch("pods", "orphan", "default", {"metadata": {"labels": {"app": "other"}}})
    await cluster.until_count("pods", 2)
    released = await cluster.get("pods", "orphan")
    assert released is not None and not released["metadata"].get("ownerReferences")


async def test_a_failed_create_becomes_a_condition_and_an_event(cluster: Cluster) -> None:
    cluster.start(ReplicaSets)
    cluster.gate.refused["pods"] = Forbidden("exceeded quota: none")
    await cluster.client.create("replicasets.apps", workload("ReplicaSet", replicas=500))

    async def failed() -> bool:
        found = await cluster.get("replicasets.apps", "web")
        return bool(found and (found.get("status") or {}).get("conditions"))

    await cluster.until(failed)
    asked = cluster.gate.asked
    found = await cluster.get("replicasets.apps", "web")
    assert found is not None
    (condition,) = found["status"]["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == ("ReplicaFailure", "True", "FailedCreate")
    assert condition["message"] == "exceeded quota: none"
    assert asked < 20  # a slow start and back-off, not all five hundred

    async def told() -> bool:
        return "FailedCreate" in await cluster.reasons("web")

    await cluster.until(told)
    await cluster.client.patch("replicasets.apps", "web", "default", {"spec": {"replicas": 5}})
    cluster.gate.refused.clear()
    await cluster.until_count("pods", 5)
    await cluster.until_status("replicasets.apps", "web", conditions=None, replicas=5)


async def test_a_replication_controller_works_the_same(cluster: Cluster) -> None:
    cluster.start(ReplicationControllers)
    wanted = workload("ReplicationController", api_version="v1", replicas=2, selector={"app": "web"})
    await cluster.client.create("replicationcontrollers", wanted)
    await cluster.until_count("pods", 2)
    await cluster.until_status("replicationcontrollers", "web", replicas=2, fullyLabeledReplicas=2)


def _pod(name: str, **more: object) -> Obj:
    ready = more.pop("ready", None)
    status: Obj = {"phase": more.pop("phase", "Running")}
    if ready is not None:
        status["conditions"] = [{"type": "Ready", "status": "True", "lastTransitionTime": ready}]
    spec = {"containers": [], "nodeName": more.pop("node", "n1")}
    meta = {"name": name, "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z", "annotations": more.pop("annotations", {})}
    return {"metadata": meta, "spec": spec, "status": status}


def test_pods_are_deleted_in_the_order_of_what_they_are_worth() -> None:
    now = 1767312000.0  # 2026-01-02T00:00:00Z
    in_order = [
        _pod("unassigned", node="", phase="Pending"),
        _pod("pending", phase="Pending"),
        _pod("not-ready"),
        _pod("cheap", ready="2026-01-01T10:00:00Z", annotations={pods.DELETION_COST: "-5"}),
        _pod("doubled", ready="2026-01-01T10:00:00Z", node="n2"),
        _pod("young", ready="2026-01-01T23:59:00Z"),
        _pod("old", ready="2026-01-01T10:00:00Z"),
    ]
    ranked = pods.deletion_order([*reversed(in_order)], {"n1": 1, "n2": 2}, now)
    assert [p["metadata"]["name"] for p in ranked] == [p["metadata"]["name"] for p in in_order]


def test_a_pod_is_available_once_it_was_ready_long_enough() -> None:
    pod = _pod("a", ready="2026-01-02T00:00:00Z")
    now = 1767312000.0
    assert not pods.is_available(pod, 10, now + 9)
    assert pods.is_available(pod, 10, now + 10)
    assert pods.next_available_in([pod], 10, now + 4) == 6


async def test_an_owner_of_many_pods_waits_for_more_changes_before_it_is_looked_at(cluster: Cluster) -> None:
    sets = ReplicaSets(cluster.env)
    sets.set_size("default/web", 5000)
    sets.add_paced("default/web")
    sets.add_paced("default/web")
    assert sets.queue.statistics()["delayed"] == 1 and len(sets.queue) == 0
    sets.set_size("default/web", 3)
    sets.add_paced("default/web")
    assert len(sets.queue) == 1


async def test_a_set_that_nobody_owns_does_not_care_which_nodes_have_two_of_its_pods(cluster: Cluster) -> None:
    cluster.start(ReplicaSets)
    await cluster.client.create("replicasets.apps", workload("ReplicaSet", replicas=3))
    found = await cluster.until_count("pods", 3)
    for pod, node, since in zip(found, ("n1", "n1", "n2"), ("2024-01-01", "2024-01-01", "2025-10-01"), strict=True):
        await cluster.bind(pod, node)
        ready = {"type": "Ready", "status": "True", "lastTransitionTime": f"{since}T00:00:00Z"}
        await cluster.set_pod(pod, conditions=[ready])
    await cluster.until_status("replicasets.apps", "web", readyReplicas=3)
    await cluster.client.patch("replicasets.apps", "web", "default", {"spec": {"replicas": 2}})

    async def going() -> list[str]:
        return [p["spec"]["nodeName"] for p in await cluster.list("pods") if pods.is_terminating(p)]

    assert await cluster.until(going) == ["n2"]


def test_of_a_jobs_pods_those_go_first_that_became_ready_last() -> None:
    listed = [_pod("old", ready="2026-01-01T10:00:00Z"), _pod("young", ready="2026-01-01T10:00:01Z"), _pod("not-ready")]
    assert [p["metadata"]["name"] for p in pods.removal_order(listed)] == ["not-ready", "young", "old"]
