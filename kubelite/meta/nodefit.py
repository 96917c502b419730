"""Whether a node is one that a pod may be on: its labels and name, and taints that the pod tolerates. Pure.

Source: component-helpers scheduling/corev1/nodeaffinity, k8s.io/api core/v1 toleration.go, v0.34.
"""

from collections.abc import Mapping

from kubelite.meta import selectors
from kubelite.meta.types import Obj

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def matches(spec: Obj, node: Obj) -> bool:
    """The node has the labels that the pod's nodeSelector and required node affinity ask for."""
    labels = node["metadata"].get("labels") or {}
    if not (spec.get("nodeSelector") or {}).items() <= labels.items():
        return False
    required = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(REQUIRED)
    if required is None:
        return True
    return any(_matches_term(term, node, labels) for term in required.get("nodeSelectorTerms") or ())


def _matches_term(term: Obj, node: Obj, labels: Mapping[str, str]) -> bool:
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False  # an empty term is no term
    for requirement in fields:
        is_in = node["metadata"]["name"] in (requirement.get("values") or ())
        if requirement["key"] != "metadata.name" or is_in != (requirement["operator"] == "In"):
            return False
    return not expressions or selectors.from_node_expressions(expressions).matches(labels)


def tolerates(toleration: Obj, taint: Obj) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint["effect"]:
        return False
    if toleration.get("key") and toleration["key"] != taint["key"]:
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return True
    return bool(toleration.get("operator", "Equal") in ("", "Equal") and toleration.get("value", "") == taint.get("value", ""))
