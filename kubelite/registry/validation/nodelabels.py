"""Labels of nodes that have better names by now.

Source: kubernetes pkg/api/node/util.go and pkg/apis/core/validation (betaToGALabel), v1.34.
"""

from collections.abc import Iterable, Mapping
from typing import Any

#: The labels that were beta, and those that they became.
SUCCESSORS: Mapping[str, str] = {
    "beta.kubernetes.io/arch": "kubernetes.io/arch",
    "beta.kubernetes.io/os": "kubernetes.io/os",
    "beta.kubernetes.io/instance-type": "node.kubernetes.io/instance-type",
    "failure-domain.beta.kubernetes.io/region": "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone": "topology.kubernetes.io/zone",
}
_SINCE = {"beta.kubernetes.io/arch": "v1.14", "beta.kubernetes.io/os": "v1.14"}

#: What is said of a label.
WARNINGS: Mapping[str, str] = {
    **{old: f'deprecated since {_SINCE.get(old, "v1.17")}; use "{new}" instead' for old, new in SUCCESSORS.items()},
    "app.kubernetes.io/created-by": "deprecated since v1.9",
    "scheduler.alpha.kubernetes.io/preferAvoidPods": "deprecated since v1.22; use Taints and Tolerations instead",
    "node-role.kubernetes.io/master": 'use "node-role.kubernetes.io/control-plane" instead',
}


def warn_of_expressions(expressions: Iterable[Mapping[str, Any]], path: str) -> list[str]:
    """For `matchExpressions` at a path."""
    keys = ((index, expression.get("key", "")) for index, expression in enumerate(expressions))
    return [f"{path}[{index}].key: {key} is {WARNINGS[key]}" for index, key in keys if key in WARNINGS]


def warn_of_selector(selector: Mapping[str, Any] | None, path: str) -> list[str]:
    """For a label selector of nodes."""
    found = warn_of_expressions((selector or {}).get("matchExpressions") or (), f"{path}.matchExpressions")
    labels = (selector or {}).get("matchLabels") or ()
    return found + [f"{path}.matchLabels.{label}: {WARNINGS[label]}" for label in labels if label in WARNINGS]
