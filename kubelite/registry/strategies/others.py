"""The kinds of the other groups: what sets them apart is mostly how they are named and what counts their generation.

Source: kubernetes pkg/registry/*/*/strategy.go, apiextensions-apiserver and kube-aggregator registries, v1.34.
"""

from collections.abc import Sequence
from typing import ClassVar

from kubelite.meta import addresses, errors, times
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.strategies import Request, Strategy, keep
from kubelite.registry.validation import (
    admissionpolicies,
    admissionregistration,
    autoscaling,
    certificates,
    endpoints,
    fields,
    flowcontrol,
    metadata,
    networking,
    nodelabels,
    nodes,
    priorities,
    rbac,
    registrations,
    statuses,
    workloads,
)
from kubelite.schema import conversion


class RoleStrategy(Strategy):
    """The kinds of the RBAC group: any path segment is a name, and PUT creates."""

    checks_structure = True
    allow_create_on_update = True

    def name_faults(self, name: str, prefix: bool) -> Sequence[str]:
        return metadata.path_segment_faults(name, prefix)

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return rbac.check_role(obj, request.kind.namespaced)


class BindingStrategy(RoleStrategy):
    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return rbac.check_binding(obj, request.kind.namespaced)

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        causes = self.validate(request, new)
        if new.get("roleRef") != old.get("roleRef"):
            causes.append(errors.invalid("roleRef", new.get("roleRef"), "cannot change roleRef"))
        return causes


class LeaseStrategy(Strategy):
    checks_structure = True
    allow_create_on_update = True
    allow_unconditional_update = False
    qualified_finalizers = False
    update_checks_names = False

    def normalize(self, obj: Obj) -> None:
        """The fields of coordinated leader election are alpha in 1.34 (KEP-4355) and not kept."""
        for field in ("strategy", "preferredHolder"):
            (obj.get("spec") or {}).pop(field, None)

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        spec = obj.get("spec") or {}
        causes = []
        duration, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
        if duration is not None and duration <= 0:
            causes.append(errors.invalid("spec.leaseDurationSeconds", duration, "must be greater than 0"))
        if transitions is not None and transitions < 0:
            text = "must be greater than or equal to 0"
            causes.append(errors.invalid("spec.leaseTransitions", transitions, text))
        return causes


class RuntimeClassStrategy(Strategy):
    checks_structure = True
    allow_create_on_update = True
    allow_unconditional_update = False
    qualified_finalizers = False

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return nodes.check_runtime_class(obj)

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        return self.validate(request, new) + fields.immutable(new.get("handler", ""), old.get("handler", ""), "handler")

    def warnings(self, request: Request, new: Obj, old: Obj | None) -> Sequence[str]:
        selector = (new.get("scheduling") or {}).get("nodeSelector") or ()
        return [f"scheduling.nodeSelector: {nodelabels.WARNINGS[key]}" for key in selector if key in nodelabels.WARNINGS]


class DisruptionBudgetStrategy(Strategy):
    checks_structure = True
    allow_unconditional_update = False
    qualified_finalizers = False
    has_status = True
    has_generation = True
    initial_status: ClassVar[Obj | None] = {
        "currentHealthy": 0,
        "desiredHealthy": 0,
        "disruptionsAllowed": 0,
        "expectedPods": 0,
    }

    def name_faults(self, name: str, prefix: bool) -> Sequence[str]:
        return metadata.path_segment_faults(name, prefix)

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return workloads.check_disruption_budget(obj)

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        if request.subresource == "status":
            conditions = (new.get("status") or {}).get("conditions") or ()
            return statuses.check_counts("PodDisruptionBudget", new) + statuses.check_conditions(conditions)
        return self.validate(request, new)


class AutoscalerStrategy(Strategy):
    has_status = True
    checks_structure = True
    update_checks_names = False

    def normalize(self, obj: Obj) -> None:
        """Tolerances of one's own are alpha in 1.34 (KEP-4951) and not kept."""
        for rules in ((obj.get("spec") or {}).get("behavior") or {}).values():
            rules.pop("tolerance", None)

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return autoscaling.check_autoscaler(_autoscaler_v2(request, obj))

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        if request.subresource == "status":
            return statuses.check_counts("HorizontalPodAutoscaler", new)
        return autoscaling.check_autoscaler(_autoscaler_v2(request, new), old)

    initial_status: ClassVar[Obj | None] = {"desiredReplicas": 0, "currentMetrics": None}

    def prepare_create(self, request: Request, obj: Obj) -> None:
        obj["status"] = {"desiredReplicas": 0}
        if request.kind.version == "v2":
            obj["status"]["currentMetrics"] = None
        else:
            obj["status"]["currentReplicas"] = 0


