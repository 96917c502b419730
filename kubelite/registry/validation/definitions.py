"""Checks of CustomResourceDefinitions, but for their schemas (see `schemas`).

What all versions have alike is named by where the older API had it for all of them (`spec.validation`, `spec.subresources`), as
the real server does.
Source: apiextensions-apiserver pkg/apis/apiextensions/validation/validation.go and v1/conversion.go, v0.34.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kubelite.meta import errors, names, urls
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import fieldpaths, fields, formats, schemas, shapes, webhookclients

_APPROVAL = "api-approved.kubernetes.io"
_COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
_COLUMN_FORMATS = ("byte", "date", "date-time", "double", "float", "int32", "int64", "password")
_REVIEW_VERSIONS = ("v1", "v1beta1")
MAX_SELECTABLE = 8
_LONGEST_WARNING = 256
_SIMPLE_TYPES = ("string", "boolean", "integer")


def check(obj: Obj) -> list[Cause]:
    """The faults of a new CustomResourceDefinition."""
    spec, name = obj["spec"], obj["metadata"].get("name", "")
    causes = [*_check_spec(spec), *_check_stored(obj), *_check_approval(obj, None), *_check_preserving(spec)]
    if name != f"{spec['names'].get('plural', '')}.{spec.get('group', '')}":
        causes.append(errors.invalid("metadata.name", name, 'must be spec.names.plural+"."+spec.group'))
    return causes


def check_update(new: Obj, old: Obj, is_established: bool) -> list[Cause]:
    """The faults of a changed one; the names of one that is established are fixed."""
    spec, was = new["spec"], old["spec"]
    causes = [*_check_spec(spec), *_check_stored(new), *_check_approval(new, old)]
    if not was.get("preserveUnknownFields"):
        causes += _check_preserving(spec)
    causes += fields.immutable(spec["group"], was["group"], "spec.group")
    causes += fields.immutable(spec["names"]["plural"], was["names"]["plural"], "spec.names.plural")
    if is_established:
        causes += fields.immutable(spec["scope"], was["scope"], "spec.scope")
        causes += fields.immutable(spec["names"]["kind"], was["names"]["kind"], "spec.names.kind")
        bundle = _bundle(spec)
        if bundle and not (_bundle(was) and webhookclients.bundle_faults(_bundle(was), "")):
            causes += webhookclients.bundle_faults(bundle, "spec.conversion.webhookClientConfig.caBundle")
    return causes


def check_status(obj: Obj) -> list[Cause]:
    """The faults of a status."""
    return [*_check_names((obj.get("status") or {}).get("acceptedNames") or {}, "status.acceptedNames")]


def warnings(new: Obj, old: Obj | None) -> list[str]:
    """What a definition says and nobody acts on: formats that are none, unless it had them before."""
    before = set(_unknown_formats(old["spec"])) if old is not None else ()
    return [f'unrecognized format "{name}"' for name in dict.fromkeys(_unknown_formats(new["spec"])) if name not in before]


def _unknown_formats(spec: Obj) -> Iterator[str]:
    for version in spec.get("versions") or ():
        for schema in _schemas_of(version):
            if schema.get("type") == "string" and schema.get("format") and not formats.known(schema["format"]):
                yield schema["format"]


def _bundle(spec: Obj) -> str:
    """The certificates that a definition's webhook is known by."""
    conversion = spec.get("conversion") or {}
    webhook = (conversion.get("webhook") or {}) if conversion.get("strategy") == "Webhook" else {}
    return str((webhook.get("clientConfig") or {}).get("caBundle") or "")


