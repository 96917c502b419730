"""A pod's status as the agent reports it, made from the same inputs as podstate's decision. Pure.

Statuses are built anew each time; what can't be seen any more (a container that the runtime lost, the time of a transition, a
condition of someone else's) is taken from the status before.

Source: pkg/kubelet/kubelet_pods.go (getPhase, convertToAPIContainerStatuses), pkg/kubelet/status/generate.go, v1.34.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from kubelite.agent import resizing, resources
from kubelite.agent.observation import Observed, Record
from kubelite.agent.podstate import Decision, Memory, Role, Verdict, Waiting, all_containers, should_restart
from kubelite.meta import times
from kubelite.meta.types import Obj
from runtimes.interface import ContainerState

TERMINAL = ("Succeeded", "Failed")
UNKNOWN_REASON = "ContainerStatusUnknown"
#: The bytes that the termination messages of a pod's containers may have together, each an equal share.
MESSAGES_LIMIT = 12 * 1024


@dataclass(frozen=True, slots=True)
class Place:
    """What a status says of where the pod runs."""

    runtime: str
    host_ips: tuple[str, ...] = ()
    #: Whether the runtime can make mounts below a read-only volume read-only too.
    recursive_readonly: bool = False


def status_of(pod: Obj, observed: Observed, memory: Memory, decision: Decision, previous: Obj, place: Place, now_s: float) -> Obj:
    """The whole PodStatus, but for conditions of others. `previous` is what was reported last, or the API's where this agent has
    reported nothing yet."""
    spec = pod["spec"]
    ending = memory.ending or decision.ending
    status: Obj = {
        "observedGeneration": pod["metadata"].get("generation", 0),
        "qosClass": resources.qos_class(pod),
        "startTime": times.format_time(memory.started_at_s or now_s),
    }
    if ending is not None and ending.refused:
        return {**status, "phase": "Failed", "reason": ending.reason, "message": ending.message, "conditions": []}
    statuses = {
        role: _container_statuses(pod, role, observed, memory, decision, previous, place)
        for role in ("init", "regular", "ephemeral")
    }
    if decision.finished:
        _close(pod, statuses["init"], statuses["regular"])
    by_name = {s["name"]: s for kind in ("init", "regular") for s in statuses[kind]}
    phase = _phase(pod, by_name, decision.terminating or memory.terminal, observed)
    before = previous.get("phase") or "Pending"
    if ending is not None or (decision.finished and phase not in TERMINAL):
        phase = "Failed"
    if before in TERMINAL:
        phase = before
    reported = phase
    if phase in TERMINAL and observed.may_run():
        # Who sees a pod ended may start another in its place: not before nothing of this one runs.
        reported = before
    disruption = ""
    if reported == phase and ending is not None:
        status["reason"], status["message"] = ending.reason, ending.message
        disruption = ending.message if ending.disruption else ""
    elif reported == before:
        status.update({key: previous[key] for key in ("reason", "message") if previous.get(key)})
    status["phase"] = reported
    _addresses(status, spec, observed, place)
    status["containerStatuses"] = statuses["regular"]
    if statuses["init"]:
        status["initContainerStatuses"] = statuses["init"]
    if statuses["ephemeral"]:
        status["ephemeralContainerStatuses"] = statuses["ephemeral"]
    resize = [] if decision.finished or memory.terminal else resizing.conditions(memory.resize)
    status["conditions"] = [*resize, *_conditions(pod, by_name, phase, observed, previous, now_s, disruption)]
    return status


def _addresses(status: Obj, spec: Obj, observed: Observed, place: Place) -> None:
    if place.host_ips:
        status["hostIP"] = place.host_ips[0]
        status["hostIPs"] = [{"ip": ip} for ip in place.host_ips]
    ips = place.host_ips if spec.get("hostNetwork") else observed.ips
    if ips:
        status["podIP"] = ips[0]
        status["podIPs"] = [{"ip": ip} for ip in ips]


def _container_statuses(
    pod: Obj, kind: str, observed: Observed, memory: Memory, decision: Decision, previous: Obj, place: Place
) -> list[Obj]:
    field = {"init": "initContainerStatuses", "regular": "containerStatuses", "ephemeral": "ephemeralContainerStatuses"}[kind]
    olds = {s["name"]: s for s in previous.get(field) or ()}
    found = []
    for container, role in all_containers(pod):
        if role == kind or (role == "sidecar" and kind == "init"):
            found.append(_one(pod, container, role, observed, memory, decision, olds.get(container["name"]), place))
    return found if kind == "init" else sorted(found, key=lambda s: s["name"])


def _one(
    pod: Obj, container: Obj, role: Role, observed: Observed, memory: Memory, decision: Decision, old: Obj | None, place: Place
) -> Obj:
    name = container["name"]
    record = observed.newest(name)
    waiting = decision.holds.get(name) or memory.waiting.get(name)
    if "deletionTimestamp" in pod["metadata"]:
        waiting = None  # nothing is waited for any more
    default = "PodInitializing" if pod["spec"].get("initContainers") else "ContainerCreating"
    status: Obj = {
        "name": name,
        "state": {"waiting": {"reason": default}},
        "lastState": {},
        "ready": False,
        "restartCount": 0,
        "image": container.get("image", ""),
        "imageID": "",
    }
    if record is None:
        _unseen(status, old, pod)
    else:
        status.update(restartCount=record.restarts, image=record.image, imageID=record.image_ref)
        status["containerID"] = f"{place.runtime}://{record.id}"
        hooking = name in memory.busy and bool((container.get("lifecycle") or {}).get("postStart"))
        budget = MESSAGES_LIMIT // max(sum(1 for _ in all_containers(pod)), 1)
        status["state"] = _state(record, old, place, default, budget, hooking)
        before = observed.previous(name)
        if before is not None and before.exited:
            status["lastState"] = {"terminated": _terminated(before, place, budget)}
        elif before is None and old is not None and old.get("containerID") == status["containerID"]:
            # The one before it has been removed; its end is still worth telling.
            status["lastState"] = old.get("lastState") or {}
        wanted = container.get("resources") or {}
        status["resources"] = memory.applied.get(record.id, wanted) if record.running else wanted
        if requests := (container.get("resources") or {}).get("requests"):
            status["allocatedResources"] = requests
        if record.user:
            status["user"] = {"linux": dict(record.user)}
    if mounts := [_mount_status(m, place) for m in container.get("volumeMounts") or ()]:
        status["volumeMounts"] = mounts
    if waiting is not None and waiting.reason and not (record is not None and record.running):
        _wait(status, waiting, container, pod, role, record)
    if role != "ephemeral":
        _probed(status, container, role, record, memory)
    return status


def _unseen(status: Obj, old: Obj | None, pod: Obj) -> None:
    """A container that the runtime doesn't have: never started, or lost."""
    if old is None:
        return
    state = old.get("state") or {}
    status["restartCount"] = old.get("restartCount", 0)
    status["lastState"] = old.get("lastState") or {}
    if "terminated" in state:
        status["state"] = state
        for key in ("containerID", "image", "imageID", "resources", "allocatedResources", "user"):
            if key in old:
                status[key] = old[key]
    elif "running" in state and "terminated" not in status["lastState"]:
        text = "The container could not be located when the pod was deleted.  The container used to be Running"
        status["lastState"] = {"terminated": _lost(text)}
        if "deletionTimestamp" not in pod["metadata"]:
            status["restartCount"] += 1


