"""Checks that webhook configurations and admission policies share: what they match, and the expressions that they hold.

Source: pkg/apis/admissionregistration/validation/validation.go, v1.34.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from kubelite.meta import errors, names
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import fields
from kubelite.schema import expression_names, expressions

FAILURE_POLICIES = ("Fail", "Ignore")
MATCH_POLICIES = ("Equivalent", "Exact")
MAX_CONDITIONS = 64
#: What every expression of admission may name.
VARIABLES = ("object", "oldObject", "request", "namespaceObject", "authorizer")
_OPERATIONS = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
_SCOPES = ("*", "Cluster", "Namespaced")


def rule_faults(rule: Obj, path: str) -> Iterator[Cause]:
    """What is wrong with a rule: operations on resources of groups in versions."""
    for field, noun in (("operations", "operations"), ("apiGroups", "API groups"), ("apiVersions", "API versions")):
        values = rule.get(field) or []
        if not values:
            yield errors.required(f"{path}.{field}")
        elif "*" in values and len(values) > 1:
            yield errors.invalid(f"{path}.{field}", values, f"if '*' is present, must not specify other {noun}")
    for index, operation in enumerate(rule.get("operations") or ()):
        yield from fields.optional_one_of(operation, f"{path}.operations[{index}]", _OPERATIONS)
    for index, version in enumerate(rule.get("apiVersions") or ()):
        if not version:
            yield errors.required(f"{path}.apiVersions[{index}]")
    yield from _resource_faults(rule.get("resources") or [], f"{path}.resources")
    yield from fields.optional_one_of(rule.get("scope"), f"{path}.scope", _SCOPES)


def _resource_faults(resources: Sequence[str], path: str) -> Iterator[Cause]:
    if not resources:
        yield errors.required(path)
    seen: set[str] = set()
    has_plain = False
    for index, resource in enumerate(resources):
        if not resource:
            yield errors.required(f"{path}[{index}]")
            continue
        name, slash, below = resource.partition("/")
        if not slash:
            has_plain = resource != "*"
            continue
        for wide in (f"{name}/*", f"*/{below}"):
            if wide in seen:
                yield errors.invalid(f"{path}[{index}]", resource, f"if '{wide}' is present, must not specify {resource}")
        seen.add(resource)
    if "*/*" in resources and len(resources) > 1:
        yield errors.invalid(path, resources, "if '*/*' is present, must not specify other resources")
    if "*" in resources and has_plain:
        yield errors.invalid(path, resources, "if '*' is present, must not specify other resources without subresources")


def match_faults(resources: Obj, path: str) -> Iterator[Cause]:
    """What is wrong with the resources that a policy or a binding matches."""
    policy = resources.get("matchPolicy")
    yield from fields.optional_one_of(policy, f"{path}.matchPolicy", MATCH_POLICIES)
    for field in ("namespaceSelector", "objectSelector"):
        yield from fields.label_selector(resources.get(field), f"{path}.{field}")
    for field in ("resourceRules", "excludeResourceRules"):
        for index, rule in enumerate(resources.get(field) or ()):
            at = f"{path}.{field}[{index}]"
            yield from _name_faults(rule.get("resourceNames") or (), f"{at}.resourceNames")
            yield from rule_faults(rule, at)


def _name_faults(resource_names: Sequence[str], path: str) -> Iterator[Cause]:
    seen: set[str] = set()
    for index, name in enumerate(resource_names):
        yield from fields.invalid_if(names.path_segment(name), f"{path}[{index}]", name)
        if name in seen:
            yield errors.duplicate(f"{path}[{index}]", name)
        seen.add(name)


def condition_faults(conditions: Sequence[Mapping[str, Any]], path: str, declared: Iterable[str]) -> Iterator[Cause]:
    """What is wrong with match conditions."""
    if len(conditions) > MAX_CONDITIONS:
        yield errors.too_many(path, len(conditions), MAX_CONDITIONS)
    seen: set[str] = set()
    for index, condition in enumerate(conditions):
        at, name = f"{path}[{index}]", condition.get("name", "")
        yield from expression_faults(condition.get("expression", "").strip(), f"{at}.expression", declared)
        yield from fields.named(name, f"{at}.name", names.qualified_name)
        if name and name in seen:
            yield errors.duplicate(f"{at}.name", name)
        seen.add(name)


def expression_faults(source: str, path: str, declared: Iterable[str], what: str = "") -> list[Cause]:
    """What is wrong with an expression: it is missing, does not compile, or names what there is not."""
    return compile_faults(source, path, declared) if source.strip() else [errors.required(path, what)]


def compile_faults(source: str, path: str, declared: Iterable[str]) -> list[Cause]:
    try:
        expressions.compile(source)
        expression_names.check(source, dict.fromkeys(declared))
    except expressions.ExpressionError as error:
        return [errors.invalid(path, source, str(error))]
    return []