def _autoscaler_v2(request: Request, obj: Obj) -> Obj:
    return obj if request.kind.version == "v2" else conversion.autoscaler_to_v2(obj)


class SpecGenerationStrategy(Strategy):
    """A kind without a status whose generation counts changes of its spec."""

    has_generation = True


class NetworkPolicyStrategy(SpecGenerationStrategy):
    checks_structure = True

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return networking.check_network_policy(obj)

    def warnings(self, request: Request, new: Obj, old: Obj | None) -> Sequence[str]:
        return networking.policy_warnings(new)


class IngressClassStrategy(SpecGenerationStrategy):
    checks_structure = True

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return networking.check_ingress_class(obj)

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        fixed = fields.immutable(new["spec"].get("controller", ""), old["spec"].get("controller", ""), "spec.controller")
        return fixed + self.validate(request, new)


class IngressStrategy(Strategy):
    checks_structure = True
    has_status = True
    has_generation = True

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return networking.check_ingress(obj)

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        if request.subresource == "status":
            return statuses.check_load_balancer(new, old)
        return networking.check_ingress(new, old)

    def warnings(self, request: Request, new: Obj, old: Obj | None) -> Sequence[str]:
        if request.subresource:
            return statuses.address_warnings(new)
        return networking.ingress_warnings(new) if old is None else ()

    initial_status: ClassVar[Obj | None] = {"loadBalancer": {}}


class WebhookStrategy(Strategy):
    """Webhook configurations."""

    checks_structure = True
    allow_unconditional_update = False
    has_generation = True
    generation_paths = ("webhooks",)

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return list(admissionregistration.webhook_faults(obj))

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        return list(admissionregistration.webhook_faults(new, old))


class PolicyStrategy(Strategy):
    """Admission policies."""

    checks_structure = True
    allow_unconditional_update = False
    has_status = True
    status_keeps_metadata = True
    has_generation = True
    initial_status: ClassVar[Obj | None] = {}

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return list(admissionpolicies.policy_faults(obj))

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        if request.subresource:
            return list(admissionpolicies.status_faults(new))
        return list(admissionpolicies.policy_faults(new, old))


class PolicyBindingStrategy(Strategy):
    checks_structure = True
    allow_unconditional_update = False
    has_generation = True

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return list(admissionpolicies.binding_faults(obj))


class FlowStrategy(Strategy):
    """FlowSchemas."""

    checks_structure = True
    has_status = True
    status_keeps_metadata = True
    has_generation = True
    initial_status: ClassVar[Obj | None] = {}

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return flowcontrol.check_flow_schema(obj)

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        if request.subresource:
            return flowcontrol.check_status(new)
        return self.validate(request, new) + flowcontrol.check_fixed(new, old)


class PriorityLevelStrategy(FlowStrategy):
    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return flowcontrol.check_priority_level(obj)


class EndpointSliceStrategy(Strategy):
    checks_structure = True
    has_generation = True

    def normalize(self, obj: Obj) -> None:
        for endpoint in obj.get("endpoints") or ():
            endpoint.pop("deprecatedTopology", None)  # kept of objects of v1beta1 alone

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return endpoints.check_slice(obj)

    def prepare_update(self, request: Request, new: Obj, old: Obj) -> None:
        meta, was = new["metadata"], old["metadata"]
        changed = any(new.get(f) != old.get(f) for f in ("endpoints", "ports", "addressType"))
        if changed or (meta.get("labels") or {}) != (was.get("labels") or {}):
            meta["generation"] = was.get("generation", 0) + 1

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        return endpoints.check_slice(new, old)

    def warnings(self, request: Request, new: Obj, old: Obj | None) -> Sequence[str]:
        old_type = old is None and new.get("addressType") == "FQDN"
        return [*(["spec.addressType: FQDN endpoints are deprecated"] if old_type else ()), *endpoints.warnings(new)]


class PriorityClassStrategy(Strategy):
    checks_structure = True
    update_checks_names = False
    has_generation = True
    generation_paths = ()

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return priorities.check_class(obj)

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        return priorities.check_class_update(new, old)


