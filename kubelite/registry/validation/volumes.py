"""Checks of a pod's volumes.

Source: kubernetes pkg/apis/core/validation/validation.go, v1.34. gitRepo volumes are refused, which upstream only warns of:
they run git on the node with what a user chose.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TypeAlias

from kubelite.meta import errors, names, quantities
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import claims, environment, fields, metadata, volumesources

MIN_TOKEN_S, MAX_TOKEN_S = 600, 1 << 32


def check(volumes: Iterable[Obj], path: str, pod_name: str = "") -> tuple[dict[str, Obj], list[Cause]]:
    """`spec.volumes`: names unique, each with exactly one source. The volumes without faults come back by name. `pod_name` is
    empty for a template."""
    causes: list[Cause] = []
    good: dict[str, Obj] = {}
    made = {f"{pod_name}-{volume.get('name', '')}" for volume in volumes if "ephemeral" in volume} if pod_name else ()
    for i, volume in enumerate(volumes):
        at, name = f"{path}[{i}]", volume.get("name", "")
        faults = _check_source(volume, at)
        faults += fields.named(name, f"{at}.name")
        if name in good:
            faults.append(errors.duplicate(f"{at}.name", name))
        if made:
            faults += _check_made_claims(volume, made, pod_name, at)
        if faults:
            causes += faults
        else:
            good[name] = volume
    return good, causes


def _check_made_claims(volume: Obj, made: Collection[str], pod_name: str, at: str) -> list[Cause]:
    """The claims that are `made` for a pod's ephemeral volumes have good names, and are nobody else's."""
    name = volume.get("name", "")
    if "ephemeral" in volume and name:
        claim = f"{pod_name}-{name}"
        return [errors.invalid(f"{at}.name", name, f'PVC name "{claim}": {text}') for text in names.dns1123_subdomain(claim)]
    claim = (volume.get("persistentVolumeClaim") or {}).get("claimName", "")
    if claim not in made:
        return []
    text = "must not reference a PVC that gets created for an ephemeral volume"
    return [errors.invalid(f"{at}.persistentVolumeClaim.claimName", claim, text)]


def _check_source(volume: Obj, at: str) -> list[Cause]:
    given = [kind for kind in _CHECKS if kind in volume] if len(volume) != 2 else [kind for kind in volume if kind != "name"]
    if not given:
        return [errors.required(at, "must specify a volume type")]
    kind = given[0]
    causes = _CHECKS[kind](volume[kind], f"{at}.{volumesources.FAULT_NAMES.get(kind, (kind, kind))[1]}")
    for other in given[1:]:
        shown, _ = volumesources.FAULT_NAMES.get(other, (other, other))
        causes.append(errors.forbidden(f"{at}.{shown}", "may not specify more than 1 volume type"))
    if "iscsi" in volume:
        causes += _check_initiator(volume["iscsi"], volume.get("name", ""), f"{at}.name")
    return causes


def _check_empty_dir(source: Obj, path: str) -> list[Cause]:
    limit = source.get("sizeLimit")
    if limit is None or quantities.parse(limit) >= 0:
        return []
    return [errors.forbidden(f"{path}.sizeLimit", "SizeLimit field must be a valid resource quantity")]


def _check_git_repo(source: Obj, path: str) -> list[Cause]:
    text = "gitRepo volumes are not supported; clone in an init container into an emptyDir volume instead"
    return [errors.forbidden(path, text)]


def _check_secret(source: Obj, path: str) -> list[Cause]:
    causes = [] if source.get("secretName") else [errors.required(f"{path}.secretName")]
    causes += fields.file_mode(source.get("defaultMode"), f"{path}.defaultMode")
    return causes + _check_items(source.get("items") or (), f"{path}.items")


def _check_config_map(source: Obj, path: str) -> list[Cause]:
    causes = [] if source.get("name") else [errors.required(f"{path}.name")]
    causes += fields.file_mode(source.get("defaultMode"), f"{path}.defaultMode")
    return causes + _check_items(source.get("items") or (), f"{path}.items")


def _check_items(items: Iterable[Obj], path: str) -> list[Cause]:
    causes: list[Cause] = []
    for i, item in enumerate(items):
        at = f"{path}[{i}]"
        causes += [errors.required(f"{at}.{name}") for name in ("key", "path") if not item.get(name)]
        causes += check_file_path(item.get("path", ""), f"{at}.path")
        causes += fields.file_mode(item.get("mode"), f"{at}.mode")
    return causes


def check_file_path(value: str, path: str) -> list[Cause]:
    """Where in a volume a file is put; what starts with two dots is the node's."""
    causes = fields.descending_path(value, path)
    if value.startswith("..") and not value.startswith("../"):
        causes.append(errors.invalid(path, value, "must not start with '..'"))
    return causes


