"""Checks of containers of every sort: init, regular, sidecar, ephemeral.

Source: kubernetes pkg/apis/core/validation/validation.go, v1.34.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kubelite.meta import errors, names, quantities
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import fields
from kubelite.registry.validation import resources as resources_of

PROTOCOLS = ("SCTP", "TCP", "UDP")
PULL_POLICIES = ("Always", "IfNotPresent", "Never")
TERMINATION_MESSAGE_POLICIES = ("File", "FallbackToLogsOnError")

ENV_FIELDS = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
RESOURCE_FIELDS = (
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
)
_HUGE_PAGE_FIELDS = ("requests.hugepages-", "limits.hugepages-")
_DIVISORS = ("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei")
_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc", "sleep")

#: What an ephemeral container may set.
_EPHEMERAL_FIELDS = frozenset(
    (
        "name",
        "image",
        "command",
        "args",
        "workingDir",
        "envFrom",
        "env",
        "volumeMounts",
        "volumeDevices",
        "terminationMessagePath",
        "terminationMessagePolicy",
        "imagePullPolicy",
        "securityContext",
        "stdin",
        "stdinOnce",
        "tty",
        "targetContainerName",
        "resizePolicy",
        "resources",
    )
)
_INIT_ONLY_SIDECAR = "may not be set for init containers without restartPolicy=Always"


def check_regular(containers: Sequence[Obj], volumes: Mapping[str, Obj], grace_s: int | None, path: str) -> list[Cause]:
    """`spec.containers`: at least one, names unique, host ports without conflict."""
    if not containers:
        return [errors.required(path)]
    causes: list[Cause] = []
    seen: set[str] = set()
    for i, container in enumerate(containers):
        at = f"{path}[{i}]"
        causes += _check_common(container, volumes, at)
        name = container.get("name", "")
        if name in seen:
            causes.append(errors.duplicate(f"{at}.name", name))
        seen.add(name)
        causes += _check_lifecycle_and_probes(container, grace_s, at)
        if "restartPolicy" in container:
            causes.append(errors.forbidden(f"{at}.restartPolicy", "may not be set for non-init containers"))
    return causes + _check_host_ports(containers, path)


def check_init(
    containers: Sequence[Obj], regular: Iterable[Obj], volumes: Mapping[str, Obj], grace_s: int | None, path: str
) -> list[Cause]:
    """`spec.initContainers`, sidecars (restartPolicy Always) among them."""
    causes: list[Cause] = []
    seen = {c.get("name", "") for c in regular}
    for i, container in enumerate(containers):
        at = f"{path}[{i}]"
        causes += _check_common(container, volumes, at)
        policy = container.get("restartPolicy")
        if policy not in (None, "Always"):
            causes.append(errors.not_supported(f"{at}.restartPolicy", policy, ("Always",)))
        name = container.get("name", "")
        if name in seen:
            causes.append(errors.duplicate(f"{at}.name", name))
        elif name:
            seen.add(name)
        causes += _check_host_ports([container], path)
        if policy == "Always":
            causes += _check_lifecycle_and_probes(container, grace_s, at)
        else:
            for name in ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe"):
                if name in container:
                    causes.append(errors.forbidden(f"{at}.{name}", _INIT_ONLY_SIDECAR))
    return causes


def check_ephemeral(containers: Sequence[Obj], others: Sequence[Obj], volumes: Mapping[str, Obj], path: str) -> list[Cause]:
    """`spec.ephemeralContainers`; `others` are the pod's init and regular containers."""
    causes: list[Cause] = []
    targets = {c.get("name", "") for c in others}
    seen = set(targets)
    for i, container in enumerate(containers):
        at = f"{path}[{i}]"
        causes += _check_common(container, volumes, at)
        causes += check_image_space(container, at)
        name = container.get("name", "")
        if name in seen:
            causes.append(errors.duplicate(f"{at}.name", name))
        seen.add(name)
        target = container.get("targetContainerName")
        if target and target not in targets:
            causes.append(errors.not_found(f"{at}.targetContainerName", target))
        for name, value in container.items():
            if value and (name not in _EPHEMERAL_FIELDS or name == "resources"):
                causes.append(errors.forbidden(f"{at}.{name}", "cannot be set for an Ephemeral Container"))
        for j, mount in enumerate(container.get("volumeMounts") or ()):
            for name in ("subPath", "subPathExpr"):
                if mount.get(name):
                    text = "cannot be set for an Ephemeral Container"
                    causes.append(errors.forbidden(f"{at}.volumeMounts[{j}].{name}", text))
    return causes


