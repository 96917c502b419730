"""pods/portforward: connections to ports of a pod."""

from typing import TYPE_CHECKING

from kubelite.api.handlers import not_allowed, pods
from kubelite.api.requests import Request, Streamed
from kubelite.api.streaming import portforward, remotecommand, websocket
from kubelite.api.streaming.bytestream import Upgraded
from kubelite.meta.errors import BadRequest
from kubelite.rpc import node_pb2 as pb
from kubelite.schema.kinds import Kind

if TYPE_CHECKING:
    from kubelite.api.app import Api
    from kubelite.nodes.tunnels import NodeStream


async def handle(api: "Api", request: Request, kind: Kind) -> Streamed:
    if request.info.verb not in ("get", "create"):
        raise not_allowed()
    pod = await pods.find(api, request)
    node = pods.node_of(pod)
    ports = _ports(request.query.get("ports") or [])
    await pods.admit(api, request, kind, "PodPortForwardOptions", {"ports": ports})
    nodes = pods.nodes_of(api)
    meta = pod["metadata"]

    async def dial(port: int) -> "NodeStream":
        if not 0 < port < 65536:
            raise BadRequest(f"port {port} is not between 1 and 65535")
        message = pb.PortForward(namespace=meta["namespace"], pod=meta["name"], pod_uid=meta["uid"], port=port)
        return await nodes.open_stream(node, message)

    connection = request.connection
    if websocket.is_upgrade(request):
        supported = (portforward.TUNNEL_PROTOCOL, *portforward.CHANNEL_PROTOCOLS)
        protocol = websocket.choose(request, supported)
        if protocol != portforward.TUNNEL_PROTOCOL and not ports:
            raise BadRequest('query parameter "ports" is required')
        socket = websocket.WebSocket.accept(connection, request, protocol)
        if protocol == portforward.TUNNEL_PROTOCOL:
            await portforward.serve_spdy(websocket.Tunnel(socket), dial)
        else:
            await portforward.serve_channels(socket, protocol, ports, dial)
        socket.abort()
    elif remotecommand.is_spdy(request):
        protocol = remotecommand.choose_spdy(request, (portforward.PROTOCOL,))
        upgraded = Upgraded()
        head = f"Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: {protocol}\r\n"
        connection.upgrade(request, head.encode(), upgraded)
        await portforward.serve_spdy(upgraded, dial)
        upgraded.close()
    else:
        raise BadRequest("Upgrade request required")
    return Streamed(101, closed=True)


def _ports(texts: list[str]) -> list[int]:
    ports = []
    for text in texts:
        for part in text.split(","):
            if not part.isdigit() or not 0 < int(part) < 65536:
                raise BadRequest(f"unable to parse {part!r} as a port")
            ports.append(int(part))
    return ports[: portforward.MAX_CONNECTIONS]
