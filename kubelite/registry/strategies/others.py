"""The kinds of the other groups: what sets them apart is mostly how they are named and what counts their generation.

Source: kubernetes pkg/registry/*/*/strategy.go, apiextensions-apiserver and kube-aggregator registries, v1.34.
"""

import base64
import ipaddress
from collections.abc import Sequence
from typing import Any, ClassVar

from kubelite.meta import errors, names
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.strategies import Request, Strategy, keep
from kubelite.registry.validation import admissionregistration, autoscaling, metadata, networking, rbac
from kubelite.registry.validation.metadata import IMMUTABLE


class RoleStrategy(Strategy):
    """The kinds of the RBAC group: any path segment is a name, and PUT creates."""

    allow_create_on_update = True

    def name_faults(self, name: str, prefix: bool) -> Sequence[str]:
        return metadata.path_segment_faults(name, prefix)

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return rbac.check_role(obj, request.kind.namespaced)


class BindingStrategy(RoleStrategy):
    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return rbac.check_binding(obj, request.kind.namespaced)

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        if new.get("roleRef") != old.get("roleRef"):
            return [errors.invalid("roleRef", new.get("roleRef"), "cannot change roleRef")]
        return self.validate(request, new)


class LeaseStrategy(Strategy):
    allow_create_on_update = True
    allow_unconditional_update = False

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
    allow_create_on_update = True
    allow_unconditional_update = False

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        handler = obj.get("handler", "")
        return [errors.invalid("handler", handler, text) for text in names.dns1123_label(handler)]

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        if new.get("handler") != old.get("handler"):
            return [errors.invalid("handler", new.get("handler"), IMMUTABLE)]
        return self.validate(request, new)


class DisruptionBudgetStrategy(Strategy):
    allow_unconditional_update = False
    has_status = True
    has_generation = True
    initial_status: ClassVar[Obj | None] = {
        "currentHealthy": 0,
        "desiredHealthy": 0,
        "disruptionsAllowed": 0,
        "expectedPods": 0,
    }

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        spec = obj.get("spec") or {}
        if spec.get("minAvailable") is not None and spec.get("maxUnavailable") is not None:
            return [errors.invalid("spec", spec, "minAvailable and maxUnavailable cannot be both set")]
        return []


class AutoscalerStrategy(Strategy):
    has_status = True

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return autoscaling.check_autoscaler(obj)

    initial_status: ClassVar[Obj | None] = {"desiredReplicas": 0, "currentMetrics": None}

    def prepare_create(self, request: Request, obj: Obj) -> None:
        obj["status"] = {"desiredReplicas": 0}
        if request.kind.version == "v2":
            obj["status"]["currentMetrics"] = None
        else:
            obj["status"]["currentReplicas"] = 0


class SpecGenerationStrategy(Strategy):
    """A kind without a status whose generation counts changes of its spec."""

    has_generation = True


class NetworkPolicyStrategy(SpecGenerationStrategy):
    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return networking.check_network_policy(obj)


class IngressClassStrategy(SpecGenerationStrategy):
    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return networking.check_ingress_class(obj)

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        controller = (new.get("spec") or {}).get("controller")
        if controller != (old.get("spec") or {}).get("controller"):
            return [errors.invalid("spec.controller", controller, IMMUTABLE)]
        return self.validate(request, new)


class IngressStrategy(Strategy):
    has_status = True
    has_generation = True

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return networking.check_ingress(obj)

    initial_status: ClassVar[Obj | None] = {"loadBalancer": {}}


class WebhookStrategy(Strategy):
    """Webhook configurations."""

    allow_unconditional_update = False
    has_generation = True
    generation_paths = ("webhooks",)

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return admissionregistration.webhook_faults(obj)


class PolicyStrategy(Strategy):
    """Admission policies."""

    allow_unconditional_update = False
    has_status = True
    has_generation = True
    initial_status: ClassVar[Obj | None] = {}

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return admissionregistration.policy_faults(obj)


class PolicyBindingStrategy(Strategy):
    allow_unconditional_update = False
    has_generation = True

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return admissionregistration.binding_faults(obj)


class FlowStrategy(Strategy):
    """FlowSchemas and PriorityLevelConfigurations."""

    has_status = True
    has_generation = True
    initial_status: ClassVar[Obj | None] = {}


