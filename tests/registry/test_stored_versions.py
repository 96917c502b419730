"""Objects of custom kinds that were stored before their definition changed which version it stores."""

from typing import Any

from kubelite.meta.types import Obj
from kubelite.registry.contract import Patch, Target
from tests.registry.conftest import Cluster

CRDS = "customresourcedefinitions.apiextensions.k8s.io"


def version(name: str, storage: bool) -> Obj:
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return {"name": name, "served": True, "storage": storage, "schema": schema}


def definition(stored: str) -> Obj:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "as.t.example.com"},
        "spec": {
            "group": "t.example.com",
            "names": {"kind": "A", "plural": "as", "singular": "a", "listKind": "AList"},
            "scope": "Namespaced",
            "versions": [version(name, name == stored) for name in ("v1", "v2")],
        },
    }


def target(cluster: Cluster, served: str, name: str = "") -> Target:
    kind = cluster.registry.kinds.resource("t.example.com", served, "as")
    assert kind is not None
    return Target(kind, "default", name)


async def test_an_object_of_the_former_storage_version_is_read_and_patched_in_any(cluster: Cluster) -> None:
    await cluster.create(CRDS, definition("v1"))
    obj: dict[str, Any] = {"apiVersion": "t.example.com/v1", "kind": "A", "metadata": {"name": "x"}, "data": {"a": "1"}}
    await cluster.registry.create(target(cluster, "v1"), obj, cluster.options())
    found = await cluster.get(CRDS, "as.t.example.com")
    await cluster.update(CRDS, {**found, "spec": {**found["spec"], "versions": definition("v2")["spec"]["versions"]}})

    registry = cluster.registry
    for served in ("v1", "v2"):
        entry = await registry.get(target(cluster, served, "x"))
        assert registry.parsed(entry)["apiVersion"] == f"t.example.com/{served}"
    patch = Patch("json", b'[{"op": "add", "path": "/dummy", "value": "test"}]')
    entry, _ = await registry.patch(target(cluster, "v2", "x"), patch, cluster.options())
    patched = registry.parsed(entry)
    assert (patched["apiVersion"], patched["dummy"], patched["data"]) == ("t.example.com/v2", "test", {"a": "1"})
    stored = registry.store.get(target(cluster, "v2").kind.key("default", "x"))
    assert stored is not None
    assert b'"apiVersion":"t.example.com/v2"' in stored.value


async def test_writing_an_object_again_as_it_is_brings_it_to_todays_storage_version(cluster: Cluster) -> None:
    await cluster.create(CRDS, definition("v1"))
    obj: dict[str, Any] = {"apiVersion": "t.example.com/v1", "kind": "A", "metadata": {"name": "x"}, "data": {"a": "1"}}
    await cluster.registry.create(target(cluster, "v1"), obj, cluster.options())
    found = await cluster.get(CRDS, "as.t.example.com")
    await cluster.update(CRDS, {**found, "spec": {**found["spec"], "versions": definition("v2")["spec"]["versions"]}})

    registry = cluster.registry
    revisions = []
    for _ in range(2):
        entry = await registry.get(target(cluster, "v2", "x"))
        await registry.update(target(cluster, "v2", "x"), registry.parsed(entry), cluster.options())
        stored = registry.store.get(target(cluster, "v2").kind.key("default", "x"))
        assert stored is not None
        assert b'"apiVersion":"t.example.com/v2"' in stored.value
        revisions.append(stored.revision)
    assert revisions[0] == revisions[1]


async def test_a_version_shows_no_fields_but_its_own(cluster: Cluster) -> None:
    def only(name: str, field: str) -> Obj:
        properties = {"openAPIV3Schema": {"type": "object", "properties": {field: {"type": "string"}}}}
        return {**version(name, name == "v1"), "schema": properties}

    wanted = definition("v1")
    wanted["spec"]["versions"] = [only("v1", "one"), only("v2", "two")]
    await cluster.create(CRDS, wanted)
    obj = {"apiVersion": "t.example.com/v1", "kind": "A", "metadata": {"name": "x"}, "one": "1"}
    await cluster.registry.create(target(cluster, "v1"), obj, cluster.options())
    assert "one" in cluster.registry.parsed(await cluster.registry.get(target(cluster, "v1", "x")))
    assert "one" not in cluster.registry.parsed(await cluster.registry.get(target(cluster, "v2", "x")))
