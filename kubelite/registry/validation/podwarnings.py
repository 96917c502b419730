"""What a server warns of in pods and pod templates that it takes nevertheless.

Source: kubernetes pkg/api/pod/warnings.go and pkg/api/node/util.go, v1.34.
"""

from collections.abc import Iterable, Iterator, Sequence

from kubelite.meta import addresses, names
from kubelite.meta.types import Obj
from kubelite.registry.validation import claims, nodelabels, podspecs, resources, volumesources
from kubelite.registry.validation.placement import PREFERRED, REQUIRED
from kubelite.registry.validation.pods import APPARMOR, SECCOMP, SECCOMP_OF_POD, apparmor_profile

_ANNOTATIONS = {
    "scheduler.alpha.kubernetes.io/critical-pod": 'non-functional in v1.16+; use the "priorityClassName" field instead',
    "security.alpha.kubernetes.io/sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
    "security.alpha.kubernetes.io/unsafe-sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
}
_BYTES = ("memory", "ephemeral-storage")


def of_pod(pod: Obj) -> Iterator[str]:
    yield from _of(pod, "", False)


def of_template(template: Obj | None, path: str) -> Iterator[str]:
    if template:
        yield from _of(template, f"{path}.", True)


def of_status(pod: Obj) -> Iterator[str]:
    """A pod's status as it is written."""
    for field in ("podIPs", "hostIPs"):
        for i, entry in enumerate((pod.get("status") or {}).get(field) or ()):
            yield from addresses.warnings(entry.get("ip", ""), f"status.{field}[{i}].ip")


def of_name(name: str, used_in: str) -> Iterator[str]:
    """A name that becomes a part of names that are DNS labels."""
    faults = names.dns1123_label(name)
    if faults:
        yield (
            f"metadata.name: this is used in {used_in}, which can result in surprising behavior; a DNS label is recommended: "
            f"[{' '.join(faults)}]"
        )


def _of(holder: Obj, start: str, is_template: bool) -> Iterator[str]:
    spec, at = holder.get("spec") or {}, f"{start}spec"
    annotations = (holder.get("metadata") or {}).get("annotations")
    if "nodeSelector" in spec:
        yield from (f"{at}.nodeSelector[{k}]: {nodelabels.WARNINGS[k]}" for k in spec["nodeSelector"] if k in nodelabels.WARNINGS)
    affinity = spec.get("affinity")
    if affinity and "nodeAffinity" in affinity:
        yield from _of_node_affinity(affinity["nodeAffinity"], f"{at}.affinity.nodeAffinity")
    if "topologySpreadConstraints" in spec:
        yield from _of_spread(spec["topologySpreadConstraints"], f"{at}.topologySpreadConstraints")
    if annotations:
        yield from (f"{start}metadata.annotations[{key}]: {text}" for key, text in _ANNOTATIONS.items() if key in annotations)
    if "volumes" in spec:
        yield from _of_volumes(spec["volumes"], f"{at}.volumes")
    for field, key in (("hostAliases", "ip"), ("imagePullSecrets", "name")):
        if field in spec:
            yield from _of_names(spec[field], key, f"{at}.{field}")
    if "overhead" in spec:
        for name in _BYTES:
            yield from resources.fraction_warnings(spec["overhead"], name, f"{at}.overhead")
    if annotations:
        yield from _of_profiles(annotations, spec, f"{start}metadata.annotations", is_template)
    yield from _of_containers(spec, at)
    if spec.get("terminationGracePeriodSeconds", 0) < 0:
        yield f"{at}.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"
    if affinity:
        yield from _of_pod_affinity(affinity, f"{at}.affinity")
    for i, server in enumerate((spec.get("dnsConfig") or {}).get("nameservers") or ()):
        yield from addresses.warnings(server, f"{at}.dnsConfig.nameservers[{i}]")
    for i, alias in enumerate(spec.get("hostAliases") or ()):
        yield from addresses.warnings(alias.get("ip", ""), f"{at}.hostAliases[{i}].ip")


def _of_node_affinity(node: Obj, path: str) -> Iterator[str]:
    for i, term in enumerate((node.get(REQUIRED) or {}).get("nodeSelectorTerms") or ()):
        yield from _of_node_term(term, f"{path}.{REQUIRED}.nodeSelectorTerms[{i}]", False)
    for i, term in enumerate(node.get(PREFERRED) or ()):
        yield from _of_node_term(term.get("preference") or {}, f"{path}.{PREFERRED}[{i}].preference", True)


