"""Checks of the statuses that nodes and controllers write of pods.

Source: kubernetes pkg/apis/core/validation/validation.go (ValidatePodStatusUpdate), v1.34.
"""

from collections.abc import Sequence

from kubelite.meta import addresses, errors, names
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import fields, pods

#: Conditions whose types are Kubernetes' own.
_SYSTEM_CONDITIONS = ("PodScheduled", "Ready", "Initialized")
_GENERATION = "must be a non-negative integer"
#: The statuses of containers, and where the containers are in the spec.
STATUSES = (
    ("containerStatuses", "containers"),
    ("initContainerStatuses", "initContainers"),
    ("ephemeralContainerStatuses", "ephemeralContainers"),
)


def check_update(new: Obj, old: Obj) -> list[Cause]:
    """A pod's status: its addresses, where it may go, its conditions, what may become of its containers."""
    now, was, spec = new.get("status") or {}, old.get("status") or {}, old["spec"]
    causes = pods.check_annotations_update(new, old)
    causes += _check_conditions(now.get("conditions") or ())
    nominated = now.get("nominatedNodeName")
    if nominated and nominated != was.get("nominatedNodeName"):
        causes += fields.invalid_if(names.dns1123_subdomain(nominated), "status.nominatedNodeName", nominated)
    if now.get("observedGeneration", 0) < 0:
        causes.append(errors.invalid("status.observedGeneration", now["observedGeneration"], _GENERATION))
    causes += fields.immutable(now.get("qosClass", ""), was.get("qosClass", ""), "status.qosClass")
    for field, containers in STATUSES:
        if field in now:
            causes += _check_ended(now[field], was.get(field) or (), containers, spec, f"status.{field}")
            causes += _check_users(now[field], (spec.get("os") or {}).get("name", "linux"), f"status.{field}")
    causes += _check_claims(now.get("resourceClaimStatuses") or (), spec)
    causes += _check_addresses(now.get("podIPs") or (), was.get("podIPs") or (), "status.podIPs")
    hosts = now.get("hostIPs")
    if hosts:
        if now.get("hostIP", "") != hosts[0].get("ip", ""):
            causes.append(errors.invalid("status.hostIPs[0].ip", hosts[0].get("ip", ""), "must be equal to `hostIP`"))
        causes += _check_addresses(hosts, was.get("hostIPs") or (), "status.hostIPs")
    return causes


def _check_conditions(conditions: Sequence[Obj]) -> list[Cause]:
    causes: list[Cause] = []
    for i, condition in enumerate(conditions):
        at, kind = f"status.conditions[{i}]", condition.get("type", "")
        if condition.get("observedGeneration", 0) < 0:
            causes.append(errors.invalid(f"{at}.observedGeneration", condition["observedGeneration"], _GENERATION))
        if kind not in _SYSTEM_CONDITIONS:
            causes += fields.invalid_if(names.qualified_name(kind), f"{at}.Type", kind)
    return causes


def _check_ended(new: Sequence[Obj], old: Sequence[Obj], containers: str, spec: Obj, path: str) -> list[Cause]:
    """A container that has ended, and that is not started again, has ended for good."""
    if spec.get("restartPolicy") == "Always" and containers != "ephemeralContainers":
        return []
    sidecars = {c.get("name") for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"}
    causes: list[Cause] = []
    for i, before in enumerate(old):
        ended, name = (before.get("state") or {}).get("terminated"), before.get("name")
        if ended is None:
            continue
        restarts = spec.get("restartPolicy") == "OnFailure" and ended.get("exitCode", 0) != 0
        if containers != "ephemeralContainers" and (restarts or (containers == "initContainers" and name in sidecars)):
            continue
        if any(s.get("name") == name and "terminated" not in (s.get("state") or ()) for s in new):
            causes.append(errors.forbidden(f"{path}[{i}].state", "may not be transitioned to non-terminated state"))
    return causes


def _check_users(found: Sequence[Obj], system: str, path: str) -> list[Cause]:
    """Whom containers run as."""
    causes: list[Cause] = []
    for i, status in enumerate(found):
        user = (status.get("user") or {}).get("linux")
        if user is None:
            continue
        at = f"{path}[{i}].user.linux"
        if system == "windows":
            causes.append(errors.forbidden(at, "cannot be set for a windows pod"))
            continue
        for name in ("uid", "gid"):
            causes += fields.user_or_group_id(user.get(name, 0), f"{at}.{name}")
        for j, group in enumerate(user.get("supplementalGroups") or ()):
            causes += fields.user_or_group_id(group, f"{at}.supplementalGroups[{j}]")
    return causes


def _check_claims(found: Sequence[Obj], spec: Obj) -> list[Cause]:
    causes: list[Cause] = []
    known = {claim.get("name", "") for claim in spec.get("resourceClaims") or ()}
    seen: set[str] = set()
    for i, status in enumerate(found):
        at, name = f"status.resourceClaimStatuses[{i}].name", status.get("name", "")
        if name not in known:
            causes.append(errors.invalid(at, name, "must match the name of an entry in `spec.resourceClaims`"))
        if name in seen:
            causes.append(errors.duplicate(at, name))
        seen.add(name)
        claim = status.get("resourceClaimName")
        if claim is not None:
            causes += fields.invalid_if(names.dns1123_subdomain(claim), at, claim)
    return causes


def _check_addresses(entries: Sequence[Obj], old: Sequence[Obj], path: str) -> list[Cause]:
    """At most one address of each family."""
    causes: list[Cause] = []
    before = {entry.get("ip", "") for entry in old}
    texts = [entry.get("ip", "") for entry in entries]
    for i, text in enumerate(texts):
        if text not in before:
            causes += fields.address(text, f"{path}[{i}]")
    if len(texts) > 1:
        families = [addresses.family_of(text) for text in texts]
        if "" in families:
            bad = families.index("")
            text = f"Internal error: failed to check for dual stack with error:invalid IP[{bad}]: {texts[bad]}"
            causes.append(Cause(path, "InternalError", text))
        if len({family for family in families if family}) < len(texts):
            text = "may specify no more than one IP for each IP family"
            causes.append(errors.invalid(path, list(entries), text))
    return causes
