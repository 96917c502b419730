"""Which nodes a DaemonSet's pods belong on, and what to do about those there are. Pure.

Source: kubernetes pkg/controller/daemon and component-helpers scheduling/corev1/nodeaffinity, v1.34.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kubelite.controllers import pods
from kubelite.controllers.rollouts import scaled
from kubelite.meta import nodefit
from kubelite.meta.copies import deep_copy
from kubelite.meta.types import Obj

HASH_LABEL = "controller-revision-hash"
GENERATION_LABEL = "pod-template-generation"
GENERATION = "deprecated.daemonset.template.generation"
#: What a daemon's pod bears that others don't: (key, effect).
TOLERATIONS = (
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
)
NETWORK_TOLERATION = ("node.kubernetes.io/network-unavailable", "NoSchedule")


@dataclass(slots=True)
class Plan:
    """Nodes that need a pod, pods that must go, and (type, reason, message) of events."""

    create: list[str] = field(default_factory=list)
    delete: list[Obj] = field(default_factory=list)
    events: list[tuple[str, str, str]] = field(default_factory=list)
    #: Failed pods, by node: they are deleted with back-off.
    failed: list[tuple[str, Obj]] = field(default_factory=list)


def tolerations_of(spec: Obj) -> list[Obj]:
    """The tolerations of a daemon's pod: the template's, and those that every daemon has."""
    wanted = [*TOLERATIONS, *([NETWORK_TOLERATION] if spec.get("hostNetwork") else [])]
    found = list(spec.get("tolerations") or ())
    for key, effect in wanted:
        ours = {"key": key, "operator": "Exists", "effect": effect}
        alike = [i for i, t in enumerate(found) if ours == {name: t[name] for name in t if name != "tolerationSeconds"}]
        if alike:
            found[alike[0]] = ours  # a daemon is never driven away, whatever time its template gives it
        else:
            found.append(ours)
    return found


def should_run(node: Obj, owner: Obj) -> tuple[bool, bool]:
    """(a pod is to be made on the node, a pod that is there may stay)."""
    spec = owner["spec"]["template"]["spec"]
    if spec.get("nodeName", "") not in ("", node["metadata"]["name"]) or not nodefit.matches(spec, node):
        return False, False
    tolerations = tolerations_of(spec)
    bad = [t for t in node["spec"].get("taints") or () if not any(nodefit.tolerates(toleration, t) for toleration in tolerations)]
    fits = not any(t["effect"] in ("NoSchedule", "NoExecute") for t in bad)
    return fits, not any(t["effect"] == "NoExecute" for t in bad)


def node_of(pod: Obj) -> str:
    """The node that a daemon's pod is on, or is meant for."""
    spec = pod["spec"]
    if spec.get("nodeName"):
        return str(spec["nodeName"])
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    for term in (affinity.get(nodefit.REQUIRED) or {}).get("nodeSelectorTerms") or ():
        for requirement in term.get("matchFields") or ():
            if requirement["key"] == "metadata.name" and requirement["operator"] == "In" and len(requirement["values"]) == 1:
                return str(requirement["values"][0])
    return ""


def by_node(owned: Sequence[Obj], *, finished_and_going: bool = False) -> dict[str, list[Obj]]:
    """The pods by node. A pod that is going and has finished is not there any more, unless asked for; one that was adopted and
    is meant for no node in particular is nobody's business.
    """
    found: dict[str, list[Obj]] = {}
    for pod in owned:
        node = node_of(pod)
        if node and (finished_and_going or not (pods.is_terminating(pod) and pods.is_finished(pod))):
            found.setdefault(node, []).append(pod)
    return found


def template_for(owner: Obj, node: str, hash_: str) -> Obj:
    """The pod template for one node: labelled, tolerant, and bound to the node by affinity (the scheduler places it)."""
    template = deep_copy(owner["spec"]["template"])
    labels = {**((template.get("metadata") or {}).get("labels") or {}), HASH_LABEL: hash_}
    if generation := generation_of(owner):
        labels[GENERATION_LABEL] = generation
    template["metadata"] = {**(template.get("metadata") or {}), "labels": labels}
    spec = template["spec"]
    spec["tolerations"] = tolerations_of(spec)
    requirement = {"key": "metadata.name", "operator": "In", "values": [node]}
    affinity = spec.get("affinity") or {}
    # The template's own required terms are replaced: they were looked at when the node was chosen.
    node_affinity = {
        **(affinity.get("nodeAffinity") or {}),
        nodefit.REQUIRED: {"nodeSelectorTerms": [{"matchFields": [requirement]}]},
    }
    spec["affinity"] = {**affinity, "nodeAffinity": node_affinity}
    made: Obj = template
    return made


