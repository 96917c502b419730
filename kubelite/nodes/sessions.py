"""The control-plane half of the node protocol: one session for each node that is connected to this server.

Knows nothing of transports: grpcapi/ wraps it in services, `link` gives an agent in the same process the same calls.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable

import orjson
import structlog

from kubelite.client.contract import Client
from kubelite.client.informers import Informers
from kubelite.meta.errors import BadRequest, Forbidden, ServiceUnavailable
from kubelite.meta.types import Obj
from kubelite.meta.users import AUTHENTICATED_GROUP, NODE_PREFIX, NODES_GROUP, User
from kubelite.nodes import tunnels
from kubelite.nodes.desired import Desired, Key
from kubelite.nodes.reports import Reports
from kubelite.nodes.tunnels import NodeStream, Tunnels
from kubelite.rpc import node_pb2 as pb

log = structlog.get_logger()

BOOTSTRAPPERS_GROUP = "system:bootstrappers"

#: (the node's user, namespace, service account, TokenRequest) -> the TokenRequest with its status.
IssueToken = Callable[[User, str, str, Obj], Awaitable[Obj]]
#: (certificate request in PEM, the user and groups that the certificate is for) -> certificate in PEM.
Sign = Callable[[bytes, User], bytes]


def node_user(node_name: str) -> User:
    return User(NODE_PREFIX + node_name, (NODES_GROUP, AUTHENTICATED_GROUP))


class Nodes:
    """All sessions of this server. `run` must run while they are served."""

    def __init__(
        self,
        client_of: Callable[[User], Client],
        informers: Informers,
        cluster: pb.ClusterInfo,
        *,
        issue_token: IssueToken | None = None,
        sign: Sign | None = None,
        ca_pem: bytes = b"",
    ) -> None:
        self._client_of = client_of
        self._desired = Desired(informers)
        self._tunnels = Tunnels()
        self._sessions: dict[str, Session] = {}
        self._issue_token = issue_token
        self._sign = sign
        self._ca_pem = ca_pem
        self.cluster = cluster
        self.ready = asyncio.Event()

    @property
    def connected(self) -> int:
        """How many nodes have a session."""
        return len(self._sessions)

    async def run(self) -> None:
        """Follows the informers until cancelled."""
        await self._desired.wait_synced()
        self.ready.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.ready.clear()
            self._desired.close()
            for session in list(self._sessions.values()):
                session.close()

    # The node protocol.

    async def session(self, node_name: str, incoming: AsyncIterator[pb.FromNode]) -> AsyncGenerator[pb.ToNode, None]:
        """A node's session. A second one of the same node ends the first.

        Raises:
            BadRequest: it does not begin with a Hello of this node.
        """
        first = await anext(aiter(incoming), None)
        if first is None or first.WhichOneof("message") != "hello" or first.hello.node_name != node_name:
            raise BadRequest(f'a session of node "{node_name}" begins with its Hello')
        await self.ready.wait()
        session = Session(node_name, first.hello, self._desired)
        before = self._sessions.get(node_name)
        if before is not None:
            before.close()
        self._sessions[node_name] = session
        reports = Reports(node_name, self._client_of(node_user(node_name)), self._desired)
        session.reports = reports
        log.info("node_connected", node=node_name, agent=first.hello.agent_version, held=len(first.hello.held))

        async def receive() -> None:
            try:
                async for message in incoming:
                    if message.WhichOneof("message") == "tunnel_refused":
                        self._tunnels.refused(node_name, message.tunnel_refused)
                    else:
                        reports.take(message)
            finally:
                session.close()

        tasks = [
            asyncio.create_task(receive(), name=f"session of {node_name}"),
            asyncio.create_task(reports.run(), name=f"reports of {node_name}"),
        ]
        try:
            yield pb.ToNode(cluster=self.cluster)
            async with contextlib.aclosing(session.messages()) as messages:
                async for message in messages:
                    yield message
        finally:
            session.close()
            if self._sessions.get(node_name) is session:
                del self._sessions[node_name]
                log.info("node_disconnected", node=node_name)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def tunnel(self, node_name: str, frames: AsyncIterator[pb.TunnelFrame]) -> AsyncGenerator[pb.TunnelFrame, None]:
        """A tunnel that the node opens because it was asked to."""
        return self._tunnels.serve(node_name, frames)

    async def create_token(self, node_name: str, request: pb.TokenRequest) -> pb.TokenResponse:
        """A token for a pod of the node, bound to that pod.

        Raises:
            Forbidden: it is asked for another account, or bound to nothing of this node's.
        """
        if self._issue_token is None:
            raise ServiceUnavailable("this server issues no service account tokens")
        body: Obj = orjson.loads(request.request_json)
        bound = (body.get("spec") or {}).get("boundObjectRef") or {}
        pod = self._desired.pod(request.namespace, bound.get("name", ""))
        if (
            bound.get("kind") != "Pod"
            or pod is None
            or pod["metadata"]["uid"] != bound.get("uid")
            or pod["spec"].get("nodeName") != node_name
            or (pod["spec"].get("serviceAccountName") or "default") != request.service_account
        ):
            account = f"{request.namespace}/{request.service_account}"
            raise Forbidden(f'node "{node_name}" may have tokens of {account} only for a pod of that account bound to it')
        answer = await self._issue_token(node_user(node_name), request.namespace, request.service_account, body)
        return pb.TokenResponse(response_json=orjson.dumps(answer))

    async def join(self, user: User, request: pb.JoinRequest) -> pb.JoinResponse:
        """A certificate for a node, for who shows a bootstrap token or is that node already.

        Raises:
            Forbidden: the user may not become this node.
        """
        name = request.node_name
        if self._sign is None:
            raise ServiceUnavailable("this server signs no certificates of nodes")
        if user.node_name != name and BOOTSTRAPPERS_GROUP not in user.groups:
            raise Forbidden(
                f'user "{user.name}" may not join as node "{name}": a bootstrap token or the node\'s own certificate may'
            )
        certificate = self._sign(request.csr_pem, node_user(name))
        log.info("node_joined", node=name, by=user.name)
        return pb.JoinResponse(certificate_pem=certificate, ca_pem=self._ca_pem, cluster=self.cluster)

    def link(self, node_name: str) -> "LocalLink":
        """The same calls for an agent in this process."""
        return LocalLink(self, node_name)

    # For the API's handlers.

    def is_connected(self, node_name: str) -> bool:
        return node_name in self._sessions

    async def open_stream(
        self, node_name: str, purpose: pb.Logs | pb.Exec | pb.Attach | pb.PortForward | pb.Dial | pb.Stats
    ) -> NodeStream:
        """A tunnel to a node for one purpose.

        Raises:
            ServiceUnavailable: the node is not connected or does not answer.
        """
        session = self._sessions.get(node_name)
        if session is None:
            raise ServiceUnavailable(f"node {node_name} is not connected")
        request = pb.TunnelRequest()
        getattr(request, _PURPOSES[type(purpose).__name__]).CopyFrom(purpose)
        return await self._tunnels.open(node_name, request, session.send)

    async def open_logs(self, node_name: str, asked: pb.Logs) -> AsyncGenerator[bytes, None]:
        """A container's log in chunks. Raises ApiError before the first where there is none."""
        return await tunnels.log_chunks(await self.open_stream(node_name, asked))

    async def stats(self, node_name: str) -> bytes:
        """The node's stats summary as JSON."""
        return b"".join([chunk async for chunk in await tunnels.log_chunks(await self.open_stream(node_name, pb.Stats()))])


