"""Checks of where a pod may go: node selectors, tolerations, affinity, topology spread, scheduling gates.

Source: kubernetes pkg/apis/core/validation/validation.go, v1.34.
"""

from collections.abc import Mapping, Sequence

from kubelite.meta import errors, names
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import fields, metadata

TAINT_EFFECTS = ("NoExecute", "NoSchedule", "PreferNoSchedule")
NODE_POLICIES = ("Honor", "Ignore")
UNSATISFIABLE_ACTIONS = ("DoNotSchedule", "ScheduleAnyway")
REQUIRED, PREFERRED = "requiredDuringSchedulingIgnoredDuringExecution", "preferredDuringSchedulingIgnoredDuringExecution"


def check_gates(gates: Sequence[Obj], path: str) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[str] = set()
    for i, gate in enumerate(gates):
        name = gate.get("name", "")
        causes += fields.invalid_if(names.qualified_name(name), f"{path}[{i}]", name)
        if name in seen:
            causes.append(errors.duplicate(f"{path}[{i}]", name))
        seen.add(name)
    return causes


def check_spread(constraints: Sequence[Obj], path: str) -> list[Cause]:
    """`spec.topologySpreadConstraints`."""
    causes: list[Cause] = []
    kinds = [(c.get("topologyKey", ""), c.get("whenUnsatisfiable", "")) for c in constraints]
    for i, constraint in enumerate(constraints):
        at = f"{path}[{i}]"
        key, action = kinds[i]
        causes += fields.positive(constraint.get("maxSkew", 0), f"{at}.maxSkew")
        if not key:
            causes.append(errors.required(f"{at}.topologyKey", "can not be empty"))
        if action not in UNSATISFIABLE_ACTIONS:
            causes.append(errors.not_supported(f"{at}.whenUnsatisfiable", action, UNSATISFIABLE_ACTIONS))
        if kinds[i] in kinds[i + 1 :]:
            causes.append(errors.duplicate(f"{at}.{{topologyKey, whenUnsatisfiable}}", f"{{{key}, {action}}}"))
        domains = constraint.get("minDomains")
        causes += fields.positive(domains, f"{at}.minDomains")
        if domains is not None and action != "DoNotSchedule":
            text = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
            causes.append(errors.invalid(f"{at}.minDomains", domains, text))
        for name in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
            if name in constraint and constraint[name] not in NODE_POLICIES:
                causes.append(errors.not_supported(f"{at}.{name}", constraint[name], NODE_POLICIES))
        causes += _check_label_keys(constraint, at)
        causes += fields.label_selector(constraint.get("labelSelector"), f"{at}.labelSelector")
    return causes


def _check_label_keys(term: Obj, path: str) -> list[Cause]:
    """Keys whose values in the incoming pod's labels are added to a selector, where they are already when this is checked."""
    matching, differing = term.get("matchLabelKeys") or (), term.get("mismatchLabelKeys") or ()
    if not matching and not differing:
        return []
    selector = term.get("labelSelector")
    causes: list[Cause] = []
    for field, keys in (("matchLabelKeys", matching), ("mismatchLabelKeys", differing)):
        if keys and selector is None:
            causes.append(errors.forbidden(f"{path}.{field}", "must not be specified when labelSelector is not set"))
            continue
        for i, key in enumerate(keys):
            causes += fields.invalid_if(names.qualified_name(key), f"{path}.{field}[{i}]", key)
    if selector is not None:
        places = {key: i for i, key in enumerate(matching)}
        seen = set(selector.get("matchLabels") or ())
        for expression in selector.get("matchExpressions") or ():
            key = expression.get("key", "")
            if key in places and key in seen:
                text = "exists in both matchLabelKeys and labelSelector"
                causes.append(errors.invalid(f"{path}[{places[key]}]", key, text))
            seen.add(key)
    for i, key in enumerate(matching):
        if key in differing:
            text = "exists in both matchLabelKeys and mismatchLabelKeys"
            causes.append(errors.invalid(f"{path}.matchLabelKeys[{i}]", key, text))
    return causes


