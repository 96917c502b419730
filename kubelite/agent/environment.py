"""A container's environment: service variables, envFrom, env with references and $(NAME) expansion. Pure but for its reads of
the node's objects.

Source: pkg/kubelet/kubelet_pods.go makeEnvironmentVariables, pkg/kubelet/envvars, v1.34.
"""

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from kubelite.agent import downward
from kubelite.agent.faults import ConfigFault
from kubelite.agent.objects import Objects
from kubelite.meta.types import Obj

_REFERENCE = re.compile(r"\$(\$|\(([^)]*)\))")
_NAME = re.compile(r"[ -<>-~]+")


@dataclass(frozen=True, slots=True)
class Facts:
    """What an environment may tell of the pod's place."""

    pod_ips: Sequence[str] = ()
    host_ips: Sequence[str] = ()
    allocatable: Mapping[str, str] = field(default_factory=dict)


def of_container(pod: Obj, container: Obj, objects: Objects, facts: Facts) -> dict[str, str]:
    """The variables, in the order that they are set in.

    Raises:
        ConfigFault: something that is not optional is missing.
    """
    namespace = pod["metadata"]["namespace"]
    services = service_variables(objects, namespace, pod["spec"].get("enableServiceLinks", True))
    result: dict[str, str] = {}
    for source in container.get("envFrom") or ():
        result.update(_from_source(source, namespace, objects))
    seen = dict(result)
    for entry in container.get("env") or ():
        name = entry["name"]
        if "valueFrom" in entry:
            value = _value_from(entry["valueFrom"], pod, container, objects, facts)
            if value is None:
                continue
        else:
            value = expand(entry.get("value") or "", lambda n: seen.get(n, services.get(n)))
        seen[name] = result[name] = value
    for name, value in services.items():
        result.setdefault(name, value)
    return result


def expand(text: str, lookup: Callable[[str], str | None]) -> str:
    """$(NAME) replaced by what is known of it and left as it is where nothing is; $$ stands for one $."""

    def replace(match: re.Match[str]) -> str:
        if match[1] == "$":
            return "$"
        value = lookup(match[2])
        return match[0] if value is None else value

    return _REFERENCE.sub(replace, text)


def _from_source(source: Obj, namespace: str, objects: Objects) -> dict[str, str]:
    prefix = source.get("prefix", "")
    if "configMapRef" in source:
        data = _data(objects, "configmaps", namespace, source["configMapRef"])
    elif "secretRef" in source:
        data = _data(objects, "secrets", namespace, source["secretRef"])
    else:
        return {}
    return {prefix + key: value for key, value in sorted((data or {}).items()) if _NAME.fullmatch(prefix + key)}


def _value_from(source: Obj, pod: Obj, container: Obj, objects: Objects, facts: Facts) -> str | None:
    """The value that the reference names; None: it is optional and not there."""
    namespace = pod["metadata"]["namespace"]
    if ref := source.get("fieldRef"):
        return downward.field_value(pod, ref["fieldPath"], pod_ips=facts.pod_ips, host_ips=facts.host_ips)
    if ref := source.get("resourceFieldRef"):
        return downward.resource_value(pod, ref, container, facts.allocatable)
    for field_name, resource, kind in (("configMapKeyRef", "configmaps", "ConfigMap"), ("secretKeyRef", "secrets", "Secret")):
        if ref := source.get(field_name):
            data = _data(objects, resource, namespace, ref)
            if data is None:
                return None
            if ref["key"] in data:
                return data[ref["key"]]
            if ref.get("optional"):
                return None
            raise ConfigFault(f"couldn't find key {ref['key']} in {kind} {namespace}/{ref.get('name', '')}")
    return None


def _data(objects: Objects, resource: str, namespace: str, ref: Obj) -> dict[str, str] | None:
    """A config map's or secret's data as texts; None: it is optional and not there."""
    name = ref.get("name", "")
    obj = objects.get(resource, name, namespace)
    if obj is None:
        if ref.get("optional"):
            return None
        raise ConfigFault(f'{resource.removesuffix("s")} "{name}" not found')
    data: dict[str, str] = obj.get("data") or {}
    if resource == "secrets":
        return {key: base64.b64decode(value).decode(errors="replace") for key, value in data.items()}
    return data


def service_variables(objects: Objects, namespace: str, links: bool) -> dict[str, str]:
    """The variables of the `kubernetes` service, and with `links` of each service of the namespace that has a cluster IP."""
    chosen: dict[str, Obj] = {}
    for service in objects.list("services", "default"):
        if service["metadata"]["name"] == "kubernetes":
            chosen["kubernetes"] = service
    if links:
        chosen |= {s["metadata"]["name"]: s for s in objects.list("services", namespace)}
    result: dict[str, str] = {}
    for name in sorted(chosen):
        spec = chosen[name]["spec"]
        ip, ports = spec.get("clusterIP"), spec.get("ports") or []
        if not ip or ip == "None" or not ports or spec.get("type") == "ExternalName":
            continue
        _service(result, name.upper().replace("-", "_"), ip, ports)
    return result


def _service(result: dict[str, str], prefix: str, ip: str, ports: Sequence[Obj]) -> None:
    result[f"{prefix}_SERVICE_HOST"] = ip
    result[f"{prefix}_SERVICE_PORT"] = str(ports[0]["port"])
    for port in ports:
        if port.get("name"):
            result[f"{prefix}_SERVICE_PORT_{port['name'].upper().replace('-', '_')}"] = str(port["port"])
    host = f"[{ip}]" if ":" in ip else ip
    for index, port in enumerate(ports):
        protocol = port.get("protocol", "TCP")
        url = f"{protocol.lower()}://{host}:{port['port']}"
        if index == 0:
            result[f"{prefix}_PORT"] = url
        base = f"{prefix}_PORT_{port['port']}_{protocol}"
        result |= {base: url, f"{base}_PROTO": protocol.lower(), f"{base}_PORT": str(port["port"]), f"{base}_ADDR": ip}
