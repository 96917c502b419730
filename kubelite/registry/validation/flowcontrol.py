"""Checks of flow schemas and priority levels.

Source: kubernetes pkg/apis/flowcontrol/validation/validation.go, v1.34.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from kubelite.meta import errors, names
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import fields

MAX_PRECEDENCE = 10000
MAX_QUEUES = 10_000_000
MAX_HASH_BITS = 60
#: The names of the schemas and levels that a server can't do without.
MANDATORY = ("exempt", "catch-all")
_METHODS = ("ByNamespace", "ByUser")
_SUBJECTS = ("Group", "ServiceAccount", "User")
_VERBS = frozenset(("get", "list", "create", "update", "delete", "deletecollection", "patch", "watch", "proxy"))
_NAMESPACE = "each member of this list must be '*' or a DNS-1123 label; "


def check_flow_schema(obj: Obj) -> list[Cause]:
    spec, name = obj.get("spec") or {}, obj["metadata"].get("name", "")
    precedence = spec.get("matchingPrecedence", 0)
    causes: list[Cause] = []
    path = "spec.matchingPrecedence"
    if precedence <= 0:
        causes.append(errors.invalid(path, precedence, "must be a positive value"))
    if precedence > MAX_PRECEDENCE:
        causes.append(errors.invalid(path, precedence, f"must not be greater than {MAX_PRECEDENCE}"))
    if precedence == 1 and name != "exempt":
        text = "only the schema named 'exempt' may have matchingPrecedence 1"
        causes.append(errors.invalid(path, precedence, text))
    method = spec.get("distinguisherMethod")
    if method is not None and method.get("type") not in _METHODS:
        causes.append(errors.not_supported("spec.distinguisherMethod.type", method, _METHODS))
    level = (spec.get("priorityLevelConfiguration") or {}).get("name")
    path = "spec.priorityLevelConfiguration.name"
    if level:
        causes += fields.invalid_if(names.dns1123_subdomain(level), path, level)
    else:
        causes.append(errors.required(path, "must reference a priority level"))
    for index, rule in enumerate(spec.get("rules") or ()):
        causes += _check_rule(rule, f"spec.rules[{index}]")
    return causes


def _check_rule(rule: Obj, path: str) -> list[Cause]:
    causes: list[Cause] = []
    if not rule.get("subjects"):
        causes.append(errors.required(f"{path}.subjects", "subjects must contain at least one value"))
    for index, subject in enumerate(rule.get("subjects") or ()):
        causes += _check_subject(subject, f"{path}.subjects[{index}]")
    if not rule.get("resourceRules") and not rule.get("nonResourceRules"):
        text = "at least one of resourceRules and nonResourceRules has to be non-empty"
        causes.append(errors.required(path, text))
    for index, below in enumerate(rule.get("resourceRules") or ()):
        causes += _check_resource_rule(below, f"{path}.resourceRules[{index}]")
    for index, below in enumerate(rule.get("nonResourceRules") or ()):
        at = f"{path}.nonResourceRules[{index}]"
        causes += _check_verbs(below.get("verbs") or [], at)
        urls = below.get("nonResourceURLs") or []
        causes += _check_all_or_some(
            urls, f"{at}.nonResourceURLs", "non-resource URLs", "nonResourceURLs must contain at least one value"
        )
        for position, url in enumerate(urls):
            if url != "*":
                causes += _check_url(url, f"{at}.nonResourceURLs[{position}]")
    return causes


def _check_subject(subject: Obj, path: str) -> list[Cause]:
    kind = subject.get("kind", "")
    field = kind[:1].lower() + kind[1:]
    if kind not in _SUBJECTS:
        return [errors.not_supported(f"{path}.kind", kind, _SUBJECTS)]
    causes: list[Cause] = []
    given = subject.get(field)
    if given is None:
        causes.append(errors.required(f"{path}.{field}", f"{field} is required when subject kind is '{kind}'"))
    elif kind == "ServiceAccount":
        for part in ("name", "namespace"):
            value, at = given.get(part, ""), f"{path}.serviceAccount.{part}"
            if not value:
                text = "must specify namespace for service account" if part == "namespace" else ""
                causes.append(errors.required(at, text))
            elif part == "name" and value != "*":
                causes += fields.invalid_if(names.dns1123_subdomain(value), at, value)
            elif part == "namespace":
                causes += fields.invalid_if(names.dns1123_label(value), at, value)
    elif not given.get("name"):
        causes.append(errors.required(f"{path}.{field}.name"))
    for other in ("serviceAccount", "user", "group"):
        if other != field and subject.get(other) is not None:
            text = f"{other} is forbidden when subject kind is not '{other[0].upper()}{other[1:]}'"
            causes.append(errors.forbidden(f"{path}.{other}", text))
    return causes


def _check_verbs(verbs: Sequence[str], path: str) -> list[Cause]:
    causes = _check_all_or_some(verbs, f"{path}.verbs", "verbs", "verbs must contain at least one value")
    if "*" not in verbs and set(verbs) - _VERBS:
        causes.append(errors.not_supported(f"{path}.verbs", list(verbs), _VERBS))
    return causes


def _check_all_or_some(values: Sequence[str], path: str, what: str, missing: str) -> list[Cause]:
    """A list has something in it, and nothing beside a `*`."""
    if not values:
        return [errors.required(path, missing)]
    if "*" in values and len(values) > 1:
        return [errors.invalid(path, list(values), f"if '*' is present, must not specify other {what}")]
    return []


def _check_resource_rule(rule: Obj, path: str) -> list[Cause]:
    causes = _check_verbs(rule.get("verbs") or [], path)
    groups, listed = rule.get("apiGroups") or [], rule.get("resources") or []
    text = "resource rules must supply at least one"
    causes += _check_all_or_some(groups, f"{path}.apiGroups", "api groups", f"{text} api group")
    causes += _check_all_or_some(listed, f"{path}.resources", "resources", f"{text} resource")
    namespaces = rule.get("namespaces") or []
    at = f"{path}.namespaces"
    if not namespaces:
        if not rule.get("clusterScope"):
            text = "resource rules that are not cluster scoped must supply at least one namespace"
            causes.append(errors.required(at, text))
    elif "*" in namespaces:
        causes += _check_all_or_some(namespaces, at, "namespaces", "")
    else:
        for index, namespace in enumerate(namespaces):
            faults = names.dns1123_label(namespace)
            causes += [errors.invalid(f"{at}[{index}]", namespace, _NAMESPACE + fault) for fault in faults]
    return causes


def _check_url(url: str, path: str) -> list[Cause]:
    if not url:
        return [errors.invalid(path, url, "must not be empty")]
    if url == "/":
        return []
    if not url.startswith("/"):
        return [errors.invalid(path, url, "must start with slash")]
    if " " in url:
        return [errors.invalid(path, url, "must not contain white-space")]
    if "//" in url:
        return [errors.invalid(path, url, "must not contain double slash")]
    if "*" in url[:-1]:
        return [errors.invalid(path, url, "wildcard can only do suffix matching")]
    if url.endswith("*") and not url.endswith("/*"):
        return [errors.invalid(path, url, "wildcard can only do suffix matching")]
    return []


def check_priority_level(obj: Obj) -> list[Cause]:
    spec, name = obj.get("spec") or {}, obj["metadata"].get("name", "")
    kind = spec.get("type", "")
    causes: list[Cause] = []
    if (kind == "Exempt") != (name == "exempt") and kind in ("Exempt", "Limited"):
        causes.append(errors.invalid("spec.type", kind, "must be 'Exempt' if and only if `name` is 'exempt'"))
    if kind == "Exempt":
        causes += _check_lending(spec.get("exempt") or {}, "spec.exempt")
        if spec.get("limited") is not None:
            causes.append(errors.forbidden("spec.limited", "must be nil if the type is not Limited"))
    elif kind == "Limited":
        if spec.get("exempt") is not None:
            causes.append(errors.forbidden("spec.exempt", "must be nil if the type is Limited"))
        if spec.get("limited") is None:
            causes.append(errors.required("spec.limited", "must not be empty when type is Limited"))
        else:
            causes += _check_limited(spec["limited"], "spec.limited")
    else:
        causes.append(errors.not_supported("spec.type", kind, ("Exempt", "Limited")))
    return causes


def _check_lending(level: Mapping[str, Any], path: str) -> list[Cause]:
    shares, lendable = level.get("nominalConcurrencyShares"), level.get("lendablePercent")
    causes: list[Cause] = []
    if shares is not None and shares < 0:
        causes.append(errors.invalid(f"{path}.nominalConcurrencyShares", shares, "must be a non-negative integer"))
    if lendable is not None and not 0 <= lendable <= 100:
        causes.append(errors.invalid(f"{path}.lendablePercent", lendable, "must be between 0 and 100, inclusive"))
    return causes


def _check_limited(limited: Obj, path: str) -> list[Cause]:
    causes = _check_lending(limited, path)
    borrowing = limited.get("borrowingLimitPercent")
    if borrowing is not None and borrowing < 0:
        text = "if specified, must be a non-negative integer"
        causes.append(errors.invalid(f"{path}.borrowingLimitPercent", borrowing, text))
    response = limited.get("limitResponse") or {}
    kind, queuing, at = response.get("type", ""), response.get("queuing"), f"{path}.limitResponse"
    if kind == "Reject":
        if queuing is not None:
            text = "must be nil if limited.limitResponse.type is not Limited"
            causes.append(errors.forbidden(f"{at}.queuing", text))
    elif kind == "Queue":
        if queuing is None:
            text = "must not be empty if limited.limitResponse.type is Limited"
            causes.append(errors.required(f"{at}.queuing", text))
        else:
            causes += _check_queues(queuing, f"{at}.queuing")
    else:
        causes.append(errors.not_supported(f"{at}.type", kind, ("Queue", "Reject")))
    return causes


def _check_queues(queuing: Obj, path: str) -> list[Cause]:
    queues, hand, length = (queuing.get(f, 0) for f in ("queues", "handSize", "queueLengthLimit"))
    causes: list[Cause] = []
    if length <= 0:
        causes.append(errors.invalid(f"{path}.queueLengthLimit", length, "must be positive"))
    if queues <= 0:
        causes.append(errors.invalid(f"{path}.queues", queues, "must be positive"))
    elif queues > MAX_QUEUES:
        causes.append(errors.invalid(f"{path}.queues", queues, f"must not be greater than {MAX_QUEUES}"))
    if hand <= 0:
        causes.append(errors.invalid(f"{path}.handSize", hand, "must be positive"))
    elif hand > queues:
        causes.append(errors.invalid(f"{path}.handSize", hand, f"should not be greater than queues ({queues})"))
    elif _entropy_bits(queues, hand) > MAX_HASH_BITS:
        text = f"required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {MAX_HASH_BITS}"
        causes.append(errors.invalid(f"{path}.handSize", hand, text))
    return causes


def _entropy_bits(deck: int, hand: int) -> int:
    """How much of a hash it takes to deal a hand without repetition.

    Source: apiserver pkg/util/shufflesharding, v0.34.
    """
    return math.ceil(math.log2(deck) * hand)


def check_fixed(new: Obj, old: Obj) -> list[Cause]:
    """The schemas and levels that a server can't do without stay as they are; how the exempt level lends may change."""
    name, spec, was = new["metadata"]["name"], new.get("spec") or {}, old.get("spec") or {}
    if name not in MANDATORY:
        return []
    if new["kind"] == "PriorityLevelConfiguration" and name == "exempt":
        if {**spec, "exempt": was.get("exempt")} == was:
            return []
        return [errors.invalid("spec", spec, f"spec of '{name}' except the 'spec.exempt' field must equal the fixed value")]
    return [] if spec == was else [errors.invalid("spec", spec, f"spec of '{name}' must equal the fixed value")]


def check_status(obj: Obj) -> list[Cause]:
    """Its conditions have types, each another one."""
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, condition in enumerate((obj.get("status") or {}).get("conditions") or ()):
        at, kind = f"status.conditions[{index}].type", condition.get("type", "")
        if kind in seen:
            causes.append(errors.duplicate(at, kind))
        seen.add(kind)
        if not kind:
            causes.append(errors.required(at))
    return causes
