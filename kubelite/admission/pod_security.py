"""The Pod Security Standards: what the levels baseline and restricted forbid in a pod, and how they say it.

Pure. Each check is a function from a pod's metadata and spec to a fault (reason and detail) or None; the table at the end
says from which version on it belongs to which level. Every check looks at init, ordinary and ephemeral containers.

Source: pod-security-admission v0.34 policy/check_*.go; https://kubernetes.io/docs/concepts/security/pod-security-standards/.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from kubelite.meta.types import Obj

NEWEST = 34
_Fault: TypeAlias = tuple[str, str]
_Check: TypeAlias = Callable[[Obj, Obj], _Fault | None]


class _Row(NamedTuple):
    name: str
    #: (first minor version, check), the oldest first.
    versions: tuple[tuple[int, _Check], ...]
    restricted: bool = False
    #: The baseline check that this one makes needless.
    overrides: str = ""


def faults(level: str, minor: int, metadata: Obj, spec: Obj) -> list[_Fault]:
    """What a level of a version (34 for v1.34) forbids in a pod, each as reason and detail, in the standard's order."""
    if level == "privileged":
        return []
    return [fault for check in _checks(level, min(minor, NEWEST)) if (fault := check(metadata, spec)) is not None]


def format_faults(found: Iterable[_Fault]) -> str:
    """`host namespaces (hostNetwork=true), privileged (container "a" must not ...)`."""
    return ", ".join(f"{reason} ({detail})" if detail else reason for reason, detail in found)


def format_reasons(found: Iterable[_Fault]) -> str:
    return ", ".join(reason for reason, _ in found)


@lru_cache
def _checks(level: str, minor: int) -> tuple[_Check, ...]:
    active = [row for row in _TABLE if row.versions[0][0] <= minor and (level == "restricted" or not row.restricted)]
    overridden = {row.overrides for row in active}
    kept = sorted((row for row in active if row.name not in overridden), key=lambda row: (row.restricted, row.name))
    return tuple([check for first, check in row.versions if first <= minor][-1] for row in kept)


def _containers(spec: Obj) -> Iterator[Obj]:
    for field in ("initContainers", "containers", "ephemeralContainers"):
        yield from spec.get(field) or ()


def _security(holder: Obj) -> Obj:
    return holder.get("securityContext") or {}


def _quoted(items: Iterable[str]) -> str:
    return ", ".join(f'"{item}"' for item in items)


def _named(names: list[str], word: str = "container") -> str:
    return f"{_plural(word, word + 's', names)} {_quoted(names)}"


def _plural(one: str, many: str, items: Iterable[str]) -> str:
    return one if len(list(items)) == 1 else many


def _setters(pod_is_bad: bool, containers: list[str]) -> str:
    return " and ".join([*(["pod"] if pod_is_bad else []), *([_named(containers)] if containers else [])])


def _is_windows(spec: Obj) -> bool:
    return (spec.get("os") or {}).get("name") == "windows"


def _host_namespaces(metadata: Obj, spec: Obj) -> _Fault | None:
    found = [f"{field}=true" for field in ("hostNetwork", "hostPID", "hostIPC") if spec.get(field)]
    return ("host namespaces", ", ".join(found)) if found else None


def _privileged(metadata: Obj, spec: Obj) -> _Fault | None:
    bad = [c["name"] for c in _containers(spec) if _security(c).get("privileged")]
    return ("privileged", f"{_named(bad)} must not set securityContext.privileged=true") if bad else None


_DEFAULT_CAPABILITIES = frozenset(
    {
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    }
)


def _added_capabilities(container: Obj, allowed: frozenset[str]) -> set[str]:
    return set((_security(container).get("capabilities") or {}).get("add") or ()) - allowed


def _capabilities_baseline(metadata: Obj, spec: Obj) -> _Fault | None:
    added = {c["name"]: _added_capabilities(c, _DEFAULT_CAPABILITIES) for c in _containers(spec)}
    bad = [name for name, found in added.items() if found]
    if not bad:
        return None
    forbidden = sorted(set().union(*added.values()))
    return "non-default capabilities", f"{_named(bad)} must not include {_quoted(forbidden)} in securityContext.capabilities.add"


