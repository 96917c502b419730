"""The gRPC server: the node protocol, the Resources service, health and reflection.

gRPC's TLS can't ask for a client certificate without demanding one, so there are two ports: `port` for peers with a certificate
(nodes, and clients that have one) and the one after it for those with a token (a node that joins, a service account).
"""

import asyncio
import socket
from collections.abc import Callable, Sequence

import grpc
import grpc.aio
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health

from kubelite.auth.contract import Authenticator, Authorizer
from kubelite.auth.pki import KeyPair
from kubelite.grpcapi.nodes import NodesService
from kubelite.grpcapi.resources import ResourcesService
from kubelite.nodes.sessions import Nodes
from kubelite.registry.registry import Registry
from kubelite.rpc import node_pb2, node_pb2_grpc, resources_pb2, resources_pb2_grpc
from kubelite.schema.kinds import Kinds

log = structlog.get_logger()

MESSAGE_LIMIT_BYTES = 64 * 1024 * 1024
_OPTIONS: Sequence[tuple[str, int]] = (
    ("grpc.max_receive_message_length", 6 * 1024 * 1024),
    ("grpc.max_send_message_length", MESSAGE_LIMIT_BYTES),
    ("grpc.max_concurrent_streams", 1000),
    ("grpc.max_connection_idle_ms", 300_000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    # Another server on the same port must be an error, not a silent sharing of connections.
    ("grpc.so_reuseport", 0),
)


def _try_listening(address: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((address, port))


class GrpcServer:
    """`start`, then `stop`; it serves in between by itself.

    `certificate` is asked at every connection, so that a renewed one is used from the next on. A thread of gRPC calls it.
    """

    def __init__(
        self,
        nodes: Nodes,
        registry: Registry,
        kinds: Kinds,
        authenticator: Authenticator,
        authorizer: Authorizer,
        *,
        certificate: Callable[[], KeyPair],
        ca_pem: bytes,
    ) -> None:
        self._server = grpc.aio.server(options=_OPTIONS)
        node_pb2_grpc.add_NodesServicer_to_server(  # type: ignore[no-untyped-call]
            NodesService(nodes, authenticator), self._server
        )
        resources_pb2_grpc.add_ResourcesServicer_to_server(  # type: ignore[no-untyped-call]
            ResourcesService(registry, kinds, authenticator, authorizer), self._server
        )
        self._health = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._names = [
            node_pb2.DESCRIPTOR.services_by_name["Nodes"].full_name,
            resources_pb2.DESCRIPTOR.services_by_name["Resources"].full_name,
        ]
        self._certificate = certificate
        self._ca_pem = ca_pem
        self.port = 0
        self.token_port = 0

    async def start(self, address: str, port: int, token_port: int | None = None) -> None:
        """Listens on both ports (0: any free ones; the token port is the one after `port` unless it is given).

        Raises:
            OSError: a port is taken.
        """
        from grpc_reflection.v1alpha import reflection

        reflection.enable_server_reflection(
            [*self._names, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME], self._server
        )
        self.port = self._listen(address, port, self._credentials(require_client_certificate=True))
        if token_port is None:
            token_port = port + 1 if port else 0
        self.token_port = self._listen(address, token_port, self._credentials(require_client_certificate=False))
        await self._server.start()
        for name in ("", *self._names):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        log.info("grpc_ready", port=self.port, token_port=self.token_port)

    def _credentials(self, *, require_client_certificate: bool) -> grpc.ServerCredentials:
        authorities = self._ca_pem if require_client_certificate else None

        def configured() -> grpc.ServerCertificateConfiguration:
            pair = self._certificate()
            return grpc.ssl_server_certificate_configuration([(pair.key_pem, pair.certificate_pem)], authorities)

        return grpc.dynamic_ssl_server_credentials(configured(), configured, require_client_certificate)

    def _listen(self, address: str, port: int, credentials: grpc.ServerCredentials) -> int:
        host = f"[{address}]" if ":" in address else address
        try:
            _try_listening(address, port)  # gRPC does not tell why it can't, and writes about it on its own
            bound = self._server.add_secure_port(f"{host}:{port}", credentials)
        except OSError as e:
            raise OSError(f"cannot listen on {host}:{port} for nodes: {e.strerror}") from e
        except RuntimeError as e:
            raise OSError(f"cannot listen on {host}:{port} for nodes: {e}") from e
        return int(bound)

    async def stop(self, grace_s: float) -> None:
        """Tells clients that it ends, lets calls finish for a while, then ends them."""
        await self._health.enter_graceful_shutdown()
        await asyncio.shield(self._server.stop(grace_s))
