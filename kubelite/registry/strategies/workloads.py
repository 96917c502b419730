"""The apps and batch groups, replication controllers and pod templates.

Source: kubernetes pkg/registry/{apps,batch,core}/*/strategy.go, v1.34.
"""

import re
from collections.abc import Iterator, Sequence
from typing import ClassVar

from kubelite.meta.errors import BadRequest, Cause
from kubelite.meta.types import Obj
from kubelite.registry.contract import DeleteOptions
from kubelite.registry.strategies import Request, Strategy, get, podfields
from kubelite.registry.validation import claims, jobs, jobstatuses, metadata, pods, podwarnings, statuses, workloads

#: Counts the changes of a daemon set's template.
TEMPLATE_GENERATION = "deprecated.daemonset.template.generation"
MANY_INDEXES, MANY_AT_ONCE = 100_000, 10_000


class _Templated(Strategy):
    """A kind that has a pod template."""

    has_status = True
    update_checks_names = False
    has_generation = True
    checks_structure = True
    template_path: tuple[str, ...] = ("spec", "template")
    #: Its name becomes a part of pods' names, for which another form is better.
    names_pods = True

    def normalize(self, obj: Obj) -> None:
        podfields.normalize(get(obj, *self.template_path))

    def warnings(self, request: Request, new: Obj, old: Obj | None) -> Sequence[str]:
        if request.subresource:
            return ()
        return [*self._own_warnings(new, old), *self._template_warnings(new, old)]

    def _own_warnings(self, new: Obj, old: Obj | None) -> Iterator[str]:
        if old is None and self.names_pods:
            yield from podwarnings.of_name(new["metadata"]["name"], "Pod names and hostnames")

    def _template_warnings(self, new: Obj, old: Obj | None) -> Iterator[str]:
        if old is None or new["metadata"].get("generation") != old["metadata"].get("generation"):
            yield from podwarnings.of_template(get(new, *self.template_path), ".".join(self.template_path))


class PodTemplateStrategy(_Templated):
    returns_deleted = True
    has_status = False
    generation_paths = ("template",)
    template_path = ("template",)
    names_pods = False

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return pods.check_template(obj.get("template") or {}, "template")


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


class _ReplicaCounting(_Templated):
    """Deployments and replica sets."""

    def prepare_status(self, request: Request, new: Obj, old: Obj) -> None:
        super().prepare_status(request, new, old)
        if "terminatingReplicas" not in (old.get("status") or ()):  # KEP-3973
            (new.get("status") or {}).pop("terminatingReplicas", None)


class DeploymentStrategy(_ReplicaCounting):
    initial_status: ClassVar[Obj | None] = {}

    def reset_fields(self, subresource: str) -> tuple[tuple[str, ...], ...]:
        if subresource == "status":
            return (("spec",), ("metadata", "labels"))
        return super().reset_fields(subresource)

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
            return statuses.check_counts("Deployment", new, old)
        if request.subresource:
            return []
        return workloads.check_deployment(new) + workloads.check_selector_update(new, old)


class ReplicaSetStrategy(_ReplicaCounting):
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
    names_pods = False

    def name_faults(self, name: str, prefix: bool) -> Sequence[str]:
        return metadata.label_faults(name, prefix)

    def normalize(self, obj: Obj) -> None:
        super().normalize(obj)
        rolling = get(obj, "spec", "updateStrategy", "rollingUpdate")
        if rolling:
            rolling.pop("maxUnavailable", None)  # KEP-961

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return workloads.check_stateful_set(obj)

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        if request.subresource == "status":
            return statuses.check_counts("StatefulSet", new, old)
        return workloads.check_stateful_set_update(new, old) if not request.subresource else []

    def _own_warnings(self, new: Obj, old: Obj | None) -> Iterator[str]:
        spec = new["spec"]
        for i, claim in enumerate(spec.get("volumeClaimTemplates") or ()):
            path = f"spec.volumeClaimTemplates[{i}]" if old is None else f"spec.volumeClaimTemplates[{i}].Spec"
            yield from claims.warnings(claim.get("spec") or {}, path)
        if spec.get("revisionHistoryLimit", 0) < 0:
            text = "a negative value retains all historical revisions; a value >= 0 is recommended"
            yield f"spec.revisionHistoryLimit: {text}"


