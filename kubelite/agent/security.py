"""What a container may do: the pod's and its own security context made one. Pure.

Source: pkg/securitycontext, pkg/kubelet/kuberuntime/security_context*.go, v1.34.
"""

from pathlib import PurePosixPath

from kubelite.agent.faults import ConfigFault
from kubelite.meta.types import Obj
from runtimes.interface import Image, NamespaceMode, SecurityContext, SecurityProfile

#: What of /proc and /sys no container sees: what tells of the machine's secrets. Its heat comes to them, by processor.
MASKED_PATHS = (
    "/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
    "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
)  # fmt: skip
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def of_container(
    pod: Obj,
    container: Obj,
    image: Image,
    seccomp_dir: str,
    target_id: str = "",
    masked_paths: tuple[str, ...] = MASKED_PATHS,
) -> SecurityContext:
    """A container's security settings. `target_id` is the container whose processes an ephemeral one is to see.

    Raises:
        ConfigFault: it must not run as root and would, or that can't be known.
    """
    pod_level = pod["spec"].get("securityContext") or {}
    own = container.get("securityContext") or {}
    user = own.get("runAsUser", pod_level.get("runAsUser"))
    if own.get("runAsNonRoot", pod_level.get("runAsNonRoot")):
        _verify_non_root(pod, container, user, image)
    capabilities = own.get("capabilities") or {}
    proc_mount = own.get("procMount") or "Default"
    privileged = bool(own.get("privileged"))
    return SecurityContext(
        privileged=privileged,
        run_as_user=user if user is not None else image.uid,
        run_as_username=image.username if user is None else "",
        run_as_group=own.get("runAsGroup", pod_level.get("runAsGroup")),
        supplemental_groups=_groups(pod_level),
        supplemental_groups_strict=pod_level.get("supplementalGroupsPolicy") == "Strict",
        add_capabilities=tuple(capabilities.get("add") or ()),
        drop_capabilities=tuple(capabilities.get("drop") or ()),
        readonly_rootfs=bool(own.get("readOnlyRootFilesystem")),
        no_new_privs=own.get("allowPrivilegeEscalation") is False,
        seccomp=_seccomp(own.get("seccompProfile") or pod_level.get("seccompProfile"), seccomp_dir, privileged),
        apparmor=_apparmor(own.get("appArmorProfile") or pod_level.get("appArmorProfile")),
        masked_paths=masked_paths if proc_mount == "Default" else (),
        readonly_paths=READONLY_PATHS if proc_mount == "Default" else (),
        selinux=own.get("seLinuxOptions") or pod_level.get("seLinuxOptions") or {},
        network=network_mode(pod),
        pid=NamespaceMode.TARGET if target_id and _pid_mode(pod) is NamespaceMode.CONTAINER else _pid_mode(pod),
        ipc=_ipc_mode(pod),
        pid_target=target_id,
    )


def of_sandbox(pod: Obj) -> SecurityContext:
    """What of it applies to the pod as a whole."""
    pod_level = pod["spec"].get("securityContext") or {}
    containers = [*(pod["spec"].get("initContainers") or ()), *pod["spec"]["containers"]]
    return SecurityContext(
        privileged=any((c.get("securityContext") or {}).get("privileged") for c in containers),
        run_as_user=pod_level.get("runAsUser"),
        run_as_group=pod_level.get("runAsGroup") if pod_level.get("runAsUser") is not None else None,
        supplemental_groups=_groups(pod_level),
        selinux=pod_level.get("seLinuxOptions") or {},
        network=network_mode(pod),
        pid=_pid_mode(pod),
        ipc=_ipc_mode(pod),
    )


def network_mode(pod: Obj) -> NamespaceMode:
    return NamespaceMode.NODE if pod["spec"].get("hostNetwork") else NamespaceMode.POD


def _pid_mode(pod: Obj) -> NamespaceMode:
    if pod["spec"].get("hostPID"):
        return NamespaceMode.NODE
    return NamespaceMode.POD if pod["spec"].get("shareProcessNamespace") else NamespaceMode.CONTAINER


def _ipc_mode(pod: Obj) -> NamespaceMode:
    return NamespaceMode.NODE if pod["spec"].get("hostIPC") else NamespaceMode.POD


def _groups(pod_level: Obj) -> tuple[int, ...]:
    groups = [] if pod_level.get("fsGroup") is None else [pod_level["fsGroup"]]
    return (*groups, *(pod_level.get("supplementalGroups") or ()))


def _seccomp(profile: Obj | None, seccomp_dir: str, privileged: bool) -> SecurityProfile:
    if profile is None or privileged:
        return SecurityProfile("Unconfined")
    if profile["type"] != "Localhost":
        return SecurityProfile(profile["type"])
    name = PurePosixPath(profile.get("localhostProfile") or "")
    if name.is_absolute() or ".." in name.parts or not name.parts:
        raise ConfigFault(f"localhostProfile must be a relative path below the node's seccomp directory, not {str(name)!r}")
    return SecurityProfile("Localhost", f"{seccomp_dir}/{name}")


def _apparmor(profile: Obj | None) -> SecurityProfile | None:
    if profile is None:
        return None
    return SecurityProfile(profile["type"], profile.get("localhostProfile") or "")


def _verify_non_root(pod: Obj, container: Obj, user: int | None, image: Image) -> None:
    meta = pod["metadata"]
    where = f'(pod: "{meta["name"]}_{meta["namespace"]}({meta["uid"]})", container: {container["name"]})'
    if user is not None:
        if user == 0:
            raise ConfigFault(f"container's runAsUser breaks non-root policy {where}")
        return
    if image.username:
        raise ConfigFault(
            f"container has runAsNonRoot and image has non-numeric user ({image.username}), "
            f"cannot verify user is non-root {where}"
        )
    if not image.uid:
        raise ConfigFault(f"container has runAsNonRoot and image will run as root {where}")
