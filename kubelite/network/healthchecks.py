"""Health check node ports: a load balancer asks each node whether it has endpoints of a service whose traffic stays on the node.

Source: pkg/proxy/healthcheck/service_health.go, v1.34.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import orjson
import structlog

from kubelite.meta.types import Obj

log = structlog.get_logger(__name__)

_HEAD_LIMIT = 8 * 1024
_TIMEOUT_S = 5.0

Key = tuple[str, str]


def port_of(service: Obj) -> int:
    """The port at which a node tells of a service; 0 where it need not."""
    spec = service["spec"]
    is_asked = spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"
    return int(spec.get("healthCheckNodePort") or 0) if is_asked else 0


def local_endpoints(slices: Iterable[Obj], node_name: str) -> int:
    """How many ready endpoints of a service are on a node."""
    return len(
        {
            endpoint["addresses"][0]
            for item in slices
            for endpoint in item.get("endpoints") or ()
            if endpoint.get("nodeName") == node_name and (endpoint.get("conditions") or {}).get("ready") is not False
        }
    )


@dataclass(slots=True)
class _Check:
    key: Key
    port: int
    endpoints: int
    server: asyncio.Server | None = None

    def answer(self) -> bytes:
        namespace, name = self.key
        service = {"namespace": namespace, "name": name}
        body = orjson.dumps({"service": service, "localEndpoints": self.endpoints, "serviceProxyHealthy": True})
        status = b"200 OK" if self.endpoints else b"503 Service Unavailable"
        head = (
            b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n"
            b"X-Load-Balancing-Endpoint-Weight: %d\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
        )
        return head % (status, self.endpoints, len(body)) + body


class HealthChecks:
    """Those of one node's proxy. `close` when it ends."""

    def __init__(self, node_name: str) -> None:
        self._node_name = node_name
        self._checks: dict[Key, _Check] = {}

    async def follow(self, keys: Iterable[Key], services: Mapping[Key, Obj], slices: Mapping[Key, Mapping[str, Obj]]) -> None:
        """Takes up what changed of some services."""
        for key in keys:
            service = services.get(key)
            port = port_of(service) if service is not None else 0
            check = self._checks.get(key)
            if check is not None and check.port != port:
                self._close(self._checks.pop(key))
                check = None
            if not port:
                continue
            endpoints = local_endpoints(slices.get(key, {}).values(), self._node_name)
            if check is None:
                check = self._checks[key] = _Check(key, port, endpoints)
                await self._open(check)
            check.endpoints = endpoints

    def close(self) -> None:
        while self._checks:
            self._close(self._checks.popitem()[1])

    async def _open(self, check: _Check) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                async with asyncio.timeout(_TIMEOUT_S):
                    await reader.readuntil(b"\r\n\r\n")
                    writer.write(check.answer())
                    await writer.drain()
            except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                log.debug("health_check_broken_off", port=check.port)
            finally:
                writer.close()

        try:
            check.server = await asyncio.start_server(serve, None, check.port, limit=_HEAD_LIMIT, reuse_address=True)
        except OSError as e:
            log.warning("health_check_not_served", service="/".join(check.key), port=check.port, error=str(e))

    def _close(self, check: _Check) -> None:
        if check.server is not None:
            check.server.close()