class EndpointSliceStrategy(Strategy):
    has_generation = True

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        return networking.check_endpoint_slice(obj)

    def prepare_update(self, request: Request, new: Obj, old: Obj) -> None:
        meta, was = new["metadata"], old["metadata"]
        changed = any(new.get(f) != old.get(f) for f in ("endpoints", "ports", "addressType"))
        if changed or (meta.get("labels") or {}) != (was.get("labels") or {}):
            meta["generation"] = was.get("generation", 0) + 1

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        if new.get("addressType") != old.get("addressType"):
            return [errors.invalid("addressType", new.get("addressType"), IMMUTABLE)]
        return self.validate(request, new)


class PriorityClassStrategy(Strategy):
    has_generation = True
    generation_paths = ()

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        name, value = obj["metadata"].get("name", ""), obj.get("value", 0)
        known = {"system-node-critical": 2000001000, "system-cluster-critical": 2000000000}
        if name.startswith("system-"):
            if known.get(name) != value:
                text = (
                    "priority class names with 'system-' prefix are reserved for system use only. error: "
                    f"{name} is not a known system priority class"
                )
                return (
                    [errors.forbidden("metadata.name", text)]
                    if name not in known
                    else [errors.forbidden("metadata.name", f"value of {name} PriorityClass must be {known[name]}")]
                )
        elif value > 1_000_000_000:
            text = "maximum allowed value of a user defined priority is 1000000000"
            return [errors.forbidden("value", text)]
        return []

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        causes = []
        if new.get("value", 0) != old.get("value", 0):
            causes.append(errors.forbidden("value", "may not be changed in an update."))
        if new.get("preemptionPolicy") != old.get("preemptionPolicy"):
            causes.append(errors.invalid("preemptionPolicy", new.get("preemptionPolicy"), IMMUTABLE))
        return causes


class StorageClassStrategy(Strategy):
    returns_deleted = True

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        causes = []
        for field in ("parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"):
            if (new.get(field) or None) != (old.get(field) or None):
                text = f"updates to {field} are forbidden."
                causes.append(errors.forbidden(field, text))
        return causes


class ReturningStrategy(Strategy):
    """A kind whose delete answers with the object."""

    returns_deleted = True


class ReturningLockedStrategy(Strategy):
    returns_deleted = True
    allow_unconditional_update = False


class LockedStrategy(Strategy):
    allow_unconditional_update = False


class DriverStrategy(Strategy):
    """CSIDrivers: a generation from the first change on."""

    returns_deleted = True
    allow_unconditional_update = False

    def prepare_update(self, request: Request, new: Obj, old: Obj) -> None:
        if new.get("spec") != old.get("spec"):
            new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1


class AttachmentStrategy(Strategy):
    """VolumeAttachments."""

    returns_deleted = True
    allow_unconditional_update = False
    has_status = True
    initial_status: ClassVar[Obj | None] = {"attached": False}


class ResourceClaimStrategy(Strategy):
    returns_deleted = True
    has_status = True
    initial_status: ClassVar[Obj | None] = {}


class ReturningGenerationStrategy(Strategy):
    """Device classes and resource slices."""

    returns_deleted = True
    has_generation = True


class SigningRequestStrategy(Strategy):
    """CertificateSigningRequests: the server notes who asks; only approval and status change it."""

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
        elif request.subresource == "status":
            status["conditions"] = _keep_decisions(status.get("conditions") or [], was.get("conditions") or [])
        else:
            keep(new, old, "status")
            return
        new["status"] = _stamped(status, was, request.now)

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        spec = obj.get("spec") or {}
        causes = _check_request(spec.get("request", ""))
        if not spec.get("usages"):
            causes.append(errors.required("spec.usages"))
        signer = spec.get("signerName")
        if signer == "kubernetes.io/legacy-unknown":
            text = "the legacy signerName is not allowed via this API version"
            causes.append(errors.invalid("spec.signerName", signer, text))
        return causes

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        causes = []
        conditions = (new.get("status") or {}).get("conditions") or []
        types = [c.get("type") for c in conditions]
        if "Approved" in types and "Denied" in types:
            causes.append(errors.invalid("status.conditions", "Denied", "Approved and Denied conditions are mutually exclusive"))
        for index, condition in enumerate(conditions):
            if condition.get("type") in ("Approved", "Denied", "Failed") and condition.get("status") != "True":
                path = f"status.conditions[{index}].status"
                text = f'must be "True" for condition type "{condition["type"]}"'
                causes.append(errors.invalid(path, condition.get("status", ""), text))
        if request.subresource == "approval":
            had = [c.get("type") for c in (old.get("status") or {}).get("conditions") or []]
            for decision in ("Approved", "Denied"):
                if decision in had and decision not in types:
                    text = f'updates may not remove a condition of type "{decision}"'
                    causes.append(errors.forbidden("status.conditions", text))
        return causes


