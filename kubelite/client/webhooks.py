"""How webhooks (of admission, of conversion) are reached: over TLS, at a URL or behind a service, without redirects and with
a bound on everything.

A service is resolved to an address of one of its ready endpoints; the certificate must be for `NAME.NAMESPACE.svc`. The
address that was checked is the one that is dialled. Bodies of answers never reach the log (CVE-2022-3172, CVE-2020-8561,
CVE-2020-8562).
"""

import asyncio
import base64
import binascii
import ipaddress
import random
import ssl
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import orjson

from kubelite.client.informers import Informers
from kubelite.meta.types import Obj

if TYPE_CHECKING:
    import aiohttp

MAX_ANSWER_BYTES = 3 * 1024 * 1024
_KEPT_CONTEXTS = 256


class CallFailed(Exception):
    """A webhook could not be asked, or its answer is none. The text holds nothing of an answer's body."""


class Caller(Protocol):
    """Sends a review to what a clientConfig names and returns the parsed answer. Raises CallFailed."""

    async def call(self, config: Obj, review: Obj, timeout_s: float) -> Any: ...


class HttpCaller:
    """The Caller of a server. `close` ends its connections."""

    def __init__(self, informers: Informers) -> None:
        self._services = informers.of("services")
        self._slices = informers.of("endpointslices.discovery.k8s.io")
        self._slices.add_index("service", _service_of)
        self._session: aiohttp.ClientSession | None = None
        self._contexts: dict[str, ssl.SSLContext] = {}

    async def call(self, config: Obj, review: Obj, timeout_s: float) -> Any:
        import aiohttp

        url, name, shown = self._address(config)
        query = f"timeout={timeout_s:g}s"
        url = f"{url}{'&' if '?' in url else '?'}{query}"
        if self._session is None:
            # Pods and services come and go, so connections are kept only shortly, and cookies not at all.
            connector = aiohttp.TCPConnector(keepalive_timeout=15, limit=100)
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)
        where = f'Post "{shown}?{query}"'
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._session.post(
                    url,
                    data=orjson.dumps(review),
                    headers={"Content-Type": "application/json", "Accept": "application/json", "Host": urlsplit(shown).netloc},
                    ssl=self._context(config.get("caBundle") or ""),
                    server_hostname=name,
                    allow_redirects=False,
                ) as response,
            ):
                if response.status // 100 != 2:
                    raise CallFailed(f"{where}: the server answered with status {response.status}")
                body = await response.content.read(MAX_ANSWER_BYTES + 1)
                while len(body) <= MAX_ANSWER_BYTES and (more := await response.content.read(MAX_ANSWER_BYTES + 1 - len(body))):
                    body += more
        except TimeoutError:
            raise CallFailed(f"{where}: context deadline exceeded") from None
        except (aiohttp.ClientError, OSError) as error:
            raise CallFailed(f"{where}: {type(error).__name__}: {error}") from error
        if len(body) > MAX_ANSWER_BYTES:
            raise CallFailed(f"{where}: the answer is larger than {MAX_ANSWER_BYTES} bytes")
        try:
            return orjson.loads(body)
        except ValueError:
            raise CallFailed(f"{where}: the answer is no JSON") from None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _address(self, config: Obj) -> tuple[str, str, str]:
        """The URL to dial, the name that the certificate must be for, and the URL to speak of."""
        if config.get("url"):
            parts = urlsplit(config["url"])
            if parts.scheme != "https" or not parts.hostname:
                raise CallFailed("its URL must be https://HOST/PATH")
            return config["url"], parts.hostname, config["url"].partition("?")[0]
        service = config.get("service")
        if service is None:
            raise CallFailed("it has neither url nor service")
        namespace, name, port = service["namespace"], service["name"], service.get("port") or 443
        found = self._services.get(name, namespace)
        if found is None:
            raise CallFailed(f'service "{name}" not found')
        path = "/" + (service.get("path") or "").lstrip("/")
        host = f"{name}.{namespace}.svc"
        shown = f"https://{host}:{port}{path}"
        spec = found.get("spec") or {}
        if spec.get("type") == "ExternalName":
            return f"https://{spec.get('externalName')}:{port}{path}", host, shown
        address, target = self._endpoint(found, port)
        return f"https://{f'[{address}]' if ':' in address else address}:{target}{path}", host, shown

    def _endpoint(self, service: Obj, port: int) -> tuple[str, int]:
        """An address behind a service's port. Endpoints are written by users too, so only addresses that can be pods' count."""
        metadata, spec = service["metadata"], service.get("spec") or {}
        row = next((p for p in spec.get("ports") or () if p["port"] == port), None)
        if row is None:
            raise CallFailed(f'no service port {port} found for service "{metadata["name"]}"')
        candidates = []
        for part in self._slices.by_index("service", f"{metadata['namespace']}/{metadata['name']}"):
            target = next((p["port"] for p in part.get("ports") or () if (p.get("name") or "") == (row.get("name") or "")), None)
            if target is None:
                continue
            for endpoint in part.get("endpoints") or ():
                if (endpoint.get("conditions") or {}).get("ready") is not False:
                    candidates += [(address, target) for address in endpoint["addresses"] if is_dialable(address)]
        if not candidates:
            text = f'no endpoints available for service "{metadata["name"]}"'
            raise CallFailed(text)
        return random.choice(candidates)

    def _context(self, bundle: str) -> ssl.SSLContext:
        context = self._contexts.get(bundle)
        if context is None:
            try:
                pem = base64.b64decode(bundle).decode() if bundle else None
                context = ssl.create_default_context(cadata=pem)
            except (ssl.SSLError, ValueError, binascii.Error) as error:
                raise CallFailed(f"unable to load root certificates: {error}") from error
            if len(self._contexts) >= _KEPT_CONTEXTS:
                self._contexts.clear()
            self._contexts[bundle] = context
        return context


def is_dialable(address: str) -> bool:
    """Whether an endpoint's address may be a pod's: not this machine itself, not a metadata service, not many at once."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return not (found.is_loopback or found.is_link_local or found.is_multicast or found.is_unspecified or found.is_reserved)


def _service_of(part: Obj) -> tuple[str, ...]:
    name = (part["metadata"].get("labels") or {}).get("kubernetes.io/service-name")
    return (f"{part['metadata']['namespace']}/{name}",) if name else ()
