"""Custom objects in versions that only a webhook can tell apart: v1 has `spec.host`, v2 has `spec.hosts`."""

from typing import Any

import pytest

from kubelite.meta import errors
from kubelite.meta.types import Obj
from kubelite.registry.contract import DeleteOptions, ListOptions, Patch, Target
from tests.registry.conftest import Cluster

CRDS = "customresourcedefinitions.apiextensions.k8s.io"
SPEC: Obj = {
    "type": "object",
    "properties": {"host": {"type": "string"}, "hosts": {"type": "array", "items": {"type": "string"}}},
}


def definition() -> Obj:
    def version(name: str, *, storage: bool) -> Obj:
        schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": SPEC}}}
        fields = [{"jsonPath": ".spec.host"}] if name == "v1" else []
        return {"name": name, "served": True, "storage": storage, "schema": schema, "selectableFields": fields}

    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "sites.example.com"},
        "spec": {
            "group": "example.com",
            "names": {"plural": "sites", "kind": "Site"},
            "scope": "Namespaced",
            "versions": [version("v1", storage=False), version("v2", storage=True)],
            "conversion": {
                "strategy": "Webhook",
                "webhook": {"conversionReviewVersions": ["v1"], "clientConfig": {"url": "https://example.com/convert"}},
            },
        },
    }


