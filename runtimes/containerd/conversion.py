"""Between the interface's dataclasses and the CRI's messages. Pure."""

from collections.abc import Mapping

from runtimes import interface as to
from runtimes.rpc import cri_pb2 as cri

_SANDBOX_STATES = {cri.SANDBOX_READY: to.SandboxState.READY, cri.SANDBOX_NOTREADY: to.SandboxState.NOT_READY}
_CONTAINER_STATES = {
    cri.CONTAINER_CREATED: to.ContainerState.CREATED,
    cri.CONTAINER_RUNNING: to.ContainerState.RUNNING,
    cri.CONTAINER_EXITED: to.ContainerState.EXITED,
    cri.CONTAINER_UNKNOWN: to.ContainerState.UNKNOWN,
}
_NAMESPACES = {
    to.NamespaceMode.POD: cri.POD,
    to.NamespaceMode.CONTAINER: cri.CONTAINER,
    to.NamespaceMode.NODE: cri.NODE,
    to.NamespaceMode.TARGET: cri.TARGET,
}
_PROPAGATIONS = {
    "private": cri.PROPAGATION_PRIVATE,
    "host_to_container": cri.PROPAGATION_HOST_TO_CONTAINER,
    "bidirectional": cri.PROPAGATION_BIDIRECTIONAL,
}
_PROFILES = {
    "RuntimeDefault": cri.SecurityProfile.RuntimeDefault,
    "Unconfined": cri.SecurityProfile.Unconfined,
    "Localhost": cri.SecurityProfile.Localhost,
}
_SIGNALS = frozenset(cri.Signal.keys())


def sandbox_config(config: to.SandboxConfig) -> cri.PodSandboxConfig:
    security = config.security
    message = cri.PodSandboxConfig(
        metadata=cri.PodSandboxMetadata(name=config.name, uid=config.uid, namespace=config.namespace, attempt=config.attempt),
        # runc refuses one where the host's is shared
        hostname="" if security.network == to.NamespaceMode.NODE else config.hostname,
        log_directory=config.log_directory,
        port_mappings=[
            cri.PortMapping(
                protocol=p.protocol.upper(), container_port=p.container_port, host_port=p.host_port, host_ip=p.host_ip
            )
            for p in config.port_mappings
        ],
        labels=config.labels,
        annotations=config.annotations,
        linux=cri.LinuxPodSandboxConfig(
            cgroup_parent=config.cgroup_parent,
            sysctls=config.sysctls,
            security_context=cri.LinuxSandboxSecurityContext(
                namespace_options=_namespaces(security),
                privileged=security.privileged,
                readonly_rootfs=security.readonly_rootfs,
                supplemental_groups=security.supplemental_groups,
                seccomp=_profile(security.seccomp),
                selinux_options=_selinux(security.selinux),
                run_as_user=_int64(security.run_as_user),
                run_as_group=_int64(security.run_as_group),
            ),
        ),
    )
    if config.dns is not None:
        message.dns_config.CopyFrom(
            cri.DNSConfig(servers=config.dns.servers, searches=config.dns.searches, options=config.dns.options)
        )
    return message


def container_config(config: to.ContainerConfig) -> cri.ContainerConfig:
    security = config.security
    signal = config.stop_signal.replace("+", "PLUS").replace("-", "MINUS")
    return cri.ContainerConfig(
        metadata=cri.ContainerMetadata(name=config.name, attempt=config.attempt),
        image=cri.ImageSpec(image=config.image, user_specified_image=config.user_specified_image),
        command=config.command,
        args=config.args,
        working_dir=config.working_dir,
        envs=[cri.KeyValue(key=key, value=value) for key, value in config.env],
        mounts=[
            cri.Mount(
                container_path=m.container_path,
                host_path=m.host_path,
                readonly=m.readonly,
                selinux_relabel=m.selinux_relabel,
                propagation=_PROPAGATIONS[m.propagation],
                recursive_read_only=m.recursive_readonly,
            )
            for m in config.mounts
        ],
        devices=[
            cri.Device(container_path=d.container_path, host_path=d.host_path, permissions=d.permissions) for d in config.devices
        ],
        labels=config.labels,
        annotations=config.annotations,
        log_path=config.log_path,
        stdin=config.stdin,
        stdin_once=config.stdin_once,
        tty=config.tty,
        stop_signal=signal if signal in _SIGNALS else "RUNTIME_DEFAULT",
        linux=cri.LinuxContainerConfig(
            resources=resources(config.resources),
            security_context=cri.LinuxContainerSecurityContext(
                capabilities=cri.Capability(
                    add_capabilities=security.add_capabilities, drop_capabilities=security.drop_capabilities
                ),
                privileged=security.privileged,
                namespace_options=_namespaces(security),
                selinux_options=_selinux(security.selinux),
                run_as_user=_int64(security.run_as_user),
                run_as_group=_int64(security.run_as_group),
                run_as_username=security.run_as_username,
                readonly_rootfs=security.readonly_rootfs,
                supplemental_groups=security.supplemental_groups,
                supplemental_groups_policy=cri.Strict if security.supplemental_groups_strict else cri.Merge,
                no_new_privs=security.no_new_privs,
                masked_paths=security.masked_paths,
                readonly_paths=security.readonly_paths,
                seccomp=_profile(security.seccomp),
                apparmor=_profile(security.apparmor),
            ),
        ),
    )


