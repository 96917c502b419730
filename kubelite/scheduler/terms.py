"""The terms by which pods name other pods: inter-pod affinity terms and what they match.

Source: KEP-3633 (matchLabelKeys), kube-scheduler framework types AffinityTerm, v1.34.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kubelite.meta import selectors
from kubelite.meta.selectors import LabelSelector
from kubelite.meta.types import Obj


@dataclass(frozen=True, slots=True)
class PodMatcher:
    """Which pods are meant: by namespace (named ones, and those whose labels match) and by label. Hashable: equal matchers of
    different pods share their counts."""

    namespaces: frozenset[str]
    namespace_selector: LabelSelector
    selector: LabelSelector
    #: Pods that are being deleted don't count.
    living_only: bool = False

    def matches(self, namespace: str, namespace_labels: Mapping[str, str], labels: Mapping[str, str], terminating: bool) -> bool:
        if terminating and self.living_only:
            return False
        if namespace not in self.namespaces and not self.namespace_selector.matches(namespace_labels):
            return False
        return self.selector.matches(labels)

    def may_match(self, namespace: str, labels: Mapping[str, str]) -> bool:
        """Whether a pod matches, or would if its namespace had the right labels."""
        return (namespace in self.namespaces or not self.namespace_selector.nothing) and self.selector.matches(labels)


@dataclass(frozen=True, slots=True)
class AffinityTerm:
    """One (anti-)affinity term: pods that match, in the same domain of the topology key."""

    matcher: PodMatcher
    topology_key: str


@dataclass(frozen=True, slots=True)
class WeightedTerm:
    term: AffinityTerm
    weight: int


def in_namespace(namespace: str, selector: LabelSelector, *, living_only: bool = False) -> PodMatcher:
    return PodMatcher(frozenset((namespace,)), selectors.NOTHING, selector, living_only)


def _label_selector(selector: Obj | None) -> LabelSelector:
    """A selector that can't be read matches nothing, as the API accepted it nevertheless."""
    try:
        return selectors.from_object(selector)
    except ValueError:
        return selectors.NOTHING


def parse_term(term: Obj, namespace: str) -> AffinityTerm:
    # matchLabelKeys and mismatchLabelKeys were merged into the labelSelector when the pod was created.
    namespaces = frozenset(term.get("namespaces") or ())
    by_labels = selectors.NOTHING
    if term.get("namespaceSelector") is not None:
        by_labels = _label_selector(term["namespaceSelector"])
    elif not namespaces:
        namespaces = frozenset((namespace,))
    matcher = PodMatcher(namespaces, by_labels, _label_selector(term.get("labelSelector")))
    return AffinityTerm(matcher, term.get("topologyKey", ""))


@dataclass(frozen=True, slots=True)
class PodTerms:
    """A pod's inter-pod affinity, parsed."""

    required_affinity: tuple[AffinityTerm, ...] = ()
    required_anti_affinity: tuple[AffinityTerm, ...] = ()
    #: Anti-affinity has negative weights.
    preferred: tuple[WeightedTerm, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.required_affinity or self.required_anti_affinity or self.preferred)


NO_TERMS = PodTerms()


def parse_terms(affinity: Obj | None, namespace: str) -> PodTerms:
    pod_affinity = (affinity or {}).get("podAffinity") or {}
    anti_affinity = (affinity or {}).get("podAntiAffinity") or {}
    if not pod_affinity and not anti_affinity:
        return NO_TERMS

    def required(side: Obj) -> tuple[AffinityTerm, ...]:
        return tuple(parse_term(t, namespace) for t in side.get("requiredDuringSchedulingIgnoredDuringExecution") or ())

    def preferred(side: Obj, sign: int) -> Iterable[WeightedTerm]:
        for weighted in side.get("preferredDuringSchedulingIgnoredDuringExecution") or ():
            yield WeightedTerm(parse_term(weighted.get("podAffinityTerm") or {}, namespace), sign * weighted.get("weight", 0))

    return PodTerms(required(pod_affinity), required(anti_affinity), (*preferred(pod_affinity, 1), *preferred(anti_affinity, -1)))
