from typing import Any

from kubelite.controllers import statefulpods
from kubelite.controllers.statefulsets import StatefulSets
from kubelite.controllers.volumeprotection import ClaimProtection
from kubelite.meta.types import Obj
from tests.controllers.conftest import Cluster, workload

RESOURCE = "statefulsets.apps"


def claim_template(name: str = "data") -> Obj:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return {"metadata": {"name": name}, "spec": spec}


async def create(cluster: Cluster, **spec: Any) -> Obj:
    return await cluster.client.create(RESOURCE, workload("StatefulSet", serviceName="web", **spec))


async def run(cluster: Cluster, name: str, *, ready: bool = True) -> None:
    pod = await cluster.until(lambda: cluster.get("pods", name), f"pod {name}")
    if not pod["spec"].get("nodeName"):
        await cluster.bind(pod)
    await cluster.set_pod(pod, ready=ready)


async def names(cluster: Cluster) -> list[str]:
    return sorted(p["metadata"]["name"] for p in await cluster.list("pods"))


async def end(cluster: Cluster, name: str) -> None:
    """Waits until the pod is being deleted, and ends it as a node would."""

    async def going() -> bool:
        found = await cluster.get("pods", name)
        return found is not None and "deletionTimestamp" in found["metadata"]

    await cluster.until(going, f"{name} to be deleted")
    await cluster.client.delete("pods", name, "default", grace_period_s=0)


async def test_pods_are_made_in_order_each_after_the_one_before_is_ready(cluster: Cluster) -> None:
    cluster.start(StatefulSets)
    await create(cluster, replicas=3, volumeClaimTemplates=[claim_template()])
    await cluster.until_count("pods", 1)
    await run(cluster, "web-0", ready=False)
    await cluster.until_status(RESOURCE, "web", replicas=1)
    assert await names(cluster) == ["web-0"]
    await run(cluster, "web-0")
    await run(cluster, "web-1")
    await run(cluster, "web-2")
    found = await cluster.until_status(RESOURCE, "web", replicas=3, readyReplicas=3, availableReplicas=3, updatedReplicas=3)
    assert found["status"]["currentRevision"] == found["status"]["updateRevision"]
    assert found["status"]["observedGeneration"] == 1 and found["status"]["collisionCount"] == 0
    pod = await cluster.get("pods", "web-1")
    assert pod is not None
    labels = pod["metadata"]["labels"]
    assert labels[statefulpods.NAME_LABEL] == "web-1" and labels[statefulpods.INDEX_LABEL] == "1"
    assert labels[statefulpods.REVISION_LABEL] == found["status"]["currentRevision"]
    assert (pod["spec"]["hostname"], pod["spec"]["subdomain"]) == ("web-1", "web")
    assert {"name": "data", "persistentVolumeClaim": {"claimName": "data-web-1"}} in pod["spec"]["volumes"]
    claims = await cluster.list("persistentvolumeclaims")
    assert sorted(c["metadata"]["name"] for c in claims) == ["data-web-0", "data-web-1", "data-web-2"]
    assert claims[0]["metadata"]["labels"] == {"app": "web"}


async def test_pods_go_in_reverse_order_one_at_a_time(cluster: Cluster) -> None:
    cluster.start(StatefulSets)
    await create(cluster, replicas=3)
    for index in range(3):
        await run(cluster, f"web-{index}")
    await cluster.until_status(RESOURCE, "web", readyReplicas=3)
    await cluster.client.patch(RESOURCE, "web", "default", {"spec": {"replicas": 1}})
    await end(cluster, "web-2")
    await end(cluster, "web-1")
    await cluster.until_status(RESOURCE, "web", replicas=1)
    assert await names(cluster) == ["web-0"]


async def test_a_parallel_set_does_not_wait(cluster: Cluster) -> None:
    cluster.start(StatefulSets)
    await create(cluster, replicas=3, podManagementPolicy="Parallel", ordinals={"start": 5})
    await cluster.until_count("pods", 3)
    assert await names(cluster) == ["web-5", "web-6", "web-7"]


