"""The official Python client: typed and dynamic, watches, streams, and objects from YAML."""

from typing import Any

import pytest
from kubernetes import client, dynamic, utils
from kubernetes.stream import stream

from tests.clients.conftest import until

pytestmark = pytest.mark.slow


def deployment(name: str, replicas: int = 1) -> dict[str, Any]:
    labels = {"app": name}
    pod = {"containers": [{"name": "c", "image": "busybox"}]}
    template = {"metadata": {"labels": labels}, "spec": pod}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def test_a_deployment_is_made_watched_scaled_and_deleted(api: client.ApiClient, namespace: str) -> None:
    apps = client.AppsV1Api(api)
    made = apps.create_namespaced_deployment(namespace, deployment("web"))

    def has(replicas: int) -> Any:
        return until(
            apps.list_namespaced_deployment, lambda e: (e["object"].status.available_replicas or 0) == replicas, namespace
        )

    has(1)
    with pytest.raises(client.ApiException) as stale:
        apps.replace_namespaced_deployment("web", namespace, made)
    assert (stale.value.status, stale.value.reason) == (409, "Conflict")
    apps.patch_namespaced_deployment("web", namespace, {"metadata": {"labels": {"x": "y"}}})
    apps.patch_namespaced_deployment("web", namespace, [{"op": "add", "path": "/metadata/labels/z", "value": "1"}])
    apps.patch_namespaced_deployment_scale("web", namespace, {"spec": {"replicas": 2}})
    assert has(2).metadata.labels == {"x": "y", "z": "1"}
    apps.delete_namespaced_deployment("web", namespace)
    with pytest.raises(client.ApiException) as gone:
        apps.read_namespaced_deployment("web", namespace)
    assert gone.value.status == 404


def test_a_command_runs_in_a_pod(api: client.ApiClient, namespace: str) -> None:
    core = client.CoreV1Api(api)
    core.create_namespaced_pod(
        namespace, {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "busybox"}]}}
    )
    until(core.list_namespaced_pod, lambda e: e["object"].status.phase == "Running", namespace)
    connect = core.connect_get_namespaced_pod_exec
    assert stream(connect, "p", namespace, command=["echo", "hi"], stdout=True, stderr=True) == "hi\n"
    session = stream(connect, "p", namespace, command=["sh", "-c", "exit 3"], stdout=True, stderr=True, _preload_content=False)
    session.run_forever(timeout=10)
    assert session.returncode == 3


def test_objects_are_applied_by_the_dynamic_client(api: client.ApiClient, namespace: str, custom_kind: Any) -> None:
    custom_kind("toys", "dynamic.example.com", "Toy", {"type": "object", "properties": {"size": {"type": "integer"}}})
    found = dynamic.DynamicClient(api).resources.get(api_version="dynamic.example.com/v1", kind="Toy")
    toy = {"apiVersion": "dynamic.example.com/v1", "kind": "Toy", "metadata": {"name": "t"}, "spec": {"size": 1}}
    found.server_side_apply(body=toy, namespace=namespace, field_manager="one")
    conflicting = {**toy, "spec": {"size": 2}}
    with pytest.raises(dynamic.exceptions.ConflictError):
        found.server_side_apply(body=conflicting, namespace=namespace, field_manager="two")
    found.server_side_apply(body=conflicting, namespace=namespace, field_manager="two", force_conflicts=True)
    events = found.watch(namespace=namespace, timeout=10)
    assert next(iter(events))["object"].spec.size == 2
    custom = client.CustomObjectsApi(api)
    group = "dynamic.example.com"
    custom.patch_namespaced_custom_object_status(group, "v1", namespace, "toys", "t", {"status": {"ok": True}})
    assert found.get(name="t", namespace=namespace).status.ok is True


def test_objects_are_made_from_yaml(api: client.ApiClient, namespace: str) -> None:
    settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"a": "b"}}
    utils.create_from_yaml(api, yaml_objects=[settings, deployment("web", 0)], namespace=namespace)
    with pytest.raises(utils.FailToCreateError, match="Conflict"):
        utils.create_from_yaml(api, yaml_objects=[settings], namespace=namespace)
    assert client.CoreV1Api(api).read_namespaced_config_map("settings", namespace).data == {"a": "b"}
    assert client.AppsV1Api(api).read_namespaced_deployment("web", namespace).spec.replicas == 0


def test_every_list_is_read_by_the_typed_client(api: client.ApiClient) -> None:
    core = client.CoreV1Api(api)
    assert [node.metadata.name for node in core.list_node().items]
    assert core.list_namespace(limit=1).metadata._continue
    for listing in (
        core.list_service_for_all_namespaces,
        core.list_event_for_all_namespaces,
        client.RbacAuthorizationV1Api(api).list_cluster_role,
        client.FlowcontrolApiserverV1Api(api).list_flow_schema,
        client.CoordinationV1Api(api).list_lease_for_all_namespaces,
    ):
        assert listing().items, listing.__name__


def test_what_is_no_resource_is_found_where_the_generated_client_asks(api: client.ApiClient) -> None:
    assert client.VersionApi(api).get_code().git_version.startswith("v1.34.")
    assert "apps" in [group.name for group in client.ApisApi(api).get_api_versions().groups]
    assert client.WellKnownApi(api).get_service_account_issuer_open_id_configuration()