def check_image_space(container: Mapping[str, Any], at: str) -> list[Cause]:
    """An image's name without blanks around it: of pods, not of templates."""
    image = container.get("image", "")
    if image == image.strip():
        return []
    return [errors.invalid(f"{at}.image", image, "must not have leading or trailing whitespace")]


def _check_common(container: Obj, volumes: Mapping[str, Obj], at: str) -> list[Cause]:
    causes = fields.named(container.get("name", ""), f"{at}.name")
    if not container.get("image"):
        causes.append(errors.required(f"{at}.image"))
    policy = container.get("terminationMessagePolicy")
    causes += fields.one_of(policy, f"{at}.terminationMessagePolicy", TERMINATION_MESSAGE_POLICIES)
    causes += fields.one_of(container.get("imagePullPolicy"), f"{at}.imagePullPolicy", PULL_POLICIES)
    if "ports" in container:
        causes += _check_ports(container["ports"] or (), f"{at}.ports")
    if "env" in container:
        causes += _check_env(container["env"] or (), f"{at}.env")
    if "envFrom" in container:
        causes += _check_env_from(container["envFrom"] or (), f"{at}.envFrom")
    if "volumeMounts" in container:
        causes += _check_mounts(container, volumes, f"{at}.volumeMounts")
    if "volumeDevices" in container:
        causes += _check_devices(container, volumes, f"{at}.volumeDevices")
    if container.get("resources"):
        causes += check_resources(container["resources"], f"{at}.resources")
    if container.get("resizePolicy"):
        causes += _check_resize_policy(container["resizePolicy"], f"{at}.resizePolicy")
    if container.get("securityContext"):
        causes += _check_security(container["securityContext"], f"{at}.securityContext")
    return causes


def _check_resize_policy(policies: Sequence[Obj], path: str) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[str] = set()
    for i, policy in enumerate(policies):
        resource = policy.get("resourceName", "")
        if resource in seen:
            causes.append(errors.duplicate(f"{path}[{i}]", resource))
        seen.add(resource)
        causes += fields.one_of(resource, path, ("cpu", "memory"))
        causes += fields.one_of(policy.get("restartPolicy"), path, ("NotRequired", "RestartContainer"))
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


def _check_env(variables: Iterable[Obj], path: str) -> list[Cause]:
    causes: list[Cause] = []
    for i, variable in enumerate(variables):
        causes += fields.named(variable.get("name", ""), f"{path}[{i}].name", names.env_var_name)
        source = variable.get("valueFrom")
        if source is not None:
            causes += _check_env_source(source, variable.get("value", ""), f"{path}[{i}].valueFrom")
    return causes


