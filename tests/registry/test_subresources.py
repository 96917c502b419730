"""Scale, bindings, evictions, approvals and the other subresources."""

import base64
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kubelite.meta import errors
from kubelite.meta.types import Obj
from tests.registry.conftest import Cluster

Make = Callable[..., Obj]


def signing_request() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ann")])
    made = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return base64.b64encode(made.public_bytes(serialization.Encoding.PEM)).decode()


async def test_a_deployment_is_scaled(cluster: Cluster, deployment: Make) -> None:
    await cluster.create("deployments.apps", deployment())
    scale = await cluster.get("deployments.apps", "web", subresource="scale")
    assert (scale["apiVersion"], scale["kind"]) == ("autoscaling/v1", "Scale")
    assert scale["spec"] == {"replicas": 1}
    assert scale["status"] == {"replicas": 0, "selector": "app=web"}
    scaled = await cluster.update("deployments.apps", {**scale, "spec": {"replicas": 5}}, subresource="scale")
    assert scaled["spec"] == {"replicas": 5}
    obj = await cluster.get("deployments.apps", "web")
    assert (obj["spec"]["replicas"], obj["metadata"]["generation"]) == (5, 2)
    with pytest.raises(errors.Conflict):
        await cluster.update("deployments.apps", {**scale, "spec": {"replicas": 6}}, subresource="scale")


async def test_a_scale_can_be_patched(cluster: Cluster, deployment: Make) -> None:
    await cluster.create("deployments.apps", deployment())
    scaled = await cluster.patch("deployments.apps", "web", b'{"spec":{"replicas":0}}', subresource="scale")
    assert scaled["spec"] == {}
    assert (await cluster.get("deployments.apps", "web"))["spec"]["replicas"] == 0


async def test_a_negative_scale_is_invalid(cluster: Cluster, deployment: Make) -> None:
    await cluster.create("deployments.apps", deployment())
    with pytest.raises(errors.Invalid) as caught:
        await cluster.patch("deployments.apps", "web", b'{"spec":{"replicas":-1}}', subresource="scale")
    assert caught.value.message == (
        'Scale.autoscaling "web" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0'
    )


def binding(name: str = "web", node: str = "n1", **meta: Any) -> Obj:
    target = {"kind": "Node", "name": node}
    return {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name, **meta}, "target": target}


async def test_a_binding_gives_a_pod_its_node(cluster: Cluster, pod: Make) -> None:
    made = await cluster.create("pods", pod())
    body = binding(uid=made["metadata"]["uid"], annotations={"by": "test"})
    status = await cluster.create("pods", body, name="web", subresource="binding")
    assert (status["kind"], status["status"]) == ("Status", "Success")
    bound = await cluster.get("pods", "web")
    assert bound["spec"]["nodeName"] == "n1"
    assert bound["metadata"]["annotations"] == {"by": "test"}
    [condition] = bound["status"]["conditions"]
    assert (condition["type"], condition["status"]) == ("PodScheduled", "True")
    with pytest.raises(errors.Conflict) as caught:
        await cluster.create("pods", binding(node="n2"), name="web", subresource="binding")
    assert caught.value.message == (
        'Operation cannot be fulfilled on pods/binding "web": pod web is already assigned to node "n1"'
    )


async def test_the_old_bindings_resource_binds_too(cluster: Cluster, pod: Make) -> None:
    await cluster.create("pods", pod())
    await cluster.create("bindings", binding())
    assert (await cluster.get("pods", "web"))["spec"]["nodeName"] == "n1"


async def test_a_gated_pod_is_not_bound(cluster: Cluster, pod: Make) -> None:
    made = await cluster.create("pods", pod(schedulingGates=[{"name": "x.io/wait"}]))
    assert made["status"]["conditions"][0]["reason"] == "SchedulingGated"
    with pytest.raises(errors.Conflict, match=r"pod web has non-empty .spec.schedulingGates"):
        await cluster.create("pods", binding(), name="web", subresource="binding")


def eviction(name: str = "web") -> Obj:
    return {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}


async def running(cluster: Cluster, pod: Obj) -> None:
    made = await cluster.create("pods", {**pod, "spec": {**pod["spec"], "nodeName": "n1"}})
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    status = {"phase": "Running", "conditions": [ready]}
    await cluster.update("pods", {**made, "status": status}, subresource="status")


def budget(**status: Any) -> Obj:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "b"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}},
        "status": status,
    }


async def with_budget(cluster: Cluster, allowed: int) -> None:
    made = await cluster.create("poddisruptionbudgets.policy", budget())
    status = {
        "currentHealthy": 1,
        "desiredHealthy": 1,
        "expectedPods": 1,
        "disruptionsAllowed": allowed,
        "observedGeneration": 1,
    }
    await cluster.update("poddisruptionbudgets.policy", {**made, "status": status}, subresource="status")


