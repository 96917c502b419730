"""Custom kinds: definitions, their objects, their end."""

import asyncio
from typing import Any

import pytest

from kubelite.meta import errors
from kubelite.meta.types import Obj
from kubelite.registry.contract import ListOptions, Target
from tests.registry.conftest import Cluster

CRDS = "customresourcedefinitions.apiextensions.k8s.io"


def schema(**properties: Any) -> Obj:
    return {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "required": ["size"],
                "properties": {
                    "size": {"type": "integer", "minimum": 1, "maximum": 10},
                    "color": {"type": "string", "enum": ["red", "blue"], "default": "red"},
                    "word": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 5},
                    "tags": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
                    **properties,
                },
            },
            "status": {"type": "object", "properties": {"replicas": {"type": "integer"}, "selector": {"type": "string"}}},
        },
    }


def definition(**spec: Any) -> Obj:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com",
            "names": {"plural": "widgets", "kind": "Widget", "shortNames": ["wd"]},
            "scope": "Namespaced",
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema()},
                    "subresources": {
                        "status": {},
                        "scale": {
                            "specReplicasPath": ".spec.size",
                            "statusReplicasPath": ".status.replicas",
                            "labelSelectorPath": ".status.selector",
                        },
                    },
                    "selectableFields": [{"jsonPath": ".spec.color"}],
                }
            ],
            **spec,
        },
    }


def widget(name: str = "w", **spec: Any) -> Obj:
    return {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": {"size": 2, **spec}}


WIDGETS = "widgets.example.com"


async def test_a_definition_is_served_at_once(cluster: Cluster) -> None:
    made = await cluster.create(CRDS, definition())
    conditions = {c["type"]: c["status"] for c in made["status"]["conditions"]}
    assert conditions == {"NamesAccepted": "True", "Established": "True"}
    assert made["status"]["storedVersions"] == ["v1"]
    assert made["spec"]["names"]["singular"] == "widget"
    kind = cluster.registry.kinds.preferred(WIDGETS)
    assert (kind.kind, kind.list_kind, kind.short_names) == ("Widget", "WidgetList", ("wd",))
    assert set(kind.subresources) == {"status", "scale"}


async def test_custom_objects_are_defaulted_and_pruned(cluster: Cluster) -> None:
    await cluster.create(CRDS, definition())
    made = await cluster.create(WIDGETS, widget(unknown=1))
    assert made["spec"] == {"size": 2, "color": "red"}
    assert made["metadata"]["generation"] == 1
    assert cluster.warnings == ['unknown field "spec.unknown"']
    with pytest.raises(errors.BadRequest, match=r'strict decoding error: unknown field "spec.unknown"'):
        await cluster.create(WIDGETS, widget("x", unknown=1), field_validation="Strict")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"size": 11}, "spec.size: Invalid value: 11: spec.size in body should be less than or equal to 10"),
        (
            {"size": "2"},
            "[.spec.size: Invalid value: 0: .spec.size accessor error: 2 is of the type string, expected int64, "
            'spec.size: Invalid value: "string": spec.size in body must be of type integer: "string"]',
        ),
        ({"size": None}, "spec.size: Required value"),
        ({"color": "pink"}, 'spec.color: Unsupported value: "pink": supported values: "red", "blue"'),
        ({"word": "A"}, "spec.word: Invalid value: \"A\": spec.word in body should match '^[a-z]+$'"),
        ({"word": "toolong"}, "spec.word: Too long: may not be more than 5 bytes"),
        ({"tags": ["a", "a"]}, 'spec.tags[1]: Duplicate value: "a"'),
    ],
)
async def test_custom_objects_are_validated_by_their_schema(cluster: Cluster, spec: Obj, message: str) -> None:
    await cluster.create(CRDS, definition())
    with pytest.raises(errors.Invalid) as caught:
        await cluster.create(WIDGETS, widget(**spec))
    assert caught.value.message == f'Widget.example.com "w" is invalid: {message}'


async def test_a_required_field_of_a_custom_object(cluster: Cluster) -> None:
    await cluster.create(CRDS, definition())
    body = {**widget(), "spec": {}}
    with pytest.raises(errors.Invalid, match=r"spec.size: Required value"):
        await cluster.create(WIDGETS, body)


