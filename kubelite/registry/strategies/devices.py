"""The kinds of dynamic resource allocation. Fields of features that are off in 1.34 are not kept: taints of devices, devices in
parts or shared, conditions of binding, extended resources.

Source: kubernetes pkg/registry/resource/*/strategy.go, v1.34.
"""

from collections.abc import Sequence
from typing import ClassVar

from kubelite.meta import errors
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.strategies import Request, Strategy
from kubelite.registry.validation import deviceclaims, devices, deviceslices, fields

ADMIN_LABEL = "resource.kubernetes.io/admin-access"
_ADMIN_ONLY = f"admin access to devices requires the `{ADMIN_LABEL}: true` label on the containing namespace"
_RESULT_FIELDS = ("bindingConditions", "bindingFailureConditions", "shareID", "consumedCapacity")
_SLICE_FIELDS = ("sharedCounters", "perDeviceNodeSelection")
_DEVICE_FIELDS = (
    "allNodes",
    "allowMultipleAllocations",
    "bindingConditions",
    "bindingFailureConditions",
    "bindsToNode",
    "consumesCounters",
    "nodeName",
    "nodeSelector",
    "taints",
)


class ResourceClaimStrategy(Strategy):
    checks_structure = True
    returns_deleted = True
    has_status = True
    status_keeps_metadata = True
    initial_status: ClassVar[Obj | None] = {}

    def normalize(self, obj: Obj) -> None:
        _drop_capacity(obj.get("spec") or {})
        status = obj.get("status") or {}
        _drop(status.get("allocation"), ("allocationTimestamp",))
        for result in deviceclaims.allocated(status):
            _drop(result, _RESULT_FIELDS)
        for device in status.get("devices") or ():
            _drop(device, ("shareID",))

    def prepare_status(self, request: Request, new: Obj, old: Obj) -> None:
        """The states of devices that are allocated no more go."""
        super().prepare_status(request, new, old)
        status = new.get("status") or {}
        freed = {deviceclaims.device_id(result) for result in deviceclaims.allocated(old.get("status") or {})}
        freed -= {deviceclaims.device_id(result) for result in deviceclaims.allocated(status)}
        if freed and status.get("devices"):
            kept = [device for device in status["devices"] if deviceclaims.device_id(device) not in freed]
            new["status"] = {**{field: value for field, value in status.items() if field != "devices"}}
            if kept:
                new["status"]["devices"] = kept

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        asked = ((obj.get("spec") or {}).get("devices") or {}).get("requests") or ()
        return [*_check_admin(request, asked, "spec.devices.requests"), *deviceclaims.check_claim(obj)]

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        if request.subresource:
            granted = any(result.get("adminAccess") for result in deviceclaims.allocated(old.get("status") or {}))
            results = () if granted else deviceclaims.allocated(new.get("status") or {})
            causes = _check_admin(request, results, "status.allocation.devices.results")
            return [*causes, *deviceclaims.check_status(new, old)]
        return [*deviceclaims.check_claim(new), *fields.immutable(new.get("spec"), old.get("spec"), "spec")]


class ClaimTemplateStrategy(Strategy):
    """ResourceClaimTemplates."""

    checks_structure = True
    returns_deleted = True

    def normalize(self, obj: Obj) -> None:
        _drop_capacity((obj.get("spec") or {}).get("spec") or {})

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        asked = (((obj.get("spec") or {}).get("spec") or {}).get("devices") or {}).get("requests") or ()
        return [*_check_admin(request, asked, "spec.devices.requests"), *deviceclaims.check_template(obj)]

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        return [*deviceclaims.check_template(new), *fields.immutable(new.get("spec"), old.get("spec"), "spec")]


class DeviceClassStrategy(Strategy):
    checks_structure = True
    returns_deleted = True
    has_generation = True

    def normalize(self, obj: Obj) -> None:
        _drop(obj.get("spec"), ("extendedResourceName",))

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return list(devices.check_class(obj))


class SliceStrategy(Strategy):
    """ResourceSlices."""

    checks_structure = True
    returns_deleted = True
    has_generation = True

    def prepare_create(self, request: Request, obj: Obj) -> None:
        super().prepare_create(request, obj)
        _drop_of_slice(obj.get("spec") or {})

    def prepare_update(self, request: Request, new: Obj, old: Obj) -> None:
        super().prepare_update(request, new, old)  # a change of what is dropped counts
        _drop_of_slice(new.get("spec") or {})

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return list(deviceslices.check_slice(obj))

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        return list(deviceslices.check_slice(new, old))


def _drop(holder: Obj | None, names: Sequence[str]) -> None:
    if holder:
        for name in names:
            holder.pop(name, None)


def _drop_of_slice(spec: Obj) -> None:
    _drop(spec, _SLICE_FIELDS)
    for device in spec.get("devices") or ():
        _drop(device, _DEVICE_FIELDS)
        for capacity in (device.get("capacity") or {}).values():
            _drop(capacity, ("requestPolicy",))


def _drop_capacity(spec: Obj) -> None:
    for request in (spec.get("devices") or {}).get("requests") or ():
        for asked in (request.get("exactly"), *(request.get("firstAvailable") or ())):
            _drop(asked, ("capacity",))


def _check_admin(request: Request, asked: Sequence[Obj], path: str) -> list[Cause]:
    """Access to devices that others use is for namespaces that say so."""
    wanting = (i for i, one in enumerate(asked) if {**one, **(one.get("exactly") or {})}.get("adminAccess"))
    index = next(wanting, None)
    if index is None:
        return []
    registry = request.registry
    entry = registry.store.get(registry.kinds.preferred("namespaces").key("", request.namespace))
    labels = registry.parsed(entry)["metadata"].get("labels") if entry is not None else None
    return [] if (labels or {}).get(ADMIN_LABEL) == "true" else [errors.forbidden(f"{path}[{index}].adminAccess", _ADMIN_ONLY)]