def check_tolerations(tolerations: Sequence[Obj], path: str) -> list[Cause]:
    """Tolerations of a pod or of a runtime class."""
    causes: list[Cause] = []
    for i, toleration in enumerate(tolerations):
        at = f"{path}[{i}]"
        key, operator = toleration.get("key", ""), toleration.get("operator", "")
        value, effect = toleration.get("value", ""), toleration.get("effect", "")
        if key:
            causes += fields.invalid_if(names.qualified_name(key), f"{at}.key", key)
        elif operator != "Exists":
            text = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
            causes.append(errors.invalid(f"{at}.operator", operator, text))
        if toleration.get("tolerationSeconds") is not None and effect != "NoExecute":
            text = "effect must be 'NoExecute' when `tolerationSeconds` is set"
            causes.append(errors.invalid(f"{at}.effect", effect, text))
        if operator in ("", "Equal"):
            faults = names.label_value(value)
            if faults:
                causes.append(errors.invalid(f"{at}.operator", value, ";".join(faults)))
        elif operator == "Exists":
            if value:
                text = "value must be empty when `operator` is 'Exists'"
                causes.append(errors.invalid(f"{at}.operator", value, text))
        else:
            causes.append(errors.not_supported(f"{at}.operator", operator, ("Equal", "Exists")))
        if effect and effect not in TAINT_EFFECTS:
            causes.append(errors.not_supported(f"{at}.effect", effect, TAINT_EFFECTS))
    return causes


def check_affinity(affinity: Obj, path: str) -> list[Cause]:
    causes: list[Cause] = []
    node = affinity.get("nodeAffinity")
    if node:
        if REQUIRED in node:
            causes += check_node_selector(node[REQUIRED], f"{path}.nodeAffinity.{REQUIRED}")
        for i, term in enumerate(node.get(PREFERRED) or ()):
            at = f"{path}.nodeAffinity.{PREFERRED}[{i}]"
            causes += _check_weight(term, at)
            # bad values are only warned of: a cluster of one node meets every preference
            causes += _check_node_term(term.get("preference") or {}, f"{at}.preference", check_values=False)
    for name in ("podAffinity", "podAntiAffinity"):
        pod = affinity.get(name)
        if pod:
            for i, term in enumerate(pod.get(REQUIRED) or ()):
                causes += _check_pod_term(term, f"{path}.{name}.{REQUIRED}[{i}]")
            for i, term in enumerate(pod.get(PREFERRED) or ()):
                at = f"{path}.{name}.{PREFERRED}[{i}]"
                causes += _check_weight(term, at)
                causes += _check_pod_term(term.get("podAffinityTerm") or {}, f"{at}.podAffinityTerm")
    return causes


def _check_weight(term: Obj, at: str) -> list[Cause]:
    weight = term.get("weight", 0)
    return [] if 1 <= weight <= 100 else [errors.invalid(f"{at}.weight", weight, "must be in the range 1-100")]


def check_node_selector(selector: Obj, path: str) -> list[Cause]:
    """A node selector: at least one term."""
    terms = selector.get("nodeSelectorTerms") or ()
    if not terms:
        return [errors.required(f"{path}.nodeSelectorTerms", "must have at least one node selector term")]
    return [c for i, term in enumerate(terms) for c in _check_node_term(term, f"{path}.nodeSelectorTerms[{i}]")]


