"""The end of events."""

from kubelite.meta.types import Obj
from kubelite.registry.expiry import Expiry
from tests.registry.conftest import Cluster


def event(name: str) -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name},
        "involvedObject": {"kind": "Pod", "name": "web", "namespace": "default"},
        "reason": "Testing",
        "type": "Normal",
    }


async def test_events_are_removed_an_hour_after_their_last_write(cluster: Cluster) -> None:
    expiry = Expiry(cluster.registry, life_s=3600)
    await cluster.create("events", event("old"))
    await cluster.create("events", event("renewed"))
    await expiry.step(0)
    await cluster.patch("events", "renewed", b'{"count":2}')
    await cluster.create("events", event("new"))
    await expiry.step(1800)
    assert cluster.names(await cluster.page("events")) == ["new", "old", "renewed"]
    watch = cluster.watch("events", resource_version=str(cluster.registry.store.revision))
    await expiry.step(3600)
    assert cluster.names(await cluster.page("events")) == ["new", "renewed"]
    [item] = await watch.next_batch()
    assert item.type == "DELETED"
    assert cluster.registry.parsed(item.entry)["metadata"]["resourceVersion"] == str(item.entry.revision)
    await expiry.step(5400)
    assert (await cluster.page("events")).items == []


async def test_nothing_but_events_expires(cluster: Cluster) -> None:
    expiry = Expiry(cluster.registry, life_s=1)
    await cluster.create("secrets", {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}})
    await expiry.step(0)
    await expiry.step(10)
    assert cluster.names(await cluster.page("secrets")) == ["s"]
