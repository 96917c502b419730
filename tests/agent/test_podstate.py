"""What a pod needs next, for each state that its containers can be in."""

import pytest

from kubelite.agent.observation import hash_of
from kubelite.agent.podstate import (
    SANDBOX,
    Backoff,
    Decision,
    Ending,
    Memory,
    Verdict,
    Waiting,
    decide,
    should_restart,
)
from runtimes.interface import ContainerState
from tests.agent.pods import NOW_S, container, exited, observed, pod, record, sandbox, sidecar

PROBE = {"exec": {"command": ["true"]}}


def starts(decision: Decision) -> list[str]:
    return [s.name for s in decision.starts]


def kills(decision: Decision) -> list[str]:
    return [k.record.name for k in decision.kills]


def test_a_new_pod_gets_a_sandbox_first() -> None:
    decision = decide(pod(), observed(sandboxes=()), Memory(), NOW_S)
    assert decision.create_sandbox == 0
    assert starts(decision) == []


def test_nothing_is_decided_while_the_sandbox_is_being_made() -> None:
    decision = decide(pod(), observed(sandboxes=()), Memory(busy=frozenset({SANDBOX})), NOW_S)
    assert decision == Decision()


def test_in_a_sandbox_all_containers_start_in_their_order() -> None:
    decision = decide(pod(container("b"), container("a")), observed(), Memory(), NOW_S)
    assert starts(decision) == ["b", "a"]
    assert [s.restarts for s in decision.starts] == [0, 0]


def test_a_running_pod_needs_nothing() -> None:
    assert decide(pod(), observed(record("c")), Memory(), NOW_S) == Decision()


def test_what_is_being_started_is_not_started_again() -> None:
    assert starts(decide(pod(), observed(), Memory(busy=frozenset({"c"})), NOW_S)) == []


def test_init_containers_run_one_at_a_time() -> None:
    spec = pod(initContainers=[container("i1"), container("i2")])
    assert starts(decide(spec, observed(), Memory(), NOW_S)) == ["i1"]
    assert starts(decide(spec, observed(record("i1")), Memory(), NOW_S)) == []
    assert starts(decide(spec, observed(exited("i1")), Memory(), NOW_S)) == ["i2"]
    assert starts(decide(spec, observed(exited("i1"), exited("i2")), Memory(), NOW_S)) == ["c"]


def test_an_init_container_that_the_runtime_forgot_does_not_run_again_after_a_later_one() -> None:
    spec = pod(initContainers=[container("i1"), container("i2")])
    assert starts(decide(spec, observed(exited("i2")), Memory(), NOW_S)) == ["c"]


def test_init_containers_do_not_run_again_once_the_pod_has_begun() -> None:
    spec = pod(initContainers=[container("i1")])
    assert decide(spec, observed(record("c")), Memory(), NOW_S) == Decision()


def test_a_failed_init_container_is_tried_again_or_ends_the_pod() -> None:
    retried = decide(pod(initContainers=[container("i")]), observed(exited("i", 1)), Memory(), NOW_S)
    assert starts(retried) == ["i"]
    assert retried.starts[0].restarts == 1
    final = decide(pod(initContainers=[container("i")], restartPolicy="Never"), observed(exited("i", 1)), Memory(), NOW_S)
    assert final.terminating
    assert final.stop_sandboxes == ("s0",)


def test_a_sidecar_starts_before_the_next_init_container_and_holds_it_until_it_has_started() -> None:
    spec = pod(initContainers=[sidecar("s", startupProbe=PROBE), container("i")])
    assert starts(decide(spec, observed(), Memory(), NOW_S)) == ["s"]
    assert starts(decide(spec, observed(record("s")), Memory(), NOW_S)) == []
    memory = Memory(verdicts={"s-0": Verdict(started=True)})
    assert starts(decide(spec, observed(record("s")), memory, NOW_S)) == ["i"]


def test_a_sidecar_that_ended_is_restarted_while_the_pod_runs() -> None:
    spec = pod(initContainers=[sidecar("s")], restartPolicy="Never")
    assert starts(decide(spec, observed(exited("s"), record("c")), Memory(), NOW_S)) == ["s"]


def test_sidecars_end_once_all_others_have_and_the_pod_is_finished_after_them() -> None:
    spec = pod(initContainers=[sidecar("s1"), sidecar("s2")], restartPolicy="Never")
    running = decide(spec, observed(record("s1"), record("s2"), exited("c")), Memory(), NOW_S)
    assert sorted(kills(running)) == ["s1", "s2"]
    after = {k.record.name: k.after for k in running.kills}
    assert after == {"s1": frozenset({"s2"}), "s2": frozenset()}
    ended = decide(spec, observed(exited("s1"), exited("s2"), exited("c")), Memory(), NOW_S)
    assert ended.stop_sandboxes == ("s0",)
    last = observed(exited("s1"), exited("s2"), exited("c"), sandboxes=(sandbox(ready=False),))
    assert decide(spec, last, Memory(), NOW_S).finished


