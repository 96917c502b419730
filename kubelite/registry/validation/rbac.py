"""Checks of roles and their bindings.

Source: kubernetes pkg/apis/rbac/validation, v1.34.
"""

from collections.abc import Sequence
from typing import Any

from kubelite.meta import errors, names
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import fields

GROUP = "rbac.authorization.k8s.io"


def check_role(obj: Obj, namespaced: bool) -> list[Cause]:
    """A Role or ClusterRole."""
    causes: list[Cause] = []
    for index, rule in enumerate(obj.get("rules") or ()):
        causes += _check_rule(rule, namespaced, f"rules[{index}]")
    aggregation = obj.get("aggregationRule")
    if aggregation is not None:
        path = "aggregationRule.clusterRoleSelectors"
        chosen = aggregation.get("clusterRoleSelectors") or ()
        if not chosen:
            text = "at least one clusterRoleSelector required if aggregationRule is non-nil"
            causes.append(errors.required(path, text))
        for index, selector in enumerate(chosen):
            faults = fields.label_selector(selector, f"{path}[{index}]")
            causes += faults
            if faults:
                causes.append(errors.invalid(f"{path}[{index}]", selector, "invalid label selector."))
    return causes


def _check_rule(rule: Obj, namespaced: bool, path: str) -> list[Cause]:
    causes: list[Cause] = []
    if not rule.get("verbs"):
        causes.append(errors.required(f"{path}.verbs", "verbs must contain at least one value"))
    urls = rule.get("nonResourceURLs")
    if urls:
        at = f"{path}.nonResourceURLs"
        if namespaced:
            causes.append(errors.invalid(at, urls, "namespaced rules cannot apply to non-resource URLs"))
        if rule.get("apiGroups") or rule.get("resources") or rule.get("resourceNames"):
            text = "rules cannot apply to both regular resources and non-resource URLs"
            causes.append(errors.invalid(at, urls, text))
        return causes
    if not rule.get("apiGroups"):
        causes.append(errors.required(f"{path}.apiGroups", "resource rules must supply at least one api group"))
    if not rule.get("resources"):
        causes.append(errors.required(f"{path}.resources", "resource rules must supply at least one resource"))
    return causes


def check_binding(obj: Obj, namespaced: bool) -> list[Cause]:
    """A RoleBinding or ClusterRoleBinding."""
    ref = obj.get("roleRef") or {}
    causes: list[Cause] = []
    if ref.get("apiGroup", "") != GROUP:
        causes.append(errors.not_supported("roleRef.apiGroup", ref.get("apiGroup", ""), (GROUP,)))
    kinds = ("Role", "ClusterRole") if namespaced else ("ClusterRole",)
    if ref.get("kind", "") not in kinds:
        causes.append(_unsupported("roleRef.kind", ref.get("kind", ""), kinds))
    name = ref.get("name", "")
    if not name:
        causes.append(errors.required("roleRef.name"))
    causes += fields.invalid_if(names.path_segment(name), "roleRef.name", name)
    for index, subject in enumerate(obj.get("subjects") or ()):
        causes += _check_subject(subject, namespaced, f"subjects[{index}]")
    return causes


def _check_subject(subject: Obj, namespaced: bool, path: str) -> list[Cause]:
    causes: list[Cause] = []
    name, group, kind = subject.get("name", ""), subject.get("apiGroup", ""), subject.get("kind", "")
    if not name:
        causes.append(errors.required(f"{path}.name"))
    if kind == "ServiceAccount":
        if name:
            causes += fields.named(name, f"{path}.name", names.dns1123_subdomain)
        if group:
            causes.append(errors.not_supported(f"{path}.apiGroup", group, ("",)))
        if not namespaced and not subject.get("namespace"):
            causes.append(errors.required(f"{path}.namespace"))
    elif kind in ("User", "Group"):
        if group != GROUP:
            causes.append(errors.not_supported(f"{path}.apiGroup", group, (GROUP,)))
    else:
        causes.append(_unsupported(f"{path}.kind", kind, ("ServiceAccount", "User", "Group")))
    return causes


def _unsupported(path: str, value: Any, allowed: Sequence[str]) -> Cause:
    """As errors.not_supported, with the values in the order of the real server's text."""
    listed = ", ".join(f'"{item}"' for item in allowed)
    return Cause(path, "FieldValueNotSupported", f"Unsupported value: {errors.format_value(value)}: supported values: {listed}")