async def test_a_rolling_update_goes_down_to_the_partition(cluster: Cluster) -> None:
    cluster.start(StatefulSets)
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}
    await create(cluster, replicas=3, updateStrategy=strategy)
    for index in range(3):
        await run(cluster, f"web-{index}")
    before = await cluster.until_status(RESOURCE, "web", readyReplicas=3)
    old = before["status"]["currentRevision"]
    change: Obj = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "web:2"}]}}}}
    await cluster.client.patch(RESOURCE, "web", "default", change, form="strategic")
    for name in ("web-2", "web-1"):
        await end(cluster, name)

        async def anew(name: str = name) -> bool:
            found = await cluster.get("pods", name)
            return found is not None and statefulpods.revision_of(found) != old

        await cluster.until(anew, f"{name} of the new revision")
        await run(cluster, name)
    found = await cluster.until_status(RESOURCE, "web", updatedReplicas=2, currentReplicas=1, readyReplicas=3)
    assert found["status"]["currentRevision"] == old != found["status"]["updateRevision"]
    # A pod below the partition that is lost comes back in its old form.
    await cluster.client.delete("pods", "web-0", "default", grace_period_s=0)

    async def back() -> bool:
        pod = await cluster.get("pods", "web-0")
        return pod is not None and "deletionTimestamp" not in pod["metadata"]

    await cluster.until(back)
    pod = await cluster.get("pods", "web-0")
    assert pod is not None and statefulpods.revision_of(pod) == old
    await run(cluster, "web-0")
    await cluster.client.patch(RESOURCE, "web", "default", {"spec": {"updateStrategy": {"rollingUpdate": {"partition": 0}}}})
    await end(cluster, "web-0")
    await run(cluster, "web-0")
    done = await cluster.until_status(RESOURCE, "web", updatedReplicas=3, currentReplicas=3, readyReplicas=3)
    assert done["status"]["currentRevision"] == done["status"]["updateRevision"] != old


async def test_a_failed_pod_is_made_anew(cluster: Cluster) -> None:
    cluster.start(StatefulSets)
    await create(cluster, replicas=1)
    await run(cluster, "web-0")
    pod = await cluster.get("pods", "web-0")
    assert pod is not None
    await cluster.set_pod(pod, "Failed", ready=False)

    async def anew() -> bool:
        found = await cluster.get("pods", "web-0")
        return found is not None and found["metadata"]["uid"] != pod["metadata"]["uid"]

    await cluster.until(anew)

    async def told() -> bool:
        return {"SuccessfulCreate", "SuccessfulDelete"} <= set(await cluster.reasons("web"))

    await cluster.until(told)


async def test_claims_belong_to_the_set_or_the_pod_as_the_retention_policy_says(cluster: Cluster) -> None:
    cluster.start(StatefulSets, ClaimProtection)
    policy = {"whenDeleted": "Delete", "whenScaled": "Delete"}
    await create(cluster, replicas=2, volumeClaimTemplates=[claim_template()], persistentVolumeClaimRetentionPolicy=policy)
    await run(cluster, "web-0")
    await run(cluster, "web-1")

    async def owner_of(name: str) -> list[str]:
        claim = await cluster.get("persistentvolumeclaims", name)
        return [r["kind"] for r in (claim or {}).get("metadata", {}).get("ownerReferences") or ()]

    async def owned_by_set() -> bool:
        return await owner_of("data-web-0") == await owner_of("data-web-1") == ["StatefulSet"]

    await cluster.until(owned_by_set)
    await cluster.client.patch(RESOURCE, "web", "default", {"spec": {"replicas": 1}})

    async def owned_by_pod() -> bool:
        return await owner_of("data-web-1") == ["Pod"] and await owner_of("data-web-0") == ["StatefulSet"]

    await cluster.until(owned_by_pod)


def test_a_pod_belongs_to_a_set_by_its_name() -> None:
    owner = {"metadata": {"name": "web"}, "spec": {"replicas": 2, "ordinals": {"start": 3}}}

    def ordinal(name: str) -> int:
        return statefulpods.ordinal_of(owner, {"metadata": {"name": name}})

    assert [ordinal(n) for n in ("web-0", "web-12", "web", "web-x", "other-1", "web-1-1")] == [0, 12, -1, -1, -1, -1]
    assert [statefulpods.is_in_range(owner, n) for n in (2, 3, 4, 5)] == [False, True, True, False]
