from typing import Any

from kubelite.controllers import volumes
from kubelite.controllers.ephemeralvolumes import EphemeralVolumes
from kubelite.controllers.volumematching import PROVISIONED_BY, best_volume, mismatch
from kubelite.controllers.volumeprotection import CLAIM_FINALIZER, ClaimProtection, VolumeProtection
from kubelite.controllers.volumes import VolumeBinder, VolumeExpander
from kubelite.meta.types import Obj
from tests.controllers.conftest import Cluster, pod_template

EXPANDABLE: Obj = {"metadata": {"name": "gold"}, "provisioner": "example.com/p", "allowVolumeExpansion": True}


def volume(name: str, size: str, **spec: Any) -> Obj:
    wanted = {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/tmp"}, **spec}
    return {"metadata": {"name": name}, "spec": wanted}


def claim(name: str, size: str = "1Gi", **spec: Any) -> Obj:
    wanted = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}, "storageClassName": "", **spec}
    return {"metadata": {"name": name}, "spec": wanted}


async def test_a_claim_is_bound_to_the_smallest_volume_that_fits(cluster: Cluster) -> None:
    cluster.start(VolumeBinder, ClaimProtection, VolumeProtection)
    for made in (volume("large", "10Gi"), volume("small", "2Gi"), volume("tiny", "500Mi")):
        await cluster.client.create("persistentvolumes", made)
    await cluster.until_status("persistentvolumes", "large", "", phase="Available")
    await cluster.client.create("persistentvolumeclaims", claim("c"), "default")
    bound = await cluster.until_status("persistentvolumeclaims", "c", phase="Bound", capacity={"storage": "2Gi"})
    assert bound["spec"]["volumeName"] == "small"
    assert bound["metadata"]["annotations"][volumes.BIND_COMPLETED] == "yes"
    taken = await cluster.until_status("persistentvolumes", "small", "", phase="Bound")
    assert taken["spec"]["claimRef"]["uid"] == bound["metadata"]["uid"]

    # In use by a pod the claim stays; then it goes, and the volume is released.
    pod = {"metadata": {"name": "p"}, "spec": pod_template()["spec"]}
    pod["spec"]["volumes"] = [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]
    made = await cluster.client.create("pods", pod, "default")
    await cluster.bind(made)

    async def guarded() -> bool:
        found = await cluster.get("persistentvolumeclaims", "c")
        return found is not None and CLAIM_FINALIZER in (found["metadata"].get("finalizers") or ())

    await cluster.until(guarded)
    await cluster.client.delete("persistentvolumeclaims", "c", "default")
    await cluster.client.delete("persistentvolumes", "small")
    found = await cluster.get("persistentvolumeclaims", "c")
    assert found is not None and "deletionTimestamp" in found["metadata"]
    await cluster.client.delete("pods", "p", "default", grace_period_s=0)
    await cluster.until_gone("persistentvolumeclaims", "c")
    await cluster.until_gone("persistentvolumes", "small", "")


async def test_a_claim_that_waits_for_its_first_consumer_says_so(cluster: Cluster) -> None:
    cluster.start(VolumeBinder)
    storage = {"metadata": {"name": "local"}, "provisioner": "example.com/p", "volumeBindingMode": "WaitForFirstConsumer"}
    await cluster.client.create("storageclasses.storage.k8s.io", storage)
    await cluster.client.create("persistentvolumeclaims", claim("c", storageClassName="local"), "default")

    async def told(reason: str) -> bool:
        return reason in await cluster.reasons("c")

    await cluster.until(lambda: told("WaitForFirstConsumer"))
    change = {"metadata": {"annotations": {volumes.SELECTED_NODE: "n1"}}}
    await cluster.client.patch("persistentvolumeclaims", "c", "default", change)
    await cluster.until(lambda: told("ExternalProvisioning"))
    found = await cluster.get("persistentvolumeclaims", "c")
    assert found is not None
    assert found["metadata"]["annotations"]["volume.kubernetes.io/storage-provisioner"] == "example.com/p"