def is_updated(owner: Obj, pod: Obj, hash_: str) -> bool:
    """The pod is of the present template."""
    labels, generation = pod["metadata"].get("labels") or {}, generation_of(owner)
    return labels.get(HASH_LABEL) == hash_ or bool(generation and labels.get(GENERATION_LABEL) == generation)


def generation_of(owner: Obj) -> str:
    """The number of the template, as older versions counted them; empty where there is none."""
    text = (owner["metadata"].get("annotations") or {}).get(GENERATION, "")
    return str(int(text)) if text.isdecimal() else ""


def _scheduled_oldest_first(listed: Sequence[Obj]) -> list[Obj]:
    def key(pod: Obj) -> Any:
        return not pod["spec"].get("nodeName"), pod["metadata"].get("creationTimestamp", ""), pod["metadata"]["name"]

    return sorted(listed, key=key)


def limits(owner: Obj, wanted: int) -> tuple[int, int]:
    """(surge, unavailable) for so many wanted pods."""
    rolling = (owner["spec"].get("updateStrategy") or {}).get("rollingUpdate") or {}
    surge = scaled(rolling.get("maxSurge", 0), wanted, up=True)
    unavailable = scaled(rolling.get("maxUnavailable", 1), wanted, up=True)
    if wanted > 0 and surge == 0 and unavailable == 0:
        unavailable = 1
    return surge, unavailable


def allows_surge(owner: Obj) -> bool:
    strategy = owner["spec"].get("updateStrategy") or {}
    surge = (strategy.get("rollingUpdate") or {}).get("maxSurge", 0)
    return strategy.get("type", "RollingUpdate") == "RollingUpdate" and surge not in (0, "0", "0%")


def placement(owner: Obj, nodes: Sequence[Obj], placed: Mapping[str, Sequence[Obj]], hash_: str, now: float) -> Plan:
    """One pod on each node that should have one, none on the others."""
    plan = Plan()
    min_ready_s = owner["spec"].get("minReadySeconds", 0)
    for node in nodes:
        name = node["metadata"]["name"]
        wanted, may_stay = should_run(node, owner)
        present = placed.get(name, ())
        if wanted and not present:
            plan.create.append(name)
        elif not may_stay:
            plan.delete += [pod for pod in present if not pods.is_terminating(pod)]
        elif present:
            running = _sort_out(plan, name, present)
            if allows_surge(owner):
                if not running and wanted:
                    plan.create.append(name)
                plan.delete += _surplus_with_surge(running, hash_, min_ready_s, now) if len(running) > 1 else []
            else:
                plan.delete += running[1:]
    known = {node["metadata"]["name"] for node in nodes}
    # A pod meant for a node that is gone is never placed, and the collector of pods does not see it either.
    plan.delete += [p for name, listed in placed.items() if name not in known for p in listed if not p["spec"].get("nodeName")]
    return plan


def _sort_out(plan: Plan, node: str, present: Sequence[Obj]) -> list[Obj]:
    """Takes finished pods out; returns the running ones, the oldest first."""
    running = []
    for pod in present:
        if pods.is_terminating(pod):
            continue
        name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        if pods.phase(pod) == "Failed":
            plan.failed.append((node, pod))
        elif pods.phase(pod) == "Succeeded":
            text = f"Found succeeded daemon pod {name} on node {node}, will try to delete it"
            plan.events.append(("Normal", "SucceededDaemonPod", text))
            plan.delete.append(pod)
        else:
            running.append(pod)
    return _scheduled_oldest_first(running)


def _surplus_with_surge(running: Sequence[Obj], hash_: str, min_ready_s: int, now: float) -> list[Obj]:
    """Of several pods on a node an old, ready one may stay beside a new one until that is available."""
    new = [p for p in running if (p["metadata"].get("labels") or {}).get(HASH_LABEL) == hash_]
    old = [p for p in running if p not in new]
    surplus = new[1:] + old[1:]
    if new and old and (not pods.is_ready(old[0]) or pods.is_available(new[0], min_ready_s, now)):
        surplus.append(old[0])
    return surplus


