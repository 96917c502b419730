"""Checks of the storage group: classes, CSI objects, volume attachments.

Source: kubernetes pkg/apis/storage/validation/validation.go, v1.34.
"""

from collections.abc import Mapping
from typing import Any

from kubelite.meta import errors, names
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import fields, nodelabels, persistentvolumes, volumesources

MAX_PARAMETERS, MAX_PARAMETER_BYTES = 512, 256 * 1024
MAX_NODE_ID = 256
MAX_ATTACHMENT_BYTES, MAX_ERROR_BYTES = 256 * 1024, 1024
_RECLAIM_POLICIES = ("Delete", "Retain")
_BINDING_MODES = ("Immediate", "WaitForFirstConsumer")
_MODES = ("Persistent", "Ephemeral")
_GROUP_POLICIES = ("ReadWriteOnceWithFSType", "File", "None")


def check_storage_class(obj: Obj) -> list[Cause]:
    causes = _check_provisioner(obj.get("provisioner") or "", "provisioner")
    causes += _check_parameters(obj.get("parameters") or {}, "parameters")
    policy, mode = obj.get("reclaimPolicy"), obj.get("volumeBindingMode")
    if policy and policy not in _RECLAIM_POLICIES:
        causes.append(errors.not_supported("reclaimPolicy", policy, _RECLAIM_POLICIES))
    if mode not in _BINDING_MODES:
        causes.append(errors.not_supported("volumeBindingMode", mode, _BINDING_MODES))
    seen: list[Any] = [{}]  # a term of nothing is one too many
    for index, term in enumerate(obj.get("allowedTopologies") or ()):
        path = f"allowedTopologies[{index}].matchLabelExpressions"
        values, faults = _check_topology(term.get("matchLabelExpressions") or (), path)
        causes += faults
        if values in seen:
            causes.append(errors.duplicate(path, ""))
        seen.append(values)
    return causes


def storage_class_warnings(obj: Obj) -> list[str]:
    return [
        f"allowedTopologies[{index}].matchLabelExpressions[{position}].key: {nodelabels.WARNINGS[expression['key']]}"
        for index, term in enumerate(obj.get("allowedTopologies") or ())
        for position, expression in enumerate(term.get("matchLabelExpressions") or ())
        if expression.get("key") in nodelabels.WARNINGS
    ]


def check_storage_class_update(new: Obj, old: Obj) -> list[Cause]:
    changed = [f for f in ("parameters", "provisioner", "reclaimPolicy") if (new.get(f) or None) != (old.get(f) or None)]
    causes = [errors.forbidden(field, f"updates to {field} are forbidden.") for field in changed]
    return causes + fields.immutable(new.get("volumeBindingMode"), old.get("volumeBindingMode"), "volumeBindingMode")


def _check_topology(expressions: Any, path: str) -> tuple[dict[str, set[str]], list[Cause]]:
    """What a term says, by its keys, and its faults."""
    found: dict[str, set[str]] = {}
    causes: list[Cause] = []
    for index, expression in enumerate(expressions):
        at, key, values = f"{path}[{index}]", expression.get("key", ""), expression.get("values") or []
        if not values:
            causes.append(errors.required(f"{at}.values"))
        repeated = [i for i, value in enumerate(values) if value in values[:i]]
        causes += [errors.duplicate(f"{at}.values[{i}]", values[i]) for i in repeated]
        causes += fields.invalid_if(names.qualified_name(key), f"{at}.key", key)
        if key in found:
            causes.append(errors.duplicate(f"{at}.key", key))
        found[key] = set(values)
    return found, causes


def _check_provisioner(name: str, path: str) -> list[Cause]:
    return fields.invalid_if(names.qualified_name(name.lower()), path, name.lower()) if name else [errors.required(path)]


def _check_parameters(parameters: Mapping[str, str], path: str) -> list[Cause]:
    if len(parameters) > MAX_PARAMETERS:
        return [errors.too_long(path, MAX_PARAMETERS)]
    causes = [errors.invalid(path, key, "field can not be empty.") for key in parameters if not key]
    if sum(len(key) + len(value) for key, value in parameters.items()) > MAX_PARAMETER_BYTES:
        causes.append(errors.too_long(path, MAX_PARAMETER_BYTES))
    return causes


def check_attributes_class(obj: Obj) -> list[Cause]:
    """A VolumeAttributesClass."""
    parameters = obj.get("parameters") or {}
    causes = _check_provisioner(obj.get("driverName") or "", "driverName") + _check_parameters(parameters, "parameters")
    return causes if parameters else [*causes, errors.required("parameters", "must contain at least one key/value pair")]


def check_attributes_class_update(new: Obj, old: Obj) -> list[Cause]:
    changed = [field for field in ("driverName", "parameters") if new.get(field) != old.get(field)]
    return [errors.forbidden(field, f"updates to {field} are forbidden.") for field in changed]


def check_driver(obj: Obj) -> list[Cause]:
    """A CSIDriver."""
    spec = obj.get("spec") or {}
    causes: list[Cause] = []
    policy = spec.get("fsGroupPolicy")
    if policy is not None and policy not in _GROUP_POLICIES:
        causes.append(errors.not_supported("spec.fsGroupPolicy", policy, _GROUP_POLICIES))
    seen: set[str] = set()
    for index, token in enumerate(spec.get("tokenRequests") or ()):
        at, audience, life_s = f"spec.tokenRequests[{index}]", token.get("audience", ""), token.get("expirationSeconds")
        if audience in seen:
            causes.append(errors.duplicate(f"{at}.audience", audience))
            continue
        seen.add(audience)
        if life_s is not None and life_s < 600:
            text = "may not specify a duration less than 10 minutes"
            causes.append(errors.invalid(f"{at}.expirationSeconds", life_s, text))
        elif life_s is not None and life_s > 1 << 32:
            text = "may not specify a duration larger than 2^32 seconds"
            causes.append(errors.invalid(f"{at}.expirationSeconds", life_s, text))
    path = "spec.volumeLifecycleModes"
    return causes + [errors.not_supported(path, m, _MODES) for m in spec.get("volumeLifecycleModes") or () if m not in _MODES]


