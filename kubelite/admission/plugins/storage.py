"""What concerns volumes: the default storage class, protection while in use, and growing only where the class allows it.

Source: plugin/pkg/admission/storage/{storageclass/setdefault,storageobjectinuseprotection,persistentvolume/resize}.
"""

from kubelite.admission import defaultclasses, faults
from kubelite.client.informers import Informers
from kubelite.meta import quantities
from kubelite.meta.types import Obj
from kubelite.registry.contract import Attributes, Operation
from kubelite.schema.kinds import Kind

_CLASSES = "storageclasses.storage.k8s.io"
_CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"
PROTECTION = {
    "persistentvolumes": "kubernetes.io/pv-protection",
    "persistentvolumeclaims": "kubernetes.io/pvc-protection",
    "volumeattributesclasses.storage.k8s.io": "kubernetes.io/vac-protection",
}


class DefaultStorageClass:
    name = "DefaultStorageClass"

    def __init__(self, informers: Informers) -> None:
        self._classes = informers.of(_CLASSES)

    def handles(self, operation: Operation, kind: Kind, subresource: str) -> bool:
        return operation == "CREATE" and kind.group_resource == "persistentvolumeclaims" and not subresource

    async def admit(self, attributes: Attributes) -> Obj | None:
        claim = attributes.obj
        if claim is None or claim["spec"].get("storageClassName") is not None:
            return claim
        if _CLASS_ANNOTATION in (claim["metadata"].get("annotations") or {}):
            return claim
        default = defaultclasses.find(self._classes.list(), defaultclasses.STORAGE)
        if default is None:
            return claim
        return claim | {"spec": claim["spec"] | {"storageClassName": default["metadata"]["name"]}}


class StorageObjectInUseProtection:
    name = "StorageObjectInUseProtection"

    def handles(self, operation: Operation, kind: Kind, subresource: str) -> bool:
        return operation == "CREATE" and kind.group_resource in PROTECTION and not subresource

    async def admit(self, attributes: Attributes) -> Obj | None:
        obj = attributes.obj
        if obj is None:
            return None
        finalizer = PROTECTION[attributes.target.kind.group_resource]
        finalizers = obj["metadata"].get("finalizers") or []
        if finalizer in finalizers:
            return obj
        return obj | {"metadata": obj["metadata"] | {"finalizers": [*finalizers, finalizer]}}


class PersistentVolumeClaimResize:
    name = "PersistentVolumeClaimResize"

    def __init__(self, informers: Informers) -> None:
        self._classes = informers.of(_CLASSES)

    def handles(self, operation: Operation, kind: Kind, subresource: str) -> bool:
        return operation == "UPDATE" and kind.group_resource == "persistentvolumeclaims" and not subresource

    async def validate(self, attributes: Attributes) -> None:
        new, old = attributes.obj, attributes.old
        if new is None or old is None or _size(new) <= _size(old):
            return
        if (old.get("status") or {}).get("phase") != "Bound":
            raise faults.forbidden(attributes, "Only bound persistent volume claims can be expanded")
        name = _class_name(new)
        found = self._classes.get(name) if name and name == _class_name(old) else None
        if found is None or not found.get("allowVolumeExpansion"):
            why = (
                "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"
            )
            raise faults.forbidden(attributes, why)


def _size(claim: Obj) -> int:
    return quantities.value(((claim["spec"].get("resources") or {}).get("requests") or {}).get("storage", "0"))


def _class_name(claim: Obj) -> str:
    annotated = (claim["metadata"].get("annotations") or {}).get(_CLASS_ANNOTATION)
    return annotated or claim["spec"].get("storageClassName") or ""
