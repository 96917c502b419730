"""InterPodAffinity: pods that want to be near others, or away from them, and those that others want near or away.

Source: plugins/interpodaffinity (filtering.go, scoring.go), v1.34.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from kubelite.meta.types import Obj
from kubelite.scheduler.framework import MAX_SCORE, Change, ClusterEvent, Failure, Memory, Rows, Scope
from kubelite.scheduler.snapshot import Counter, Floats, Ints, Mask, Snapshot
from kubelite.scheduler.templates import Template
from kubelite.scheduler.terms import AffinityTerm

#: What a required affinity term of an existing pod counts for.
HARD_WEIGHT = 1


class InterPodAffinity:
    name: ClassVar = "InterPodAffinity"
    scope: ClassVar = Scope.CLUSTER
    events: ClassVar = frozenset(
        (
            ClusterEvent.NODE_ADDED,
            ClusterEvent.NODE_LABELS,
            ClusterEvent.POD_ASSIGNED,
            ClusterEvent.POD_CHANGED,
            ClusterEvent.POD_REMOVED,
            ClusterEvent.NAMESPACE,
        )
    )
    weight: ClassVar = 2.0

    def applies(self, snapshot: Snapshot, template: Template, memory: Memory) -> bool:
        if template.terms:
            return True
        against, for_or_less = self._of_others(snapshot, template, memory)
        return any(c.total for _, c in against) or any(c.total for _, _, c in for_or_less)

    def filter(self, snapshot: Snapshot, template: Template, rows: Rows, memory: Memory) -> Sequence[Failure]:
        terms = template.terms
        failures = []
        if terms.required_affinity:
            lonely = ~self._near(snapshot, template)
            failures.append(Failure("node(s) didn't match pod affinity rules", lonely, unresolvable=True))
        if terms.required_anti_affinity:
            crowded = np.zeros(snapshot.size, np.bool_)
            for term in terms.required_anti_affinity:
                crowded |= _domains_with(snapshot, term, snapshot.counter(term.matcher))
            failures.append(Failure("node(s) didn't match pod anti-affinity rules", crowded))
        against, _ = self._of_others(snapshot, template, memory)
        unwanted = np.zeros(snapshot.size, np.bool_)
        for term, counter in against:
            if counter.total:
                unwanted |= _domains_with(snapshot, term, counter)
        failures.append(Failure("node(s) didn't satisfy existing pods anti-affinity rules", unwanted))
        result = []
        seen = np.zeros(snapshot.size, np.bool_)
        for failure in failures:  # a node fails for the first reason alone
            mask = failure.mask & ~seen
            seen |= failure.mask
            if mask.any():
                result.append(Failure(failure.reason, mask[rows], failure.unresolvable))
        return result

    def _near(self, snapshot: Snapshot, template: Template) -> Mask:
        """The nodes in whose domains there are pods that match all required terms."""
        terms = template.terms.required_affinity
        counter = snapshot.counter(*dict.fromkeys(term.matcher for term in terms))
        near = np.ones(snapshot.size, np.bool_)
        somewhere = [_domains_with(snapshot, term, counter) for term in terms]
        for domains in somewhere:
            near &= domains
        if not near.any() and not any(map(np.any, somewhere)) and self._matches_itself(snapshot, template):
            near[:] = True  # the first of pods that want to be near each other: wherever there are such domains
            for term in terms:
                near &= snapshot.column(term.topology_key).ids >= 0
        return near

    def _matches_itself(self, snapshot: Snapshot, template: Template) -> bool:
        namespace_labels = snapshot.namespaces.get(template.namespace, {})
        return all(
            term.matcher.matches(template.namespace, namespace_labels, template.labels, False)
            for term in template.terms.required_affinity
        )

    def helps(self, change: Change, template: Template) -> bool:
        terms = template.terms
        match change.event:
            case ClusterEvent.NODE_ADDED | ClusterEvent.NODE_LABELS:
                alone = not terms.required_affinity and not terms.required_anti_affinity  # others' terms keep it away
                return alone or _moved(terms.required_affinity, change) or _left(terms.required_anti_affinity, change)
            case ClusterEvent.NAMESPACE:
                return True
            case ClusterEvent.POD_ASSIGNED:
                return _matches_all(terms.required_affinity, change.new.template)
            case ClusterEvent.POD_REMOVED:
                gone = change.old.template
                return _matches_any(terms.required_anti_affinity, gone) or _matches_any(
                    gone.terms.required_anti_affinity, template
                )
            case _:
                before, after = change.old.template, change.new.template
                near, away = terms.required_affinity, terms.required_anti_affinity
                came_near = _matches_all(near, after) and not _matches_all(near, before)
                return came_near or (_matches_any(away, before) and not _matches_any(away, after))

    def score(self, snapshot: Snapshot, template: Template, rows: Rows, memory: Memory) -> Floats:
        total = np.zeros(snapshot.size, np.float64)
        for weighted in template.terms.preferred:
            total += weighted.weight * _pods_in_domain(snapshot, weighted.term, snapshot.counter(weighted.term.matcher))
        _, for_or_less = self._of_others(snapshot, template, memory)
        for term, weight, counter in for_or_less:
            if counter.total:
                total += (weight or HARD_WEIGHT) * _pods_in_domain(snapshot, term, counter)
        return total[rows]

    def normalize(self, scores: Floats, feasible: Mask) -> Floats:
        found = scores[feasible]
        least, most = found.min(), found.max()
        return np.floor(MAX_SCORE * ((scores - least) / (most - least))) if most > least else np.zeros_like(scores)

    def _of_others(
        self, snapshot: Snapshot, template: Template, memory: Memory
    ) -> tuple[list[tuple[AffinityTerm, Counter]], list[tuple[AffinityTerm, int, Counter]]]:
        """The terms of existing pods that match the template."""
        found: tuple[int, tuple[list[tuple[AffinityTerm, Counter]], list[tuple[AffinityTerm, int, Counter]]]] | None = memory.get(
            self.name
        )
        if found is None or found[0] != snapshot.terms_version:
            both = list(snapshot.carriers_against(template)), list(snapshot.carriers_for(template))
            found = memory[self.name] = snapshot.terms_version, both
        return found[1]


def _matches_all(terms: Sequence[AffinityTerm], template: Template) -> bool:
    return bool(terms) and all(term.matcher.may_match(template.namespace, template.labels) for term in terms)


def _matches_any(terms: Sequence[AffinityTerm], template: Template) -> bool:
    return any(term.matcher.may_match(template.namespace, template.labels) for term in terms)


def _moved(terms: Sequence[AffinityTerm], change: Change) -> bool:
    """Whether a node came, or moved, into a domain in which there may be pods to be near to."""
    return any(_label(change.new, term) is not None and _label(change.new, term) != _label(change.old, term) for term in terms)


def _left(terms: Sequence[AffinityTerm], change: Change) -> bool:
    """Whether a node came, or left a domain in which there may be pods to be away from."""
    return any(
        change.old is None or (_label(change.old, term) is not None and _label(change.new, term) != _label(change.old, term))
        for term in terms
    )


def _label(node: Obj | None, term: AffinityTerm) -> str | None:
    labels: dict[str, str] = ((node or {}).get("metadata") or {}).get("labels") or {}
    return labels.get(term.topology_key)


def _pods_in_domain(snapshot: Snapshot, term: AffinityTerm, counter: Counter) -> Ints:
    """For each node how many of the counted pods are in its domain; 0 where it is in none."""
    column = snapshot.column(term.topology_key)
    return column.totals(counter.counts)[column.ids]


def _domains_with(snapshot: Snapshot, term: AffinityTerm, counter: Counter) -> Mask:
    if not counter.total:
        return np.zeros(snapshot.size, np.bool_)
    return _pods_in_domain(snapshot, term, counter) > 0