class Webhook:
    """Converts both ways, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.spoils: dict[str, Any] = {}

    async def __call__(self, config: Obj, review: Obj) -> Any:
        assert config == {"url": "https://example.com/convert"}
        self.asked += 1
        request = review["request"]
        converted = [self._convert(obj, request["desiredAPIVersion"]) for obj in request["objects"]]
        response = {"uid": request["uid"], "result": {"status": "Success"}, "convertedObjects": converted}
        return {"kind": "ConversionReview", "response": response | self.spoils}

    @staticmethod
    def _convert(obj: Obj, to: str) -> Obj:
        spec = obj["spec"]
        changed = {"host": spec["hosts"][0]} if to.endswith("v1") else {"hosts": [spec["host"]]}
        return {**obj, "apiVersion": to, "spec": changed}


@pytest.fixture
async def webhook(cluster: Cluster) -> Webhook:
    made = Webhook()
    cluster.registry.entries.conversions.ask = made
    await cluster.create(CRDS, definition())
    return made


def target(cluster: Cluster, version: str, name: str = "") -> Target:
    kind = cluster.registry.kinds.resource("example.com", version, "sites")
    assert kind is not None
    return Target(kind, "default", name)


async def make(cluster: Cluster, name: str, host: str) -> Obj:
    obj = {"apiVersion": "example.com/v1", "kind": "Site", "metadata": {"name": name}, "spec": {"host": host}}
    return cluster.registry.parsed(await cluster.registry.create(target(cluster, "v1"), obj, cluster.options()))


async def read(cluster: Cluster, version: str, name: str) -> Obj:
    return cluster.registry.parsed(await cluster.registry.get(target(cluster, version, name)))


async def test_an_object_is_stored_in_one_version_and_read_in_each(cluster: Cluster, webhook: Webhook) -> None:
    made = await make(cluster, "a", "x")
    assert (made["apiVersion"], made["spec"]) == ("example.com/v1", {"host": "x"})
    stored = cluster.registry.store.get("/sites.example.com/default/a")
    assert stored is not None
    assert cluster.registry.parsed(stored)["spec"] == {"hosts": ["x"]}
    assert (await read(cluster, "v2", "a"))["spec"] == {"hosts": ["x"]}
    assert (await read(cluster, "v1", "a"))["spec"] == {"host": "x"}


async def test_what_was_converted_is_not_asked_for_again(cluster: Cluster, webhook: Webhook) -> None:
    await make(cluster, "a", "x")
    asked = webhook.asked
    for _ in range(3):
        await read(cluster, "v1", "a")
    assert webhook.asked == asked


async def test_a_list_is_converted_in_one_call_and_selected_by_its_versions_fields(cluster: Cluster, webhook: Webhook) -> None:
    for name, host in (("a", "x"), ("b", "y")):
        await make(cluster, name, host)
    cluster.registry.entries.conversions.set(target(cluster, "v1").kind, definition()["spec"]["conversion"])  # forgets
    asked = webhook.asked
    page = await cluster.registry.list(target(cluster, "v1"), ListOptions(field_selector="spec.host=y"))
    assert [cluster.registry.parsed(e)["spec"] for e in page.items] == [{"host": "y"}]
    assert webhook.asked == asked + 1


async def test_a_watch_shows_the_version_that_was_asked_for(cluster: Cluster, webhook: Webhook) -> None:
    await make(cluster, "a", "x")
    watch = cluster.registry.watch(target(cluster, "v1"), ListOptions())
    (first,) = await watch.next_batch()
    await make(cluster, "b", "y")
    (second,) = await watch.next_batch()
    watch.close()
    assert [(i.type, cluster.registry.parsed(i.entry)["spec"]) for i in (first, second)] == [
        ("ADDED", {"host": "x"}),
        ("ADDED", {"host": "y"}),
    ]


async def test_a_change_in_one_version_shows_in_the_other(cluster: Cluster, webhook: Webhook) -> None:
    await make(cluster, "a", "x")
    patch = Patch("merge", b'{"spec":{"host":"z"}}')
    entry, _ = await cluster.registry.patch(target(cluster, "v1", "a"), patch, cluster.options())
    assert cluster.registry.parsed(entry)["spec"] == {"host": "z"}
    assert (await read(cluster, "v2", "a"))["spec"] == {"hosts": ["z"]}
    gone, status, _ = await cluster.registry.delete(target(cluster, "v1", "a"), DeleteOptions(), cluster.options())
    assert gone is not None or status is not None
    with pytest.raises(errors.NotFound):
        await read(cluster, "v2", "a")


@pytest.mark.parametrize(
    ("spoils", "words"),
    [
        ({"uid": "another"}, "no response to this request"),
        ({"result": {"status": "Failure", "message": "no way"}}, "no way"),
        ({"convertedObjects": []}, "webhook returned 0 objects, expected 1"),
        ({"convertedObjects": [{"apiVersion": "example.com/v9", "kind": "Site"}]}, "invalid converted object at index 0"),
        (
            {"convertedObjects": [{"apiVersion": "example.com/v2", "kind": "Site", "metadata": {"name": "b"}}]},
            "must have the same name",
        ),
    ],
)
async def test_a_bad_answer_is_an_error_that_says_why(cluster: Cluster, webhook: Webhook, spoils: Obj, words: str) -> None:
    webhook.spoils = spoils
    with pytest.raises(errors.ApiError, match=words) as e:
        await make(cluster, "a", "x")
    assert "conversion webhook for example.com/v1, Kind=Site failed: " in e.value.message
    assert e.value.code == 500


async def test_a_webhook_may_change_labels_and_annotations_and_no_other_metadata(cluster: Cluster, webhook: Webhook) -> None:
    made = await make(cluster, "a", "x")
    meta = {"name": "a", "namespace": "default", "uid": made["metadata"]["uid"], "labels": {"l": "1"}, "finalizers": ["f/f"]}
    spoiled = {"apiVersion": "example.com/v1", "kind": "Site", "metadata": meta, "spec": {"host": "x"}}
    cluster.registry.entries.conversions.set(target(cluster, "v1").kind, definition()["spec"]["conversion"])  # forgets
    webhook.spoils = {"convertedObjects": [spoiled]}
    found = (await read(cluster, "v1", "a"))["metadata"]
    assert found["labels"] == {"l": "1"}
    assert "finalizers" not in found
    assert found["creationTimestamp"] == made["metadata"]["creationTimestamp"]