def _of_pod_affinity(affinity: Obj, path: str) -> Iterator[str]:
    for name in ("podAffinity", "podAntiAffinity"):
        pod, at = affinity.get(name) or {}, f"{path}.{name}"
        for i, term in enumerate(pod.get(REQUIRED) or ()):
            yield from _of_selector(term, f"{at}.{REQUIRED}[{i}]")
        for i, term in enumerate(pod.get(PREFERRED) or ()):
            yield from _of_selector(term.get("podAffinityTerm") or {}, f"{at}.{PREFERRED}[{i}].podAffinityTerm")


def _of_node_term(term: Obj, path: str, check_values: bool) -> Iterator[str]:
    for i, requirement in enumerate(term.get("matchExpressions") or ()):
        at, key = f"{path}.matchExpressions[{i}]", requirement.get("key", "")
        if key in nodelabels.WARNINGS:
            yield f"{at}.key: {key} is {nodelabels.WARNINGS[key]}"
        for j, value in enumerate(requirement.get("values") or () if check_values else ()):
            yield from (f"{at}.values[{j}]: {value} is invalid, {text}" for text in names.label_value(value))


def _of_selector(term: Obj, path: str) -> Iterator[str]:
    if term.get("labelSelector") is None:
        yield f"{path}.labelSelector: a null labelSelector results in matching no pod"


def _of_spread(constraints: Sequence[Obj], path: str) -> Iterator[str]:
    for i, constraint in enumerate(constraints):
        key = constraint.get("topologyKey", "")
        if key in nodelabels.WARNINGS:
            yield f"{path}[{i}].topologyKey: {key} is {nodelabels.WARNINGS[key]}"
        yield from _of_selector(constraint, f"{path}[{i}]")


def _of_profiles(annotations: Obj, spec: Obj, path: str, is_template: bool) -> Iterator[str]:
    """Annotations of old that name profiles, where no field does."""
    own = spec.get("securityContext") or {}
    if SECCOMP_OF_POD in annotations and "seccompProfile" not in own:
        yield f'{path}[{SECCOMP_OF_POD}]: non-functional in v1.27+; use the "seccompProfile" field instead'
    for _, container in podspecs.each_container(spec, ""):
        name, context = container.get("name", ""), container.get("securityContext") or {}
        if SECCOMP + name in annotations and "seccompProfile" not in context:
            yield f'{path}[{SECCOMP}{name}]: non-functional in v1.27+; use the "seccompProfile" field instead'
        # those of pods become fields when the pod is created
        if is_template and APPARMOR + name in annotations and "appArmorProfile" not in context:
            profile = own.get("appArmorProfile")
            if profile is None or profile != apparmor_profile(annotations[APPARMOR + name]):
                yield f'{path}[{APPARMOR}{name}]: deprecated since v1.30; use the "appArmorProfile" field instead'


def _of_volumes(volumes: Sequence[Obj], path: str) -> Iterator[str]:
    for i, volume in enumerate(volumes):
        yield from (f"{path}[{i}].{volumesources.GONE[kind]}" for kind in volume if kind in volumesources.GONE)
        template = (volume.get("ephemeral") or {}).get("volumeClaimTemplate")
        if template:
            yield from claims.warnings(template.get("spec") or {}, f"{path}[{i}].ephemeral.volumeClaimTemplate.spec")
    for volume in volumes:
        yield from _overlaps(volume, volume.get("name", ""))


def _overlaps(volume: Obj, name: str) -> Iterator[str]:
    """Files of a volume that are put at, or below, the place of another."""
    for kind, shown in (("configMap", "name"), ("secret", "secretName"), ("downwardAPI", "")):
        source = volume.get(kind)
        if source and "items" in source:
            noun = f'{kind[0].upper()}{kind[1:]} "{source.get(shown, "")}"' if shown else "DownwardAPI"
            yield from _collisions(((item.get("path", ""), "") for item in source["items"]), name, noun)
    projected: list[tuple[str, str]] = []
    for source in (volume.get("projected") or {}).get("sources") or ():
        if not source:
            yield f'volume "{name}" (Projected) has no sources provided'
        projected += _projected_files(source)
    yield from _collisions(projected, name, "Projected")