def _check_spec(spec: Obj) -> Iterator[Cause]:
    versions = spec.get("versions")
    yield from _check_group(spec.get("group") or "")
    yield from fields.one_of(spec.get("scope"), "spec.scope", ("Cluster", "Namespaced"))
    if spec.get("preserveUnknownFields") and any("default" in s for v in versions or () for s in _schemas_of(v)):
        yield errors.invalid("spec.preserveUnknownFields", True, "must be false in order to use defaults in the schema")
    yield from _check_versions(versions)
    wanted = spec["names"]
    for field in ("plural", "singular", "kind", "listKind"):
        if not wanted.get(field):
            yield errors.required(f"spec.names.{field}")
    yield from _check_names(wanted, "spec.names")
    conversion = spec.get("conversion") or {}
    if conversion.get("strategy", "None") != "None" and spec.get("preserveUnknownFields"):
        text = "must be None if spec.preserveUnknownFields is true"
        yield errors.invalid("spec.conversion.strategy", conversion["strategy"], text)
    if conversion:
        yield from _check_conversion(conversion, "spec.conversion")


def _schemas_of(version: Obj) -> Iterator[Mapping[str, Any]]:
    return shapes.all_in((version.get("schema") or {}).get("openAPIV3Schema") or {})


def _check_group(group: str) -> list[Cause]:
    if not group:
        return [errors.required("spec.group")]
    faults = names.dns1123_subdomain(group)
    if faults:
        return [errors.invalid("spec.group", group, ",".join(faults))]
    return [] if "." in group else [errors.invalid("spec.group", group, "should be a domain with at least one dot")]


def _check_approval(new: Obj, old: Obj | None) -> list[Cause]:
    """Groups of the community are approved by it; what a definition said of that before it may go on to say."""
    group = new["spec"].get("group") or ""
    if not (f".{group}".endswith((".k8s.io", ".kubernetes.io"))):
        return []
    state = _approval(new)
    if state == "fine" or (old is not None and _approval(old) == state):
        return []
    path, about = f"metadata.annotations[{_APPROVAL}]", "see https://github.com/kubernetes/enhancements/pull/1111"
    if state == "missing":
        return [errors.required(path, f'protected groups must have approval annotation "{_APPROVAL}", {about}')]
    text = (
        f'protected groups must have approval annotation "{_APPROVAL}" with either a URL or a reason starting with "unapproved"'
    )
    return [errors.invalid(path, new["metadata"]["annotations"][_APPROVAL], f"{text}, {about}")]


def _approval(obj: Obj) -> str:
    said = (obj["metadata"].get("annotations") or {}).get(_APPROVAL, "")
    if not said:
        return "missing"
    if said.startswith("unapproved"):
        return "fine"
    try:
        url = urls.parse_request_uri(said)
    except ValueError:
        return "wrong"
    return "fine" if url.host and url.scheme else "wrong"


def _check_preserving(spec: Obj) -> list[Cause]:
    if not spec.get("preserveUnknownFields"):
        return []
    text = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"
    return [errors.invalid("spec.preserveUnknownFields", True, text)]


def _check_versions(given: Sequence[Obj] | None) -> Iterator[Cause]:
    versions = given or ()
    labels = [version.get("name") or "" for version in versions]
    for index, version in enumerate(versions):
        path, label = f"spec.versions[{index}]", labels[index]
        faults = ",".join(names.dns1035_label(label))
        if faults:
            yield errors.invalid(f"{path}.name", label, faults)
            if index == 0 and label:
                yield errors.invalid("spec.version", label, faults)
        if (version.get("schema") or {}).get("openAPIV3Schema") is None:
            yield errors.required(f"{path}.schema.openAPIV3Schema")
        yield from _check_deprecation(version, f"{path}.deprecationWarning")
    if len(set(labels)) < len(labels):
        yield errors.invalid("spec.versions", given, "must contain unique version names")
    if sum(bool(version.get("storage")) for version in versions) != 1:
        yield errors.invalid("spec.versions", given, "must have exactly one version marked as storage version")
    shared = {field for field in _SHARED if versions and all(v.get(field) == versions[0].get(field) for v in versions)}
    for index, version in enumerate(versions):
        own = {field: value for field, value in version.items() if field not in shared}
        yield from _check_parts(own, f"spec.versions[{index}]", _has_status([version]))
    if versions:
        common = {field: value for field, value in versions[0].items() if field in shared}
        yield from _check_parts(common, "spec", _has_status(versions))


#: What versions may have alike.
_SHARED = ("schema", "subresources", "additionalPrinterColumns", "selectableFields")


