from typing import Any

from kubelite.controllers import rollouts
from kubelite.controllers.deployments import Deployments
from kubelite.controllers.replicasets import ReplicaSets
from kubelite.meta.types import Obj
from tests.controllers.conftest import Cluster, workload

RESOURCE = "deployments.apps"


def reason_of(deployment: Obj, type_: str) -> str:
    for condition in (deployment.get("status") or {}).get("conditions") or ():
        if condition["type"] == type_:
            return f"{condition['status']} {condition.get('reason', '')}"
    return ""


async def rolled_out(cluster: Cluster, replicas: int, revision: str) -> Obj:
    async def complete() -> Obj | None:
        found = await cluster.get(RESOURCE, "web")
        assert found is not None
        status = found.get("status") or {}
        fits = status.get("replicas", 0) == status.get("updatedReplicas", 0) == status.get("availableReplicas", 0) == replicas
        observed = status.get("observedGeneration") == found["metadata"]["generation"]
        done = observed and reason_of(found, "Progressing") == "True NewReplicaSetAvailable"
        return found if fits and done and rollouts.revision(found) == int(revision) else None

    found: Obj = await cluster.until(complete, f"revision {revision} to be rolled out")
    return found


async def test_a_deployment_rolls_out_a_new_template_and_keeps_the_old_set(cluster: Cluster) -> None:
    cluster.start(Deployments, ReplicaSets)
    cluster.run_pods()
    await cluster.client.create(RESOURCE, workload("Deployment", replicas=3))
    first = await rolled_out(cluster, 3, "1")
    assert reason_of(first, "Available") == "True MinimumReplicasAvailable"
    assert first["status"]["observedGeneration"] == first["metadata"]["generation"]
    (old,) = await cluster.list("replicasets.apps")
    hash_ = old["metadata"]["labels"]["pod-template-hash"]
    assert old["metadata"]["name"] == f"web-{hash_}"
    assert old["spec"]["selector"]["matchLabels"] == {"app": "web", "pod-template-hash": hash_}
    assert old["metadata"]["annotations"][rollouts.DESIRED_REPLICAS] == "3"
    assert old["metadata"]["annotations"][rollouts.MAX_REPLICAS] == "4"

    change = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "web:2"}]}}}}
    await cluster.client.patch(RESOURCE, "web", "default", change, form="strategic")
    await rolled_out(cluster, 3, "2")
    sizes = sorted((rollouts.revision(s), rollouts.desired(s)) for s in await cluster.list("replicasets.apps"))
    assert sizes == [(1, 0), (2, 3)]

    async def told() -> bool:
        return (await cluster.reasons("web")).count("ScalingReplicaSet") >= 3

    await cluster.until(told)

    # Back to the first template: its set is used again, with the next revision and a memory of the old one.
    await cluster.client.patch(RESOURCE, "web", "default", {"metadata": {"annotations": {rollouts.ROLLBACK_TO: "0"}}})
    await rolled_out(cluster, 3, "3")
    again = await cluster.get("replicasets.apps", old["metadata"]["name"])
    assert again is not None and rollouts.desired(again) == 3
    assert again["metadata"]["annotations"][rollouts.REVISION_HISTORY] == "1"


async def test_a_deployment_that_recreates_waits_until_the_old_pods_are_gone(cluster: Cluster) -> None:
    cluster.start(Deployments, ReplicaSets)
    await cluster.client.create(RESOURCE, workload("Deployment", replicas=1, strategy={"type": "Recreate"}))
    (old,) = await cluster.until_count("pods", 1)
    name = old["metadata"]["name"]
    await cluster.client.patch("pods", name, "default", {"metadata": {"finalizers": ["example.com/hold"]}})
    change = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "web:2"}]}}}}
    await cluster.client.patch(RESOURCE, "web", "default", change, form="strategic")

    async def going() -> bool:
        found = await cluster.get("pods", name)
        return found is not None and "deletionTimestamp" in found["metadata"]

    await cluster.until(going)
    assert len(await cluster.list("replicasets.apps")) == 1
    await cluster.client.patch("pods", name, "default", {"metadata": {"finalizers": None}})
    await cluster.until_count("replicasets.apps", 2)
    await cluster.until_gone("pods", name)


