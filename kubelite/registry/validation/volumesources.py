"""What the sources of volumes have to say: those of persistent volumes, most of which pods' volumes have too.

Source: kubernetes pkg/apis/core/validation/validation.go, v1.34.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from kubelite.meta import errors, names
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import fields

HOST_PATH_TYPES = ("", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket")
MAX_TENANT, MAX_INITIATOR = 64, 64
_CACHING_MODES = ("None", "ReadOnly", "ReadWrite")
_DISK_KINDS = ("Dedicated", "Managed", "Shared")
_MANAGED_DISK = "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"
_BLOB_DISK = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"
_has_iqn = re.compile(r"iqn\.\d{4}-\d{2}\.[A-Za-z0-9.-]+:[^,;*&$|\s]+$", re.ASCII).search
_is_eui = re.compile(r"eui.[A-Za-z0-9]{16}").fullmatch
_is_naa = re.compile(r"naa.[A-Za-z0-9]{32}").fullmatch
_is_host_and_port = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*):[^:\[\]]*").fullmatch

#: The fields that a source can't be without.
_REQUIRED: Mapping[str, Sequence[str]] = {
    "awsElasticBlockStore": ("volumeID",),
    "azureDisk": ("diskName", "diskURI"),
    "azureFile": ("secretName", "shareName"),
    "cephfs": ("monitors",),
    "cinder": ("volumeID",),
    "csi": ("volumeHandle",),
    "flexVolume": ("driver",),
    "gcePersistentDisk": ("pdName",),
    "glusterfs": ("endpoints", "path"),
    "hostPath": ("path",),
    "iscsi": ("targetPortal", "iqn"),
    "local": ("path",),
    "nfs": ("server", "path"),
    "photonPersistentDisk": ("pdID",),
    "portworxVolume": ("volumeID",),
    "quobyte": ("volume",),
    "rbd": ("monitors", "image"),
    "scaleIO": ("gateway", "system", "volumeName"),
    "storageos": ("volumeName",),
    "vsphereVolume": ("volumePath",),
}

#: Sources whose fields are named otherwise in faults: what the fault of a second source names, and what others do.
FAULT_NAMES: Mapping[str, tuple[str, str]] = {
    "cephfs": ("cephFS", "cephfs"),
    "downwardAPI": ("downwarAPI", "downwardAPI"),
    "gcePersistentDisk": ("gcePersistentDisk", "persistentDisk"),
}
#: What is warned of in sources that do nothing any more.
GONE: Mapping[str, str] = {
    kind: f"{name}: deprecated in {since}, non-functional in {until}+"
    for kind, name, since, until in (
        ("cephfs", "cephfs", "v1.28", "v1.31"),
        ("flocker", "flocker", "v1.22", "v1.25"),
        ("glusterfs", "glusterfs", "v1.25", "v1.26"),
        ("photonPersistentDisk", "photonPersistentDisk", "v1.11", "v1.16"),
        ("quobyte", "quobyte", "v1.22", "v1.25"),
        ("rbd", "rbd", "v1.28", "v1.31"),
        ("scaleIO", "scaleIO", "v1.16", "v1.22"),
        ("storageos", "storageOS", "v1.22", "v1.25"),
    )
}


def check(kind: str, source: Obj, path: str, volume: str) -> list[Cause]:
    """A source by the name of its field; `volume` is the name of the volume that has it."""
    causes = [errors.required(f"{path}.{field}") for field in _REQUIRED.get(kind, ()) if not source.get(field)]
    further = _FURTHER.get(kind)
    return causes + further(source, path, volume) if further is not None else causes


def driver_name(name: str, path: str) -> list[Cause]:
    """The name that a CSI driver has everywhere."""
    causes = [] if name else [errors.required(path)]
    if len(name) > names.LABEL_MAX:
        causes.append(errors.too_long(path, names.LABEL_MAX))
    return causes + fields.invalid_if(names.dns1123_subdomain(name.lower()), path, name)


def _partition(source: Obj, path: str, volume: str) -> list[Cause]:
    partition = source.get("partition", 0)
    if 0 <= partition <= 255:
        return []
    return [errors.invalid(f"{path}.partition", partition, "must be between 1 and 255, inclusive")]


def _host_path(source: Obj, path: str, volume: str) -> list[Cause]:
    if not source.get("path"):
        return []
    causes, kind = _no_steps_back(source, path, volume), source.get("type")
    if kind is not None and kind not in HOST_PATH_TYPES:
        causes.append(errors.not_supported(f"{path}.type", kind, HOST_PATH_TYPES))
    return causes


def _no_steps_back(source: Obj, path: str, volume: str) -> list[Cause]:
    if ".." not in source.get("path", "").split("/"):
        return []
    return [errors.invalid(f"{path}.path", source["path"], "must not contain '..'")]


def _nfs(source: Obj, path: str, volume: str) -> list[Cause]:
    directory = source.get("path", "")
    return [] if directory.startswith("/") else [errors.invalid(f"{path}.path", directory, "must be an absolute path")]


def _glusterfs(source: Obj, path: str, volume: str) -> list[Cause]:
    namespace, at = source.get("endpointsNamespace"), f"{path}.endpointsNamespace"
    if namespace == "":
        return [errors.invalid(at, namespace, "if the endpointnamespace is set, it must be a valid namespace name")]
    return fields.invalid_if(names.dns1123_label(namespace), at, namespace) if namespace is not None else []


def _flocker(source: Obj, path: str, volume: str) -> list[Cause]:
    name, uuid = source.get("datasetName", ""), source.get("datasetUUID", "")
    causes: list[Cause] = []
    if not name and not uuid:
        causes.append(errors.required(path, "one of datasetName and datasetUUID is required"))
    if name and uuid:
        causes.append(errors.invalid(path, "resource", "datasetName and datasetUUID can not be specified simultaneously"))
    if "/" in name:
        causes.append(errors.invalid(f"{path}.datasetName", name, "must not contain '/'"))
    return causes


def _quobyte(source: Obj, path: str, volume: str) -> list[Cause]:
    registry, text = source.get("registry", ""), "must be a host:port pair or multiple pairs separated by commas"
    if not registry:
        return [errors.required(f"{path}.registry", text)]
    if len(source.get("tenant", "").encode()) > MAX_TENANT:
        why = f"must be a UUID and may not exceed a length of {MAX_TENANT} characters"
        return [errors.required(f"{path}.tenant", why)]
    bad = [pair for pair in registry.split(",") if not _is_host_and_port(pair)]
    return [errors.invalid(f"{path}.registry", registry, text) for _ in bad]


def _iscsi(source: Obj, path: str, volume: str) -> list[Cause]:
    portal, initiator, secret = source.get("targetPortal", ""), source.get("initiatorName"), source.get("secretRef")
    causes: list[Cause] = []
    if initiator is not None and len(f"{volume}:{portal}".encode()) > MAX_INITIATOR:
        text = (
            "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified."
        )
        causes.append(errors.invalid(f"{path}.targetportal", portal, text))
    for name, at in ((source.get("iqn") or None, "iqn"), (initiator, "initiatorname")):
        if name is not None and not is_iscsi_name(name):
            causes.append(errors.invalid(f"{path}.{at}", name, "must be valid format"))
    causes += iscsi_access(source, path)
    if secret is not None and not secret.get("name"):
        causes.append(errors.required(f"{path}.secretRef.name"))
    return causes


def iscsi_access(source: Obj, path: str) -> list[Cause]:
    causes = fields.in_range(source.get("lun", 0), 0, 255, f"{path}.lun")
    if source.get("secretRef") is None and (source.get("chapAuthDiscovery") or source.get("chapAuthSession")):
        causes.append(errors.required(f"{path}.secretRef"))
    return causes


def is_iscsi_name(name: str) -> bool:
    check = {"iqn": _has_iqn, "eui": _is_eui, "naa": _is_naa}.get(name[:3])
    return check is not None and check(name) is not None


def _fc(source: Obj, path: str, volume: str) -> list[Cause]:
    targets, ids, lun = source.get("targetWWNs"), source.get("wwids"), source.get("lun")
    at = f"{path}.targetWWNs"
    causes: list[Cause] = []
    if not targets and not ids:
        causes.append(errors.required(at, "must specify either targetWWNs or wwids, but not both"))
    if targets and ids:
        causes.append(errors.invalid(at, targets, "targetWWNs and wwids can not be specified simultaneously"))
    if targets and lun is None:
        causes.append(errors.required(f"{path}.lun", "lun is required if targetWWNs is specified"))
    elif targets and lun is not None:
        causes += fields.in_range(lun, 0, 255, f"{path}.lun")
    return causes


def _flex_volume(source: Obj, path: str, volume: str) -> list[Cause]:
    causes: list[Cause] = []
    for key in source.get("options") or ():
        if f".{key.partition('/')[0].lower()}".endswith((".kubernetes.io", ".k8s.io")):
            text = "kubernetes.io and k8s.io namespaces are reserved"
            causes.append(errors.invalid(f"{path}.options[{key}]", key, text))
    return causes


def _azure_file(source: Obj, path: str, volume: str) -> list[Cause]:
    return [errors.required(f"{path}.secretNamespace")] if source.get("secretNamespace") == "" else []


def _azure_disk(source: Obj, path: str, volume: str) -> list[Cause]:
    uri, kind = source.get("diskURI", ""), source.get("kind")
    causes: list[Cause] = []
    for field, allowed in (("cachingMode", _CACHING_MODES), ("kind", _DISK_KINDS)):
        if field in source and source[field] not in allowed:
            causes.append(errors.not_supported(f"{path}.{field}", source[field], allowed))
    prefix, form = ("/subscriptions/", _MANAGED_DISK) if kind == "Managed" else ("https://", _BLOB_DISK)
    if kind is not None and not uri.startswith(prefix):
        causes.append(errors.not_supported(f"{path}.diskURI", uri, (form,)))
    return causes


def _secret(source: Obj, path: str, volume: str) -> list[Cause]:
    """A secret that is named with its namespace."""
    secret = source.get("secretRef")
    if secret is None:
        return []
    return [errors.required(f"{path}.secretRef.{field}") for field in ("name", "namespace") if not secret.get(field)]


def _storage_os(source: Obj, path: str, volume: str) -> list[Cause]:
    causes: list[Cause] = []
    for field in ("volumeName", "volumeNamespace"):
        if source.get(field):
            causes += fields.invalid_if(names.dns1123_label(source[field]), f"{path}.{field}", source[field])
    return causes + _secret(source, path, volume)


def _csi(source: Obj, path: str, volume: str) -> list[Cause]:
    causes = driver_name(source.get("driver", ""), f"{path}.driver")
    for use in ("controllerPublish", "controllerExpand", "nodePublish", "nodeExpand"):
        secret, at = source.get(f"{use}SecretRef"), f"{path}.{use}SecretRef"
        if secret is not None:
            causes += fields.named(secret.get("name", ""), f"{at}.name", names.dns1123_subdomain)
            causes += fields.named(secret.get("namespace", ""), f"{at}.namespace")
    return causes


_Check: TypeAlias = Callable[[Obj, str, str], list[Cause]]

#: What there is to check of a source beyond the fields that it can't be without.
_FURTHER: Mapping[str, _Check] = {
    "awsElasticBlockStore": _partition,
    "azureDisk": _azure_disk,
    "azureFile": _azure_file,
    "cinder": _secret,
    "csi": _csi,
    "fc": _fc,
    "flexVolume": _flex_volume,
    "flocker": _flocker,
    "gcePersistentDisk": _partition,
    "glusterfs": _glusterfs,
    "hostPath": _host_path,
    "iscsi": _iscsi,
    "local": _no_steps_back,
    "nfs": _nfs,
    "quobyte": _quobyte,
    "storageos": _storage_os,
}
