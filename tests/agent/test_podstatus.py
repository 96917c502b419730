"""Statuses as the kubelet would report them."""

from typing import Any

from kubelite.agent.observation import Observed
from kubelite.agent.podstate import Memory, Verdict, Waiting, decide
from kubelite.agent.podstatus import Place, status_of
from kubelite.meta.types import Obj
from tests.agent.pods import NOW_S, container, exited, observed, pod, record, sandbox, sidecar

PLACE = Place("containerd", ("192.0.2.7",))


def status(spec: Obj, seen: Observed, memory: Memory | None = None, previous: Obj | None = None) -> Obj:
    memory = memory or Memory(started_at_s=NOW_S)
    decision = decide(spec, seen, memory, NOW_S)
    return status_of(spec, seen, memory, decision, previous or {}, PLACE, NOW_S)


def conditions(found: Obj) -> dict[str, tuple[Any, ...]]:
    return {c["type"]: (c["status"], c.get("reason"), c.get("message")) for c in found["conditions"]}


def test_before_anything_is_there_the_pod_is_pending_and_its_containers_are_being_created() -> None:
    found = status(pod(), observed(sandboxes=()))
    assert found["phase"] == "Pending"
    assert found["containerStatuses"][0]["state"] == {"waiting": {"reason": "ContainerCreating"}}
    assert "podIP" not in found
    assert conditions(found)["PodReadyToStartContainers"][0] == "False"
    assert conditions(found)["Ready"] == ("False", "ContainersNotReady", "containers with unready status: [c]")


def test_a_running_container_without_probes_is_started_and_ready() -> None:
    found = status(pod(), observed(record("c")))
    c = found["containerStatuses"][0]
    assert (c["started"], c["ready"]) == (True, True)
    assert c["containerID"] == "containerd://c-0"
    assert found["podIPs"] == [{"ip": "10.0.0.5"}]
    assert found["hostIPs"] == [{"ip": "192.0.2.7"}]
    assert {value[0] for value in conditions(found).values()} == {"True"}
    assert all(c["observedGeneration"] == 1 for c in found["conditions"])


def test_readiness_waits_for_its_probe_and_started_for_the_startup_probe() -> None:
    spec = pod(container("c", readinessProbe={}, startupProbe={}))
    seen = observed(record("c"))
    none = status(spec, seen)["containerStatuses"][0]
    assert (none["started"], none["ready"]) == (False, False)
    memory = Memory(verdicts={"c-0": Verdict(started=True)}, started_at_s=NOW_S)
    started = status(spec, seen, memory)["containerStatuses"][0]
    assert (started["started"], started["ready"]) == (True, False)
    memory = Memory(verdicts={"c-0": Verdict(started=True, ready=True)}, started_at_s=NOW_S)
    assert status(spec, seen, memory)["containerStatuses"][0]["ready"] is True


def test_a_restarted_container_shows_its_last_end() -> None:
    found = status(pod(), observed(exited("c", 3, restarts=0), record("c", restarts=1)))["containerStatuses"][0]
    assert found["restartCount"] == 1
    assert found["lastState"]["terminated"]["exitCode"] == 3
    assert found["lastState"]["terminated"]["reason"] == "Error"


def test_a_waiting_reason_replaces_the_end_which_becomes_the_last_state() -> None:
    memory = Memory(waiting={"c": Waiting("ErrImagePull", "denied", NOW_S + 9)}, started_at_s=NOW_S)
    found = status(pod(), observed(exited("c", 1)), memory)["containerStatuses"][0]
    assert found["state"] == {"waiting": {"reason": "ErrImagePull", "message": "denied"}}
    assert found["lastState"]["terminated"]["exitCode"] == 1


def test_a_pod_waits_for_its_init_containers() -> None:
    spec = pod(initContainers=[container("i")])
    found = status(spec, observed(record("i")))
    assert found["phase"] == "Pending"
    assert found["containerStatuses"][0]["state"]["waiting"]["reason"] == "PodInitializing"
    text = "containers with incomplete status: [i]"
    assert conditions(found)["Initialized"] == ("False", "ContainersNotInitialized", text)


def test_phases_of_pods_that_end() -> None:
    never = pod(restartPolicy="Never")
    ended = (sandbox(ready=False),)
    assert status(never, observed(exited("c"), sandboxes=ended))["phase"] == "Succeeded"
    assert status(never, observed(exited("c", 1), sandboxes=ended))["phase"] == "Failed"
    assert status(pod(), observed(exited("c", 1)))["phase"] == "Running"
    two = pod(container("a"), container("b"), restartPolicy="Never")
    assert status(two, observed(exited("a"), record("b")))["phase"] == "Running"
    assert status(pod(initContainers=[container("i")], restartPolicy="Never"), observed(exited("i", 1)))["phase"] == "Failed"