def _check_env_source(source: Obj, value: str, path: str) -> list[Cause]:
    causes: list[Cause] = []
    given = [name for name in ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef") if name in source]
    if "fieldRef" in source:
        causes += check_field_ref(source["fieldRef"], ENV_FIELDS, f"{path}.fieldRef")
    if "resourceFieldRef" in source:
        causes += check_resource_field_ref(source["resourceFieldRef"], f"{path}.resourceFieldRef")
    for name in ("configMapKeyRef", "secretKeyRef"):
        if name in source:
            causes += _check_key_ref(source[name], f"{path}.{name}")
    if not given:
        text = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"
        causes.append(errors.invalid(path, "", text))
    elif value:
        causes.append(errors.invalid(path, "", "may not be specified when `value` is not empty"))
    elif len(given) > 1:
        causes.append(errors.invalid(path, "", "may not have more than one field specified at a time"))
    return causes


def check_field_ref(ref: Obj, allowed: Sequence[str], path: str) -> list[Cause]:
    """A downward API reference to a pod's field, subscripts of labels and annotations among them."""
    if not ref.get("apiVersion"):
        return [errors.required(f"{path}.apiVersion")]
    field_path: str = ref.get("fieldPath", "")
    if not field_path:
        return [errors.required(f"{path}.fieldPath")]
    base, bracket, rest = field_path.partition("['")
    if bracket and rest.endswith("']"):
        if base not in ("metadata.annotations", "metadata.labels"):
            return [errors.invalid(path, base, "does not support subscript")]
        key = rest[:-2]
        return fields.invalid_if(names.qualified_name(key.lower() if base.endswith("annotations") else key), path, key)
    if field_path in allowed:
        return []
    if field_path not in (*ENV_FIELDS, "metadata.annotations", "metadata.labels"):
        text = f"error converting fieldPath: field label not supported: {field_path}"
        return [errors.invalid(f"{path}.fieldPath", field_path, text)]
    return [errors.not_supported(f"{path}.fieldPath", field_path, allowed)]


def check_resource_field_ref(ref: Obj, path: str, of_volume: bool = False) -> list[Cause]:
    """A downward API reference to a container's resource."""
    resource = ref.get("resource", "")
    causes: list[Cause] = []
    if of_volume and not ref.get("containerName"):
        causes.append(errors.required(f"{path}.containerName"))
    elif not resource:
        causes.append(errors.required(f"{path}.resource"))
    elif resource not in RESOURCE_FIELDS and not resource.startswith(_HUGE_PAGE_FIELDS):
        causes.append(errors.not_supported(f"{path}.resource", resource, RESOURCE_FIELDS))
    divisor = str(ref.get("divisor", "0"))
    if divisor not in ("0", ""):
        if resource.endswith(".cpu"):
            if divisor not in ("1m", "1"):
                text = "only divisor's values 1m and 1 are supported with the cpu resource"
                causes.append(errors.invalid(f"{path}.divisor", resource, text))
        elif divisor not in _DIVISORS:
            what = {"memory": "memory", "ephemeral-storage": "local ephemeral storage"}
            noun = what.get(resource.partition(".")[2], "hugepages")
            text = f"only divisor's values {', '.join(_DIVISORS)} are supported with the {noun} resource"
            causes.append(errors.invalid(f"{path}.divisor", resource, text))
    return causes


def _check_key_ref(ref: Obj, path: str) -> list[Cause]:
    causes: list[Cause] = []
    name, key = ref.get("name", ""), ref.get("key", "")
    causes += fields.invalid_if(names.dns1123_subdomain(name), f"{path}.name", name)
    return causes + fields.named(key, f"{path}.key", names.config_key)


def _check_env_from(sources: Iterable[Obj], path: str) -> list[Cause]:
    causes: list[Cause] = []
    for i, source in enumerate(sources):
        at = f"{path}[{i}]"
        prefix = source.get("prefix", "")
        if prefix:
            causes += fields.invalid_if(names.env_var_name(prefix), f"{at}.prefix", prefix)
        given = [name for name in ("configMapRef", "secretRef") if name in source]
        for name in given:
            causes += fields.named(source[name].get("name", ""), f"{at}.{name}.name", names.dns1123_subdomain)
        if not given:
            causes.append(errors.invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"))
        elif len(given) > 1:
            causes.append(errors.invalid(path, "", "may not have more than one field specified at a time"))
    return causes


def _check_mounts(container: Obj, volumes: Mapping[str, Obj], path: str) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[str] = set()
    devices = container.get("volumeDevices") or ()
    for i, mount in enumerate(container["volumeMounts"] or ()):
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
        if any(device.get("name") == name for device in devices):
            causes.append(errors.invalid(f"{at}.name", name, "must not already exist in volumeDevices"))
        if any(device.get("devicePath") == target for device in devices):
            causes.append(errors.invalid(f"{at}.mountPath", target, "must not already exist as a path in volumeDevices"))
        sub_path, expression = mount.get("subPath", ""), mount.get("subPathExpr", "")
        if sub_path:
            causes += check_descending_path(sub_path, f"{path}.subPath")
        if expression:
            if sub_path:
                text = "subPathExpr and subPath are mutually exclusive"
                causes.append(errors.invalid(f"{at}.subPathExpr", expression, text))
            causes += check_descending_path(expression, f"{path}.subPathExpr")
        propagation = mount.get("mountPropagation")
        if propagation is not None:
            allowed = ("Bidirectional", "HostToContainer", "None")
            causes += fields.one_of(propagation, f"{path}.mountPropagation", allowed)
            privileged = (container.get("securityContext") or {}).get("privileged")
            if propagation == "Bidirectional" and not privileged:
                text = "Bidirectional mount propagation is available only to privileged containers"
                causes.append(errors.forbidden(f"{path}.mountPropagation", text))
    return causes


def check_descending_path(value: str, path: str) -> list[Cause]:
    """A relative path that stays where it is put."""
    causes: list[Cause] = []
    if value.startswith("/"):
        causes.append(errors.invalid(path, value, "must be a relative path"))
    if ".." in value.split("/"):
        causes.append(errors.invalid(path, value, "must not contain '..'"))
    return causes


def _check_devices(container: Obj, volumes: Mapping[str, Obj], path: str) -> list[Cause]:
    causes: list[Cause] = []
    for i, device in enumerate(container["volumeDevices"] or ()):
        at = f"{path}[{i}]"
        name = device.get("name", "")
        source = volumes.get(name)
        if not name:
            causes.append(errors.required(f"{at}.name"))
        if source is None:
            causes.append(errors.not_found(f"{at}.name", name))
        elif not source.keys() & {"persistentVolumeClaim", "ephemeral"}:
            text = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"
            causes.append(errors.invalid(f"{at}.name", name, text))
        if not device.get("devicePath"):
            causes.append(errors.required(f"{at}.devicePath"))
    return causes


def check_resources(resources: Obj, path: str) -> list[Cause]:
    """Requests and limits: names, amounts, requests within limits."""
    causes: list[Cause] = []
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for given, name in ((limits, "limits"), (requests, "requests")):
        for resource, amount in given.items():
            at = f"{path}.{name}[{resource}]"
            causes += resources_of.container_name(resource, at)
            causes += resources_of.amount(resource, amount, at)
    if causes:
        return causes
    for resource, amount in requests.items():
        overcommit = resources_of.is_overcommittable(resource)
        if resource in limits:
            asked, limit = quantities.parse(str(amount)), quantities.parse(str(limits[resource]))
            if asked != limit and not overcommit:
                text = f"must be equal to {resource} limit of {limits[resource]}"
                causes.append(errors.invalid(f"{path}.requests", str(amount), text))
            elif asked > limit:
                text = f"must be less than or equal to {resource} limit of {limits[resource]}"
                causes.append(errors.invalid(f"{path}.requests", str(amount), text))
        elif not overcommit:
            causes.append(errors.required(f"{path}.limits", "Limit must be set for non overcommitable resources"))
    asked_for = {*limits, *requests}
    if any(name.startswith("hugepages-") for name in asked_for) and not asked_for & {"cpu", "memory"}:
        causes.append(errors.forbidden(path, "HugePages require cpu or memory"))
    return causes


def _check_lifecycle_and_probes(container: Obj, grace_s: int | None, at: str) -> list[Cause]:
    causes: list[Cause] = []
    lifecycle = container.get("lifecycle") or {}
    for hook in ("postStart", "preStop"):
        if hook in lifecycle:
            causes += _check_handler(lifecycle[hook], grace_s, f"{at}.lifecycle.{hook}")
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        probe = container.get(name)
        if probe is None:
            continue
        path = f"{at}.{name}"
        causes += _check_handler(probe, grace_s, path)
        for number in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"):
            causes += fields.non_negative(probe.get(number), f"{path}.{number}")
        grace = probe.get("terminationGracePeriodSeconds")
        if name == "readinessProbe":
            if grace is not None:
                text = "must not be set for readinessProbes"
                causes.append(errors.invalid(f"{path}.terminationGracePeriodSeconds", grace, text))
        elif probe.get("successThreshold") != 1:
            causes.append(errors.invalid(f"{path}.successThreshold", probe.get("successThreshold", 0), "must be 1"))
        if grace is not None and grace <= 0:
            causes.append(errors.invalid(f"{path}.terminationGracePeriodSeconds", grace, "must be greater than 0"))
    return causes


def _check_handler(handler: Obj, grace_s: int | None, path: str) -> list[Cause]:
    given = [name for name in _HANDLERS if handler.get(name) is not None]
    if not given:
        return [errors.required(path, "must specify a handler type")]
    causes = [errors.forbidden(f"{path}.{name}", "may not specify more than 1 handler type") for name in given[1:]]
    kind = given[0]
    action, at = handler[kind], f"{path}.{kind}"
    if kind == "exec":
        if not action.get("command"):
            causes.append(errors.required(f"{at}.command"))
    elif kind == "httpGet":
        if not action.get("path"):
            causes.append(errors.required(f"{at}.path"))
        causes += fields.port_or_name(action.get("port"), f"{at}.port")
        if action.get("scheme") not in ("HTTP", "HTTPS"):
            causes.append(errors.not_supported(f"{at}.scheme", action.get("scheme", ""), ("HTTP", "HTTPS")))
    elif kind in ("tcpSocket", "grpc"):
        causes += fields.port_or_name(action.get("port"), f"{at}.port")
    elif grace_s is not None and not 0 <= action.get("seconds", 0) <= grace_s:
        text = f"must be non-negative and less than terminationGracePeriodSeconds ({grace_s})"
        causes.append(errors.invalid(at, action.get("seconds", 0), text))
    return causes


def _check_security(security: Obj, path: str) -> list[Cause]:
    causes = fields.user_or_group_id(security.get("runAsUser"), f"{path}.runAsUser")
    causes += fields.user_or_group_id(security.get("runAsGroup"), f"{path}.runAsGroup")
    causes += check_seccomp(security.get("seccompProfile"), f"{path}.seccompProfile")
    mount = security.get("procMount")
    if mount is not None and mount not in ("Default", "Unmasked"):
        causes.append(errors.not_supported(f"{path}.procMount", mount, ("Default", "Unmasked")))
    if security.get("allowPrivilegeEscalation") is False:
        if security.get("privileged"):
            text = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
            causes.append(errors.invalid(path, security, text))
        if "CAP_SYS_ADMIN" in ((security.get("capabilities") or {}).get("add") or ()):
            text = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
            causes.append(errors.invalid(path, security, text))
    return causes


def check_seccomp(profile: Obj | None, path: str) -> list[Cause]:
    """A seccomp profile: a known type, and a local file exactly where the type is Localhost."""
    if profile is None:
        return []
    causes = fields.one_of(profile.get("type"), f"{path}.type", ("Localhost", "RuntimeDefault", "Unconfined"))
    local = profile.get("localhostProfile")
    if profile.get("type") == "Localhost":
        if not local:
            text = "must be set when seccomp type is Localhost"
            causes.append(errors.required(f"{path}.localhostProfile", text))
        else:
            causes += check_descending_path(local, f"{path}.localhostProfile")
    elif local:
        causes.append(errors.invalid(f"{path}.localhostProfile", local, "can only be set when seccomp type is Localhost"))
    return causes
