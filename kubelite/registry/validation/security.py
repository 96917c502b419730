"""Checks of the security contexts of pods and containers: users, seccomp, AppArmor, sysctls, Windows' options, and what a pod
that says its operating system may not set.

Source: kubernetes pkg/apis/core/validation/validation.go, v1.34.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kubelite.meta import errors, names
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import fields

PROFILE_TYPES = ("Localhost", "RuntimeDefault", "Unconfined")
MAX_PROFILE_BYTES = 4095
MAX_CREDENTIAL_SPEC_BYTES = 64 * 1024
MAX_DOMAIN, MAX_USER = 256, 104

_SYSCTL_SEGMENT = "[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_SYSCTL = re.compile(rf"({_SYSCTL_SEGMENT}[\./])*{_SYSCTL_SEGMENT}")
#: Sysctls of the IPC namespace; those of the network's start with `net.`.
_IPC_SYSCTLS = frozenset(
    f"kernel.{name}"
    for name in ("sem", "shm", "shmall", "shmmax", "shmmni", "shm_rmid_forced", "msg", "msgmax", "msgmnb", "msgmni")
)
_DNS_LABEL = "[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_DOMAIN = re.compile(rf'[^\\/:*?"<>|.][^\\/:*?"<>|]{{0,14}}|{_DNS_LABEL}(?:\.{_DNS_LABEL})*')
_BAD_IN_USER = re.compile(r'["/\\:;|=,+*?<>@\[\]]')


def check_pod(security: Obj, spec: Obj, path: str) -> list[Cause]:
    """`spec.securityContext`."""
    causes: list[Cause] = []
    for name in ("fsGroup", "runAsUser", "runAsGroup"):
        causes += fields.user_or_group_id(security.get(name), f"{path}.{name}")
    for i, group in enumerate(security.get("supplementalGroups") or ()):
        causes += fields.user_or_group_id(group, f"{path}.supplementalGroups[{i}]")
    if "sysctls" in security:
        causes += _check_sysctls(security["sysctls"], spec, f"{path}.sysctls")
    for name, allowed in _POD_ENUMS:
        if name in security and security[name] not in allowed:
            causes.append(errors.not_supported(f"{path}.{name}", security[name], allowed))
    return causes + _check_profiles(security, path)


_POD_ENUMS = (
    ("fsGroupChangePolicy", ("Always", "OnRootMismatch")),
    ("supplementalGroupsPolicy", ("Merge", "Strict")),
    ("seLinuxChangePolicy", ("Recursive",)),  # MountOption is a feature that is off
)


def check_container(security: Obj, path: str, host_users: bool) -> list[Cause]:
    """A container's `securityContext`; `host_users`: the pod has no user namespace of its own."""
    causes = fields.user_or_group_id(security.get("runAsUser"), f"{path}.runAsUser")
    causes += fields.user_or_group_id(security.get("runAsGroup"), f"{path}.runAsGroup")
    mount = security.get("procMount")
    if mount is not None:
        if mount not in ("Default", "Unmasked"):
            causes.append(errors.not_supported(f"{path}.procMount", mount, ("Default", "Unmasked")))
        elif mount == "Unmasked" and host_users:
            causes.append(errors.invalid(f"{path}.procMount", mount, "`hostUsers` must be false to use `Unmasked`"))
    if security.get("allowPrivilegeEscalation") is False:
        if security.get("privileged"):
            text = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
            causes.append(errors.invalid(path, security, text))
        if "CAP_SYS_ADMIN" in ((security.get("capabilities") or {}).get("add") or ()):
            text = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
            causes.append(errors.invalid(path, security, text))
    return causes + _check_profiles(security, path)


