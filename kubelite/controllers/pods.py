"""What controllers ask about pods, and pods made from templates. Pure: nothing here talks to a server.

Source: kubernetes pkg/controller/controller_utils.go and pkg/api/v1/pod/util.go, v1.34.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from kubelite.controllers import conditions
from kubelite.meta import times
from kubelite.meta.copies import deep_copy
from kubelite.meta.types import Obj, OwnerReference

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
_PHASES = {"Pending": 0, "Unknown": 1, "Running": 2}


def phase(pod: Obj) -> str:
    found: str = pod.get("status", {}).get("phase", "")
    return found


def is_terminating(pod: Obj) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def is_finished(pod: Obj) -> bool:
    """No container runs and none will."""
    return phase(pod) in ("Succeeded", "Failed")


def is_active(pod: Obj) -> bool:
    """The pod counts as a replica: not finished and not going away."""
    return not is_finished(pod) and not is_terminating(pod)


def is_ready(pod: Obj) -> bool:
    return conditions.is_true(pod, "Ready")


def ready_since(pod: Obj) -> float | None:
    """When the pod became ready, where it is."""
    ready = conditions.find(pod.get("status", {}).get("conditions"), "Ready")
    if ready is None or ready.get("status") != "True" or not ready.get("lastTransitionTime"):
        return None
    return times.parse_seconds(ready["lastTransitionTime"])


def is_available(pod: Obj, min_ready_s: int, now: float) -> bool:
    """Ready for at least the given time."""
    if not is_ready(pod):
        return False
    if min_ready_s == 0:
        return True
    since = ready_since(pod)
    return since is not None and since + min_ready_s <= now


def next_available_in(pods: Sequence[Obj], min_ready_s: int, now: float) -> float | None:
    """Seconds until the next of the ready pods becomes available; None where none is on the way."""
    delays = []
    for pod in pods:
        since = ready_since(pod)
        if since is not None:
            delay = since + min_ready_s - now
            if delay > 0:
                delays.append(delay)
    return min(delays, default=None)


def from_template(
    template: Mapping[str, Any], reference: OwnerReference | None, *, namespace: str, prefix: str, name: str = ""
) -> Obj:
    """A new pod of the template: with the name, or with a name that the server makes of the prefix, which stays in the object."""
    meta = template.get("metadata") or {}
    pod_meta: Obj = {"labels": dict(meta.get("labels") or {}), "annotations": dict(meta.get("annotations") or {})}
    pod_meta |= {"namespace": namespace, "generateName": prefix}
    if meta.get("finalizers"):
        pod_meta["finalizers"] = list(meta["finalizers"])
    if name:
        pod_meta["name"] = name
    if reference is not None:
        pod_meta["ownerReferences"] = [reference]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": pod_meta, "spec": deep_copy(template["spec"])}


def name_prefix(owner_name: str) -> str:
    """The prefix of the names of an owner's pods. One that would be no valid name itself gets no dash."""
    prefix = f"{owner_name}-"
    return prefix if len(prefix) <= 253 else owner_name


def deletion_cost(pod: Obj) -> int:
    """What the pod's annotation says about deleting it, 0 where it says nothing valid."""
    text = (pod["metadata"].get("annotations") or {}).get(DELETION_COST, "")
    unsigned = text[1:] if text.startswith("-") else text
    if not unsigned.isdecimal() or (len(unsigned) > 1 and unsigned.startswith("0")):
        return 0
    cost = int(text)
    return cost if -(2**31) <= cost < 2**31 else 0


def restarts(pod: Obj) -> tuple[int, int]:
    """(restarts of running sidecars, restarts of the regular containers), each the largest."""
    status = pod.get("status", {})
    sidecars = {c["name"] for c in pod["spec"].get("initContainers") or () if c.get("restartPolicy") == "Always"}
    regular = max((c.get("restartCount", 0) for c in status.get("containerStatuses") or ()), default=0)
    sidecar = max(
        (c.get("restartCount", 0) for c in status.get("initContainerStatuses") or () if c["name"] in sidecars), default=0
    )
    return sidecar, regular


def deletion_order(pods: Sequence[Obj], ranks: Mapping[str, int], now: float) -> list[Obj]:
    """The pods, the first to be deleted first. `ranks` counts by node how many related pods run there.

    Unassigned before assigned; pending, unknown, running; not ready before ready; cheaper before dearer; doubled up before
    alone; ready for a shorter time (in powers of two) before longer; more restarts before fewer; younger before older.
    """

    def key(pod: Obj) -> tuple[Any, ...]:
        since = ready_since(pod)
        ready = is_ready(pod)
        sidecar_restarts, regular_restarts = restarts(pod)
        created = pod["metadata"].get("creationTimestamp", "")
        return (
            bool(pod["spec"].get("nodeName")),
            _PHASES.get(phase(pod), 0),
            ready,
            deletion_cost(pod),
            -ranks.get(pod["spec"].get("nodeName", ""), 0),
            _log_age(since, now) if ready else 0,
            -regular_restarts,
            -sidecar_restarts,
            _log_age(times.parse_seconds(created), now) if created else -1,
            pod["metadata"].get("uid", ""),
        )

    return sorted(pods, key=key)


def removal_order(pods: Sequence[Obj]) -> list[Obj]:
    """The pods, the first to be removed first, where neither cost nor node counts: later ready before earlier, and so on."""

    def key(pod: Obj) -> tuple[Any, ...]:
        since = ready_since(pod)
        sidecar_restarts, regular_restarts = restarts(pod)
        created = pod["metadata"].get("creationTimestamp", "")
        return (
            bool(pod["spec"].get("nodeName")),
            _PHASES.get(phase(pod), 0),
            is_ready(pod),
            -(since or math.inf) if is_ready(pod) else 0,
            -regular_restarts,
            -sidecar_restarts,
            -times.parse_seconds(created) if created else -math.inf,
        )

    return sorted(pods, key=key)


def _log_age(since: float | None, now: float) -> int:
    """The age's power of two: pods of about one age are alike, so that not always the same one goes."""
    if since is None:
        return -1
    return max(int((now - since) * 1e9), 0).bit_length()