def _projected_files(source: Obj) -> list[tuple[str, str]]:
    """The files of one source of a projected volume: path and where it is from."""
    for kind, noun in (("configMap", "ConfigMap"), ("secret", "Secret"), ("downwardAPI", "DownwardAPI")):
        items = (source.get(kind) or {}).get("items")
        if items:
            origin = noun if kind == "downwardAPI" else f'{noun} "{source[kind].get("name", "")}"'
            return [(item.get("path", ""), origin) for item in items]
    token = source.get("serviceAccountToken")
    return [(token.get("path", ""), "ServiceAccountToken")] if token is not None else []


def _collisions(files: Iterable[tuple[str, str]], volume: str, noun: str) -> Iterator[str]:
    seen: list[tuple[str, str]] = []
    for given, origin in files:
        path = given.rstrip("/")
        for other, other_origin in seen if path else ():
            if other and (f"{other}/".startswith(f"{path}/") or f"{path}/".startswith(f"{other}/")):
                pair = f"{_shown(path, origin)} with {_shown(other, other_origin)}"
                yield f'volume "{volume}" ({noun}): overlapping paths: {pair}'
        seen.append((path, origin))


def _shown(path: str, origin: str) -> str:
    return f'"{path}" ({origin})' if origin else f'"{path}"'


def _of_names(items: Sequence[Obj], key: str, path: str) -> Iterator[str]:
    """Host aliases' addresses or pull secrets' names, each once."""
    seen: set[str] = set()
    for i, item in enumerate(items):
        value = item.get(key, "")
        if value in seen:
            yield f'{path}[{i}].{key}: duplicate {key} "{value}"'
        seen.add(value)
    yield from (f'{path}[{i}].name: invalid empty name ""' for i, item in enumerate(items) if key == "name" and not item.get(key))


def _of_containers(spec: Obj, path: str) -> Iterator[str]:
    ports: list[tuple[str, Obj]] = []
    for at, container in podspecs.each_container(spec, path):
        asked = container.get("resources")
        if asked:
            for name in _BYTES:
                for side in ("limits", "requests"):
                    if side in asked:
                        yield from resources.fraction_warnings(asked[side], name, f"{at}.resources.{side}")
        if len(container.get("env") or ()) > 1:
            yield from _hidden_variables(container["env"], f"{at}.env")
        ports += ((f"{at}.ports[{i}]", port) for i, port in enumerate(container.get("ports") or ()))
    yield from _of_ports(ports)


def _hidden_variables(variables: Sequence[Obj], path: str) -> Iterator[str]:
    """Variables that stand in for an earlier one of the name, other than by extending it."""
    seen: set[str] = set()
    for i, variable in enumerate(variables):
        name, value = variable.get("name", ""), variable.get("value", "")
        reference = f"$({name})"
        if name in seen and ("valueFrom" in variable or value == reference or reference not in value):
            yield f'{path}[{i}]: hides previous definition of "{name}", which may be dropped when using apply'
        seen.add(name)


def _of_ports(ports: Sequence[tuple[str, Obj]]) -> Iterator[str]:
    """Ports of all containers that are one, or overlap."""
    for i, (at, port) in enumerate(ports):
        host, ip = port.get("hostPort", 0), port.get("hostIP", "")
        if ip and not host:
            yield f"{at}: hostIP set without hostPort: {_go_struct(port)}"
        for there, other in ports[:i]:
            if any(port.get(field) != other.get(field) for field in ("containerPort", "protocol")):
                continue
            other_host, other_ip = other.get("hostPort", 0), other.get("hostIP", "")
            if (ip, host) == (other_ip, other_host):
                yield f"{at}: duplicate port definition with {there}"
            elif not host or not other_host:
                yield f"{at}: overlapping port definition with {there}"
            elif host == other_host and (not ip or not other_ip):
                yield f"{at}: dangerously ambiguous port definition with {there}"
    named: dict[str, str] = {}
    for at, port in ports:
        name = port.get("name")
        if name and named.setdefault(name, at) != at:
            first = named[name]
            text = f"services and probes that select ports by name will use {first}"
            yield f'{at}: duplicate port name "{name}" with {first}, {text}'


def _go_struct(port: Obj) -> str:
    shown = (f"{field[0].upper()}{field[1:]}:{port.get(field, zero)}" for field, zero in _PORT_FIELDS)
    return f"{{{' '.join(shown)}}}"


_PORT_FIELDS = (("name", ""), ("hostPort", 0), ("containerPort", 0), ("protocol", ""), ("hostIP", ""))