def _lost(message: str) -> Obj:
    return {"exitCode": 137, "reason": UNKNOWN_REASON, "message": message, "startedAt": None, "finishedAt": None}


def _state(record: Record, old: Obj | None, place: Place, default: str, budget: int, hooking: bool) -> Obj:
    if record.state is ContainerState.RUNNING:
        if hooking:  # its postStart hook has not ended
            return {"waiting": {"reason": default}}
        return {"running": {"startedAt": _time(record.started_at_ns)}}
    if record.exited:
        return {"terminated": _terminated(record, place, budget)}
    if record.state is ContainerState.UNKNOWN and old is not None and "running" in (old.get("state") or {}):
        return {"terminated": _lost("The container could not be located when the pod was terminated")}
    return {"waiting": {"reason": default}}


def _terminated(record: Record, place: Place, budget: int) -> Obj:
    state: Obj = {
        "exitCode": record.exit_code,
        "reason": record.reason or ("Completed" if record.exit_code == 0 else "Error"),
        "startedAt": _time(record.started_at_ns),
        "finishedAt": _time(record.finished_at_ns),
        "containerID": f"{place.runtime}://{record.id}",
    }
    if record.message:
        state["message"] = record.message.encode()[:budget].decode(errors="ignore")
    return state


def _wait(status: Obj, waiting: Waiting, container: Obj, pod: Obj, role: Role, record: Record | None) -> None:
    """Shows why a container that is to run does not."""
    if record is not None and record.exited and not should_restart(container, pod["spec"], record) and role != "sidecar":
        return
    if role == "init" and record is not None and record.exited and record.exit_code == 0:
        return
    if "terminated" in status["state"]:
        status["lastState"] = status["state"]
    status["state"] = {"waiting": {"reason": waiting.reason, "message": waiting.message}}


