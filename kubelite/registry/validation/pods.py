"""Checks of pods and of the pod specs inside templates.

Source: kubernetes pkg/apis/core/validation/validation.go, v1.34.
"""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Any

from kubelite.meta import errors, names
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import containers, fields, volumes

RESTART_POLICIES = ("Always", "Never", "OnFailure")
DNS_POLICIES = ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")
TAINT_EFFECTS = ("NoExecute", "NoSchedule", "PreferNoSchedule")
NODE_POLICIES = ("Honor", "Ignore")

_UPDATABLE = (
    "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,"
    "`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
_SYSCTL_SEGMENT = "[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_SYSCTL = re.compile(rf"({_SYSCTL_SEGMENT}[\./])*{_SYSCTL_SEGMENT}")


def check_pod(pod: Obj) -> list[Cause]:
    """A pod as it is created."""
    spec = pod.get("spec") or {}
    causes = check_spec(spec, "spec", is_pod=True)
    for field in ("containers", "initContainers"):
        for i, container in enumerate(spec.get(field) or ()):
            causes += containers.check_image_space(container, f"spec.{field}[{i}]")
    annotations = (pod.get("metadata") or {}).get("annotations") or {}
    if annotations:
        causes += _check_apparmor(annotations, spec)
    if spec.get("ephemeralContainers"):
        causes.append(errors.forbidden("spec.ephemeralContainers", "cannot be set on create"))
    return causes


_APPARMOR = "container.apparmor.security.beta.kubernetes.io/"


def _check_apparmor(annotations: Mapping[str, str], spec: Obj) -> list[Cause]:
    """The profiles that annotations of old give to containers."""
    known = {c.get("name") for f in ("containers", "initContainers", "ephemeralContainers") for c in spec.get(f) or ()}
    causes: list[Cause] = []
    for key, profile in annotations.items():
        if not key.startswith(_APPARMOR):
            continue
        path, name = f"metadata.annotations[{key}]", key.removeprefix(_APPARMOR)
        if name not in known:
            causes.append(errors.invalid(path, name, "container not found"))
        if profile not in ("", "runtime/default", "unconfined") and not profile.startswith("localhost/"):
            text = f"invalid AppArmor profile name: {errors.format_value(profile)}"
            causes.append(errors.invalid(path, profile, text))
    return causes


def check_template(template: Obj, path: str) -> list[Cause]:
    """A pod template: its labels and its spec."""
    metadata = template.get("metadata") or {}
    causes = fields.label_map(metadata.get("labels"), f"{path}.labels")
    spec = template.get("spec") or {}
    causes += check_spec(spec, f"{path}.spec", is_pod=False)
    if spec.get("ephemeralContainers"):
        causes.append(errors.forbidden(f"{path}.spec.ephemeralContainers", "ephemeral containers not allowed in pod template"))
    return causes


def check_spec(spec: Obj, path: str, is_pod: bool) -> list[Cause]:
    """A pod's spec."""
    grace_s = spec.get("terminationGracePeriodSeconds")
    listed = spec.get("volumes") or ()
    causes = volumes.check(listed, f"{path}.volumes") if listed else []
    mountable = volumes.names_of(listed)
    regular, init = spec.get("containers") or (), spec.get("initContainers") or ()
    causes += containers.check_regular(regular, mountable, grace_s, f"{path}.containers")
    if init:
        causes += containers.check_init(init, regular, mountable, grace_s, f"{path}.initContainers")
    ephemeral = spec.get("ephemeralContainers")
    if ephemeral:
        causes += containers.check_ephemeral(ephemeral, (*init, *regular), mountable, f"{path}.ephemeralContainers")
    causes += _check_host(spec, path)
    if spec.get("hostNetwork"):
        causes += _check_host_network_ports(regular, f"{path}.containers", is_pod)
    causes += fields.one_of(spec.get("restartPolicy"), f"{path}.restartPolicy", RESTART_POLICIES)
    causes += fields.one_of(spec.get("dnsPolicy"), f"{path}.dnsPolicy", DNS_POLICIES)
    causes += fields.label_map(spec.get("nodeSelector"), f"{path}.nodeSelector")
    if spec.get("securityContext"):
        causes += _check_security(spec["securityContext"], spec, f"{path}.securityContext")
    if "affinity" in spec:
        causes += _check_affinity(spec["affinity"] or {}, f"{path}.affinity")
    causes += _check_dns(spec, f"{path}.dnsConfig")
    for i, gate in enumerate(spec.get("readinessGates") or ()):
        kind = gate.get("conditionType", "")
        causes += fields.invalid_if(names.qualified_name(kind), f"{path}.readinessGates[{i}].conditionType", kind)
    causes += _check_scheduling_gates(spec.get("schedulingGates") or (), f"{path}.schedulingGates")
    causes += _check_spread(spec.get("topologySpreadConstraints") or (), f"{path}.topologySpreadConstraints")
    for name, form in _NAMES.items():
        if spec.get(name):
            causes += fields.invalid_if(form(spec[name]), f"{path}.{name}", spec[name])
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None:
        causes += fields.in_range(deadline, 1, fields.MAX_INT32, f"{path}.activeDeadlineSeconds")
    if spec.get("tolerations"):
        causes += check_tolerations(spec["tolerations"], f"{path}.tolerations")
    for i, alias in enumerate(spec.get("hostAliases") or ()):
        causes += _check_ip(alias.get("ip", ""), f"{path}.hostAliases[{i}].ip")
        for j, host in enumerate(alias.get("hostnames") or ()):
            causes += fields.invalid_if(names.dns1123_subdomain(host), f"{path}.hostAliases[{i}].hostnames[{j}]", host)
    preemption = spec.get("preemptionPolicy")
    if preemption is not None:
        causes += fields.one_of(preemption, f"{path}.preemptionPolicy", ("Never", "PreemptLowerPriority"))
    if spec.get("overhead"):
        causes += containers.check_resources({"limits": spec["overhead"]}, f"{path}.overhead")
    return causes


def _check_host(spec: Obj, path: str) -> list[Cause]:
    """What a pod shares with its node, which system it is for, and its resource claims."""
    causes: list[Cause] = []
    if spec.get("shareProcessNamespace") and spec.get("hostPID"):
        text = "ShareProcessNamespace and HostPID cannot both be enabled"
        causes.append(errors.invalid(f"{path}.securityContext.shareProcessNamespace", True, text))
    if spec.get("hostUsers") is False:
        shared = [field for field in ("hostNetwork", "hostPID", "hostIPC") if spec.get(field)]
        causes += [errors.forbidden(f"{path}.{field}", "when `hostUsers` is false") for field in shared]
    else:
        for field in ("containers", "initContainers", "ephemeralContainers"):
            for i, container in enumerate(spec.get(field) or ()):
                if (container.get("securityContext") or {}).get("procMount") == "Unmasked":
                    at = f"{path}.{field}[{i}].securityContext.procMount"
                    causes.append(errors.invalid(at, "Unmasked", "`hostUsers` must be false to use `Unmasked`"))
    system = spec.get("os")
    if system is not None:
        if not system.get("name"):
            causes.append(errors.required(f"{path}.os.name", "cannot be empty"))
        elif system["name"] not in ("linux", "windows"):
            causes.append(errors.not_supported(f"{path}.os", system["name"], ("linux", "windows")))
    claims = spec.get("resourceClaims") or []
    for i, claim in enumerate(claims):
        at, name = f"{path}.resourceClaims[{i}]", claim.get("name", "")
        causes += fields.named(name, f"{at}.name")
        if any(other.get("name", "") == name for other in claims[:i]):
            causes.append(errors.duplicate(f"{at}.name", name))
        given = [f for f in ("resourceClaimName", "resourceClaimTemplateName") if claim.get(f) is not None]
        if len(given) != 1:
            text = "at most" if given else "must specify"
            text = f"{text} one of `resourceClaimName`, `resourceClaimTemplateName`" + (" may be specified" if given else "")
            causes.append(errors.invalid(at, claim, text))
    return causes


_NAMES = {
    "serviceAccountName": names.dns1123_subdomain,
    "nodeName": names.dns1123_subdomain,
    "hostname": names.dns1123_label,
    "subdomain": names.dns1123_label,
    "priorityClassName": names.dns1123_subdomain,
    "runtimeClassName": names.dns1123_subdomain,
}


def check_update(new: Obj, old: Obj) -> list[Cause]:
    """What an update may change of a pod's spec: images, deadlines, added tolerations, removed scheduling gates."""
    now, was = new.get("spec") or {}, old.get("spec") or {}
    if now == was:
        return []
    for field in ("containers", "initContainers"):
        if len(now.get(field) or ()) != len(was.get(field) or ()):
            return [errors.forbidden(f"spec.{field}", "pod updates may not add or remove containers")]
    causes = check_spec(now, "spec", is_pod=True)
    munged = dict(now)
    for field in ("containers", "initContainers"):
        if field in now:
            pairs = zip(now[field] or (), was.get(field) or (), strict=True)
            munged[field] = [{**c, "image": o.get("image")} for c, o in pairs]
    causes += _check_deadline_update(now.get("activeDeadlineSeconds"), was.get("activeDeadlineSeconds"))
    causes += _check_added_tolerations(now.get("tolerations") or (), was.get("tolerations") or ())
    gates = {g.get("name") for g in was.get("schedulingGates") or ()}
    for i, gate in enumerate(now.get("schedulingGates") or ()):
        if gate.get("name") not in gates:
            text = f"only deletion is allowed, but found new scheduling gate '{gate.get('name')}'"
            causes.append(errors.forbidden(f"spec.schedulingGates[{i}].name", text))
    settled = ["activeDeadlineSeconds", "tolerations", "schedulingGates"]
    if was.get("terminationGracePeriodSeconds", 0) < 0 and now.get("terminationGracePeriodSeconds") == 1:
        settled.append("terminationGracePeriodSeconds")
    if gates:
        causes += _check_gated_selector(now.get("nodeSelector") or {}, was.get("nodeSelector") or {})
        settled += ["nodeSelector", "affinity"]
    changed = sorted(k for k in {*munged, *was} - set(settled) if (munged.get(k) or None) != (was.get(k) or None))
    if changed:
        listed = "\n".join(f"  {name}: changed" for name in changed)
        causes.append(errors.forbidden("spec", f"pod updates may not change fields other than {_UPDATABLE}\n{listed}"))
    return causes


def check_ephemeral_update(new: Obj, old: Obj) -> list[Cause]:
    """Ephemeral containers may be added, never changed or removed."""
    now, was = new.get("spec") or {}, old.get("spec") or {}
    path = "spec.ephemeralContainers"
    before = {c.get("name"): c for c in was.get("ephemeralContainers") or ()}
    after = {c.get("name"): c for c in now.get("ephemeralContainers") or ()}
    others = (*(now.get("initContainers") or ()), *(now.get("containers") or ()))
    mountable = volumes.names_of(now.get("volumes") or ())
    causes = containers.check_ephemeral(now.get("ephemeralContainers") or (), others, mountable, path)
    for name, container in before.items():
        if name not in after:
            causes.append(errors.forbidden(path, f"existing ephemeral containers {format_name(name)} may not be removed\n"))
        elif after[name] != container:
            causes.append(errors.forbidden(path, f"existing ephemeral containers {format_name(name)} may not be changed\n"))
    return causes


def format_name(name: Any) -> str:
    return f'"{name}"'


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


def _check_added_tolerations(new: Sequence[Obj], old: Sequence[Obj]) -> list[Cause]:
    def key(toleration: Obj) -> Obj:
        return {k: v for k, v in toleration.items() if k != "tolerationSeconds"}

    kept = [key(t) for t in new]
    if all(key(t) in kept for t in old):
        return []
    text = "existing toleration can not be modified except its tolerationSeconds"
    return [errors.forbidden("spec.tolerations", text)]


def _check_gated_selector(new: Mapping[str, str], old: Mapping[str, str]) -> list[Cause]:
    if all(new.get(key) == value for key, value in old.items()):
        return []
    text = "only additions to spec.nodeSelector are allowed (no mutations or deletions)"
    return [errors.invalid("spec.nodeSelector", new, text)]


def _check_host_network_ports(regular: Sequence[Obj], path: str, is_pod: bool) -> list[Cause]:
    causes: list[Cause] = []
    for i, container in enumerate(regular):
        for j, port in enumerate(container.get("ports") or ()):
            host, inner = port.get("hostPort", 0), port.get("containerPort", 0)
            if (is_pod or host) and host != inner:
                text = "must match `containerPort` when `hostNetwork` is true"
                causes.append(errors.invalid(f"{path}[{i}].ports[{j}].hostPort", host, text))
    return causes


def _check_security(security: Obj, spec: Obj, path: str) -> list[Cause]:
    causes: list[Cause] = []
    for name in ("fsGroup", "runAsUser", "runAsGroup"):
        causes += fields.user_or_group_id(security.get(name), f"{path}.{name}")
    for i, group in enumerate(security.get("supplementalGroups") or ()):
        causes += fields.user_or_group_id(group, f"{path}.supplementalGroups[{i}]")
    seen: set[str] = set()
    for i, sysctl in enumerate(security.get("sysctls") or ()):
        at, name = f"{path}.sysctls[{i}].name", sysctl.get("name", "")
        if not name:
            causes.append(errors.required(at))
        elif len(name) > 253 or not _SYSCTL.fullmatch(name):
            text = f"must have at most 253 characters and match regex ^({_SYSCTL_SEGMENT}[\\./])*{_SYSCTL_SEGMENT}$"
            causes.append(errors.invalid(at, name, text))
        elif name in seen:
            causes.append(errors.duplicate(at, name))
        seen.add(name)
    change = security.get("fsGroupChangePolicy")
    if change is not None:
        causes += fields.one_of(change, f"{path}.fsGroupChangePolicy", ("Always", "OnRootMismatch"))
    supplemental = security.get("supplementalGroupsPolicy")
    if supplemental is not None:
        causes += fields.one_of(supplemental, f"{path}.supplementalGroupsPolicy", ("Merge", "Strict"))
    return causes + containers.check_seccomp(security.get("seccompProfile"), f"{path}.seccompProfile")


def _check_dns(spec: Obj, path: str) -> list[Cause]:
    config = spec.get("dnsConfig")
    if spec.get("dnsPolicy") == "None":
        if config is None:
            return [errors.required(path, "must provide `dnsConfig` when `dnsPolicy` is None")]
        if not config.get("nameservers"):
            text = "must provide at least one DNS nameserver when `dnsPolicy` is None"
            return [errors.required(f"{path}.nameservers", text)]
    if config is None:
        return []
    causes: list[Cause] = []
    servers, searches = config.get("nameservers") or [], config.get("searches") or []
    if len(servers) > 3:
        causes.append(errors.invalid(f"{path}.nameservers", servers, "must not have more than 3 nameservers"))
    for i, server in enumerate(servers):
        causes += _check_ip(server, f"{path}.nameservers[{i}]")
    if len(searches) > 32:
        causes.append(errors.invalid(f"{path}.searches", searches, "must not have more than 32 search paths"))
    if len(" ".join(searches)) > 2048:
        text = "must not have more than 2048 characters (including spaces) in the search list"
        causes.append(errors.invalid(f"{path}.searches", searches, text))
    for i, search in enumerate(searches):
        if search != ".":
            causes += fields.invalid_if(names.dns1123_search(search.removesuffix(".")), f"{path}.searches[{i}]", search)
    for i, option in enumerate(config.get("options") or ()):
        if not option.get("name"):
            causes.append(errors.required(f"{path}.options[{i}]", "must not be empty"))
    return causes


def _check_ip(value: str, path: str) -> list[Cause]:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return [errors.invalid(path, value, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")]
    return []


def _check_scheduling_gates(gates: Sequence[Obj], path: str) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[str] = set()
    for i, gate in enumerate(gates):
        name = gate.get("name", "")
        causes += fields.invalid_if(names.qualified_name(name), f"{path}[{i}]", name)
        if name in seen:
            causes.append(errors.duplicate(f"{path}[{i}]", name))
        seen.add(name)
    return causes


def _check_spread(constraints: Sequence[Obj], path: str) -> list[Cause]:
    causes: list[Cause] = []
    actions = ("DoNotSchedule", "ScheduleAnyway")
    seen = [(c.get("topologyKey", ""), c.get("whenUnsatisfiable", "")) for c in constraints]
    for i, constraint in enumerate(constraints):
        at = f"{path}[{i}]"
        key, action = constraint.get("topologyKey", ""), constraint.get("whenUnsatisfiable", "")
        causes += fields.positive(constraint.get("maxSkew", 0), f"{at}.maxSkew")
        if not key:
            causes.append(errors.required(f"{at}.topologyKey", "can not be empty"))
        if action not in actions:
            causes.append(errors.not_supported(f"{at}.whenUnsatisfiable", action, actions))
        if (key, action) in seen[:i]:  # upstream blames the first one
            first = f"{path}[{seen.index((key, action))}]"
            causes.append(errors.duplicate(f"{first}.{{topologyKey, whenUnsatisfiable}}", f"{{{key}, {action}}}"))
        domains = constraint.get("minDomains")
        causes += fields.positive(domains, f"{at}.minDomains")
        if domains is not None and action != "DoNotSchedule":
            text = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
            causes.append(errors.invalid(f"{at}.minDomains", domains, text))
        for name in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
            if constraint.get(name) is not None and constraint[name] not in NODE_POLICIES:
                causes.append(errors.not_supported(f"{at}.{name}", constraint[name], NODE_POLICIES))
        causes += fields.label_selector(constraint.get("labelSelector"), f"{at}.labelSelector")
    return causes


def check_tolerations(tolerations: Sequence[Obj], path: str) -> list[Cause]:
    """Tolerations of a pod or of a runtime class."""
    causes: list[Cause] = []
    for i, toleration in enumerate(tolerations):
        at = f"{path}[{i}]"
        key, operator = toleration.get("key", ""), toleration.get("operator", "")
        value, effect = toleration.get("value", ""), toleration.get("effect", "")
        if key:
            causes += fields.invalid_if(names.qualified_name(key), f"{at}.key", key)
        elif operator != "Exists":
            text = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
            causes.append(errors.invalid(f"{at}.operator", operator, text))
        if toleration.get("tolerationSeconds") is not None and effect != "NoExecute":
            text = "effect must be 'NoExecute' when `tolerationSeconds` is set"
            causes.append(errors.invalid(f"{at}.effect", effect, text))
        if operator in ("", "Equal"):
            faults = names.label_value(value)
            if faults:
                causes.append(errors.invalid(f"{at}.operator", value, ";".join(faults)))
        elif operator == "Exists":
            if value:
                text = "value must be empty when `operator` is 'Exists'"
                causes.append(errors.invalid(f"{at}.operator", value, text))
        else:
            causes.append(errors.not_supported(f"{at}.operator", operator, ("Equal", "Exists")))
        if effect and effect not in TAINT_EFFECTS:
            causes.append(errors.not_supported(f"{at}.effect", effect, TAINT_EFFECTS))
    return causes


def _check_affinity(affinity: Obj, path: str) -> list[Cause]:
    causes: list[Cause] = []
    required, preferred = "requiredDuringSchedulingIgnoredDuringExecution", "preferredDuringSchedulingIgnoredDuringExecution"
    node = affinity.get("nodeAffinity") or {}
    if node.get(required) is not None:
        causes += check_node_selector(node[required], f"{path}.nodeAffinity.{required}")
    for i, term in enumerate(node.get(preferred) or ()):
        at = f"{path}.nodeAffinity.{preferred}[{i}]"
        causes += _check_weight(term, at)
        causes += _check_node_term(term.get("preference") or {}, f"{at}.preference")
    for name in ("podAffinity", "podAntiAffinity"):
        pod = affinity.get(name) or {}
        for i, term in enumerate(pod.get(required) or ()):
            causes += _check_pod_term(term, f"{path}.{name}.{required}[{i}]")
        for i, term in enumerate(pod.get(preferred) or ()):
            at = f"{path}.{name}.{preferred}[{i}]"
            causes += _check_weight(term, at)
            causes += _check_pod_term(term.get("podAffinityTerm") or {}, f"{at}.podAffinityTerm")
    return causes


def _check_weight(term: Obj, at: str) -> list[Cause]:
    weight = term.get("weight", 0)
    return [] if 1 <= weight <= 100 else [errors.invalid(f"{at}.weight", weight, "must be in the range 1-100")]


def check_node_selector(selector: Obj, path: str) -> list[Cause]:
    """A node selector: at least one term."""
    terms = selector.get("nodeSelectorTerms") or ()
    if not terms:
        return [errors.required(f"{path}.nodeSelectorTerms", "must have at least one node selector term")]
    return [c for i, term in enumerate(terms) for c in _check_node_term(term, f"{path}.nodeSelectorTerms[{i}]")]


def _check_node_term(term: Obj, path: str) -> list[Cause]:
    causes: list[Cause] = []
    for i, requirement in enumerate(term.get("matchExpressions") or ()):
        at = f"{path}.matchExpressions[{i}]"
        operator, values = requirement.get("operator"), requirement.get("values") or ()
        if operator in ("In", "NotIn"):
            if not values:
                causes.append(errors.required(f"{at}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
        elif operator in ("Exists", "DoesNotExist"):
            if values:
                text = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                causes.append(errors.forbidden(f"{at}.values", text))
        elif operator in ("Gt", "Lt"):
            if len(values) != 1:
                text = "must be specified single value when `operator` is 'Lt' or 'Gt'"
                causes.append(errors.required(f"{at}.values", text))
        else:
            causes.append(errors.invalid(f"{at}.operator", operator or "", "not a valid selector operator"))
        key = requirement.get("key", "")
        causes += fields.invalid_if(names.qualified_name(key), f"{at}.key", key)
        for j, value in enumerate(values):
            causes += fields.invalid_if(names.label_value(value), f"{at}.values[{j}]", value)
    for i, requirement in enumerate(term.get("matchFields") or ()):
        at = f"{path}.matchFields[{i}]"
        if requirement.get("operator") not in ("In", "NotIn"):
            causes.append(errors.invalid(f"{at}.operator", requirement.get("operator", ""), "not a valid selector operator"))
        elif len(requirement.get("values") or ()) != 1:
            text = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
            causes.append(errors.required(f"{at}.values", text))
        if requirement.get("key") != "metadata.name":
            causes.append(errors.invalid(f"{at}.key", requirement.get("key", ""), "not a valid field selector key"))
    return causes


def _check_pod_term(term: Obj, path: str) -> list[Cause]:
    causes = fields.label_selector(term.get("labelSelector"), f"{path}.labelSelector")
    causes += fields.label_selector(term.get("namespaceSelector"), f"{path}.namespaceSelector")
    for name in term.get("namespaces") or ():
        causes += fields.invalid_if(names.dns1123_label(name), f"{path}.namespace", name)
    key = term.get("topologyKey", "")
    if not key:
        causes.append(errors.required(f"{path}.topologyKey", "can not be empty"))
    return causes + fields.invalid_if(names.qualified_name(key), f"{path}.topologyKey", key)
