"""Pods whose resources change while they run."""

from typing import Any

import orjson
import pytest

from kubelite.agent import admission, resizing
from kubelite.agent.resizing import Resize, Standing
from kubelite.meta.types import Obj
from runtimes.interface import RuntimeFault
from tests.agent.conftest import Cluster, container, status_of
from tests.agent.pods import container as spec_of
from tests.agent.pods import pod, sidecar


def asking(cpu: str, memory: str = "64Mi") -> Obj:
    return {"limits": {"cpu": cpu, "memory": memory}, "requests": {"cpu": cpu, "memory": memory}}


def test_what_was_given_takes_the_place_of_what_is_asked_for() -> None:
    wish = pod(spec_of("c", resources=asking("2")), initContainers=[sidecar("s"), spec_of("i", resources=asking("1"))])
    assert resizing.with_resources(wish, resizing.resources_of(wish)) is wish
    made = resizing.with_resources(wish, {"c": asking("1"), "s": {}})
    assert made["spec"]["containers"][0]["resources"] == asking("1")
    assert made["spec"]["initContainers"][1]["resources"] == asking("1")
    assert wish["spec"]["containers"][0]["resources"] == asking("2")


def test_an_agent_that_starts_finds_what_was_given_in_the_status_while_a_wish_waits() -> None:
    status = {"containerStatuses": [{"name": "c", "resources": asking("1"), "allocatedResources": {"cpu": "1"}}]}
    wish = pod(spec_of("c", resources=asking("2")), status=status)
    assert resizing.given_before(wish) == {"c": asking("2")}
    status["conditions"] = [{"type": "PodResizePending", "status": "True"}]
    assert resizing.given_before(wish) == {"c": {**asking("1"), "requests": {"cpu": "1"}}}


def test_the_conditions_of_a_resize() -> None:
    pending = resizing.waiting(None, "Deferred", "no room", 3, 1000.0)
    found = resizing.conditions(Resize(pending, Standing(2, 0.0)))
    assert found[0] == {
        "type": "PodResizePending",
        "status": "True",
        "lastProbeTime": "1970-01-01T00:16:40Z",
        "lastTransitionTime": "1970-01-01T00:16:40Z",
        "reason": "Deferred",
        "message": "no room",
        "observedGeneration": 3,
    }
    assert (found[1]["type"], found[1]["observedGeneration"], "reason" in found[1]) == ("PodResizeInProgress", 2, False)
    assert resizing.waiting(pending, "Deferred", "still", 4, 2000.0).since_s == 1000.0
    assert resizing.waiting(pending, "Infeasible", "never", 4, 2000.0).since_s == 2000.0


async def resize(cluster: Cluster, resources: Obj, name: str = "web") -> None:
    patch = {"spec": {"containers": [{"name": "c", "resources": resources}]}}
    await cluster.client.patch("pods", name, "default", patch, form="strategic", subresource="resize")


def condition(found: Obj, kind: str) -> Obj | None:
    return next((c for c in found["status"]["conditions"] if c["type"] == kind), None)


def shown(found: Obj) -> Any:
    return status_of(found).get("resources", {}).get("limits", {}).get("cpu")


async def test_a_resized_pod_gets_its_new_limits_without_a_restart(cluster: Cluster) -> None:
    await cluster.run_pod(container(resources=asking("1")))
    await cluster.until_pod(lambda p: p["status"]["phase"] == "Running")
    await resize(cluster, asking("1500m"))
    found = await cluster.until_pod(lambda p: shown(p) == "1500m" and not condition(p, "PodResizeInProgress"))
    assert status_of(found)["restartCount"] == 0
    assert status_of(found)["allocatedResources"] == asking("1500m")["requests"]
    assert found["status"]["observedGeneration"] == found["metadata"]["generation"] == 2

    async def told() -> bool:
        events = await cluster.client.list("events", "default")
        texts = [e["message"] for e in events.items if e["reason"] == "ResizeCompleted"]
        summary = {"containers": [{"name": "c", "resources": asking("1500m")}]}
        return [orjson.loads(t.removeprefix("Pod resize completed: ")) for t in texts] == [summary]

    await cluster.until(told, "the end of the resize")


