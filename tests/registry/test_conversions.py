"""Custom objects in versions that only a webhook can tell apart: v1 has `spec.host`, v2 has `spec.hosts`."""

import asyncio
from typing import Any

import orjson
import pytest

from kubelite.meta import errors
from kubelite.meta.types import Obj
from kubelite.meta.users import LOOPBACK
from kubelite.registry import conversions
from kubelite.registry.contract import DeleteOptions, ListOptions, Patch, Target, WriteOptions
from tests.registry.conftest import Cluster

CRDS = "customresourcedefinitions.apiextensions.k8s.io"
SPEC: Obj = {
    "type": "object",
    "properties": {"host": {"type": "string"}, "hosts": {"type": "array", "items": {"type": "string"}}},
}


def definition() -> Obj:
    def version(name: str, *, storage: bool) -> Obj:
        schema = {"openAPIV3Schema": {"type": "object", "description": name, "properties": {"spec": SPEC}}}
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
        self.is_gone = False
        self.review_version = ""

    async def __call__(self, config: Obj, review: Obj) -> Any:
        assert config == {"url": "https://example.com/convert"}
        if self.is_gone:
            raise ValueError("gone")
        self.asked += 1
        self.review_version = review["apiVersion"]
        request = review["request"]
        converted = [self._convert(obj, request["desiredAPIVersion"]) for obj in request["objects"]]
        response = {"uid": request["uid"], "result": {"status": "Success"}, "convertedObjects": converted}
        return {"kind": "ConversionReview", "apiVersion": review["apiVersion"], "response": response | self.spoils}

    @staticmethod
    def _convert(obj: Obj, to: str) -> Obj:
        spec = obj.get("spec")
        if spec is None:
            return {**obj, "apiVersion": to}
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


async def make(cluster: Cluster, name: str, host: str, version: str = "v1") -> Obj:
    spec = {"host": host} if version == "v1" else {"hosts": [host]}
    obj = {"apiVersion": f"example.com/{version}", "kind": "Site", "metadata": {"name": name}, "spec": spec}
    return cluster.registry.parsed(await cluster.registry.create(target(cluster, version), obj, cluster.options()))


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
        await make(cluster, name, host, "v2")
    assert webhook.asked == 0
    page = await cluster.registry.list(target(cluster, "v1"), ListOptions(field_selector="spec.host=y"))
    assert [cluster.registry.parsed(e)["spec"] for e in page.items] == [{"host": "y"}]
    assert webhook.asked == 1


