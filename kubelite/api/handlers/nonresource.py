"""What is not a resource: discovery, health, version, OpenAPI, metrics, the issuer's documents."""

import asyncio
import platform
from importlib import import_module
from typing import TYPE_CHECKING

import orjson

from kubelite import KUBERNETES_VERSION
from kubelite.api import negotiation
from kubelite.api.handlers import NOT_FOUND, absent, not_allowed
from kubelite.api.requests import Reply, Request, Streamed
from kubelite.schema.kinds import Kind

if TYPE_CHECKING:
    from kubelite.api.app import Api

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}


#: What the paths begin with that are served here.
_HEADS = frozenset(("", ".well-known", "api", "apis", "healthz", "livez", "metrics", "openapi", "openid", "readyz", "version"))


async def handle(api: "Api", request: Request, _kind: Kind | None) -> Reply | Streamed:
    path = request.path
    head = path.removeprefix("/").partition("/")[0]
    if head not in _HEADS or path.startswith("/apis//"):
        return NOT_FOUND
    if request.method not in ("GET", "HEAD"):
        raise not_allowed()
    if head in ("healthz", "livez", "readyz"):
        return api.health.reply(path, request.query) or NOT_FOUND
    if head in ("version", "openid", ".well-known"):
        path = path.rstrip("/")  # generated clients ask for /version/
    if head in ("api", "apis"):
        reply = _discovery(api, request)
        if reply is not NOT_FOUND:
            return reply
        aggregated = await api.aggregated(request) if api.aggregated is not None else None
        return aggregated or absent(api, path.split("/")[2] if head == "apis" else "")
    if head == "openapi":
        return _openapi(api, request)
    if path == "/version":
        return Reply(200, version_document())
    if path == "/.well-known/kubelite":
        # For a machine that joins and knows nothing but this address; what it says is verified by the CA later.
        return Reply(200, orjson.dumps({"nodePort": api.node_port}))
    if path in ("/metrics", "/metrics/slis"):
        return await _metrics(api, slis=path == "/metrics/slis")
    if path == "/.well-known/openid-configuration":
        return Reply(200, orjson.dumps(api.issuer.openid_configuration(f"{api.address}/openid/v1/jwks")))
    if path == "/openid/v1/jwks":
        return Reply(200, orjson.dumps(api.issuer.jwks()), b"application/jwk-set+json")
    if path == "/":
        return Reply(200, orjson.dumps({"paths": _paths(api)}, option=orjson.OPT_INDENT_2))
    return NOT_FOUND


async def _metrics(api: "Api", *, slis: bool) -> Reply:
    exposition = await asyncio.to_thread(import_module, "kubelite.api.exposition")
    sources = (api.health.families(),) if slis else (api.metrics.families(), api.metrics.durations())
    taken = exposition.taken(*sources)
    return Reply(200, await asyncio.to_thread(exposition.text, taken, process=not slis), exposition.CONTENT_TYPE)


def _discovery(api: "Api", request: Request) -> Reply:
    path = request.path.rstrip("/")
    if path in ("/api", "/apis"):
        media = negotiation.accepted(request.headers.get("Accept", ""), discovery=True)
        if media.form:
            found = api.discovery.aggregate(path, media.version)
            return _tagged(request, found, media.content_type, b"Vary: Accept\r\n")
    return _tagged(request, api.discovery.document(path), b"application/json", b"Vary: Accept\r\n")


def _openapi(api: "Api", request: Request) -> Reply:
    path = "/" + request.path.strip("/")
    if path == "/openapi/v3":
        return _tagged(request, api.openapi.v3_index(), b"application/json")
    media = negotiation.accepted_document(request.headers.get("Accept", ""), message=path == "/openapi/v2")
    vary = b"Vary: Accept\r\n"
    if not media:
        return Reply(406, b"", b"text/plain; charset=utf-8", vary)
    if path == "/openapi/v2":
        document = api.openapi.v2(message=media == negotiation.SWAGGER)
        return _tagged(request, document, media.encode(), vary)
    if not path.startswith("/openapi/v3/"):
        return NOT_FOUND
    name = path.removeprefix("/openapi/v3/")
    found = api.openapi.v3(name)
    wanted = request.query.get("hash", [""])[0]
    if found is None:
        return NOT_FOUND
    if not wanted:
        return _tagged(request, found, media.encode(), vary)
    if wanted != found[1]:
        where = f"Location: /openapi/v3/{name}?hash={found[1]}\r\n"
        return Reply(301, b"", media.encode(), vary + where.encode())
    # A document under its hash never changes, so clients may keep it for good.
    reply = _tagged(request, found, media.encode(), vary + b"Expires: Thu, 31 Dec 2099 23:59:59 GMT\r\n")
    reply.cache_control = b"public, immutable"
    return reply


def _tagged(request: Request, found: tuple[bytes, str] | None, content_type: bytes, headers: bytes = b"") -> Reply:
    if found is None:
        return NOT_FOUND
    body, tag = found
    headers += b'Etag: "%b"\r\n' % tag.encode()
    if tag in request.headers.get("If-None-Match", ""):
        return Reply(304, b"", content_type, headers)
    return Reply(200, body, content_type, headers)


def version_document() -> bytes:
    major, minor, _ = KUBERNETES_VERSION.removeprefix("v").split(".")
    machine = platform.machine()
    return orjson.dumps(
        {
            "major": major,
            "minor": minor,
            "emulationMajor": major,
            "emulationMinor": minor,
            "minCompatibilityMajor": major,
            "minCompatibilityMinor": str(int(minor) - 1),
            "gitVersion": f"{KUBERNETES_VERSION}+kubelite",
            "gitCommit": "",
            "gitTreeState": "clean",
            "buildDate": "1970-01-01T00:00:00Z",
            "goVersion": "",
            "compiler": f"python{platform.python_version()}",
            "platform": f"linux/{_MACHINES.get(machine, machine)}",
        },
        option=orjson.OPT_INDENT_2,
    )


def _paths(api: "Api") -> list[str]:
    paths = ["/.well-known/openid-configuration", "/api", "/api/v1", "/apis", "/apis/"]
    for group in api.discovery.groups():
        paths.append(f"/apis/{group}")
        paths += [f"/apis/{group}/{v}" for v in api.kinds.versions(group)]
    for endpoint in ("healthz", "livez", "readyz"):
        paths.append(f"/{endpoint}")
        paths += [f"/{endpoint}/{name}" for name in api.health.names(endpoint)]
    paths += ["/metrics", "/metrics/slis", "/openapi/v2", "/openapi/v3", "/openid/v1/jwks", "/version"]
    return sorted(paths)
