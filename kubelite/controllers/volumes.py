"""Persistent volumes and claims: who is bound to whom, what becomes of volumes after that, and who is to make claims larger.

Volumes are made by hand or by external provisioners; what needs a volume plugin of the control plane is not here, and is told
as Kubernetes tells of it.

Source: kubernetes pkg/controller/volume/{persistentvolume,expand}, v1.34.
"""

from collections.abc import Callable, Iterable
from typing import ClassVar

from kubelite.admission import defaultclasses
from kubelite.client.informers import Informer
from kubelite.controllers import pods
from kubelite.controllers.environment import Environment
from kubelite.controllers.reconciler import Controller, key_of, split_key
from kubelite.controllers.volumematching import (
    PROVISIONED_BY,
    best_volume,
    class_of,
    has_class,
    has_mode_of,
    mismatch,
    refers_to,
    undeletable,
)
from kubelite.meta import quantities, times
from kubelite.meta.errors import NotFound
from kubelite.meta.pods import claims as claims_of
from kubelite.meta.types import Obj

CLAIMS = "persistentvolumeclaims"
VOLUMES = "persistentvolumes"
CLASSES = "storageclasses.storage.k8s.io"
BOUND_BY_US = "pv.kubernetes.io/bound-by-controller"
BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
PROVISIONERS = ("volume.beta.kubernetes.io/storage-provisioner", "volume.kubernetes.io/storage-provisioner")
#: What provisioners of the control plane's own are called after; there are none.
IN_TREE = "kubernetes.io/"
#: What a claim's status says of its volume.
OF_VOLUME = ("accessModes", "capacity", "currentVolumeAttributesClassName")
BY_CLAIM = "claim"