def _check_claim_name(source: Obj, path: str) -> list[Cause]:
    return [] if source.get("claimName") else [errors.required(f"{path}.claimName")]


def _check_downward(source: Obj, path: str) -> list[Cause]:
    causes = fields.file_mode(source.get("defaultMode"), f"{path}.defaultMode")
    for item in source.get("items") or ():
        causes += _check_downward_file(item, path)
    return causes


def _check_downward_file(item: Obj, path: str) -> list[Cause]:
    causes = [] if item.get("path") else [errors.required(f"{path}.path")]
    causes += check_file_path(item.get("path", ""), f"{path}.path")
    if "fieldRef" in item:
        causes += environment.check_field_ref(item["fieldRef"], environment.VOLUME_FIELDS, f"{path}.fieldRef")
        if "resourceFieldRef" in item:
            text = "fieldRef and resourceFieldRef can not be specified simultaneously"
            causes.append(errors.invalid(path, "resource", text))
    elif "resourceFieldRef" in item:
        at = f"{path}.resourceFieldRef"
        causes += environment.check_resource_field_ref(item["resourceFieldRef"], at, of_volume=True)
    else:
        causes.append(errors.required(path, "one of fieldRef and resourceFieldRef is required"))
    return causes + fields.file_mode(item.get("mode"), f"{path}.mode")


def _check_projected(source: Obj, path: str) -> list[Cause]:
    causes = fields.file_mode(source.get("defaultMode"), f"{path}.defaultMode")
    taken: set[str] = set()
    for i, projection in enumerate(source.get("sources") or ()):
        at = f"{path}.sources[{i}]"
        for kind in ("secret", "configMap"):
            if kind in projection:
                name, items = projection[kind].get("name", ""), projection[kind].get("items") or ()
                if not name:
                    causes.append(errors.required(f"{at}.{kind}.name"))
                causes += _check_items(items, f"{at}.{kind}.items")
                causes += _take(items, taken, path, name)
        if "downwardAPI" in projection:
            for item in projection["downwardAPI"].get("items") or ():
                causes += _check_downward_file(item, f"{at}.downwardAPI")
                causes += _take((item,), taken, path, item.get("path", ""))
        if "serviceAccountToken" in projection:
            causes += _check_token(projection["serviceAccountToken"], path, f"{at}.serviceAccountToken")
        if len(projection) > 1:
            causes.append(errors.forbidden(at, "may not specify more than 1 volume type per source"))
    return causes


def _take(items: Iterable[Obj], taken: set[str], path: str, shown: str) -> list[Cause]:
    """Adds the paths of a projected volume's files to those that are `taken`, each once."""
    causes: list[Cause] = []
    for item in items:
        file = item.get("path", "")
        if file and file in taken:
            causes.append(errors.invalid(path, shown, "conflicting duplicate paths"))
        taken.add(file)
    return causes


def _check_token(token: Obj, volume_path: str, path: str) -> list[Cause]:
    """A projected token; upstream tells of its file at the volume."""
    causes: list[Cause] = []
    seconds, file = token.get("expirationSeconds", 3600), token.get("path", "")
    if seconds < MIN_TOKEN_S:
        text = "may not specify a duration less than 10 minutes"
        causes.append(errors.invalid(f"{path}.expirationSeconds", seconds, text))
    elif seconds > MAX_TOKEN_S:
        text = "may not specify a duration larger than 2^32 seconds"
        causes.append(errors.invalid(f"{path}.expirationSeconds", seconds, text))
    if not file:
        return [*causes, errors.required(f"{volume_path}.path")]
    return causes + check_file_path(file, f"{volume_path}.path")


