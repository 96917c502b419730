"""Checks of pods and pod templates: as they are created, and what may change of them.

An object that is stored was valid, so upstream's tolerance of faults that the old object has too is not needed.

Source: kubernetes pkg/apis/core/validation/validation.go, v1.34.
"""

import re
from collections.abc import Mapping
from typing import Any

from kubelite.meta import errors
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import containers, fields, metadata, placement, podspecs, resources, security

MIRROR = "kubernetes.io/config.mirror"
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
APPARMOR = "container.apparmor.security.beta.kubernetes.io/"
SECCOMP_OF_POD = "seccomp.security.alpha.kubernetes.io/pod"
SECCOMP = "container.seccomp.security.alpha.kubernetes.io/"
_LOCALHOST = "localhost/"

_UPDATABLE = (
    "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,"
    "`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
_COMPUTE = ("cpu", "memory")
_is_deletion_cost = re.compile("0|[1-9][0-9]{0,9}|-[0-9]{1,99}").fullmatch


def check_pod(pod: Obj) -> list[Cause]:
    """A pod as it is created."""
    spec, meta = pod.get("spec") or {}, pod.get("metadata") or {}
    causes = _check_whole(pod)
    if spec.get("ephemeralContainers"):
        causes.append(errors.forbidden("spec.ephemeralContainers", "cannot be set on create"))
    if spec.get("nodeName") and spec.get("schedulingGates"):
        text = "cannot be set until all schedulingGates have been cleared"
        causes.append(errors.forbidden("spec.nodeName", text))
    if "annotations" in meta:
        causes += _check_agreement(meta["annotations"], spec, "spec")
    return causes


def _check_whole(pod: Obj) -> list[Cause]:
    """What holds for a pod at any time."""
    spec, meta = pod.get("spec") or {}, pod.get("metadata") or {}
    annotations = meta.get("annotations")
    causes = _check_annotations(annotations, spec, "metadata.annotations") if annotations else []
    if annotations and MIRROR in annotations and spec.get("resourceClaims"):
        return [errors.forbidden("[]", "static pods do not support resource claims")]
    causes += podspecs.check(spec, "spec", True, meta.get("name", ""))
    if not spec.get("serviceAccountName"):
        for i, volume in enumerate(spec.get("volumes") or ()):
            for j, source in enumerate((volume.get("projected") or {}).get("sources") or ()):
                if "serviceAccountToken" in source:
                    at = f"spec.volumes[{i}].projected.sources[{j}].serviceAccountToken"
                    causes.append(errors.forbidden(at, "must not be specified when serviceAccountName is not set"))
    for field in ("containers", "initContainers"):
        for i, container in enumerate(spec.get(field) or ()):
            causes += containers.check_image_space(container, f"spec.{field}[{i}]")
    return causes


def check_template(template: Obj, path: str) -> list[Cause]:
    """A pod template: its labels, its annotations and its spec."""
    meta, spec = template.get("metadata") or {}, template.get("spec") or {}
    causes = fields.label_map(meta.get("labels"), f"{path}.labels")
    annotations = meta.get("annotations")
    if annotations:
        metadata.validate_annotations(annotations, f"{path}.annotations", causes)
        causes += _check_annotations(annotations, spec, f"{path}.annotations")
        causes += _check_agreement(annotations, spec, f"{path}.spec")
    causes += podspecs.check(spec, f"{path}.spec", False)
    if spec.get("ephemeralContainers"):
        causes.append(errors.forbidden(f"{path}.spec.ephemeralContainers", "ephemeral containers not allowed in pod template"))
    return causes


def _check_annotations(annotations: Mapping[str, str], spec: Obj, path: str) -> list[Cause]:
    """The annotations that pods have a meaning for."""
    causes: list[Cause] = []
    for key, value in annotations.items():
        if key == MIRROR:
            if not spec.get("nodeName"):
                text = "must set spec.nodeName if mirror pod annotation is set"
                causes.append(errors.invalid(f"{path}[{key}]", value, text))
        elif key == DELETION_COST:
            if not _is_deletion_cost(value) or not -(2**31) <= int(value) < 2**31:
                causes.append(errors.invalid(f"{path}[{key}]", value, "must be a 32bit integer"))
        elif key == SECCOMP_OF_POD or key.startswith(SECCOMP):
            causes += _check_seccomp(value, f"{path}.{key}")
        elif key.startswith(APPARMOR):
            name = key.removeprefix(APPARMOR)
            if not any(container.get("name") == name for _, container in podspecs.each_container(spec, "")):
                causes.append(errors.invalid(f"{path}[{key}]", name, "container not found"))
            if value not in ("", "runtime/default", "unconfined") and not value.startswith(_LOCALHOST):
                text = f"invalid AppArmor profile name: {errors.format_value(value)}"
                causes.append(errors.invalid(f"{path}[{key}]", value, text))
    return causes


def _check_seccomp(profile: str, path: str) -> list[Cause]:
    if profile in ("runtime/default", "docker/default", "unconfined"):
        return []
    if profile.startswith(_LOCALHOST):
        return fields.descending_path(profile.removeprefix(_LOCALHOST), path)
    return [errors.invalid(path, profile, "must be a valid seccomp profile")]


def _check_agreement(annotations: Mapping[str, str], spec: Obj, path: str) -> list[Cause]:
    """Profiles that annotations of old and fields both give are the same."""
    causes: list[Cause] = []
    own = spec.get("securityContext") or {}
    if SECCOMP_OF_POD in annotations and "seccompProfile" in own:
        at = f"{path}.securityContext.seccompProfile"
        causes += _check_same(annotations[SECCOMP_OF_POD], own["seccompProfile"], "seccomp", at)
    for at, container in podspecs.each_container(spec, path):
        name, context = container.get("name", ""), container.get("securityContext") or {}
        if SECCOMP + name in annotations and "seccompProfile" in context:
            there = f"{at}.securityContext.seccompProfile"
            causes += _check_same(annotations[SECCOMP + name], context["seccompProfile"], "seccomp", there)
        profile = context.get("appArmorProfile") or own.get("appArmorProfile")
        if APPARMOR + name in annotations and profile and (spec.get("os") or {}).get("name") != "windows":
            there = f"{at}.securityContext.appArmorProfile"
            causes += _check_same(annotations[APPARMOR + name], profile, "apparmor", there)
    return causes


_ANNOTATED = {"Unconfined": ("unconfined",), "RuntimeDefault": ("runtime/default", "docker/default")}


def _check_same(annotation: str, profile: Obj, noun: str, path: str) -> list[Cause]:
    kind = profile.get("type", "")
    if kind == "Localhost":
        same = annotation.startswith(_LOCALHOST)
        if same and annotation.removeprefix(_LOCALHOST) != profile.get("localhostProfile"):
            text = f"{noun} profile in annotation and field must match"
            return [errors.forbidden(f"{path}.localhostProfile", text)]
    else:
        same = annotation in _ANNOTATED.get(kind, (annotation,)) and (noun, annotation) != ("apparmor", "docker/default")
    return [] if same else [errors.forbidden(f"{path}.type", f"{noun} type in annotation and field must match")]


def apparmor_profile(annotation: str) -> Obj | None:
    """The profile that an annotation of old means, None where it means none that can be."""
    kinds = {"unconfined": "Unconfined", "runtime/default": "RuntimeDefault"}
    if annotation in kinds:
        return {"type": kinds[annotation]}
    name = annotation.removeprefix(_LOCALHOST)
    if name in ("", annotation):
        return None
    profile = {"type": "Localhost", "localhostProfile": name}
    return None if security.check_apparmor(profile, "") else profile


def check_annotations_update(new: Obj, old: Obj) -> list[Cause]:
    """The annotations that say what a pod is stay as they are."""
    now, was = (pod["metadata"].get("annotations") or {} for pod in (new, old))
    if now == was:
        return []
    causes: list[Cause] = []
    for verb, keys in (("remove or update", was), ("add", now.keys() - was.keys())):
        for key in keys:
            for is_one, noun in ((key.startswith(APPARMOR), "AppArmor annotations"), (key == MIRROR, "mirror pod annotation")):
                if is_one and now.get(key) != was.get(key):
                    causes.append(errors.forbidden(f"metadata.annotations[{key}]", f"may not {verb} {noun}"))
    return causes


def check_update(new: Obj, old: Obj) -> list[Cause]:
    """What an update may change of a pod's spec: images, deadlines, added tolerations, removed scheduling gates."""
    now, was = new.get("spec") or {}, old.get("spec") or {}
    causes = check_annotations_update(new, old)
    if now == was:
        annotations = new["metadata"].get("annotations")
        return causes + (_check_annotations(annotations, now, "metadata.annotations") if annotations else [])
    causes += _check_whole(new)
    for field in ("containers", "initContainers"):
        if len(now.get(field) or ()) != len(was.get(field) or ()):
            return [*causes, errors.forbidden(f"spec.{field}", "pod updates may not add or remove containers")]
    deadline = _check_deadline_update(now.get("activeDeadlineSeconds"), was.get("activeDeadlineSeconds"))
    causes += deadline
    if deadline and now.get("activeDeadlineSeconds") is not None:
        return causes
    for field, check in (
        ("tolerations", placement.check_added_tolerations),
        ("schedulingGates", placement.check_removed_gates),
    ):
        causes += check(now.get(field) or (), was.get(field) or (), f"spec.{field}")
    if was.get("schedulingGates"):
        causes += placement.check_narrowed(now, was, "spec")
    changed = _changed_otherwise(now, was)
    if changed:
        listed = "\n".join(f"  {name}: changed" for name in changed)
        causes.append(errors.forbidden("spec", f"pod updates may not change fields other than {_UPDATABLE}\n{listed}"))
    return causes


def _changed_otherwise(now: Obj, was: Obj) -> list[str]:
    """The changed fields of a spec but for those that an update may change."""
    settled = {"activeDeadlineSeconds", "tolerations", "schedulingGates"}
    munged = dict(now)
    for field in ("containers", "initContainers"):
        if field in now:
            munged[field] = [{**c, "image": o.get("image", "")} for c, o in zip(now[field], was[field], strict=True)]
    if was.get("terminationGracePeriodSeconds", 0) < 0 and now.get("terminationGracePeriodSeconds") == 1:
        settled.add("terminationGracePeriodSeconds")
    if was.get("schedulingGates"):
        settled |= {"nodeSelector", "affinity"}
        if any(_pod_affinity(now, field) != _pod_affinity(was, field) for field in ("podAffinity", "podAntiAffinity")):
            settled.remove("affinity")
    return sorted(k for k in {*munged, *was} - settled if munged.get(k) != was.get(k))


def _pod_affinity(spec: Obj, field: str) -> Any:
    return (spec.get("affinity") or {}).get(field)


def _check_deadline_update(new: int | None, old: int | None) -> list[Cause]:
    path = "spec.activeDeadlineSeconds"
    if new is None:
        if old is None:
            return []
        return [errors.invalid(path, None, "must not update from a positive integer to nil value")]
    causes = fields.in_range(new, 0, fields.MAX_INT32, path)
    if not causes and old is not None and old < new:
        causes.append(errors.invalid(path, new, "must be less than or equal to previous value"))
    return causes


def check_ephemeral_update(new: Obj, old: Obj) -> list[Cause]:
    """Ephemeral containers may be added, never changed or removed."""
    if MIRROR in (old["metadata"].get("annotations") or ()):
        return [errors.forbidden("[]", "static pods do not support ephemeral containers")]
    path = "spec.ephemeralContainers"
    before, after = ({c.get("name"): c for c in pod["spec"].get("ephemeralContainers") or ()} for pod in (old, new))
    causes = _check_whole(new) + check_annotations_update(new, old)
    for name, container in before.items():
        if name not in after:
            causes.append(errors.forbidden(path, f'existing ephemeral containers "{name}" may not be removed\n'))
        elif after[name] != container:
            causes.append(errors.forbidden(path, f'existing ephemeral containers "{name}" may not be changed\n'))
    return causes


def check_resize(new: Obj, old: Obj) -> list[Cause]:
    """Of the containers' resources, CPU and memory may become more and less; what is asked for stays asked for."""
    now, was = new["spec"], old["spec"]
    if any((spec.get("resources") or {}).get(side) for spec in (now, was) for side in ("requests", "limits")):
        return [errors.forbidden("[]", "pods with pod-level resources cannot be resized")]
    if MIRROR in (old["metadata"].get("annotations") or ()):
        return [errors.forbidden("[]", "static pods cannot be resized")]
    if (was.get("os") or {}).get("name") == "windows":
        return [errors.forbidden("[]", "windows pods cannot be resized")]
    causes = _check_whole(new)
    before = (old.get("status") or {}).get("qosClass") or resources.quality_of_service(was)
    if resources.quality_of_service(now) != before:
        causes.append(errors.invalid("spec", before, "Pod QOS Class may not change as a result of resizing"))
    running = [s for s in (old.get("status") or {}).get("containerStatuses") or () if "running" in (s.get("state") or ())]
    if running and "resources" not in running[0]:
        causes.append(errors.forbidden("spec", "Pod running on node without support for resize"))
    order = _check_order(now, was)
    if order:
        return causes + order
    for field, noun in (("initContainers", " for sidecar containers"), ("containers", "")):
        for i, (container, before) in enumerate(zip(now.get(field) or (), was.get(field) or (), strict=True)):
            if field == "initContainers" and before.get("restartPolicy") != "Always":
                if container != before:
                    causes.append(errors.forbidden("spec", "resources for non-sidecar init containers are immutable"))
                continue
            causes += _check_resized(container, before, f"spec.{field}[{i}].resources")
            if _with_compute_of(container, before) != before:
                causes.append(errors.forbidden("spec", f"only cpu and memory resources{noun} are mutable"))
    return causes


def _check_order(now: Obj, was: Obj) -> list[Cause]:
    causes: list[Cause] = []
    for field in ("containers", "initContainers"):
        after, before = now.get(field) or (), was.get(field) or ()
        if len(after) != len(before):
            causes.append(errors.forbidden(f"spec.{field}", f"{field} may not be added or removed on resize"))
            continue
        causes += [
            errors.forbidden(f"spec.{field}[{i}].name", f"{field} may not be renamed or reordered on resize")
            for i, (one, other) in enumerate(zip(after, before, strict=True))
            if one.get("name") != other.get("name")
        ]
    return causes


def _check_resized(container: Obj, before: Obj, path: str) -> list[Cause]:
    now, was = container.get("resources") or {}, before.get("resources") or {}
    return [
        errors.forbidden(f"{path}.{side}", f"resource {side} cannot be removed")
        for side in ("requests", "limits")
        if (was.get(side) or {}).keys() - (now.get(side) or {}).keys()
    ]


def _with_compute_of(container: Obj, before: Obj) -> Obj:
    """A container with as much CPU and memory as before, and nothing new where nothing was asked for."""
    now, was = container.get("resources") or {}, before.get("resources") or {}
    merged = {field: value for field, value in now.items() if field not in ("requests", "limits")}
    for side in ("requests", "limits"):
        if side in was:
            others = {name: amount for name, amount in (now.get(side) or {}).items() if name not in _COMPUTE}
            merged[side] = others | {name: amount for name, amount in was[side].items() if name in _COMPUTE}
    return {**container, "resources": merged}