def _has_status(versions: Sequence[Obj]) -> bool:
    return any("status" in (version.get("subresources") or {}) for version in versions)


def _check_parts(parts: Obj, path: str, has_status: bool) -> Iterator[Cause]:
    """What a version has for itself, or all have alike (below `spec`)."""
    schema = (parts.get("schema") or {}).get("openAPIV3Schema")
    if schema is not None:
        yield from schemas.check(schema, f"{path}.{'validation' if path == 'spec' else 'schema'}.openAPIV3Schema", has_status)
    yield from _check_scale((parts.get("subresources") or {}).get("scale"), f"{path}.subresources.scale")
    yield from _check_columns(parts.get("additionalPrinterColumns") or (), f"{path}.additionalPrinterColumns")
    if parts.get("selectableFields"):
        yield from _check_selectable(parts["selectableFields"], schema, path)


def _check_deprecation(version: Obj, path: str) -> Iterator[Cause]:
    text = version.get("deprecationWarning")
    if text is None:
        return
    if not version.get("deprecated"):
        yield errors.invalid(path, text, "can only be set for deprecated versions")
        return
    if len(text.encode()) > _LONGEST_WARNING:
        yield errors.invalid(path, text, f"must be <= {_LONGEST_WARNING} characters long")
    if not text:
        yield errors.invalid(path, text, "must not be an empty string")
    wrong = next((at for at, letter in enumerate(text) if not letter.isprintable()), None)
    if wrong is not None:
        at = len(text[:wrong].encode())
        reason = f"must only contain printable UTF-8 characters; non-printable character found at index {at}"
        yield errors.invalid(path, text, reason)


def _check_scale(scale: Obj | None, path: str) -> Iterator[Cause]:
    if scale is None:
        return
    for field, root in (("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")):
        at, value = f"{path}.{field}", scale.get(field) or ""
        if not value:
            yield errors.required(at)
        elif not value.startswith("."):
            yield errors.invalid(at, value, _NOT_PATH)
        elif not value.startswith(root):
            yield errors.invalid(at, value, f"should be a json path under {root[:-1]}")
    selector = scale.get("labelSelectorPath") or ""
    if selector and not selector.startswith("."):
        yield errors.invalid(f"{path}.labelSelectorPath", selector, _NOT_PATH)
    elif selector and not selector.startswith((".spec.", ".status.")):
        text = "should be a json path under either .spec or .status"
        yield errors.invalid(f"{path}.labelSelectorPath", selector, text)


_NOT_PATH = "must be a simple json path starting with ."


def _check_columns(columns: Sequence[Obj], path: str) -> Iterator[Cause]:
    for index, column in enumerate(columns):
        at = f"{path}[{index}]"
        kind, form, json_path = column.get("type"), column.get("format"), column.get("jsonPath") or ""
        if not column.get("name"):
            yield errors.required(f"{at}.name")
        text = f"must be one of {','.join(_COLUMN_TYPES)}"
        if not kind:
            yield errors.required(f"{at}.type", text)
        elif kind not in _COLUMN_TYPES:
            yield errors.invalid(f"{at}.type", kind, text)
        if form and form not in _COLUMN_FORMATS:
            yield errors.invalid(f"{at}.format", form, f"must be one of {','.join(_COLUMN_FORMATS)}")
        if not json_path:
            yield errors.required(f"{at}.JSONPath")
        elif not json_path.startswith("."):
            yield errors.invalid(f"{at}.JSONPath", json_path, _NOT_PATH)