_PURPOSES = {
    "Logs": "logs",
    "Exec": "exec",
    "Attach": "attach",
    "PortForward": "port_forward",
    "Dial": "dial",
    "Stats": "stats",
}


class Session:
    """What waits to be sent down to one node: the newest state of each key, and messages of other kinds before them."""

    def __init__(self, node_name: str, hello: pb.Hello, desired: Desired) -> None:
        self.node_name = node_name
        self.without = frozenset(hello.without)
        self.reports: Reports | None = None
        self._desired = desired
        self._held: dict[Key, str] = {(h.resource, h.namespace, h.name): h.resource_version for h in hello.held}
        self._changes: dict[Key, Obj | None] = {}
        self._others: list[pb.ToNode] = []
        self._wake = asyncio.Event()
        self._closed = False

    def queue(self, key: Key, obj: Obj | None) -> None:
        # A key that is queued again keeps its place only if it has not been sent: what pods refer to stays before them.
        self._changes[key] = obj
        self._wake.set()

    def send(self, message: pb.ToNode) -> None:
        self._others.append(message)
        self._wake.set()

    def close(self) -> None:
        self._closed = True
        self._wake.set()

    async def messages(self) -> AsyncGenerator[pb.ToNode, None]:
        """Everything that the node needs, Synced, then every change, until the session is closed."""
        self._desired.add(self)
        try:
            wanted = set(self._changes)
            for message in self._resumed(wanted):
                yield message
            yield pb.ToNode(synced=pb.Synced())
            while not self._closed:
                while self._others or self._changes:
                    for message in self._next():
                        yield message
                self._wake.clear()
                if not self._closed:
                    await self._wake.wait()
        finally:
            self._desired.remove(self)

    def _resumed(self, wanted: set[Key]) -> Iterable[pb.ToNode]:
        """What differs from what the agent holds from before."""
        changes, self._changes = self._changes, {}
        for key, obj in changes.items():
            if obj is not None and self._held.get(key) != obj["metadata"].get("resourceVersion"):
                yield self._desired.frame(key, obj)
        for key in self._held:
            if key not in wanted:
                yield _removed(key)
        self._held = {}

    def _next(self) -> Iterable[pb.ToNode]:
        others, self._others = self._others, []
        yield from others
        if self._changes:
            key = next(iter(self._changes))
            obj = self._changes.pop(key)
            yield _removed(key) if obj is None else self._desired.frame(key, obj)


def _removed(key: Key) -> pb.ToNode:
    return pb.ToNode(removed=pb.Removed(resource=key[0], namespace=key[1], name=key[2]))


class LocalLink:
    """The node protocol within one process: what `agent.link.Link` asks for."""

    def __init__(self, nodes: Nodes, node_name: str) -> None:
        self._nodes = nodes
        self._node_name = node_name

    def session(self, up: AsyncIterator[pb.FromNode]) -> AsyncGenerator[pb.ToNode, None]:
        return self._nodes.session(self._node_name, up)

    def tunnel(self, frames: AsyncIterator[pb.TunnelFrame]) -> AsyncGenerator[pb.TunnelFrame, None]:
        return self._nodes.tunnel(self._node_name, frames)

    async def create_token(self, request: pb.TokenRequest) -> pb.TokenResponse:
        return await self._nodes.create_token(self._node_name, request)

    async def close(self) -> None:
        return None