async def test_what_a_claim_waits_for_is_not_told_again_for_volumes_that_are_not_for_it(cluster: Cluster) -> None:
    cluster.start(VolumeBinder)
    storage = {"metadata": {"name": "local"}, "provisioner": "example.com/p", "volumeBindingMode": "WaitForFirstConsumer"}
    await cluster.client.create("storageclasses.storage.k8s.io", storage)
    await cluster.client.create("persistentvolumeclaims", claim("c", storageClassName="local"), "default")

    for number in range(5):
        await cluster.client.create("persistentvolumes", volume(f"other-{number}", "2Gi"))
        await cluster.until_status("persistentvolumes", f"other-{number}", "", phase="Available")
    change = {"metadata": {"annotations": {volumes.SELECTED_NODE: "n1"}}}
    await cluster.client.patch("persistentvolumeclaims", "c", "default", change)

    async def looked_again() -> bool:
        return "ExternalProvisioning" in await cluster.reasons("c")

    await cluster.until(looked_again)
    waits = [e["count"] for e in await cluster.list("events", "default") if e["reason"] == "WaitForFirstConsumer"]
    assert sum(waits) <= 2  # when it came, and when it became Pending


async def test_an_ephemeral_volume_has_a_claim_of_the_pod(cluster: Cluster) -> None:
    cluster.start(EphemeralVolumes)
    spec = pod_template()["spec"]
    template = {"spec": claim("x")["spec"], "metadata": {"labels": {"a": "b"}}}
    spec["volumes"] = [{"name": "scratch", "ephemeral": {"volumeClaimTemplate": template}}]
    pod = await cluster.client.create("pods", {"metadata": {"name": "p"}, "spec": spec}, "default")
    (made,) = await cluster.until_count("persistentvolumeclaims", 1)
    assert made["metadata"]["name"] == "p-scratch" and made["metadata"]["labels"] == {"a": "b"}
    assert made["metadata"]["ownerReferences"][0]["uid"] == pod["metadata"]["uid"]


def test_a_volume_says_why_it_is_not_what_a_claim_asks_for() -> None:
    wanted = claim("c", storageClassName="gold")
    assert mismatch(volume("v", "1Gi", storageClassName="gold"), wanted) == ""
    assert mismatch(volume("v", "1Mi", storageClassName="gold"), wanted) == "requested PV is too small"
    assert mismatch(volume("v", "1Gi"), wanted) == "storageClassName does not match"
    assert mismatch(volume("v", "1Gi", storageClassName="gold", volumeMode="Block"), wanted) == "incompatible volumeMode"
    assert mismatch(volume("v", "1Gi", storageClassName="gold", accessModes=[]), wanted) == "incompatible accessMode"
    other = volume("v", "1Gi", storageClassName="gold", volumeAttributesClassName="fast")
    assert mismatch(other, wanted) == "volumeAttributesClassName does not match"
    going = volume("v", "1Gi")
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert mismatch(going, wanted) == 'the volume is marked for deletion "v"'


def test_a_claim_takes_what_is_kept_for_it_or_what_can_be_used_in_the_fewest_ways() -> None:
    def free(*args: Any, **spec: Any) -> Obj:
        return {**volume(*args, **spec), "status": {"phase": "Available"}}

    wanted = claim("c")
    wanted["metadata"] |= {"namespace": "default", "uid": "u"}
    small = free("small", "1Gi", accessModes=["ReadWriteOnce", "ReadOnlyMany"])
    listed = [free("large", "9Gi"), small, free("middle", "3Gi"), free("tiny", "1Mi")]
    found = best_volume(wanted, listed)
    assert found is not None and found["metadata"]["name"] == "middle"
    kept = free("kept", "9Gi", storageClassName="other", claimRef={"namespace": "default", "name": "c"})
    assert best_volume(wanted, [*listed, kept]) is kept
    taken = free("taken", "9Gi", claimRef={"namespace": "default", "name": "c", "uid": "another"})
    assert best_volume(wanted, [taken]) is None


async def test_a_released_volume_that_nobody_can_delete_says_so(cluster: Cluster) -> None:
    cluster.start(VolumeBinder)
    reclaimed = {"claimRef": {"namespace": "default", "name": "gone", "uid": "gone"}, "persistentVolumeReclaimPolicy": "Delete"}
    ours = volume("ours", "1Gi", **reclaimed, hostPath={"path": "/data/x"})
    remote = volume("remote", "1Gi", **reclaimed, hostPath=None, nfs={"server": "s", "path": "/p"})
    theirs = volume("theirs", "1Gi", **reclaimed, hostPath=None, csi={"driver": "example.com", "volumeHandle": "h"})
    theirs["metadata"]["annotations"] = {PROVISIONED_BY: "example.com/p"}
    for made in (ours, remote, theirs):
        await cluster.client.create("persistentvolumes", made)
    text = "host_path deleter only supports /tmp/.+ but received provided /data/x"
    await cluster.until_status("persistentvolumes", "ours", "", phase="Failed", message=text)
    text = 'error getting deleter volume plugin for volume "remote": no deletable volume plugin matched'
    await cluster.until_status("persistentvolumes", "remote", "", phase="Failed", message=text)
    await cluster.until_status("persistentvolumes", "theirs", "", phase="Released", message=None)