def resources(value: to.Resources) -> cri.LinuxContainerResources:
    return cri.LinuxContainerResources(
        cpu_period=value.cpu_period_us,
        cpu_quota=value.cpu_quota_us,
        cpu_shares=value.cpu_shares,
        memory_limit_in_bytes=value.memory_limit_bytes,
        memory_swap_limit_in_bytes=value.memory_swap_limit_bytes,
        oom_score_adj=value.oom_score_adj,
        hugepage_limits=[cri.HugepageLimit(page_size=size, limit=limit) for size, limit in value.hugepages.items()],
    )


def sandbox(item: cri.PodSandbox | cri.PodSandboxStatus) -> to.Sandbox:
    ips: tuple[str, ...] = ()
    if isinstance(item, cri.PodSandboxStatus) and item.network.ip:
        ips = (item.network.ip, *(extra.ip for extra in item.network.additional_ips))
    return to.Sandbox(
        id=item.id,
        name=item.metadata.name,
        namespace=item.metadata.namespace,
        uid=item.metadata.uid,
        attempt=item.metadata.attempt,
        state=_SANDBOX_STATES[item.state],
        created_at_ns=item.created_at,
        labels=dict(item.labels),
        annotations=dict(item.annotations),
        ips=ips,
        runtime_handler=item.runtime_handler,
    )


def container(item: cri.Container) -> to.Container:
    return to.Container(
        id=item.id,
        sandbox_id=item.pod_sandbox_id,
        name=item.metadata.name,
        attempt=item.metadata.attempt,
        image=item.image.image,
        image_ref=item.image_ref,
        state=_CONTAINER_STATES[item.state],
        created_at_ns=item.created_at,
        labels=dict(item.labels),
        annotations=dict(item.annotations),
    )


def container_status(item: cri.ContainerStatus, sandbox_id: str) -> to.Container:
    user: dict[str, object] = {}
    if item.user.HasField("linux"):
        linux = item.user.linux
        user = {"uid": linux.uid, "gid": linux.gid, "supplementalGroups": list(linux.supplemental_groups)}
    return to.Container(
        id=item.id,
        sandbox_id=sandbox_id,
        name=item.metadata.name,
        attempt=item.metadata.attempt,
        image=item.image.image,
        image_ref=item.image_ref,
        state=_CONTAINER_STATES[item.state],
        created_at_ns=item.created_at,
        labels=dict(item.labels),
        annotations=dict(item.annotations),
        started_at_ns=item.started_at,
        finished_at_ns=item.finished_at,
        exit_code=item.exit_code,
        reason=item.reason,
        message=item.message,
        log_path=item.log_path,
        user=user,
    )


def image(item: cri.Image) -> to.Image:
    return to.Image(
        id=item.id,
        tags=tuple(item.repo_tags),
        digests=tuple(item.repo_digests),
        size_bytes=item.size,
        uid=item.uid.value if item.HasField("uid") else None,
        username=item.username,
        pinned=item.pinned,
    )


def stats(item: cri.ContainerStats) -> to.ContainerStats:
    return to.ContainerStats(
        container_id=item.attributes.id,
        timestamp_ns=item.cpu.timestamp or item.memory.timestamp,
        cpu_usage_core_ns=item.cpu.usage_core_nano_seconds.value,
        memory_working_set_bytes=item.memory.working_set_bytes.value,
        memory_rss_bytes=item.memory.rss_bytes.value,
        memory_usage_bytes=item.memory.usage_bytes.value,
        filesystem_used_bytes=item.writable_layer.used_bytes.value,
    )


def auth(value: to.RegistryAuth) -> cri.AuthConfig:
    return cri.AuthConfig(
        username=value.username,
        password=value.password,
        auth=value.auth,
        identity_token=value.identity_token,
        registry_token=value.registry_token,
    )


def _namespaces(security: to.SecurityContext) -> cri.NamespaceOption:
    return cri.NamespaceOption(
        network=_NAMESPACES[security.network],
        pid=_NAMESPACES[security.pid],
        ipc=_NAMESPACES[security.ipc],
        target_id=security.pid_target,
    )


def _profile(profile: to.SecurityProfile | None) -> cri.SecurityProfile | None:
    if profile is None:
        return None
    return cri.SecurityProfile(profile_type=_PROFILES[profile.kind], localhost_ref=profile.reference)


def _selinux(options: Mapping[str, str]) -> cri.SELinuxOption | None:
    return cri.SELinuxOption(**{k: options.get(k, "") for k in ("user", "role", "type", "level")}) if options else None


def _int64(value: int | None) -> cri.Int64Value | None:
    return None if value is None else cri.Int64Value(value=value)
