"""From a pod's spec to what the runtime is asked for: the configurations of its sandbox and its containers.

Source: pkg/kubelet/kuberuntime (generatePodSandboxConfig, generateContainerConfig), pkg/kubelet/kubelet_pods.go, v1.34.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import orjson

from kubelite.agent import environment, hosts, resources, security, sysctls
from kubelite.agent import observation as keys
from kubelite.agent.context import Context
from kubelite.agent.environment import Facts
from kubelite.agent.faults import ConfigFault
from kubelite.agent.podstate import Start, all_containers
from kubelite.agent.volumes import subpaths
from kubelite.agent.volumes.volumes import Prepared
from kubelite.meta.types import Obj
from runtimes.interface import ContainerConfig, Handler, Image, Mount, PortMapping, SandboxConfig

_PROPAGATION = {"None": "private", "HostToContainer": "host_to_container", "Bidirectional": "bidirectional"}
HOSTS_PATH = "/etc/hosts"


def sandbox_config(context: Context, pod: Obj, attempt: int) -> SandboxConfig:
    """What the pod's sandbox is made from. Reads the host's resolver: call it in a thread. Raises ConfigFault."""
    meta, spec = pod["metadata"], pod["spec"]
    if spec.get("hostUsers") is False:
        # Running it as the host's users instead would take away what the pod relies on.
        raise ConfigFault("user namespaces are not supported by this node: hostUsers must not be false")
    if spec.get("resourceClaims"):
        raise ConfigFault("dynamic resources are not supported by this node")
    hostname = "" if spec.get("hostNetwork") else hosts.kernel_hostname(pod, context.dns.domain)
    mappings = tuple(
        PortMapping(p.get("protocol", "TCP"), p["containerPort"], p["hostPort"], p.get("hostIP", ""))
        for c, role in all_containers(pod)
        for p in c.get("ports") or ()
        if role in ("sidecar", "regular") and p.get("hostPort") and not spec.get("hostNetwork")
    )
    return SandboxConfig(
        name=meta["name"],
        namespace=meta["namespace"],
        uid=meta["uid"],
        attempt=attempt,
        hostname=hostname,
        log_directory=str(context.log_dir(pod)),
        dns=None if context.options.simulated else hosts.dns_of(pod, context.dns),
        port_mappings=mappings,
        labels={**(meta.get("labels") or {}), **_identity(context, pod)},
        annotations=meta.get("annotations") or {},
        cgroup_parent=context.cgroups.parent_of(pod),
        sysctls=sysctls.of_pod(spec),
        security=security.of_sandbox(pod),
        runtime_handler=_handler(context, pod),
    )


def _identity(context: Context, pod: Obj) -> dict[str, str]:
    meta = pod["metadata"]
    return {
        keys.POD_NAME_LABEL: meta["name"],
        keys.POD_NAMESPACE_LABEL: meta["namespace"],
        keys.POD_UID_LABEL: meta["uid"],
        keys.NODE_LABEL: context.options.node_name,
    }


def handler_of(context: Context, pod: Obj) -> Handler:
    """The pod's runtime handler and what it can do; the default one where its class is not known."""
    found = context.objects.get("runtimeclasses.node.k8s.io", pod["spec"].get("runtimeClassName") or "")
    name = str(found["handler"]) if found is not None else ""
    return Handler(name) if context.runtime_info is None else context.runtime_info.handler(name)


def _handler(context: Context, pod: Obj) -> str:
    name = pod["spec"].get("runtimeClassName")
    if name and context.objects.get("runtimeclasses.node.k8s.io", name) is None:
        raise ConfigFault(f'RuntimeClass "{name}" not found')
    return handler_of(context, pod).name


def container_config(
    context: Context,
    pod: Obj,
    container: Obj,
    start: Start,
    image: Image,
    volumes: Mapping[str, Prepared],
    pod_ips: Sequence[str],
    target_id: str = "",
) -> ContainerConfig:
    """What a container is made from; makes the files that it mounts. Blocks on file work: call it in a thread.

    Raises:
        ConfigFault: its configuration names what is not there or may not be.
    """
    if container.get("volumeDevices"):
        raise ConfigFault("block devices as volumes are not supported by this node")
    facts = Facts(pod_ips, context.host_ips, context.allocatable)
    variables = environment.of_container(pod, container, context.objects, facts)
    lookup = variables.get
    seccomp_dir = f"{context.options.data_dir}/seccomp"
    settings = security.of_container(pod, container, image, seccomp_dir, target_id, context.masked_paths)
    return ContainerConfig(
        name=container["name"],
        attempt=start.restarts,
        image=image.id,
        command=tuple(environment.expand(part, lookup) for part in container.get("command") or ()),
        args=tuple(environment.expand(part, lookup) for part in container.get("args") or ()),
        working_dir=container.get("workingDir", ""),
        env=tuple(variables.items()),
        mounts=tuple(_mounts(context, pod, container, start, volumes, variables, pod_ips)),
        labels={**_identity(context, pod), keys.CONTAINER_NAME_LABEL: container["name"]},
        annotations=_annotations(pod, container, start),
        log_path=f"{container['name']}/{start.restarts}.log",
        stdin=bool(container.get("stdin")),
        stdin_once=bool(container.get("stdinOnce")),
        tty=bool(container.get("tty")),
        resources=resources.of_container(pod, container, context.memory_bytes),
        security=settings,
        stop_signal=(container.get("lifecycle") or {}).get("stopSignal", ""),
        user_specified_image=container.get("image", ""),
    )


