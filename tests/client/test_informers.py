import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from kubelite.client.informers import Informers
from kubelite.meta.errors import ServiceUnavailable
from kubelite.meta.types import Obj
from tests.client.fakes import DictClient


@pytest.fixture
def client() -> DictClient:
    return DictClient()


@pytest.fixture
async def informers(client: DictClient) -> AsyncIterator[Informers]:
    informers = Informers(client)  # type: ignore[arg-type]
    task = asyncio.create_task(informers.run())
    await asyncio.sleep(0)
    yield informers
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def wait_for(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0)


async def test_an_informer_holds_what_the_client_handed_out(client: DictClient, informers: Informers) -> None:
    web = await client.put("pods", "web", "default")
    pods = informers.of("pods")
    await informers.wait_synced()
    assert pods.get("web", "default") is web
    api = await client.put("pods", "api", "other")
    await wait_for(lambda: len(pods) == 2)
    assert pods.list("other") == [api]
    await client.remove("pods", "web", "default")
    await wait_for(lambda: pods.get("web", "default") is None)
    assert pods.list() == [api]


async def test_an_informer_is_shared(informers: Informers) -> None:
    assert informers.of("pods") is informers.of("pods")
    assert informers.metadata_of("pods") is informers.of("pods")


async def test_a_subscriber_gets_current_objects_first_and_changes_in_order(client: DictClient, informers: Informers) -> None:
    first = await client.put("pods", "web", "default")
    pods = informers.of("pods")
    await informers.wait_synced()
    seen: list[tuple[Obj | None, Obj | None]] = []
    stop = pods.subscribe(lambda old, new: seen.append((old, new)))
    assert seen == [(None, first)]
    second = await client.put("pods", "web", "default", spec={"nodeName": "n1"})
    await client.remove("pods", "web", "default")
    await wait_for(lambda: len(seen) == 3)
    assert seen[1] == (first, second)
    assert seen[2][0] is not None and seen[2][0]["spec"] == {"nodeName": "n1"} and seen[2][1] is None
    stop()
    await client.put("pods", "web", "default")
    await wait_for(lambda: len(pods) == 1)
    assert len(seen) == 3


async def test_a_handler_that_fails_costs_the_others_nothing(client: DictClient, informers: Informers) -> None:
    pods = informers.of("pods")
    seen: list[str] = []

    def fail(old: Obj | None, new: Obj | None) -> None:
        raise RuntimeError("broken")

    pods.subscribe(fail)
    pods.subscribe(lambda old, new: seen.append((new or {})["metadata"]["name"]))
    await client.put("pods", "web", "default")
    await wait_for(lambda: seen == ["web"])


async def test_an_index_follows_changes(client: DictClient, informers: Informers) -> None:
    pods = informers.of("pods")
    await client.put("pods", "a", "default", spec={"nodeName": "n1"})
    await informers.wait_synced()
    pods.add_index("node", lambda pod: [pod["spec"]["nodeName"]])
    assert [p["metadata"]["name"] for p in pods.by_index("node", "n1")] == ["a"]
    await client.put("pods", "a", "default", spec={"nodeName": "n2"})
    await wait_for(lambda: pods.by_index("node", "n2"))
    assert pods.by_index("node", "n1") == []
    await client.remove("pods", "a", "default")
    await wait_for(lambda: not pods.by_index("node", "n2"))


async def test_a_watch_that_ends_is_resumed_without_a_list(client: DictClient, informers: Informers) -> None:
    pods = informers.of("pods")
    await client.put("pods", "a", "default")
    await informers.wait_synced()
    lists = client.lists
    await client.end_watches()
    await client.put("pods", "b", "default")
    await wait_for(lambda: len(pods) == 2)
    assert client.lists == lists


async def test_an_expired_watch_lists_again_and_reports_the_differences(client: DictClient, informers: Informers) -> None:
    pods = informers.of("pods")
    await client.put("pods", "gone", "default")
    await client.put("pods", "kept", "default")
    await client.put("pods", "anew", "default")
    await informers.wait_synced()
    await wait_for(lambda: len(pods) == 3)
    events: list[tuple[str, str]] = []

    def note(old: Obj | None, new: Obj | None) -> None:
        name = (new or old or {})["metadata"]["name"]
        events.append(("gone" if new is None else "new" if old is None else "changed", name))

    pods.subscribe(note)
    events.clear()
    # All of this happens before the informer gets to see it, so that only a list can tell.
    client.objects.pop(("pods", "default", "gone"))
    anew = {"metadata": {"name": "anew", "namespace": "default", "uid": "other"}}
    client.objects["pods", "default", "anew"] = client.stamp(anew)
    await client.end_watches(compact=True)
    await wait_for(lambda: len(events) == 3)
    assert sorted(events) == [("gone", "anew"), ("gone", "gone"), ("new", "anew")]
    assert pods.get("gone", "default") is None


async def test_a_server_that_does_not_answer_is_asked_again(client: DictClient, informers: Informers) -> None:
    client.failures = [ServiceUnavailable("starting"), ConnectionError("refused")]
    await client.put("pods", "a", "default")
    pods = informers.of("pods")
    async with asyncio.timeout(30):
        await informers.wait_synced()
    assert len(pods) == 1
    assert client.lists == 3


async def test_a_metadata_informer_keeps_no_content(client: DictClient, informers: Informers) -> None:
    await client.put("configmaps", "a", "default", data={"k": "v"}, metadata={"annotations": {"x": "y"}, "managedFields": [{}]})
    found = informers.metadata_of("configmaps")
    await informers.wait_synced()
    assert found.list()[0].keys() == {"apiVersion", "kind", "metadata"}
    assert found.list()[0]["metadata"].keys() == {"name", "namespace", "uid", "resourceVersion"}