async def test_a_paused_deployment_scales_but_rolls_nothing_out(cluster: Cluster) -> None:
    cluster.start(Deployments, ReplicaSets)
    cluster.run_pods()
    await cluster.client.create(RESOURCE, workload("Deployment", replicas=1))
    await rolled_out(cluster, 1, "1")
    change: Obj = {"spec": {"paused": True, "template": {"spec": {"containers": [{"name": "c", "image": "web:2"}]}}}}
    await cluster.client.patch(RESOURCE, "web", "default", change, form="strategic")

    async def paused() -> bool:
        found = await cluster.get(RESOURCE, "web")
        return found is not None and reason_of(found, "Progressing") == "Unknown DeploymentPaused"

    await cluster.until(paused)
    await cluster.client.patch(RESOURCE, "web", "default", {"spec": {"replicas": 2}})
    await cluster.until_count("pods", 2)
    assert len(await cluster.list("replicasets.apps")) == 1
    await cluster.client.patch(RESOURCE, "web", "default", {"spec": {"paused": False}})
    await rolled_out(cluster, 2, "2")


async def test_old_sets_beyond_the_history_are_deleted(cluster: Cluster) -> None:
    cluster.start(Deployments, ReplicaSets)
    cluster.run_pods()
    await cluster.client.create(RESOURCE, workload("Deployment", replicas=1, revisionHistoryLimit=1))
    for number in range(2, 5):
        await rolled_out(cluster, 1, str(number - 1))
        change = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": f"web:{number}"}]}}}}
        await cluster.client.patch(RESOURCE, "web", "default", change, form="strategic")
    await rolled_out(cluster, 1, "4")
    kept = await cluster.until_count("replicasets.apps", 2)
    assert sorted(map(rollouts.revision, kept)) == [3, 4]


async def test_a_set_of_the_same_hash_but_another_template_counts_as_a_collision(cluster: Cluster) -> None:
    cluster.start(Deployments, ReplicaSets)
    await cluster.client.create(RESOURCE, workload("Deployment", replicas=0))
    (made,) = await cluster.until_count("replicasets.apps", 1)
    name = made["metadata"]["name"]
    await cluster.client.delete(RESOURCE, "web", "default", propagation_policy="Orphan")
    # The same name, owned by nobody, with another template.
    await cluster.client.delete("replicasets.apps", name, "default", propagation_policy="Background")
    other = workload("ReplicaSet", name, replicas=0, selector={"matchLabels": {"other": "one"}})
    other["spec"]["template"]["metadata"]["labels"] = {"other": "one"}
    await cluster.client.patch(RESOURCE, "web", "default", {"metadata": {"finalizers": None}})
    await cluster.until_gone(RESOURCE, "web")
    await cluster.client.create("replicasets.apps", other)
    await cluster.client.create(RESOURCE, workload("Deployment", replicas=0))
    await cluster.until_status(RESOURCE, "web", collisionCount=1)
    await cluster.until_count("replicasets.apps", 2)


def _set(name: str, size: int, available: int = 0, **annotations: str) -> Obj:
    meta = {"name": name, "uid": name, "creationTimestamp": f"2026-01-0{len(name)}T00:00:00Z", "annotations": annotations}
    return {"metadata": meta, "spec": {"replicas": size}, "status": {"replicas": size, "availableReplicas": available}}


def _deployment(size: int, surge: Any = "25%", unavailable: Any = "25%", **status: Any) -> Obj:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}
    spec = {"replicas": size, "strategy": strategy, "progressDeadlineSeconds": 600}
    return {"metadata": {"name": "d", "generation": 1}, "spec": spec, "status": status}