def _capabilities_restricted(metadata: Obj, spec: Obj) -> _Fault | None:
    allowed = frozenset({"NET_BIND_SERVICE"})
    keeping, adding, forbidden = [], [], set()
    for container in _containers(spec):
        if "ALL" not in ((_security(container).get("capabilities") or {}).get("drop") or ()):
            keeping.append(container["name"])
        if found := _added_capabilities(container, allowed):
            adding.append(container["name"])
            forbidden |= found
    details = []
    if keeping:
        details.append(f'{_named(keeping)} must set securityContext.capabilities.drop=["ALL"]')
    if adding:
        details.append(f"{_named(adding)} must not include {_quoted(sorted(forbidden))} in securityContext.capabilities.add")
    return ("unrestricted capabilities", "; ".join(details)) if details else None


def _host_path_volumes(metadata: Obj, spec: Obj) -> _Fault | None:
    bad = [v["name"] for v in spec.get("volumes") or () if "hostPath" in v]
    return ("hostPath volumes", _named(bad, "volume")) if bad else None


def _host_ports(metadata: Obj, spec: Obj) -> _Fault | None:
    ports = {c["name"]: {str(p["hostPort"]) for p in c.get("ports") or () if p.get("hostPort")} for c in _containers(spec)}
    bad = [name for name, found in ports.items() if found]
    if not bad:
        return None
    used = sorted(set().union(*ports.values()))
    return "hostPort", f"{_named(bad)} {_plural('uses', 'use', bad)} {_plural('hostPort', 'hostPorts', used)} {', '.join(used)}"


def _probe_hosts(metadata: Obj, spec: Obj) -> _Fault | None:
    bad: set[str] = set()
    hosts: set[str] = set()
    for container in _containers(spec):
        lifecycle = container.get("lifecycle") or {}
        handlers = [container.get(f"{kind}Probe") for kind in ("liveness", "readiness", "startup")]
        for handler in (*handlers, lifecycle.get("postStart"), lifecycle.get("preStop")):
            found = {((handler or {}).get(way) or {}).get("host") or "" for way in ("httpGet", "tcpSocket")} - {""}
            if found:
                bad.add(container["name"])
                hosts |= found
    if not bad:
        return None
    names, listed, word = sorted(bad), sorted(hosts), "probe or lifecycle host"
    return word, f"{_named(names)} {_plural('uses', 'use', names)} {_plural(word, word + 's', listed)} {_quoted(listed)}"


def _app_armor(metadata: Obj, spec: Obj) -> _Fault | None:
    values: set[str] = set()

    def is_bad(holder: Obj) -> bool:
        profile = _security(holder).get("appArmorProfile")
        if profile is None or profile.get("type") in ("RuntimeDefault", "Localhost"):
            return False
        values.add(profile.get("type", ""))
        return True

    pod_is_bad = is_bad(spec)
    bad = [c["name"] for c in _containers(spec) if is_bad(c)]
    annotations = sorted(
        f'{key}="{value}"'
        for key, value in (metadata.get("annotations") or {}).items()
        if key.startswith("container.apparmor.security.beta.kubernetes.io/")
        and value not in ("", "runtime/default")
        and not value.startswith("localhost/")
    )
    setters = [text for text in (_setters(pod_is_bad, bad),) if text]
    if annotations:
        setters.append(_plural("annotation", "annotations", annotations))
    if not setters:
        return None
    listed = [*sorted(values), *annotations]
    reason = _plural("forbidden AppArmor profile", "forbidden AppArmor profiles", listed)
    return reason, f"{' and '.join(setters)} must not set AppArmor profile type to {_quoted(listed)}"


def _se_linux(allowed: frozenset[str]) -> _Check:
    def check(metadata: Obj, spec: Obj) -> _Fault | None:
        types: set[str] = set()
        parts: set[str] = set()

        def is_bad(holder: Obj) -> bool:
            options = _security(holder).get("seLinuxOptions")
            if options is None:
                return False
            found = {part for part in ("user", "role") if options.get(part)}
            parts.update(found)
            if (options.get("type") or "") not in allowed:
                types.add(options["type"])
                return True
            return bool(found)

        setters = _setters(is_bad(spec), [c["name"] for c in _containers(spec) if is_bad(c)])
        if not setters:
            return None
        data = [f"{_plural('type', 'types', types)} {_quoted(sorted(types))}"] if types else []
        data += [f"{part} may not be set" for part in ("user", "role") if part in parts]
        return "seLinuxOptions", f"{setters} set forbidden securityContext.seLinuxOptions: {'; '.join(data)}"

    return check


