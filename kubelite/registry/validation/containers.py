"""Checks of containers of every sort: init, regular, sidecar, ephemeral.

They see containers in their normal form, without the fields of features that are off.

Source: kubernetes pkg/apis/core/validation/validation.go, v1.34.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kubelite.meta import errors, names
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import environment, fields, handlers, resources, security

PROTOCOLS = ("SCTP", "TCP", "UDP")
PULL_POLICIES = ("Always", "IfNotPresent", "Never")
TERMINATION_MESSAGE_POLICIES = ("File", "FallbackToLogsOnError")

#: What an ephemeral container may not set.
_NOT_EPHEMERAL = ("ports", "resizePolicy", *handlers.PROBES, "lifecycle")
_INIT_ONLY_SIDECAR = "may not be set for init containers without restartPolicy=Always"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What of its pod a container's checks look at."""

    #: The pod's volumes by name, those without faults.
    volumes: Mapping[str, Obj]
    #: The names of the pod's resource claims.
    claims: Collection[str]
    grace_s: int | None
    restart_policy: str
    #: Whether the pod has no user namespace of its own.
    host_users: bool


def check_regular(containers: Sequence[Obj], pod: Surroundings, path: str) -> list[Cause]:
    """`spec.containers`: at least one, names unique, host ports without conflict."""
    if not containers:
        return [errors.required(path)]
    causes: list[Cause] = []
    seen: set[str] = set()
    for i, container in enumerate(containers):
        at = f"{path}[{i}]"
        causes += _check_common(container, pod, at)
        name = container.get("name", "")
        if name in seen:
            causes.append(errors.duplicate(f"{at}.name", name))
        seen.add(name)
        causes += handlers.check(container, pod.grace_s, at)
    return causes + _check_host_ports(containers, path)


def check_init(containers: Sequence[Obj], regular: Iterable[Obj], pod: Surroundings, path: str) -> list[Cause]:
    """`spec.initContainers`, sidecars (restartPolicy Always) among them."""
    causes: list[Cause] = []
    seen = {c.get("name", "") for c in regular}
    for i, container in enumerate(containers):
        at = f"{path}[{i}]"
        causes += _check_common(container, pod, at)
        name = container.get("name", "")
        if name in seen:
            causes.append(errors.duplicate(f"{at}.name", name))
        elif name:
            seen.add(name)
        causes += _check_host_ports([container], path)
        if container.get("restartPolicy") == "Always":
            causes += handlers.check(container, pod.grace_s, at)
        else:
            set_anyway = [name for name in ("lifecycle", *handlers.PROBES) if name in container]
            causes += [errors.forbidden(f"{at}.{name}", _INIT_ONLY_SIDECAR) for name in set_anyway]
    return causes


def check_ephemeral(containers: Sequence[Obj], others: Sequence[Obj], pod: Surroundings, path: str) -> list[Cause]:
    """`spec.ephemeralContainers`; `others` are the pod's init and regular containers."""
    text = "cannot be set for an Ephemeral Container"
    causes: list[Cause] = []
    targets = {c.get("name", "") for c in others}
    seen = set(targets)
    for i, container in enumerate(containers):
        at = f"{path}[{i}]"
        causes += _check_common(container, pod, at)
        causes += check_image_space(container, at)
        name = container.get("name", "")
        if name in seen:
            causes.append(errors.duplicate(f"{at}.name", name))
        seen.add(name)
        target = container.get("targetContainerName")
        if target and target not in targets:
            causes.append(errors.not_found(f"{at}.targetContainerName", target))
        set_anyway = [name for name in _NOT_EPHEMERAL if name in container]
        set_anyway += ["resources"] if container.get("resources") else []  # it is always there
        causes += [errors.forbidden(f"{at}.{name}", text) for name in set_anyway]
        for j, mount in enumerate(container.get("volumeMounts") or ()):
            set_anyway = [name for name in ("subPath", "subPathExpr") if mount.get(name)]
            causes += [errors.forbidden(f"{at}.volumeMounts[{j}].{name}", text) for name in set_anyway]
    return causes


