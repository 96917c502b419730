"""Groups that other API servers serve: APIService objects with a service, and the way there.

A request for such a group goes on as it came, over TLS that is verified against the APIService's CA, with our front-proxy
certificate and who the client is in headers. Whether a server answers is asked now and then and stands in the APIService's
status; one that does not is refused at once. Redirects are relayed and never followed, bodies are never logged
(CVE-2022-3172).

Source: kube-aggregator pkg/apiserver (handler_proxy, handler_discovery) and pkg/controllers/status, v0.34.
"""

import asyncio
import base64
import ssl
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import orjson
import structlog
from aiohttp.http import HttpProcessingError

from kubelite.api import proxy
from kubelite.api.handlers.proxy import check_address, service_place
from kubelite.api.requests import Reply, Request, Streamed
from kubelite.api.streaming.bytestream import Closed
from kubelite.meta import times
from kubelite.meta.errors import ApiError, Conflict, NotFound, ServiceUnavailable
from kubelite.meta.types import Obj
from kubelite.rpc import node_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kubelite.api.app import Api
    from kubelite.meta.users import User

log = structlog.get_logger(__name__)

RESOURCE = "apiservices.apiregistration.k8s.io"
CHECK_S = 15.0
CHECK_TIMEOUT_S = 5.0


class Aggregation:
    """Answers what the table of kinds does not know. `run` keeps availability and discovery current."""

    def __init__(self, api: "Api", certificate: Path, key: Path) -> None:
        self._api = api
        self._certificate, self._key = certificate, key
        self._services = api.informers.of(RESOURCE)
        #: (group, version) -> its APIResourceList as the server told it; only what is available is here.
        self._resources: dict[tuple[str, str], Obj] = {}
        self._wake = asyncio.Event()

    async def __call__(self, request: Request) -> Reply | Streamed | None:
        found = self._of(request)
        if found is None:
            return None
        key = (found["spec"].get("group", ""), found["spec"]["version"])
        if key not in self._resources:
            return Reply(503, b"service unavailable\n", b"text/plain; charset=utf-8", b"X-Content-Type-Options: nosniff\r\n")
        path = request.raw_path + (f"?{request.query_text}" if request.query_text else "")
        # However long the other server takes is its own affair.
        request.connection.deadline = None
        async with self._connection(found) as (stream, host):
            return await proxy.forward(request, stream, host, path, "", identity_headers(request.user))

    def _of(self, request: Request) -> Obj | None:
        """The APIService of another server that a request's path belongs to."""
        parts = request.path.strip("/").split("/")
        if parts[0] != "apis" or len(parts) < 3:
            return None
        found = self._services.get(f"{parts[2]}.{parts[1]}")
        return found if found is not None and found["spec"].get("service") else None

    def groups(self) -> list[Obj]:
        """The groups of other servers, for aggregated discovery."""
        groups: dict[str, list[Obj]] = {}
        for (group, version), listing in sorted(self._resources.items()):
            resources = [_resource(r) for r in listing.get("resources") or () if "/" not in r["name"]]
            groups.setdefault(group, []).append({"version": version, "resources": resources, "freshness": "Current"})
        return [{"metadata": {"name": group}, "versions": versions} for group, versions in groups.items()]

    @asynccontextmanager
    async def _connection(self, service: Obj) -> "AsyncIterator[tuple[proxy.TlsBytes, str]]":
        """Raises ServiceUnavailable."""
        spec = service["spec"]
        reference = spec["service"]
        name, namespace = reference["name"], reference["namespace"]
        if self._api.nodes is None:
            raise ServiceUnavailable("this server has no connection to nodes")
        try:
            place = await service_place(self._api, namespace, "https", name, str(reference.get("port") or 443))
        except NotFound as e:
            raise ServiceUnavailable(f"service {namespace}/{name} not found") from e
        check_address(place.address)
        stream = await self._api.nodes.open_stream(place.node, pb.Dial(host=place.address, port=place.port))
        try:
            host = f"{name}.{namespace}.svc"
            secured = proxy.TlsBytes(proxy.NodeBytes(stream), self._tls(spec), host)
            try:
                await secured.handshake()
            except (Closed, OSError) as e:
                raise ServiceUnavailable(f"error trying to reach service: {e}") from e
            yield secured, host
        finally:
            await stream.close()

    def _tls(self, spec: Obj) -> ssl.SSLContext:
        if spec.get("insecureSkipTLSVerify"):
            context = proxy.unverified_tls()
        elif spec.get("caBundle"):
            context = ssl.create_default_context(cadata=base64.b64decode(spec["caBundle"]).decode())
        else:
            context = ssl.create_default_context()
        context.load_cert_chain(self._certificate, self._key)
        return context

    async def run(self) -> None:
        """Looks whether the other servers answer: at every change, and now and then."""
        self._services.subscribe(self._changed)
        while True:
            self._wake.clear()
            remote = [s for s in self._services.list() if s["spec"].get("service")]
            await asyncio.gather(*(self._check(service) for service in remote))
            known = {(s["spec"].get("group", ""), s["spec"]["version"]) for s in remote}
            for gone in self._resources.keys() - known:
                del self._resources[gone]
                self._api.discovery.changed()
            try:
                async with asyncio.timeout(CHECK_S if remote else None):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _changed(self, old: Obj | None, new: Obj | None) -> None:
        if old is None or new is None or old["spec"] != new["spec"]:
            self._wake.set()

    async def _check(self, service: Obj) -> None:
        spec = service["spec"]
        key = (spec.get("group", ""), spec["version"])
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                missing = await self._missing(spec["service"])
                listing = await self._ask(service, f"/apis/{key[0]}/{key[1]}") if missing is None else {}
        except (ApiError, Closed, OSError, TimeoutError, HttpProcessingError, ValueError) as e:
            message = e.message if isinstance(e, ApiError) else str(e) or "no answer in time"
            missing = ("FailedDiscoveryCheck", f"failing or missing response: {message}")
        if missing is not None:
            if self._resources.pop(key, None) is not None:
                self._api.discovery.changed()
            await self._tell(service, "False", *missing)
            return
        if self._resources.get(key) != listing:
            self._resources[key] = listing
            self._api.discovery.changed()
        await self._tell(service, "True", "Passed", "all checks passed")

    async def _missing(self, reference: Obj) -> tuple[str, str] | None:
        """What a service lacks to be asked, as a reason and a message."""
        name, namespace, number = reference["name"], reference["namespace"], reference.get("port", 443)
        what = f'service/{name} in "{namespace}"'
        try:
            service = await self._api.client.get("services", name, namespace)
        except NotFound:
            return "ServiceNotFound", f"{what} is not present"
        if service["spec"].get("type") != "ClusterIP":
            return None
        port = next((p.get("name", "") for p in service["spec"].get("ports") or () if p["port"] == number), None)
        if port is None:
            return "ServicePortError", f"{what} is not listening on port {number}"
        slices = await self._api.client.list(
            "endpointslices.discovery.k8s.io", namespace, label_selector=f"kubernetes.io/service-name={name}"
        )
        if not slices.items:
            return "EndpointsNotFound", f"cannot find endpointslices for {what}"
        if not any(_serves(found, port) for found in slices.items):
            return "MissingEndpoints", f'endpointslices for {what} have no addresses with port name "{port}"'
        return None

    async def _ask(self, service: Obj, path: str) -> Obj:
        async with self._connection(service) as (stream, host):
            status, body = await proxy.ask(
                stream, host, path, [("X-Remote-User", "system:kube-aggregator"), ("X-Remote-Group", "system:masters")]
            )
        if status != 200:
            raise ServiceUnavailable(f"bad status from {path}: {status}")
        listing: Any = orjson.loads(body)
        if not isinstance(listing, dict):
            raise ServiceUnavailable(f"{path} is no APIResourceList")
        return listing

    async def _tell(self, service: Obj, status: str, reason: str, message: str) -> None:
        conditions = (service.get("status") or {}).get("conditions") or []
        known = next((c for c in conditions if c["type"] == "Available"), None)
        if known is not None and (known["status"], known.get("reason"), known.get("message")) == (status, reason, message):
            return
        since = known.get("lastTransitionTime") if known is not None and known["status"] == status else None
        condition = {
            "type": "Available",
            "status": status,
            "lastTransitionTime": since or times.now(),
            "reason": reason,
            "message": message,
        }
        rest = [c for c in conditions if c["type"] != "Available"]
        try:
            await self._api.client.update(
                RESOURCE, {**service, "status": {"conditions": [*rest, condition]}}, subresource="status"
            )
        except (Conflict, NotFound):
            self._wake.set()