async def test_a_volume_whose_claim_got_another_one_is_free_again_or_goes(cluster: Cluster) -> None:
    cluster.start(VolumeBinder)
    made = await cluster.client.create("persistentvolumeclaims", claim("c", volumeName="first"), "default")
    reference = {"namespace": "default", "name": "c", "uid": made["metadata"]["uid"]}
    by_us, by_hand, provisioned = (volume(name, "1Gi", claimRef=reference) for name in ("by-us", "by-hand", "provisioned"))
    by_us["metadata"]["annotations"] = {volumes.BOUND_BY_US: "yes"}
    provisioned["metadata"]["annotations"] = {PROVISIONED_BY: "example.com/p"}
    provisioned["spec"]["persistentVolumeReclaimPolicy"] = "Delete"
    for each in (by_us, by_hand, provisioned):
        await cluster.client.create("persistentvolumes", each)
    found = await cluster.until_status("persistentvolumes", "by-us", "", phase="Available")
    assert "claimRef" not in found["spec"] and volumes.BOUND_BY_US not in (found["metadata"].get("annotations") or {})
    found = await cluster.until_status("persistentvolumes", "by-hand", "", phase="Available")
    assert found["spec"]["claimRef"]["name"] == "c" and "uid" not in found["spec"]["claimRef"]
    await cluster.until_status("persistentvolumes", "provisioned", "", phase="Released")


async def test_a_claim_that_named_no_class_gets_the_default_one_that_comes_later(cluster: Cluster) -> None:
    cluster.start(VolumeBinder)
    for name, wish in (("later", None), ("none", "")):
        await cluster.client.create("persistentvolumeclaims", claim(name, storageClassName=wish), "default")
    await cluster.until_status("persistentvolumeclaims", "later", phase="Pending")
    annotations = {"storageclass.kubernetes.io/is-default-class": "true"}
    storage = {"metadata": {"name": "gold", "annotations": annotations}, "provisioner": "example.com/p"}
    await cluster.client.create("storageclasses.storage.k8s.io", storage)

    async def classes() -> bool:
        found = {c["metadata"]["name"]: c["spec"].get("storageClassName") for c in await cluster.list("persistentvolumeclaims")}
        return found == {"later": "gold", "none": ""}

    await cluster.until(classes)


async def test_a_claim_that_is_to_be_larger_says_who_is_waited_for(cluster: Cluster) -> None:
    cluster.start(VolumeBinder, VolumeExpander)
    await cluster.client.create("storageclasses.storage.k8s.io", EXPANDABLE)
    await cluster.client.create("persistentvolumes", volume("v", "1Gi", storageClassName="gold"))
    await cluster.client.create("persistentvolumeclaims", claim("c", storageClassName="gold"), "default")
    await cluster.until_status("persistentvolumeclaims", "c", phase="Bound")
    change: Obj = {"spec": {"resources": {"requests": {"storage": "2Gi"}}}}
    await cluster.client.patch("persistentvolumeclaims", "c", "default", change)

    async def told() -> bool:
        return "ExternalExpanding" in await cluster.reasons("c")

    await cluster.until(told)


async def test_an_ephemeral_volume_waits_for_a_claim_of_somebody_elses_to_go(cluster: Cluster) -> None:
    cluster.start(EphemeralVolumes)
    await cluster.client.create("persistentvolumeclaims", claim("p-scratch"), "default")
    spec = pod_template()["spec"]
    spec["volumes"] = [{"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": claim("x")["spec"]}}}]
    pod = await cluster.client.create("pods", {"metadata": {"name": "p"}, "spec": spec}, "default")

    async def told() -> list[str]:
        return [e["message"] for e in await cluster.list("events") if e["reason"] == "FailedBinding"]

    text = "ephemeral volume scratch: PVC default/p-scratch was not created for pod default/p (pod is not owner)"
    assert await cluster.until(told) == [text]
    await cluster.client.delete("persistentvolumeclaims", "p-scratch", "default")

    async def made() -> bool:
        found = await cluster.get("persistentvolumeclaims", "p-scratch")
        references = [] if found is None else found["metadata"].get("ownerReferences") or []
        return [r["uid"] for r in references] == [pod["metadata"]["uid"]]

    await cluster.until(made)
