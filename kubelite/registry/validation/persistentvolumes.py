"""Checks of persistent volumes.

Source: kubernetes pkg/apis/core/validation/validation.go, pkg/volume/validation and pkg/api/persistentvolume, v1.34.
"""

import posixpath
from collections.abc import Mapping
from typing import Any

from kubelite.meta import errors, quantities
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import claims, fields, nodelabels, placement, storage, volumesources

MOUNT_OPTIONS_ANNOTATION = "volume.beta.kubernetes.io/mount-options"
_RECLAIM_POLICIES = ("Delete", "Recycle", "Retain")
#: The sources of persistent volumes, in the order in which the first that is there is looked at.
_SOURCES = (
    *("hostPath", "gcePersistentDisk", "awsElasticBlockStore", "glusterfs", "flocker", "nfs", "rbd", "quobyte", "cephfs"),
    *("iscsi", "cinder", "fc", "flexVolume", "azureFile", "vsphereVolume", "photonPersistentDisk", "portworxVolume"),
    *("azureDisk", "scaleIO", "local", "storageos", "csi"),
)
_WITH_MOUNT_OPTIONS = frozenset(
    (
        *("gcePersistentDisk", "awsElasticBlockStore", "glusterfs", "nfs", "rbd", "quobyte", "iscsi", "cinder", "cephfs"),
        *("azureFile", "vsphereVolume", "azureDisk", "photonPersistentDisk"),
    )
)


def check_volume(obj: Obj) -> list[Cause]:
    spec, meta = obj.get("spec") or {}, obj["metadata"]
    causes = check_volume_spec(spec, "spec", meta.get("name", ""))
    if MOUNT_OPTIONS_ANNOTATION in (meta.get("annotations") or {}) and not _WITH_MOUNT_OPTIONS & spec.keys():
        path = f"metadata.annotations.{MOUNT_OPTIONS_ANNOTATION}"
        causes.append(errors.forbidden(path, "may not specify mount options for this volume type"))
    return causes


def check_volume_spec(spec: Obj, path: str, volume: str) -> list[Cause]:
    causes = claims.check_modes(spec, path) + _check_capacity(spec.get("capacity") or {}, f"{path}.capacity")
    policy, at = spec.get("persistentVolumeReclaimPolicy"), f"{path}.persistentVolumeReclaimPolicy"
    if policy and policy not in _RECLAIM_POLICIES:
        causes.append(errors.not_supported(at, policy, _RECLAIM_POLICIES))
    affinity = spec.get("nodeAffinity")
    if affinity is not None and affinity.get("required") is None:
        causes.append(errors.required(f"{path}.nodeAffinity.required", "must specify required node constraints"))
    elif affinity is not None:
        causes += placement.check_node_selector(affinity["required"], f"{path}.nodeAffinity.required")
    causes += _check_sources(spec, path, volume)
    directory = (spec.get("hostPath") or {}).get("path")
    if policy == "Recycle" and directory and posixpath.normpath(directory) in ("/", "//"):
        causes.append(errors.forbidden(at, "may not be 'recycle' for a hostPath mount of '/'"))
    causes += claims.check_class(spec.get("storageClassName"), f"{path}.storageClassName")
    causes += claims.check_volume_mode(spec, path)
    if spec.get("volumeAttributesClassName") is not None:
        name, at = spec["volumeAttributesClassName"], f"{path}.volumeAttributesClassName"
        causes += claims.check_class(name, at) if name else [errors.required(at, "an empty string is disallowed")]
        if spec.get("csi") is None:
            causes.append(errors.required(f"{path}.csi", "has to be specified when using volumeAttributesClassName"))
    return causes


def check_inline_volume(spec: Obj, path: str) -> list[Cause]:
    """The volume of a CSI driver that an attachment describes itself, of which much is left to the pod that has it."""
    where = "in the context of inline volumes"
    given = [field for field in ("claimRef", "nodeAffinity") if spec.get(field) is not None]
    given += [field for field in ("capacity", "storageClassName") if spec.get(field)]
    causes = [errors.forbidden(f"{path}.{field}", f"may not be specified {where}") for field in given]
    if spec.get("csi") is None:
        causes.append(errors.required(f"{path}.csi", f"has to be specified {where}"))
    causes += claims.check_modes(spec, path)
    if spec.get("persistentVolumeReclaimPolicy", "Retain") != "Retain":
        causes.append(errors.forbidden(f"{path}.persistentVolumeReclaimPolicy", f"may only be Retain {where}"))
    if spec.get("volumeMode", "Filesystem") != "Filesystem":
        text = f"may not specify volumeMode other than Filesystem {where}"
        causes.append(errors.forbidden(f"{path}.volumeMode", text))
    return causes + _check_sources(spec, path, "")


