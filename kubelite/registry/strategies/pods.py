"""Pods: how they start (pending, with a quality of service), how they end (a grace period), and what may change of them.

Source: kubernetes pkg/registry/core/pod/strategy.go, pkg/apis/core/helper/qos, v1.34.
"""

from collections.abc import Sequence

from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.contract import DeleteOptions
from kubelite.registry.strategies import Request, Strategy, keep, podfields
from kubelite.registry.validation import pods, podstatuses, podwarnings, resources


class PodStrategy(Strategy):
    returns_deleted = True
    has_status = True
    has_generation = True
    checks_structure = True

    def reset_fields(self, subresource: str) -> tuple[tuple[str, ...], ...]:
        if subresource == "status":
            return (("spec",), ("metadata", "deletionTimestamp"), ("metadata", "ownerReferences"))
        return super().reset_fields(subresource)

    def normalize(self, obj: Obj) -> None:
        podfields.normalize(obj)
        if obj["spec"].get("terminationGracePeriodSeconds", 0) < 0:
            obj["spec"]["terminationGracePeriodSeconds"] = 1
        podfields.mirror_address(obj["status"])

    def prepare_create(self, request: Request, obj: Obj) -> None:
        spec = obj["spec"]
        obj["metadata"]["generation"] = 1
        status: Obj = {"phase": "Pending", "qosClass": resources.quality_of_service(spec)}
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
        if "affinity" in spec or "topologySpreadConstraints" in spec:
            podfields.merge_label_keys(obj)
        annotations = obj["metadata"].get("annotations")
        if annotations:
            request.options.warnings += podfields.adopt_apparmor(spec, annotations)

    def prepare_update(self, request: Request, new: Obj, old: Obj) -> None:
        if request.subresource == "status":
            self.prepare_status(request, new, old)
            return
        if request.subresource == "ephemeralcontainers":
            added = (new.get("spec") or {}).get("ephemeralContainers")
            self._only_spec(new, old)
            new["spec"] = {field: value for field, value in old["spec"].items() if field != "ephemeralContainers"}
            if added:
                new["spec"]["ephemeralContainers"] = added
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
        old_status = old.get("status") or {}
        new["status"] = status = new.get("status") or {}
        if not status.get("qosClass") and old_status.get("qosClass"):
            status["qosClass"] = old_status["qosClass"]
        _keep_generations(status, old_status)
        podfields.drop_disabled_status(status)

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
        """As `_only_spec`, but for what containers ask for. Where they are not the same ones, validation refuses it."""
        wanted, was = new["spec"], old["spec"]
        lists = [field for field in ("containers", "initContainers") if field in was]
        if any(len(wanted.get(field) or ()) != len(was.get(field) or ()) for field in ("containers", "initContainers")):
            return
        self._only_spec(new, old)
        new["spec"] = {**was, **{field: _resized(wanted[field], was[field]) for field in lists}}

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return pods.check_pod(obj)

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        match request.subresource:
            case "":
                return pods.check_update(new, old)
            case "ephemeralcontainers":
                return pods.check_ephemeral_update(new, old)
            case "resize":
                return pods.check_resize(new, old)
            case "status":
                return podstatuses.check_update(new, old)
        return []

    def warnings(self, request: Request, new: Obj, old: Obj | None) -> Sequence[str]:
        if old is None:
            return [*podwarnings.of_name(new["metadata"]["name"], "the Pod's hostname"), *podwarnings.of_pod(new)]
        return [*podwarnings.of_status(new)] if request.subresource == "status" else ()

    def grace_period_s(self, obj: Obj, options: DeleteOptions) -> int | None:
        period = options.grace_period_s
        spec = obj.get("spec") or {}
        if period is None:
            period = spec.get("terminationGracePeriodSeconds", 0)
        if not spec.get("nodeName") or (obj.get("status") or {}).get("phase") in ("Failed", "Succeeded"):
            period = 0
        return 1 if period < 0 else int(period)


def _resized(asked: Sequence[Obj], old: Sequence[Obj]) -> Sequence[Obj]:
    """The old containers with the resources and resize policies of the new ones, if those are of the same names."""
    if any(new.get("name") != was.get("name") for new, was in zip(asked, old, strict=True)):
        return asked
    changed = []
    for new, was in zip(asked, old, strict=True):
        kept = {field: value for field, value in was.items() if field not in ("resources", "resizePolicy")}
        changed.append(kept | {field: new[field] for field in ("resources", "resizePolicy") if field in new})
    return changed


def _keep_generations(new: Obj, old: Obj) -> None:
    """A status that doesn't say which generation of the pod it is of keeps what it said before, as do its conditions."""
    if not new.get("observedGeneration") and old.get("observedGeneration"):
        new["observedGeneration"] = old["observedGeneration"]
    before: dict[str, list[int]] = {}
    for condition in old.get("conditions") or ():
        before.setdefault(condition.get("type", ""), []).append(condition.get("observedGeneration", 0))
    for condition in new.get("conditions") or ():
        generations = before.get(condition.get("type", ""))
        generation = generations.pop(0) if generations else 0
        if not condition.get("observedGeneration") and generation:
            condition["observedGeneration"] = generation