def _check_selectable(selectable: Sequence[Obj], schema: Obj | None, path: str) -> Iterator[Cause]:
    """Fields that selectors may name: single values that the schema has."""
    at = f"{path}.selectableFields"
    if schema is None:
        text = "may only be set when validations.schema is included"
        if path != "spec":
            text = "may only be set when `version.schema.openAPIV3Schema` is not included"
        yield errors.invalid(at, "", text)
        return
    unsupported = shapes.unsupported(schema)
    if unsupported:
        yield errors.invalid(f"{path}.schema.openAPIV3Schema", "", unsupported)
        return
    seen: set[str] = set()
    for index, field in enumerate(selectable):
        where, json_path = f"{at}[{index}].jsonPath", field.get("jsonPath") or ""
        if not json_path:
            yield errors.required(where)
            continue
        try:
            resolved, found = fieldpaths.resolve(json_path, schema, brackets=False)
        except ValueError as e:
            yield errors.invalid(where, json_path, f"is an invalid path: {e}")
            continue
        if resolved.partition(".")[0] == "metadata":
            yield errors.invalid(where, json_path, "must not point to fields in metadata")
        if found.get("type") not in _SIMPLE_TYPES:
            text = "must point to a field of type string, boolean or integer."
            yield errors.invalid(where, json_path, f"{text} Enum string fields and strings with formats are allowed.")
        if resolved in seen:
            yield errors.duplicate(where, json_path)
        seen.add(resolved)
    if len(seen) > MAX_SELECTABLE:
        yield errors.too_many(at, len(seen), MAX_SELECTABLE)


def _check_names(wanted: Obj, path: str) -> Iterator[Cause]:
    single = [("plural", ""), ("singular", ""), ("kind", _MIXED), ("listKind", _MIXED)]
    given = [(f"{path}.{field}", wanted.get(field) or "", about) for field, about in single if wanted.get(field)]
    for field in ("shortNames", "categories"):
        given += [(f"{path}.{field}[{index}]", value, "") for index, value in enumerate(wanted.get(field) or ())]
    for at, value, about in given:
        faults = names.dns1035_label(value.lower() if about else value)
        if faults:
            yield errors.invalid(at, value, about + ",".join(faults))
    if wanted.get("kind") and wanted.get("kind") == wanted.get("listKind"):
        yield errors.invalid(f"{path}.listKind", wanted["listKind"], "kind and listKind may not be the same")


_MIXED = "may have mixed case, but should otherwise match: "


def _check_conversion(conversion: Obj, path: str) -> Iterator[Cause]:
    strategy, webhook = conversion.get("strategy"), conversion.get("webhook") or {}
    yield from fields.one_of(strategy, f"{path}.strategy", ("None", "Webhook"))
    versions, client = webhook.get("conversionReviewVersions") or [], webhook.get("clientConfig")
    client_path, versions_path = f"{path}.webhookClientConfig", f"{path}.conversionReviewVersions"
    if strategy != "Webhook":
        text = "should not be set when strategy is not set to Webhook"
        if client is not None:
            yield errors.forbidden(client_path, text)
        if versions:
            yield errors.forbidden(versions_path, text)
        return
    if client is None:
        yield errors.required(client_path, "required when strategy is set to Webhook")
    else:
        yield from webhookclients.client_faults(client, client_path)
    if not versions:
        yield errors.required(versions_path)
        return
    for index, version in enumerate(versions):
        if version in versions[:index]:
            yield errors.invalid(f"{versions_path}[{index}]", version, "duplicate version")
        else:
            yield from fields.invalid_if(names.dns1035_label(version), f"{versions_path}[{index}]", version)
    if not set(versions) & set(_REVIEW_VERSIONS):
        yield errors.invalid(versions_path, versions, f"must include at least one of {', '.join(_REVIEW_VERSIONS)}")


def _check_stored(obj: Obj) -> Iterator[Cause]:
    """Every version that objects are stored in is one of the definition's, and the one that is written now among them."""
    path, stored = "status.storedVersions", (obj.get("status") or {}).get("storedVersions") or []
    if not stored:
        yield errors.invalid(path, None, "must have at least one stored version")
        return
    missing = {name: index for index, name in enumerate(stored)}
    for version in obj["spec"].get("versions") or ():
        if version.get("storage") and version["name"] not in missing:
            yield errors.invalid(path, stored, f"must have the storage version {version['name']}")
        missing.pop(version["name"], None)
    for name, index in missing.items():
        yield errors.invalid(f"{path}[{index}]", name, _lost(name))


def _lost(name: str) -> str:
    return (
        f"missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions until a "
        f"storage migration ensures no data remains persisted in {name} and removes {name} from status.storedVersions"
    )
