"""What the request chain and the handlers work with, in one place, and the server that answers.

The composition root builds an `Api`, then `ApiServer(api, ...)`; nothing in here is global.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from kubelite.api.audit import AuditLog
from kubelite.api.connections import Listener
from kubelite.api.discovery import Discovery
from kubelite.api.fairness import Fairness
from kubelite.api.filters import Chain
from kubelite.api.health import Health
from kubelite.api.metrics import Metrics
from kubelite.api.requests import Reply, Request, Streamed
from kubelite.auth.contract import Authenticator, Authorizer
from kubelite.schema.kinds import Kinds

if TYPE_CHECKING:
    from kubelite.api.openapi import OpenApi
    from kubelite.auth.rbac import Rbac
    from kubelite.auth.tokens import ServiceAccountTokens
    from kubelite.client.contract import Client
    from kubelite.client.informers import Informers
    from kubelite.nodes.sessions import Nodes
    from kubelite.registry.registry import Registry

#: Answers a request for a group that another server serves; None where none does.
Aggregated = Callable[[Request], Awaitable[Reply | Streamed | None]]


@dataclass(slots=True)
class Api:
    """The parts that a request needs."""

    registry: "Registry"
    kinds: Kinds
    authenticator: Authenticator
    authorizer: Authorizer
    rbac: "Rbac"
    issuer: "ServiceAccountTokens"
    #: For handlers that look things up as the server itself (reviews, proxies).
    client: "Client"
    informers: "Informers"
    discovery: Discovery
    openapi: "OpenApi"
    #: Where clients reach this server, https://HOST:PORT; known once it listens.
    address: str = ""
    #: The way to the nodes; None while there is none (an API server alone).
    nodes: "Nodes | None" = None
    #: The gRPC port for nodes, for those that know only this one's address.
    node_port: int = 0
    fairness: Fairness = field(default_factory=Fairness)
    health: Health = field(default_factory=Health)
    metrics: Metrics = field(default_factory=Metrics)
    audit: AuditLog | None = None
    aggregated: Aggregated | None = None

    def use_address(self, host: str, port: int) -> None:
        """Takes the address that clients are to use."""
        shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.address = f"https://{shown}"
        self.discovery.use_address(shown)


class ApiServer:
    """`start`, then `run` until cancelled, then `stop`."""

    def __init__(self, api: Api, tls: ssl.SSLContext | None) -> None:
        self._api = api
        self._listener = Listener(Chain(api).serve, tls)

    async def start(self, addresses: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
        return await self._listener.start(addresses)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listener.run(), name="connection deadlines")
            if self._api.audit is not None:
                tasks.create_task(self._api.audit.run(), name="audit log")

    async def stop(self, grace_s: float) -> None:
        await self._listener.stop(grace_s)


def server_tls(certificate: Path, key: Path, client_ca: Path) -> ssl.SSLContext:
    """TLS 1.2 or newer; a client certificate is verified where one is shown, and not demanded."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(client_ca)
    context.verify_mode = ssl.CERT_OPTIONAL
    # All suites on offer are strong, and the client knows which of them its processor is fast at.
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    return context
