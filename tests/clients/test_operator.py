"""An operator written with kopf: handlers of creations, changes and deletions, a timer, finalizers and events."""

from pathlib import Path
from typing import Any

import pytest
from kopf.testing import KopfRunner
from kubernetes import client

from kubelite.testing.cluster import Cluster
from tests.clients.conftest import until

pytestmark = pytest.mark.slow
GROUP = "operator.example.com"


def test_an_operator_looks_after_its_objects(
    kubelite: Cluster, api: client.ApiClient, namespace: str, custom_kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    custom_kind("balloons", GROUP, "Balloon", {"type": "object", "properties": {"gas": {"type": "string"}}})
    monkeypatch.setenv("KUBECONFIG", str(kubelite.kubeconfig))
    custom = client.CustomObjectsApi(api)

    def until_status(fits: Any) -> Any:
        listing = custom.list_namespaced_custom_object
        return until(listing, lambda e: fits(e["object"].get("status") or {}), GROUP, "v1", namespace, "balloons")

    with KopfRunner(["run", "--namespace", namespace, str(Path(__file__).with_name("balloons.py"))], timeout=60) as runner:
        balloon = {"apiVersion": f"{GROUP}/v1", "kind": "Balloon", "metadata": {"name": "b"}, "spec": {"gas": "air"}}
        custom.create_namespaced_custom_object(GROUP, "v1", namespace, "balloons", balloon)
        found = until_status(lambda status: status.get("gas") == "air" and status.get("height", 0) > 1)
        assert found["metadata"]["finalizers"] == [f"{GROUP}/finalizer"]
        custom.patch_namespaced_custom_object(GROUP, "v1", namespace, "balloons", "b", {"spec": {"gas": "helium"}})
        until_status(lambda status: status.get("gas") == "helium after air")
        core = client.CoreV1Api(api)
        until(core.list_namespaced_event, lambda e: e["object"].message == "filled with air", namespace)
        custom.delete_namespaced_custom_object(GROUP, "v1", namespace, "balloons", "b")
        until(core.list_namespaced_event, lambda e: e["object"].reason == "Burst", namespace)
        since = found["metadata"]["resourceVersion"]
        listing = custom.list_namespaced_custom_object
        until(listing, lambda e: e["type"] == "DELETED", GROUP, "v1", namespace, "balloons", resource_version=since)
    assert runner.exit_code == 0
    assert runner.exception is None