def rolling_update(owner: Obj, nodes: Sequence[Obj], placed: Mapping[str, Sequence[Obj]], hash_: str, now: float) -> Plan:
    """The next step from the old template to the present one."""
    by_name = {node["metadata"]["name"]: node for node in nodes}
    wanted = [name for name, node in by_name.items() if should_run(node, owner)[0]]
    everywhere: dict[str, Sequence[Obj]] = {**dict.fromkeys(wanted, ()), **placed}
    surge, unavailable = limits(owner, len(wanted))
    if surge == 0:
        return _roll_in_place(owner, everywhere, hash_, unavailable, now)
    return _roll_with_surge(owner, by_name, everywhere, hash_, surge, len(wanted), now)


def _new_and_old(owner: Obj, present: Sequence[Obj], hash_: str) -> tuple[list[Obj], list[Obj]]:
    alive = [p for p in present if not pods.is_terminating(p)]
    new = [p for p in alive if is_updated(owner, p, hash_)]
    return new, [p for p in alive if p not in new]


def _roll_in_place(owner: Obj, everywhere: Mapping[str, Sequence[Obj]], hash_: str, unavailable: int, now: float) -> Plan:
    min_ready_s = owner["spec"].get("minReadySeconds", 0)
    missing, replace, candidates = 0, [], []
    for present in everywhere.values():
        new, old = _new_and_old(owner, present, hash_)
        if len(new) > 1 or len(old) > 1 or len(new) == len(old):
            missing += 1  # the placement deals with this node first
        elif new:
            missing += not pods.is_available(new[0], min_ready_s, now)
        elif not pods.is_available(old[0], min_ready_s, now):
            replace.append(old[0])
            missing += 1
        else:
            candidates.append(old[0])
    return Plan(delete=replace + candidates[: max(unavailable - missing, 0)])


def _roll_with_surge(
    owner: Obj,
    nodes: Mapping[str, Obj],
    everywhere: Mapping[str, Sequence[Obj]],
    hash_: str,
    surge: int,
    wanted: int,
    now: float,
) -> Plan:
    min_ready_s = owner["spec"].get("minReadySeconds", 0)
    plan = Plan()
    misplaced: list[Obj] = []
    candidates: list[str] = []
    surging = available = 0
    for name, present in everywhere.items():
        new, old = _new_and_old(owner, present, hash_)
        if len(new) > 1 or len(old) > 1:
            surging += 1
            continue
        judged = old or new
        available += bool(judged) and pods.is_available(judged[0], min_ready_s, now)
        if not old:
            continue
        old_available = pods.is_available(old[0], min_ready_s, now)
        if not new:
            runs = name in nodes and should_run(nodes[name], owner)[0]
            if not old_available:
                if runs:
                    plan.create.append(name)
                else:
                    plan.delete.append(old[0])
            elif not runs:
                misplaced.append(old[0])
            else:
                candidates.append(name)
        elif pods.is_available(new[0], min_ready_s, now):
            plan.delete.append(old[0])
        else:
            surging += 1
    plan.delete += misplaced[: max(available - wanted, 0)]
    plan.create += candidates[: max(surge - surging, 0)]
    return plan


def status_of(owner: Obj, nodes: Sequence[Obj], placed: Mapping[str, Sequence[Obj]], hash_: str, now: float) -> Obj:
    """The counts of the DaemonSet's status."""
    min_ready_s = owner["spec"].get("minReadySeconds", 0)
    desired = current = misplaced = ready = available = updated = 0
    for node in nodes:
        present = _scheduled_oldest_first(placed.get(node["metadata"]["name"], ()))
        if not should_run(node, owner)[0]:
            misplaced += bool(present)
            continue
        desired += 1
        if present:
            current += 1
            ready += pods.is_ready(present[0])
            available += pods.is_available(present[0], min_ready_s, now)
            updated += is_updated(owner, present[0], hash_)
    status: Obj = {
        "currentNumberScheduled": current,
        "numberMisscheduled": misplaced,
        "desiredNumberScheduled": desired,
        "numberReady": ready,
    }
    for name, count in (
        ("observedGeneration", owner["metadata"].get("generation", 0)),
        ("updatedNumberScheduled", updated),
        ("numberAvailable", available),
        ("numberUnavailable", desired - available),
    ):
        if count:
            status[name] = count
    old = owner.get("status") or {}
    return status | {key: old[key] for key in ("collisionCount", "conditions") if key in old}
