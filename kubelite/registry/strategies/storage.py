"""Volumes, their claims, and the storage group.

Source: kubernetes pkg/registry/{core/persistentvolume*,storage/*}/strategy.go, v1.34.
"""

from collections.abc import Sequence
from typing import ClassVar

from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.strategies import Request, Strategy, keep
from kubelite.registry.validation import csi, nodelabels, persistentvolumes, storage


class VolumeStrategy(Strategy):
    """PersistentVolumes."""

    checks_structure = True
    returns_deleted = True
    has_status = True

    def prepare_create(self, request: Request, obj: Obj) -> None:
        obj["status"] = {"phase": "Pending", "lastPhaseTransitionTime": request.now}

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return persistentvolumes.check_volume(obj)

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        if request.subresource:
            return []
        return persistentvolumes.check_volume(new) + persistentvolumes.check_volume_update(new, old)

    def warnings(self, request: Request, new: Obj, old: Obj | None) -> Sequence[str]:
        return persistentvolumes.volume_warnings(new) if not request.subresource else ()

    def prepare_status(self, request: Request, new: Obj, old: Obj) -> None:
        keep(new, old, "spec")
        status, was = new.get("status") or {}, old.get("status") or {}
        if status.get("phase") != was.get("phase"):
            if status.get("lastPhaseTransitionTime") in (None, was.get("lastPhaseTransitionTime")):
                status["lastPhaseTransitionTime"] = request.now
        elif not status.get("lastPhaseTransitionTime") and was.get("lastPhaseTransitionTime"):
            status["lastPhaseTransitionTime"] = was["lastPhaseTransitionTime"]
        new["status"] = status


class ClaimStrategy(Strategy):
    """PersistentVolumeClaims."""

    checks_structure = True
    returns_deleted = True
    has_status = True

    def prepare_create(self, request: Request, obj: Obj) -> None:
        storage.mirror_data_source(obj.get("spec"))
        obj["status"] = {"phase": "Pending"}

    def prepare_update(self, request: Request, new: Obj, old: Obj) -> None:
        super().prepare_update(request, new, old)
        if not request.subresource:
            storage.mirror_data_source(new.get("spec"), old["spec"])

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return storage.check_claim(obj)

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        if request.subresource == "status":
            return storage.check_claim_status(new)
        return [] if request.subresource else storage.check_claim(new, old) + storage.check_claim_update(new, old)

    def warnings(self, request: Request, new: Obj, old: Obj | None) -> Sequence[str]:
        return storage.claim_warnings(new) if not request.subresource else ()


class StorageClassStrategy(Strategy):
    checks_structure = True
    returns_deleted = True

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return csi.check_storage_class(obj)

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        return self.validate(request, new) + csi.check_storage_class_update(new, old)

    def warnings(self, request: Request, new: Obj, old: Obj | None) -> Sequence[str]:
        return csi.storage_class_warnings(new)


class AttributesClassStrategy(Strategy):
    """VolumeAttributesClasses."""

    checks_structure = True
    returns_deleted = True

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return csi.check_attributes_class(obj)

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        return csi.check_attributes_class_update(new, old) + self.validate(request, new)


class CsiNodeStrategy(Strategy):
    checks_structure = True
    returns_deleted = True
    allow_unconditional_update = False

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return csi.check_node(obj)

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        return self.validate(request, new) + csi.check_node_update(new, old)


class CsiCapacityStrategy(Strategy):
    checks_structure = True
    allow_unconditional_update = False

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return csi.check_capacity(obj)

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        return self.validate(request, new) + csi.check_capacity_update(new, old)

    def warnings(self, request: Request, new: Obj, old: Obj | None) -> Sequence[str]:
        return nodelabels.warn_of_selector(new.get("nodeTopology"), "nodeTopology")


class DriverStrategy(Strategy):
    """CSIDrivers: a generation from the first change on."""

    checks_structure = True
    returns_deleted = True
    update_checks_names = False
    allow_unconditional_update = False

    def prepare_update(self, request: Request, new: Obj, old: Obj) -> None:
        if new.get("spec") != old.get("spec"):
            new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1

    def normalize(self, obj: Obj) -> None:
        (obj.get("spec") or {}).pop("nodeAllocatableUpdatePeriodSeconds", None)  # KEP-4876 is off in 1.34

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return csi.check_driver(obj)

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        return self.validate(request, new) + csi.check_driver_update(new, old)


class AttachmentStrategy(Strategy):
    """VolumeAttachments."""

    checks_structure = True
    returns_deleted = True
    status_keeps_metadata = True
    allow_unconditional_update = False
    has_status = True
    initial_status: ClassVar[Obj | None] = {"attached": False}

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return csi.check_attachment(obj)

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        return csi.check_attachment_update(new, old)

    def normalize(self, obj: Obj) -> None:
        """Codes of errors are off in 1.34 (KEP-4876) and not kept."""
        status = obj.get("status") or {}
        for field in ("attachError", "detachError"):
            (status.get(field) or {}).pop("errorCode", None)
