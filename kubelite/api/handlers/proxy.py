"""pods/proxy, services/proxy and nodes/proxy.

Source: pkg/registry/core/{pod,service,node}, v1.34 (ResourceLocation); apimachinery pkg/util/net SplitSchemeNamePort.
"""

import ipaddress
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from kubelite.api import proxy
from kubelite.api.handlers import NOT_FOUND, pods
from kubelite.api.requests import Reply, Request, Streamed
from kubelite.api.streaming.bytestream import Closed
from kubelite.meta.errors import BadRequest, NotFound, ServiceUnavailable
from kubelite.meta.types import Obj
from kubelite.rpc import node_pb2 as pb
from kubelite.schema.kinds import Kind

if TYPE_CHECKING:
    from kubelite.api.app import Api

_OPTIONS = {"pods": "PodProxyOptions", "services": "ServiceProxyOptions", "nodes": "NodeProxyOptions"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where to dial, from which node."""

    node: str
    scheme: str
    address: str
    port: int

    @property
    def host(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


async def handle(api: "Api", request: Request, kind: Kind) -> Reply | Streamed:
    info = request.info
    await pods.admit(api, request, kind, _OPTIONS[kind.plural], {"path": "/".join(info.parts)})
    if kind.plural == "nodes":
        return await _node(api, request)
    raw = request.raw_path
    prefix, _, rest = raw.partition("/proxy")
    # A name may itself contain the word: what counts is the segment behind the object's name.
    while rest and not rest.startswith("/"):
        more, _, rest = rest.partition("/proxy")
        prefix = f"{prefix}/proxy{more}"
    prefix += "/proxy"
    if not rest and request.method in ("GET", "HEAD") and "Upgrade" not in request.headers:
        # Relative links of the page there work only below a slash.
        query = f"?{request.query_text}" if request.query_text else ""
        return Reply(301, b"", b"text/plain", f"Location: {raw}/{query}\r\n".encode())
    scheme, name, port = split_name(info.name)
    find = _pod if kind.plural == "pods" else service_place
    place = await find(api, info.namespace, scheme, name, port)
    check_address(place.address)
    stream = await pods.nodes_of(api).open_stream(place.node, pb.Dial(host=place.address, port=place.port))
    path = (rest or "/") + (f"?{request.query_text}" if request.query_text else "")
    try:
        connection: proxy.NodeBytes | proxy.TlsBytes = proxy.NodeBytes(stream)
        if place.scheme == "https":
            secured = proxy.TlsBytes(connection, proxy.unverified_tls())
            try:
                await secured.handshake()
            except (Closed, OSError) as e:
                raise ServiceUnavailable(f"error trying to reach service: {e}") from e
            connection = secured
        return await proxy.forward(request, connection, place.host, path, prefix)
    finally:
        await stream.close()


def split_name(text: str) -> tuple[str, str, str]:
    """`name`, `name:port` or `scheme:name:port`. Raises BadRequest."""
    parts = text.split(":")
    if len(parts) == 1:
        return "http", parts[0], ""
    if len(parts) == 2 and parts[0]:
        return "http", parts[0], parts[1]
    if len(parts) == 3 and parts[0] in ("", "http", "https") and parts[1]:
        return parts[0] or "http", parts[1], parts[2]
    raise BadRequest(f'invalid proxy request "{text}": a name is NAME, NAME:PORT or SCHEME:NAME:PORT')


def check_address(text: str) -> None:
    """Raises BadRequest for what is not a pod's: loopback, link-local (metadata services), multicast."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError as e:
        raise BadRequest("address not allowed") from e
    if address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified:
        raise BadRequest("address not allowed")


async def _pod(api: "Api", namespace: str, scheme: str, name: str, port: str) -> Place:
    pod = await api.client.get("pods", name, namespace)
    if not port:
        ports = [p["containerPort"] for c in pod["spec"].get("containers") or () for p in c.get("ports") or ()]
        number = ports[0] if ports else (443 if scheme == "https" else 80)
    elif port.isdigit() and 0 < int(port) < 65536:
        number = int(port)
    else:
        raise BadRequest(f'invalid pod request: "{port}" is no port number')
    address = (pod.get("status") or {}).get("podIP", "")
    return Place(pods.node_of(pod), scheme, address, number)


async def service_place(api: "Api", namespace: str, scheme: str, name: str, port: str) -> Place:
    service = await api.client.get("services", name, namespace)
    if port.isdigit():
        for declared in service["spec"].get("ports") or ():
            if declared["port"] == int(port):
                port = declared.get("name", "")
                break
        else:
            raise ServiceUnavailable(f'no service port {port} found for service "{name}"')
    slices = await api.client.list(
        "endpointslices.discovery.k8s.io", namespace, label_selector=f"kubernetes.io/service-name={name}"
    )
    places = []
    for found in slices.items:
        for declared in found.get("ports") or ():
            if (declared.get("name") or "") != port or not declared.get("port"):
                continue
            for endpoint in found.get("endpoints") or ():
                reference = endpoint.get("targetRef") or {}
                ready = (endpoint.get("conditions") or {}).get("ready", True)
                # Only to pods, and to them as they are now: an endpoint's address is what somebody wrote.
                if ready and reference.get("kind") == "Pod" and endpoint.get("addresses"):
                    places.append((reference.get("name", ""), endpoint["addresses"][0], declared["port"]))
    random.shuffle(places)
    for pod_name, address, number in places:
        try:
            pod = await api.client.get("pods", pod_name, namespace)
        except NotFound:
            continue
        if any(ip.get("ip") == address for ip in (pod.get("status") or {}).get("podIPs") or ()):
            return Place(pods.node_of(pod), scheme, address, number)
    raise ServiceUnavailable(f'no endpoints available for service "{name}"')


async def _node(api: "Api", request: Request) -> Reply:
    """What of a kubelet's API makes sense here. The node's own ports are never dialled."""
    _, name, _ = split_name(request.info.name)
    node = await api.client.get("nodes", name)
    nodes = pods.nodes_of(api)
    path = "/".join(request.info.parts).strip("/")
    if path in ("healthz", ""):
        if not nodes.is_connected(name):
            raise ServiceUnavailable(f"node {name} is not connected")
        return Reply(200, b"ok", b"text/plain; charset=utf-8")
    if path == "stats/summary":
        return Reply(200, await nodes.stats(name))
    if path == "pods":
        listing = await api.client.list("pods", field_selector=f"spec.nodeName={name}")
        return Reply(200, orjson.dumps({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": listing.items}))
    if path == "configz":
        return Reply(200, orjson.dumps({"kubeletconfig": _configuration(node)}))
    return NOT_FOUND


def _configuration(node: Obj) -> Obj:
    capacity = (node.get("status") or {}).get("capacity") or {}
    return {
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "maxPods": int(capacity.get("pods", 110)),
        "nodeStatusUpdateFrequency": "10s",
        "containerLogMaxSize": "10Mi",
        "containerLogMaxFiles": 5,
    }
