"""Managed fields: who owns what after updates and applies, and what an apply may take."""

from typing import Any

import orjson
import pytest

from kubelite.meta.errors import ApiError, BadRequest
from kubelite.registry import apply, managed
from kubelite.registry.managed import OneVersion
from kubelite.schema import builtin
from kubelite.schema.structure import of_schema, structure_of

KINDS = builtin.kinds()
DEPLOYMENT = OneVersion("apps/v1", structure_of(KINDS.preferred("deployments.apps")))
CONFIG_MAP = OneVersion("v1", structure_of(KINDS.preferred("configmaps")))
T1, T2 = "2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z"


def config_map(**data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "d"}, "data": data}


def deployment(replicas: int | None = None, **images: str) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "selector": {"matchLabels": {"app": "x"}},
        "template": {
            "metadata": {"labels": {"app": "x"}},
            "spec": {"containers": [{"name": n, "image": i} for n, i in images.items()]},
        },
    }
    if replicas is not None:
        spec["replicas"] = replicas
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "d"}, "spec": spec}


def created(structure: Any, obj: dict[str, Any], manager: str) -> dict[str, Any]:
    entries = managed.tracked(structure, None, obj, manager=manager, time=T1, api_version=obj["apiVersion"])
    return {**obj, "metadata": {**obj["metadata"], "managedFields": entries}}


def applied(structure: Any, live: dict[str, Any] | None, config: dict[str, Any], manager: str, force: bool = False) -> Any:
    return apply.applied(structure, live, config, manager=manager, force=force, time=T2, api_version=config["apiVersion"])


def fields_of(obj: dict[str, Any], manager: str) -> dict[str, Any]:
    (entry,) = (e for e in obj["metadata"]["managedFields"] if e["manager"] == manager)
    return dict(entry["fieldsV1"])


def test_a_creation_belongs_to_its_manager() -> None:
    obj = created(CONFIG_MAP, config_map(a="1"), "kubectl-create")
    (entry,) = obj["metadata"]["managedFields"]
    assert entry == {
        "manager": "kubectl-create",
        "operation": "Update",
        "apiVersion": "v1",
        "time": T1,
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:data": {".": {}, "f:a": {}}},
    }


def test_items_of_a_keyed_list_are_named_by_their_keys() -> None:
    fields = fields_of(created(DEPLOYMENT, deployment(web="nginx"), "me"), "me")
    containers = fields["f:spec"]["f:template"]["f:spec"]["f:containers"]
    assert containers['k:{"name":"web"}'] == {".": {}, "f:name": {}, "f:image": {}}


def test_an_update_takes_only_what_it_changes() -> None:
    old = created(CONFIG_MAP, config_map(a="1", b="1"), "first")
    new = {**config_map(a="1", b="2", c="3")}
    entries = managed.tracked(CONFIG_MAP, old, new, manager="second", time=T2, api_version="v1")
    by_name = {e["manager"]: e["fieldsV1"] for e in entries}
    assert by_name["second"] == {"f:data": {"f:b": {}, "f:c": {}}}
    assert by_name["first"] == {"f:data": {".": {}, "f:a": {}}}


def test_a_removed_field_belongs_to_nobody() -> None:
    old = created(CONFIG_MAP, config_map(a="1", b="1"), "first")
    entries = managed.tracked(CONFIG_MAP, old, config_map(a="1"), manager="second", time=T2, api_version="v1")
    assert [(e["manager"], e["fieldsV1"]) for e in entries] == [("first", {"f:data": {".": {}, "f:a": {}}})]


def test_an_update_that_changes_nothing_keeps_the_entries() -> None:
    old = created(CONFIG_MAP, config_map(a="1"), "first")
    entries = managed.tracked(CONFIG_MAP, old, config_map(a="1"), manager="second", time=T2, api_version="v1")
    assert entries == old["metadata"]["managedFields"]


@pytest.mark.parametrize("sent", [[], [{}]])
def test_an_empty_list_or_entry_resets_the_list_until_somebody_applies(sent: list[Any]) -> None:
    old = created(CONFIG_MAP, config_map(a="1"), "first")
    old["metadata"]["uid"] = "u"
    new = {**config_map(a="2"), "metadata": {"name": "c", "uid": "u", "managedFields": sent}}
    assert managed.tracked(CONFIG_MAP, old, new, manager="second", time=T2, api_version="v1") == []
    reset = {**config_map(a="2"), "metadata": {"name": "c", "uid": "u"}}
    later = {**config_map(a="3"), "metadata": {"name": "c", "uid": "u"}}
    assert managed.tracked(CONFIG_MAP, reset, later, manager="second", time=T2, api_version="v1") == []
    obj = applied(CONFIG_MAP, reset, config_map(b="1"), "ops")
    assert fields_of(obj, managed.BEFORE_FIRST_APPLY) == {"f:data": {".": {}, "f:a": {}}}


