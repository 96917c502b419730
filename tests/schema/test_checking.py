from typing import Any

import pytest

from kubelite.meta.errors import BadRequest
from kubelite.schema import builtin, checking, structure
from kubelite.schema.kinds import Kind

KINDS = builtin.kinds()


def of(resource: str) -> structure.Structure:
    return structure.structure_of(KINDS.preferred(resource))


def test_unknown_fields_are_named_by_their_paths() -> None:
    obj = {"spec": {"containers": [{"foo": 1, "name": "x"}], "bar": 1}, "baz": {}, "kind": "Pod", "apiVersion": "v1"}
    assert checking.check(of("pods"), obj) == ["spec.containers[0].foo", "spec.bar", "baz"]
    assert checking.prune(of("pods"), obj) == {"spec": {"containers": [{"name": "x"}]}, "kind": "Pod", "apiVersion": "v1"}


@pytest.mark.parametrize(
    ("resource", "obj", "detail"),
    [
        (
            "deployments.apps",
            {"spec": {"replicas": "3"}},
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            "configmaps",
            {"metadata": {"labels": {"a": 1}}},
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            "pods",
            {"spec": {"containers": {}}},
            "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
        ),
        (
            "pods",
            {"spec": {"containers": [{"resources": {"limits": {"cpu": "x"}}}]}},
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        ("secrets", {"data": {"a": "!"}}, "illegal base64 data at input byte 0"),
        (
            "secrets",
            {"type": 5},
            "json: cannot unmarshal number into Go struct field Secret.type of type v1.SecretType",
        ),
        (
            "namespaces",
            {"spec": {"finalizers": {}}},
            "json: cannot unmarshal object into Go struct field NamespaceSpec.spec.finalizers of type []v1.FinalizerName",
        ),
        (
            "namespaces",
            {"spec": {"finalizers": [5]}},
            "json: cannot unmarshal number into Go struct field NamespaceSpec.spec.finalizers of type v1.FinalizerName",
        ),
        (
            "resourcequotas",
            {"spec": {"hard": []}},
            "json: cannot unmarshal array into Go struct field ResourceQuotaSpec.spec.hard of type v1.ResourceList",
        ),
        (
            "certificatesigningrequests.certificates.k8s.io",
            {"spec": {"extra": {"a": [5]}}},
            "json: cannot unmarshal number into Go struct field CertificateSigningRequestSpec.spec.extra of type string",
        ),
    ],
)
def test_wrong_types_are_refused_in_the_words_of_the_decoder(resource: str, obj: Any, detail: str) -> None:
    with pytest.raises(BadRequest) as e:
        checking.check(of(resource), obj)
    assert e.value.message.endswith(f": {detail}")


def definition(**size: Any) -> Any:
    schema = {"type": "object", "properties": {"size": size}}
    return {"spec": {"versions": [{"name": "v1", "schema": {"openAPIV3Schema": schema}}]}}


@pytest.mark.parametrize(
    ("size", "detail"),
    [
        ({"maxLength": 1.5}, "json: cannot unmarshal number 1.5 into Go struct field {}properties.maxLength of type int64"),
        ({"not": {"type": 5}}, "json: cannot unmarshal number into Go struct field {}properties.not.type of type string"),
        ({"anyOf": {}}, "json: cannot unmarshal object into Go struct field {}properties.anyOf of type []v1.JSONSchemaProps"),
        ({"items": {"not": {"type": 5}}}, "json: cannot unmarshal number into Go struct field {}properties.items of type string"),
        ({"additionalProperties": "x"}, "boolean or JSON schema expected"),
    ],
)
def test_schemas_within_definitions_are_checked_too(size: Any, detail: str) -> None:
    with pytest.raises(BadRequest) as e:
        checking.check(of("customresourcedefinitions.apiextensions.k8s.io"), definition(**size))
    assert e.value.message.endswith(detail.format("JSONSchemaProps.spec.versions.schema.openAPIV3Schema."))


def test_schemas_within_definitions_have_a_normal_form() -> None:
    kind = of("customresourcedefinitions.apiextensions.k8s.io")
    sent = {
        "maximum": 2.0,
        "minimum": 0.5,
        "nullable": False,
        "items": {"color": "red", "properties": {}},
        "default": {"a": None},
    }
    obj = definition(**sent, color="red")
    assert checking.check(kind, obj) == ["spec.versions[0].schema.openAPIV3Schema.properties.size.color"]
    made = checking.normal(kind, obj)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["size"]
    assert made == {"maximum": 2, "minimum": 0.5, "items": {}, "default": {"a": None}}
    assert [type(made[limit]) for limit in ("maximum", "minimum")] == [int, float]


def test_normal_objects_have_no_zero_values_and_all_fields_that_are_always_written() -> None:
    obj = {
        "kind": "Pod",
        "metadata": {"name": "a", "labels": {}, "generation": 0},
        "spec": {
            "hostNetwork": False,
            "nodeName": "",
            "automountServiceAccountToken": False,
            "containers": [
                {"name": "c", "resources": {"limits": {"cpu": 0.5, "memory": "1024Mi"}}, "command": [], "stdin": None}
            ],
        },
    }
    assert checking.normal(of("pods"), obj) == {
        "kind": "Pod",
        "metadata": {"name": "a"},
        "spec": {
            "automountServiceAccountToken": False,
            "containers": [{"name": "c", "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}}}],
        },
        "status": {},
    }


def test_nulls_in_maps_and_lists_are_the_zeros_of_what_those_hold() -> None:
    quota = {"metadata": {"finalizers": [None], "labels": {"a": None}}, "spec": {"hard": {"pods": None}, "scopes": None}}
    assert checking.without_nulls(quota, of("resourcequotas")) == {
        "metadata": {"finalizers": [""], "labels": {"a": ""}},
        "spec": {"hard": {"pods": 0}},
    }
    assert checking.without_nulls({"spec": {"limits": [None]}}, of("limitranges")) == {"spec": {"limits": [{}]}}


def test_every_built_in_kind_has_a_model_that_takes_an_empty_object() -> None:
    for kind in KINDS:
        assert checking.check(structure.structure_of(kind), {"metadata": {}}) == [], kind.kind


def test_custom_kinds_know_their_metadata_and_what_their_schema_preserves() -> None:
    schema = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {
                    "n": {"type": "integer"},
                    "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                    "map": {
                        "type": "object",
                        "additionalProperties": {"type": "object", "properties": {"a": {"type": "string"}}},
                    },
                },
            }
        },
    }
    kind = Kind("x.io", "v1", "Thing", "things", "thing", True, custom=True, crd_version={"schema": {"openAPIV3Schema": schema}})
    obj = {
        "apiVersion": "x.io/v1",
        "kind": "Thing",
        "metadata": {"name": "a", "odd": 1},
        "spec": {"n": 1, "m": 2, "any": {"x": {"y": 1}}, "map": {"k": {"a": "", "b": 1}}},
    }
    described = structure.structure_of(kind)
    assert checking.check(described, obj) == ["metadata.odd", "spec.m", "spec.map.k.b"]
    assert checking.prune(described, obj)["spec"] == {"n": 1, "any": {"x": {"y": 1}}, "map": {"k": {"a": ""}}}


def test_a_custom_resource_definition_is_checked_down_into_its_schema() -> None:
    obj = {"spec": {"versions": [{"schema": {"openAPIV3Schema": {"foo": 1, "properties": {"a": {"type": "string", "x": 1}}}}}]}}
    assert checking.check(of("customresourcedefinitions.apiextensions.k8s.io"), obj) == [
        "spec.versions[0].schema.openAPIV3Schema.foo",
        "spec.versions[0].schema.openAPIV3Schema.properties.a.x",
    ]


def test_structures_say_how_lists_are_merged() -> None:
    containers = of("pods").properties["spec"].properties["containers"]
    assert (containers.list_type, containers.list_map_keys) == ("map", ("name",))
    assert (containers.merge_key, containers.patch_strategy) == ("name", ("merge",))
    assert containers.items is not None
    ports = containers.items.properties["ports"]
    assert ports.list_map_keys == ("containerPort", "protocol")
    assert ports.items is not None and ports.items.properties["protocol"].default == "TCP"