async def test_a_page_is_converted_in_bounded_calls_and_only_as_far_as_it_goes(
    cluster: Cluster, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversions, "BATCH", 2)
    for name in "abcdefg":
        await make(cluster, name, "x" if name in "abeg" else "y", "v2")

    async def page(**options: Any) -> tuple[list[str], str]:
        found = await cluster.registry.list(target(cluster, "v1"), ListOptions(**options))
        assert all("host" in cluster.registry.parsed(entry)["spec"] for entry in found.items)
        return cluster.names(found), found.continue_token

    assert (await page(limit=1))[0] == ["a"]
    assert webhook.asked == 1
    names, token = await page(limit=2, field_selector="spec.host=x")
    assert names == ["a", "b"] and token
    assert webhook.asked == 4  # b; c and d; e and f, of which e is there to go on with
    assert await page(limit=2, field_selector="spec.host=x", continue_token=token) == (["e", "g"], "")
    webhook.asked = 0
    assert (await page())[0] == list("abcdefg")
    assert webhook.asked == 0


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
        ({"uid": "another"}, 'expected response.uid="'),
        ({"result": {"status": "Failure", "message": "no way"}}, "no way"),
        ({"convertedObjects": []}, "webhook returned 0 objects, expected 1"),
        ({"convertedObjects": [{"apiVersion": "example.com/v9", "kind": "Site"}]}, "invalid converted object at index 0"),
        (
            {"convertedObjects": [{"apiVersion": "example.com/v2", "kind": "Site", "metadata": {"name": "b"}}]},
            "must have the same name: a != b",
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
    made = await make(cluster, "a", "x", "v2")
    meta = {"name": "a", "namespace": "default", "uid": made["metadata"]["uid"], "labels": {"l": "1"}, "finalizers": ["f/f"]}
    spoiled = {"apiVersion": "example.com/v1", "kind": "Site", "metadata": meta, "spec": {"host": "x"}}
    webhook.spoils = {"convertedObjects": [spoiled]}
    found = (await read(cluster, "v1", "a"))["metadata"]
    assert found["labels"] == {"l": "1"}
    assert "finalizers" not in found
    assert found["creationTimestamp"] == made["metadata"]["creationTimestamp"]


async def change_definition(cluster: Cluster, **fields: Any) -> None:
    found = await cluster.get(CRDS, "sites.example.com")
    await cluster.update(CRDS, {**found, "spec": {**found["spec"], **fields}})


async def test_a_watch_with_a_selector_ends_an_objects_match_with_its_last_matching_state(
    cluster: Cluster, webhook: Webhook
) -> None:
    await make(cluster, "a", "x")
    watch = cluster.registry.watch(target(cluster, "v1"), ListOptions(field_selector="spec.host=x"))
    await watch.next_batch()
    await cluster.registry.patch(target(cluster, "v1", "a"), Patch("merge", b'{"spec":{"host":"z"}}'), cluster.options())
    (item,) = await watch.next_batch()
    watch.close()
    gone = cluster.registry.parsed(item.entry)
    assert (item.type, gone["apiVersion"], gone["spec"]) == ("DELETED", "example.com/v1", {"host": "x"})


async def test_a_watch_goes_on_when_the_definition_changes(cluster: Cluster, webhook: Webhook) -> None:
    watch = cluster.registry.watch(target(cluster, "v1"), ListOptions())
    await change_definition(cluster, names={**definition()["spec"]["names"], "shortNames": ["st"]})
    await make(cluster, "a", "x", "v2")
    (item,) = await watch.next_batch()
    watch.close()
    assert cluster.registry.parsed(item.entry)["spec"] == {"host": "x"}


async def test_the_first_review_version_that_is_known_is_spoken(cluster: Cluster, webhook: Webhook) -> None:
    conversion = definition()["spec"]["conversion"]
    speaks = {**conversion["webhook"], "conversionReviewVersions": ["v9", "v1beta1", "v1"]}
    await change_definition(cluster, conversion={**conversion, "webhook": speaks})
    webhook.spoils = {"uid": ""}  # nobody looked at it in v1beta1
    await make(cluster, "a", "x")
    assert webhook.review_version == "apiextensions.k8s.io/v1beta1"


async def test_objects_are_stored_in_a_version_that_is_not_served(cluster: Cluster, webhook: Webhook) -> None:
    v1, v2 = definition()["spec"]["versions"]
    await change_definition(cluster, versions=[v1, {**v2, "served": False}])
    assert cluster.registry.kinds.resource("example.com", "v2", "sites") is None
    made = await make(cluster, "a", "x")
    assert (made["apiVersion"], made["spec"]) == ("example.com/v1", {"host": "x"})
    stored = cluster.registry.store.get("/sites.example.com/default/a")
    assert stored is not None
    assert cluster.registry.parsed(stored)["spec"] == {"hosts": ["x"]}


async def test_a_definition_ends_with_its_objects_when_its_webhook_is_gone(cluster: Cluster, webhook: Webhook) -> None:
    await make(cluster, "a", "x")
    webhook.is_gone = True
    await cluster.delete(CRDS, "sites.example.com")
    async with asyncio.timeout(30):
        while cluster.registry.store.get("/customresourcedefinitions.apiextensions.k8s.io/sites.example.com") is not None:
            await asyncio.sleep(0.01)
    assert cluster.registry.store.count("/sites.example.com/") == 0


async def test_managers_of_another_version_have_their_fields_by_that_version(cluster: Cluster, webhook: Webhook) -> None:
    async def apply(version: str, spec: Obj, manager: str, *, force: bool = False) -> Obj:
        config = {"apiVersion": f"example.com/{version}", "kind": "Site", "metadata": {"name": "a"}, "spec": spec}
        options = WriteOptions(LOOPBACK, field_manager=manager, force=force)
        patch = Patch("apply", orjson.dumps(config))
        entry, _ = await cluster.registry.patch(target(cluster, version, "a"), patch, options)
        return cluster.registry.parsed(entry)

    def managers(obj: Obj) -> dict[str, Any]:
        return {e["manager"]: (e["apiVersion"][-2:], e["fieldsV1"]) for e in obj["metadata"]["managedFields"]}

    await apply("v1", {"host": "x"}, "one")
    with pytest.raises(errors.ApiError, match=r'conflict with "one": \.spec\.host'):
        await apply("v2", {"hosts": ["y"]}, "two")
    made = await apply("v2", {"hosts": ["x"]}, "two")
    assert managers(made) == {"one": ("v1", {"f:spec": {"f:host": {}}}), "two": ("v2", {"f:spec": {"f:hosts": {}}})}
    made = await apply("v2", {"hosts": ["y"]}, "two", force=True)
    assert managers(made) == {"two": ("v2", {"f:spec": {"f:hosts": {}}})}
    made = await apply("v1", {"host": "z"}, "two")
    assert managers(made) == {"two": ("v1", {"f:spec": {"f:host": {}}})}
    assert (await read(cluster, "v2", "a"))["spec"] == {"hosts": ["z"]}