def _probed(status: Obj, container: Obj, role: Role, record: Record | None, memory: Memory) -> None:
    """`started` and `ready`, from the probes' verdicts."""
    state = status["state"]
    if role == "init":
        status["started"] = "running" in state
        status["ready"] = (state.get("terminated") or {}).get("exitCode") == 0
        return
    if record is None or "running" not in state:
        status["started"] = False
        return
    verdict = memory.verdicts.get(record.id, Verdict())
    status["started"] = container.get("startupProbe") is None or verdict.started is True
    if status["started"]:
        status["ready"] = container.get("readinessProbe") is None or verdict.ready is True


def _mount_status(mount: Obj, place: Place) -> Obj:
    status = {"name": mount["name"], "mountPath": mount["mountPath"]}
    if mount.get("readOnly"):
        recursive = place.recursive_readonly and mount.get("recursiveReadOnly", "Disabled") != "Disabled"
        status.update(readOnly=True, recursiveReadOnly="Enabled" if recursive else "Disabled")
    return status


def _close(pod: Obj, init: list[Obj], regular: list[Obj]) -> None:
    """Nothing runs any more: what has no known end gets one, so that nobody waits for it. Of init containers only those that may
    have begun, of regular ones all once the pod was initialized."""
    if _was_initialized(pod, init, regular):
        for status in regular:
            _lose(status)
    begun = [index for index, status in enumerate(init) if _has_begun(status)]
    for status in init[: max(begun, default=0) + 1]:
        _lose(status)


def _lose(status: Obj) -> None:
    if "terminated" not in status["state"]:
        status["state"] = {"terminated": _lost("The container could not be located when the pod was terminated")}


def _was_initialized(pod: Obj, init: list[Obj], regular: list[Obj]) -> bool:
    if not init or any(_has_begun(status) for status in regular):
        return True
    last = init[-1]
    if pod["spec"]["initContainers"][-1].get("restartPolicy") == "Always":
        return "running" in last["state"] and bool(last.get("started"))
    ends = (last["state"].get("terminated"), (last.get("lastState") or {}).get("terminated"))
    return any(end is not None and end["exitCode"] == 0 for end in ends)


def _has_begun(status: Obj) -> bool:
    return "waiting" not in status["state"] or "terminated" in (status.get("lastState") or {})


def _phase(pod: Obj, statuses: dict[str, Obj], terminal: bool, observed: Observed) -> str:
    spec = pod["spec"]
    pending = pending_sidecars = running = waiting = stopped = succeeded = final = unknown = 0
    for container, role in all_containers(pod):
        if role == "ephemeral":
            continue
        status = statuses[container["name"]]
        state = status["state"]
        last = (status.get("lastState") or {}).get("terminated")
        end = state.get("terminated") or (last if "waiting" in state else None)
        if role == "init":
            if end is None:
                pending += 1
            elif end["exitCode"] != 0 and not _again(container, spec, end["exitCode"]):
                return "Failed"
        elif role == "sidecar":
            if "running" in state:
                pending_sidecars += not status.get("started")
                running += 1
            elif end is None:
                pending_sidecars += 1
                waiting += 1
        elif "running" in state:
            running += 1
        elif end is not None:
            stopped += 1
            succeeded += end["exitCode"] == 0 and "terminated" in state
            final += not _again(container, spec, end["exitCode"])
        elif "waiting" in state:
            waiting += 1
        else:
            unknown += 1
    has_run = any(
        (record := observed.newest(c["name"])) is not None and (record.running or record.exited) for c in spec["containers"]
    )
    if pending or (pending_sidecars and not has_run) or waiting:
        return "Pending"
    if running and not unknown:
        return "Running"
    if not running and stopped and not unknown:
        if terminal or stopped == final:
            return "Succeeded" if stopped == succeeded else "Failed"
        return "Running"
    return "Pending"


