"""Hints: which zone, or which node, should use an endpoint.

A service asks for them by `trafficDistribution`: endpoints are for their own zone, or their own node. Or by the annotation
`service.kubernetes.io/topology-mode`: each zone then gets a share that its CPUs are of all, some of other zones' endpoints too.

Source: kubernetes staging endpointslice/trafficdist and endpointslice/topologycache, v1.34.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from kubelite.client.informers import Informer
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


def weight(node: Obj) -> tuple[bool, str, str]:
    """(the node is ready, its zone, its CPUs): what a share is made of."""
    labels = node["metadata"].get("labels") or {}
    cpu = ((node.get("status") or {}).get("allocatable") or {}).get("cpu", "0")
    return conditions.is_true(node, "Ready"), labels.get(ZONE_LABEL, ""), cpu


def shares_of_cpu(nodes: Iterable[Obj]) -> dict[str, float]:
    """Which part of the CPUs each zone has; empty where it can't be said, or all is in one zone."""
    cpus: Counter[str] = Counter()
    for node in nodes:
        ready, zone, cpu = weight(node)
        if any(label in (node["metadata"].get("labels") or {}) for label in EXCLUDED) or not ready:
            continue
        milli = int(quantities.parse(cpu) * 1000)
        if not zone or not milli:
            return {}
        cpus[zone] += milli
    return {zone: milli / cpus.total() for zone, milli in cpus.items()} if len(cpus) > 1 else {}


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
    """Gives endpoints their hints, and remembers how many of each service each zone has."""

    def __init__(self) -> None:
        self._given: dict[str, dict[str, Counter[str]]] = {}
        #: The services that were told that they have hints.
        self._hinted: set[str] = set()
        self._ratios: dict[str, float] | None = None

    def forget_shares(self) -> None:
        """A node is another one than before."""
        self._ratios = None

    def _shares(self, nodes: Sequence[Obj]) -> dict[str, float]:
        if self._ratios is None:
            self._ratios = shares_of_cpu(nodes)
        return self._ratios

    def overloaded(self, nodes: Sequence[Obj]) -> list[str]:
        """The keys of services that have too few endpoints for some zone as the nodes are now."""
        ratios = self._shares(nodes)
        return [key for key, given in self._given.items() if any(_is_overloaded(counts, ratios) for counts in given.values())]

    def give(self, key: str, service: Obj, part: Part, nodes: Informer) -> list[Event]:
        """Sets the hints of what is written, and takes in what must be written for them; returns what is to be told of it."""
        if is_by_zone(service):
            return self._give_by_zone(key, part, nodes.list())
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

    def _give_by_zone(self, key: str, part: Part, nodes: Sequence[Obj]) -> list[Event]:
        listed = [e for s in (*part.create, *part.update, *part.same) for e in s.get("endpoints") or ()]
        allotted = allocations(self._shares(nodes), sum(map(_is_ready, listed)))
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
