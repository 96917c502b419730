"""Checks of a pod's volumes.

Source: kubernetes pkg/apis/core/validation/validation.go, v1.34. gitRepo volumes are refused, which upstream only warns of:
they run git on the node with what a user chose.
"""

from collections.abc import Iterable, Sequence

from kubelite.meta import errors, names, quantities
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import containers, fields

HOST_PATH_TYPES = (
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
)
#: The source that is taken for the volume's own where there are several.
_ORDER = (
    "emptyDir",
    "hostPath",
    "gitRepo",
    "secret",
    "nfs",
    "iscsi",
    "persistentVolumeClaim",
    "downwardAPI",
    "configMap",
    "projected",
)
VOLUME_FIELDS = ("metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid")


def check(volumes: Iterable[Obj], path: str) -> list[Cause]:
    """`spec.volumes`: names unique, each with exactly one source."""
    causes: list[Cause] = []
    seen: set[str] = set()
    for i, volume in enumerate(volumes):
        at = f"{path}[{i}]"
        name = volume.get("name", "")
        causes += fields.named(name, f"{at}.name")
        if name in seen:
            causes.append(errors.duplicate(f"{at}.name", name))
        seen.add(name)
        causes += _check_source(volume, at)
    return causes


def _check_source(volume: Obj, at: str) -> list[Cause]:
    sources = [name for name, value in volume.items() if name != "name" and value is not None]
    sources.sort(key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))
    if not sources:
        return [errors.required(at, "must specify a volume type")]
    causes = [errors.forbidden(f"{at}.{name}", "may not specify more than 1 volume type") for name in sources[1:]]
    kind = sources[0]
    source, path = volume[kind], f"{at}.{kind}"
    match kind:
        case "emptyDir":
            limit = source.get("sizeLimit")
            if limit is not None and quantities.parse(str(limit)) < 0:
                text = "SizeLimit field must be a valid resource quantity"
                causes.append(errors.forbidden(f"{path}.sizeLimit", text))
        case "hostPath":
            causes += _check_host_path(source, path)
        case "secret":
            if not source.get("secretName"):
                causes.append(errors.required(f"{path}.secretName"))
            causes += _check_files(source, path)
        case "configMap":
            if not source.get("name"):
                causes.append(errors.required(f"{path}.name"))
            causes += _check_files(source, path)
        case "downwardAPI":
            causes += fields.file_mode(source.get("defaultMode"), f"{path}.defaultMode")
            for item in source.get("items") or ():
                causes += _check_downward_file(item, path)
        case "projected":
            causes += _check_projected(source, path)
        case "persistentVolumeClaim":
            if not source.get("claimName"):
                causes.append(errors.required(f"{path}.claimName"))
        case "gitRepo":
            text = "gitRepo volumes are not supported; clone in an init container into an emptyDir volume instead"
            causes.append(errors.forbidden(path, text))
        case "csi":
            if not source.get("driver"):
                causes.append(errors.required(f"{path}.driver"))
        case "nfs":
            for name in ("server", "path"):
                if not source.get(name):
                    causes.append(errors.required(f"{path}.{name}"))
    return causes


def _check_host_path(source: Obj, path: str) -> list[Cause]:
    directory = source.get("path", "")
    if not directory:
        return [errors.required(f"{path}.path")]
    causes: list[Cause] = []
    if ".." in directory.split("/"):
        causes.append(errors.invalid(f"{path}.path", directory, "must not contain '..'"))
    kind = source.get("type")
    if kind is not None and kind not in HOST_PATH_TYPES:
        causes.append(errors.not_supported(f"{path}.type", kind, HOST_PATH_TYPES))
    return causes


def _check_files(source: Obj, path: str) -> list[Cause]:
    causes = fields.file_mode(source.get("defaultMode"), f"{path}.defaultMode")
    return causes + _check_items(source.get("items") or (), f"{path}.items")


def _check_items(items: Sequence[Obj], path: str) -> list[Cause]:
    causes: list[Cause] = []
    for i, item in enumerate(items):
        at = f"{path}[{i}]"
        causes += [errors.required(f"{at}.{name}") for name in ("key", "path") if not item.get(name)]
        causes += _check_file_path(item.get("path", ""), f"{at}.path")
        causes += fields.file_mode(item.get("mode"), f"{at}.mode")
    return causes


def _check_file_path(value: str, path: str) -> list[Cause]:
    causes = containers.check_descending_path(value, path)
    if value.startswith("..") and not value.startswith("../"):
        causes.append(errors.invalid(path, value, "must not start with '..'"))
    return causes


def _check_downward_file(item: Obj, path: str) -> list[Cause]:
    causes = [] if item.get("path") else [errors.required(f"{path}.path")]
    causes += _check_file_path(item.get("path", ""), f"{path}.path")
    if "fieldRef" in item:
        causes += containers.check_field_ref(item["fieldRef"], VOLUME_FIELDS, f"{path}.fieldRef")
        if "resourceFieldRef" in item:
            text = "fieldRef and resourceFieldRef can not be specified simultaneously"
            causes.append(errors.invalid(path, "resource", text))
    elif "resourceFieldRef" in item:
        causes += containers.check_resource_field_ref(item["resourceFieldRef"], f"{path}.resourceFieldRef", of_volume=True)
    else:
        causes.append(errors.required(path, "one of fieldRef and resourceFieldRef is required"))
    return causes + fields.file_mode(item.get("mode"), f"{path}.mode")


def _check_projected(source: Obj, path: str) -> list[Cause]:
    causes = fields.file_mode(source.get("defaultMode"), f"{path}.defaultMode")
    taken: set[str] = set()

    def take(file: str, at: str) -> None:
        if file and file in taken:
            causes.append(errors.invalid(at, source.get("name", ""), f"conflicting duplicate paths: {file}"))
        taken.add(file)

    for i, projection in enumerate(source.get("sources") or ()):
        at = f"{path}.sources[{i}]"
        for name in ("secret", "configMap"):
            if name in projection:
                if not projection[name].get("name"):
                    causes.append(errors.required(f"{at}.{name}.name"))
                causes += _check_items(projection[name].get("items") or (), f"{at}.{name}.items")
                for item in projection[name].get("items") or ():
                    take(item.get("path", ""), at)
        if "downwardAPI" in projection:
            for item in projection["downwardAPI"].get("items") or ():
                causes += _check_downward_file(item, f"{at}.downwardAPI")
                take(item.get("path", ""), at)
        if "serviceAccountToken" in projection:
            token = projection["serviceAccountToken"]
            seconds = token.get("expirationSeconds", 3600)
            if seconds < 600:
                text = "may not specify a duration less than 10 minutes"
                causes.append(errors.invalid(f"{at}.serviceAccountToken.expirationSeconds", seconds, text))
            elif seconds > 1 << 32:
                text = "may not specify a duration larger than 2^32 seconds"
                causes.append(errors.invalid(f"{at}.serviceAccountToken.expirationSeconds", seconds, text))
            if not token.get("path"):
                causes.append(errors.required(f"{at}.serviceAccountToken.path"))
            causes += _check_file_path(token.get("path", ""), f"{at}.serviceAccountToken.path")
            take(token.get("path", ""), at)
        if len(projection) > 1:
            causes.append(errors.forbidden(at, "may not specify more than 1 volume type"))
    return causes


def names_of(volumes: Iterable[Obj]) -> dict[str, Obj]:
    """Volumes by name, for the checks of what mounts them."""
    return {v.get("name", ""): v for v in volumes if not names.dns1123_label(v.get("name", ""))}