async def test_an_eviction_deletes_a_pod_that_no_budget_guards(cluster: Cluster, pod: Make) -> None:
    await running(cluster, pod())
    await cluster.create("pods", eviction(), name="web", subresource="eviction")
    evicted = await cluster.get("pods", "web")
    assert "deletionTimestamp" in evicted["metadata"]
    assert evicted["status"]["conditions"][-1]["reason"] == "EvictionByEvictionAPI"


async def test_a_budget_refuses_then_allows_an_eviction(cluster: Cluster, pod: Make) -> None:
    guarded = pod()
    guarded["metadata"]["labels"] = {"app": "web"}
    await running(cluster, guarded)
    await with_budget(cluster, 0)
    with pytest.raises(errors.TooManyRequests) as caught:
        await cluster.create("pods", eviction(), name="web", subresource="eviction")
    assert caught.value.message == "Cannot evict pod as it would violate the pod's disruption budget."
    assert caught.value.causes[0].message == "The disruption budget b needs 1 healthy pods and has 1 currently"
    await cluster.patch("poddisruptionbudgets.policy", "b", b'{"status":{"disruptionsAllowed":1}}', subresource="status")
    await cluster.create("pods", eviction(), name="web", subresource="eviction")
    status = (await cluster.get("poddisruptionbudgets.policy", "b"))["status"]
    assert status["disruptionsAllowed"] == 0
    assert list(status["disruptedPods"]) == ["web"]
    assert "deletionTimestamp" in (await cluster.get("pods", "web"))["metadata"]


async def test_a_dry_run_evicts_nothing(cluster: Cluster, pod: Make) -> None:
    await running(cluster, pod())
    await cluster.create("pods", eviction(), name="web", subresource="eviction", dry_run=True)
    assert "deletionTimestamp" not in (await cluster.get("pods", "web"))["metadata"]


async def test_ephemeral_containers_are_added_and_nothing_else_changes(cluster: Cluster, pod: Make) -> None:
    made = await cluster.create("pods", pod())
    debug = {"name": "debug", "image": "debug:1"}
    spec = {**made["spec"], "ephemeralContainers": [debug], "priority": 7}
    changed = await cluster.update("pods", {**made, "spec": spec}, subresource="ephemeralcontainers")
    assert changed["spec"]["ephemeralContainers"][0]["name"] == "debug"
    assert "priority" not in changed["spec"]
    assert changed["metadata"]["generation"] == 2


async def test_a_resize_changes_resources_only(cluster: Cluster, pod: Make) -> None:
    made = pod()
    made["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "50m"}}
    await cluster.create("pods", made)
    patch = b'{"spec":{"containers":[{"name":"web","image":"other","resources":{"requests":{"cpu":"100m"}}}]}}'
    changed = await cluster.patch("pods", "web", patch, "strategic", subresource="resize")
    [container] = changed["spec"]["containers"]
    assert (container["image"], container["resources"]) == ("web:1", {"requests": {"cpu": "100m"}})


async def test_a_resize_keeps_the_quality_of_service(cluster: Cluster, pod: Make) -> None:
    await cluster.create("pods", pod())
    patch = b'{"spec":{"containers":[{"name":"web","resources":{"requests":{"cpu":"100m"}}}]}}'
    with pytest.raises(errors.Invalid, match="Pod QOS Class may not change"):
        await cluster.patch("pods", "web", patch, "strategic", subresource="resize")


async def test_the_spec_of_a_pod_does_not_change(cluster: Cluster, pod: Make) -> None:
    await cluster.create("pods", pod())
    with pytest.raises(errors.Invalid, match=r"spec: Forbidden: pod updates may not change fields other than"):
        await cluster.patch("pods", "web", b'{"spec":{"hostNetwork":true}}')
    changed = await cluster.patch("pods", "web", b'[{"op":"replace","path":"/spec/containers/0/image","value":"x"}]', "json")
    assert changed["spec"]["containers"][0]["image"] == "x"


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, "BestEffort"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "1Gi"}}, "Burstable"),
    ],
)
async def test_a_pods_quality_of_service(cluster: Cluster, pod: Make, resources: Obj, expected: str) -> None:
    made = await cluster.create("pods", pod(containers=[{"name": "c", "image": "i", "resources": resources}]))
    assert made["status"] == {"phase": "Pending", "qosClass": expected}


async def test_only_approval_approves_a_signing_request(cluster: Cluster) -> None:
    request = {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": "csr"},
        "spec": {"request": signing_request(), "signerName": "example.com/x", "usages": ["client auth"], "username": "forged"},
    }
    made = await cluster.create("certificatesigningrequests.certificates.k8s.io", request)
    assert made["spec"]["username"] == "system:apiserver"
    approved = {**made, "status": {"conditions": [{"type": "Approved", "status": "True", "reason": "Tested"}]}}
    kept = await cluster.update("certificatesigningrequests.certificates.k8s.io", approved)
    assert not kept["status"].get("conditions")
    done = await cluster.update("certificatesigningrequests.certificates.k8s.io", approved, subresource="approval")
    [condition] = done["status"]["conditions"]
    assert condition["type"] == "Approved"
    assert condition["lastTransitionTime"].endswith("Z")
