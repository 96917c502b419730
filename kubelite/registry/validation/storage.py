"""Checks of claims of persistent volumes, and what the volumes themselves share with them.

Source: kubernetes pkg/apis/core/validation/validation.go and pkg/api/persistentvolumeclaim, v1.34.
"""

from kubelite.meta import errors, names, quantities
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import claims, fields

CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"
_RESIZE_STATUSES = (
    *("ControllerResizeInProgress", "ControllerResizeInfeasible"),
    *("NodeResizePending", "NodeResizeInProgress", "NodeResizeInfeasible"),
)


def check_amount(amount: str, path: str) -> list[Cause]:
    """That an amount of storage isn't negative, in the words for it in a status and in a volume."""
    whole = quantities.value(amount)
    if whole >= 0:
        return []
    return [Cause(path, "FieldValueInvalid", f"Invalid value: {whole}: must be a valid resource quantity")]


def check_claim(obj: Obj, old: Obj | None = None) -> list[Cause]:
    """A claim; groups of its sources aren't looked at where the old one has any."""
    was = (old or {}).get("spec") or {}
    any_group = any("apiGroup" in (was.get(field) or {}) for field in ("dataSource", "dataSourceRef"))
    return claims.check_spec(obj.get("spec") or {}, "spec", any_group)


#: What the older of the two fields for a claim's source may name.
_OLD_SOURCES = (("", "PersistentVolumeClaim"), ("snapshot.storage.k8s.io", "VolumeSnapshot"))


def mirror_data_source(spec: Obj | None, old: Obj | None = None) -> None:
    """A claim's source stands in two fields, of which a client may know one (KEP-1495). Sources in other namespaces are alpha in
    1.34 (KEP-3294) and not kept; nor is one of another kind in the older field, unless the claim has a source already."""
    if not isinstance(spec, dict):
        return
    if (spec.get("dataSourceRef") or {}).get("namespace") and (old or {}).get("dataSourceRef") is None:
        del spec["dataSourceRef"]
    source, reference = spec.get("dataSource"), spec.get("dataSourceRef")
    if isinstance(source, dict) and reference is None:
        known = (source.get("apiGroup") or "", source.get("kind")) in _OLD_SOURCES
        if known or (old or {}).get("dataSource") is not None:
            spec["dataSourceRef"] = dict(source)
        else:
            del spec["dataSource"]
    elif isinstance(reference, dict) and source is None and not reference.get("namespace"):
        spec["dataSource"] = {field: value for field, value in reference.items() if field != "namespace"}


def claim_warnings(obj: Obj) -> list[str]:
    found: list[str] = []
    if CLASS_ANNOTATION in (obj["metadata"].get("annotations") or {}):
        text = 'deprecated since v1.8; use "storageClassName" attribute instead'
        found.append(f"metadata.annotations[{CLASS_ANNOTATION}]: {text}")
    return [*found, *claims.warnings(obj.get("spec") or {}, "spec")]


def check_claim_status(obj: Obj) -> list[Cause]:
    status = obj.get("status") or {}
    causes: list[Cause] = []
    for name, amount in (status.get("capacity") or {}).items():
        causes += check_amount(amount, f"status.capacity[{name}]")
    path = "status.allocatedResourceStatuses"
    for name, state in (status.get("allocatedResourceStatuses") or {}).items():
        causes += _check_allocated(name, path)
        if state not in _RESIZE_STATUSES:
            causes.append(errors.not_supported(path, name, _RESIZE_STATUSES))
    path = "status.allocatedResources"
    for name, amount in (status.get("allocatedResources") or {}).items():
        causes += _check_allocated(name, path) or check_amount(amount, f"{path}[{name}]")
    return causes


def _check_allocated(name: str, path: str) -> list[Cause]:
    """What a claim may be allocated: storage, and what others than Kubernetes define."""
    faults = names.qualified_name(name)
    if not faults and names.is_native_resource(name) and name != "storage":
        return [errors.not_supported(path, name, ("storage",))]
    return fields.invalid_if(faults, path, name)


def check_claim_update(new: Obj, old: Obj) -> list[Cause]:
    """A claim's spec stands, but for its volume's name once, its class once, and what a bound one may change."""
    now, was = dict(new["spec"]), dict(old["spec"])
    causes = _check_class_annotation(new, old, now)
    bound = (new.get("status") or {}).get("phase") == "Bound"
    if not was.get("volumeName"):
        now.pop("volumeName", None)
    if bound:
        for spec in (now, was):
            spec.pop("volumeAttributesClassName", None)
            amounts = dict(spec.get("resources") or {})
            amounts["requests"] = {k: v for k, v in (amounts.get("requests") or {}).items() if k != "storage"}
            spec["resources"] = amounts
    if fields.meaning(now) != fields.meaning(was):
        text = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
        changed = "\n".join(f"  {k}: changed" for k in sorted({*now, *was}) if now.get(k) != was.get(k))
        causes.append(errors.forbidden("spec", f"{text}\n{changed}"))
    after, before = claims.size(new["spec"]) or "0", claims.size(old["spec"]) or "0"
    held = ((old.get("status") or {}).get("capacity") or {}).get("storage", "0")
    if quantities.parse(after) < quantities.parse(before) and quantities.parse(after) <= quantities.parse(held):
        path = "spec.resources.requests.storage"
        causes.append(errors.forbidden(path, "field can not be less than status.capacity"))
    causes += fields.immutable(new["spec"].get("volumeMode"), old["spec"].get("volumeMode"), "volumeMode")
    return causes + _check_attributes_class(new, old)


def _check_class_annotation(new: Obj, old: Obj, now: Obj) -> list[Cause]:
    """The storage class was an annotation once: it may move into its field. Takes the class out of `now` where it may be set."""
    said, before = ((obj["metadata"].get("annotations") or {}).get(CLASS_ANNOTATION) for obj in (new, old))
    name = new["spec"].get("storageClassName")
    if old["spec"].get("storageClassName") is None and name is not None and before in (None, name):
        now.pop("storageClassName")
        if before is not None and said in (None, before):
            return []
    return fields.immutable(said or "", before or "", f"metadata.annotations.{CLASS_ANNOTATION}")


def _check_attributes_class(new: Obj, old: Obj) -> list[Cause]:
    """A claim that has got a class of attributes has one for ever."""
    name, path = new["spec"].get("volumeAttributesClassName"), "spec.volumeAttributesClassName"
    current = (old.get("status") or {}).get("currentVolumeAttributesClassName")
    if current is None or name or name == old["spec"].get("volumeAttributesClassName"):
        return []
    to = "nil" if name is None else "empty string"
    return [errors.forbidden(path, f"update to {to} is forbidden when status.currentVolumeAttributesClassName is not nil")]
