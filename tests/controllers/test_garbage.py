from kubelite.controllers.garbage import GarbageCollector
from kubelite.controllers.ownergraph import Graph, Node, Owner
from kubelite.meta.types import Obj
from tests.controllers.conftest import Cluster


def owned(name: str, *owners: Obj, block: bool = True, **meta: object) -> Obj:
    references = [
        {
            "apiVersion": o["apiVersion"],
            "kind": o["kind"],
            "name": o["metadata"]["name"],
            "uid": o["metadata"]["uid"],
            "blockOwnerDeletion": block,
        }
        for o in owners
    ]
    return {"metadata": {"name": name, "ownerReferences": references, **meta}}


async def make(cluster: Cluster, name: str, *owners: Obj, namespace: str = "default", **meta: object) -> Obj:
    return await cluster.client.create("configmaps", owned(name, *owners, **meta), namespace)


async def test_dependents_go_with_their_owner(cluster: Cluster) -> None:
    cluster.start(GarbageCollector)
    a = await make(cluster, "a")
    b = await make(cluster, "b", a)
    await make(cluster, "c", b)
    await make(cluster, "free")
    await cluster.client.delete("configmaps", "a", "default", propagation_policy="Background")
    await cluster.until_gone("configmaps", "b")
    await cluster.until_gone("configmaps", "c")
    assert await cluster.get("configmaps", "free") is not None


async def test_an_object_with_another_owner_stays_and_loses_the_reference(cluster: Cluster) -> None:
    cluster.start(GarbageCollector)
    a, b = await make(cluster, "a"), await make(cluster, "b")
    await make(cluster, "c", a, b)
    await cluster.client.delete("configmaps", "a", "default")

    async def released() -> bool:
        found = await cluster.get("configmaps", "c")
        assert found is not None
        return [r["name"] for r in found["metadata"]["ownerReferences"]] == ["b"]

    await cluster.until(released)


async def test_a_foreground_deletion_waits_for_the_dependents_that_block_it(cluster: Cluster) -> None:
    cluster.start(GarbageCollector)
    a = await make(cluster, "a")
    await make(cluster, "held", a, finalizers=["example.com/hold"])
    await cluster.client.delete("configmaps", "a", "default", propagation_policy="Foreground")

    async def going() -> bool:
        found = await cluster.get("configmaps", "held")
        return found is not None and "deletionTimestamp" in found["metadata"]

    await cluster.until(going)
    found = await cluster.get("configmaps", "a")
    assert found is not None and found["metadata"]["finalizers"] == ["foregroundDeletion"]
    await cluster.client.patch("configmaps", "held", "default", {"metadata": {"finalizers": None}})
    await cluster.until_gone("configmaps", "held")
    await cluster.until_gone("configmaps", "a")


async def test_a_circle_of_owners_does_not_stop_a_foreground_deletion(cluster: Cluster) -> None:
    cluster.start(GarbageCollector)
    a = await make(cluster, "a")
    b = await make(cluster, "b", a)
    c = await make(cluster, "c", b)
    reference = owned("", c)["metadata"]["ownerReferences"]
    await cluster.client.patch("configmaps", "a", "default", {"metadata": {"ownerReferences": reference}})
    await cluster.client.delete("configmaps", "a", "default", propagation_policy="Foreground")
    for name in ("a", "b", "c"):
        await cluster.until_gone("configmaps", name)


async def test_orphaning_leaves_the_dependents_without_the_owner(cluster: Cluster) -> None:
    cluster.start(GarbageCollector)
    a = await make(cluster, "a")
    await make(cluster, "b", a)

    await cluster.client.delete("configmaps", "a", "default", propagation_policy="Orphan")
    await cluster.until_gone("configmaps", "a")
    found = await cluster.get("configmaps", "b")
    assert found is not None and not found["metadata"].get("ownerReferences")


async def test_an_object_whose_owner_never_was_is_deleted(cluster: Cluster) -> None:
    ghost = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ghost", "uid": "0000"}}
    await make(cluster, "before", ghost)
    cluster.start(GarbageCollector)
    await make(cluster, "after", ghost)
    await cluster.until_gone("configmaps", "before")
    await cluster.until_gone("configmaps", "after")


async def test_an_owner_in_another_namespace_is_none(cluster: Cluster) -> None:
    cluster.start(GarbageCollector)
    await cluster.client.create("namespaces", {"metadata": {"name": "other"}})
    a = await make(cluster, "a", namespace="other")
    await make(cluster, "b", a)
    await cluster.until_gone("configmaps", "b")

    async def told() -> bool:
        return "OwnerRefInvalidNamespace" in await cluster.reasons("b")

    await cluster.until(told)


def node(uid: str, *owners: str) -> Node:
    return Node("configmaps", "default", uid, uid, "v1", "ConfigMap", tuple(Owner(o, "v1", "ConfigMap", o, True) for o in owners))


def test_the_graph_knows_dependents_of_owners_that_it_has_not_seen() -> None:
    graph = Graph()
    graph.put(node("b", "a"))
    assert [n.uid for n in graph.dependents("a")] == ["b"]
    graph.put(node("a"))
    graph.remove("a")
    assert [n.uid for n in graph.dependents("a")] == ["b"]
    graph.put(node("b", "c"))
    assert graph.dependents("a") == []
    graph.remove("b")
    assert graph.dependents("c") == []


def test_a_reference_holds_only_for_the_very_object_it_names() -> None:
    graph = Graph()
    graph.put(node("a"))
    assert graph.holds(Owner("a", "v1", "ConfigMap", "a", False), "default") is not None
    assert graph.holds(Owner("a", "v1", "ConfigMap", "a", False), "other") is None
    assert graph.holds(Owner("a", "v1", "ConfigMap", "b", False), "default") is None
    assert graph.holds(Owner("a", "v1", "Secret", "a", False), "default") is None
    assert graph.holds(Owner("a", "apps/v1", "ConfigMap", "a", False), "default") is None