def index_by_claim(all_pods: Informer) -> None:
    """Keeps the pods by the claims that they use."""
    all_pods.add_index(BY_CLAIM, lambda pod: [f"{pod['metadata']['namespace']}/{name}" for name in claims_of(pod)])


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
        self._pods = self.informer("pods")
        index_by_claim(self._pods)
        self.follow(self._claims, self._keys_of_claim)
        self.follow(self._volumes, self._keys_of_volume)
        self._classes.subscribe(self._class_changed)

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
            name = volume["metadata"]["name"]
            self._wake(lambda claim: claim["spec"].get("volumeName") == name or best_volume(claim, [volume]) is not None)

    def _class_changed(self, old: Obj | None, new: Obj | None) -> None:
        name = (new or old or {})["metadata"]["name"]
        self._wake(lambda claim: not has_class(claim) or class_of(claim) == name)

    def _wake(self, helps: Callable[[Obj], bool]) -> None:
        """Looks again at the pending claims that a change helps: at others would only repeat what has been told of them."""
        for claim in self._claims.list():
            if (claim.get("status") or {}).get("phase", "Pending") == "Pending" and helps(claim):
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
        spec, name = volume["spec"], volume["metadata"]["name"]
        reference = spec.get("claimRef")
        if reference is None or not reference.get("uid"):
            await self._set_phase(volume, "Available")
            return
        claim = await self._claim_of(volume)
        if claim is None:
            await self._release(volume)
        elif not claim["spec"].get("volumeName"):
            if not has_mode_of(volume, claim):
                why = "due to incompatible volumeMode."
                text = f'Cannot bind PersistentVolume to requested PersistentVolumeClaim "{claim["metadata"]["name"]}" {why}'
                self.events.event(volume, "Warning", "VolumeMismatch", text)
                text = f'Cannot bind PersistentVolume "{name}" to requested PersistentVolumeClaim {why}'
                self.events.event(claim, "Warning", "VolumeMismatch", text)
        elif claim["spec"]["volumeName"] == name:
            await self._set_phase(volume, "Bound")
        elif PROVISIONED_BY in (volume["metadata"].get("annotations") or {}) and _reclaim_policy(volume) == "Delete":
            await self._release(volume)  # made for the claim, which then got another one
        else:
            await self._unbind(volume)

    async def _claim_of(self, volume: Obj) -> Obj | None:
        """The claim that a volume is bound to. Whether one is gone is asked of the server: the cache may not have it yet."""
        reference = volume["spec"]["claimRef"]
        name, namespace = reference.get("name", ""), reference.get("namespace", "")
        claim = self._claims.get(name, namespace)
        if claim is None or claim["metadata"]["uid"] != reference["uid"]:
            try:
                claim = await self.client.get(CLAIMS, name, namespace)
            except NotFound:
                return None
        return claim if claim["metadata"]["uid"] == reference["uid"] else None

    async def _release(self, volume: Obj) -> None:
        """The volume's claim is gone. What it holds is kept, or deleted by who provisioned it; what nobody can do is told."""
        if (volume.get("status") or {}).get("phase") not in ("Released", "Failed"):
            volume = await self._set_phase(volume, "Released")
        reason, why = "", ""
        if _reclaim_policy(volume) == "Delete":
            reason, why = "VolumeFailedDelete", undeletable(volume)
        elif _reclaim_policy(volume) == "Recycle":
            reason, why = "VolumeFailedRecycle", "No recycler plugin found for the volume!"
        if why and (volume.get("status") or {}).get("phase") != "Failed":
            volume = await self._set_phase(volume, "Failed", why)
            self.events.event(volume, "Warning", reason, why)

    async def _unbind(self, volume: Obj) -> None:
        """Makes a volume free again whose claim is bound to another one; who kept it for the claim by hand still does."""
        meta, spec = volume["metadata"], {**volume["spec"]}
        annotations = {**(meta.get("annotations") or {})}
        if annotations.pop(BOUND_BY_US, None):
            spec.pop("claimRef")
        else:
            spec["claimRef"] = {key: value for key, value in spec["claimRef"].items() if key != "uid"}
        volume = await self.client.update(VOLUMES, {**volume, "metadata": {**meta, "annotations": annotations}, "spec": spec})
        await self._set_phase(volume, "Available")

    async def _set_phase(self, volume: Obj, phase: str, message: str = "") -> Obj:
        status = volume.get("status") or {}
        if status.get("phase") == phase:
            return volume
        changed = {**status, "phase": phase, "message": message, "lastPhaseTransitionTime": times.now()}
        if not message:
            del changed["message"]
        return await self.client.update(VOLUMES, {**volume, "status": changed}, subresource="status")

    async def _sync_claim(self, claim: Obj) -> None:
        name = claim["spec"].get("volumeName") or ""
        volume = self._volumes.get(name) if name else None
        if BIND_COMPLETED in (claim["metadata"].get("annotations") or {}):
            await self._sync_bound(claim, volume)
        elif "deletionTimestamp" in claim["metadata"]:
            return
        elif name:
            await self._sync_named(claim, volume)
        else:
            await self._sync_free(claim)

    async def _sync_bound(self, claim: Obj, volume: Obj | None) -> None:
        reason, why = "ClaimLost", ""
        if not claim["spec"].get("volumeName"):
            why = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!"
        elif volume is None:
            why = "Bound claim has lost its PersistentVolume. Data on the volume is lost!"
        elif (volume["spec"].get("claimRef") or {}).get("uid") not in (None, claim["metadata"]["uid"]):
            reason, why = "ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly"
        else:
            await self._bind(claim, volume)
        if why and await self._set_claim_phase(claim, "Lost"):
            self.events.event(claim, "Warning", reason, why)

    async def _sync_named(self, claim: Obj, volume: Obj | None) -> None:
        """The user asked for a volume by its name."""
        if volume is not None and refers_to(volume, claim):
            await self._bind(claim, volume)
            return
        if volume is not None and volume["spec"].get("claimRef") is None:
            why = mismatch(volume, claim)
            if not why:
                await self._bind(claim, volume)
                return
            text = f'Cannot bind to requested volume "{volume["metadata"]["name"]}": {why}'
            self.events.event(claim, "Warning", "VolumeMismatch", text)
        elif volume is not None:
            text = f'volume "{volume["metadata"]["name"]}" already bound to a different claim.'
            self.events.event(claim, "Warning", "FailedBinding", text)
        await self._set_claim_phase(claim, "Pending")

    async def _sync_free(self, claim: Obj) -> None:
        """The user takes whichever volume fits."""
        storage_class = self._classes.get(class_of(claim)) if class_of(claim) else None
        waits = storage_class is not None and storage_class.get("volumeBindingMode") == "WaitForFirstConsumer"
        volume = best_volume(claim, self._volumes.list())
        if volume is not None and (not waits or refers_to(volume, claim)):
            await self._bind(claim, volume)
            return
        default = None if has_class(claim) else defaultclasses.find(self._classes.list(), defaultclasses.STORAGE)
        if default is not None:
            spec = {**claim["spec"], "storageClassName": default["metadata"]["name"]}
            await self.client.update(CLAIMS, {**claim, "spec": spec})
            return
        await self._set_claim_phase(claim, "Pending")
        await self._explain(claim, storage_class, waits=waits)

    async def _explain(self, claim: Obj, storage_class: Obj | None, *, waits: bool) -> None:
        annotations = claim["metadata"].get("annotations") or {}
        if waits and SELECTED_NODE not in annotations:
            self._tell_what_is_waited_for(claim)
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
        if provisioner.startswith(IN_TREE):
            self.events.event(claim, "Warning", "ProvisioningFailed", f"no volume plugin matched name: {provisioner}")
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

    def _tell_what_is_waited_for(self, claim: Obj) -> None:
        users = self._pods.by_index(BY_CLAIM, key_of(claim))
        names = sorted(p["metadata"]["name"] for p in users if not p["spec"].get("nodeName") and not pods.is_finished(p))
        if names:
            text = f"waiting for pod{'s' if len(names) > 1 else ''} {','.join(names)} to be scheduled"
            self.events.event(claim, "Normal", "WaitForPodScheduled", text)
        else:
            text = "waiting for first consumer to be created before binding"
            self.events.event(claim, "Normal", "WaitForFirstConsumer", text)

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
        volume = await self._set_phase(volume, "Bound")
        name = volume["metadata"]["name"]
        if claim["spec"].get("volumeName") != name or BIND_COMPLETED not in annotations:
            marks = {BIND_COMPLETED: "yes"}
            if claim["spec"].get("volumeName") != name:
                marks[BOUND_BY_US] = "yes"
            changed = {**claim, "metadata": {**meta, "annotations": {**annotations, **marks}}}
            changed["spec"] = {**claim["spec"], "volumeName": name}
            claim = await self.client.update(CLAIMS, changed)
        spec = volume["spec"]
        given = {"accessModes": spec.get("accessModes") or [], "capacity": spec.get("capacity") or {}}
        await self._set_claim_phase(claim, "Bound", **given)

    async def _set_claim_phase(self, claim: Obj, phase: str, **of_volume: object) -> bool:
        """Writes a claim's phase and what it has of its volume. Returns whether it was in another phase."""
        status = claim.get("status") or {}
        if status.get("phase") == phase:
            return False
        changed = {**{key: value for key, value in status.items() if key not in OF_VOLUME}, "phase": phase, **of_volume}
        await self.client.update(CLAIMS, {**claim, "status": changed}, subresource="status")
        return True