def check_image_space(container: Mapping[str, Any], at: str) -> list[Cause]:
    """An image's name without blanks around it: of pods, not of templates."""
    image = container.get("image", "")
    if image == image.strip():
        return []
    return [errors.invalid(f"{at}.image", image, "must not have leading or trailing whitespace")]


def _check_common(container: Obj, pod: Surroundings, at: str) -> list[Cause]:
    causes = fields.named(container.get("name", ""), f"{at}.name")
    if not container.get("image"):
        causes.append(errors.required(f"{at}.image"))
    policy = container.get("terminationMessagePolicy")
    causes += fields.one_of(policy, f"{at}.terminationMessagePolicy", TERMINATION_MESSAGE_POLICIES)
    causes += fields.one_of(container.get("imagePullPolicy"), f"{at}.imagePullPolicy", PULL_POLICIES)
    if "ports" in container:
        causes += _check_ports(container["ports"], f"{at}.ports")
    if "env" in container:
        causes += environment.check_variables(container["env"], f"{at}.env")
    if "envFrom" in container:
        causes += environment.check_sources(container["envFrom"], f"{at}.envFrom")
    if "volumeMounts" in container:
        causes += _check_mounts(container, pod.volumes, f"{at}.volumeMounts")
    if "volumeDevices" in container:
        causes += _check_devices(container, pod.volumes, f"{at}.volumeDevices")
    if container.get("resources"):
        causes += resources.check_requirements(container["resources"], pod.claims, f"{at}.resources")
    if "resizePolicy" in container:
        causes += _check_resize_policy(container["resizePolicy"], pod.restart_policy, f"{at}.resizePolicy")
    if "securityContext" in container:
        causes += security.check_container(container["securityContext"], f"{at}.securityContext", pod.host_users)
    return causes


def _check_resize_policy(policies: Sequence[Obj], restart_policy: str, path: str) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[str] = set()
    for i, policy in enumerate(policies):
        resource, restart = policy.get("resourceName", ""), policy.get("restartPolicy", "")
        if resource in seen:
            causes.append(errors.duplicate(f"{path}[{i}]", resource))
        seen.add(resource)
        causes += fields.one_of(resource, path, ("cpu", "memory"))
        causes += fields.one_of(restart, path, ("NotRequired", "RestartContainer"))
        if restart_policy == "Never" and restart != "NotRequired":
            text = "must be 'NotRequired' when `restartPolicy` is 'Never'"
            causes.append(errors.invalid(path, restart, text))
    return causes


def _check_ports(ports: Iterable[Obj], path: str) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[str] = set()
    for i, port in enumerate(ports):
        at = f"{path}[{i}]"
        name = port.get("name", "")
        if name:
            faults = names.port_name(name)
            causes += fields.invalid_if(faults, f"{at}.name", name)
            if not faults and name in seen:
                causes.append(errors.duplicate(f"{at}.name", name))
            seen.add(name)
        number = port.get("containerPort", 0)
        if number == 0:
            causes.append(errors.required(f"{at}.containerPort"))
        else:
            causes += fields.invalid_if(names.port_number(number), f"{at}.containerPort", number)
        host_port = port.get("hostPort", 0)
        if host_port:
            causes += fields.invalid_if(names.port_number(host_port), f"{at}.hostPort", host_port)
        causes += fields.one_of(port.get("protocol"), f"{at}.protocol", PROTOCOLS)
    return causes


def _check_host_ports(containers: Iterable[Obj], path: str) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[str] = set()
    for i, container in enumerate(containers):
        for j, port in enumerate(container.get("ports") or ()):
            number = port.get("hostPort", 0)
            if not number:
                continue
            wanted = f"{port.get('protocol', '')}/{port.get('hostIP', '')}/{number}"
            if wanted in seen:
                causes.append(errors.duplicate(f"{path}[{i}].ports[{j}].hostPort", wanted))
            seen.add(wanted)
    return causes


