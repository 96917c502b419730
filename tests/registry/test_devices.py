"""Dynamic resource allocation: who may reach devices that others use, what of a claim's state goes with its allocation."""

import pytest

from kubelite.meta import errors
from kubelite.meta.types import Obj
from kubelite.registry.strategies.devices import ADMIN_LABEL
from tests.registry.conftest import Cluster

CLAIMS = "resourceclaims.resource.k8s.io"
DEVICE = {"driver": "gpu.example.com", "pool": "p", "device": "d"}
RESULT = {**DEVICE, "request": "r"}


def claim(**exactly: bool) -> Obj:
    requests = [{"name": "r", "exactly": {"deviceClassName": "gpu", **exactly}}]
    return {"metadata": {"name": "claim", "namespace": "default"}, "spec": {"devices": {"requests": requests}}}


def allocation(**result: bool) -> Obj:
    return {"devices": {"results": [{**RESULT, **result}]}}


async def namespace(cluster: Cluster, **labels: str) -> None:
    await cluster.create("namespaces", {"metadata": {"name": "default", "labels": labels}})


async def test_devices_of_others_are_for_namespaces_that_say_so(cluster: Cluster) -> None:
    await namespace(cluster)
    with pytest.raises(errors.Invalid) as caught:
        await cluster.create(CLAIMS, claim(adminAccess=True))
    assert [cause.field for cause in caught.value.causes] == ["spec.devices.requests[0].adminAccess"]
    made = await cluster.create(CLAIMS, claim())
    with pytest.raises(errors.Invalid) as caught:
        await cluster.update(CLAIMS, {**made, "status": {"allocation": allocation(adminAccess=True)}}, subresource="status")
    assert [cause.field for cause in caught.value.causes] == ["status.allocation.devices.results[0].adminAccess"]


async def test_a_namespace_of_administrators_gets_devices_of_others(cluster: Cluster) -> None:
    await namespace(cluster, **{ADMIN_LABEL: "true"})
    made = await cluster.create(CLAIMS, claim(adminAccess=True))
    assert made["spec"]["devices"]["requests"][0]["exactly"]["adminAccess"] is True


async def test_the_state_of_a_device_goes_with_its_allocation(cluster: Cluster) -> None:
    await namespace(cluster)
    made = await cluster.create(CLAIMS, claim())
    status = {"allocation": allocation(), "devices": [DEVICE]}
    made = await cluster.update(CLAIMS, {**made, "status": status}, subresource="status")
    assert made["status"]["devices"] == [DEVICE]
    made = await cluster.update(CLAIMS, {**made, "status": {"devices": [DEVICE]}}, subresource="status")
    assert made["status"] == {}
