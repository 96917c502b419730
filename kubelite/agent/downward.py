"""What a pod may learn of itself: the values of fieldRef and resourceFieldRef, for its environment and its volumes. Pure.

Source: pkg/fieldpath, pkg/api/v1/resource/helpers.go, pkg/kubelet/kubelet_resources.go, v1.34.
"""

import re
from collections.abc import Mapping, Sequence

from kubelite.agent.faults import ConfigFault
from kubelite.meta import quantities
from kubelite.meta.types import Obj

#: Limits that a container without one has from above it.
_DEFAULTED = ("cpu", "memory", "ephemeral-storage")
_KEYED = re.compile(r"metadata\.(labels|annotations)\['([^']*)'\]")


def field_value(pod: Obj, path: str, *, pod_ips: Sequence[str] = (), host_ips: Sequence[str] = ()) -> str:
    """The value that a fieldRef names. Raises ConfigFault for a path that is not supported."""
    meta = pod["metadata"]
    if match := _KEYED.fullmatch(path):
        return str((meta.get(match[1]) or {}).get(match[2], ""))
    if path in ("metadata.labels", "metadata.annotations"):
        return format_map(meta.get(path.removeprefix("metadata.")) or {})
    match path:
        case "metadata.name" | "metadata.namespace" | "metadata.uid":
            return str(meta.get(path.removeprefix("metadata."), ""))
        case "spec.nodeName" | "spec.serviceAccountName":
            return str(pod["spec"].get(path.removeprefix("spec."), ""))
        case "status.hostIP":
            return host_ips[0] if host_ips else ""
        case "status.hostIPs":
            return ",".join(host_ips)
        case "status.podIP":
            return pod_ips[0] if pod_ips else ""
        case "status.podIPs":
            return ",".join(pod_ips)
    raise ConfigFault(f"unsupported fieldPath: {path}")


def format_map(values: Mapping[str, str]) -> str:
    """`key="value"` lines, sorted by key, values quoted as Go does."""
    return "\n".join(f"{key}={_quoted(values[key])}" for key in sorted(values))


def _quoted(text: str) -> str:
    escapes = dict(zip('\\"\n\t\r\a\b\f\v', ("\\\\", '\\"', "\\n", "\\t", "\\r", "\\a", "\\b", "\\f", "\\v"), strict=True))
    return '"' + "".join(escapes.get(c, c if c.isprintable() else f"\\u{ord(c):04x}") for c in text) + '"'


def resource_value(pod: Obj, selector: Obj, container: Obj | None, allocatable: Mapping[str, str]) -> str:
    """The value that a resourceFieldRef names: of the container it names, else of `container`; a limit that is not set is the
    pod's as a whole, else the node's. Raises ConfigFault."""
    name = selector.get("containerName")
    if name:
        spec = pod["spec"]
        found = [*(spec.get("initContainers") or ()), *spec["containers"]]
        container = next((c for c in found if c["name"] == name), None)
        if container is None:
            raise ConfigFault(f"container {name} not found")
    kind, _, resource = selector["resource"].partition(".")
    values = ((container or {}).get("resources") or {}).get(kind) or {}
    text = values.get(resource, "0")
    if kind == "limits" and resource in _DEFAULTED and not quantities.parse(text):
        whole = ((pod["spec"].get("resources") or {}).get("limits") or {}).get(resource, "0")
        text = whole if quantities.parse(whole) else allocatable.get(resource, "0")
    divisor = quantities.parse(selector.get("divisor") or "0") or 1
    amount = quantities.parse(text) / divisor
    return str(-(-amount.numerator // amount.denominator))
