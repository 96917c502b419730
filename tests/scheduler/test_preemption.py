"""Preemption as transcripts: who would have to go, and the snapshot is left as it was."""

from typing import Any

from kubelite.meta.types import Obj
from kubelite.scheduler.decide import decide
from kubelite.scheduler.preemption import Outcome, preempt
from tests.scheduler.objects import ZONE, World, anti_affinity, node, pod, spread


def state_of(world: World) -> Any:
    snapshot = world.snapshot
    arrays = {name: array.tolist() for name, array in snapshot.requested.items()}
    return arrays, [sorted(pods) for pods in snapshot.pods], snapshot.compared_cpu.tolist()


def attempt(world: World, obj: Obj, *budgets: Obj) -> Outcome:
    decision = decide(world.snapshot, world.framework, world.templates.of(obj))
    assert decision.diagnosis is not None
    before = state_of(world)
    outcome = preempt(world.snapshot, world.framework, world.info(obj), decision.diagnosis, {"default": budgets})
    assert state_of(world) == before
    return outcome


def victims(outcome: Outcome) -> tuple[str, list[str]]:
    assert outcome.candidate is not None, outcome.message
    return outcome.candidate.node, [info.name for info in outcome.candidate.victims]


def test_as_few_and_unimportant_pods_as_possible_go() -> None:
    world = World(node("n1", cpu="4"))
    for name, cpu, priority in (("low", "1", 1), ("mid", "2", 5), ("small", "500m", 1), ("high", "500m", 100)):
        world.put(pod(name, cpu=cpu, priority=priority), "n1")
    assert victims(attempt(world, pod("a", cpu="1", priority=50))) == ("n1", ["low"])
    assert victims(attempt(world, pod("b", cpu="3", priority=50))) == ("n1", ["mid", "low"])


def test_the_node_with_the_least_important_victims_is_taken() -> None:
    world = World(node("n1", cpu="1"), node("n2", cpu="1"), node("n3", cpu="1"))
    for name, priority in (("n1", 5), ("n2", 3), ("n3", 4)):
        world.put(pod(f"on-{name}", cpu="1", priority=priority), name)
    assert victims(attempt(world, pod("a", cpu="1", priority=10))) == ("n2", ["on-n2"])


def test_of_equal_nodes_the_one_whose_victim_started_last_is_taken() -> None:
    world = World(node("n1", cpu="1"), node("n2", cpu="1"))
    for name, hour in (("n1", "10"), ("n2", "11")):
        obj = pod(f"on-{name}", cpu="1")
        world.put({**obj, "status": {"startTime": f"2026-01-01T{hour}:00:00Z"}}, name)
    assert victims(attempt(world, pod("a", cpu="1", priority=10)))[0] == "n2"


def test_disruption_budgets_are_respected_where_possible() -> None:
    world = World(node("n1", cpu="1"), node("n2", cpu="1"))
    world.put(pod("guarded", cpu="1", priority=1, labels={"app": "db"}), "n1")
    world.put(pod("free", cpu="1", priority=5), "n2")
    spec = {"selector": {"matchLabels": {"app": "db"}}}
    budget = {"metadata": {"name": "db"}, "spec": spec, "status": {"disruptionsAllowed": 0}}
    assert victims(attempt(world, pod("a", cpu="1", priority=10), budget)) == ("n2", ["free"])
    assert victims(attempt(world, pod("a", cpu="1", priority=10))) == ("n1", ["guarded"])


def test_without_pods_of_lower_priority_the_message_says_so() -> None:
    world = World(node("n1", cpu="1"), node("n2", cpu="1"))
    world.put(pod("equal", cpu="1", priority=10), "n1")
    world.put(pod("higher", cpu="1", priority=11), "n2")
    outcome = attempt(world, pod("a", cpu="1", priority=10))
    assert outcome.candidate is None
    assert outcome.message == "0/2 nodes are available: 2 No preemption victims found for incoming pod."
    decision = world.decide(pod("a", cpu="1", priority=10))
    assert decision.diagnosis is not None
    assert decision.diagnosis.message(outcome.message) == (
        "0/2 nodes are available: 2 Insufficient cpu. no new claims to deallocate, preemption: "
        "0/2 nodes are available: 2 No preemption victims found for incoming pod."
    )


def test_where_removing_pods_can_not_help_none_are_looked_for() -> None:
    world = World(node("n1", cpu="1"), node("n2", taints=[{"key": "x", "effect": "NoSchedule"}]))
    world.put(pod("low", cpu="1"), "n1")
    outcome = attempt(world, pod("a", cpu="2", priority=10))
    assert outcome.message == "0/2 nodes are available: 2 Preemption is not helpful for scheduling."


def test_a_pod_that_may_not_preempt_does_not() -> None:
    world = World(node("n1", cpu="1"))
    world.put(pod("low", cpu="1"), "n1")
    outcome = attempt(world, pod("a", cpu="1", priority=10, preemptionPolicy="Never"))
    assert (outcome.candidate, outcome.message) == (None, "not eligible due to preemptionPolicy=Never.")


def test_victims_are_found_for_affinity_and_spreading_too() -> None:
    world = World(node("n1", labels={ZONE: "a"}), node("n2", labels={ZONE: "b"}, cpu="0"))
    world.put(pod("web", labels={"app": "web"}), "n1")
    assert victims(attempt(world, pod("a", cpu="1", priority=1, affinity=anti_affinity(app="web")))) == ("n1", ["web"])
    constraints = [spread(ZONE)]
    assert victims(
        attempt(world, pod("b", cpu="1", priority=1, labels={"app": "web"}, topologySpreadConstraints=constraints))
    ) == ("n1", ["web"])
