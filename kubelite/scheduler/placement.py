"""Where the claims of a template can be satisfied: on which nodes, and with what.

A bound claim allows the nodes of its volume. A claim that waits for its first consumer takes a volume that is there and fits, the
smallest claim first and no volume twice, or is provisioned for the chosen node. All nodes are looked at together: which volume a
claim would get where is a mask for each volume.

Source: plugins/volumebinding (binder.go: FindPodVolumes, findMatchingVolumes, checkVolumeProvisions), v1.34.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from kubelite.meta import selectors
from kubelite.meta.types import Obj
from kubelite.scheduler.plugins import nodeaffinity
from kubelite.scheduler.snapshot import Mask, Snapshot
from kubelite.scheduler.templates import Template
from kubelite.scheduler.volumes import NO_PROVISIONER, Binding, Volumes, capacity_limit, class_of, is_bound, requested_bytes


@dataclass(slots=True)
class Placement:
    """The nodes that the claims leave out, by reason, and how the waiting ones would be satisfied."""

    #: A bound volume is elsewhere; none is there to bind; a driver has too little space; a bound volume is gone.
    elsewhere: Mask
    none: Mask
    no_space: Mask
    gone: Mask
    #: For each waiting claim the volumes that it would get, with the nodes; on the others it is provisioned.
    choices: list[tuple[Obj, list[tuple[Obj, Mask]]]] = field(default_factory=list)

    def bindings(self, row: int) -> list[Binding]:
        """What the waiting claims get on a node."""
        return [Binding(claim, next((volume for volume, mask in choices if mask[row]), None)) for claim, choices in self.choices]


def place(volumes: Volumes, snapshot: Snapshot, template: Template) -> Placement:
    elsewhere, none, no_space, gone = (np.zeros(snapshot.size, np.bool_) for _ in range(4))
    placement = Placement(elsewhere, none, no_space, gone)
    waiting = []
    for claim in volumes.of_template(template):
        if not is_bound(claim):
            waiting.append(claim)
            continue
        volume = volumes.volumes.get(claim["spec"]["volumeName"])
        if volume is None:
            gone |= ~elsewhere  # the first claim that fails on a node says why
        else:
            elsewhere |= ~allowed(snapshot, volume) & ~gone
    if waiting:
        _place_waiting(volumes, snapshot, waiting, placement)
    return placement


def allowed(snapshot: Snapshot, volume: Obj) -> Mask:
    terms = ((volume["spec"].get("nodeAffinity") or {}).get("required") or {}).get("nodeSelectorTerms")
    return np.ones(snapshot.size, np.bool_) if terms is None else nodeaffinity.matches_any(snapshot, terms)


def _place_waiting(volumes: Volumes, snapshot: Snapshot, claims: Sequence[Obj], placement: Placement) -> None:
    selected = [claim for claim in claims if volumes.selected_node(claim)]
    for claim in selected:  # provisioning has begun, or will
        placement.none |= ~snapshot.where(volumes.selected_node(claim))
        placement.choices.append((claim, []))
    unmatched: list[tuple[Obj, Mask]] = [(claim, ~placement.none) for claim in selected]
    taken: dict[str, Mask] = {}
    for claim in sorted((claim for claim in claims if not volumes.selected_node(claim)), key=requested_bytes):
        left = ~placement.none
        choices = []
        for volume in volumes.candidates(claim):
            used = taken.setdefault(volume["metadata"]["name"], np.zeros(snapshot.size, np.bool_))
            fitting = allowed(snapshot, volume) & left & ~used
            used |= fitting
            left &= ~fitting
            choices.append((volume, fitting))
        placement.choices.append((claim, choices))
        unmatched.append((claim, left))
    for claim, rows in unmatched:
        _provision(volumes, snapshot, claim, rows, placement)


def _provision(volumes: Volumes, snapshot: Snapshot, claim: Obj, rows: Mask, placement: Placement) -> None:
    """Sorts out the nodes of `rows` for which the claim can't be provisioned. What an earlier claim said of a node stands."""
    rows = rows & ~placement.none & ~placement.no_space
    storage_class = volumes.classes.get(class_of(claim)) or {}
    if storage_class.get("provisioner") in (None, "", NO_PROVISIONER):
        placement.none |= rows
        return
    topologies = storage_class.get("allowedTopologies")
    if topologies:
        placement.none |= rows & ~nodeaffinity.matches_any(snapshot, map(_as_node_term, topologies))
    placement.no_space |= rows & ~placement.none & ~_has_space(volumes, snapshot, claim, storage_class)


def _as_node_term(topology: Obj) -> Obj:
    expressions = topology.get("matchLabelExpressions") or ()
    return {"matchExpressions": [{"key": e["key"], "operator": "In", "values": e.get("values") or []} for e in expressions]}


def _has_space(volumes: Volumes, snapshot: Snapshot, claim: Obj, storage_class: Obj) -> Mask:
    """The nodes that can reach enough space, as the driver tells it; all of them where it doesn't."""
    driver = volumes.drivers.get(storage_class["provisioner"])
    if driver is None or not (driver.get("spec") or {}).get("storageCapacity"):
        return np.ones(snapshot.size, np.bool_)
    mask = np.zeros(snapshot.size, np.bool_)
    for capacity in volumes.capacities.values():
        limit = capacity_limit(capacity)
        if capacity.get("storageClassName") == class_of(claim) and limit is not None and limit >= requested_bytes(claim):
            mask |= nodeaffinity.matches_selector(snapshot, selectors.from_object(capacity.get("nodeTopology")))
    return mask
