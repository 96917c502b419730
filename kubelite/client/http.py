"""The Client over HTTP: for components that run outside the server's process, for tools and for tests.

Speaks to any Kubernetes API server. Resource names become paths through the server's discovery, asked for when a name is
first used and again when one is unknown. Redirects are not followed: a token goes to the server that was named, only.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Literal, NamedTuple

import aiohttp
import orjson

from kubelite.client.contract import Listing, PatchForm, WatchEvent
from kubelite.meta.errors import ApiError, InternalError, NotFound, ServiceUnavailable
from kubelite.meta.types import Obj
from kubelite.schema.kinds import version_priority

CONTENT_TYPES: Mapping[str, str] = {
    "json": "application/json-patch+json",
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}
LARGEST_EVENT_BYTES = 16 * 1024 * 1024


class _Resource(NamedTuple):
    root: str  # /api/v1 or /apis/apps/v1
    plural: str
    namespaced: bool


class HttpClient:
    """A Client of the server at `server` (an https URL). Close it, or use it as an async context manager."""

    def __init__(
        self,
        server: str,
        *,
        ca_pem: bytes = b"",
        token: str = "",
        certificate_file: str = "",
        key_file: str = "",
        timeout_s: float = 60.0,
        user_agent: str = "kubelite",
    ) -> None:
        self._server = server.rstrip("/")
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._headers = {"User-Agent": user_agent, "Accept": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._ssl: ssl.SSLContext | bool = True
        if self._server.startswith("https:"):
            context = ssl.create_default_context(cadata=ca_pem.decode() if ca_pem else None)
            if certificate_file:
                context.load_cert_chain(certificate_file, key_file or None)
            self._ssl = context
        self._session: aiohttp.ClientSession | None = None
        self._resources: dict[str, _Resource] = {}
        self._discovering = asyncio.Lock()

    async def __aenter__(self) -> "HttpClient":
        return self

    async def __aexit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends every request and connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def get(self, resource: str, name: str, namespace: str = "", *, subresource: str = "") -> Obj:
        return await self._request("GET", await self._path(resource, namespace, name, subresource))

    async def list(
        self,
        resource: str,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 0,
        continue_token: str = "",
        resource_version: str | None = None,
    ) -> Listing:
        query = _query(labelSelector=label_selector, fieldSelector=field_selector, limit=limit)
        query |= _query(**{"continue": continue_token, "resourceVersion": resource_version})
        found = await self._request("GET", await self._path(resource, namespace), query=query)
        items = found.get("items") or []
        # A list's items come without what the list says once; informers and controllers expect whole objects.
        kind, api_version = found.get("kind", "").removesuffix("List"), found.get("apiVersion", "")
        for item in items:
            item.setdefault("kind", kind)
            item.setdefault("apiVersion", api_version)
        meta = found.get("metadata") or {}
        return Listing(items, meta.get("resourceVersion", ""), meta.get("continue", ""))

    async def watch(
        self,
        resource: str,
        namespace: str = "",
        *,
        resource_version: str = "",
        label_selector: str = "",
        field_selector: str = "",
        bookmarks: bool = False,
    ) -> AsyncIterator[WatchEvent]:
        query = _query(watch="true", resourceVersion=resource_version, labelSelector=label_selector)
        query |= _query(fieldSelector=field_selector, allowWatchBookmarks="true" if bookmarks else "")
        path = await self._path(resource, namespace)
        endless = aiohttp.ClientTimeout(total=None, sock_connect=30)
        try:
            async with self._open().request(
                "GET", self._server + path, params=query, timeout=endless, ssl=self._ssl, allow_redirects=False
            ) as response:
                if response.status != 200:
                    raise _error(response.status, await response.read())
                rest = b""
                async for chunk in response.content.iter_any():
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        if line:
                            yield parse_event(line)
                    if len(rest) > LARGEST_EVENT_BYTES:
                        raise InternalError.of(f"a watch event of {resource} is larger than {LARGEST_EVENT_BYTES} bytes")
        except aiohttp.ClientPayloadError:
            return  # the server went away in the middle: the same as an ended watch, the caller goes on from its revision
        except (aiohttp.ClientError, TimeoutError, OSError) as e:
            raise ServiceUnavailable(f"watching {resource} at {self._server}: {e or type(e).__name__}") from e

    async def create(self, resource: str, obj: Obj, namespace: str = "", *, name: str = "", subresource: str = "") -> Obj:
        namespace = namespace or obj.get("metadata", {}).get("namespace", "")
        return await self._request("POST", await self._path(resource, namespace, name, subresource), obj)

    async def update(self, resource: str, obj: Obj, *, subresource: str = "") -> Obj:
        meta = obj["metadata"]
        path = await self._path(resource, meta.get("namespace", ""), meta["name"], subresource)
        return await self._request("PUT", path, obj)

    async def patch(
        self,
        resource: str,
        name: str,
        namespace: str,
        patch: object,
        *,
        form: PatchForm = "merge",
        subresource: str = "",
        field_manager: str = "",
        force: bool = False,
    ) -> Obj:
        path = await self._path(resource, namespace, name, subresource)
        query = _query(fieldManager=field_manager, force="true" if force else "")
        return await self._request("PATCH", path, patch, query=query, content_type=CONTENT_TYPES[form])

    async def delete(
        self,
        resource: str,
        name: str,
        namespace: str = "",
        *,
        grace_period_s: int | None = None,
        propagation_policy: Literal["Orphan", "Background", "Foreground"] | None = None,
        precondition_uid: str = "",
        precondition_resource_version: str = "",
    ) -> Obj:
        options: Obj = {"kind": "DeleteOptions", "apiVersion": "v1"}
        if grace_period_s is not None:
            options["gracePeriodSeconds"] = grace_period_s
        if propagation_policy is not None:
            options["propagationPolicy"] = propagation_policy
        preconditions = _query(uid=precondition_uid, resourceVersion=precondition_resource_version)
        if preconditions:
            options["preconditions"] = preconditions
        return await self._request("DELETE", await self._path(resource, namespace, name), options)

    async def delete_collection(
        self, resource: str, namespace: str = "", *, label_selector: str = "", field_selector: str = ""
    ) -> None:
        query = _query(labelSelector=label_selector, fieldSelector=field_selector)
        await self._request("DELETE", await self._path(resource, namespace), query=query)

    async def raw(self, method: str, path: str, body: object = None) -> Obj:
        """A request to any path, such as /version, whose answer is JSON."""
        return await self._request(method, path, body)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60)
            self._session = aiohttp.ClientSession(connector=connector, headers=self._headers)
        return self._session

    async def _request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: dict[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Obj:
        data = None if body is None else orjson.dumps(body)
        headers = {"Content-Type": content_type} if data is not None else {}
        try:
            async with self._open().request(
                method,
                self._server + path,
                params=query,
                data=data,
                headers=headers,
                timeout=self._timeout,
                ssl=self._ssl,
                allow_redirects=False,
            ) as response:
                answer = await response.read()
                if response.status >= 300:
                    raise _error(response.status, answer)
        except (aiohttp.ClientError, TimeoutError, OSError) as e:
            raise ServiceUnavailable(f"{method} {path} at {self._server}: {e or type(e).__name__}") from e
        parsed: Obj = orjson.loads(answer) if answer else {}
        return parsed

    async def _path(self, resource: str, namespace: str = "", name: str = "", subresource: str = "") -> str:
        found = self._resources.get(resource)
        if found is None:
            async with self._discovering:
                if resource not in self._resources:
                    self._resources = await self._discover()
            found = self._resources.get(resource)
            if found is None:
                raise NotFound(f"the server {self._server} has no resource {resource}")
        path = found.root
        if namespace and found.namespaced:
            path += f"/namespaces/{namespace}"
        path += f"/{found.plural}"
        if name:
            path += f"/{name}"
        return f"{path}/{subresource}" if subresource else path

    async def _discover(self) -> dict[str, _Resource]:
        resources: dict[str, _Resource] = {}
        core = await self._request("GET", "/api/v1")
        _add(resources, "/api/v1", "", core)
        groups = (await self._request("GET", "/apis")).get("groups") or []
        wanted = [(g["name"], v["version"]) for g in groups for v in _ordered(g)]
        answers = await asyncio.gather(
            *(self._request("GET", f"/apis/{group}/{version}") for group, version in wanted), return_exceptions=True
        )
        for (group, version), answer in zip(wanted, answers, strict=True):
            # An aggregated API that is down hides its own resources, not everybody's.
            if not isinstance(answer, BaseException):
                _add(resources, f"/apis/{group}/{version}", group, answer)
            elif not isinstance(answer, ApiError):
                raise answer
        return resources


def _ordered(group: Obj) -> list[Obj]:
    """A group's versions, the preferred one first."""
    preferred = (group.get("preferredVersion") or {}).get("version", "")
    return sorted(group["versions"], key=lambda v: (v["version"] == preferred, version_priority(v["version"])), reverse=True)


def _add(resources: dict[str, _Resource], root: str, group: str, answer: Obj) -> None:
    for entry in answer.get("resources") or ():
        name = entry["name"]
        if "/" not in name:
            resources.setdefault(f"{name}.{group}" if group else name, _Resource(root, name, entry["namespaced"]))


def _query(**values: str | int | None) -> dict[str, str]:
    """The parameters that are set."""
    return {name: str(value) for name, value in values.items() if value not in (None, "", 0)}


def parse_event(line: bytes) -> WatchEvent:
    """One line of a watch. Raises the ApiError that an ERROR event carries, such as Expired."""
    event = orjson.loads(line)
    if event["type"] == "ERROR":
        raise ApiError.from_status(event["object"])
    return WatchEvent(event["type"], event["object"])


def _error(code: int, body: bytes) -> ApiError:
    try:
        status = orjson.loads(body)
    except orjson.JSONDecodeError:
        status = None
    if isinstance(status, dict) and status.get("kind") == "Status":
        return ApiError.from_status(status)
    return ApiError(f"the server answered {code} without a Status", reason="", code=code)
