"""Pods: how they start (pending, with a quality of service), how they end (a grace period), and what may change of them.

Source: kubernetes pkg/registry/core/pod/strategy.go, pkg/apis/core/helper/qos, v1.34.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from kubelite.meta import errors, names, quantities
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.contract import DeleteOptions
from kubelite.registry.strategies import Request, Strategy, keep
from kubelite.registry.validation import pods, statuses

_QOS_RESOURCES = ("cpu", "memory")


class PodStrategy(Strategy):
    returns_deleted = True
    has_status = True
    has_generation = True

    def reset_fields(self, subresource: str) -> tuple[tuple[str, ...], ...]:
        if subresource == "status":
            return (("spec",), ("metadata", "deletionTimestamp"), ("metadata", "ownerReferences"))
        return super().reset_fields(subresource)

    def normalize(self, obj: Obj) -> None:
        normalize_spec(obj.get("spec"))

    def prepare_create(self, request: Request, obj: Obj) -> None:
        spec = obj.setdefault("spec", {})
        normalize_spec(spec)
        if spec.get("terminationGracePeriodSeconds", 0) < 0:
            spec["terminationGracePeriodSeconds"] = 1
        obj["metadata"]["generation"] = 1
        status: Obj = {"phase": "Pending", "qosClass": qos_class(spec)}
        if spec.get("schedulingGates"):
            status["conditions"] = [
                {
                    "type": "PodScheduled",
                    "status": "False",
                    "lastProbeTime": None,
                    "lastTransitionTime": request.now,
                    "reason": "SchedulingGated",
                    "message": "Scheduling is blocked due to non-empty scheduling gates",
                }
            ]
        obj["status"] = status

    def prepare_update(self, request: Request, new: Obj, old: Obj) -> None:
        if request.subresource == "status":
            self.prepare_status(request, new, old)
            return
        if request.subresource == "ephemeralcontainers":
            added = (new.get("spec") or {}).get("ephemeralContainers")
            self._only_spec(new, old)
            if added is not None:
                new["spec"] = {**old["spec"], "ephemeralContainers": added}
        elif request.subresource == "resize":
            self._only_resources(new, old)
        else:
            keep(new, old, "status")
        if new.get("spec") != old.get("spec"):
            new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1

    def prepare_status(self, request: Request, new: Obj, old: Obj) -> None:
        keep(new, old, "spec")
        meta, old_meta = new["metadata"], old["metadata"]
        if "ownerReferences" in old_meta:
            meta["ownerReferences"] = old_meta["ownerReferences"]
        else:
            meta.pop("ownerReferences", None)
        status, old_status = new.get("status") or {}, old.get("status") or {}
        if not status.get("qosClass") and old_status.get("qosClass"):
            status["qosClass"] = old_status["qosClass"]
        if not status.get("observedGeneration") and old_status.get("observedGeneration"):
            status["observedGeneration"] = old_status["observedGeneration"]
        new["status"] = status

    def _only_spec(self, new: Obj, old: Obj) -> None:
        """Takes back everything but the managed fields; what may change of the spec is put in after."""
        managed = new["metadata"].get("managedFields")
        version = new["metadata"].get("resourceVersion")
        new.clear()
        new.update(old)
        new["metadata"] = meta = {**old["metadata"], "resourceVersion": version}
        if managed is not None:
            meta["managedFields"] = managed

    def _only_resources(self, new: Obj, old: Obj) -> None:
        wanted = new.get("spec") or {}
        self._only_spec(new, old)
        spec = dict(old["spec"])
        for field in ("containers", "initContainers"):
            asked = {c.get("name"): c for c in wanted.get(field) or ()}
            if field in spec:
                spec[field] = [_resized(c, asked.get(c["name"], c)) for c in spec[field]]
        new["spec"] = spec

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        causes = pods.check_pod(obj)
        spec = obj.get("spec") or {}
        if spec.get("nodeName") and spec.get("schedulingGates"):
            text = "cannot be set until all schedulingGates have been cleared"
            causes.append(errors.forbidden("spec.nodeName", text))
        if spec.get("ephemeralContainers"):
            causes.append(errors.forbidden("spec.ephemeralContainers", "cannot be set on create"))
        return causes

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        match request.subresource:
            case "":
                return pods.check_update(new, old)
            case "ephemeralcontainers":
                return pods.check_ephemeral_update(new, old)
            case "resize":
                return pods.check_spec(new["spec"], "spec", is_pod=True) + _check_quality(new, old)
            case "status":
                return statuses.check_pod(new)
        return []

    def warnings(self, request: Request, new: Obj, old: Obj | None) -> Iterable[str]:  # type: ignore[override]
        if old is None:
            name = new["metadata"]["name"]
            faults = names.dns1123_label(name)
            if faults:
                listed = " ".join(faults)
                yield (
                    "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; "
                    f"a DNS label is recommended: [{listed}]"
                )
        for key in new["metadata"].get("annotations") or ():
            if key.startswith("container.apparmor.security.beta.kubernetes.io/") and old is None:
                yield f'metadata.annotations[{key}]: deprecated since v1.30; use the "appArmorProfile" field instead'

    def grace_period_s(self, obj: Obj, options: DeleteOptions) -> int | None:
        period = options.grace_period_s
        spec = obj.get("spec") or {}
        if period is None:
            period = spec.get("terminationGracePeriodSeconds", 0)
        if not spec.get("nodeName") or (obj.get("status") or {}).get("phase") in ("Failed", "Succeeded"):
            period = 0
        return 1 if period < 0 else int(period)


def _check_quality(new: Obj, old: Obj) -> list[Cause]:
    """A resized pod keeps its quality of service."""
    before = (old.get("status") or {}).get("qosClass") or qos_class(old["spec"])
    if qos_class(new["spec"]) == before:
        return []
    return [errors.invalid("spec", before, "Pod QOS Class may not change as a result of resizing")]


def _resized(container: Obj, asked: Obj) -> Obj:
    changed = dict(container)
    for field in ("resources", "resizePolicy"):
        if field in asked:
            changed[field] = asked[field]
        elif field == "resources":
            changed.pop(field, None)
    return changed


def normalize_spec(spec: Obj | None) -> None:
    """A pod's spec has its service account under an old and a new name; fields of features that are off are not kept."""
    if not isinstance(spec, dict):
        return
    for container in spec.get("containers") or ():
        if isinstance(container, dict):  # KEP-5307 is alpha in 1.34
            container.pop("restartPolicy", None)
            container.pop("restartPolicyRules", None)
    spec.pop("hostnameOverride", None)  # as is KEP-4762
    _drop_image_volumes(spec)
    name = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if name:
        spec["serviceAccountName"] = spec["serviceAccount"] = name


