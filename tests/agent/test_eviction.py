"""Pods beyond their share of the node's disk."""

import os
from pathlib import Path

import pytest

from kubelite.agent import eviction, resources, usage
from kubelite.agent.eviction import overrun
from kubelite.agent.usage import ContainerUsage, Usage
from kubelite.meta.types import Obj
from tests.agent import conftest
from tests.agent.conftest import Cluster
from tests.agent.pods import container, pod

MI = 1 << 20


def limited(name: str, limit: str) -> Obj:
    return container(name, resources={"limits": {"ephemeral-storage": limit}})


def test_a_volume_has_its_own_limit() -> None:
    spec = pod(volumes=[{"name": "other", "emptyDir": {}}, {"name": "d", "emptyDir": {"sizeLimit": "1024Ki"}}])
    assert overrun(spec, Usage(volumes={"other": 9 * MI, "d": MI})) == ""
    text = 'Usage of EmptyDir volume "d" exceeds the limit "1Mi". '
    assert overrun(spec, Usage(volumes={"other": 9 * MI, "d": MI + 1})) == text


def test_a_pod_has_the_limits_of_its_containers_together_if_any_has_one() -> None:
    spec = pod(limited("a", "2Mi"), limited("b", "3Mi"), container("c"))
    assert overrun(spec, Usage(ephemeral_bytes=5 * MI)) == ""
    text = "Pod ephemeral local storage usage exceeds the total limit of containers 5Mi. "
    assert overrun(spec, Usage(ephemeral_bytes=5 * MI + 1)) == text
    assert overrun(pod(), Usage(ephemeral_bytes=1 << 50)) == ""


def test_a_containers_layer_and_logs_count_together() -> None:
    spec = pod(limited("a", "2Mi"), limited("b", "9Mi"))
    assert overrun(spec, Usage({"a": ContainerUsage(MI, MI)}, ephemeral_bytes=2 * MI)) == ""
    text = 'Container a exceeded its local ephemeral storage limit "2Mi". '
    assert overrun(spec, Usage({"a": ContainerUsage(MI, MI + 1)}, ephemeral_bytes=2 * MI + 1)) == text


def test_only_pods_with_a_limit_are_measured_and_critical_ones_never() -> None:
    assert not eviction.is_limited(pod(volumes=[{"name": "d", "emptyDir": {}}]))
    assert eviction.is_limited(pod(volumes=[{"name": "d", "emptyDir": {"sizeLimit": "1Mi"}}]))
    assert eviction.is_limited(pod(limited("a", "1Mi")))
    assert resources.is_critical(pod(priority=2_000_000_000))
    assert not resources.is_critical(pod(priority=1_999_999_999))


def test_a_directory_is_measured_by_its_blocks_and_each_file_once(tmp_path: Path) -> None:
    empty = usage.of_directory(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_bytes(b"x" * 100_000)
    os.link(tmp_path / "a" / "file", tmp_path / "same")
    (tmp_path / "link").symlink_to("/")
    with (tmp_path / "sparse").open("wb") as sparse:
        sparse.truncate(1 << 40)
    assert 100_000 <= usage.of_directory(tmp_path) - empty < 130_000
    assert usage.of_directory(tmp_path / "gone") == 0


async def test_a_pod_beyond_its_limit_is_evicted(cluster: Cluster) -> None:
    fields = {"resources": {"limits": {"ephemeral-storage": "5Mi"}}}
    await cluster.run_pod(conftest.container("c", **fields), terminationGracePeriodSeconds=600)
    await cluster.until_pod(lambda p: p["status"]["phase"] == "Running")
    await eviction.check(cluster.agent.context, cluster.agent.pods)
    worker = cluster.agent.pods.worker("default", "web")
    assert worker is not None and worker.active
    cluster.runtime.set(layer_bytes=6 * MI)
    await eviction.check(cluster.agent.context, cluster.agent.pods)
    found = await cluster.until_pod(lambda p: p["status"]["phase"] == "Failed")
    text = "Pod ephemeral local storage usage exceeds the total limit of containers 5Mi. "
    assert (found["status"]["reason"], found["status"]["message"]) == ("Evicted", text)
    assert "DisruptionTarget" not in {c["type"] for c in found["status"]["conditions"]}

    async def told() -> bool:
        return "Evicted" in await cluster.reasons()

    await cluster.until(told, "the eviction's event")


@pytest.mark.parametrize("begun", [True, False])
async def test_what_a_node_refuses_shows_the_reason_alone(cluster: Cluster, begun: bool) -> None:
    if begun:
        await cluster.run_pod(name="other")
        await cluster.until_pod(lambda p: p["status"]["phase"] == "Running", "other")
    await cluster.run_pod(nodeSelector={"disk": "none"})
    found = await cluster.until_pod(lambda p: p["status"]["phase"] == "Failed")
    text = "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
    assert (found["status"]["reason"], found["status"]["message"]) == ("NodeAffinity", text)
    assert "containerStatuses" not in found["status"]
    assert not found["status"].get("conditions")
