"""Persistent volumes and claims: who is bound to whom, and nothing is deleted while it is used.

Volumes are made by hand or by external provisioners; what needs a volume plugin of the control plane is not here.

Source: kubernetes pkg/controller/volume/{persistentvolume,pvcprotection,pvprotection,ephemeral}, v1.34.
"""

from collections.abc import Iterable, Sequence
from typing import ClassVar

from kubelite.client.informers import Informer
from kubelite.controllers import owners, pods
from kubelite.controllers.environment import Environment
from kubelite.controllers.reconciler import Controller, is_namespace_terminating, key_of, split_key
from kubelite.meta import quantities, selectors, times
from kubelite.meta.copies import deep_copy
from kubelite.meta.errors import AlreadyExists, ApiError
from kubelite.meta.pods import claims as claims_of
from kubelite.meta.types import Obj

CLAIMS = "persistentvolumeclaims"
VOLUMES = "persistentvolumes"
CLASSES = "storageclasses.storage.k8s.io"
CLAIM_FINALIZER = "kubernetes.io/pvc-protection"
VOLUME_FINALIZER = "kubernetes.io/pv-protection"
BOUND_BY_US = "pv.kubernetes.io/bound-by-controller"
BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
PROVISIONERS = ("volume.beta.kubernetes.io/storage-provisioner", "volume.kubernetes.io/storage-provisioner")
NO_PROVISIONER = "kubernetes.io/no-provisioner"
BY_CLAIM = "claim"


def index_by_claim(all_pods: Informer) -> None:
    """Keeps the pods by the claims that they use."""
    all_pods.add_index(BY_CLAIM, lambda pod: [f"{pod['metadata']['namespace']}/{name}" for name in claims_of(pod)])


def class_of(obj: Obj) -> str:
    """The storage class of a claim or volume; empty for none."""
    annotations = obj["metadata"].get("annotations") or {}
    return str(annotations.get("volume.beta.kubernetes.io/storage-class") or obj["spec"].get("storageClassName") or "")


def refers_to(volume: Obj, claim: Obj) -> bool:
    """The volume is for this claim: bound to it, or kept for it by name."""
    reference, meta = volume["spec"].get("claimRef"), claim["metadata"]
    if reference is None or (reference.get("namespace"), reference.get("name")) != (meta["namespace"], meta["name"]):
        return False
    return reference.get("uid", "") in ("", meta["uid"])


def fits(volume: Obj, claim: Obj) -> bool:
    """The volume is large enough, of the same class and mode, and can be used as the claim wants to."""
    spec, wanted = volume["spec"], claim["spec"]
    if not set(wanted.get("accessModes") or ()) <= set(spec.get("accessModes") or ()):
        return False
    if wanted.get("volumeMode", "Filesystem") != spec.get("volumeMode", "Filesystem") or class_of(volume) != class_of(claim):
        return False
    if wanted.get("volumeAttributesClassName") != spec.get("volumeAttributesClassName"):
        return False
    if wanted.get("selector") is not None:
        selector = selectors.from_object(wanted["selector"])
        if not selector.matches(volume["metadata"].get("labels") or {}):
            return False
    requested = ((wanted.get("resources") or {}).get("requests") or {}).get("storage", "0")
    return quantities.parse((spec.get("capacity") or {}).get("storage", "0")) >= quantities.parse(requested)


def best_volume(claim: Obj, volumes: Sequence[Obj]) -> Obj | None:
    """The volume kept for the claim, else the smallest free one that fits."""
    usable = [v for v in volumes if "deletionTimestamp" not in v["metadata"]]
    kept = [v for v in usable if refers_to(v, claim) and class_of(v) == class_of(claim)]
    if kept:
        return kept[0]
    available = [v for v in usable if v["spec"].get("claimRef") is None and (v.get("status") or {}).get("phase") == "Available"]
    free = [v for v in available if fits(v, claim)]
    return min(free, key=lambda v: (quantities.parse(v["spec"]["capacity"]["storage"]), v["metadata"]["name"]), default=None)