def _again(container: Obj, spec: Obj, exit_code: int) -> bool:
    return should_restart(container, spec, _Ended(exit_code))  # type: ignore[arg-type]  # only the code is looked at


@dataclass(frozen=True, slots=True)
class _Ended:
    exit_code: int


def _conditions(
    pod: Obj, statuses: dict[str, Obj], phase: str, observed: Observed, previous: Obj, now_s: float, disruption: str
) -> list[Obj]:
    generation = pod["metadata"].get("generation", 0)
    current = pod.get("status", {}).get("conditions") or []
    reported = previous.get("conditions") or ()
    found: list[Obj] = []
    containers_ready = _containers_ready(pod, statuses, phase)
    made = [
        ("PodReadyToStartContainers", (observed.active is not None, "", "")),
        ("Initialized", _initialized(pod, statuses, phase)),
        ("Ready", _ready(pod, containers_ready, current)),
        ("ContainersReady", containers_ready),
        ("PodScheduled", (True, "", "")),
    ]
    if disruption:
        made.append(("DisruptionTarget", (True, "TerminationByKubelet", disruption)))
    olds = {c["type"]: c for c in (*current, *reported)}
    for kind, (value, reason, message) in made:
        condition: Obj = {"type": kind, "status": "True" if value else "False", "lastProbeTime": None}
        old = olds.get(kind)
        if old is not None and old["status"] == condition["status"] and old.get("lastTransitionTime"):
            condition["lastTransitionTime"] = old["lastTransitionTime"]
        else:
            condition["lastTransitionTime"] = times.format_time(now_s)
        if reason:
            condition["reason"] = reason
        if message:
            condition["message"] = message
        if generation:
            condition["observedGeneration"] = generation
        found.append(condition)
    return found


def _named(names: Sequence[str]) -> str:
    return f"[{' '.join(names)}]"


def _containers_ready(pod: Obj, statuses: dict[str, Obj], phase: str) -> tuple[bool, str, str]:
    if phase == "Succeeded":
        return False, "PodCompleted", ""
    if phase == "Failed":
        return False, "PodFailed", ""
    unready = [
        c["name"] for c, role in all_containers(pod) if role in ("sidecar", "regular") and not statuses[c["name"]]["ready"]
    ]
    if unready:
        return False, "ContainersNotReady", f"containers with unready status: {_named(unready)}"
    return True, "", ""


def _ready(pod: Obj, containers: tuple[bool, str, str], conditions: Sequence[Obj]) -> tuple[bool, str, str]:
    if not containers[0]:
        return containers
    by_type = {c["type"]: c for c in conditions}
    texts = []
    for gate in pod["spec"].get("readinessGates") or ():
        condition = by_type.get(gate["conditionType"])
        if condition is None:
            texts.append(f'corresponding condition of pod readiness gate "{gate["conditionType"]}" does not exist.')
        elif condition["status"] != "True":
            texts.append(f'the status of pod readiness gate "{gate["conditionType"]}" is not "True", but {condition["status"]}')
    if texts:
        return False, "ReadinessGatesNotReady", ", ".join(texts)
    return True, "", ""


def _initialized(pod: Obj, statuses: dict[str, Obj], phase: str) -> tuple[bool, str, str]:
    if phase == "Succeeded":
        return True, "PodCompleted", ""
    for container in pod["spec"]["containers"]:
        status = statuses[container["name"]]
        if status.get("started") or "running" in status["state"] or "terminated" in status["state"]:
            return True, "", ""
        if "terminated" in (status.get("lastState") or {}):
            return True, "", ""
    incomplete = [
        c["name"]
        for c, role in all_containers(pod)
        if role in ("init", "sidecar") and not statuses[c["name"]]["started" if role == "sidecar" else "ready"]
    ]
    if incomplete:
        return False, "ContainersNotInitialized", f"containers with incomplete status: {_named(incomplete)}"
    return True, "", ""


def _time(at_ns: int) -> str | None:
    return times.format_time(at_ns / 1e9) if at_ns else None
