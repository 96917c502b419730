"""Checks of containers' environments and of the references to a pod's own fields, which volumes have too.

Source: kubernetes pkg/apis/core/validation/validation.go, v1.34. References to files (alpha) are dropped before.
"""

from collections.abc import Iterable, Sequence

from kubelite.meta import errors, names
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import fields, metadata

ENV_FIELDS = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
VOLUME_FIELDS = ("metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid")
#: All that the decoder knows; not everything can be referred to everywhere.
_FIELDS = frozenset((*ENV_FIELDS, *VOLUME_FIELDS, "spec.restartPolicy", "spec.schedulerName", "status.phase"))
#: Old names that clients may still send.
_ALIASES = {"spec.host": "spec.nodeName"}
_SUBSCRIPTED = ("metadata.annotations", "metadata.labels")

RESOURCE_FIELDS = (
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
)
_HUGE_PAGE_FIELDS = ("requests.hugepages-", "limits.hugepages-")
_DIVISORS = ("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei")
_NOUNS = {"memory": "memory", "ephemeral-storage": "local ephemeral storage"}

_SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef")


def check_variables(variables: Iterable[Obj], path: str) -> list[Cause]:
    """`env`."""
    causes: list[Cause] = []
    for i, variable in enumerate(variables):
        causes += fields.named(variable.get("name", ""), f"{path}[{i}].name", names.env_var_name)
        source = variable.get("valueFrom")
        if source is not None:
            causes += _check_source(source, variable.get("value", ""), f"{path}[{i}].valueFrom")
    return causes


def _check_source(source: Obj, value: str, path: str) -> list[Cause]:
    causes: list[Cause] = []
    given = [name for name in _SOURCES if name in source]
    for name in given:
        at = f"{path}.{name}"
        if name == "fieldRef":
            causes += check_field_ref(source[name], ENV_FIELDS, at)
        elif name == "resourceFieldRef":
            causes += check_resource_field_ref(source[name], at)
        else:
            referred = source[name].get("name", "")
            causes += fields.invalid_if(names.dns1123_subdomain(referred), f"{at}.name", referred)
            causes += fields.named(source[name].get("key", ""), f"{at}.key", names.config_key)
    if not given:
        text = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"
        causes.append(errors.invalid(path, "", text))
    elif value:
        causes.append(errors.invalid(path, "", "may not be specified when `value` is not empty"))
    elif len(given) > 1:
        causes.append(errors.invalid(path, "", "may not have more than one field specified at a time"))
    return causes


def check_sources(sources: Iterable[Obj], path: str) -> list[Cause]:
    """`envFrom`."""
    causes: list[Cause] = []
    for i, source in enumerate(sources):
        at = f"{path}[{i}]"
        prefix = source.get("prefix", "")
        if prefix:
            causes += fields.invalid_if(names.env_var_name(prefix), f"{at}.prefix", prefix)
        given = [name for name in ("configMapRef", "secretRef") if name in source]
        for name in given:
            causes += fields.named(source[name].get("name", ""), f"{at}.{name}.name", _reference_faults)
        if not given:
            causes.append(errors.invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"))
        elif len(given) > 1:
            causes.append(errors.invalid(path, "", "may not have more than one field specified at a time"))
    return causes


def _reference_faults(name: str) -> Sequence[str]:
    """Upstream takes these names for what others are generated from."""
    return metadata.subdomain_faults(name, True)


def check_field_ref(ref: Obj, allowed: Sequence[str], path: str) -> list[Cause]:
    """A downward API reference to a pod's field, subscripts of labels and annotations among them."""
    version, field = ref.get("apiVersion"), ref.get("fieldPath", "")
    if not version:
        return [errors.required(f"{path}.apiVersion")]
    if not field:
        return [errors.required(f"{path}.fieldPath")]
    fault = ""
    base, bracket, rest = field.partition("['")
    subscripted = base and bracket and rest.endswith("']")
    if version != "v1":
        fault = f"unsupported pod version: {version}"
    elif subscripted and base not in _SUBSCRIPTED:
        fault = f"field label does not support subscript: {field}"
    elif not subscripted and field not in _FIELDS and field not in _ALIASES:
        fault = f"field label not supported: {field}"
    if fault:
        return [errors.invalid(f"{path}.fieldPath", field, f"error converting fieldPath: {fault}")]
    if subscripted:
        key = rest[:-2].lower() if base == "metadata.annotations" else rest[:-2]
        return fields.invalid_if(names.qualified_name(key), path, key)
    field = _ALIASES.get(field, field)
    return [] if field in allowed else [errors.not_supported(f"{path}.fieldPath", field, allowed)]


def check_resource_field_ref(ref: Obj, path: str, of_volume: bool = False) -> list[Cause]:
    """A downward API reference to a container's resource."""
    resource, divisor = ref.get("resource", ""), ref.get("divisor", "0")
    causes: list[Cause] = []
    if of_volume and not ref.get("containerName"):
        causes.append(errors.required(f"{path}.containerName"))
    elif not resource:
        causes.append(errors.required(f"{path}.resource"))
    elif resource not in RESOURCE_FIELDS and not resource.startswith(_HUGE_PAGE_FIELDS):
        causes.append(errors.not_supported(f"{path}.resource", resource, RESOURCE_FIELDS))
    if divisor == "0" or not (resource in RESOURCE_FIELDS or resource.startswith(_HUGE_PAGE_FIELDS)):
        return causes
    if resource.endswith(".cpu"):
        if divisor not in ("1m", "1"):
            text = "only divisor's values 1m and 1 are supported with the cpu resource"
            causes.append(errors.invalid(f"{path}.divisor", resource, text))
    elif divisor not in _DIVISORS:
        noun = _NOUNS.get(resource.partition(".")[2], "hugepages")
        text = f"only divisor's values {', '.join(_DIVISORS)} are supported with the {noun} resource"
        causes.append(errors.invalid(f"{path}.divisor", resource, text))
    return causes