class VolumeBinder(Controller):
    """Binds claims to volumes and keeps the phases of both. Keys are `claim:namespace/name` and `volume:name`."""

    name: ClassVar[str] = "persistentvolume-binder"
    component: ClassVar[str] = "persistentvolume-controller"
    workers: ClassVar[int] = 1  # two claims must not take one volume

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        self._claims = self.informer(CLAIMS)
        self._volumes = self.informer(VOLUMES)
        self._classes = self.informer(CLASSES)
        self.follow(self._claims, self._keys_of_claim)
        self.follow(self._volumes, self._keys_of_volume)
        self._classes.subscribe(lambda old, new: self._wake_pending())

    def _keys_of_claim(self, claim: Obj) -> Iterable[str]:
        yield f"claim:{key_of(claim)}"
        if claim["spec"].get("volumeName"):
            yield f"volume:{claim['spec']['volumeName']}"

    def _keys_of_volume(self, volume: Obj) -> Iterable[str]:
        yield f"volume:{volume['metadata']['name']}"
        reference = volume["spec"].get("claimRef")
        if reference is not None:
            yield f"claim:{reference.get('namespace', '')}/{reference.get('name', '')}"
        else:
            self._wake_pending()

    def _wake_pending(self) -> None:
        for claim in self._claims.list():
            if (claim.get("status") or {}).get("phase", "Pending") == "Pending":
                self.queue.add(f"claim:{key_of(claim)}")

    async def reconcile(self, key: str) -> None:
        kind, _, rest = key.partition(":")
        namespace, name = split_key(rest)
        if kind == "volume":
            volume = self._volumes.get(name)
            if volume is not None:
                await self._sync_volume(volume)
            return
        claim = self._claims.get(name, namespace)
        if claim is not None:
            await self._sync_claim(claim)

    async def _sync_volume(self, volume: Obj) -> None:
        reference = volume["spec"].get("claimRef")
        if reference is None:
            await self._set_phase(volume, "Available")
            return
        claim = self._claims.get(reference.get("name", ""), reference.get("namespace", ""))
        if not reference.get("uid"):
            await self._set_phase(volume, "Available")
            return
        if claim is None or claim["metadata"]["uid"] != reference["uid"]:
            # Retained for somebody to look at. Deleting what is in it takes a plugin, which whoever provisioned it has.
            await self._set_phase(volume, "Released")
            return
        if claim["spec"].get("volumeName") == volume["metadata"]["name"]:
            await self._set_phase(volume, "Bound")

    async def _set_phase(self, volume: Obj, phase: str) -> None:
        status = volume.get("status") or {}
        if status.get("phase") == phase or status.get("phase") == "Failed":
            return
        changed = {**status, "phase": phase, "lastPhaseTransitionTime": times.now()}
        await self.client.update(VOLUMES, {**volume, "metadata": {**volume["metadata"]}, "status": changed}, subresource="status")

    async def _sync_claim(self, claim: Obj) -> None:
        name = claim["spec"].get("volumeName")
        annotations = claim["metadata"].get("annotations") or {}
        if annotations.get(BIND_COMPLETED):
            volume = self._volumes.get(name or "")
            if volume is None or not refers_to(volume, claim):
                what = "does not exist" if volume is None else "is bound to another claim"
                self.events.event(claim, "Warning", "ClaimLost", f"Bound claim has lost its PersistentVolume: volume {what}")
                await self._set_claim(claim, {**(claim.get("status") or {}), "phase": "Lost"})
            else:
                await self._bind(claim, volume)
            return
        if "deletionTimestamp" in claim["metadata"]:
            return
        if name:
            volume = self._volumes.get(name)
            if volume is None:
                await self._set_claim(claim, {**(claim.get("status") or {}), "phase": "Pending"})
            elif volume["spec"].get("claimRef") is None or refers_to(volume, claim):
                await self._bind(claim, volume)
            return
        storage_class = self._classes.get(class_of(claim)) if class_of(claim) else None
        waits = storage_class is not None and storage_class.get("volumeBindingMode") == "WaitForFirstConsumer"
        volume = best_volume(claim, self._volumes.list())
        if volume is not None and (not waits or refers_to(volume, claim)):
            await self._bind(claim, volume)
            return
        await self._set_claim(claim, {**(claim.get("status") or {}), "phase": "Pending"})
        await self._explain(claim, storage_class, waits=waits)

    async def _explain(self, claim: Obj, storage_class: Obj | None, *, waits: bool) -> None:
        annotations = claim["metadata"].get("annotations") or {}
        if waits and SELECTED_NODE not in annotations:
            text = "waiting for first consumer to be created before binding"
            self.events.event(claim, "Normal", "WaitForFirstConsumer", text)
            return
        if storage_class is None:
            if class_of(claim):
                text = f'storageclass.storage.k8s.io "{class_of(claim)}" not found'
                self.events.event(claim, "Warning", "ProvisioningFailed", text)
            else:
                text = "no persistent volumes available for this claim and no storage class is set"
                self.events.event(claim, "Normal", "FailedBinding", text)
            return
        provisioner = storage_class["provisioner"]
        if provisioner == NO_PROVISIONER:
            return
        if any(annotations.get(key) != provisioner for key in PROVISIONERS):
            meta = {**claim["metadata"], "annotations": {**annotations, **dict.fromkeys(PROVISIONERS, provisioner)}}
            await self.client.update(CLAIMS, {**claim, "metadata": meta})
        text = (
            f"Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the "
            "system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly "
            "registered."
        )
        self.events.event(claim, "Normal", "ExternalProvisioning", text)

    async def _bind(self, claim: Obj, volume: Obj) -> None:
        """Four writes, each of which a later reconcile can go on from: the volume first, so that no other claim takes it."""
        meta, annotations = claim["metadata"], claim["metadata"].get("annotations") or {}
        reference = volume["spec"].get("claimRef") or {}
        if reference.get("uid") != meta["uid"]:
            wanted = {"kind": "PersistentVolumeClaim", "apiVersion": "v1", "namespace": meta["namespace"], "name": meta["name"]}
            wanted |= {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}
            volume_meta = volume["metadata"]
            if not reference:
                volume_meta = {**volume_meta, "annotations": {**(volume_meta.get("annotations") or {}), BOUND_BY_US: "yes"}}
            changed = {**volume, "metadata": volume_meta, "spec": {**volume["spec"], "claimRef": wanted}}
            volume = await self.client.update(VOLUMES, changed)
        await self._set_phase(volume, "Bound")
        name = volume["metadata"]["name"]
        if claim["spec"].get("volumeName") != name or BIND_COMPLETED not in annotations:
            marks = {BIND_COMPLETED: "yes"}
            if claim["spec"].get("volumeName") != name:
                marks[BOUND_BY_US] = "yes"
            changed = {**claim, "metadata": {**meta, "annotations": {**annotations, **marks}}}
            changed["spec"] = {**claim["spec"], "volumeName": name}
            claim = await self.client.update(CLAIMS, changed)
        status = claim.get("status") or {}
        if status.get("phase") != "Bound":
            spec = volume["spec"]
            given = {"accessModes": spec.get("accessModes") or [], "capacity": spec.get("capacity") or {}}
            await self._set_claim(claim, {**status, "phase": "Bound", **given})

    async def _set_claim(self, claim: Obj, status: Obj) -> None:
        if status != (claim.get("status") or {}):
            changed = {**claim, "metadata": {**claim["metadata"]}, "status": status}
            await self.client.update(CLAIMS, changed, subresource="status")