def _annotations(pod: Obj, container: Obj, start: Start) -> dict[str, str]:
    found = {
        keys.HASH_ANNOTATION: keys.hash_of(container),
        keys.RESTARTS_ANNOTATION: str(start.restarts),
        keys.MESSAGE_PATH_ANNOTATION: container.get("terminationMessagePath") or "/dev/termination-log",
        keys.MESSAGE_POLICY_ANNOTATION: container.get("terminationMessagePolicy") or "File",
        keys.BACKOFF_ANNOTATION: f"{start.backoff.delay_s:g}",
        keys.RESOURCES_ANNOTATION: orjson.dumps(container.get("resources") or {}).decode(),
    }
    grace_s = pod["spec"].get("terminationGracePeriodSeconds")
    if grace_s is not None:
        found[keys.GRACE_ANNOTATION] = str(grace_s)
    if hook := (container.get("lifecycle") or {}).get("preStop"):
        found[keys.PRE_STOP_ANNOTATION] = orjson.dumps(hook).decode()
    return found


def _mounts(
    context: Context,
    pod: Obj,
    container: Obj,
    start: Start,
    volumes: Mapping[str, Prepared],
    variables: Mapping[str, str],
    pod_ips: Sequence[str],
) -> list[Mount]:
    found = []
    for index, mount in enumerate(container.get("volumeMounts") or ()):
        volume = volumes.get(mount["name"])
        if volume is None:
            raise ConfigFault(f'cannot find volume "{mount["name"]}" to mount into container "{container["name"]}"')
        found.append(
            Mount(
                container_path=_absolute(mount["mountPath"]),
                host_path=str(_mount_source(context, pod, container, index, mount, volume, variables)),
                readonly=bool(mount.get("readOnly")) or volume.readonly,
                recursive_readonly=_recursive(mount, handler_of(context, pod).recursive_readonly),
                propagation=_PROPAGATION[mount.get("mountPropagation") or "None"],
            )
        )
    if not context.options.simulated:
        if all(m.container_path != HOSTS_PATH for m in found) and (pod_ips or pod["spec"].get("hostNetwork")):
            found.append(Mount(HOSTS_PATH, str(_hosts_file(context, pod, pod_ips))))
        found.append(_message_mount(context, pod, container, start))
    return found


def _recursive(mount: Obj, supported: bool) -> bool:
    """Whether mounts below the volume become read-only too."""
    mode = mount.get("recursiveReadOnly") or "Disabled"
    if mode == "Enabled" and not supported:
        why = f'volume "{mount["name"]}" requested recursive read-only mode, but it is not supported by the runtime'
        raise ConfigFault(f"failed to resolve recursive read-only mode: {why}")
    return supported and mode != "Disabled"


def _mount_source(
    context: Context, pod: Obj, container: Obj, index: int, mount: Obj, volume: Prepared, variables: Mapping[str, str]
) -> Path:
    sub_path = mount.get("subPath") or ""
    if expression := mount.get("subPathExpr"):
        missing: set[str] = set()

        def lookup(name: str) -> str | None:
            if not variables.get(name):
                missing.add(name)
            return variables.get(name)

        sub_path = environment.expand(expression, lookup)
        if missing:
            raise ConfigFault(f"missing value for {', '.join(sorted(missing))}")
    if not sub_path:
        return volume.path
    subpaths.check(sub_path)
    target = context.volumes.pod_dir(pod["metadata"]["uid"]) / "volume-subpaths" / mount["name"] / container["name"] / str(index)
    try:
        return subpaths.prepare(volume.path, sub_path, target)
    except OSError as e:
        # The error's own text may tell of the host's files.
        raise ConfigFault(
            f'failed to prepare subPath for volumeMount "{mount["name"]}" of container "{container["name"]}"'
        ) from e


def _hosts_file(context: Context, pod: Obj, pod_ips: Sequence[str]) -> Path:
    path = context.volumes.pod_dir(pod["metadata"]["uid"]) / "etc-hosts"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    path.write_text(hosts.hosts_file(pod, pod_ips, context.dns.domain))
    path.chmod(0o644)
    return path


def _message_mount(context: Context, pod: Obj, container: Obj, start: Start) -> Mount:
    path = context.message_path(pod["metadata"]["uid"], container["name"], start.restarts)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    path.unlink(missing_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    path.chmod(0o666)
    return Mount(container.get("terminationMessagePath") or "/dev/termination-log", str(path))


def _absolute(path: str) -> str:
    return path if path.startswith("/") else f"/{path}"
