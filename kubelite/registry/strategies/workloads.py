"""The apps and batch groups, and replication controllers.

Source: kubernetes pkg/registry/{apps,batch}/*/strategy.go, v1.34.
"""

from collections.abc import Sequence
from typing import ClassVar

from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.contract import DeleteOptions
from kubelite.registry.strategies import Request, Strategy, get, podfields
from kubelite.registry.validation import fields, statuses, workloads

#: Counts the changes of a daemon set's template.
TEMPLATE_GENERATION = "deprecated.daemonset.template.generation"


class _Templated(Strategy):
    """A kind whose spec has a pod template."""

    has_status = True
    update_checks_names = False
    has_generation = True

    def normalize(self, obj: Obj) -> None:
        podfields.normalize(get(obj, "spec", "template"))


class ReplicationControllerStrategy(_Templated):
    update_checks_names = True
    orphaning = "orphan"
    initial_status: ClassVar[Obj | None] = {"replicas": 0}

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return workloads.check_replication_controller(obj)

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        if request.subresource == "status":
            return statuses.check_counts("ReplicationController", new)
        return self.validate(request, new) if not request.subresource else []


class DeploymentStrategy(_Templated):
    def reset_fields(self, subresource: str) -> tuple[tuple[str, ...], ...]:
        if subresource == "status":
            return (("spec",), ("metadata", "labels"))
        return super().reset_fields(subresource)

    initial_status: ClassVar[Obj | None] = {}

    def prepare_update(self, request: Request, new: Obj, old: Obj) -> None:
        super().prepare_update(request, new, old)
        meta, was = new["metadata"], old["metadata"]
        if request.subresource == "status":
            if "labels" in was:
                meta["labels"] = was["labels"]
            else:
                meta.pop("labels", None)
        elif (meta.get("annotations") or {}) != (was.get("annotations") or {}):
            meta["generation"] = was.get("generation", 0) + 1

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return workloads.check_deployment(obj)

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        if request.subresource == "status":
            return statuses.check_counts("Deployment", new)
        if request.subresource:
            return []
        return workloads.check_deployment(new) + workloads.check_selector_update(new, old)


class ReplicaSetStrategy(_Templated):
    initial_status: ClassVar[Obj | None] = {"replicas": 0}

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return workloads.check_replica_set(obj)

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        if request.subresource == "status":
            return statuses.check_counts("ReplicaSet", new)
        if request.subresource:
            return []
        return workloads.check_replica_set(new) + workloads.check_selector_update(new, old)


class StatefulSetStrategy(_Templated):
    initial_status: ClassVar[Obj | None] = {"replicas": 0, "availableReplicas": 0}

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return workloads.check_stateful_set(obj)

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        if request.subresource == "status":
            return statuses.check_counts("StatefulSet", new)
        if request.subresource:
            return []
        return workloads.check_stateful_set(new) + workloads.check_stateful_set_update(new, old)


class DaemonSetStrategy(_Templated):
    initial_status: ClassVar[Obj | None] = {
        "currentNumberScheduled": 0,
        "numberMisscheduled": 0,
        "desiredNumberScheduled": 0,
        "numberReady": 0,
    }

    def normalize(self, obj: Obj) -> None:
        super().normalize(obj)
        meta = obj["metadata"]
        if TEMPLATE_GENERATION not in (meta.get("annotations") or {}):
            meta["annotations"] = {**(meta.get("annotations") or {}), TEMPLATE_GENERATION: "1"}

    def prepare_create(self, request: Request, obj: Obj) -> None:
        super().prepare_create(request, obj)
        meta = obj["metadata"]
        meta["annotations"] = {**(meta.get("annotations") or {}), TEMPLATE_GENERATION: "1"}

    def prepare_update(self, request: Request, new: Obj, old: Obj) -> None:
        super().prepare_update(request, new, old)
        if request.subresource:
            return
        text = (old["metadata"].get("annotations") or {}).get(TEMPLATE_GENERATION, "1")
        count = int(text) if text.isdecimal() else 1
        if new["spec"].get("template") != old["spec"].get("template"):
            count += 1
        meta = new["metadata"]
        meta["annotations"] = {**(meta.get("annotations") or {}), TEMPLATE_GENERATION: str(count)}

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return workloads.check_daemon_set(obj)

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        if request.subresource == "status":
            return statuses.check_counts("DaemonSet", new)
        if request.subresource:
            return []
        return workloads.check_daemon_set(new) + workloads.check_selector_update(new, old)


class ControllerRevisionStrategy(Strategy):
    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return workloads.check_controller_revision(obj)

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        return self.validate(request, new) + fields.immutable(new.get("data"), old.get("data"), "data")


class JobStrategy(_Templated):
    update_checks_names = True
    orphaning = "orphan"
    initial_status: ClassVar[Obj | None] = {}

    def prepare_create(self, request: Request, obj: Obj) -> None:
        super().prepare_create(request, obj)
        self._select_own_pods(obj)

    def _select_own_pods(self, job: Obj) -> None:
        """Unless it is told its selector, a job selects its pods by its own uid."""
        spec = job.get("spec") or {}
        template = spec.get("template")
        if spec.get("manualSelector") or not isinstance(template, dict):
            return
        meta = job["metadata"]
        uid, name = meta["uid"], meta.get("name", "")
        own = {
            "job-name": name,
            "controller-uid": uid,
            "batch.kubernetes.io/job-name": name,
            "batch.kubernetes.io/controller-uid": uid,
        }
        inner = dict(template.get("metadata") or {})
        labels = dict(inner.get("labels") or {})
        for key, value in own.items():
            labels.setdefault(key, value)
        inner["labels"] = labels
        selector = dict(spec.get("selector") or {})
        selector["matchLabels"] = {**(selector.get("matchLabels") or {})}
        selector["matchLabels"].setdefault("batch.kubernetes.io/controller-uid", uid)
        job["spec"] = {**spec, "selector": selector, "template": {**template, "metadata": inner}}
        if not meta.get("labels"):
            meta["labels"] = dict(labels)

    def delete_warnings(self, options: DeleteOptions) -> Sequence[str]:
        if options.propagation_policy is not None:
            return ()
        return (
            "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them "
            "or set propagationPolicy=Orphan to suppress this warning",
        )

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return workloads.check_job(obj)

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        if request.subresource == "status":
            return statuses.check_job(new)
        if request.subresource:
            return []
        return workloads.check_job(new) + workloads.check_job_update(new, old)


class CronJobStrategy(Strategy):
    has_status = True
    update_checks_names = False
    has_generation = True
    initial_status: ClassVar[Obj | None] = {}

    def normalize(self, obj: Obj) -> None:
        podfields.normalize(get(obj, "spec", "jobTemplate", "spec", "template"))

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return workloads.check_cron_job(obj)
