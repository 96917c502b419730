"""Delete and deletecollection."""

from collections.abc import Callable

import pytest

from kubelite.meta import errors
from kubelite.meta.types import Obj
from kubelite.registry.contract import DeleteOptions, ListOptions
from tests.registry.conftest import Cluster

Make = Callable[..., Obj]


async def test_a_delete_answers_with_a_status(cluster: Cluster, config_map: Make) -> None:
    made = await cluster.create("configmaps", config_map())
    status, finished = await cluster.delete("configmaps", "settings")
    assert finished
    assert (status["kind"], status["status"]) == ("Status", "Success")
    assert status["details"] == {"name": "settings", "kind": "configmaps", "uid": made["metadata"]["uid"]}
    with pytest.raises(errors.NotFound):
        await cluster.delete("configmaps", "settings")


async def test_some_kinds_answer_with_the_object(cluster: Cluster) -> None:
    await cluster.create("serviceaccounts", {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a"}})
    obj, finished = await cluster.delete("serviceaccounts", "a")
    assert finished
    assert obj["kind"] == "ServiceAccount"


async def test_preconditions_must_hold(cluster: Cluster, config_map: Make) -> None:
    made = await cluster.create("configmaps", config_map())
    with pytest.raises(errors.Conflict, match=r"the UID in the precondition \(x\) does not match the UID in record"):
        await cluster.delete("configmaps", "settings", precondition_uid="x")
    with pytest.raises(errors.Conflict, match=r"the ResourceVersion in the precondition \(1\) does not match"):
        await cluster.delete("configmaps", "settings", precondition_resource_version="1")
    meta = made["metadata"]
    await cluster.delete(
        "configmaps",
        "settings",
        precondition_uid=meta["uid"],
        precondition_resource_version=meta["resourceVersion"],
    )


async def test_an_unscheduled_pod_goes_at_once(cluster: Cluster, pod: Make) -> None:
    await cluster.create("pods", pod())
    _, finished = await cluster.delete("pods", "web")
    assert finished
    with pytest.raises(errors.NotFound):
        await cluster.get("pods", "web")


async def test_a_running_pod_has_its_grace_period(cluster: Cluster, pod: Make) -> None:
    await cluster.create("pods", pod(nodeName="n1"))
    marked, finished = await cluster.delete("pods", "web")
    assert not finished
    meta = marked["metadata"]
    assert meta["deletionGracePeriodSeconds"] == 30
    assert meta["deletionTimestamp"] > meta["creationTimestamp"]
    assert meta["generation"] == 2


async def test_a_second_delete_may_only_shorten_the_grace_period(cluster: Cluster, pod: Make) -> None:
    await cluster.create("pods", pod(nodeName="n1"))
    first, _ = await cluster.delete("pods", "web")
    same, finished = await cluster.delete("pods", "web", grace_period_s=60)
    assert (same, finished) == (first, False)
    shorter, finished = await cluster.delete("pods", "web", grace_period_s=5)
    assert not finished
    assert shorter["metadata"]["deletionGracePeriodSeconds"] == 5
    assert shorter["metadata"]["deletionTimestamp"] < first["metadata"]["deletionTimestamp"]
    _, finished = await cluster.delete("pods", "web", grace_period_s=0)
    assert finished
    with pytest.raises(errors.NotFound):
        await cluster.get("pods", "web")


async def test_finalizers_hold_an_object_until_the_last_is_gone(cluster: Cluster, config_map: Make) -> None:
    await cluster.create("configmaps", config_map(metadata={"finalizers": ["x.io/a", "x.io/b"]}))
    marked, finished = await cluster.delete("configmaps", "settings")
    assert not finished
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 0
    with pytest.raises(errors.Invalid, match=r"no new finalizers can be added if the object is being deleted"):
        await cluster.patch("configmaps", "settings", b'{"metadata":{"finalizers":["x.io/a","x.io/c"]}}')
    with pytest.raises(errors.AlreadyExists, match=r'object is being deleted: configmaps "settings" already exists'):
        await cluster.create("configmaps", config_map())
    await cluster.patch("configmaps", "settings", b'{"metadata":{"finalizers":["x.io/b"]}}')
    await cluster.patch("configmaps", "settings", b'{"metadata":{"finalizers":null}}')
    with pytest.raises(errors.NotFound):
        await cluster.get("configmaps", "settings")


async def test_deleting_again_what_waits_for_its_finalizers_writes_nothing(cluster: Cluster, pod: Make) -> None:
    made = pod()
    made["metadata"]["finalizers"] = ["x.io/a"]
    await cluster.create("pods", made)
    marked, finished = await cluster.delete("pods", "web", grace_period_s=0)
    assert not finished
    revision = cluster.registry.store.revision
    for _ in range(3):
        assert await cluster.delete("pods", "web", grace_period_s=0) == (marked, False)
    assert cluster.registry.store.revision == revision


async def test_propagation_sets_the_collectors_finalizers(cluster: Cluster, deployment: Make) -> None:
    for name, policy, finalizers in (
        ("a", "Foreground", ["foregroundDeletion"]),
        ("b", "Orphan", ["orphan"]),
    ):
        await cluster.create("deployments.apps", deployment(name))
        marked, finished = await cluster.delete("deployments.apps", name, propagation_policy=policy)
        assert not finished
        assert marked["metadata"]["finalizers"] == finalizers
    await cluster.create("deployments.apps", deployment("c"))
    _, finished = await cluster.delete("deployments.apps", "c", propagation_policy="Background")
    assert finished


async def test_jobs_and_replication_controllers_orphan_by_default(cluster: Cluster) -> None:
    template = {
        "metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }
    controller = {
        "apiVersion": "v1",
        "kind": "ReplicationController",
        "metadata": {"name": "rc"},
        "spec": {"selector": {"a": "b"}, "template": template},
    }
    await cluster.create("replicationcontrollers", controller)
    marked, _ = await cluster.delete("replicationcontrollers", "rc")
    assert marked["metadata"]["finalizers"] == ["orphan"]


async def test_an_unknown_propagation_policy_is_invalid(cluster: Cluster, config_map: Make) -> None:
    await cluster.create("configmaps", config_map())
    with pytest.raises(errors.Invalid, match=r"propagationPolicy: Unsupported value"):
        await cluster.delete("configmaps", "settings", propagation_policy="Sideways")


async def test_a_dry_run_deletes_nothing(cluster: Cluster, config_map: Make) -> None:
    await cluster.create("configmaps", config_map())
    target = cluster.target("configmaps", "settings")
    await cluster.registry.delete(target, DeleteOptions(), cluster.options(dry_run=True))
    assert await cluster.get("configmaps", "settings")


async def test_a_collection_is_deleted_by_selection(cluster: Cluster, config_map: Make) -> None:
    for number in range(6):
        labels = {"odd": str(number % 2)}
        await cluster.create("configmaps", config_map(f"c{number}", metadata={"labels": labels}))
    page = await cluster.registry.delete_collection(
        cluster.target("configmaps"), ListOptions(label_selector="odd=1"), DeleteOptions(), cluster.options()
    )
    assert cluster.names(page) == ["c1", "c3", "c5"]
    assert cluster.names(await cluster.page("configmaps")) == ["c0", "c2", "c4"]


async def test_the_last_event_of_an_object_has_the_deletions_revision(cluster: Cluster, config_map: Make) -> None:
    made = await cluster.create("configmaps", config_map())
    watch = cluster.watch("configmaps", resource_version=made["metadata"]["resourceVersion"])
    await cluster.delete("configmaps", "settings")
    [item] = await watch.next_batch()
    assert item.type == "DELETED"
    assert cluster.registry.parsed(item.entry)["metadata"]["resourceVersion"] == str(item.entry.revision)


async def test_a_namespace_terminates_until_it_is_finalized(cluster: Cluster) -> None:
    made = await cluster.create("namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}})
    assert made["spec"]["finalizers"] == ["kubernetes"]
    assert made["status"] == {"phase": "Active"}
    assert made["metadata"]["labels"] == {"kubernetes.io/metadata.name": "n"}
    marked, finished = await cluster.delete("namespaces", "n")
    assert not finished
    assert marked["status"]["phase"] == "Terminating"
    assert "deletionTimestamp" in marked["metadata"]
    again, finished = await cluster.delete("namespaces", "n")
    assert (again, finished) == (marked, False)
    kept = await cluster.update("namespaces", {**marked, "spec": {}})
    assert kept["spec"]["finalizers"] == ["kubernetes"]
    await cluster.update("namespaces", {**marked, "spec": {"finalizers": []}}, subresource="finalize")
    with pytest.raises(errors.NotFound):
        await cluster.get("namespaces", "n")
