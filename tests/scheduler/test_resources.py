"""What pods count for: while they look for a node, on it, and while they are resized."""

from typing import Any

from kubelite.meta.types import Obj
from kubelite.scheduler import resources
from tests.scheduler.objects import pod

MEBI = 1024 * 1024


def resizing(wanted: str, has: str, allocated: str, **condition: Any) -> Obj:
    """A pod with a node, whose container asks for one amount of CPU, has another and was allocated a third."""
    state = {"name": "main", "resources": {"requests": {"cpu": has}}, "allocatedResources": {"cpu": allocated}}
    conditions = [{"type": "PodResizePending", "status": "True", **condition}] if condition else []
    return {**pod("a", cpu=wanted), "status": {"containerStatuses": [state], "conditions": conditions}}


def counted_cpu(obj: Obj) -> int:
    return resources.of_pod(obj["spec"], resized=resources.resized(obj))["cpu"]


def test_of_what_a_resized_container_wants_has_and_was_allocated_the_most_counts() -> None:
    assert counted_cpu(resizing("1", has="1", allocated="1")) == 1000
    assert counted_cpu(resizing("2", has="1", allocated="1")) == 2000
    assert counted_cpu(resizing("1", has="3", allocated="2")) == 3000
    assert counted_cpu(resizing("1", has="1", allocated="2")) == 2000


def test_what_a_node_can_not_give_does_not_count() -> None:
    assert counted_cpu(resizing("8", has="1", allocated="1", reason="Infeasible")) == 1000
    assert counted_cpu(resizing("8", has="1", allocated="1", reason="Deferred")) == 8000


def test_requests_of_a_pod_as_a_whole_take_the_place_of_its_containers() -> None:
    spec = {**pod("a", cpu="100m", memory="64Mi")["spec"], "resources": {"requests": {"cpu": "2", "example.com/gpu": "1"}}}
    assert resources.of_pod(spec) == {"cpu": 2000, "memory": 64 * MEBI}


def test_nodes_are_compared_with_stand_ins_for_what_is_not_requested() -> None:
    nothing = pod("a")["spec"]
    assert resources.looking_for_a_node(nothing) == resources.on_its_node(nothing) == (100, 200 * MEBI)
    whole = {**pod("a", cpu="1")["spec"], "resources": {"requests": {"cpu": "2"}}}
    assert resources.looking_for_a_node(whole) == (1000, 200 * MEBI)
    assert resources.on_its_node(whole) == (2000, 200 * MEBI)