def _check_sysctls(sysctls: Iterable[Obj], spec: Obj, path: str) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[str] = set()
    for i, sysctl in enumerate(sysctls):
        at, name = f"{path}[{i}].name", sysctl.get("name", "")
        if not name:
            causes.append(errors.required(at))
        elif len(name) > names.SUBDOMAIN_MAX or not _SYSCTL.fullmatch(name):
            text = f"must have at most 253 characters and match regex ^({_SYSCTL_SEGMENT}[\\./])*{_SYSCTL_SEGMENT}$"
            causes.append(errors.invalid(at, name, text))
        elif name in seen:
            causes.append(errors.duplicate(at, name))
        seen.add(name)
        dotted = name if "." in name.partition("/")[0] else name.translate(_SWAPPED)
        if spec.get("hostNetwork") and dotted.startswith("net."):
            causes.append(errors.invalid(at, name, "may not be specified when 'hostNetwork' is true"))
        elif spec.get("hostIPC") and (dotted in _IPC_SYSCTLS or dotted.startswith("fs.mqueue.")):
            causes.append(errors.invalid(at, name, "may not be specified when 'hostIPC' is true"))
    return causes


#: A name that is separated by slashes has its dots within.
_SWAPPED = str.maketrans("./", "/.")


def _check_profiles(security: Obj, path: str) -> list[Cause]:
    causes: list[Cause] = []
    if "seccompProfile" in security:
        causes += _check_seccomp(security["seccompProfile"], f"{path}.seccompProfile")
    if "appArmorProfile" in security:
        causes += check_apparmor(security["appArmorProfile"], f"{path}.appArmorProfile")
    if "windowsOptions" in security:
        causes += _check_windows_options(security["windowsOptions"], f"{path}.windowsOptions")
    return causes


def _check_seccomp(profile: Obj, path: str) -> list[Cause]:
    """A known type, and a local file exactly where the type is Localhost."""
    kind, local = profile.get("type"), profile.get("localhostProfile")
    causes: list[Cause] = []
    if not kind:
        causes.append(errors.required(f"{path}.type", "type is required when seccompProfile is set"))
    elif kind not in PROFILE_TYPES:
        causes.append(errors.not_supported(f"{path}.type", kind, PROFILE_TYPES))
    at = f"{path}.localhostProfile"
    if kind != "Localhost":
        if local is not None:
            causes.append(errors.invalid(at, profile, "can only be set when seccomp type is Localhost"))
    elif local is None:
        causes.append(errors.required(at, "must be set when seccomp type is Localhost"))
    else:
        causes += fields.descending_path(local, at)
    return causes


def check_apparmor(profile: Obj, path: str) -> list[Cause]:
    """A known type, and a loaded profile exactly where the type is Localhost."""
    kind, local, at = profile.get("type"), profile.get("localhostProfile"), f"{path}.localhostProfile"
    if not kind:
        return [errors.required(f"{path}.type", "type is required when appArmorProfile is set")]
    if kind not in PROFILE_TYPES:
        return [errors.not_supported(f"{path}.type", kind, PROFILE_TYPES)]
    if kind != "Localhost":
        return [] if local is None else [errors.invalid(at, local, "can only be set when AppArmor type is Localhost")]
    if local is None:
        return [errors.required(at, "must be set when AppArmor type is Localhost")]
    causes: list[Cause] = []
    if local != local.strip():
        causes.append(errors.invalid(at, local, "must not be padded with whitespace"))
    elif not local:
        causes.append(errors.required(at, "must be set when AppArmor type is Localhost"))
    if len(local.encode()) > MAX_PROFILE_BYTES:
        causes.append(errors.too_long(at, MAX_PROFILE_BYTES))
    return causes


def _check_windows_options(options: Obj, path: str) -> list[Cause]:
    causes: list[Cause] = []
    name, text, user = (options.get(field) for field in ("gmsaCredentialSpecName", "gmsaCredentialSpec", "runAsUserName"))
    if name is not None:
        causes += fields.invalid_if(names.dns1123_subdomain(name), f"{path}.gmsaCredentialSpecName", name)
    if text is not None and not 0 < len(text) <= MAX_CREDENTIAL_SPEC_BYTES:
        fault = "size must be under 64 KiB" if text else "cannot be an empty string"
        causes.append(errors.invalid(f"{path}.gmsaCredentialSpec", text, f"gmsaCredentialSpec {fault}"))
    if user is not None:
        at = f"{path}.runAsUserName"
        causes += [errors.invalid(at, user, f"runAsUserName{fault}") for fault in _user_faults(user)]
    return causes