async def test_the_status_of_a_custom_object_is_a_subresource(cluster: Cluster) -> None:
    await cluster.create(CRDS, definition())
    made = await cluster.create(WIDGETS, {**widget(), "status": {"replicas": 9}})
    assert "status" not in made
    both = {**made, "spec": {"size": 3}, "status": {"replicas": 4}}
    done = await cluster.update(WIDGETS, both, subresource="status")
    assert (done["spec"]["size"], done["status"], done["metadata"]["generation"]) == (2, {"replicas": 4}, 1)
    done = await cluster.update(WIDGETS, {**done, "spec": {"size": 3}, "status": {}})
    assert (done["spec"]["size"], done["status"], done["metadata"]["generation"]) == (3, {"replicas": 4}, 2)


async def test_a_custom_object_is_scaled(cluster: Cluster) -> None:
    await cluster.create(CRDS, definition())
    await cluster.create(WIDGETS, widget())
    scale = await cluster.get(WIDGETS, "w", subresource="scale")
    assert scale["spec"] == {"replicas": 2}
    await cluster.patch(WIDGETS, "w", b'{"spec":{"replicas":7}}', subresource="scale")
    assert (await cluster.get(WIDGETS, "w"))["spec"]["size"] == 7


async def test_custom_fields_select(cluster: Cluster) -> None:
    await cluster.create(CRDS, definition())
    await cluster.create(WIDGETS, widget("r"))
    await cluster.create(WIDGETS, widget("b", color="blue"))
    assert cluster.names(await cluster.page(WIDGETS, field_selector="spec.color=blue")) == ["b"]


async def test_a_strategic_patch_of_a_custom_object_is_not_supported(cluster: Cluster) -> None:
    await cluster.create(CRDS, definition())
    await cluster.create(WIDGETS, widget())
    with pytest.raises(errors.UnsupportedMediaType):
        await cluster.patch(WIDGETS, "w", b"{}", "strategic")


async def test_versions_share_their_objects(cluster: Cluster) -> None:
    versions = [
        {"name": name, "served": True, "storage": name == "v1", "schema": {"openAPIV3Schema": schema()}}
        for name in ("v1", "v1beta1")
    ]
    await cluster.create(CRDS, definition(versions=versions))
    await cluster.create(WIDGETS, widget())
    old = cluster.registry.kinds.resource("example.com", "v1beta1", "widgets")
    assert old is not None
    entry = await cluster.registry.get(Target(old, "default", "w"))
    assert b'"apiVersion":"example.com/v1beta1"' in entry.value
    body = {**widget("x"), "apiVersion": "example.com/v1beta1"}
    await cluster.registry.create(Target(old, "default"), body, cluster.options())
    assert (await cluster.get(WIDGETS, "x"))["apiVersion"] == "example.com/v1"
    watch = cluster.registry.watch(Target(old, "default"), ListOptions(resource_version="0"))
    items = await watch.next_batch()
    assert all(b"v1beta1" in watch.frame(item) for item in items)


async def test_names_that_are_taken_are_not_accepted(cluster: Cluster) -> None:
    await cluster.create(CRDS, definition())
    other = definition(names={"plural": "gadgets", "kind": "Gadget", "shortNames": ["wd"]})
    other["metadata"]["name"] = "gadgets.example.com"
    made = await cluster.create(CRDS, other)
    conditions = {c["type"]: (c["status"], c["reason"]) for c in made["status"]["conditions"]}
    assert conditions["NamesAccepted"] == ("False", "ShortNamesConflict")
    assert conditions["Established"] == ("False", "NotAccepted")
    with pytest.raises(KeyError):
        cluster.registry.kinds.preferred("gadgets.example.com")


async def test_a_definition_goes_with_its_objects(cluster: Cluster) -> None:
    await cluster.create(CRDS, definition())
    await cluster.create(WIDGETS, widget())
    marked, finished = await cluster.delete(CRDS, "widgets.example.com")
    assert not finished
    assert marked["metadata"]["finalizers"] == ["customresourcecleanup.apiextensions.k8s.io"]
    async with asyncio.timeout(30):
        while "example.com" in cluster.registry.kinds.groups():
            await asyncio.sleep(0)
    assert cluster.registry.store.count("/widgets.example.com/") == 0
    assert cluster.registry.store.count("/customresourcedefinitions.apiextensions.k8s.io/") == 0


