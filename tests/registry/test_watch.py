"""Watch."""

import asyncio
from collections.abc import Callable

import orjson
import pytest

from kubelite.meta import errors
from kubelite.meta.types import Obj
from kubelite.registry import watch as watches
from kubelite.registry.watch import RegistryWatch
from tests.registry.conftest import Cluster

Make = Callable[..., Obj]


async def take(watch: RegistryWatch, count: int) -> list[tuple[str, Obj]]:
    """The next events as clients read them."""
    found: list[tuple[str, Obj]] = []
    async with asyncio.timeout(30):
        while len(found) < count:
            for item in await watch.next_batch():
                event = orjson.loads(watch.frame(item))
                found.append((event["type"], event["object"]))
    assert len(found) == count
    return found


def seen(events: list[tuple[str, Obj]]) -> list[tuple[str, str]]:
    return [(kind, obj["metadata"].get("name", "")) for kind, obj in events]


async def test_a_watch_after_a_revision_sees_what_came_later(cluster: Cluster, config_map: Make) -> None:
    made = await cluster.create("configmaps", config_map("a"))
    watch = cluster.watch("configmaps", resource_version=made["metadata"]["resourceVersion"])
    await cluster.patch("configmaps", "a", b'{"data":{"a":"2"}}')
    await cluster.create("configmaps", config_map("b"))
    await cluster.delete("configmaps", "a")
    events = await take(watch, 3)
    assert seen(events) == [("MODIFIED", "a"), ("ADDED", "b"), ("DELETED", "a")]
    versions = [int(obj["metadata"]["resourceVersion"]) for _, obj in events]
    assert versions == sorted(versions)
    assert events[2][1]["data"] == {"a": "2"}


async def test_a_watch_from_zero_starts_with_what_is_there(cluster: Cluster, config_map: Make) -> None:
    await cluster.create("configmaps", config_map("a"))
    watch = cluster.watch("configmaps", resource_version="0")
    await cluster.create("configmaps", config_map("b"))
    assert seen(await take(watch, 2)) == [("ADDED", "a"), ("ADDED", "b")]


async def test_initial_events_end_with_a_bookmark(cluster: Cluster, config_map: Make) -> None:
    await cluster.create("configmaps", config_map("a"))
    watch = cluster.watch(
        "configmaps", send_initial_events=True, resource_version_match=r"NotOlderThan", allow_watch_bookmarks=True
    )
    events = await take(watch, 2)
    assert seen(events) == [("ADDED", "a"), ("BOOKMARK", "")]
    bookmark = events[1][1]
    assert bookmark["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert (bookmark["kind"], bookmark["apiVersion"]) == ("ConfigMap", "v1")
    assert int(bookmark["metadata"]["resourceVersion"]) == cluster.registry.store.revision


async def test_no_initial_events_when_they_are_not_wanted(cluster: Cluster, config_map: Make) -> None:
    await cluster.create("configmaps", config_map("a"))
    watch = cluster.watch("configmaps", send_initial_events=False, resource_version_match=r"NotOlderThan")
    await cluster.create("configmaps", config_map("b"))
    assert seen(await take(watch, 1)) == [("ADDED", "b")]


async def test_an_object_that_starts_to_match_is_added_and_one_that_stops_is_deleted(cluster: Cluster, config_map: Make) -> None:
    watch = cluster.watch("configmaps", label_selector="on=yes")
    await cluster.create("configmaps", config_map("a"))
    await cluster.patch("configmaps", "a", b'{"metadata":{"labels":{"on":"yes"}}}')
    await cluster.patch("configmaps", "a", b'{"data":{"a":"2"}}')
    gone = await cluster.patch("configmaps", "a", b'{"metadata":{"labels":null}}')
    await cluster.delete("configmaps", "a")
    await cluster.create("configmaps", config_map("b", metadata={"labels": {"on": "yes"}}))
    events = await take(watch, 4)
    assert seen(events) == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a"), ("ADDED", "b")]
    last = events[2][1]
    assert last["metadata"]["labels"] == {"on": "yes"}
    assert last["metadata"]["resourceVersion"] == gone["metadata"]["resourceVersion"]


async def test_frames_are_made_once_for_all_watchers(cluster: Cluster, config_map: Make) -> None:
    first, second = cluster.watch("configmaps"), cluster.watch("configmaps", label_selector="!none")
    await cluster.create("configmaps", config_map("a"))
    [a], [b] = await first.next_batch(), await second.next_batch()
    assert first.frame(a) is second.frame(b)


async def test_a_watch_from_a_compacted_revision_is_expired(
    cluster: Cluster, config_map: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kubelite.store.contract import Compacted

    def compacted(prefix: str, after: int) -> None:
        raise Compacted(after, 50)

    monkeypatch.setattr(cluster.registry.store, "watch", compacted)
    watch = cluster.watch("configmaps", resource_version="1")
    with pytest.raises(errors.Expired, match=r"too old resource version: 1 \(50\)"):
        await watch.next_batch()


async def test_a_watch_from_the_future_starts_there(cluster: Cluster, config_map: Make) -> None:
    after = cluster.registry.store.revision + 1
    watch = cluster.watch("configmaps", resource_version=str(after))
    await cluster.create("configmaps", config_map("a"))
    await cluster.create("configmaps", config_map("b"))
    assert seen(await take(watch, 1)) == [("ADDED", "b")]


async def test_an_idle_watch_gets_bookmarks(cluster: Cluster, config_map: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watches, "BOOKMARK_INTERVAL_S", 0.01)
    watch = cluster.watch("configmaps", allow_watch_bookmarks=True)
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}
    made = await cluster.create("secrets", secret)
    async with asyncio.timeout(30):
        while True:
            [(kind, bookmark)] = await take(watch, 1)
            assert kind == "BOOKMARK"
            if bookmark["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]:
                break


async def test_a_closed_watch_ends(cluster: Cluster) -> None:
    watch = cluster.watch("configmaps")
    waiting = asyncio.create_task(watch.next_batch())
    await asyncio.sleep(0)
    watch.close()
    with pytest.raises(errors.ServerTimeout):
        await waiting


async def test_watch_options_that_exclude_each_other_are_invalid(cluster: Cluster) -> None:
    with pytest.raises(errors.Invalid, match=r"sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"):
        cluster.watch("configmaps", send_initial_events=True)
    with pytest.raises(errors.Invalid, match=r"resourceVersionMatch is forbidden for watch unless sendInitialEvents"):
        cluster.watch("configmaps", resource_version_match=r"NotOlderThan")


async def test_events_are_watched_in_the_other_groups_version(cluster: Cluster) -> None:
    kind = cluster.registry.kinds.resource("events.k8s.io", "v1", "events")
    assert kind is not None
    from kubelite.registry.contract import ListOptions, Target

    watch = cluster.registry.watch(Target(kind, "default"), ListOptions())
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "e"},
        "involvedObject": {"kind": "Pod", "name": "web", "namespace": "default"},
        "message": "hello",
        "reason": "Testing",
        "type": "Normal",
    }
    await cluster.create("events", event)
    [(_, obj)] = await take(watch, 1)
    assert (obj["apiVersion"], obj["note"], obj["regarding"]["name"]) == ("events.k8s.io/v1", "hello", "web")
