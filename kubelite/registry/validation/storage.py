"""Checks of persistent volumes and their claims.

Source: kubernetes pkg/apis/core/validation, v1.34.
"""

from kubelite.meta import errors, names, quantities
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import csi, fields, pods, volumes

_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
_SOURCES = (
    "awsElasticBlockStore",
    "azureDisk",
    "azureFile",
    "cephfs",
    "cinder",
    "csi",
    "fc",
    "flexVolume",
    "flocker",
    "gcePersistentDisk",
    "glusterfs",
    "hostPath",
    "iscsi",
    "local",
    "nfs",
    "photonPersistentDisk",
    "portworxVolume",
    "quobyte",
    "rbd",
    "scaleIO",
    "storageos",
    "vsphereVolume",
)


def _check_modes(modes: list[str], path: str) -> list[Cause]:
    causes: list[Cause] = [errors.not_supported(path, mode, _MODES) for mode in modes if mode not in _MODES]
    if "ReadWriteOncePod" in modes and any(mode != "ReadWriteOncePod" for mode in modes):
        causes.append(errors.forbidden(path, "may not use ReadWriteOncePod with other access modes"))
    return causes


def check_claim(obj: Obj) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes: list[Cause] = []
    if not spec.get("accessModes"):
        causes.append(errors.required("spec.accessModes", "at least 1 access mode is required"))
    causes += fields.label_selector(spec.get("selector"), "spec.selector")
    causes += _check_modes(spec.get("accessModes") or [], "spec.accessModes")
    size = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    if size is None:
        causes.append(errors.required("spec.resources[storage]"))
    elif quantities.parse(size) <= 0:
        causes.append(errors.invalid("spec.resources[storage]", size, "must be greater than zero"))
    if spec.get("storageClassName"):
        causes += fields.named(spec["storageClassName"], "spec.storageClassName", names.dns1123_subdomain)
    source, reference = spec.get("dataSource"), spec.get("dataSourceRef")
    for given, field in ((source, "dataSource"), (reference, "dataSourceRef")):
        if given is not None:
            causes += _check_data_source(given, f"spec.{field}")
    if source is not None and reference is not None:
        if reference.get("namespace"):
            causes.append(errors.invalid("spec", spec, "may not be specified when dataSourceRef.namespace is specified"))
        elif any((source.get(f) or "") != (reference.get(f) or "") for f in ("apiGroup", "kind", "name")):
            causes.append(errors.invalid("spec", spec, "must match dataSourceRef"))
    return causes


def _check_data_source(source: Obj, path: str) -> list[Cause]:
    causes = [errors.required(f"{path}.{field}") for field in ("name", "kind") if not source.get(field)]
    group = source.get("apiGroup") or ""
    if not group and source.get("kind") != "PersistentVolumeClaim":
        text = "must be 'PersistentVolumeClaim' when referencing the default apiGroup"
        causes.append(errors.invalid(path, source.get("kind", ""), text))
    return causes + (fields.invalid_if(names.dns1123_subdomain(group), f"{path}.apiGroup", group) if group else [])


#: What the older of the two fields for a claim's source may name.
_OLD_SOURCES = (("", "PersistentVolumeClaim"), ("snapshot.storage.k8s.io", "VolumeSnapshot"))


def mirror_data_source(spec: Obj | None) -> None:
    """A claim's source stands in two fields, of which a client may know one (KEP-1495)."""
    if not isinstance(spec, dict):
        return
    source, reference = spec.get("dataSource"), spec.get("dataSourceRef")
    if isinstance(source, dict) and reference is None:
        if (source.get("apiGroup") or "", source.get("kind")) in _OLD_SOURCES:
            spec["dataSourceRef"] = dict(source)
        else:
            del spec["dataSource"]
    elif isinstance(reference, dict) and source is None and not reference.get("namespace"):
        spec["dataSource"] = {field: value for field, value in reference.items() if field != "namespace"}


def check_claim_status(obj: Obj) -> list[Cause]:
    causes: list[Cause] = []
    for name, amount in ((obj.get("status") or {}).get("capacity") or {}).items():
        path = f"status.capacity[{name}]"
        if quantities.is_quantity(amount) and quantities.parse(amount) < 0:
            text = f"Invalid value: {amount}: must be a valid resource quantity"
            causes.append(Cause(path, "FieldValueInvalid", text))
    return causes