@pytest.mark.parametrize(
    ("policy", "code", "again"),
    [("Always", 0, True), ("Always", 1, True), ("OnFailure", 0, False), ("OnFailure", 1, True), ("Never", 1, False)],
)
def test_the_restart_policy_decides_whether_an_ended_container_runs_again(policy: str, code: int, again: bool) -> None:
    decision = decide(pod(restartPolicy=policy), observed(exited("c", code)), Memory(), NOW_S)
    assert starts(decision) == (["c"] if again else [])


def test_a_containers_own_rules_come_before_the_pods_policy() -> None:
    rule = {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}
    own = container("c", restartPolicy="Never", restartPolicyRules=[rule])
    assert should_restart(own, {"restartPolicy": "Never"}, exited("c", 42))
    assert not should_restart(own, {"restartPolicy": "Never"}, exited("c", 1))


def test_the_first_restart_is_at_once_and_the_next_waits() -> None:
    first = decide(pod(), observed(exited("c", 1)), Memory(), NOW_S)
    assert first.starts[0].restarts == 1
    assert first.starts[0].backoff.delay_s == 10
    memory = Memory(backoffs={"c": first.starts[0].backoff})
    ended = decide(pod(), observed(exited("c", 1, restarts=1)), memory, NOW_S)
    assert (starts(ended), dict(ended.holds), ended.wake_at_s) == ([], {}, NOW_S + 1)
    second = decide(pod(), observed(exited("c", 1, restarts=1)), memory, NOW_S + 1)
    assert starts(second) == []
    assert second.holds["c"].reason == "CrashLoopBackOff"
    assert second.holds["c"].message == "back-off 10s restarting failed container=c pod=web_default(u1)"
    assert second.wake_at_s == NOW_S + 10
    third = decide(pod(), observed(exited("c", 1, restarts=1)), memory, NOW_S + 10)
    assert third.starts[0].backoff.delay_s == 20


def test_the_back_off_ends_at_five_minutes_and_starts_over_after_a_long_run() -> None:
    long = Memory(backoffs={"c": Backoff(300, NOW_S - 400, hash_of(container("c")))})
    decision = decide(pod(), observed(exited("c", 1, restarts=9)), long, NOW_S + 300)
    assert decision.starts[0].backoff.delay_s == 300
    healed = Memory(backoffs={"c": Backoff(300, NOW_S - 700, hash_of(container("c")))})
    decision = decide(pod(), observed(exited("c", 1, restarts=9)), healed, NOW_S)
    assert decision.starts[0].backoff.delay_s == 10


def test_what_could_not_be_started_is_left_alone_until_its_time() -> None:
    memory = Memory(waiting={"c": Waiting("ErrImagePull", "no", NOW_S + 5)})
    decision = decide(pod(), observed(), memory, NOW_S)
    assert starts(decision) == []
    assert decision.wake_at_s == NOW_S + 5
    assert starts(decide(pod(), observed(), memory, NOW_S + 5)) == ["c"]


def test_a_failed_liveness_probe_kills_with_the_probes_own_grace() -> None:
    spec = pod(container("c", livenessProbe={**PROBE, "terminationGracePeriodSeconds": 7}), terminationGracePeriodSeconds=30)
    decision = decide(spec, observed(record("c")), Memory(verdicts={"c-0": Verdict(alive=False)}), NOW_S)
    assert kills(decision) == ["c"]
    assert decision.kills[0].grace_s == 7
    assert decision.kills[0].message == "Container c failed liveness probe, will be restarted"


def test_a_container_that_fails_its_probe_and_is_never_restarted_ends_its_pod_unless_another_runs() -> None:
    failed = Memory(verdicts={"c-0": Verdict(alive=False)})
    alone = decide(pod(container("c", livenessProbe=PROBE), restartPolicy="Never"), observed(record("c")), failed, NOW_S)
    assert [k.message for k in alone.kills] == ["Stopping container c"]
    assert alone.terminating
    two = pod(container("c", livenessProbe=PROBE), container("other"), restartPolicy="Never")
    beside = decide(two, observed(record("c"), record("other")), failed, NOW_S)
    assert [k.message for k in beside.kills] == ["Container c failed liveness probe"]
    assert not beside.terminating


def test_sidecars_wait_for_the_regular_containers_and_for_no_others() -> None:
    spec = pod(initContainers=[sidecar("s"), container("i")], ephemeralContainers=[container("debug")], deletion_grace_s=5)
    during_init = decide(spec, observed(record("s"), record("i"), record("debug")), Memory(), NOW_S)
    assert {k.record.name: k.after for k in during_init.kills} == {"s": frozenset(), "i": frozenset(), "debug": frozenset()}
    running = decide(spec, observed(record("s"), record("debug"), record("c")), Memory(), NOW_S)
    assert {k.record.name: k.after for k in running.kills}["s"] == frozenset({"c"})


