"""What the streaming subresources of pods have in common: the pod, its node, the container meant, and admission.

Source: pkg/registry/core/pod/strategy.go, v1.34.
"""

from typing import TYPE_CHECKING

from kubelite.api.requests import Request
from kubelite.meta.errors import BadRequest, ServiceUnavailable
from kubelite.meta.types import Obj
from kubelite.registry.contract import Attributes, Target
from kubelite.schema.kinds import Kind

if TYPE_CHECKING:
    from kubelite.api.app import Api
    from kubelite.nodes.sessions import Nodes

_CONTAINER_LISTS = ("initContainers", "containers", "ephemeralContainers")


async def find(api: "Api", request: Request) -> Obj:
    """The pod that the URL names. Raises NotFound."""
    return await api.client.get("pods", request.info.name, request.info.namespace)


def container_of(pod: Obj, name: str) -> str:
    """The container meant: the one named, or the only one. Raises BadRequest."""
    spec = pod["spec"]
    pod_name = pod["metadata"]["name"]
    names = [c["name"] for field in _CONTAINER_LISTS for c in spec.get(field) or ()]
    if name:
        if name not in names:
            raise BadRequest(f"container {name} is not valid for pod {pod_name}")
        return name
    containers = spec.get("containers") or []
    if len(containers) == 1:
        return str(containers[0]["name"])
    raise BadRequest(f"a container name must be specified for pod {pod_name}, choose one of: [{' '.join(names)}]")


def node_of(pod: Obj) -> str:
    """Raises BadRequest where the pod has none yet."""
    node = pod["spec"].get("nodeName", "")
    if not node:
        raise BadRequest(f"pod {pod['metadata']['name']} does not have a host assigned")
    return str(node)


def nodes_of(api: "Api") -> "Nodes":
    if api.nodes is None:
        raise ServiceUnavailable("this server has no connection to nodes: its node port is not served")
    return api.nodes


async def admit(api: "Api", request: Request, kind: Kind, options_kind: str, options: Obj) -> None:
    """Asks admission about a CONNECT. Raises ApiError."""
    info = request.info
    attributes = Attributes(
        "CONNECT",
        Target(kind, info.namespace, info.name, info.subresource),
        {"kind": options_kind, "apiVersion": "v1", **options},
        None,
        request.user,
        False,
        {},
        ("", "v1", options_kind),
        request.warnings,
    )
    await api.registry.admission.mutate(attributes)
    await api.registry.admission.validate(attributes)
