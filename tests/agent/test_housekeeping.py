"""What a node does now and then."""

import pytest

from kubelite.agent import housekeeping
from kubelite.agent.machine import Disk
from kubelite.agent.pods import Pods
from tests.agent.conftest import NODE, Cluster, container

MI = 1 << 20


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 100 Mi only 14 are free: 6 too few."""
    monkeypatch.setattr("kubelite.agent.machine.disk", lambda _: Disk(100 * MI, 14 * MI, 100, 100))


async def images(cluster: Cluster) -> set[str]:
    return {tag for image in await cluster.runtime.list_images() for tag in image.tags}


async def test_the_images_least_recently_used_go_until_there_is_room(cluster: Cluster, full_disk: None) -> None:
    for number in range(8):  # of 1 Mi each
        await cluster.runtime.pull_image(f"old{number}:1")
    await cluster.run_pod(container(image="used:1"))
    await cluster.until_pod(lambda p: p["status"]["phase"] == "Running")
    for image in await cluster.runtime.list_images():
        cluster.agent.context.images.last_used_s[image.id] = 1000.0 if "old7" in image.tags[0] else 500.0
    await housekeeping.collect_images(cluster.agent.context, cluster.agent.pods)
    left = await images(cluster)
    assert {"docker.io/library/used:1", "docker.io/library/old7:1"} <= left
    assert len(left) == 3

    cluster.agent.context.recorder.node("Normal", "Collected", "")  # events keep their order: those before it have arrived

    async def told() -> bool:
        return "Collected" in await cluster.reasons(NODE)

    await cluster.until(told, "the events")
    assert "FreeDiskSpaceFailed" not in await cluster.reasons(NODE)


async def test_images_that_are_new_or_needed_stay_and_the_node_says_that_it_is_full(cluster: Cluster, full_disk: None) -> None:
    await cluster.runtime.pull_image("fresh:1")
    for image in await cluster.runtime.list_images():
        cluster.agent.context.images.last_used_s[image.id] = cluster.agent.context.now()
    await housekeeping.collect_images(cluster.agent.context, cluster.agent.pods)
    assert await images(cluster) == {"docker.io/library/fresh:1"}

    async def told() -> bool:
        events = await cluster.client.list("events", "default")
        text = "Failed to garbage collect required amount of images."
        text += f" Attempted to free {6 * MI} bytes, but only found 0 bytes eligible to free."
        return any(e["message"] == text for e in events.items)

    await cluster.until(told, "the warning")


async def test_nothing_goes_while_there_is_room(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubelite.agent.machine.disk", lambda _: Disk(100 * MI, 16 * MI, 100, 100))
    await cluster.runtime.pull_image("old:1")
    await housekeeping.collect_images(cluster.agent.context, cluster.agent.pods)
    assert await images(cluster) == {"docker.io/library/old:1"}


async def test_an_image_that_came_before_its_pod_is_given_time(cluster: Cluster, full_disk: None) -> None:
    await cluster.runtime.pull_image("early:1")
    context = cluster.agent.context
    assert await housekeeping.remove_images(context, cluster.agent.pods) == 0
    later_s = context.now() + housekeeping.IMAGES_MIN_AGE_S
    context.now = lambda: later_s
    assert await housekeeping.remove_images(context, cluster.agent.pods) == MI
    assert await images(cluster) == set()


async def test_the_images_of_containers_stay_though_their_pods_are_not_known_yet(cluster: Cluster) -> None:
    await cluster.run_pod(container(image="used:1"))
    await cluster.until_pod(lambda p: p["status"]["phase"] == "Running")
    for image in await cluster.runtime.list_images():
        cluster.agent.context.images.last_used_s[image.id] = 0.0
    assert await housekeeping.remove_images(cluster.agent.context, Pods(cluster.agent.context)) == 0
    assert await images(cluster) == {"docker.io/library/used:1"}