def test_an_evicted_pod_has_less_time_than_it_asks_for() -> None:
    memory = Memory(ending=Ending("Evicted", "too much", grace_s=1))
    decision = decide(pod(terminationGracePeriodSeconds=30), observed(record("c")), memory, NOW_S)
    assert [k.grace_s for k in decision.kills] == [1]
    assert decision.terminating


def test_a_changed_image_restarts_the_container_whatever_the_policy() -> None:
    spec = pod(container("c", image="web:2"), restartPolicy="Never")
    decision = decide(spec, observed(record("c")), Memory(), NOW_S)
    assert decision.kills[0].message == "Container c definition changed, will be restarted"


def test_a_sandbox_that_died_ends_its_containers_before_a_new_one() -> None:
    dead = (sandbox(ready=False),)
    ending = decide(pod(terminationGracePeriodSeconds=30), observed(record("c"), sandboxes=dead), Memory(), NOW_S)
    assert [(k.record.name, k.grace_s, k.message) for k in ending.kills] == [("c", 30, "Stopping container c")]
    assert ending.create_sandbox is None
    remade = decide(pod(), observed(exited("c", 137), sandboxes=dead), Memory(), NOW_S)
    assert remade.create_sandbox == 1


def test_a_pod_that_never_restarts_gets_no_second_sandbox() -> None:
    decision = decide(pod(restartPolicy="Never"), observed(exited("c", 137), sandboxes=(sandbox(ready=False),)), Memory(), NOW_S)
    assert decision.finished


def test_in_a_new_sandbox_init_containers_run_again() -> None:
    spec = pod(initContainers=[container("i")])
    both = (sandbox(0, ready=False), sandbox(1))
    decision = decide(spec, observed(exited("i"), exited("c", 137), sandboxes=both), Memory(), NOW_S)
    assert starts(decision) == ["i"]
    assert decision.starts[0].restarts == 1


def test_deletion_ends_everything_with_the_deletions_grace() -> None:
    decision = decide(pod(deletion_grace_s=5, terminationGracePeriodSeconds=30), observed(record("c")), Memory(), NOW_S)
    assert [(k.record.name, k.grace_s, k.message) for k in decision.kills] == [("c", 5, "Stopping container c")]
    assert decision.terminating
    assert not decision.finished


def test_a_deleted_pod_is_finished_once_nothing_runs() -> None:
    spec = pod(deletion_grace_s=5)
    assert decide(spec, observed(sandboxes=()), Memory(), NOW_S).finished
    assert decide(spec, observed(exited("c")), Memory(), NOW_S).stop_sandboxes == ("s0",)
    busy = Memory(busy=frozenset({SANDBOX}))
    assert not decide(spec, observed(exited("c")), busy, NOW_S).finished


def test_a_container_in_an_unknown_state_is_killed_before_it_is_started_again() -> None:
    decision = decide(pod(), observed(record("c", ContainerState.UNKNOWN)), Memory(), NOW_S)
    assert kills(decision) == ["c"]
    assert starts(decision) == []


def test_the_active_deadline_wakes_and_then_ends_the_pod() -> None:
    spec = pod(activeDeadlineSeconds=60)
    memory = Memory(started_at_s=NOW_S - 30)
    assert decide(spec, observed(record("c")), memory, NOW_S).wake_at_s == NOW_S + 30
    late = decide(spec, observed(record("c")), memory, NOW_S + 30)
    assert late.ending == Ending("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")
    assert kills(late) == ["c"]


def test_a_pod_in_a_terminal_phase_starts_nothing_again() -> None:
    decision = decide(pod(), observed(sandboxes=()), Memory(terminal=True), NOW_S)
    assert decision.finished


def test_an_ephemeral_container_starts_once() -> None:
    spec = pod(ephemeralContainers=[container("debug")])
    assert starts(decide(spec, observed(record("c")), Memory(), NOW_S)) == ["debug"]
    assert starts(decide(spec, observed(record("c"), exited("debug")), Memory(), NOW_S)) == []


def test_a_second_ready_sandbox_is_stopped() -> None:
    both = (sandbox(0), sandbox(1))
    decision = decide(pod(), observed(record("c", sandbox_id="s1"), sandboxes=both), Memory(), NOW_S)
    assert decision.stop_sandboxes == ("s0",)


def test_changed_resources_are_applied_in_place_or_by_a_restart() -> None:
    limits = {"limits": {"cpu": "2"}}
    memory = Memory(applied={"c-0": {"limits": {"cpu": "1"}}})
    in_place = decide(pod(container("c", resources=limits)), observed(record("c")), memory, NOW_S)
    assert [r.name for r in in_place.resizes] == ["c"]
    policy = [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]
    restarted = decide(pod(container("c", resources=limits, resizePolicy=policy)), observed(record("c")), memory, NOW_S)
    assert kills(restarted) == ["c"]
    assert restarted.resizes == ()
