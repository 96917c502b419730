"""Strategic merge patches against the real structures."""

from typing import Any

import pytest

from kubelite.meta.errors import BadRequest
from kubelite.schema import builtin, strategic
from kubelite.schema.structure import structure_of

POD = structure_of(builtin.kinds().preferred("pods"))
DEPLOYMENT = structure_of(builtin.kinds().preferred("deployments.apps"))


def pod(*containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p"}, "spec": {"containers": list(containers), **spec}}


def names(obj: dict[str, Any]) -> list[str]:
    return [c["name"] for c in obj["spec"]["containers"]]


def test_containers_are_merged_by_name() -> None:
    old = pod({"name": "a", "image": "1"}, {"name": "b", "image": "1"})
    new = strategic.merge(POD, old, {"spec": {"containers": [{"name": "b", "image": "2"}, {"name": "c", "image": "3"}]}})
    assert new["spec"]["containers"] == [
        {"name": "a", "image": "1"},
        {"name": "b", "image": "2"},
        {"name": "c", "image": "3"},
    ]
    assert old["spec"]["containers"][1]["image"] == "1"


def test_an_item_is_deleted_by_its_directive() -> None:
    patch = {"spec": {"containers": [{"name": "a", "$patch": "delete"}]}}
    assert names(strategic.merge(POD, pod({"name": "a"}, {"name": "b"}), patch)) == ["b"]


def test_a_list_is_replaced_by_its_directive() -> None:
    patch = {"spec": {"containers": [{"name": "z"}, {"$patch": "replace"}]}}
    assert names(strategic.merge(POD, pod({"name": "a"}, {"name": "b"}), patch)) == ["z"]


def test_a_map_is_replaced_by_its_directive() -> None:
    old = pod(nodeSelector={"a": "1", "b": "2"})
    new = strategic.merge(POD, old, {"spec": {"nodeSelector": {"$patch": "replace", "c": "3"}}})
    assert new["spec"]["nodeSelector"] == {"c": "3"}


def test_null_removes_a_field() -> None:
    new = strategic.merge(POD, pod(nodeName="n"), {"spec": {"nodeName": None}})
    assert "nodeName" not in new["spec"]


def test_a_list_without_a_merge_key_is_replaced() -> None:
    old = pod({"name": "a", "args": ["1", "2"]})
    new = strategic.merge(POD, old, {"spec": {"containers": [{"name": "a", "args": ["3"]}]}})
    assert new["spec"]["containers"][0]["args"] == ["3"]


def test_a_list_of_scalars_is_merged_as_a_set_in_the_order_of_the_patch() -> None:
    old = {"metadata": {"name": "p", "finalizers": ["a"]}}
    assert strategic.merge(POD, old, {"metadata": {"finalizers": ["b", "a"]}})["metadata"]["finalizers"] == ["b", "a"]
    gone = strategic.merge(POD, old, {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}})
    assert gone["metadata"]["finalizers"] == []


def test_the_order_of_a_merged_list_can_be_set() -> None:
    old = pod({"name": "a"}, {"name": "server-added"}, {"name": "b"})
    patch = {
        "spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "c"}, {"name": "a"}], "containers": [{"name": "c"}]}
    }
    merged = names(strategic.merge(POD, old, patch))
    assert [n for n in merged if n != "server-added"] == ["b", "c", "a"]
    assert "server-added" in merged


def test_retained_keys_drop_the_others() -> None:
    old = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}
    patch = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    assert strategic.merge(DEPLOYMENT, old, patch)["spec"]["strategy"] == {"type": "Recreate"}


def test_an_item_without_its_merge_key_is_refused() -> None:
    with pytest.raises(BadRequest, match="does not contain declared merge key: name"):
        strategic.merge(POD, pod({"name": "a"}), {"spec": {"containers": [{"image": "x"}]}})


def test_an_unknown_directive_is_refused() -> None:
    with pytest.raises(BadRequest, match="unknown patch type: explode in map: map"):
        strategic.merge(POD, pod(), {"spec": {"$patch": "explode"}})


def test_directives_never_reach_the_object() -> None:
    new = strategic.merge(POD, {"metadata": {"name": "p"}}, {"spec": {"containers": [{"name": "a", "$patch": "delete"}]}})
    assert "$" not in str(new)


def test_what_only_the_server_knows_keeps_its_place() -> None:
    old = pod({"name": "server"}, {"name": "a"}, {"name": "b"})
    patch = {"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}], "containers": []}}
    assert names(strategic.merge(POD, old, patch)) == ["server", "b", "a"]


def test_a_patch_in_another_order_than_it_says_is_refused() -> None:
    patch = {
        "spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}], "containers": [{"name": "a"}, {"name": "b"}]}
    }
    with pytest.raises(BadRequest, match="doesn't match \\$setElementOrder list"):
        strategic.merge(POD, pod(), patch)


def test_a_patch_that_contradicts_its_retained_keys_is_refused() -> None:
    with pytest.raises(BadRequest, match="invalid patch format of retainKeys"):
        strategic.merge(DEPLOYMENT, {"spec": {}}, {"spec": {"$retainKeys": ["replicas"], "paused": True, "replicas": 1}})


def test_neither_the_original_nor_the_patch_is_changed() -> None:
    old = pod({"name": "a", "env": [{"name": "x", "value": "1"}]})
    patch = {"spec": {"containers": [{"name": "a", "env": [{"name": "x", "value": None}, {"name": "y", "$patch": "delete"}]}]}}
    before = repr((old, patch))
    assert strategic.merge(POD, old, patch)["spec"]["containers"] == [{"name": "a", "env": [{"name": "x"}]}]
    assert repr((old, patch)) == before