def test_applying_to_nothing_creates() -> None:
    obj = applied(CONFIG_MAP, None, config_map(a="1"), "ops")
    assert obj["data"] == {"a": "1"}
    assert obj["metadata"]["managedFields"][0]["operation"] == "Apply"


def test_what_is_no_longer_applied_goes() -> None:
    live = applied(CONFIG_MAP, None, config_map(a="1", b="2"), "ops")
    assert applied(CONFIG_MAP, live, config_map(a="1"), "ops")["data"] == {"a": "1"}


def test_what_another_manager_also_applied_stays() -> None:
    live = applied(CONFIG_MAP, None, config_map(a="1", b="2"), "one")
    live = applied(CONFIG_MAP, live, config_map(b="2"), "two")
    assert applied(CONFIG_MAP, live, config_map(a="1"), "one")["data"] == {"a": "1", "b": "2"}


def test_changing_what_another_manager_owns_is_a_conflict_that_names_field_and_manager() -> None:
    live = created(DEPLOYMENT, deployment(replicas=3, web="nginx"), "hpa")
    with pytest.raises(ApiError) as conflict:
        applied(DEPLOYMENT, live, deployment(replicas=1, web="nginx"), "ops")
    assert conflict.value.code == 409
    assert str(conflict.value) == 'Apply failed with 1 conflict: conflict with "hpa" using apps/v1: .spec.replicas'
    (cause,) = conflict.value.causes
    assert (cause.field, cause.reason) == (".spec.replicas", "FieldManagerConflict")


def test_force_takes_the_field_over() -> None:
    live = created(DEPLOYMENT, deployment(replicas=3, web="nginx"), "hpa")
    obj = applied(DEPLOYMENT, live, deployment(replicas=1, web="nginx"), "ops", force=True)
    assert obj["spec"]["replicas"] == 1
    assert "f:replicas" not in fields_of(obj, "hpa")["f:spec"]
    assert "f:replicas" in fields_of(obj, "ops")["f:spec"]


def test_applying_the_same_value_shares_the_field() -> None:
    live = created(DEPLOYMENT, deployment(replicas=3, web="nginx"), "hpa")
    obj = applied(DEPLOYMENT, live, deployment(replicas=3, web="nginx"), "ops")
    assert "f:replicas" in fields_of(obj, "hpa")["f:spec"]
    assert "f:replicas" in fields_of(obj, "ops")["f:spec"]


def test_who_applies_what_is_there_already_gets_no_time() -> None:
    live = applied(CONFIG_MAP, None, config_map(a="1"), "one")
    obj = applied(CONFIG_MAP, live, config_map(a="1"), "two")
    assert [(e["manager"], e.get("time")) for e in obj["metadata"]["managedFields"]] == [("two", None), ("one", T2)]
    obj = applied(CONFIG_MAP, obj, config_map(a="1", b="1"), "two")
    assert [(e["manager"], e.get("time")) for e in obj["metadata"]["managedFields"]] == [("one", T2), ("two", T2)]


def test_kubectl_takes_over_what_it_applied_on_the_client() -> None:
    by_client = config_map(a="1", b="1")
    text = orjson.dumps({**by_client, "metadata": {"name": "c"}}).decode()
    by_client["metadata"]["annotations"] = {apply.LAST_APPLIED: text}
    live = created(CONFIG_MAP, by_client, "kubectl-client-side-apply")
    with pytest.raises(ApiError, match="conflict"):
        applied(CONFIG_MAP, live, config_map(a="2"), "another")
    obj = applied(CONFIG_MAP, live, config_map(a="2"), "kubectl")
    assert obj["data"] == {"a": "2", "b": "1"}
    last = orjson.loads(obj["metadata"]["annotations"][apply.LAST_APPLIED])
    assert (last["data"], last["metadata"]) == ({"a": "2"}, {"name": "c", "namespace": "d"})
    changed = {**obj, "data": {"a": "3", "b": "1"}}
    entries = managed.tracked(CONFIG_MAP, obj, changed, manager="editor", time=T2, api_version="v1")
    changed["metadata"] = {**changed["metadata"], "managedFields": entries}
    with pytest.raises(ApiError, match='conflict with "editor"'):
        applied(CONFIG_MAP, changed, config_map(a="4"), "kubectl")