class DaemonSetStrategy(_Templated):
    initial_status: ClassVar[Obj | None] = {
        "currentNumberScheduled": 0,
        "numberMisscheduled": 0,
        "desiredNumberScheduled": 0,
        "numberReady": 0,
    }
    names_pods = False

    def normalize(self, obj: Obj) -> None:
        super().normalize(obj)
        text = get(obj, "metadata", "annotations", TEMPLATE_GENERATION)
        if text is None:
            _count_templates(obj, 1)
        elif not _is_integer(text):
            detail = f'strconv.ParseInt: parsing "{text}": invalid syntax'
            raise BadRequest(f'DaemonSet in version "v1" cannot be handled as a DaemonSet: {detail}')

    def prepare_create(self, request: Request, obj: Obj) -> None:
        super().prepare_create(request, obj)
        _count_templates(obj, max(_templates(obj), 1))

    def prepare_update(self, request: Request, new: Obj, old: Obj) -> None:
        super().prepare_update(request, new, old)
        changed = new["spec"].get("template") != old["spec"].get("template")
        _count_templates(new, _templates(old) + int(changed))

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return workloads.check_daemon_set(obj)

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        if request.subresource == "status":
            return statuses.check_counts("DaemonSet", new, old)
        if request.subresource:
            return []
        return workloads.check_daemon_set(new) + workloads.check_selector_update(new, old)


_is_integer = re.compile("[-+]?[0-9]{1,18}").fullmatch


def _templates(daemon_set: Obj) -> int:
    """How often a daemon set's template has changed."""
    return int(get(daemon_set, "metadata", "annotations", TEMPLATE_GENERATION) or 1)


def _count_templates(daemon_set: Obj, count: int) -> None:
    meta = daemon_set["metadata"]
    meta["annotations"] = {**(meta.get("annotations") or {}), TEMPLATE_GENERATION: str(count)}


class ControllerRevisionStrategy(Strategy):
    checks_structure = True

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return workloads.check_controller_revision(obj)

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        return workloads.check_controller_revision_update(new, old)


class JobStrategy(_Templated):
    update_checks_names = True
    orphaning = "orphan"
    initial_status: ClassVar[Obj | None] = {}

    def prepare_create(self, request: Request, obj: Obj) -> None:
        super().prepare_create(request, obj)
        self._select_own_pods(obj)

    def _select_own_pods(self, job: Obj) -> None:
        """Unless it is told its selector, a job selects its pods by its own uid."""
        spec = job["spec"]
        template = spec.get("template")
        if spec.get("manualSelector") or not isinstance(template, dict):
            return
        meta = job["metadata"]
        uid = meta["uid"]
        inner = dict(template.get("metadata") or {})
        labels = dict(inner.get("labels") or {})
        for key, value in jobs.generated_labels(job).items():
            labels.setdefault(key, value)
        if not meta.get("labels") or meta["labels"] is inner.get("labels"):  # its labels are the template's
            meta["labels"] = dict(labels)
        inner["labels"] = labels
        selector = dict(spec.get("selector") or {})
        selector["matchLabels"] = {**(selector.get("matchLabels") or {})}
        selector["matchLabels"].setdefault("batch.kubernetes.io/controller-uid", uid)
        job["spec"] = {**spec, "selector": selector, "template": {**template, "metadata": inner}}

    def delete_warnings(self, options: DeleteOptions) -> Sequence[str]:
        if options.propagation_policy is not None:
            return ()
        return (
            "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them "
            "or set propagationPolicy=Orphan to suppress this warning",
        )

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return jobs.check_job(obj)

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        if request.subresource == "status":
            return jobstatuses.check_update(new, old)
        if request.subresource:
            return []
        return jobs.check_job(new, old) + jobs.check_job_update(new, old)

    def _own_warnings(self, new: Obj, old: Obj | None) -> Iterator[str]:
        yield from super()._own_warnings(new, old)
        yield from _too_many_indexes(new["spec"], "spec")


def _too_many_indexes(spec: Obj, path: str) -> Iterator[str]:
    many = (spec.get("completions") or 0) > MANY_INDEXES and (spec.get("parallelism") or 0) > MANY_AT_ONCE
    if many and spec.get("completionMode") == "Indexed":
        yield (
            f"{path}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, "
            "Kubernetes might not be able to track completedIndexes when a big number of indexes fail"
        )


class CronJobStrategy(_Templated):
    initial_status: ClassVar[Obj | None] = {}
    template_path = ("spec", "jobTemplate", "spec", "template")

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return jobs.check_cron_job(obj)

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        return jobs.check_cron_job(new, old) if not request.subresource else []

    def _own_warnings(self, new: Obj, old: Obj | None) -> Iterator[str]:
        yield from super()._own_warnings(new, old)
        yield from _too_many_indexes(get(new, "spec", "jobTemplate", "spec") or {}, "spec.jobTemplate.spec")