def _check_capacity(capacity: Mapping[str, str], path: str) -> list[Cause]:
    causes = [] if capacity else [errors.required(path)]
    if set(capacity) != {"storage"}:
        text = f'Unsupported value: {errors.format_value(capacity)}: supported values: "storage"'
        causes.append(Cause(path, "FieldValueNotSupported", text))
    for name, amount in capacity.items():
        causes += storage.check_amount(amount, f"{path}[{name}]")
        if quantities.parse(amount) <= 0:
            causes.append(errors.invalid(f"{path}[{name}]", amount, "must be greater than zero"))
    return causes


def _check_sources(spec: Obj, path: str, volume: str) -> list[Cause]:
    given = [name for name in _SOURCES if spec.get(name) is not None]
    if not given:
        return [errors.required(path, "must specify a volume type")]
    causes: list[Cause] = []
    for name in given:
        second, own = volumesources.FAULT_NAMES.get(name, (name, name))
        if name == given[0] or name == "flexVolume":  # which upstream takes beside others
            causes += volumesources.check(name, spec[name], f"{path}.{own}", volume)
        else:
            causes.append(errors.forbidden(f"{path}.{second}", "may not specify more than 1 volume type"))
    if given[0] == "local" and spec.get("nodeAffinity") is None:
        causes.append(errors.required(f"{path}.nodeAffinity", "Local volume requires node affinity"))
    return causes


def check_volume_update(new: Obj, old: Obj) -> list[Cause]:
    """Where a volume's data is never changes, nor which nodes reach it."""
    now, was = new["spec"], old["spec"]
    causes: list[Cause] = []
    if _sources_of(now, was) != _sources_of(was, was):
        text = "spec.persistentvolumesource is immutable after creation"
        causes.append(errors.forbidden("spec.persistentvolumesource", f"{text}\n"))
    causes += fields.immutable(now.get("volumeMode"), was.get("volumeMode"), "volumeMode")
    affinity, before = now.get("nodeAffinity"), was.get("nodeAffinity")
    if before is not None and affinity != before and not _is_renamed(affinity, before):
        causes.append(errors.invalid("nodeAffinity", affinity, f"{fields.IMMUTABLE}, except for updating from beta label to GA"))
    if was.get("volumeAttributesClassName") is not None and now.get("volumeAttributesClassName") is None:
        causes.append(errors.forbidden("spec.volumeAttributesClassName", "update from non-nil value to nil is forbidden"))
    return causes


def _sources_of(spec: Obj, old: Obj) -> Any:
    """The sources of a volume, without the secret for its expansion where the old spec has none."""
    sources = {name: spec[name] for name in _SOURCES if spec.get(name) is not None}
    if "csi" in sources and (old.get("csi") or {}).get("controllerExpandSecretRef") is None:
        sources["csi"] = {field: value for field, value in sources["csi"].items() if field != "controllerExpandSecretRef"}
    return {name: fields.meaning(source) for name, source in sources.items()}


def _is_renamed(new: Any, old: Any) -> bool:
    """Whether a value is an old one with successors in the place of some node labels."""
    if isinstance(new, dict) and isinstance(old, dict) and new.keys() == old.keys():
        return all(_is_renamed(new[key], old[key]) for key in new)
    if isinstance(new, list) and isinstance(old, list) and len(new) == len(old):
        return all(map(_is_renamed, new, old))
    return bool(new == old or (isinstance(old, str) and nodelabels.SUCCESSORS.get(old) == new))


#: Sources that do nothing any more, of which only pods are warned.
_NOT_WARNED_OF = ("flocker", "quobyte")


def volume_warnings(obj: Obj) -> list[str]:
    spec, annotations = obj.get("spec") or {}, obj["metadata"].get("annotations") or {}
    found = [
        f'metadata.annotations[{key}]: deprecated since {since}; use "{field}" attribute instead'
        for key, since, field in (
            (storage.CLASS_ANNOTATION, "v1.8", "storageClassName"),
            (MOUNT_OPTIONS_ANNOTATION, "v1.31", "mountOptions"),
        )
        if key in annotations
    ]
    if spec.get("persistentVolumeReclaimPolicy") == "Recycle":
        text = "The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning."
        found.append(f"spec.persistentVolumeReclaimPolicy: {text}")
    terms = ((spec.get("nodeAffinity") or {}).get("required") or {}).get("nodeSelectorTerms") or ()
    for index, term in enumerate(terms):
        path = f"spec.nodeAffinity.required.nodeSelectorTerms[{index}].matchExpressions"
        found += nodelabels.warn_of_expressions(term.get("matchExpressions") or (), path)
    gone = (source for source in volumesources.GONE if source not in _NOT_WARNED_OF and spec.get(source) is not None)
    return found + [f"spec.{volumesources.GONE[source]}" for source in gone]
