"""Checks of what a claim asks of a volume, wherever its spec stands: in claims, in stateful sets and in pods' ephemeral volumes;
and of what volumes themselves have of it too.

Source: kubernetes pkg/apis/core/validation/validation.go (ValidatePersistentVolumeClaimSpec), v1.34.
"""

from collections.abc import Iterator

from kubelite.meta import errors, names, quantities
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import fields, resources

_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
_VOLUME_MODES = ("Block", "Filesystem")


def check_spec(spec: Obj, path: str, any_group: bool = False) -> list[Cause]:
    """With `any_group` the groups of its sources aren't looked at."""
    causes = check_modes(spec, path, "at least 1 access mode is required")
    causes += fields.label_selector(spec.get("selector"), f"{path}.selector")
    amount = size(spec)
    if amount is None:
        causes.append(errors.required(f"{path}.resources[storage]"))
    elif quantities.parse(amount) <= 0:
        causes.append(errors.invalid(f"{path}.resources[storage]", amount, "must be greater than zero"))
    causes += check_class(spec.get("storageClassName"), f"{path}.storageClassName")
    causes += check_volume_mode(spec, path)
    for field in ("dataSource", "dataSourceRef"):
        if spec.get(field) is not None:
            causes += _check_source(spec[field], f"{path}.{field}", any_group)
    if spec.get("dataSource") is not None and spec.get("dataSourceRef") is not None:
        causes += _check_both_sources(spec, path)
    return causes + check_class(spec.get("volumeAttributesClassName"), f"{path}.volumeAttributesClassName")


def size(spec: Obj, side: str = "requests") -> str | None:
    """How much storage a claim's spec asks for, or is limited to."""
    amount: str | None = ((spec.get("resources") or {}).get(side) or {}).get("storage")
    return amount


def check_modes(spec: Obj, path: str, missing: str = "") -> list[Cause]:
    """The access modes of a claim or a volume; `missing` says what there should be."""
    modes, at = spec.get("accessModes") or (), f"{path}.accessModes"
    causes = [] if modes else [errors.required(at, missing)]
    causes += [errors.not_supported(at, mode, _MODES) for mode in modes if mode not in _MODES]
    if "ReadWriteOncePod" in modes and any(mode != "ReadWriteOncePod" and mode in _MODES for mode in modes):
        causes.append(errors.forbidden(at, "may not use ReadWriteOncePod with other access modes"))
    return causes


def check_class(name: str | None, path: str) -> list[Cause]:
    """The name of a class, of storage or of attributes, where there is one."""
    return fields.named(name, path, names.dns1123_subdomain) if name else []


def check_volume_mode(spec: Obj, path: str) -> list[Cause]:
    """How a volume is used: a claim's or a volume's own."""
    mode = spec.get("volumeMode")
    if mode is None or mode in _VOLUME_MODES:
        return []
    return [errors.not_supported(f"{path}.volumeMode", mode, _VOLUME_MODES)]


def _check_source(source: Obj, path: str, any_group: bool) -> list[Cause]:
    """What a claim's volume starts with."""
    causes = [errors.required(f"{path}.{field}") for field in ("name", "kind") if not source.get(field)]
    group = source.get("apiGroup") or ""
    if not group and source.get("kind") != "PersistentVolumeClaim":
        text = "must be 'PersistentVolumeClaim' when referencing the default apiGroup"
        causes.append(errors.invalid(path, source.get("kind", ""), text))
    if group and not any_group:
        causes += fields.invalid_if(names.dns1123_subdomain(group), f"{path}.apiGroup", group)
    namespace = source.get("namespace")
    return causes + (fields.named(namespace, f"{path}.namespace") if namespace else [])


def _check_both_sources(spec: Obj, path: str) -> list[Cause]:
    source, reference = spec["dataSource"], spec["dataSourceRef"]
    if reference.get("namespace"):
        return [errors.invalid(path, spec, "may not be specified when dataSourceRef.namespace is specified")]
    if any((source.get(field) or "") != (reference.get(field) or "") for field in ("apiGroup", "kind", "name")):
        return [errors.invalid(path, spec, "must match dataSourceRef")]
    return []


def warnings(spec: Obj, path: str) -> Iterator[str]:
    for side in ("requests", "limits"):
        amounts = (spec.get("resources") or {}).get(side)
        if amounts:
            yield from resources.fraction_warnings(amounts, "storage", f"{path}.resources.{side}")