def test_a_completed_pod_says_so_in_its_conditions() -> None:
    found = conditions(status(pod(restartPolicy="Never"), observed(exited("c"), sandboxes=(sandbox(ready=False),))))
    assert found["Ready"] == ("False", "PodCompleted", None)
    assert found["Initialized"] == ("True", "PodCompleted", None)


def test_a_pod_past_its_deadline_fails_only_once_nothing_runs() -> None:
    spec = pod(activeDeadlineSeconds=10)
    memory = Memory(started_at_s=NOW_S - 10)
    running = status(spec, observed(record("c")), memory, {"phase": "Running"})
    assert running["phase"] == "Running"
    assert conditions(running)["Ready"][1] == "PodFailed"
    ended = status(spec, observed(exited("c", 137)), memory, {"phase": "Running"})
    assert (ended["phase"], ended["reason"]) == ("Failed", "DeadlineExceeded")


def test_a_terminal_phase_is_never_left() -> None:
    previous = {"phase": "Failed", "reason": "Evicted", "message": "gone"}
    found = status(pod(), observed(sandboxes=()), Memory(terminal=True, started_at_s=NOW_S), previous)
    assert (found["phase"], found["reason"], found["message"]) == ("Failed", "Evicted", "gone")


def test_a_container_that_the_runtime_lost_counts_as_ended() -> None:
    previous = {"phase": "Running", "containerStatuses": [{"name": "c", "state": {"running": {}}, "restartCount": 2}]}
    found = status(pod(), observed(), previous=previous)["containerStatuses"][0]
    assert found["restartCount"] == 3
    assert found["lastState"]["terminated"]["reason"] == "ContainerStatusUnknown"


def test_a_pod_that_ended_before_its_containers_began_has_an_end_for_each_that_may_have() -> None:
    spec = pod(initContainers=[container("i1"), container("i2")], deletion_grace_s=0)
    gone = observed(sandboxes=())
    never = status(spec, gone)
    assert never["phase"] == "Failed"
    assert never["initContainerStatuses"][0]["state"]["terminated"]["reason"] == "ContainerStatusUnknown"
    assert "waiting" in never["initContainerStatuses"][1]["state"]
    assert "waiting" in never["containerStatuses"][0]["state"]
    ended = {"terminated": {"exitCode": 0, "reason": "Completed"}}
    previous = {"initContainerStatuses": [{"name": n, "state": ended, "restartCount": 0} for n in ("i1", "i2")]}
    initialized = status(spec, gone, previous=previous)
    assert initialized["containerStatuses"][0]["state"]["terminated"]["reason"] == "ContainerStatusUnknown"


def test_a_deleted_pods_containers_wait_for_nothing() -> None:
    memory = Memory(waiting={"c": Waiting("ErrImagePull", "denied", NOW_S + 9)}, started_at_s=NOW_S)
    found = status(pod(deletion_grace_s=30), observed(record("other")), memory)["containerStatuses"][0]
    assert found["state"] == {"waiting": {"reason": "ContainerCreating"}}


def test_the_messages_of_many_containers_share_the_room() -> None:
    names = [f"c{n}" for n in range(6)]
    seen = observed(*(exited(n, 1, message="x" * 4096) for n in names))
    found = status(pod(*(container(n) for n in names), restartPolicy="Never"), seen)["containerStatuses"]
    assert {len(s["state"]["terminated"]["message"]) for s in found} == {2048}


def test_a_running_sidecar_keeps_a_pod_running_until_it_has_ended() -> None:
    spec = pod(initContainers=[sidecar("s")], restartPolicy="Never")
    assert status(spec, observed(record("s"), exited("c")))["phase"] == "Running"
    assert status(spec, observed(exited("s", 137), exited("c")))["phase"] == "Succeeded"


def test_readiness_gates_hold_the_ready_condition() -> None:
    spec = pod(readinessGates=[{"conditionType": "example.com/lb"}])
    found = conditions(status(spec, observed(record("c"))))
    assert found["ContainersReady"][0] == "True"
    text = 'corresponding condition of pod readiness gate "example.com/lb" does not exist.'
    assert found["Ready"] == ("False", "ReadinessGatesNotReady", text)
    spec["status"] = {"conditions": [{"type": "example.com/lb", "status": "True"}]}
    assert conditions(status(spec, observed(record("c"))))["Ready"][0] == "True"


def test_a_transition_keeps_its_time_until_the_status_changes() -> None:
    first = status(pod(), observed(record("c")))
    kept = {**first, "conditions": [{**c, "lastTransitionTime": "2020-01-01T00:00:00Z"} for c in first["conditions"]]}
    again = status(pod(), observed(record("c")), previous=kept)
    assert {c["lastTransitionTime"] for c in again["conditions"]} == {"2020-01-01T00:00:00Z"}


def test_a_host_network_pod_has_the_nodes_address() -> None:
    assert status(pod(hostNetwork=True), observed(record("c")))["podIP"] == "192.0.2.7"