def _user_faults(name: str) -> list[str]:
    r"""What is wrong with a Windows user, `DOMAIN\user`."""
    if not name:
        return [" cannot be an empty string"]
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in name):
        return [" cannot contain control characters"]
    if name.count("\\") > 1:
        return [" cannot contain more than one backslash"]
    domain, backslash, user = name.rpartition("\\")
    faults: list[str] = []
    if len(domain) >= MAX_DOMAIN:
        faults.append(f"'s Domain length must be under {MAX_DOMAIN} characters")
    if backslash and not _DOMAIN.fullmatch(domain):
        faults.append("'s Domain doesn't match the NetBios nor the DNS format")
    if not user:
        faults.append("'s User cannot be empty")
    elif len(user) > MAX_USER:
        faults.append(f"'s User length must not be longer than {MAX_USER} characters")
    if user and not user.strip(". "):
        faults.append("'s User cannot contain only periods or spaces")
    if _BAD_IN_USER.search(user):
        faults.append(r"""'s User cannot contain the following characters: "/\:;|=,+*?<>@[]""")
    return faults


#: (field, whether it is one of the security context) that only pods for Linux may set.
_LINUX_ONLY = (
    *((name, True) for name in ("appArmorProfile", "seLinuxOptions")),
    *((name, False) for name in ("hostUsers", "hostPID", "hostIPC")),
    *((name, True) for name in ("seccompProfile", "fsGroup", "fsGroupChangePolicy", "sysctls")),
    ("shareProcessNamespace", False),
    *((name, True) for name in ("runAsUser", "runAsGroup", "supplementalGroups", "supplementalGroupsPolicy")),
    ("seLinuxChangePolicy", True),
)
_LINUX_ONLY_OF_CONTAINERS = (
    *("appArmorProfile", "seLinuxOptions", "seccompProfile", "capabilities", "readOnlyRootFilesystem", "privileged"),
    *("allowPrivilegeEscalation", "procMount", "runAsUser", "runAsGroup"),
)


def check_system(system: str, spec: Obj, contexts: Sequence[tuple[str, Obj]], path: str) -> list[Cause]:
    """What a pod for another system sets that this one (`spec.os.name`) doesn't have. `contexts` are its containers' security
    contexts with their paths."""
    own = spec.get("securityContext") or {}
    if system == "linux":
        found = [at for at, context in ((f"{path}.securityContext", own), *contexts) if "windowsOptions" in context]
        return [errors.forbidden(f"{at}.windowsOptions", "windows options cannot be set for a linux pod") for at in found]
    text = "cannot be set for a windows pod"
    causes = [
        errors.forbidden(f"{path}.securityContext.{name}" if inside else f"{path}.{name}", text)
        for name, inside in _LINUX_ONLY
        if (own if inside else spec).get(name) not in (None, [])
    ]
    for at, context in contexts:
        causes += [errors.forbidden(f"{at}.{name}", text) for name in _LINUX_ONLY_OF_CONTAINERS if name in context]
    return causes


def check_host_processes(spec: Mapping[str, Any], contexts: Sequence[tuple[str, Obj]], path: str) -> list[Cause]:
    """Windows: all containers run as processes of the host, or none. `contexts` has an entry for every container."""
    whole = ((spec.get("securityContext") or {}).get("windowsOptions") or {}).get("hostProcess")
    causes: list[Cause] = []
    on_host = 0
    for at, context in contexts:
        own = (context.get("windowsOptions") or {}).get("hostProcess")
        if whole is not None and own is not None and whole != own:
            text = f"pod hostProcess value must be identical if both are specified, was {str(whole).lower()}"
            causes.append(errors.invalid(f"{at}.windowsOptions.hostProcess", own, text))
        on_host += bool(whole if own is None else own)
    if on_host and on_host != len(contexts):
        text = "If pod contains any hostProcess containers then all containers must be HostProcess containers"
        causes.append(errors.invalid(path, "", text))
    if on_host and not spec.get("hostNetwork"):
        text = "hostNetwork must be true if pod contains any hostProcess containers"
        causes.append(errors.invalid(f"{path}.hostNetwork", False, text))
    return causes