def _serves(found: Obj, port: str) -> bool:
    """Whether an EndpointSlice has a ready endpoint and a port of this name."""
    ready = any((endpoint.get("conditions") or {}).get("ready", True) for endpoint in found.get("endpoints") or ())
    return ready and any((p.get("name") or "") == port and p.get("port") for p in found.get("ports") or ())


def identity_headers(user: "User") -> list[tuple[str, str]]:
    """Who the client is, for a server that trusts our certificate to say so."""
    headers = [("X-Remote-User", user.name)]
    if user.uid:
        headers.append(("X-Remote-Uid", user.uid))
    headers += [("X-Remote-Group", group) for group in user.groups]
    for key, values in user.extra.items():
        headers += [(f"X-Remote-Extra-{quote(key, safe='')}", value) for value in values]
    return [(name, "".join(c for c in value if c.isprintable())) for name, value in headers]


def _resource(row: Obj) -> Obj:
    return {
        "resource": row["name"],
        "responseKind": {"group": row.get("group", ""), "version": row.get("version", ""), "kind": row.get("kind", "")},
        "scope": "Namespaced" if row.get("namespaced") else "Cluster",
        "singularResource": row.get("singularName", ""),
        "verbs": row.get("verbs") or [],
        **({"shortNames": row["shortNames"]} if row.get("shortNames") else {}),
        **({"categories": row["categories"]} if row.get("categories") else {}),
    }
