"""Checks of a pod's spec, wherever it stands. The parts that are large have modules of their own.

Source: kubernetes pkg/apis/core/validation/validation.go (ValidatePodSpec), v1.34.
"""

from collections.abc import Iterator, Sequence

from kubelite.meta import errors, names
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import containers, fields, placement, resources, security, volumes

RESTART_POLICIES = ("Always", "Never", "OnFailure")
DNS_POLICIES = ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")
MAX_NAMESERVERS, MAX_SEARCHES, MAX_SEARCH_LETTERS = 3, 32, 2048
CONTAINER_FIELDS = ("initContainers", "containers", "ephemeralContainers")

_NAMES = (
    ("serviceAccountName", names.dns1123_subdomain),
    ("nodeName", names.dns1123_subdomain),
    ("hostname", names.dns1123_label),
    ("subdomain", names.dns1123_label),
    ("priorityClassName", names.dns1123_subdomain),
    ("runtimeClassName", names.dns1123_subdomain),
)


def check(spec: Obj, path: str, is_pod: bool, pod_name: str = "") -> list[Cause]:
    """A pod's spec, or with `is_pod` False a template's."""
    given_volumes, regular, init = spec.get("volumes") or (), spec.get("containers") or (), spec.get("initContainers") or ()
    mountable, causes = volumes.check(given_volumes, f"{path}.volumes", pod_name) if given_volumes else ({}, [])
    claims = spec.get("resourceClaims") or ()
    claim_names = {claim["name"] for claim in claims if claim.get("name")} if claims else ()
    host_users = spec.get("hostUsers") is not False
    grace_s, restart_policy = spec.get("terminationGracePeriodSeconds"), spec.get("restartPolicy", "")
    pod = containers.Surroundings(mountable, claim_names, grace_s, restart_policy, host_users)
    causes += containers.check_regular(regular, pod, f"{path}.containers")
    if init:
        causes += containers.check_init(init, regular, pod, f"{path}.initContainers")
    ephemeral = spec.get("ephemeralContainers")
    if ephemeral:
        causes += containers.check_ephemeral(ephemeral, (*init, *regular), pod, f"{path}.ephemeralContainers")
    if claims:
        causes += _check_claims(claims, f"{path}.resourceClaims")
    if "resources" in spec:
        causes += resources.check_pod_requirements(spec, claim_names, f"{path}.resources")
    if "overhead" in spec:
        causes += resources.check_requirements({"limits": spec["overhead"]}, (), f"{path}.overhead")
    causes += _check_host(spec, host_users, is_pod, path)
    causes += fields.one_of(restart_policy, f"{path}.restartPolicy", RESTART_POLICIES)
    causes += fields.one_of(spec.get("dnsPolicy"), f"{path}.dnsPolicy", DNS_POLICIES)
    if "dnsConfig" in spec or spec.get("dnsPolicy") == "None":
        causes += _check_dns(spec, f"{path}.dnsConfig")
    if spec.get("securityContext"):
        causes += security.check_pod(spec["securityContext"], spec, f"{path}.securityContext")
    causes += _check_placement(spec, path)
    for name, form in _NAMES:
        if name in spec:
            causes += fields.invalid_if(form(spec[name]), f"{path}.{name}", spec[name])
    return causes + _check_rest(spec, path)


def _check_placement(spec: Obj, path: str) -> list[Cause]:
    causes: list[Cause] = []
    if "nodeSelector" in spec:
        causes += fields.label_map(spec["nodeSelector"], f"{path}.nodeSelector")
    if "affinity" in spec:
        causes += placement.check_affinity(spec["affinity"], f"{path}.affinity")
    if "tolerations" in spec:
        causes += placement.check_tolerations(spec["tolerations"], f"{path}.tolerations")
    if "topologySpreadConstraints" in spec:
        causes += placement.check_spread(spec["topologySpreadConstraints"], f"{path}.topologySpreadConstraints")
    if "schedulingGates" in spec:
        causes += placement.check_gates(spec["schedulingGates"], f"{path}.schedulingGates")
    preemption = spec.get("preemptionPolicy")
    if preemption is not None:
        causes += fields.one_of(preemption, f"{path}.preemptionPolicy", ("Never", "PreemptLowerPriority"))
    return causes


def _check_rest(spec: Obj, path: str) -> list[Cause]:
    causes: list[Cause] = []
    for i, gate in enumerate(spec.get("readinessGates") or ()):
        kind = gate.get("conditionType", "")
        causes += fields.invalid_if(names.qualified_name(kind), f"{path}.readinessGates[{i}].conditionType", kind)
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None:
        causes += fields.in_range(deadline, 1, fields.MAX_INT32, f"{path}.activeDeadlineSeconds")
    for i, alias in enumerate(spec.get("hostAliases") or ()):
        causes += fields.address(alias.get("ip", ""), f"{path}.hostAliases[{i}].ip")
        for j, host in enumerate(alias.get("hostnames") or ()):
            causes += fields.invalid_if(names.dns1123_subdomain(host), f"{path}.hostAliases[{i}].hostnames[{j}]", host)
    return causes + _check_system(spec, path)