def _check_csi(source: Obj, path: str) -> list[Cause]:
    causes = volumesources.driver_name(source.get("driver", ""), f"{path}.driver")
    secret = source.get("nodePublishSecretRef")
    if secret is not None:
        name = secret.get("name", "")
        if name:
            causes += fields.invalid_if(names.dns1123_subdomain(name), f"{path}.name", name)
        else:
            causes.append(errors.required(f"{path}.nodePublishSecretRef.name"))
    return causes


def _check_ephemeral(source: Obj, path: str) -> list[Cause]:
    template, at = source.get("volumeClaimTemplate"), f"{path}.volumeClaimTemplate"
    if template is None:
        return [errors.required(at)]
    meta = template.get("metadata") or {}
    causes = fields.label_map(meta.get("labels"), f"{at}.metadata.labels")
    metadata.validate_annotations(meta.get("annotations") or {}, f"{at}.metadata.annotations", causes)
    set_anyway = [name for name, value in meta.items() if name not in ("labels", "annotations") and value]
    causes += [errors.forbidden(f"{at}.metadata.{name}", "cannot be set") for name in set_anyway]
    return causes + claims.check_spec(template.get("spec") or {}, f"{at}.spec")


def _check_iscsi(source: Obj, path: str) -> list[Cause]:
    causes = [errors.required(f"{path}.{field}") for field in ("targetPortal", "iqn") if not source.get(field)]
    for field, name in (("iqn", source.get("iqn") or None), ("initiatorname", source.get("initiatorName"))):
        if name is not None and not volumesources.is_iscsi_name(name):
            known = "" if name.startswith(("iqn", "eui", "naa")) else " starting with iqn, eui, or naa"
            causes.append(errors.invalid(f"{path}.{field}", name, f"must be valid format{known}"))
    return causes + volumesources.iscsi_access(source, path)


def _check_initiator(source: Obj, volume: str, path: str) -> list[Cause]:
    """A volume's name, from which a node makes one together with the portal's."""
    if source.get("initiatorName") is None or len(f"{volume}:{source.get('targetPortal', '')}") <= volumesources.MAX_INITIATOR:
        return []
    text = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters"
    return [errors.invalid(path, volume, f"{text} if iscsi.initiatorName is specified.")]


_Check: TypeAlias = Callable[[Obj, str], list[Cause]]


def _shared(kind: str) -> _Check:
    """The check of a source that persistent volumes have too."""
    return lambda source, path: volumesources.check(kind, source, path, "")


def _with_secret(kind: str) -> _Check:
    """The same, of one whose secret is in the pod's own namespace."""

    def check_both(source: Obj, path: str) -> list[Cause]:
        secret = source.get("secretRef")
        causes = [errors.required(f"{path}.secretRef.name")] if secret is not None and not secret.get("name") else []
        return causes + volumesources.check(kind, {k: v for k, v in source.items() if k != "secretRef"}, path, "")

    return check_both


#: The sources in upstream's order: of several, the first is taken for the volume's own.
_CHECKS: Mapping[str, _Check] = {
    "emptyDir": _check_empty_dir,
    "hostPath": _shared("hostPath"),
    "gitRepo": _check_git_repo,
    "gcePersistentDisk": _shared("gcePersistentDisk"),
    "awsElasticBlockStore": _shared("awsElasticBlockStore"),
    "secret": _check_secret,
    "nfs": _shared("nfs"),
    "iscsi": _check_iscsi,
    "glusterfs": _shared("glusterfs"),
    "flocker": _shared("flocker"),
    "persistentVolumeClaim": _check_claim_name,
    "rbd": _shared("rbd"),
    "cinder": _with_secret("cinder"),
    "cephfs": _shared("cephfs"),
    "quobyte": _shared("quobyte"),
    "downwardAPI": _check_downward,
    "fc": _shared("fc"),
    "flexVolume": _shared("flexVolume"),
    "configMap": _check_config_map,
    "azureFile": _shared("azureFile"),
    "vsphereVolume": _shared("vsphereVolume"),
    "photonPersistentDisk": _shared("photonPersistentDisk"),
    "portworxVolume": _shared("portworxVolume"),
    "azureDisk": _shared("azureDisk"),
    "storageos": _with_secret("storageos"),
    "projected": _check_projected,
    "scaleIO": _shared("scaleIO"),
    "csi": _check_csi,
    "ephemeral": _check_ephemeral,
}