def check_driver_update(new: Obj, old: Obj) -> list[Cause]:
    now, was = new["spec"], old["spec"]
    causes = fields.immutable(now.get("attachRequired"), was.get("attachRequired"), "spec.attachedRequired")
    path = "spec.volumeLifecycleModes"
    return causes + fields.immutable(now.get("volumeLifecycleModes"), was.get("volumeLifecycleModes"), path)


def check_node(obj: Obj) -> list[Cause]:
    """A CSINode."""
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, driver in enumerate((obj.get("spec") or {}).get("drivers") or ()):
        at, name, node_id = f"spec.drivers[{index}]", driver.get("name", ""), driver.get("nodeID", "")
        causes += volumesources.driver_name(name, f"{at}.name")
        if not node_id:
            causes.append(errors.required(f"{at}.nodeID"))
        elif len(node_id) > MAX_NODE_ID:
            causes.append(errors.invalid(f"{at}.nodeID", node_id, f"must be {MAX_NODE_ID} characters or less"))
        causes += fields.non_negative((driver.get("allocatable") or {}).get("count"), f"{at}.allocatable.count")
        if name in seen:
            causes.append(errors.duplicate(f"{at}.name", name))
        seen.add(name)
        keys = driver.get("topologyKeys") or []
        for position, key in enumerate(keys):
            if not key:
                causes.append(errors.required(at))
            if key in keys[:position]:
                causes.append(errors.duplicate(at, key))
            causes += fields.invalid_if(names.qualified_name(key), at, key)
    return causes


def check_node_update(new: Obj, old: Obj) -> list[Cause]:
    """A driver that is there stays as it is."""
    before = {driver.get("name"): driver for driver in old["spec"].get("drivers") or ()}
    causes: list[Cause] = []
    for driver in new["spec"].get("drivers") or ():
        was = before.get(driver.get("name"), driver)
        if fields.meaning(driver) != fields.meaning(was):
            causes.append(errors.invalid("spec.drivers", driver, fields.IMMUTABLE))
    return causes


def check_capacity(obj: Obj) -> list[Cause]:
    """A CSIStorageCapacity."""
    causes = fields.label_selector(obj.get("nodeTopology"), "nodeTopology")
    name = obj.get("storageClassName") or ""
    causes += fields.invalid_if(names.dns1123_subdomain(name), "storageClassName", name)
    return causes + (fields.quantity(obj["capacity"], "capacity") if obj.get("capacity") is not None else [])


def check_capacity_update(new: Obj, old: Obj) -> list[Cause]:
    causes = fields.immutable(new.get("nodeTopology"), old.get("nodeTopology"), "nodeTopology")
    return causes + fields.immutable(new.get("storageClassName"), old.get("storageClassName"), "storageClassName")


def check_attachment(obj: Obj) -> list[Cause]:
    """A new VolumeAttachment."""
    spec = obj.get("spec") or {}
    causes, volume = _check_attachment(spec), (spec.get("source") or {}).get("persistentVolumeName")
    causes += volumesources.driver_name(spec.get("attacher", ""), "spec.attacher")
    if volume is not None:
        causes += fields.invalid_if(names.dns1123_subdomain(volume), "spec.source.persistentVolumeName", volume)
    return causes


def check_attachment_update(new: Obj, old: Obj) -> list[Cause]:
    causes = _check_attachment(new.get("spec") or {}) + _check_attachment_status(new.get("status") or {})
    return causes + fields.immutable(new.get("spec"), old.get("spec"), "spec")


def _check_attachment_status(status: Obj) -> list[Cause]:
    causes: list[Cause] = []
    data = status.get("attachmentMetadata") or {}
    if sum(len(key.encode()) + len(value.encode()) for key, value in data.items()) > MAX_ATTACHMENT_BYTES:
        causes.append(errors.too_long("status.attachmentMetadata", MAX_ATTACHMENT_BYTES))
    told = {field: (status.get(field) or {}).get("message", "") for field in ("attachError", "detachError")}
    too_long = [field for field, message in told.items() if len(message.encode()) > MAX_ERROR_BYTES]
    return causes + [errors.too_long(f"status.{field}.message", MAX_ATTACHMENT_BYTES) for field in too_long]  # as upstream says


def _check_attachment(spec: Obj) -> list[Cause]:
    attacher, node, source = spec.get("attacher", ""), spec.get("nodeName", ""), spec.get("source") or {}
    causes = [] if attacher else [errors.required("spec.attacher")]
    volume, inline = source.get("persistentVolumeName"), source.get("inlineVolumeSpec")
    text = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"
    if volume is None and inline is None:
        causes.append(errors.required("spec.source", text))
    elif volume is not None and inline is not None:
        causes.append(errors.forbidden("spec.source", text))
    elif volume == "":
        causes.append(errors.required("spec.source.persistentVolumeName", "must specify non empty persistentVolumeName"))
    elif inline is not None:
        causes += persistentvolumes.check_inline_volume(inline, "spec.source.inlineVolumeSpec")
    return causes + fields.invalid_if(names.dns1123_subdomain(node), "spec.nodeName", node)