async def test_a_definition_that_is_wrong_is_refused(cluster: Cluster) -> None:
    wrong = definition(group="example.org", scope="Everywhere")
    with pytest.raises(errors.Invalid) as caught:
        await cluster.create(CRDS, wrong)
    fields = {cause.field for cause in caught.value.causes}
    assert {"metadata.name", "spec.scope"} <= fields
    no_schema = definition(versions=[{"name": "v1", "served": True, "storage": True}])
    with pytest.raises(errors.Invalid, match=r"openAPIV3Schema: Required value"):
        await cluster.create(CRDS, no_schema)


async def test_rules_of_a_definition_hold_for_its_objects(cluster: Cluster) -> None:
    made = definition()
    spec = made["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec["x-kubernetes-validations"] = [
        {"rule": "self.size % 2 == 0", "message": "size must be even"},
        {"rule": "self.size >= oldSelf.size", "reason": "FieldValueForbidden", "fieldPath": ".size"},
    ]
    await cluster.create(CRDS, made)
    with pytest.raises(errors.Invalid) as caught:
        await cluster.create(WIDGETS, widget(size=3))
    assert caught.value.message == 'Widget.example.com "w" is invalid: spec: Invalid value: "object": size must be even'
    await cluster.create(WIDGETS, widget(size=4))
    with pytest.raises(errors.Invalid) as caught:
        await cluster.patch(WIDGETS, "w", b'{"spec":{"size":2}}')
    [cause] = caught.value.causes
    assert (cause.field, cause.reason) == ("spec.size", "FieldValueForbidden")
    assert cause.message == "Forbidden: failed rule: self.size >= oldSelf.size"


async def test_a_rule_that_is_no_cel_is_refused(cluster: Cluster) -> None:
    made = definition()
    spec = made["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec["x-kubernetes-validations"] = [{"rule": "self.size >"}]
    with pytest.raises(errors.Invalid, match=r"x-kubernetes-validations\[0\].rule: Invalid value"):
        await cluster.create(CRDS, made)


async def test_nothing_is_created_while_a_definition_ends(cluster: Cluster) -> None:
    await cluster.create(CRDS, definition())
    held = widget()
    held["metadata"]["finalizers"] = ["example.com/hold"]
    await cluster.create(WIDGETS, held)
    await cluster.delete(CRDS, "widgets.example.com")
    with pytest.raises(errors.MethodNotAllowed, match=r"create not allowed while custom resource definition is terminating"):
        await cluster.create(WIDGETS, widget("late"))


async def test_an_object_is_defaulted_when_it_is_read(cluster: Cluster) -> None:
    await cluster.create(CRDS, definition())
    await cluster.create(WIDGETS, widget())
    added = b'[{"op":"add","path":"/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/late","value":'
    await cluster.patch(CRDS, "widgets.example.com", added + b'{"type":"string","default":"yes"}}]', "json")
    assert (await cluster.get(WIDGETS, "w"))["spec"]["late"] == "yes"
    [listed] = (await cluster.page(WIDGETS)).items
    assert b'"late":"yes"' in listed.value
    watch = cluster.watch(WIDGETS, resource_version="0")
    [item] = await watch.next_batch()
    assert b'"late":"yes"' in watch.frame(item)
    made = await cluster.patch(WIDGETS, "w", b'{"metadata":{"labels":{"a":"b"}}}')
    assert made["spec"]["late"] == "yes"


async def test_each_version_has_its_own_selectable_fields(cluster: Cluster) -> None:
    versions = [
        {
            "name": name,
            "served": True,
            "storage": name == "v1",
            "schema": {"openAPIV3Schema": {**schema(), "description": name}},
            "selectableFields": [{"jsonPath": path}],
        }
        for name, path in (("v1", ".spec.color"), ("v1beta1", ".spec.word"))
    ]
    await cluster.create(CRDS, definition(versions=versions))
    await cluster.create(WIDGETS, widget("a", word="one"))
    await cluster.create(WIDGETS, widget("b", word="two", color="blue"))
    old = cluster.registry.kinds.resource("example.com", "v1beta1", "widgets")
    assert old is not None
    page = await cluster.registry.list(Target(old, "default"), ListOptions(field_selector="spec.word=two"))
    assert cluster.names(page) == ["b"]
    assert cluster.names(await cluster.page(WIDGETS, field_selector="spec.color=red")) == ["a"]
    with pytest.raises(errors.BadRequest, match=r"field label not supported: spec.word"):
        await cluster.page(WIDGETS, field_selector="spec.word=two")
