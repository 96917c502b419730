"""One real cluster with a simulated node for all tests of the API, and a client of its administrator."""

import base64
import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from kubelite.testing import cluster


@dataclass(frozen=True)
class Running:
    server: str
    ca_pem: str
    admin: Path

    def tls(self, *, admin: bool) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.ca_pem)
        if admin:
            context.load_cert_chain(self.admin)
        return context


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("cluster")
    with cluster.running(directory / "data") as found:
        config = yaml.safe_load(found.kubeconfig.read_text())
        user = config["users"][0]["user"]
        pem = directory / "admin.pem"
        pem.write_bytes(base64.b64decode(user["client-certificate-data"]) + base64.b64decode(user["client-key-data"]))
        ca = base64.b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"]).decode()
        yield Running(found.server, ca, pem)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        import orjson

        return orjson.loads(self.body)


class Http:
    """Requests with what a test wants to see: status, headers and the whole body."""

    def __init__(self, session: aiohttp.ClientSession, server: str) -> None:
        self.session, self.server = session, server

    async def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        data: dict[str, Any] = {"json": body} if isinstance(body, dict | list) else {"data": body}
        async with self.session.request(method, self.server + path, headers=named, allow_redirects=False, **data) as r:
            return Answer(r.status, r.headers, await r.read())

    async def get(self, path: str, **headers: str) -> Answer:
        return await self("GET", path, **headers)

    async def post(self, path: str, body: Any, **headers: str) -> Answer:
        return await self("POST", path, body, **headers)


@pytest.fixture
async def http(running: Running) -> AsyncIterator[Http]:
    """As the administrator."""
    connector = aiohttp.TCPConnector(ssl=running.tls(admin=True))
    async with aiohttp.ClientSession(connector=connector) as session:
        yield Http(session, running.server)


@pytest.fixture
async def stranger(running: Running) -> AsyncIterator[Http]:
    """Without any credentials."""
    connector = aiohttp.TCPConnector(ssl=running.tls(admin=False))
    async with aiohttp.ClientSession(connector=connector) as session:
        yield Http(session, running.server)


@pytest.fixture
async def namespace(http: Http, request: pytest.FixtureRequest) -> str:
    """A namespace of the test's own."""
    made = await http.post("/api/v1/namespaces", {"metadata": {"generateName": "test-"}})
    assert made.status == 201
    name: str = made.json["metadata"]["name"]
    # Its controllers are done with it, so that a test sees only its own doings.
    await appears(http, f"/api/v1/namespaces/{name}/configmaps", "kube-root-ca.crt")
    await appears(http, f"/api/v1/namespaces/{name}/serviceaccounts", "default")
    return name


async def appears(http: Http, path: str, name: str) -> None:
    url = f"{http.server}{path}?watch=1&resourceVersion=0&timeoutSeconds=20&fieldSelector=metadata.name%3D{name}"
    async with http.session.get(url) as stream:
        assert await stream.content.readline(), f"no {path}/{name}"