def _check_mounts(container: Obj, volumes: Mapping[str, Obj], path: str) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[str] = set()
    devices = {device.get("name", ""): device.get("devicePath", "") for device in container.get("volumeDevices") or ()}
    for i, mount in enumerate(container["volumeMounts"]):
        at = f"{path}[{i}]"
        name, target = mount.get("name", ""), mount.get("mountPath", "")
        if not name:
            causes.append(errors.required(f"{at}.name"))
        if name not in volumes:
            causes.append(errors.not_found(f"{at}.name", name))
        if not target:
            causes.append(errors.required(f"{at}.mountPath"))
        if target in seen:
            causes.append(errors.invalid(f"{at}.mountPath", target, "must be unique"))
        seen.add(target)
        if name in devices:
            causes.append(errors.invalid(f"{at}.name", name, "must not already exist in volumeDevices"))
        if target in devices.values():
            causes.append(errors.invalid(f"{at}.mountPath", target, "must not already exist as a path in volumeDevices"))
        sub_path, expression = mount.get("subPath"), mount.get("subPathExpr")
        if sub_path:
            causes += fields.descending_path(sub_path, f"{path}.subPath")
        if expression:
            if sub_path:
                text = "subPathExpr and subPath are mutually exclusive"
                causes.append(errors.invalid(f"{at}.subPathExpr", expression, text))
            causes += fields.descending_path(expression, f"{path}.subPathExpr")
        if "mountPropagation" in mount:
            causes += _check_propagation(mount["mountPropagation"], container, f"{path}.mountPropagation")
        if "recursiveReadOnly" in mount:
            causes += _check_recursive(mount, f"{path}.recursiveReadOnly")
    return causes


def _check_propagation(propagation: str, container: Obj, path: str) -> list[Cause]:
    allowed = ("Bidirectional", "HostToContainer", "None")
    if propagation not in allowed:
        return [errors.not_supported(path, propagation, allowed)]
    if propagation != "Bidirectional" or (container.get("securityContext") or {}).get("privileged"):
        return []
    return [errors.forbidden(path, "Bidirectional mount propagation is available only to privileged containers")]


def _check_recursive(mount: Obj, path: str) -> list[Cause]:
    """Whether a mount is read-only with all that is mounted below."""
    causes: list[Cause] = []
    mode = mount["recursiveReadOnly"]
    if mode in ("Enabled", "IfPossible"):
        if not mount.get("readOnly"):
            causes.append(errors.forbidden(path, "may only be specified when readOnly is true"))
        if mount.get("mountPropagation", "None") != "None":
            causes.append(errors.forbidden(path, "may only be specified when mountPropagation is None or not specified"))
    elif mode != "Disabled":
        causes.append(errors.not_supported(path, mode, ("Disabled", "Enabled", "IfPossible")))
    return causes


def _check_devices(container: Obj, volumes: Mapping[str, Obj], path: str) -> list[Cause]:
    causes: list[Cause] = []
    mounts = {mount.get("name", ""): mount.get("mountPath", "") for mount in container.get("volumeMounts") or ()}
    seen: set[str] = set()
    paths: set[str] = set()
    for i, device in enumerate(container["volumeDevices"]):
        at = f"{path}[{i}]"
        name, target = device.get("name", ""), device.get("devicePath", "")
        source = volumes.get(name)
        if not name:
            causes.append(errors.required(f"{at}.name"))
        elif name in seen:
            causes.append(errors.invalid(f"{at}.name", name, "must be unique"))
        seen.add(name)
        if source is None:
            causes.append(errors.not_found(f"{at}.name", name))
        elif not source.keys() & {"persistentVolumeClaim", "ephemeral"}:
            text = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"
            causes.append(errors.invalid(f"{at}.name", name, text))
        if not target:
            causes.append(errors.required(f"{at}.devicePath"))
        if target in paths:
            causes.append(errors.invalid(f"{at}.devicePath", target, "must be unique"))
        if ".." in target.split("/"):
            causes.append(errors.invalid(f"{at}.devicePath", target, "can not contain backsteps ('..')"))
        else:
            paths.add(target)
        if name in mounts:
            causes.append(errors.invalid(f"{at}.name", name, "must not already exist in volumeMounts"))
        if target in mounts.values():
            causes.append(errors.invalid(f"{at}.devicePath", target, "must not already exist as a path in volumeMounts"))
    return causes