async def test_what_the_node_never_has_is_infeasible_and_taken_back_without_a_trace(cluster: Cluster) -> None:
    await cluster.run_pod(container(resources=asking("1")))
    await cluster.until_pod(lambda p: p["status"]["phase"] == "Running")
    await resize(cluster, asking("1000"))
    found = await cluster.until_pod(lambda p: condition(p, "PodResizePending"))
    pending = condition(found, "PodResizePending")
    assert pending is not None
    assert (pending["reason"], pending["observedGeneration"]) == ("Infeasible", 2)
    assert pending["message"].startswith("Node didn't have enough capacity: cpu, requested: 1000000, capacity: ")
    assert shown(found) == "1"
    await resize(cluster, asking("1"))
    await cluster.until_pod(lambda p: not condition(p, "PodResizePending"))


async def test_what_others_have_is_deferred_until_they_go(cluster: Cluster) -> None:
    cluster.agent.context.allocatable = {**cluster.agent.context.allocatable, "cpu": "2"}
    await cluster.run_pod(container(resources=asking("1")))
    await cluster.run_pod(container(resources=asking("500m")), name="other", terminationGracePeriodSeconds=1)
    for name in ("web", "other"):
        await cluster.until_pod(lambda p: p["status"]["phase"] == "Running", name)
    await resize(cluster, asking("2"))
    found = await cluster.until_pod(lambda p: condition(p, "PodResizePending"))
    pending = condition(found, "PodResizePending")
    text = "Node didn't have enough resource: cpu, requested: 2000, used: 500, capacity: 2000"
    assert pending is not None
    assert (pending["reason"], pending["message"]) == ("Deferred", text)
    worker = cluster.agent.pods.worker("default", "web")
    assert worker is not None
    assert worker.claim == admission.claim_of(worker.pod)
    assert worker.claim.requests["cpu"] == 1000
    await cluster.client.delete("pods", "other", "default")
    await cluster.until_pod(lambda p: shown(p) == "2" and not condition(p, "PodResizePending"))


@pytest.mark.slow
async def test_a_resize_that_the_runtime_refuses_says_why_until_it_works(cluster: Cluster) -> None:
    await cluster.run_pod(container(resources=asking("1")))
    await cluster.until_pod(lambda p: p["status"]["phase"] == "Running")
    cluster.runtime.set(faults=lambda verb, _: RuntimeFault("busy", "Unknown") if verb == "update_container_resources" else None)
    await resize(cluster, asking("1500m"))
    found = await cluster.until_pod(lambda p: (condition(p, "PodResizeInProgress") or {}).get("reason") == "Error")
    progress = condition(found, "PodResizeInProgress")
    assert progress is not None
    assert progress["message"] == "busy"
    assert shown(found) == "1"
    cluster.runtime.set(faults={})
    await cluster.until_pod(lambda p: shown(p) == "1500m" and not condition(p, "PodResizeInProgress"))


async def test_memory_does_not_shrink_below_what_is_used(cluster: Cluster) -> None:
    await cluster.run_pod(container(resources=asking("1", "64Mi")))
    await cluster.until_pod(lambda p: p["status"]["phase"] == "Running")
    await resize(cluster, asking("1", "6Mi"))  # of 10 Mi that a simulated container uses
    found = await cluster.until_pod(lambda p: (condition(p, "PodResizeInProgress") or {}).get("reason") == "Error")
    progress = condition(found, "PodResizeInProgress")
    text = 'attempting to set container "c" memory limit (6291456) below current usage (10485760)'
    assert progress is not None
    assert progress["message"] == f"cannot decrease memory limits: {text}"