def _reclaim_policy(volume: Obj) -> str:
    return str(volume["spec"].get("persistentVolumeReclaimPolicy", "Retain"))


class VolumeExpander(Controller):
    """Says that whoever provisioned a volume is to make it larger, where a claim asks for more than it has."""

    name: ClassVar[str] = "persistentvolume-expander-controller"
    component: ClassVar[str] = "volume_expand"
    workers: ClassVar[int] = 1

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        self._claims = self.informer(CLAIMS)
        self._claims.subscribe(self._claim_changed)

    def _claim_changed(self, old: Obj | None, new: Obj | None) -> None:
        if new is not None and (old is None or _requested(old) != _requested(new)):
            self.queue.add(key_of(new))

    async def reconcile(self, key: str) -> None:
        namespace, name = split_key(key)
        claim = self._claims.get(name, namespace)
        status = {} if claim is None else claim.get("status") or {}
        if claim is None or status.get("phase") != "Bound":
            return
        if quantities.parse(_requested(claim)) > quantities.parse((status.get("capacity") or {}).get("storage", "0")):
            text = "waiting for an external controller to expand this PVC"
            self.events.event(claim, "Normal", "ExternalExpanding", text)


def _requested(claim: Obj) -> str:
    return str(((claim["spec"].get("resources") or {}).get("requests") or {}).get("storage", "0"))
