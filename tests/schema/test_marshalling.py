"""Messages of objects say what the objects say: what is written in protobuf reads as what was written."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from kubelite.schema import marshalling, protobuf, wire
from tests.differential import corpus, recorded

MOMENT = "2026-01-01T00:00:00.000000Z"


def objects() -> Iterator[tuple[str, dict[str, Any]]]:
    """What a real API server answered, of every built-in kind: one object a file, kind and set of fields."""
    seen = set()
    for file in corpus.files():
        for case, answer in recorded.read(file).items():
            text = json.dumps(answer.get("object")).replace("<time>", MOMENT[:-8] + "Z")
            obj = json.loads(text)
            if not isinstance(obj, dict) or "{ns}" in obj.get("apiVersion", "{ns}") or "items" in obj or "metadata" not in obj:
                continue
            shape = f"{obj['kind']} {sorted(obj.get('spec') or obj)}"
            if obj["kind"] not in ("Table", "PodList", "ConfigMapList", "ServiceList") and shape not in seen:
                seen.add(shape)
                yield case, obj


def without_types(value: Any) -> Any:
    """Without what messages within messages don't have; a MicroTime is written in full."""
    if isinstance(value, list):
        return [without_types(item) for item in value]
    if isinstance(value, dict):
        return {key: without_types(item) for key, item in value.items() if key not in ("apiVersion", "kind") or item == ""}
    return value.replace(".000000Z", "Z") if isinstance(value, str) else value


@pytest.mark.slow
def test_every_kind_is_read_as_it_was_written() -> None:
    kinds = set()
    for case, obj in objects():
        back = protobuf.decode(marshalling.encode(obj))
        assert (back["apiVersion"], back["kind"]) == (obj["apiVersion"], obj["kind"])
        assert without_types(back) == without_types(obj), case
        kinds.add(obj["kind"])
    assert len(kinds) > 45


def test_values_with_forms_of_their_own_are_read_as_they_were_written() -> None:
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "a.b.c", "creationTimestamp": "1969-12-31T23:59:58Z"},
        "spec": {
            "group": "b.c",
            "scope": "Namespaced",
            "names": {"plural": "a", "kind": "A"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": False,
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "properties": {"x": {"type": "number", "minimum": -1.5, "default": [{"k": None}]}},
                            "additionalProperties": {"type": "string"},
                            "items": {"type": "string"},
                        }
                    },
                }
            ],
        },
        "status": {"conditions": [], "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": ["v1"]},
    }
    back = protobuf.decode(marshalling.encode(definition))
    assert back["spec"] == definition["spec"]
    assert back["metadata"] == definition["metadata"]


def test_a_list_holds_its_objects_and_where_it_goes_on() -> None:
    items = [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": name}} for name in "ab"]
    data = marshalling.listed("v1", "ConfigMapList", {"resourceVersion": "7", "continue": "t"}, map(marshalling.item, items))
    assert data[:4] == protobuf.PREFIX
    envelope = dict(wire.fields(data[4:]))
    assert dict(wire.fields(envelope[1])) == {1: b"v1", 2: b"ConfigMapList"}
    metadata, *rest = wire.fields(envelope[2])
    assert dict(wire.fields(metadata[1])) == {2: b"7", 3: b"t"}
    assert [number for number, _ in rest] == [2, 2]


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 2**63 - 1, -1, -(2**63)])
def test_a_number_is_read_as_it_was_written(value: int) -> None:
    ((field, read),) = wire.fields(wire.count(5, value))
    assert (field, wire.signed(read)) == (5, value)