def check_claim_update(new: Obj, old: Obj) -> list[Cause]:
    """A claim's spec stands, but for its volume's name once, and the size it asks for once it is bound."""
    now, was = dict(new["spec"]), dict(old["spec"])
    bound = (new.get("status") or {}).get("phase") == "Bound"
    if not was.get("volumeName"):
        now.pop("volumeName", None)
        was.pop("volumeName", None)
    if was.get("storageClassName") is None:
        now.pop("storageClassName", None)
    if bound:
        for spec in (now, was):
            spec.pop("volumeAttributesClassName", None)
            resources = dict(spec.get("resources") or {})
            resources["requests"] = {k: v for k, v in (resources.get("requests") or {}).items() if k != "storage"}
            spec["resources"] = resources
    causes: list[Cause] = []
    if now != was:
        text = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
        changed = "\n".join(f"  {k}: changed" for k in sorted({*now, *was}) if now.get(k) != was.get(k))
        causes.append(errors.forbidden("spec", f"{text}\n{changed}"))
    after = ((new["spec"].get("resources") or {}).get("requests") or {}).get("storage", "0")
    before = ((old["spec"].get("resources") or {}).get("requests") or {}).get("storage", "0")
    held = ((old.get("status") or {}).get("capacity") or {}).get("storage", "0")
    if quantities.parse(after) < quantities.parse(before) and quantities.parse(after) <= quantities.parse(held):
        path = "spec.resources.requests.storage"
        causes.append(errors.forbidden(path, "field can not be less than status.capacity"))
    return causes


def check_volume(obj: Obj) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes: list[Cause] = []
    if not spec.get("accessModes"):
        causes.append(errors.required("spec.accessModes"))
    causes += _check_modes(spec.get("accessModes") or [], "spec.accessModes")
    capacity = spec.get("capacity") or {}
    if not capacity:
        causes.append(errors.required("spec.capacity"))
    if set(capacity) != {"storage"}:
        text = f'Unsupported value: {errors.format_value(capacity)}: supported values: "storage"'
        causes.append(Cause("spec.capacity", "FieldValueNotSupported", text))
    elif quantities.parse(capacity["storage"]) <= 0:
        if quantities.parse(capacity["storage"]) < 0:
            text = f"Invalid value: {capacity['storage']}: must be a valid resource quantity"
            causes.append(Cause("spec.capacity[storage]", "FieldValueInvalid", text))
        causes.append(errors.invalid("spec.capacity[storage]", capacity["storage"], "must be greater than zero"))
    sources = [name for name in _SOURCES if spec.get(name) is not None]
    if not sources:
        causes.append(errors.required("spec", "must specify a volume type"))
    causes += [errors.forbidden(f"spec.{name}", "may not specify more than 1 volume type") for name in sources[1:]]
    host_path = spec.get("hostPath")
    if host_path is not None:
        if not host_path.get("path"):
            causes.append(errors.required("spec.hostPath.path"))
        elif ".." in host_path["path"].split("/"):
            causes.append(errors.invalid("spec.hostPath.path", host_path["path"], "must not contain '..'"))
        if host_path.get("type") and host_path["type"] not in volumes.HOST_PATH_TYPES:
            causes.append(errors.not_supported("spec.hostPath.type", host_path["type"], volumes.HOST_PATH_TYPES))
        if host_path.get("path") == "/" and spec.get("persistentVolumeReclaimPolicy") == "Recycle":
            text = "may not be 'recycle' for a hostPath mount of '/'"
            causes.append(errors.forbidden("spec.persistentVolumeReclaimPolicy", text))
    causes += _check_remote(spec)
    affinity = spec.get("nodeAffinity")
    if affinity is not None:
        if affinity.get("required") is None:
            causes.append(errors.required("spec.nodeAffinity.required", "must specify required node constraints"))
        else:
            causes += pods.check_node_selector(affinity["required"], "spec.nodeAffinity.required")
    elif spec.get("local") is not None:
        causes.append(errors.required("spec.nodeAffinity", "Local volume requires node affinity"))
    if spec.get("storageClassName"):
        causes += fields.named(spec["storageClassName"], "spec.storageClassName", names.dns1123_subdomain)
    return causes


def _check_remote(spec: Obj) -> list[Cause]:
    """Volumes of NFS servers, of CSI drivers and of a node's own disks."""
    causes: list[Cause] = []
    if spec.get("nfs") is not None:
        nfs = spec["nfs"]
        causes += [errors.required(f"spec.nfs.{field}") for field in ("server", "path") if not nfs.get(field)]
        if not (nfs.get("path") or "").startswith("/"):
            causes.append(errors.invalid("spec.nfs.path", nfs.get("path") or "", "must be an absolute path"))
    if spec.get("csi") is not None:
        causes += csi.check_driver_name(spec["csi"].get("driver", ""), "spec.csi.driver")
        if not spec["csi"].get("volumeHandle"):
            causes.append(errors.required("spec.csi.volumeHandle"))
    if spec.get("local") is not None:
        path = spec["local"].get("path", "")
        if not path:
            causes.append(errors.required("spec.local.path"))
        elif ".." in path.split("/"):
            causes.append(errors.invalid("spec.local.path", path, "must not contain '..'"))
    return causes


def check_volume_update(new: Obj, old: Obj) -> list[Cause]:
    """Where a volume's data is never changes."""
    now, was = new["spec"], old["spec"]
    if any(now.get(name) != was.get(name) for name in _SOURCES if name != "csi"):
        return [errors.forbidden("spec.persistentvolumesource", "spec.persistentvolumesource is immutable after creation")]
    return fields.immutable(now.get("volumeMode"), was.get("volumeMode"), "volumeMode")