def _check_node_term(term: Obj, path: str, check_values: bool = True) -> list[Cause]:
    causes: list[Cause] = []
    for i, requirement in enumerate(term.get("matchExpressions") or ()):
        at = f"{path}.matchExpressions[{i}]"
        operator, values = requirement.get("operator"), requirement.get("values") or ()
        if operator in ("In", "NotIn"):
            if not values:
                causes.append(errors.required(f"{at}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
        elif operator in ("Exists", "DoesNotExist"):
            if values:
                text = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                causes.append(errors.forbidden(f"{at}.values", text))
        elif operator in ("Gt", "Lt"):
            if len(values) != 1:
                text = "must be specified single value when `operator` is 'Lt' or 'Gt'"
                causes.append(errors.required(f"{at}.values", text))
        else:
            causes.append(errors.invalid(f"{at}.operator", operator or "", "not a valid selector operator"))
        key = requirement.get("key", "")
        causes += fields.invalid_if(names.qualified_name(key), f"{at}.key", key)
        for j, value in enumerate(values if check_values else ()):
            causes += fields.invalid_if(names.label_value(value), f"{at}.values[{j}]", value)
    for i, requirement in enumerate(term.get("matchFields") or ()):
        causes += _check_node_field(requirement, f"{path}.matchFields[{i}]")
    return causes


def _check_node_field(requirement: Obj, at: str) -> list[Cause]:
    """A requirement for a node's own field, which only its name can be."""
    causes: list[Cause] = []
    operator, key, values = requirement.get("operator", ""), requirement.get("key", ""), requirement.get("values") or ()
    if operator not in ("In", "NotIn"):
        causes.append(errors.invalid(f"{at}.operator", operator, "not a valid selector operator"))
    elif len(values) != 1:
        text = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
        causes.append(errors.required(f"{at}.values", text))
    if key != "metadata.name":
        return [*causes, errors.invalid(f"{at}.key", key, "not a valid field selector key")]
    for j, value in enumerate(values):
        causes += fields.invalid_if(names.dns1123_subdomain(value), f"{at}.values[{j}]", value)
    return causes


def _check_pod_term(term: Obj, path: str) -> list[Cause]:
    causes = fields.label_selector(term.get("labelSelector"), f"{path}.labelSelector")
    causes += fields.label_selector(term.get("namespaceSelector"), f"{path}.namespaceSelector")
    for name in term.get("namespaces") or ():
        causes += fields.invalid_if(metadata.label_faults(name, False), f"{path}.namespace", name)
    causes += _check_label_keys(term, path)
    key = term.get("topologyKey", "")
    if not key:
        causes.append(errors.required(f"{path}.topologyKey", "can not be empty"))
    return causes + fields.invalid_if(names.qualified_name(key), f"{path}.topologyKey", key)


def check_added_tolerations(new: Sequence[Obj], old: Sequence[Obj], path: str) -> list[Cause]:
    """Of an update: tolerations stay, but for how long they hold; others may come."""

    def key(toleration: Obj) -> Obj:
        return {k: v for k, v in toleration.items() if k != "tolerationSeconds"}

    kept = [key(toleration) for toleration in new]
    if all(key(toleration) in kept for toleration in old):
        return []
    return [errors.forbidden(path, "existing toleration can not be modified except its tolerationSeconds")]


def check_removed_gates(new: Sequence[Obj], old: Sequence[Obj], path: str) -> list[Cause]:
    """Of an update: scheduling gates only go."""
    before = {gate.get("name") for gate in old}
    fresh = {gate.get("name"): i for i, gate in enumerate(new) if gate.get("name") not in before}
    return [
        errors.forbidden(f"{path}[{i}].name", f"only deletion is allowed, but found new scheduling gate '{name}'")
        for name, i in fresh.items()
    ]


def check_narrowed(new: Obj, old: Obj, path: str) -> list[Cause]:
    """Of an update of a gated pod: its node selector and its required node affinity may only become narrower."""
    causes: list[Cause] = []
    selector: Mapping[str, str] = new.get("nodeSelector") or {}
    if any(selector.get(key) != value for key, value in (old.get("nodeSelector") or {}).items()):
        text = "only additions to spec.nodeSelector are allowed (no mutations or deletions)"
        causes.append(errors.invalid(f"{path}.nodeSelector", selector, text))
    before, after = (_node_terms(spec) for spec in (old, new))
    at = f"{path}.affinity.nodeAffinity.{REQUIRED}.nodeSelectorTerms"
    if before and len(before) != len(after):
        text = "no additions/deletions to non-empty NodeSelectorTerms list are allowed"
        return [*causes, errors.invalid(at, after or None, text)]
    for i, term in enumerate(before):
        if not _has_only_more(after[i], term):
            text = "only additions are allowed (no mutations or deletions)"
            causes.append(errors.invalid(f"{at}[{i}]", after[i], text))
    return causes


def _node_terms(spec: Obj) -> Sequence[Obj]:
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    terms: Sequence[Obj] = (affinity.get(REQUIRED) or {}).get("nodeSelectorTerms") or ()
    return terms


def _has_only_more(new: Obj, old: Obj) -> bool:
    parts = [(new.get(field) or [], old.get(field) or []) for field in ("matchExpressions", "matchFields")]
    if not any(was for _, was in parts):
        return not any(now for now, _ in parts)
    return all(now[: len(was)] == was for now, was in parts)
