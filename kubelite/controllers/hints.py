"""Hints: which zone, or which node, should use an endpoint.

A service asks for them by `trafficDistribution`: endpoints are for their own zone, or their own node. Or by the annotation
`service.kubernetes.io/topology-mode`: each zone then gets a share that its CPUs are of all, some of other zones' endpoints too.

Source: kubernetes staging endpointslice/trafficdist and endpointslice/topologycache, v1.34.
"""

import math
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from kubelite.controllers import conditions
from kubelite.controllers.sliceplan import ZONE_LABEL, Part
from kubelite.meta import quantities
from kubelite.meta.types import Obj

MODES = ("service.kubernetes.io/topology-aware-hints", "service.kubernetes.io/topology-mode")
EXCLUDED = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")
CLOSE = ("PreferClose", "PreferSameZone", "PreferSameNode")
#: A zone may have so much less than its share.
OVERLOAD = 0.2
DISABLED = "TopologyAwareHintsDisabled"

#: (type, reason, message) of an event.
Event = tuple[str, str, str]


class Share(NamedTuple):
    """How many endpoints a zone must have, may have, and should have."""

    least: int
    most: int
    desired: float


def is_by_zone(service: Obj) -> bool:
    """The service asks for a share of its endpoints for each zone."""
    annotations = service["metadata"].get("annotations") or {}
    return next((annotations[key] for key in MODES if key in annotations), "") in ("Auto", "auto")


def weight(node: Obj | None) -> tuple[str, str] | None:
    """(its zone, its CPUs): what a node adds to a share. None: nothing, being gone, not ready, or not for users' pods."""
    if node is None or not conditions.is_true(node, "Ready"):
        return None
    labels = node["metadata"].get("labels") or {}
    if any(label in labels for label in EXCLUDED):
        return None
    return labels.get(ZONE_LABEL, ""), ((node.get("status") or {}).get("allocatable") or {}).get("cpu", "0")


def allocations(ratios: Mapping[str, float], count: int) -> dict[str, Share] | str:
    """Each zone's share of so many endpoints, or why there are none."""
    if not ratios:
        return "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes"
    if len(ratios) > count:
        return f"Insufficient number of endpoints ({count} endpoints, {len(ratios)} zones)"
    desired = {zone: ratio * count for zone, ratio in ratios.items()}
    least = {zone: math.ceil(wish / (1 + OVERLOAD)) for zone, wish in desired.items()}
    spare = count - sum(least.values())
    if spare < 0:
        what = "Unable to allocate minimum required endpoints to each zone without exceeding overload threshold"
        return f"{what} ({count} endpoints, {len(ratios)} zones)"
    return {zone: Share(least[zone], least[zone] + spare, max(desired[zone], least[zone])) for zone in ratios}


class Zones:
    """Gives endpoints their hints, and remembers how many of each service each zone has.

    It is told of every node's coming, change and going by `node_changed`, and counts on: a look at all nodes at each of them
    would take a minute of the process where thousands join.
    """

    def __init__(self) -> None:
        self._given: dict[str, dict[str, Counter[str]]] = {}
        #: The services that were told that they have hints.
        self._hinted: set[str] = set()
        #: Thousandths of CPUs by zone.
        self._cpus: Counter[str] = Counter()
        #: Nodes whose zone or CPUs nobody knows. With one of them there are no shares.
        self._unknown = 0

    def node_changed(self, old: Obj | None, new: Obj | None) -> bool:
        """Whether zones' shares may be others now."""
        before, after = weight(old), weight(new)
        if before == after:
            return False
        for sign, found in ((-1, before), (1, after)):
            if found is None:
                continue
            zone, milli = found[0], int(quantities.parse(found[1]) * 1000)
            if zone and milli:
                self._cpus[zone] += sign * milli
                if not self._cpus[zone]:
                    del self._cpus[zone]
            else:
                self._unknown += sign
        return True

    def _shares(self) -> dict[str, float]:
        """Which part of the CPUs each zone has; empty where it can't be said, or all is in one zone."""
        if self._unknown or len(self._cpus) < 2:
            return {}
        total = self._cpus.total()
        return {zone: milli / total for zone, milli in self._cpus.items()}

    def overloaded(self) -> list[str]:
        """The keys of services that have too few endpoints for some zone as the nodes are now."""
        ratios = self._shares()
        return [key for key, given in self._given.items() if any(_is_overloaded(counts, ratios) for counts in given.values())]

    def give(self, key: str, service: Obj, part: Part) -> list[Event]:
        """Sets the hints of what is written, and takes in what must be written for them; returns what is to be told of it."""
        if is_by_zone(service):
            return self._give_by_zone(key, part)
        told: list[Event] = []
        if key in self._hinted:
            told.append(_told("Topology Aware Hints has been disabled", part))
        self._forget(key, part.family)
        wish = service["spec"].get("trafficDistribution")
        if wish in CLOSE:
            _give_close(part, nodes_too=wish == "PreferSameNode")
        else:
            _take(part)
        return told

    def _give_by_zone(self, key: str, part: Part) -> list[Event]:
        listed = [e for s in (*part.create, *part.update, *part.same) for e in s.get("endpoints") or ()]
        allotted = allocations(self._shares(), sum(map(_is_ready, listed)))
        if isinstance(allotted, str):
            return self._give_up(key, part, allotted)
        counts: Counter[str] = Counter()
        for each in [*part.same]:
            mine = _counts_of(each, counts, allotted)
            if mine is None:
                _move(part, each)
            else:
                counts += mine
        for endpoint in (e for s in (*part.create, *part.update) for e in s["endpoints"]):
            endpoint.pop("hints", None)
            if not _is_ready(endpoint):
                continue
            if not endpoint.get("zone"):
                return self._give_up(key, part, "One or more endpoints do not have a zone specified")
            counts[endpoint["zone"]] += 1
            endpoint["hints"] = {"forZones": [{"name": endpoint["zone"]}]}
        _redistribute(part, counts, allotted)
        if not counts:
            return self._give_up(key, part, "No hints allocated for zones")
        self._given.setdefault(key, {})[part.family] = counts
        if key in self._hinted:
            return []
        self._hinted.add(key)
        return [("Normal", "TopologyAwareHintsEnabled", _text("Topology Aware Hints has been enabled", part))]

    def _give_up(self, key: str, part: Part, why: str) -> list[Event]:
        self._forget(key, part.family)
        _take(part)
        return [_told(why, part)]

    def _forget(self, key: str, family: str) -> None:
        self._hinted.discard(key)
        given = self._given.get(key, {})
        given.pop(family, None)
        if not given:
            self._given.pop(key, None)


