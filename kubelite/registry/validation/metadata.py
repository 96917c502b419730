"""ObjectMeta: the checks that every kind's objects go through.

Source: apimachinery pkg/api/validation/objectmeta.go and pkg/apis/meta/v1/validation, v0.34.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from kubelite.meta import errors, names
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj

ORPHAN = "orphan"
FOREGROUND = "foregroundDeletion"

ANNOTATIONS_MAX_BYTES = 256 * 1024
IMMUTABLE = "field is immutable"

#: name_faults(name, is_prefix) -> the texts of what is wrong.
NameFaults: TypeAlias = Callable[[str, bool], Sequence[str]]


def _masked(name: str, prefix: bool) -> str:
    """A generateName may end with a dash, as what follows it is letters."""
    return name[:-1] + "a" if prefix and len(name) > 1 and name.endswith("-") else name


def subdomain_faults(name: str, prefix: bool) -> Sequence[str]:
    return names.dns1123_subdomain(_masked(name, prefix))


def label_faults(name: str, prefix: bool) -> Sequence[str]:
    return names.dns1123_label(_masked(name, prefix))


def label_1035_faults(name: str, prefix: bool) -> Sequence[str]:
    return names.dns1035_label(_masked(name, prefix))


def path_segment_faults(name: str, prefix: bool) -> Sequence[str]:
    return names.path_segment(name, prefix)


def validate(meta: Obj, namespaced: bool, name_faults: NameFaults, qualified: bool = True) -> list[Cause]:
    """The faults of a new object's metadata, its name generated already. `qualified`: a finalizer that is none of Kubernetes'
    own has a domain."""
    causes: list[Cause] = []
    generate = meta.get("generateName")
    if generate:
        causes += _generate_name(generate, name_faults)
    name = meta.get("name")
    if not name:
        causes.append(errors.required("metadata.name", "name or generateName is required"))
    else:
        causes += [errors.invalid("metadata.name", name, text) for text in name_faults(name, False)]
    if namespaced:
        namespace = meta.get("namespace")
        if not namespace:
            causes.append(errors.required("metadata.namespace"))
        else:
            causes += [errors.invalid("metadata.namespace", namespace, t) for t in names.dns1123_label(namespace)]
    elif meta.get("namespace"):
        causes.append(errors.forbidden("metadata.namespace", "not allowed on this type"))
    if meta.get("generation", 0) < 0:
        causes.append(errors.invalid("metadata.generation", meta["generation"], "must be greater than or equal to 0"))
    _common(meta, causes)
    finalizers = meta.get("finalizers")
    if finalizers:
        validate_finalizers(finalizers, causes, qualified)
    return causes


_FIXED = ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")


def validate_update(new: Obj, old: Obj, name_faults: NameFaults | None, qualified: bool = True) -> list[Cause]:
    """The faults of an updated object's metadata against the stored one's. `name_faults` None: its kind doesn't look at the
    form of generateName again."""
    causes: list[Cause] = []
    generate = new.get("generateName")
    if generate and generate != old.get("generateName"):
        causes += _generate_name(generate, path_segment_faults)
        causes += _generate_name(generate, name_faults) if name_faults is not None else ()
    finalizers = new.get("finalizers")
    if finalizers and finalizers != old.get("finalizers"):
        validate_finalizers(finalizers, causes, qualified)
        if old.get("deletionTimestamp"):
            fresh = sorted(set(finalizers) - set(old.get("finalizers") or ()))
            if fresh:
                listed = ", ".join(f'"{name}"' for name in fresh)
                text = f"no new finalizers can be added if the object is being deleted, found new finalizers []string{{{listed}}}"
                causes.append(errors.forbidden("metadata.finalizers", text))
    changed = [field for field in _FIXED if new.get(field) != old.get(field)]
    causes += [errors.invalid(f"metadata.{field}", new.get(field), IMMUTABLE) for field in changed]
    _common(new, causes)
    return causes


def _generate_name(base: str, name_faults: NameFaults) -> list[Cause]:
    return [errors.invalid("metadata.generateName", base, text) for text in name_faults(base, True)]


def _common(meta: Obj, causes: list[Cause]) -> None:
    labels = meta.get("labels")
    if labels:
        validate_labels(labels, "metadata.labels", causes)
    annotations = meta.get("annotations")
    if annotations:
        validate_annotations(annotations, "metadata.annotations", causes)
    owners = meta.get("ownerReferences")
    if owners:
        _validate_owners(owners, causes)
    managed = meta.get("managedFields")
    if managed:
        _validate_managed(managed, causes)


def validate_annotations(annotations: Mapping[str, str], path: str, causes: list[Cause]) -> None:
    size = 0
    for key, value in annotations.items():
        size += len(key) + len(value)
        faults = names.qualified_name(key.lower())
        if faults:
            causes += [errors.invalid(path, key, text) for text in faults]
    if size > ANNOTATIONS_MAX_BYTES // 4 and _bytes(annotations) > ANNOTATIONS_MAX_BYTES:
        causes.append(errors.too_long(path, ANNOTATIONS_MAX_BYTES))


def _bytes(annotations: Mapping[str, str]) -> int:
    return sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items())


_STANDARD_FINALIZERS = frozenset(("kubernetes", ORPHAN, FOREGROUND))


def validate_labels(labels: Mapping[str, str], path: str, causes: list[Cause]) -> None:
    for key, value in labels.items():
        faults = names.qualified_name(key)
        if faults:
            causes += [errors.invalid(path, key, text) for text in faults]
        faults = names.label_value(value)
        if faults:
            causes += [errors.invalid(path, value, text) for text in faults]


def validate_template(meta: Obj, path: str, causes: list[Cause]) -> None:
    """The metadata of a template that an object is made from as it is: labels and annotations alone."""
    validate_annotations(meta.get("annotations") or {}, f"{path}.annotations", causes)
    validate_labels(meta.get("labels") or {}, f"{path}.labels", causes)
    others = (field for field, value in meta.items() if field not in ("annotations", "labels") and value not in (None, ""))
    causes += [errors.forbidden(f"{path}.{'uID' if field == 'uid' else field}", "cannot be set") for field in others]


def validate_finalizers(finalizers: Sequence[str], causes: list[Cause], qualified: bool) -> None:
    path = "metadata.finalizers"
    for index, name in enumerate(finalizers):
        causes += finalizer(name, path, f"{path}[{index}]" if qualified else None)
    if ORPHAN in finalizers and FOREGROUND in finalizers:
        text = f"finalizer {ORPHAN} and {FOREGROUND} cannot be both set"
        causes.append(errors.invalid("metadata.finalizers", list(finalizers), text))


def finalizer(name: str, path: str, domain_path: str | None) -> list[Cause]:
    """A finalizer's faults: those of its form at `path`, that it has no domain at `domain_path` (None: it needs none)."""
    causes = [errors.invalid(path, name, text) for text in names.qualified_name(name)]
    if domain_path is not None and "/" not in name and name not in _STANDARD_FINALIZERS:
        text = "name is neither a standard finalizer name nor is it fully qualified"
        causes.append(errors.invalid(domain_path, name, text))
    return causes


