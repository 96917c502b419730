"""In-place resize: a pod keeps the resources that its node gave it until the node can give what its spec asks for. Pure.

What a pod was given is in its containers' resources as the agent holds them; the spec as the API has it is the wish. A wish waits
(PodResizePending: Deferred, or Infeasible on this node at all); once granted it is in progress until every running container has
its new limits.

Source: pkg/kubelet/allocation, pkg/kubelet/status (the conditions), v1.34.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from kubelite.meta import times
from kubelite.meta.types import Obj

#: Resources by container name.
Given = Mapping[str, Obj]


@dataclass(frozen=True, slots=True)
class Standing:
    """Why a condition holds, of which generation of the pod, and since when."""

    generation: int
    since_s: float
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Resize:
    pending: Standing | None = None
    progress: Standing | None = None


def resources_of(pod: Obj) -> Given:
    """The resources of the containers that can be resized."""
    spec = pod["spec"]
    sidecars = [c for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"]
    return {c["name"]: c.get("resources") or {} for c in (*sidecars, *spec["containers"])}


def with_resources(pod: Obj, given: Given) -> Obj:
    """The pod with the given resources in the place of those it asks for; itself where these are the same."""
    if resources_of(pod).items() <= given.items():
        return pod

    def of(containers: list[Obj]) -> list[Obj]:
        return [{**c, "resources": given[c["name"]]} if c["name"] in given else c for c in containers]

    fields = {f: of(pod["spec"][f]) for f in ("initContainers", "containers") if pod["spec"].get(f)}
    return {**pod, "spec": {**pod["spec"], **fields}}


def given_before(pod: Obj) -> Given:
    """What an agent before this one gave the pod, as its status tells where a wish still waits."""
    status = pod.get("status") or {}
    given = dict(resources_of(pod))
    if not any(c["type"] == "PodResizePending" for c in status.get("conditions") or ()):
        return given
    for entry in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        if entry["name"] in given and "resources" in entry:
            requests = entry.get("allocatedResources") or entry["resources"].get("requests")
            given[entry["name"]] = {**given[entry["name"]], **entry["resources"], **({"requests": requests} if requests else {})}
    return given


def waiting(before: Standing | None, reason: str, message: str, generation: int, now_s: float) -> Standing:
    """A wish's standing; the time is that of its reason."""
    since_s = before.since_s if before is not None and before.reason == reason else now_s
    return Standing(generation, since_s, reason, message)


def conditions(resize: Resize) -> list[Obj]:
    found = []
    for kind, standing in (("PodResizePending", resize.pending), ("PodResizeInProgress", resize.progress)):
        if standing is None:
            continue
        since = times.format_time(standing.since_s)
        condition: Obj = {"type": kind, "status": "True", "lastProbeTime": since, "lastTransitionTime": since}
        condition |= {k: v for k, v in (("reason", standing.reason), ("message", standing.message)) if v}
        if standing.generation:
            condition["observedGeneration"] = standing.generation
        found.append(condition)
    return found


def completed(pod: Obj) -> str:
    """The event that a pod has what it was given."""
    summary = {
        field: [{"name": c["name"], "resources": c.get("resources") or {}} for c in pod["spec"][field]]
        for field in ("initContainers", "containers")
        if pod["spec"].get(field)
    }
    return f"Pod resize completed: {orjson.dumps(summary).decode()}"
