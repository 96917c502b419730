"""NodeAffinity: nodeSelector and node affinity, required and preferred.

Source: component-helpers scheduling/corev1/nodeaffinity, v1.34.
"""

from collections.abc import Iterable, Sequence
from typing import ClassVar

import numpy as np

from kubelite.meta import selectors
from kubelite.meta.selectors import LabelSelector, Requirement
from kubelite.meta.types import Obj
from kubelite.scheduler.framework import MAX_SCORE, Change, ClusterEvent, Failure, Memory, Refusal, Rows, Scope
from kubelite.scheduler.snapshot import Floats, Mask, Snapshot
from kubelite.scheduler.templates import Template


def matches_requirement(snapshot: Snapshot, requirement: Requirement) -> Mask:
    key = requirement.key
    absent = requirement.operator in ("!=", "notin", "!")
    return snapshot.column(key).table(lambda value: requirement.matches({key: value}), absent)


def matches_selector(snapshot: Snapshot, selector: LabelSelector) -> Mask:
    """The nodes whose labels a selector matches."""
    mask = np.full(snapshot.size, not selector.nothing, np.bool_)
    for requirement in selector.requirements:
        mask &= matches_requirement(snapshot, requirement)
    return mask


def matches_term(snapshot: Snapshot, term: Obj) -> Mask:
    """The nodes that match one NodeSelectorTerm; an empty or unreadable one matches none."""
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    mask = np.full(snapshot.size, bool(expressions or fields), np.bool_)
    try:
        mask &= matches_selector(snapshot, selectors.from_node_expressions(expressions))
    except ValueError:
        return np.zeros(snapshot.size, np.bool_)
    for field in fields:
        mask &= _matches_field(snapshot, field)
    return mask


def _matches_field(snapshot: Snapshot, field: Obj) -> Mask:
    """matchFields knows metadata.name, In or NotIn one value."""
    if field.get("key") != "metadata.name" or field.get("operator") not in ("In", "NotIn"):
        return np.zeros(snapshot.size, np.bool_)
    mask = np.zeros(snapshot.size, np.bool_)
    for name in field.get("values") or ():
        mask |= snapshot.where(name)
    return mask if field["operator"] == "In" else ~mask


def matches_any(snapshot: Snapshot, terms: Iterable[Obj]) -> Mask:
    mask = np.zeros(snapshot.size, np.bool_)
    for term in terms:
        mask |= matches_term(snapshot, term)
    return mask


def required(snapshot: Snapshot, template: Template) -> Mask:
    """The nodes that the pod's nodeSelector and required node affinity allow."""
    mask = np.ones(snapshot.size, np.bool_)
    for key, value in (template.spec.get("nodeSelector") or {}).items():
        mask &= snapshot.column(key).table(value.__eq__, absent=False)
    terms = template.required_node_terms
    if terms is not None:
        mask &= matches_any(snapshot, terms)
    return mask


def allows(template: Template, node: Obj) -> bool:
    """The same of one node, which may be in no snapshot."""
    labels = node["metadata"].get("labels") or {}
    if any(labels.get(key) != value for key, value in (template.spec.get("nodeSelector") or {}).items()):
        return False
    terms = template.required_node_terms
    return terms is None or any(_term_allows(term, labels, node["metadata"]["name"]) for term in terms)


def _term_allows(term: Obj, labels: dict[str, str], name: str) -> bool:
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    try:
        selector = selectors.from_node_expressions(expressions)
    except ValueError:
        return False
    named = all((name in (field.get("values") or ())) == (field.get("operator") == "In") for field in fields)
    return bool(expressions or fields) and named and selector.matches(labels)


def named_nodes(template: Template) -> set[str] | None:
    """The nodes that the required affinity names, where each of its terms names some: what a DaemonSet's pods have."""
    names: set[str] = set()
    for term in template.required_node_terms or ({},):
        found = [set(f.get("values") or ()) for f in term.get("matchFields") or () if f.get("operator") == "In"]
        if not found:
            return None
        names |= set.intersection(*found)
    return names


class NamedNodes:
    """The part of NodeAffinity that Kubernetes does before all filters: nodes that are not named are not looked at."""

    name: ClassVar = "NodeAffinity"
    scope: ClassVar = Scope.NODES
    events: ClassVar = frozenset((ClusterEvent.NODE_ADDED,))

    def pre_filter(self, snapshot: Snapshot, template: Template) -> None:
        if template.required_node_terms and named_nodes(template) == set():
            raise Refusal(self.name, "pod affinity terms conflict")

    def applies(self, snapshot: Snapshot, template: Template, memory: Memory) -> bool:
        return bool(template.required_node_terms) and named_nodes(template) is not None

    def filter(self, snapshot: Snapshot, template: Template, rows: Rows, memory: Memory) -> Sequence[Failure]:
        named = np.zeros(snapshot.size, np.bool_)
        for name in named_nodes(template) or ():
            named |= snapshot.where(name)
        return [Failure("node(s) didn't satisfy plugin(s) [NodeAffinity]", ~named[rows], unresolvable=True)]

    def helps(self, change: Change, template: Template) -> bool:
        return allows(template, change.new)


class NodeAffinity:
    name: ClassVar = "NodeAffinity"
    scope: ClassVar = Scope.NODES
    events: ClassVar = frozenset((ClusterEvent.NODE_ADDED, ClusterEvent.NODE_LABELS))
    weight: ClassVar = 2.0

    def applies(self, snapshot: Snapshot, template: Template, memory: Memory) -> bool:
        return bool(template.spec.get("nodeSelector") or (template.spec.get("affinity") or {}).get("nodeAffinity"))

    def filter(self, snapshot: Snapshot, template: Template, rows: Rows, memory: Memory) -> Sequence[Failure]:
        mask = ~required(snapshot, template)
        return [Failure("node(s) didn't match Pod's node affinity/selector", mask[rows], unresolvable=True)]

    def helps(self, change: Change, template: Template) -> bool:
        was = change.old is not None and allows(template, change.old)
        return not was and allows(template, change.new)

    def score(self, snapshot: Snapshot, template: Template, rows: Rows, memory: Memory) -> Floats:
        total = np.zeros(snapshot.size, np.float64)
        for preferred in template.preferred_node_terms:
            total += preferred["weight"] * matches_term(snapshot, preferred.get("preference") or {})
        return total[rows]

    def normalize(self, scores: Floats, feasible: Mask) -> Floats:
        most = scores[feasible].max()
        return np.floor(MAX_SCORE * scores / most) if most else scores