def _drop_image_volumes(spec: Obj) -> None:
    """Volumes of images (KEP-4639), which are off in 1.34 unless asked for, go with what mounts them."""
    volumes = spec.get("volumes") or ()
    kept = [volume for volume in volumes if volume.get("image") is None]
    if len(kept) == len(volumes):
        return
    dropped = {volume.get("name") for volume in volumes if volume.get("image") is not None}
    _set_or_drop(spec, "volumes", kept)
    for field in ("containers", "initContainers", "ephemeralContainers"):
        for container in spec.get(field) or ():
            mounts = [mount for mount in container.get("volumeMounts") or () if mount.get("name") not in dropped]
            _set_or_drop(container, "volumeMounts", mounts)


def _set_or_drop(obj: Obj, field: str, items: list[Obj]) -> None:
    if items:
        obj[field] = items
    else:
        obj.pop(field, None)


def qos_class(spec: Mapping[str, Any]) -> str:
    """Guaranteed, Burstable or BestEffort, by the requests and limits of all containers or of the pod itself."""
    own = spec.get("resources")
    parts = (
        [own]
        if own
        else [c.get("resources") or {} for c in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ()))]
    )
    requests: dict[str, int] = {}
    limits: dict[str, int] = {}
    guaranteed = True
    for resources in parts:
        _add(requests, resources.get("requests"))
        limited = _add(limits, resources.get("limits"))
        if len(limited) < len(_QOS_RESOURCES):
            guaranteed = False
    if not requests and not limits:
        return "BestEffort"
    if guaranteed and len(requests) == len(limits) and all(limits.get(name) == n for name, n in requests.items()):
        return "Guaranteed"
    return "Burstable"


def _add(total: dict[str, int], listed: Mapping[str, Any] | None) -> set[str]:
    found = set()
    for name in _QOS_RESOURCES:
        text = (listed or {}).get(name)
        if text is None:
            continue
        try:
            amount = quantities.milli(text)
        except ValueError:
            continue  # validation says what is wrong with it
        if amount > 0:
            total[name] = total.get(name, 0) + amount
            found.add(name)
    return found
