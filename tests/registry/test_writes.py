"""Create, update and patch."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from kubelite.meta import errors
from kubelite.meta.types import Obj
from kubelite.registry.contract import AllowAll, Attributes
from tests.registry.conftest import Cluster

Make = Callable[..., Obj]


async def test_a_created_object_gets_what_the_server_gives(cluster: Cluster, config_map: Make) -> None:
    made = await cluster.create("configmaps", config_map())
    meta = made["metadata"]
    assert meta["namespace"] == "default"
    assert len(meta["uid"]) == 36
    assert meta["creationTimestamp"].endswith("Z")
    assert made == await cluster.get("configmaps", "settings")


async def test_the_stored_bytes_hold_their_own_revision(cluster: Cluster, config_map: Make) -> None:
    made = await cluster.create("configmaps", config_map())
    entry = await cluster.registry.get(cluster.target("configmaps", "settings"))
    assert f'"resourceVersion":"{entry.revision}"'.encode() in entry.value
    assert made["metadata"]["resourceVersion"] == str(entry.revision)


async def test_what_a_client_sends_of_system_metadata_is_dropped(cluster: Cluster, config_map: Make) -> None:
    sent = config_map(metadata={"uid": "mine", "creationTimestamp": "2001-01-01T00:00:00Z", "selfLink": "/x"})
    made = await cluster.create("configmaps", sent)
    assert made["metadata"]["uid"] != "mine"
    assert "selfLink" not in made["metadata"]
    assert made["metadata"]["creationTimestamp"] > "2002"


async def test_the_object_that_was_sent_is_not_changed(cluster: Cluster, deployment: Make) -> None:
    sent, same = deployment(), deployment()
    await cluster.create("deployments.apps", sent)
    assert sent == same


async def test_a_second_create_of_a_name_already_exists(cluster: Cluster, config_map: Make) -> None:
    await cluster.create("configmaps", config_map())
    with pytest.raises(errors.AlreadyExists, match=r'^configmaps "settings" already exists$'):
        await cluster.create("configmaps", config_map())


async def test_a_resource_version_must_not_be_set_on_create(cluster: Cluster, config_map: Make) -> None:
    with pytest.raises(errors.ApiError, match=r"resourceVersion should not be set on objects to be created"):
        await cluster.create("configmaps", config_map(metadata={"resourceVersion": "7"}))


async def test_another_namespace_than_the_requests_is_refused(cluster: Cluster, config_map: Make) -> None:
    target = cluster.target("configmaps")
    with pytest.raises(errors.BadRequest, match=r"the namespace of the provided object does not match the namespace sent on"):
        await cluster.registry.create(target, config_map(metadata={"namespace": "other"}), cluster.options())


async def test_names_are_generated_from_a_base(cluster: Cluster, pod: Make) -> None:
    sent = pod()
    sent["metadata"] = {"generateName": "web-"}
    first, second = await cluster.create("pods", sent), await cluster.create("pods", sent)
    assert first["metadata"]["name"].startswith("web-")
    assert first["metadata"]["name"] != second["metadata"]["name"]
    assert len(first["metadata"]["name"]) == len("web-") + 5


async def test_an_object_without_a_name_is_invalid(cluster: Cluster) -> None:
    with pytest.raises(errors.Invalid) as caught:
        await cluster.create("configmaps", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}})
    assert caught.value.message == ('ConfigMap "" is invalid: metadata.name: Required value: name or generateName is required')
    assert caught.value.status()["details"]["causes"] == [
        {
            "reason": "FieldValueRequired",
            "message": "Required value: name or generateName is required",
            "field": "metadata.name",
        }
    ]


async def test_a_name_that_is_no_subdomain_is_invalid(cluster: Cluster, config_map: Make) -> None:
    with pytest.raises(errors.Invalid, match=r'metadata.name: Invalid value: "Bad_Name": a lowercase RFC 1123 subdomain'):
        await cluster.create("configmaps", config_map("Bad_Name"))


async def test_labels_and_annotations_are_checked(cluster: Cluster, config_map: Make) -> None:
    with pytest.raises(errors.Invalid) as caught:
        await cluster.create("configmaps", config_map(metadata={"labels": {"a/b/c": "x", "ok": "no spaces"}}))
    assert [cause.field for cause in caught.value.causes] == ["metadata.labels", "metadata.labels"]
    big = {"note": "x" * (256 * 1024 + 1)}
    with pytest.raises(errors.Invalid, match=r"metadata.annotations: Too long: may not be more than 262144 bytes"):
        await cluster.create("configmaps", config_map(metadata={"annotations": big}))


async def test_unknown_fields_are_dropped_with_a_warning(cluster: Cluster, deployment: Make) -> None:
    made = await cluster.create("deployments.apps", deployment(foo=1))
    assert "foo" not in made["spec"]
    assert cluster.warnings == ['unknown field "spec.foo"']


async def test_strict_validation_refuses_unknown_fields(cluster: Cluster, deployment: Make) -> None:
    with pytest.raises(errors.BadRequest) as caught:
        await cluster.create("deployments.apps", deployment(foo=1), field_validation="Strict")
    assert caught.value.message == (
        'Deployment in version "v1" cannot be handled as a Deployment: strict decoding error: unknown field "spec.foo"'
    )


async def test_ignored_validation_drops_unknown_fields_without_a_word(cluster: Cluster, deployment: Make) -> None:
    made = await cluster.create("deployments.apps", deployment(foo=1), field_validation="Ignore")
    assert "foo" not in made["spec"]
    assert cluster.warnings == []


async def test_a_dry_run_writes_nothing(cluster: Cluster, config_map: Make) -> None:
    made = await cluster.create("configmaps", config_map(), dry_run=True)
    assert made["metadata"]["uid"]
    with pytest.raises(errors.NotFound):
        await cluster.get("configmaps", "settings")


async def test_nulls_count_as_absent(cluster: Cluster, config_map: Make) -> None:
    made = await cluster.create("configmaps", config_map(metadata={"labels": None, "creationTimestamp": None}, immutable=None))
    assert "immutable" not in made
    assert "labels" not in made["metadata"]


async def test_an_update_with_a_stale_version_conflicts(cluster: Cluster, config_map: Make) -> None:
    made = await cluster.create("configmaps", config_map())
    await cluster.update("configmaps", {**made, "data": {"a": "2"}})
    with pytest.raises(errors.Conflict) as caught:
        await cluster.update("configmaps", {**made, "data": {"a": "3"}})
    assert caught.value.message == (
        'Operation cannot be fulfilled on configmaps "settings": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )


async def test_an_update_without_a_version_is_unconditional(cluster: Cluster, config_map: Make) -> None:
    made = await cluster.create("configmaps", config_map())
    updated = await cluster.update("configmaps", config_map(data={"a": "2"}))
    assert updated["data"] == {"a": "2"}
    assert updated["metadata"]["uid"] == made["metadata"]["uid"]
    assert updated["metadata"]["creationTimestamp"] == made["metadata"]["creationTimestamp"]


async def test_leases_must_be_updated_with_a_version(cluster: Cluster) -> None:
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"}, "spec": {}}
    await cluster.create("leases.coordination.k8s.io", lease)
    with pytest.raises(errors.Invalid, match=r"metadata.resourceVersion: Invalid value: 0: must be specified for an update"):
        await cluster.update("leases.coordination.k8s.io", lease)


async def test_an_update_that_changes_nothing_is_not_written(cluster: Cluster, config_map: Make) -> None:
    made = await cluster.create("configmaps", config_map())
    before = cluster.registry.store.revision
    same = await cluster.update("configmaps", config_map())
    assert same["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    assert cluster.registry.store.revision == before


async def test_updates_under_contention_all_happen(cluster: Cluster, config_map: Make) -> None:
    await cluster.create("configmaps", config_map())
    patches = [cluster.patch("configmaps", "settings", b'{"data":{"k%d":"v"}}' % n) for n in range(40)]
    await asyncio.gather(*patches)
    assert len((await cluster.get("configmaps", "settings"))["data"]) == 41


async def test_an_update_of_another_uid_conflicts(cluster: Cluster, config_map: Make) -> None:
    made = await cluster.create("configmaps", config_map())
    with pytest.raises(errors.Conflict, match=r"Precondition failed: UID in precondition: other, UID in object meta: "):
        await cluster.update("configmaps", {**made, "metadata": {**made["metadata"], "uid": "other"}})


async def test_put_creates_where_the_kind_allows_it(cluster: Cluster, config_map: Make) -> None:
    endpoints = {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "e"}}
    _, created = await cluster.registry.update(cluster.target("endpoints", "e"), endpoints, cluster.options())
    assert created
    with pytest.raises(errors.NotFound, match=r'configmaps "settings" not found'):
        await cluster.update("configmaps", config_map())


async def test_the_name_in_the_url_must_be_the_objects(cluster: Cluster, config_map: Make) -> None:
    with pytest.raises(errors.BadRequest, match=r"the name of the object \(settings\) does not match the name on the URL"):
        await cluster.registry.update(cluster.target("configmaps", "other"), config_map(), cluster.options())


async def test_the_generation_counts_changes_of_the_spec(cluster: Cluster, deployment: Make) -> None:
    made = await cluster.create("deployments.apps", deployment())
    assert made["metadata"]["generation"] == 1
    labelled = await cluster.patch("deployments.apps", "web", b'{"metadata":{"labels":{"x":"y"}}}')
    assert labelled["metadata"]["generation"] == 1
    scaled = await cluster.patch("deployments.apps", "web", b'{"spec":{"replicas":3}}')
    assert scaled["metadata"]["generation"] == 2


async def test_a_main_update_keeps_the_status_and_a_status_update_the_spec(cluster: Cluster, deployment: Make) -> None:
    made = await cluster.create("deployments.apps", {**deployment(), "status": {"replicas": 9}})
    assert made["status"] == {}
    made = await cluster.update(
        "deployments.apps", {**made, "spec": {**made["spec"], "replicas": 7}, "status": {"replicas": 2}}, subresource="status"
    )
    assert made["status"] == {"replicas": 2}
    assert made["spec"]["replicas"] == 1
    assert made["metadata"]["generation"] == 1
    made = await cluster.update("deployments.apps", {**made, "spec": {**made["spec"], "replicas": 7}, "status": {}})
    assert made["status"] == {"replicas": 2}
    assert made["spec"]["replicas"] == 7


async def test_a_json_patch_changes_one_place(cluster: Cluster, deployment: Make) -> None:
    await cluster.create("deployments.apps", deployment())
    made = await cluster.patch("deployments.apps", "web", b'[{"op":"replace","path":"/spec/replicas","value":4}]', "json")
    assert made["spec"]["replicas"] == 4


async def test_a_strategic_patch_merges_containers_by_name(cluster: Cluster, deployment: Make) -> None:
    await cluster.create("deployments.apps", deployment())
    patch = b'{"spec":{"template":{"spec":{"containers":[{"name":"side","image":"side:1"}]}}}}'
    made = await cluster.patch("deployments.apps", "web", patch, "strategic")
    assert {c["name"] for c in made["spec"]["template"]["spec"]["containers"]} == {"web", "side"}


async def test_a_patch_leaves_the_stored_object_alone(cluster: Cluster, deployment: Make) -> None:
    before = await cluster.create("deployments.apps", deployment())
    copy = {**before, "spec": {**before["spec"]}}
    await cluster.patch("deployments.apps", "web", b'{"spec":{"template":{"spec":{"hostNetwork":true}}}}', "strategic")
    assert before == copy
    assert "hostNetwork" not in before["spec"]["template"]["spec"]


async def test_a_patch_with_a_stale_version_conflicts(cluster: Cluster, config_map: Make) -> None:
    await cluster.create("configmaps", config_map())
    with pytest.raises(errors.Conflict):
        await cluster.patch("configmaps", "settings", b'{"metadata":{"resourceVersion":"1"},"data":{"b":"2"}}')


async def test_a_patch_cannot_rename(cluster: Cluster, config_map: Make) -> None:
    await cluster.create("configmaps", config_map())
    with pytest.raises(errors.BadRequest, match=r"does not match the name on the URL"):
        await cluster.patch("configmaps", "settings", b'{"metadata":{"name":"other"}}')


async def test_what_never_changes_cannot_be_changed(cluster: Cluster, config_map: Make) -> None:
    await cluster.create("configmaps", config_map())
    with pytest.raises(errors.Invalid, match=r"metadata.uid: Invalid value: .*: field is immutable"):
        await cluster.patch("configmaps", "settings", b'{"metadata":{"uid":"other"}}')


async def test_apply_creates_then_owns_its_fields(cluster: Cluster, config_map: Make) -> None:
    body = b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"settings"},"data":{"a":"1"}}'
    made = await cluster.patch("configmaps", "settings", body, "apply")
    assert made["data"] == {"a": "1"}
    [entry] = made["metadata"]["managedFields"]
    assert (entry["manager"], entry["operation"]) == ("test", "Apply")
    without = b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"settings"},"data":{"b":"2"}}'
    assert (await cluster.patch("configmaps", "settings", without, "apply"))["data"] == {"b": "2"}


async def test_apply_of_the_same_twice_writes_once(cluster: Cluster) -> None:
    body = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {a: '1'}\n"
    first = await cluster.patch("configmaps", "settings", body, "apply")
    second = await cluster.patch("configmaps", "settings", body, "apply")
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


async def test_a_missing_required_text_and_a_wrong_enum_are_named(cluster: Cluster) -> None:
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": "i"},
        "spec": {"rules": [{"http": {"paths": [{"path": "/", "pathType": "Fuzzy", "backend": {"service": {}}}]}}]},
    }
    with pytest.raises(errors.Invalid) as caught:
        await cluster.create("ingresses.networking.k8s.io", policy)
    causes = {cause.field: cause.reason for cause in caught.value.causes}
    assert causes["spec.rules[0].http.paths[0].pathType"] == "FieldValueNotSupported"


class Mutating(AllowAll):
    """Adds a label, and keeps what it saw."""

    def __init__(self) -> None:
        self.seen: list[Attributes] = []

    async def mutate(self, attributes: Attributes) -> Obj | None:
        obj = attributes.obj
        if obj is None:
            return None
        meta: dict[str, Any] = {**obj["metadata"], "labels": {"mutated": "yes"}}
        return {**obj, "metadata": meta}

    async def validate(self, attributes: Attributes) -> None:
        self.seen.append(attributes)


async def test_cve_2021_25735_admission_sees_the_true_old_object(cluster: Cluster, config_map: Make) -> None:
    admission = cluster.registry.admission = Mutating()
    made = await cluster.create("configmaps", config_map())
    assert made["metadata"]["labels"] == {"mutated": "yes"}
    await cluster.patch("configmaps", "settings", b'{"data":{"a":"2"}}')
    created, updated = admission.seen
    assert (created.operation, created.old) == ("CREATE", None)
    assert updated.operation == "UPDATE"
    assert updated.old is not None
    assert updated.old["data"] == {"a": "1"}
    assert updated.obj is not None
    assert updated.obj["data"] == {"a": "2"}


async def test_a_sealed_config_map_cannot_be_changed(cluster: Cluster, config_map: Make) -> None:
    await cluster.create("configmaps", config_map(immutable=True))
    with pytest.raises(errors.Invalid, match=r"data: Forbidden: field is immutable when `immutable` is set"):
        await cluster.patch("configmaps", "settings", b'{"data":{"a":"2"}}')


async def test_texts_of_a_secret_become_data(cluster: Cluster) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"user": "me"}}
    made = await cluster.create("secrets", secret)
    assert made["data"] == {"user": "bWU="}
    assert "stringData" not in made
    assert made["type"] == "Opaque"


async def test_what_a_create_sets_is_managed_as_in_kubernetes(cluster: Cluster, deployment: Make) -> None:
    made = await cluster.create("deployments.apps", {**deployment(), "metadata": {"name": "web", "labels": {"app": "web"}}})
    [entry] = made["metadata"]["managedFields"]
    fields = entry["fieldsV1"]
    assert (entry["manager"], entry["operation"], entry["apiVersion"]) == ("test", "Update", "apps/v1")
    assert fields["f:metadata"] == {"f:labels": {".": {}, "f:app": {}}}
    assert "f:status" not in fields
    spec = fields["f:spec"]
    assert spec["f:selector"] == {}
    assert spec["f:strategy"] == {"f:rollingUpdate": {".": {}, "f:maxSurge": {}, "f:maxUnavailable": {}}, "f:type": {}}
    assert spec["f:template"]["f:metadata"] == {"f:labels": {".": {}, "f:app": {}}}
    assert {".", "f:image"} <= spec["f:template"]["f:spec"]["f:containers"]['k:{"name":"web"}'].keys()


async def test_the_status_of_a_deployment_carries_annotations_without_counting_a_generation(
    cluster: Cluster, deployment: Make
) -> None:
    await cluster.create("deployments.apps", deployment())
    patch = b'{"metadata":{"annotations":{"deployment.kubernetes.io/revision":"1"},"labels":{"no":"no"}}}'
    made = await cluster.patch("deployments.apps", "web", patch, subresource="status")
    assert made["metadata"]["annotations"] == {"deployment.kubernetes.io/revision": "1"}
    assert made["metadata"]["generation"] == 1
    assert "labels" not in made["metadata"]
    counted = await cluster.patch("deployments.apps", "web", b'{"metadata":{"annotations":{"a":"b"}}}')
    assert counted["metadata"]["generation"] == 2


class Forging(AllowAll):
    """Changes the old object that it is shown a copy of, and asks for a stale one."""

    def __init__(self) -> None:
        self.old: list[Any] = []

    async def mutate(self, attributes: Attributes) -> Obj | None:
        if attributes.old is not None:
            self.old.append(attributes.old["data"])
        await asyncio.sleep(0)  # lets other writes in between
        return attributes.obj


async def test_an_update_that_was_overtaken_is_admitted_again_with_what_is_there(cluster: Cluster, config_map: Make) -> None:
    await cluster.create("configmaps", config_map())
    admission = cluster.registry.admission = Forging()
    await asyncio.gather(
        cluster.patch("configmaps", "settings", b'{"data":{"x":"1"}}'),
        cluster.patch("configmaps", "settings", b'{"data":{"y":"1"}}'),
    )
    assert (await cluster.get("configmaps", "settings"))["data"] == {"a": "1", "x": "1", "y": "1"}
    assert len(admission.old) >= 3
    assert admission.old[-1] != {"a": "1"}


async def test_a_cancelled_create_is_still_written(cluster: Cluster, config_map: Make) -> None:
    task = asyncio.create_task(cluster.create("configmaps", config_map()))
    while cluster.registry.store.newest("/configmaps/default/settings") is None:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(30):
        while cluster.registry.store.get("/configmaps/default/settings") is None:
            await asyncio.sleep(0)


async def test_readers_never_see_what_is_not_durable(cluster: Cluster, config_map: Make) -> None:
    made = await cluster.create("configmaps", config_map())
    task = asyncio.create_task(cluster.patch("configmaps", "settings", b'{"data":{"a":"2"}}'))
    while cluster.registry.store.newest("/configmaps/default/settings").revision == int(  # type: ignore[union-attr]
        made["metadata"]["resourceVersion"]
    ):
        await asyncio.sleep(0)
    assert (await cluster.get("configmaps", "settings"))["data"] == {"a": "1"}
    await task
    assert (await cluster.get("configmaps", "settings"))["data"] == {"a": "2"}
