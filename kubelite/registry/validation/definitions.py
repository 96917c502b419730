"""Checks of CustomResourceDefinitions, but for their schemas (see `schemas`).

What all versions have alike is named by where the older API had it for all of them (`spec.validation`, `spec.subresources`), as
the real server does.
Source: apiextensions-apiserver pkg/apis/apiextensions/validation/validation.go, v0.34.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from kubelite.meta import errors, names
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import admissionregistration, fields, schemas

_APPROVAL = "api-approved.kubernetes.io"
_COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
_COLUMN_FORMATS = ("byte", "date", "date-time", "double", "float", "int32", "int64", "password")
_REVIEW_VERSIONS = ("v1", "v1beta1")
MAX_SELECTABLE = 8


def check(obj: Obj, named: bool = True) -> list[Cause]:
    """The faults of a CustomResourceDefinition; `named` False leaves out whether its name fits, which is said at its creation."""
    spec = obj.get("spec") or {}
    wanted = spec.get("names") or {}
    causes: list[Cause] = []
    expected = f"{wanted.get('plural', '')}.{spec.get('group', '')}"
    name = obj["metadata"].get("name", "")
    if named and name != expected:
        causes.append(errors.invalid("metadata.name", name, 'must be spec.names.plural+"."+spec.group'))
    causes += _check_group(spec.get("group") or "", obj["metadata"].get("annotations") or {})
    causes += fields.one_of(spec.get("scope"), "spec.scope", ("Cluster", "Namespaced"))
    if spec.get("preserveUnknownFields"):
        text = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"
        causes.append(errors.invalid("spec.preserveUnknownFields", True, text))
    versions = spec.get("versions") or []
    causes += _check_versions(versions)
    causes += _check_names(wanted)
    if spec.get("conversion") is not None:
        causes += _check_conversion(spec["conversion"], "spec.conversion")
    return causes + _check_stored(obj, versions)


def _check_group(group: str, annotations: Mapping[str, str]) -> list[Cause]:
    if not group:
        return [errors.required("spec.group")]
    causes = fields.invalid_if(names.dns1123_subdomain(group), "spec.group", group)
    if not causes and "." not in group:
        causes.append(errors.invalid("spec.group", group, "should be a domain with at least one dot"))
    if group.endswith((".k8s.io", ".kubernetes.io")) or group in ("k8s.io", "kubernetes.io"):
        path, approval = f"metadata.annotations[{_APPROVAL}]", annotations.get(_APPROVAL, "")
        about = "see https://github.com/kubernetes/enhancements/pull/1111"
        if not approval:
            text = f'protected groups must have approval annotation "{_APPROVAL}", {about}'
            causes.append(errors.required(path, text))
        elif not approval.startswith(("https://", "http://", "unapproved")):
            text = f'protected groups must have approval annotation "{_APPROVAL}" with either a URL or a reason starting with '
            causes.append(errors.invalid(path, approval, f'{text}"unapproved", {about}'))
    return causes


def _check_versions(versions: Sequence[Obj]) -> list[Cause]:
    causes: list[Cause] = []
    seen: list[str] = []
    for index, version in enumerate(versions):
        label = version.get("name") or ""
        faults = names.dns1035_label(label)
        causes += fields.invalid_if(faults, f"spec.versions[{index}].name", label)
        if index == 0:
            causes += fields.invalid_if(faults, "spec.version", label)
        seen.append(label)
    if len(set(seen)) < len(seen):
        causes.append(errors.invalid("spec.versions", versions, "must contain unique version names"))
    if sum(bool(version.get("storage")) for version in versions) != 1:
        text = "must have exactly one version marked as storage version"
        causes.append(errors.invalid("spec.versions", versions, text))
    for field, check_field in (
        ("schema", _check_schema),
        ("subresources", _check_subresources),
        ("additionalPrinterColumns", _check_columns),
        ("selectableFields", _check_selectable),
    ):
        if versions and all(version.get(field) == versions[0].get(field) for version in versions):
            shared = "spec.validation" if field == "schema" else f"spec.{field}"
            causes += check_field(versions[0], shared, f"spec.versions[0].{field}")
        else:
            for index, version in enumerate(versions):
                path = f"spec.versions[{index}].{field}"
                causes += check_field(version, path, path)
    return causes


def _check_schema(version: Obj, path: str, own: str) -> list[Cause]:
    schema = (version.get("schema") or {}).get("openAPIV3Schema")
    if not isinstance(schema, dict):
        return [errors.required(f"{own}.openAPIV3Schema")]
    return schemas.check(schema, f"{path}.openAPIV3Schema")


def _check_subresources(version: Obj, path: str, own: str) -> list[Cause]:
    scale = (version.get("subresources") or {}).get("scale")
    if scale is None:
        return []
    causes: list[Cause] = []
    for field, root in (("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")):
        at, value = f"{path}.scale.{field}", scale.get(field) or ""
        if not value:
            causes.append(errors.required(at))
        elif not value.startswith("."):
            causes.append(errors.invalid(at, value, _NOT_PATH))
        elif not value.startswith(root):
            causes.append(errors.invalid(at, value, f"should be a json path under {root[:-1]}"))
    selector = scale.get("labelSelectorPath") or ""
    if selector and not selector.startswith("."):
        causes.append(errors.invalid(f"{path}.scale.labelSelectorPath", selector, _NOT_PATH))
    elif selector and not selector.startswith((".spec.", ".status.")):
        text = "should be a json path under either .spec or .status"
        causes.append(errors.invalid(f"{path}.scale.labelSelectorPath", selector, text))
    return causes


_NOT_PATH = "must be a simple json path starting with ."


def _check_columns(version: Obj, path: str, own: str) -> list[Cause]:
    causes: list[Cause] = []
    for index, column in enumerate(version.get("additionalPrinterColumns") or ()):
        at = f"{path}[{index}]"
        kind, form, json_path = column.get("type"), column.get("format"), column.get("jsonPath") or ""
        if not column.get("name"):
            causes.append(errors.required(f"{at}.name"))
        text = f"must be one of {','.join(_COLUMN_TYPES)}"
        if not kind:
            causes.append(errors.required(f"{at}.type", text))
        elif kind not in _COLUMN_TYPES:
            causes.append(errors.invalid(f"{at}.type", kind, text))
        if form and form not in _COLUMN_FORMATS:
            causes.append(errors.invalid(f"{at}.format", form, f"must be one of {','.join(_COLUMN_FORMATS)}"))
        if not json_path:
            causes.append(errors.required(f"{at}.JSONPath"))
        elif not json_path.startswith("."):
            causes.append(errors.invalid(f"{at}.JSONPath", json_path, _NOT_PATH))
    return causes


def _check_selectable(version: Obj, path: str, own: str) -> list[Cause]:
    """Fields that selectors may name: single values that the schema has."""
    root = (version.get("schema") or {}).get("openAPIV3Schema") or {}
    causes: list[Cause] = []
    listed = [field.get("jsonPath") or "" for field in version.get("selectableFields") or ()]
    for index, json_path in enumerate(listed):
        at = f"{path}[{index}].jsonPath"
        if not json_path:
            causes.append(errors.required(at))
            continue
        found: Any = root
        for step in json_path.removeprefix(".").split("."):
            found = (found.get("properties") or {}).get(step) if isinstance(found, Mapping) else None
        if not isinstance(found, Mapping):
            causes.append(errors.invalid(at, json_path, "is an invalid path: does not refer to a valid field"))
        elif json_path.startswith(".metadata."):
            causes.append(errors.invalid(at, json_path, "must not point to fields in metadata"))
        elif found.get("type") not in ("string", "boolean", "integer"):
            text = "must point to a field of type string, boolean or integer."
            text += " Enum string fields and strings with formats are allowed."
            causes.append(errors.invalid(at, json_path, text))
        if json_path in listed[:index]:
            causes.append(errors.duplicate(at, json_path))
    if len(set(listed)) > MAX_SELECTABLE:
        causes.append(errors.too_many(path, len(set(listed)), MAX_SELECTABLE))
    return causes


def _check_names(wanted: Obj) -> list[Cause]:
    causes = [errors.required(f"spec.names.{f}") for f in ("plural", "singular", "kind", "listKind") if not wanted.get(f)]
    for field in ("plural", "singular"):
        if wanted.get(field):
            causes += fields.invalid_if(names.dns1035_label(wanted[field]), f"spec.names.{field}", wanted[field])
    for field in ("kind", "listKind"):
        value = wanted.get(field) or ""
        faults = names.dns1035_label(value.lower()) if value else []
        causes += [
            errors.invalid(f"spec.names.{field}", value, f"may have mixed case, but should otherwise match: {fault}")
            for fault in faults
        ]
    for field in ("shortNames", "categories"):
        for index, value in enumerate(wanted.get(field) or ()):
            causes += fields.invalid_if(names.dns1035_label(value), f"spec.names.{field}[{index}]", value)
    if wanted.get("kind") and wanted.get("kind") == wanted.get("listKind"):
        text = "kind and listKind may not be the same"
        causes.append(errors.invalid("spec.names.listKind", wanted["listKind"], text))
    return causes


def _check_conversion(conversion: Obj, path: str) -> list[Cause]:
    strategy, webhook = conversion.get("strategy"), conversion.get("webhook") or {}
    causes = fields.one_of(strategy, f"{path}.strategy", ("None", "Webhook"))
    versions, client = webhook.get("conversionReviewVersions") or [], webhook.get("clientConfig")
    client_path, versions_path = f"{path}.webhookClientConfig", f"{path}.conversionReviewVersions"
    if strategy != "Webhook":
        text = "should not be set when strategy is not set to Webhook"
        given = [at for at, value in ((client_path, client), (versions_path, versions)) if value]
        return causes + [errors.forbidden(at, text) for at in given]
    if client is None:
        causes.append(errors.required(client_path, "required when strategy is set to Webhook"))
    else:
        causes += admissionregistration.client_faults(client, client_path)
    if not versions:
        causes.append(errors.required(versions_path))
    elif not set(versions) & set(_REVIEW_VERSIONS):
        text = f"must include at least one of {', '.join(_REVIEW_VERSIONS)}"
        causes.append(errors.invalid(versions_path, versions, text))
    return causes


def _lost(name: str) -> str:
    return (
        f"missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions until a "
        f"storage migration ensures no data remains persisted in {name} and removes {name} from status.storedVersions"
    )


def _check_stored(obj: Obj, versions: Sequence[Obj]) -> list[Cause]:
    """The version that is written now is among those that were."""
    path, stored = "status.storedVersions", (obj.get("status") or {}).get("storedVersions") or []
    writing = [version.get("name", "") for version in versions if version.get("storage")]
    if not stored or not versions:
        return [errors.invalid(path, stored or None, "must have at least one stored version")] if not writing else []
    last = writing[-1] if writing else ""
    names_of = {version.get("name") for version in versions}
    lost = [(index, name) for index, name in enumerate(stored) if name not in names_of]
    if lost:
        return [errors.invalid(f"{path}[{index}]", name, _lost(name)) for index, name in lost]
    return [errors.invalid(path, stored, f"must have the storage version {last}")] if last and last not in stored else []