def _check_host(spec: Obj, host_users: bool, is_pod: bool, path: str) -> list[Cause]:
    """What a pod shares with its node."""
    causes: list[Cause] = []
    if spec.get("hostNetwork"):
        causes += _check_host_network_ports(spec.get("containers") or (), f"{path}.containers", is_pod)
    if spec.get("hostPID") and spec.get("shareProcessNamespace"):
        text = "ShareProcessNamespace and HostPID cannot both be enabled"
        causes.append(errors.invalid(f"{path}.securityContext.shareProcessNamespace", True, text))
    if not host_users:
        text = "when `hostUsers` is false"
        for field, shown in (("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")):
            if spec.get(field):
                causes.append(errors.forbidden(f"{path}.{shown}", text))
        for at, container in each_container(spec, path):
            if container.get("volumeDevices"):
                causes.append(errors.forbidden(f"{at}.volumeDevices", text))
    return causes


def each_container(spec: Obj, path: str) -> Iterator[tuple[str, Obj]]:
    """All containers of a pod with their paths."""
    for field in CONTAINER_FIELDS:
        for i, container in enumerate(spec.get(field) or ()):
            yield f"{path}.{field}[{i}]", container


def _check_host_network_ports(regular: Sequence[Obj], path: str, is_pod: bool) -> list[Cause]:
    causes: list[Cause] = []
    for i, container in enumerate(regular):
        for j, port in enumerate(container.get("ports") or ()):
            host, inner = port.get("hostPort", 0), port.get("containerPort", 0)
            if (is_pod or host) and host != inner:
                text = "must match `containerPort` when `hostNetwork` is true"
                causes.append(errors.invalid(f"{path}[{i}].ports[{j}].hostPort", host, text))
    return causes


def _check_system(spec: Obj, path: str) -> list[Cause]:
    """What a pod says of the operating system it is for."""
    system = (spec.get("os") or {}).get("name", "")
    causes: list[Cause] = []
    if "os" in spec:
        if not system:
            causes.append(errors.required(f"{path}.os.name"))
        elif system not in ("linux", "windows"):
            causes.append(errors.not_supported(f"{path}.os", system, ("linux", "windows")))
    contexts = [(f"{at}.securityContext", found.get("securityContext") or {}) for at, found in each_container(spec, path)]
    if system in ("linux", "windows"):
        causes += security.check_system(system, spec, contexts, path)
    if "windowsOptions" in (spec.get("securityContext") or ()) or any("windowsOptions" in context for _, context in contexts):
        causes += security.check_host_processes(spec, contexts, path)
    return causes


def _check_claims(claims: Sequence[Obj], path: str) -> list[Cause]:
    """`spec.resourceClaims`: names unique, each a claim or a template of one."""
    causes: list[Cause] = []
    seen: set[str] = set()
    for i, claim in enumerate(claims):
        at, name = f"{path}[{i}]", claim.get("name", "")
        if name in seen:
            causes.append(errors.duplicate(f"{at}.name", name))
        else:
            causes += fields.named(name, f"{at}.name")
        if name:
            seen.add(name)
        given = [field for field in ("resourceClaimName", "resourceClaimTemplateName") if field in claim]
        if len(given) > 1:
            text = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            causes.append(errors.invalid(at, claim, text))
        elif not given:
            text = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"
            causes.append(errors.invalid(at, claim, text))
        for field in given:
            causes += fields.invalid_if(names.dns1123_subdomain(claim[field]), f"{at}.{field}", claim[field])
    return causes


def _check_dns(spec: Obj, path: str) -> list[Cause]:
    config: Obj | None = spec.get("dnsConfig")
    if config is None:
        return [errors.required(path, "must provide `dnsConfig` when `dnsPolicy` is None")]
    servers, searches = config.get("nameservers") or [], config.get("searches") or []
    if not servers and spec.get("dnsPolicy") == "None":
        text = "must provide at least one DNS nameserver when `dnsPolicy` is None"
        return [errors.required(f"{path}.nameservers", text)]
    causes: list[Cause] = []
    if len(servers) > MAX_NAMESERVERS:
        causes.append(errors.invalid(f"{path}.nameservers", servers, "must not have more than 3 nameservers"))
    for i, server in enumerate(servers):
        causes += fields.address(server, f"{path}.nameservers[{i}]")
    if len(searches) > MAX_SEARCHES:
        causes.append(errors.invalid(f"{path}.searches", searches, "must not have more than 32 search paths"))
    if len(" ".join(searches)) > MAX_SEARCH_LETTERS:
        text = "must not have more than 2048 characters (including spaces) in the search list"
        causes.append(errors.invalid(f"{path}.searches", searches, text))
    for i, search in enumerate(searches):
        if search != ".":
            name = search.removesuffix(".")
            causes += fields.invalid_if(names.dns1123_search(name), f"{path}.searches[{i}]", name)
    for i, option in enumerate(config.get("options") or ()):
        if not option.get("name"):
            causes.append(errors.required(f"{path}.options[{i}]", "must not be empty"))
    return causes