def _check_request(text: str) -> list[Cause]:
    """A signing request is a PEM block of that type; what is in it is for its signer to judge."""
    try:
        pem = base64.b64decode(text)
    except ValueError:
        pem = b""
    if b"-----BEGIN CERTIFICATE REQUEST-----" in pem or b"-----BEGIN NEW CERTIFICATE REQUEST-----" in pem:
        return []
    return [errors.invalid("spec.request", text, "PEM block type must be CERTIFICATE REQUEST")]


def _keep_decisions(new: list[Obj], old: list[Obj]) -> list[Obj]:
    """A status update neither adds, removes nor changes approvals and denials."""
    kept = [c for c in old if c.get("type") in ("Approved", "Denied")]
    return kept + [c for c in new if c.get("type") not in ("Approved", "Denied")]


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
    """ServiceCIDRs: ranges that the allocators give out of."""

    has_status = True
    initial_status: ClassVar[Obj | None] = {}

    def validate_update(self, request: Request, new: Obj, old: Obj) -> list[Cause]:
        if not request.subresource and new.get("spec") != old.get("spec"):
            return [errors.invalid("spec.cidrs", (new.get("spec") or {}).get("cidrs"), IMMUTABLE)]
        return []

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        causes: list[Cause] = []
        cidrs = (obj.get("spec") or {}).get("cidrs") or []
        if not cidrs:
            causes.append(errors.required("spec.cidrs", "at least one CIDR required"))
        for index, cidr in enumerate(cidrs):
            try:
                ipaddress.ip_network(cidr)
            except ValueError:
                path = f"spec.cidrs[{index}]"
                text = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
                causes.append(errors.invalid(path, cidr, text))
        return causes

    def committed(self, request: Request, new: Obj | None, old: Obj | None) -> None:
        if new is None or old is None or new["metadata"].get("deletionTimestamp"):
            request.registry.allocators.networks_changed()


class IpAddressStrategy(Strategy):
    """IPAddresses: the name is the address, in its one canonical form."""

    def name_faults(self, name: str, prefix: bool) -> Sequence[str]:
        try:
            canonical = str(ipaddress.ip_address(name))
        except ValueError:
            return ["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"]
        return [] if canonical == name else [f'must be in canonical form ("{canonical}")']

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        parent: Any = (obj.get("spec") or {}).get("parentRef")
        if not parent:
            return [errors.required("spec.parentRef")]
        return [errors.required(f"spec.parentRef.{f}") for f in ("resource", "name") if not parent.get(f)]

    def committed(self, request: Request, new: Obj | None, old: Obj | None) -> None:
        if new is not None and old is None:
            request.registry.allocators.note_address(new["metadata"]["name"])


class ApiServiceStrategy(Strategy):
    """APIServices: named after what they serve. Source: kube-aggregator pkg/apis/apiregistration/validation, v0.34."""

    has_status = True
    initial_status: ClassVar[Obj | None] = {}

    def name_faults(self, name: str, prefix: bool) -> Sequence[str]:
        return metadata.path_segment_faults(name, prefix)

    def validate(self, request: Request, obj: Obj) -> list[Cause]:
        spec = obj.get("spec") or {}
        group, version = spec.get("group", ""), spec.get("version", "")
        wanted, name = f"{version}.{group}", obj["metadata"].get("name", "")
        causes: list[Cause] = []
        if name != wanted:
            causes.append(errors.invalid("metadata.name", name, f'must be `spec.version+"."+spec.group`: "{wanted}"'))
        if not group and version != "v1":
            text = "only v1 may have an empty group and it better be legacy kube"
            causes.append(errors.required("spec.group", text))
        for field, most in (("groupPriorityMinimum", 20000), ("versionPriority", 1000)):
            if not 0 < spec.get(field, 0) <= most:
                causes.append(errors.invalid(f"spec.{field}", spec.get(field, 0), f"must be positive and less than {most}"))
        service = spec.get("service")
        if service is None:
            if spec.get("insecureSkipTLSVerify"):
                text = "local APIServices may not have insecureSkipTLSVerify"
                causes.append(errors.invalid("spec.insecureSkipTLSVerify", True, text))
            return causes
        causes += [errors.required(f"spec.service.{f}") for f in ("namespace", "name") if not service.get(f)]
        if spec.get("insecureSkipTLSVerify") and spec.get("caBundle"):
            causes.append(errors.invalid("spec.insecureSkipTLSVerify", True, "may not be true if caBundle is present"))
        return causes