_SELINUX_TYPES = frozenset({"", "container_t", "container_init_t", "container_kvm_t"})


def _proc_mount(metadata: Obj, spec: Obj) -> _Fault | None:
    mounts = {c["name"]: _security(c).get("procMount") for c in _containers(spec)}
    bad = [name for name, value in mounts.items() if value not in (None, "Default")]
    if not bad:
        return None
    values = sorted({str(mounts[name]) for name in bad})
    return "procMount", f"{_named(bad)} must not set securityContext.procMount to {_quoted(values)}"


_SECCOMP_POD = "seccomp.security.alpha.kubernetes.io/pod"
_SECCOMP_CONTAINER = "container.seccomp.security.alpha.kubernetes.io/"


def _seccomp_annotations(metadata: Obj, spec: Obj) -> _Fault | None:
    annotations = metadata.get("annotations") or {}
    keys = [_SECCOMP_POD, *(_SECCOMP_CONTAINER + c["name"] for c in _containers(spec))]
    bad = sorted(
        f'{key}="{annotations[key]}"'
        for key in dict.fromkeys(keys)
        if key in annotations
        and annotations[key] not in ("runtime/default", "docker/default")
        and not annotations[key].startswith("localhost/")
    )
    return ("seccompProfile", f"forbidden {_plural('annotation', 'annotations', bad)} {', '.join(bad)}") if bad else None


def _seccomp_type(holder: Obj) -> str | None:
    profile = _security(holder).get("seccompProfile")
    return None if profile is None else profile.get("type", "")


def _seccomp_baseline(metadata: Obj, spec: Obj) -> _Fault | None:
    good = (None, "RuntimeDefault", "Localhost")
    bad = [c["name"] for c in _containers(spec) if _seccomp_type(c) not in good]
    setters = _setters(_seccomp_type(spec) not in good, bad)
    if not setters:
        return None
    values = sorted({str(_seccomp_type(h)) for h in (spec, *_containers(spec)) if _seccomp_type(h) not in good})
    return "seccompProfile", f"{setters} must not set securityContext.seccompProfile.type to {_quoted(values)}"


def _seccomp_restricted(metadata: Obj, spec: Obj) -> _Fault | None:
    fault = _seccomp_baseline(metadata, spec)
    if fault is not None or _seccomp_type(spec) is not None:
        return fault
    bad = [c["name"] for c in _containers(spec) if _seccomp_type(c) is None]
    text = f'pod or {_named(bad)} must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost"'
    return ("seccompProfile", text) if bad else None


def _sysctls(allowed: frozenset[str]) -> _Check:
    def check(metadata: Obj, spec: Obj) -> _Fault | None:
        bad = [s["name"] for s in _security(spec).get("sysctls") or () if s["name"] not in allowed]
        return ("forbidden sysctls", ", ".join(bad)) if bad else None

    return check


_SYSCTLS_0 = frozenset(
    f"net.ipv4.{name}" for name in ("ip_local_port_range", "tcp_syncookies", "ping_group_range", "ip_unprivileged_port_start")
) | {"kernel.shm_rmid_forced"}
_SYSCTLS_27 = _SYSCTLS_0 | {"net.ipv4.ip_local_reserved_ports"}
_SYSCTLS_29 = _SYSCTLS_27 | {
    f"net.ipv4.tcp_{n}" for n in ("keepalive_time", "fin_timeout", "keepalive_intvl", "keepalive_probes")
}
_SYSCTLS_32 = _SYSCTLS_29 | {"net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"}


def _host_process(metadata: Obj, spec: Obj) -> _Fault | None:
    def is_bad(holder: Obj) -> bool:
        return bool((_security(holder).get("windowsOptions") or {}).get("hostProcess"))

    setters = _setters(is_bad(spec), [c["name"] for c in _containers(spec) if is_bad(c)])
    return ("hostProcess", f"{setters} must not set securityContext.windowsOptions.hostProcess=true") if setters else None


