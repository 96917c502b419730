"""The Nodes service: the node protocol for agents elsewhere. The peer's certificate says which node it is."""

import contextlib
from collections.abc import AsyncIterator

from kubelite.auth.contract import Authenticator
from kubelite.grpcapi import faults, identity
from kubelite.grpcapi.faults import Context
from kubelite.meta.errors import Forbidden
from kubelite.nodes.sessions import Nodes
from kubelite.rpc import node_pb2 as pb
from kubelite.rpc import node_pb2_grpc


class NodesService(node_pb2_grpc.NodesServicer):
    """Wraps `nodes.sessions.Nodes`."""

    def __init__(self, nodes: Nodes, authenticator: Authenticator) -> None:
        self._nodes = nodes
        self._authenticator = authenticator

    async def Join(self, request: pb.JoinRequest, context: Context) -> pb.JoinResponse:
        try:
            user = await identity.user_of(context, self._authenticator)
            return await self._nodes.join(user, request)
        except Exception as e:  # noqa: BLE001 - the outer filter of this service
            await faults.abort(context, e)

    async def Session(self, request_iterator: AsyncIterator[pb.FromNode], context: Context) -> AsyncIterator[pb.ToNode]:
        try:
            node_name = await self._node(context)
            async with contextlib.aclosing(self._nodes.session(node_name, request_iterator)) as session:
                async for message in session:
                    yield message
        except Exception as e:  # noqa: BLE001 - the outer filter of this service
            await faults.abort(context, e)

    async def Tunnel(self, request_iterator: AsyncIterator[pb.TunnelFrame], context: Context) -> AsyncIterator[pb.TunnelFrame]:
        try:
            node_name = await self._node(context)
            async with contextlib.aclosing(self._nodes.tunnel(node_name, request_iterator)) as tunnel:
                async for frame in tunnel:
                    yield frame
        except Exception as e:  # noqa: BLE001 - the outer filter of this service
            await faults.abort(context, e)

    async def CreateToken(self, request: pb.TokenRequest, context: Context) -> pb.TokenResponse:
        try:
            return await self._nodes.create_token(await self._node(context), request)
        except Exception as e:  # noqa: BLE001 - the outer filter of this service
            await faults.abort(context, e)

    async def _node(self, context: Context) -> str:
        """The node that calls. Raises Forbidden for anybody else."""
        user = await identity.user_of(context, self._authenticator)
        if not user.node_name:
            raise Forbidden(f'user "{user.name}" is no node: the node protocol wants the certificate of system:node:NAME')
        return user.node_name