def _text(message: str, part: Part) -> str:
    return f"{message}, addressType: {part.family}"


def _told(message: str, part: Part) -> Event:
    return "Warning", DISABLED, _text(message, part)


def _is_ready(endpoint: Obj) -> bool:
    return bool(endpoint["conditions"].get("ready"))


def _move(part: Part, slice_: Obj) -> Obj:
    """Takes a slice that would stay as it is among those that are written, as a copy."""
    part.same.remove(slice_)
    copy = {**slice_, "endpoints": [dict(endpoint) for endpoint in slice_.get("endpoints") or ()]}
    part.update.append(copy)
    return copy


def _take(part: Part) -> None:
    for each in [*part.same]:
        if any("hints" in endpoint for endpoint in each.get("endpoints") or ()):
            _move(part, each)
    for endpoint in (e for s in (*part.create, *part.update) for e in s["endpoints"]):
        endpoint.pop("hints", None)


def _close_hints(endpoint: Obj, nodes_too: bool) -> Obj:
    found = {"forZones": [{"name": endpoint["zone"]}]} if endpoint.get("zone") else {}
    if nodes_too and endpoint.get("nodeName"):
        found["forNodes"] = [{"name": endpoint["nodeName"]}]
    return found


def _give_close(part: Part, *, nodes_too: bool) -> None:
    for each in [*part.same]:
        ready = filter(_is_ready, each.get("endpoints") or ())
        if any((endpoint.get("hints") or {}) != _close_hints(endpoint, nodes_too) for endpoint in ready):
            _move(part, each)
    for endpoint in (e for s in (*part.create, *part.update) for e in s["endpoints"]):
        if _is_ready(endpoint):
            endpoint.pop("hints", None)
            if hints := _close_hints(endpoint, nodes_too):
                endpoint["hints"] = hints


def _counts_of(slice_: Obj, before: Mapping[str, int], allotted: Mapping[str, Share]) -> Counter[str] | None:
    """How many of a slice's endpoints are for each zone; None where that can't stay as it is."""
    counts: Counter[str] = Counter()
    for endpoint in filter(_is_ready, slice_.get("endpoints") or ()):
        zones = [zone["name"] for zone in (endpoint.get("hints") or {}).get("forZones") or ()]
        if not zones or any(zone not in allotted for zone in zones):
            return None
        counts.update(zones)
    return counts if all(count + before.get(zone, 0) <= allotted[zone].most for zone, count in counts.items()) else None


def _redistribute(part: Part, counts: Counter[str], allotted: Mapping[str, Share]) -> None:
    """Gives endpoints of zones that have more than their share to those that have less."""
    gives = {zone: counts[zone] - share.desired for zone, share in allotted.items() if counts[zone] > share.desired}
    takes = {zone: share.desired - counts[zone] for zone, share in allotted.items() if counts[zone] < share.desired}
    giving: Counter[str] = Counter()
    taking: Counter[str] = Counter()
    while gives and takes:
        giver, taker = max(gives, key=gives.__getitem__), max(takes, key=takes.__getitem__)
        if max(gives[giver], takes[taker]) < 1 or min(gives[giver], takes[taker]) < 0.5:
            break
        giving[giver] += 1
        taking[taker] += 1
        gives[giver] -= 1
        takes[taker] -= 1
    for endpoint in (e for s in (*part.create, *part.update) for e in s["endpoints"] if _is_ready(e)):
        giver = endpoint.get("zone", "")
        taker = next((zone for zone, count in taking.items() if count > 0), "")
        if giving[giver] > 0 and taker:
            endpoint["hints"] = {"forZones": [{"name": taker}]}
            giving[giver] -= 1
            taking[taker] -= 1
            counts[taker] += 1
            counts[giver] -= 1


def _is_overloaded(counts: Mapping[str, int], ratios: Mapping[str, float]) -> bool:
    if not counts:
        return False
    total = sum(counts.values())
    return not ratios or any(counts.get(z, 0) < math.ceil(total * ratio / (1 + OVERLOAD)) for z, ratio in ratios.items())