def _escalation(metadata: Obj, spec: Obj) -> _Fault | None:
    bad = [c["name"] for c in _containers(spec) if _security(c).get("allowPrivilegeEscalation") is not False]
    text = f"{_named(bad)} must set securityContext.allowPrivilegeEscalation=false"
    return ("allowPrivilegeEscalation != false", text) if bad else None


_VOLUMES = frozenset(
    {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret"}
)


def _volume_types(metadata: Obj, spec: Obj) -> _Fault | None:
    bad = [v for v in spec.get("volumes") or () if not _VOLUMES & v.keys()]
    if not bad:
        return None
    names = [v["name"] for v in bad]
    types = sorted({next((key for key in v if key != "name"), "unknown") for v in bad})
    word = "restricted volume type"
    text = f"{_named(names, 'volume')} {_plural('uses', 'use', names)} {_plural(word, word + 's', types)} {_quoted(types)}"
    return "restricted volume types", text


def _non_root(metadata: Obj, spec: Obj) -> _Fault | None:
    reason = "runAsNonRoot != true"
    pod = _security(spec).get("runAsNonRoot")
    settings = {c["name"]: _security(c).get("runAsNonRoot") for c in _containers(spec)}
    setters = _setters(pod is False, [name for name, value in settings.items() if value is False])
    if setters:
        return reason, f"{setters} must not set securityContext.runAsNonRoot=false"
    implicit = [name for name, value in settings.items() if value is None]
    if implicit and not pod:
        return reason, f"pod or {_named(implicit)} must set securityContext.runAsNonRoot=true"
    return None


def _run_as_user(metadata: Obj, spec: Obj) -> _Fault | None:
    bad = [c["name"] for c in _containers(spec) if _security(c).get("runAsUser") == 0]
    setters = _setters(_security(spec).get("runAsUser") == 0, bad)
    return ("runAsUser=0", f"{setters} must not set runAsUser=0") if setters else None


def _unless_windows(check: _Check) -> _Check:
    return lambda metadata, spec: None if _is_windows(spec) else check(metadata, spec)


_TABLE = (
    _Row("appArmorProfile", ((0, _app_armor),)),
    _Row("capabilities_baseline", ((0, _capabilities_baseline),)),
    _Row("hostNamespaces", ((0, _host_namespaces),)),
    _Row("hostPathVolumes", ((0, _host_path_volumes),)),
    _Row("hostPorts", ((0, _host_ports),)),
    _Row("hostProbesAndHostLifecycle", ((34, _probe_hosts),)),
    _Row("privileged", ((0, _privileged),)),
    _Row("procMount", ((0, _proc_mount),)),
    _Row("seLinuxOptions", ((0, _se_linux(_SELINUX_TYPES)), (31, _se_linux(_SELINUX_TYPES | {"container_engine_t"})))),
    _Row("seccompProfile_baseline", ((0, _seccomp_annotations), (19, _seccomp_baseline))),
    _Row(
        "sysctls",
        ((0, _sysctls(_SYSCTLS_0)), (27, _sysctls(_SYSCTLS_27)), (29, _sysctls(_SYSCTLS_29)), (32, _sysctls(_SYSCTLS_32))),
    ),
    _Row("windowsHostProcess", ((0, _host_process),)),
    _Row("allowPrivilegeEscalation", ((8, _escalation), (25, _unless_windows(_escalation))), True),
    _Row(
        "capabilities_restricted",
        ((22, _capabilities_restricted), (25, _unless_windows(_capabilities_restricted))),
        True,
        "capabilities_baseline",
    ),
    _Row("restrictedVolumes", ((0, _volume_types),), True, "hostPathVolumes"),
    _Row("runAsNonRoot", ((0, _non_root),), True),
    _Row("runAsUser", ((23, _run_as_user),), True),
    _Row(
        "seccompProfile_restricted",
        ((19, _seccomp_restricted), (25, _unless_windows(_seccomp_restricted))),
        True,
        "seccompProfile_baseline",
    ),
)