class ClaimProtection(Controller):
    """Lets a deleted claim go once no pod uses it."""

    name: ClassVar[str] = "persistentvolumeclaim-protection-controller"

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        self._claims = self.informer(CLAIMS)
        self._pods = self.informer("pods")
        index_by_claim(self._pods)
        self.follow(self._claims)
        self._pods.subscribe(self._pod_changed)

    def _pod_changed(self, old: Obj | None, new: Obj | None) -> None:
        if old is not None and (new is None or pods.is_finished(new)):
            for name in claims_of(old):
                self.queue.add(f"{old['metadata']['namespace']}/{name}")

    async def reconcile(self, key: str) -> None:
        namespace, name = split_key(key)
        claim = self._claims.get(name, namespace)
        if claim is None:
            return
        finalizers = claim["metadata"].get("finalizers") or []
        if "deletionTimestamp" not in claim["metadata"]:
            if CLAIM_FINALIZER not in finalizers:
                await self._set_finalizers(claim, [*finalizers, CLAIM_FINALIZER])
            return
        if CLAIM_FINALIZER in finalizers and not any(_uses(pod) for pod in self._pods.by_index(BY_CLAIM, key)):
            live = (await self.client.list("pods", namespace)).items
            if not any(name in claims_of(pod) and _uses(pod) for pod in live):
                await self._set_finalizers(claim, [f for f in finalizers if f != CLAIM_FINALIZER])

    async def _set_finalizers(self, claim: Obj, finalizers: list[str]) -> None:
        await self.client.update(CLAIMS, {**claim, "metadata": {**claim["metadata"], "finalizers": finalizers}})