def test_a_list_that_became_a_whole_is_managed_as_one() -> None:
    def versions(list_type: str) -> OneVersion:
        text = {"type": "string"}
        names = {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": list_type}
        return OneVersion(
            "e/v1",
            of_schema(
                {
                    "type": "object",
                    "properties": {"apiVersion": text, "kind": text, "metadata": {"type": "object"}, "names": names},
                }
            ),
        )

    config = {"apiVersion": "e/v1", "kind": "E", "metadata": {}, "names": ["a", "b"]}
    live = applied(versions("set"), None, config, "one")
    assert fields_of(live, "one") == {"f:names": {'v:"a"': {}, 'v:"b"': {}}}
    obj = applied(versions("atomic"), live, {**config, "names": ["a", "b"]}, "two")
    assert fields_of(obj, "one") == fields_of(obj, "two") == {"f:names": {}}


def test_items_of_a_list_come_in_the_order_that_is_applied() -> None:
    def order(obj: dict[str, Any]) -> list[str]:
        return [c["name"] for c in obj["spec"]["template"]["spec"]["containers"]]

    live = applied(DEPLOYMENT, None, deployment(a="i", b="i", c="i"), "one")
    assert order(applied(DEPLOYMENT, live, deployment(c="i", a="i"), "two")) == ["b", "c", "a"]
    assert order(applied(DEPLOYMENT, live, deployment(n="i", b="i"), "two")) == ["a", "n", "b", "c"]


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        ({"data": {"a": 1}}, ".data.a: expected string, got &value.valueUnstructured{Value:1}"),
        ({"data": ["a"]}, ".data: expected map, got &{[a]}"),
        ({"nope": 1}, ".nope: field not declared in schema"),
        ({"immutable": "yes"}, ".immutable: expected boolean, got &{yes}"),
    ],
)
def test_a_configuration_that_is_not_of_its_schema_is_refused(config: dict[str, Any], fault: str) -> None:
    with pytest.raises(ApiError) as refused:
        applied(CONFIG_MAP, None, {**config_map(), **config}, "ops")
    assert str(refused.value) == f"failed to create typed patch object (d/c; /v1, Kind=ConfigMap): {fault}"


def test_a_list_item_that_is_no_longer_applied_goes_with_its_defaults() -> None:
    live = applied(DEPLOYMENT, None, deployment(web="nginx", side="busybox"), "ops")
    for container in live["spec"]["template"]["spec"]["containers"]:
        container["imagePullPolicy"] = "Always"  # as defaulting would; nobody owns it
    obj = applied(DEPLOYMENT, live, deployment(web="nginx"), "ops")
    assert [c["name"] for c in obj["spec"]["template"]["spec"]["containers"]] == ["web"]


def test_two_managers_apply_items_of_one_list() -> None:
    live = applied(DEPLOYMENT, None, deployment(web="nginx"), "one")
    obj = applied(DEPLOYMENT, live, deployment(side="busybox"), "two")
    assert [c["name"] for c in obj["spec"]["template"]["spec"]["containers"]] == ["web", "side"]


def test_a_configuration_with_managed_fields_is_refused() -> None:
    config = config_map(a="1")
    config["metadata"]["managedFields"] = [{"manager": "x"}]
    with pytest.raises(BadRequest, match="managedFields must be nil"):
        applied(CONFIG_MAP, None, config, "ops")


def test_old_update_managers_are_merged_above_the_limit() -> None:
    obj = created(CONFIG_MAP, config_map(k0="0"), "m0")
    for i in range(1, 15):
        new = {**obj, "data": {**obj["data"], f"k{i}": "v"}}
        time = f"2026-01-01T00:01:{i:02d}Z"
        entries = managed.tracked(CONFIG_MAP, obj, new, manager=f"m{i}", time=time, api_version="v1")
        obj = {**new, "metadata": {**new["metadata"], "managedFields": entries}}
    names = [e["manager"] for e in obj["metadata"]["managedFields"]]
    assert len(names) == managed.MAX_UPDATE_MANAGERS
    assert managed.ANCIENT_CHANGES in names
    assert "f:k0" in fields_of(obj, managed.ANCIENT_CHANGES)["f:data"]
