"""How an agent reaches a server: the three calls of the node protocol, over gRPC or within one process.

A link is stateless to its user: `session` may be called again after it broke. Over gRPC the channel reconnects by itself.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, Protocol

from kubelite.rpc import node_pb2 as pb

_OPTIONS: list[tuple[str, str | int]] = [
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    ("grpc.max_send_message_length", 64 * 1024 * 1024),
]


class LinkFault(Exception):
    """The server can't be reached or ended the call; try again."""


class Link(Protocol):
    def session(self, up: AsyncIterator[pb.FromNode]) -> AsyncGenerator[pb.ToNode, None]:
        """The session; `up` begins with a Hello. Ends or raises LinkFault when the connection is lost."""
        ...

    def tunnel(self, frames: AsyncIterator[pb.TunnelFrame]) -> AsyncGenerator[pb.TunnelFrame, None]:
        """A tunnel that the server asked for; the first frame names it. Raises LinkFault."""
        ...

    async def create_token(self, request: pb.TokenRequest) -> pb.TokenResponse:
        """A service account token for a pod of this node. Raises LinkFault."""
        ...

    async def close(self) -> None: ...


class GrpcLink:
    """The link over gRPC with mutual TLS. `credentials` gives (CA, certificate, key) in PEM; it is asked at each session, so that
    a renewed certificate is used from the next one on. `server_name` is what the server's certificate must be for, where it is
    reached by another name."""

    def __init__(self, server: str, credentials: Callable[[], tuple[bytes, bytes, bytes]], *, server_name: str = "") -> None:
        self._server = server
        self._credentials = credentials
        self._server_name = server_name
        self._known: tuple[bytes, bytes, bytes] | None = None
        self._channel: Any = None
        self._stub: Any = None

    async def _connect(self) -> None:
        """Opens a channel where the credentials have changed, in place of the one before."""
        credentials = await asyncio.to_thread(self._credentials)
        if credentials == self._known:
            return
        import grpc.aio  # 60 ms that an agent in the server's process does without

        from kubelite.rpc import node_pb2_grpc

        options = [*_OPTIONS, ("grpc.ssl_target_name_override", self._server_name)] if self._server_name else _OPTIONS
        ca, certificate, key = credentials
        replaced = self._channel
        tls = grpc.ssl_channel_credentials(ca, key, certificate)
        self._error = grpc.aio.AioRpcError
        self._channel = grpc.aio.secure_channel(self._server, tls, options)
        self._stub = node_pb2_grpc.NodesStub(self._channel)  # type: ignore[no-untyped-call]
        self._known = credentials
        if replaced is not None:
            await replaced.close()

    async def session(self, up: AsyncIterator[pb.FromNode]) -> AsyncGenerator[pb.ToNode, None]:
        await self._connect()
        call = self._stub.Session(up, wait_for_ready=True)
        try:
            async for message in call:
                yield message
        except self._error as e:
            raise LinkFault(f"{e.code().name}: {e.details()}") from e
        finally:
            call.cancel()

    async def tunnel(self, frames: AsyncIterator[pb.TunnelFrame]) -> AsyncGenerator[pb.TunnelFrame, None]:
        call = self._stub.Tunnel(frames)
        try:
            async for frame in call:
                yield frame
        except self._error as e:
            raise LinkFault(f"{e.code().name}: {e.details()}") from e
        finally:
            call.cancel()

    async def create_token(self, request: pb.TokenRequest) -> pb.TokenResponse:
        try:
            answer: pb.TokenResponse = await self._stub.CreateToken(request, timeout=30)
        except self._error as e:
            raise LinkFault(f"{e.code().name}: {e.details()}") from e
        return answer

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()
