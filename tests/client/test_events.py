from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kubelite.client import events
from kubelite.client.events import EventRecorder
from kubelite.controllers import Settings
from kubelite.meta.types import Obj
from tests.controllers.conftest import Cluster

META: Obj = {"name": "web", "namespace": "default", "uid": "u1", "resourceVersion": "5"}
POD: Obj = {"apiVersion": "v1", "kind": "Pod", "metadata": META}


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with Cluster(tmp_path, Settings()) as made:
        yield made


async def test_an_event_names_its_object_its_source_and_its_time(cluster: Cluster) -> None:
    recorder = EventRecorder(cluster.client, "kubelet", "n1")
    recorder.event(POD, "Warning", "Failed", "it failed", field_path="spec.containers{c}")
    await recorder.flush()
    (event,) = await cluster.list("events")
    assert event["metadata"]["name"].startswith("web.")
    assert event["involvedObject"] == {
        "kind": "Pod",
        "apiVersion": "v1",
        "namespace": "default",
        "name": "web",
        "uid": "u1",
        "resourceVersion": "5",
        "fieldPath": "spec.containers{c}",
    }
    assert (event["type"], event["reason"], event["message"], event["count"]) == ("Warning", "Failed", "it failed", 1)
    assert event["source"] == {"component": "kubelet", "host": "n1"}
    assert event["firstTimestamp"] == event["lastTimestamp"]
    assert (event["reportingComponent"], event["reportingInstance"]) == ("kubelet", "n1")


async def test_events_about_what_has_no_namespace_are_in_default(cluster: Cluster) -> None:
    recorder = EventRecorder(cluster.client, "node-controller")
    recorder.event({"kind": "Node", "apiVersion": "v1", "name": "n1", "uid": "n1"}, "Normal", "RegisteredNode", "Node n1")
    await recorder.flush()
    (event,) = await cluster.list("events")
    assert event["metadata"]["namespace"] == "default"


async def test_a_repeated_event_counts_up(cluster: Cluster) -> None:
    recorder = EventRecorder(cluster.client, "kubelet")
    for _ in range(3):
        recorder.event(POD, "Normal", "Pulled", "pulled")
    await recorder.flush()
    (event,) = await cluster.list("events")
    assert event["count"] == 3
    await cluster.client.delete("events", event["metadata"]["name"], "default")
    recorder.event(POD, "Normal", "Pulled", "pulled")
    await recorder.flush()
    (again,) = await cluster.list("events")
    assert again["metadata"]["name"] != event["metadata"]["name"] and again["count"] == 1


async def test_many_alike_become_one_combined_event(cluster: Cluster) -> None:
    recorder = EventRecorder(cluster.client, "kubelet")
    for number in range(events.SIMILAR_LIMIT + 4):
        recorder.event(POD, "Normal", "Pulled", f"image {number}")
    await recorder.flush()
    found = await cluster.list("events")
    combined = [e for e in found if e["message"].startswith(events.COMBINED)]
    assert len(found) == events.SIMILAR_LIMIT
    assert [(e["count"], e["reportingComponent"]) for e in combined] == [(5, "")]


async def test_a_source_may_flood_about_one_object_only_so_much(cluster: Cluster) -> None:
    recorder = EventRecorder(cluster.client, "kubelet")
    for number in range(events.BURST + 10):
        recorder.event(POD, "Normal", f"Reason{number}", "text")
    other = {**POD, "metadata": {**POD["metadata"], "name": "api", "uid": "u2"}}
    recorder.event(other, "Normal", "Pulled", "text")
    await recorder.flush()
    found = await cluster.list("events")
    assert len(found) == events.BURST + 1
    assert recorder.statistics()["dropped"] == 10


async def test_a_full_queue_drops_events_and_never_blocks(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "QUEUE_LIMIT", 2)
    recorder = EventRecorder(cluster.client, "kubelet")
    named = recorder.named("scheduler")
    for number in range(5):
        named.event(POD, "Normal", f"Reason{number}", "text")
    assert recorder.statistics() == {"waiting": 2, "dropped": 3, "remembered": 0}
    await recorder.flush()
    assert {e["source"]["component"] for e in await cluster.list("events")} == {"scheduler"}


async def test_an_event_that_the_server_refuses_costs_the_others_nothing(cluster: Cluster) -> None:
    recorder = EventRecorder(cluster.client, "kubelet")
    nowhere = {**POD, "metadata": {**POD["metadata"], "namespace": "no such name", "uid": "u3"}}
    recorder.event(nowhere, "Normal", "Pulled", "text")
    recorder.event(POD, "Normal", "Pulled", "x" * 2000)
    await recorder.flush()
    (event,) = await cluster.list("events")
    assert len(event["message"]) == events.LONGEST_MESSAGE and event["message"].endswith("...")