def _uses(pod: Obj) -> bool:
    """The pod may still have its volumes mounted: it was placed and has not ended."""
    return bool(pod["spec"].get("nodeName")) and not pods.is_finished(pod)


class VolumeProtection(Controller):
    """Lets a deleted volume go once it is bound to no claim."""

    name: ClassVar[str] = "persistentvolume-protection-controller"
    workers: ClassVar[int] = 1

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        self._volumes = self.informer(VOLUMES)
        self.follow(self._volumes)

    async def reconcile(self, key: str) -> None:
        volume = self._volumes.get(key)
        if volume is None:
            return
        finalizers = volume["metadata"].get("finalizers") or []
        if "deletionTimestamp" not in volume["metadata"]:
            wanted = finalizers if VOLUME_FINALIZER in finalizers else [*finalizers, VOLUME_FINALIZER]
        elif (volume.get("status") or {}).get("phase") == "Bound":
            return
        else:
            wanted = [f for f in finalizers if f != VOLUME_FINALIZER]
        if wanted != finalizers:
            await self.client.update(VOLUMES, {**volume, "metadata": {**volume["metadata"], "finalizers": wanted}})


class EphemeralVolumes(Controller):
    """Makes the claims of pods' generic ephemeral volumes; they are the pod's and go with it."""

    name: ClassVar[str] = "ephemeral-volume-controller"

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        self._pods = self.informer("pods")
        self._claims = self.informer(CLAIMS)
        self.follow(self._pods, lambda pod: (key_of(pod),) if any(_ephemeral(pod)) else ())

    async def reconcile(self, key: str) -> None:
        namespace, name = split_key(key)
        pod = self._pods.get(name, namespace)
        if pod is None or pods.is_terminating(pod):
            return
        for volume in _ephemeral(pod):
            claim_name = f"{name}-{volume['name']}"
            found = self._claims.get(claim_name, namespace)
            if found is not None:
                if not owners.is_controlled_by(found, pod):
                    text = f'PVC "{namespace}/{claim_name}" was not created for the pod'
                    self.events.event(pod, "Warning", "EphemeralVolumeFailed", text)
                continue
            template = deep_copy(volume["ephemeral"]["volumeClaimTemplate"])
            meta = {**(template.get("metadata") or {}), "name": claim_name, "namespace": namespace}
            meta["ownerReferences"] = [owners.reference_to(pod, "v1", "Pod")]
            claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": template["spec"]}
            try:
                await self.client.create(CLAIMS, claim)
            except AlreadyExists:
                continue
            except ApiError as e:
                if not is_namespace_terminating(e):
                    raise


def _ephemeral(pod: Obj) -> Iterable[Obj]:
    return [volume for volume in pod["spec"].get("volumes") or () if "ephemeral" in volume]