def test_surge_rounds_up_and_unavailability_down_and_one_of_them_is_never_zero() -> None:
    assert rollouts.fenceposts("25%", "25%", 10) == (3, 2)
    assert rollouts.fenceposts("0%", "1%", 10) == (0, 1)
    assert rollouts.fenceposts(1, 0, 10) == (1, 0)
    assert rollouts.max_unavailable(_deployment(3, 0, 10)) == 3
    assert rollouts.max_surge({**_deployment(3), "spec": {"replicas": 3, "strategy": {"type": "Recreate"}}}) == 0


def test_the_newest_set_grows_as_far_as_the_surge_allows() -> None:
    deployment = _deployment(10, 3, 2)
    assert rollouts.new_set_size(deployment, [_set("a", 10)], 0) == 3
    assert rollouts.new_set_size(deployment, [_set("a", 8), _set("bb", 5)], 5) == 5
    assert rollouts.new_set_size(deployment, [_set("a", 2), _set("bb", 5)], 5) == 10


def test_unhealthy_old_pods_go_first_and_never_below_what_must_be_available() -> None:
    deployment = _deployment(10, 3, 2)
    crashing = _set("bb", 5, available=0)
    assert rollouts.steps_down(deployment, [_set("a", 8, available=8)], crashing) == []
    assert rollouts.steps_down(deployment, [_set("a", 8, available=7)], crashing) == []
    good = _set("bb", 5, available=5)
    assert rollouts.steps_down(deployment, [_set("a", 8, available=8)], good) == [("a", 3)]
    fresh = _set("bb", 0)
    assert rollouts.steps_down(deployment, [_set("a", 10, available=6)], fresh) == [("a", 8)]


def test_a_change_of_scale_in_a_rollout_is_shared_in_proportion() -> None:
    max_of = {rollouts.MAX_REPLICAS: "13"}
    sets = [_set("a", 5, **max_of), _set("bb", 8, **max_of)]
    grown = rollouts.proportional_sizes(_deployment(30, 3, 2), sets)
    assert grown == {"bb": 20, "a": 13}
    assert sum(rollouts.proportional_sizes(_deployment(5, 3, 2), sets).values()) == 8
    assert rollouts.proportional_sizes(_deployment(0, 3, 2), sets) == {"bb": 0, "a": 0}


def test_a_rollout_times_out_when_nothing_moved_for_the_deadline() -> None:
    now = 1767312000.0
    condition = {
        "type": "Progressing",
        "status": "True",
        "reason": "ReplicaSetUpdated",
        "lastUpdateTime": "2026-01-01T23:50:00Z",
        "lastTransitionTime": "2026-01-01T23:50:00Z",
    }
    newest = _set("a", 1)
    before = {"replicas": 1, "updatedReplicas": 1, "unavailableReplicas": 1, "observedGeneration": 1, "conditions": [condition]}
    deployment = _deployment(1, 1, 0, **before)
    at_deadline = rollouts.rollout_status(deployment, [newest], newest, now)
    assert reason_of({"status": at_deadline}, "Progressing") == "True ReplicaSetUpdated"
    after = rollouts.rollout_status(deployment, [newest], newest, now + 1)
    assert reason_of({"status": after}, "Progressing") == "False ProgressDeadlineExceeded"
    assert 'ReplicaSet "a" has timed out progressing.' in str(after)


def test_templates_are_the_same_whatever_hash_label_they_have() -> None:
    template = {"metadata": {"labels": {"app": "web"}, "creationTimestamp": None}, "spec": {"containers": []}}
    hashed = {"metadata": {"labels": {"app": "web", rollouts.HASH_LABEL: "x"}}, "spec": {"containers": []}}
    assert rollouts.same_template(template, hashed)
    assert not rollouts.same_template(template, {**hashed, "spec": {"containers": [{}]}})