class SigningRequestStrategy(Strategy):
    """CertificateSigningRequests: the server notes who asks; only approval and status change it."""

    checks_structure = True
    has_status = True

    def name_faults(self, name: str, prefix: bool) -> Sequence[str]:
        return metadata.path_segment_faults(name, prefix)

    def prepare_create(self, request: Request, obj: Obj) -> None:
        spec = dict(obj.get("spec") or {})
        for field in ("username", "uid", "groups", "extra"):
            spec.pop(field, None)
        user = request.options.user
        spec["username"] = user.name
        if user.uid:
            spec["uid"] = user.uid
        if user.groups:
            spec["groups"] = list(user.groups)
        if user.extra:
            spec["extra"] = {key: list(values) for key, values in user.extra.items()}
        obj["spec"] = spec
        obj["status"] = {}

    def prepare_update(self, request: Request, new: Obj, old: Obj) -> None:
        keep(new, old, "spec")
        status, was = dict(new.get("status") or {}), old.get("status") or {}
        if request.subresource == "approval":
            keep(status, was, "certificate")
        elif request.subresource != "status":
            keep(new, old, "status")
            return
        new["status"] = _stamped(status, was, request.now)

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return certificates.check_request(obj)

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        return certificates.check_update(new, old, request.subresource)


def _stamped(status: Obj, was: Obj, now: str) -> Obj:
    conditions: list[Obj] = []
    before = {(c.get("type"), c.get("status")): c.get("lastTransitionTime") for c in was.get("conditions") or ()}
    for condition in status.get("conditions") or ():
        stamped = dict(condition)
        stamped["lastUpdateTime"] = stamped.get("lastUpdateTime") or now
        at = before.get((condition.get("type"), condition.get("status")))
        stamped["lastTransitionTime"] = stamped.get("lastTransitionTime") or at or now
        conditions.append(stamped)
    if conditions:
        return {**status, "conditions": conditions}
    return {field: value for field, value in status.items() if field != "conditions"}


class ServiceCidrStrategy(Strategy):
    """ServiceCIDRs: ranges that the allocators give out of; their status is as it is written, even with the rest."""

    checks_structure = True
    status_keeps_metadata = True
    update_checks_names = False

    def reset_fields(self, subresource: str) -> tuple[tuple[str, ...], ...]:
        return (("spec",),) if subresource == "status" else (("status",),)

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        return [] if request.subresource else networking.check_ranges_update(new, old)

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return networking.check_ranges(obj)

    def committed(self, request: Request, new: Obj | None, old: Obj | None) -> None:
        if new is None or old is None or new["metadata"].get("deletionTimestamp") or new["spec"] != old["spec"]:
            request.registry.allocators.networks_changed()


class IpAddressStrategy(Strategy):
    """IPAddresses: the name is the address, in its one canonical form."""

    checks_structure = True

    def name_faults(self, name: str, prefix: bool) -> Sequence[str]:
        return addresses.strict_faults(name)

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return list(networking.check_address(obj))

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        fixed = fields.immutable(new["spec"].get("parentRef"), old["spec"].get("parentRef"), "spec.parentRef")
        return fixed + self.validate(request, new)

    def committed(self, request: Request, new: Obj | None, old: Obj | None) -> None:
        if new is not None and old is None:
            request.registry.allocators.note_address(new["metadata"]["name"])


class ApiServiceStrategy(Strategy):
    """APIServices; one of this server is available at once."""

    checks_structure = True
    allow_unconditional_update = False
    has_status = True
    initial_status: ClassVar[Obj | None] = {}

    def name_faults(self, name: str, prefix: bool) -> Sequence[str]:
        return metadata.path_segment_faults(name, prefix)

    def prepare_create(self, request: Request, obj: Obj) -> None:
        super().prepare_create(request, obj)
        if not obj["spec"].get("service"):
            obj["status"] = {"conditions": [locally_available()]}

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return registrations.check_api_service(obj)

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        return registrations.check_status(new) if request.subresource else self.validate(request, new)


def locally_available() -> Obj:
    """The condition of an APIService that is served here."""
    return {
        "type": "Available",
        "status": "True",
        "lastTransitionTime": times.now(),
        "reason": "Local",
        "message": "Local APIServices are always available",
    }
