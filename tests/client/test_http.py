"""The HTTP client against a server of this process."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from kubelite.client.http import HttpClient, parse_event
from kubelite.client.informers import Informers
from kubelite.meta.errors import AlreadyExists, BadRequest, Conflict, Expired, Invalid, NotFound, ServiceUnavailable, Unauthorized
from kubelite.testing.cluster import Cluster, running

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("server"), part="server") as cluster:
        yield cluster


@pytest.fixture
async def client(server: Cluster, tmp_path: Path) -> AsyncIterator[HttpClient]:
    import base64

    config = yaml.safe_load(server.kubeconfig.read_text())
    user, ca = config["users"][0]["user"], config["clusters"][0]["cluster"]["certificate-authority-data"]
    files = []
    for name in ("client-certificate-data", "client-key-data"):
        file = tmp_path / name
        file.write_bytes(base64.b64decode(user[name]))
        files.append(str(file))
    made = HttpClient(server.server, ca_pem=base64.b64decode(ca), certificate_file=files[0], key_file=files[1])
    async with made:
        yield made


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": data}


async def test_an_object_is_created_changed_and_deleted(client: HttpClient) -> None:
    made = await client.create("configmaps", config_map("a", k="1"))
    assert (await client.get("configmaps", "a", "default"))["data"] == {"k": "1"}
    with pytest.raises(AlreadyExists):
        await client.create("configmaps", config_map("a"))
    changed = await client.patch("configmaps", "a", "default", {"data": {"k": "2"}})
    with pytest.raises(Conflict):
        await client.update("configmaps", {**made, "data": {"k": "3"}})
    assert (await client.update("configmaps", {**changed, "data": {"k": "3"}}))["data"] == {"k": "3"}
    applied = {**config_map("a", own="x")}
    found = await client.patch("configmaps", "a", "default", applied, form="apply", field_manager="test")
    assert found["data"] == {"k": "3", "own": "x"}
    await client.delete("configmaps", "a", "default", precondition_uid=made["metadata"]["uid"])
    with pytest.raises(NotFound):
        await client.get("configmaps", "a", "default")


async def test_listed_items_are_whole_objects(client: HttpClient) -> None:
    for name in ("l1", "l2", "l3"):
        await client.create("configmaps", {**config_map(name), "metadata": {"name": name, "labels": {"l": "x"}}}, "default")
    listing = await client.list("configmaps", "default", label_selector="l=x", limit=2)
    assert len(listing.items) == 2 and listing.items[0]["kind"] == "ConfigMap" and listing.items[0]["apiVersion"] == "v1"
    rest = await client.list("configmaps", "default", label_selector="l=x", limit=2, continue_token=listing.continue_token)
    assert [i["metadata"]["name"] for i in rest.items] == ["l3"]
    await client.delete_collection("configmaps", "default", label_selector="l=x")
    assert (await client.list("configmaps", "default", label_selector="l=x")).items == []


async def test_a_watch_gives_what_comes_after_its_revision(client: HttpClient) -> None:
    listing = await client.list("configmaps", "default")
    stream = client.watch("configmaps", "default", resource_version=listing.resource_version, field_selector="metadata.name=w")
    await client.create("configmaps", config_map("w", k="1"))
    await client.patch("configmaps", "w", "default", {"data": {"k": "2"}})
    await client.delete("configmaps", "w", "default")
    async with asyncio.timeout(30):
        events = [await anext(stream) for _ in range(3)]
    assert [e.type for e in events] == ["ADDED", "MODIFIED", "DELETED"]
    assert events[1].obj["data"] == {"k": "2"}


def test_an_error_in_a_watch_is_raised_as_what_its_status_says() -> None:
    status = Expired("too old resource version: 1 (5)").status()
    with pytest.raises(Expired, match="too old resource version"):
        parse_event(orjson.dumps({"type": "ERROR", "object": status}))


async def test_groups_and_subresources_have_their_paths(client: HttpClient) -> None:
    spec = {"selector": {"matchLabels": {"a": "b"}}, "replicas": 0, "template": {"metadata": {"labels": {"a": "b"}}}}
    spec["template"]["spec"] = {"containers": [{"name": "c", "image": "i"}]}  # type: ignore[index]
    await client.create("deployments.apps", {"metadata": {"name": "d", "namespace": "default"}, "spec": spec})
    scale = await client.get("deployments.apps", "d", "default", subresource="scale")
    assert scale["kind"] == "Scale"
    await client.delete("deployments.apps", "d", "default")
    assert (await client.raw("GET", "/version"))["major"] == "1"


async def test_refusals_are_errors_of_their_reason(client: HttpClient) -> None:
    with pytest.raises(Invalid, match=r"metadata\.name"):
        await client.create("configmaps", config_map("Not A Name"))
    with pytest.raises(NotFound, match=r"has no resource nonsense\.example\.com"):
        await client.list("nonsense.example.com")
    with pytest.raises(BadRequest):
        await client.list("configmaps", "default", label_selector="a=(")


async def test_a_wrong_token_and_a_server_that_is_not_there_say_so(server: Cluster, client: HttpClient) -> None:
    import base64

    ca = yaml.safe_load(server.kubeconfig.read_text())["clusters"][0]["cluster"]["certificate-authority-data"]
    async with HttpClient(server.server, ca_pem=base64.b64decode(ca), token="wrong") as stranger:
        with pytest.raises(Unauthorized):
            await stranger.list("configmaps", "default")
    async with HttpClient("http://127.0.0.1:9") as nobody:
        with pytest.raises(ServiceUnavailable):
            await nobody.list("configmaps")


async def test_informers_work_over_http(client: HttpClient) -> None:
    informers = Informers(client)
    namespaces = informers.of("namespaces")
    task = asyncio.create_task(informers.run())
    try:
        async with asyncio.timeout(30):
            await informers.wait_synced()
            assert namespaces.get("default") is not None
            seen = asyncio.Event()
            namespaces.subscribe(lambda old, new: seen.set() if new and new["metadata"]["name"] == "late" else None)
            await client.create("namespaces", {"metadata": {"name": "late"}})
            await seen.wait()
    finally:
        task.cancel()