def _validate_owners(owners: Sequence[Mapping[str, Any]], causes: list[Cause]) -> None:
    path = "metadata.ownerReferences"
    controller = ""
    for owner in owners:
        version = owner.get("apiVersion") or ""
        if version.count("/") > 1 or not version.rpartition("/")[2]:
            causes.append(errors.invalid(f"{path}.apiVersion", version, "version must not be empty"))
        empty = [field for field in ("kind", "name", "uid") if not owner.get(field)]
        causes += [errors.invalid(f"{path}.{field}", "", "must not be empty") for field in empty]
        if owner.get("apiVersion") == "v1" and owner.get("kind") == "Event":
            causes.append(errors.invalid(path, owner, "/v1, Kind=Event is disallowed from being an owner"))
        if owner.get("controller"):
            current = f"{owner.get('kind')}/{owner.get('name')}"
            if controller:
                text = (
                    "Only one reference can have Controller set to true. "
                    f'Found "true" in references for {controller} and {current}'
                )
                causes.append(errors.invalid(path, list(owners), text))
            else:
                controller = current


def _validate_managed(managed: Sequence[Mapping[str, Any]], causes: list[Cause]) -> None:
    for index, entry in enumerate(managed):
        path = f"metadata.managedFields[{index}]"
        if entry.get("operation") not in ("Apply", "Update"):
            text = "must be `Apply` or `Update`"
            causes.append(errors.invalid(f"{path}.operation", entry.get("operation", ""), text))
        if entry.get("fieldsType") not in ("", None, "FieldsV1"):
            causes.append(errors.invalid(f"{path}.fieldsType", entry["fieldsType"], "must be `FieldsV1`"))
        if len(entry.get("manager") or "") > 128:
            causes.append(errors.too_long(f"{path}.manager", 128))
        if len(entry.get("subresource") or "") > 256:
            causes.append(errors.too_long(f"{path}.subresource", 256))


def dedupe_owners(meta: Obj, warnings: list[str]) -> None:
    """Drops owner references that repeat, as the API server does with a warning."""
    owners = meta.get("ownerReferences")
    if not owners or len(owners) == 1:
        return
    kept: list[Any] = []
    for owner in owners:
        if owner not in kept:
            kept.append(owner)
    if len(kept) < len(owners):
        uids = [owner.get("uid", "") for owner in owners]
        repeated = sorted({uid for uid in uids if uids.count(uid) > 1})
        meta["ownerReferences"] = kept
        warnings.append(
            ".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, "
            f"and may reject such requests as early as 1.24; please fix your requests; "
            f"duplicate UID(s) observed: {', '.join(repeated)}"
        )
