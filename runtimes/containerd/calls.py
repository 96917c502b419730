"""The gRPC channel to containerd's socket, and its errors as the interface's. The only place that knows gRPC's codes."""

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

import grpc

from runtimes.interface import NotFound, RuntimeFault, Unreachable

T = TypeVar("T")

#: The limit of containerd's own clients, for lists with many containers and their annotations.
_MESSAGE_LIMIT_BYTES = 64 << 20


def channel(socket: str) -> grpc.aio.Channel:
    """A channel to a unix socket; it connects when first used and again after a restart of the daemon."""
    return grpc.aio.insecure_channel(
        f"unix:{socket}",
        options=[
            # containerd's HTTP/2 server refuses the percent-encoded path that gRPC would send as the authority
            ("grpc.default_authority", "localhost"),
            ("grpc.max_receive_message_length", _MESSAGE_LIMIT_BYTES),
            ("grpc.max_send_message_length", _MESSAGE_LIMIT_BYTES),
            ("grpc.enable_http_proxy", 0),
            # channels to one socket would share a connection, and a stopped backend's state with it
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.initial_reconnect_backoff_ms", 50),
            ("grpc.min_reconnect_backoff_ms", 50),
            ("grpc.max_reconnect_backoff_ms", 1000),
        ],
    )


async def answer(call: Awaitable[T], socket: str = "") -> T:
    """The call's answer, or the interface's error for its failure."""
    try:
        return await call
    except grpc.aio.AioRpcError as e:
        raise fault(e, socket) from e
    except asyncio.CancelledError:
        raise
    except grpc.aio.UsageError as e:  # the channel was closed under the call
        raise Unreachable(f"containerd at {socket} was disconnected: {e}") from e


def fault(e: Any, socket: str = "") -> RuntimeFault:
    code, details = e.code(), e.details() or ""
    name = "".join(word.capitalize() for word in code.name.split("_"))
    if code == grpc.StatusCode.NOT_FOUND:
        return NotFound(details, name)
    if code == grpc.StatusCode.UNAVAILABLE:
        return Unreachable(f"containerd at {socket} does not answer: {details}", name)
    if code in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED):
        return Unreachable(f"containerd did not answer in time: {details}", name)
    return RuntimeFault(details or str(code), name)
