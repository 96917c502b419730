"""Policy rules as values: matching, covering, and the text that names them.

Pure; `rbac` and `escalation` use it. Source: kubernetes pkg/apis/rbac/v1/evaluation_helpers.go,
pkg/registry/rbac/validation/{policy_comparator,policy_compact}.go.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from kubelite.meta.types import Obj


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `names` empty: of every name. `paths` set: the rule is for URLs, and the rest is empty. The order is that of the
    role, since texts and reviews show it."""

    verbs: tuple[str, ...]
    groups: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()

    def matches(self, verb: str, group: str, resource: str, subresource: str) -> bool:
        """Whether the rule is for this verb and resource; whose names it is for is the caller's to look at."""
        if verb not in self.verbs and "*" not in self.verbs:
            return False
        if group not in self.groups and "*" not in self.groups:
            return False
        if "*" in self.resources:
            return True
        if not subresource:
            return resource in self.resources
        return f"{resource}/{subresource}" in self.resources or f"*/{subresource}" in self.resources

    def matches_path(self, verb: str, path: str) -> bool:
        if verb not in self.verbs and "*" not in self.verbs:
            return False
        return any(p in ("*", path) or (p.endswith("*") and path.startswith(p[:-1])) for p in self.paths)


def parse(rules: Iterable[Obj] | None) -> tuple[Rule, ...]:
    """The rules of a Role or ClusterRole."""
    return tuple(
        Rule(
            tuple(rule.get("verbs") or ()),
            tuple(rule.get("apiGroups") or ()),
            tuple(rule.get("resources") or ()),
            tuple(rule.get("resourceNames") or ()),
            tuple(rule.get("nonResourceURLs") or ()),
        )
        for rule in rules or ()
    )


def uncovered(held: Sequence[Rule], wanted: Iterable[Rule]) -> list[Rule]:
    """What of `wanted` is not held, as rules of one verb, group, resource and name each."""
    return [single for rule in wanted for single in _singles(rule) if not any(_covers(owner, single) for owner in held)]


def _singles(rule: Rule) -> Iterator[Rule]:
    for verb in rule.verbs:
        for path in rule.paths:
            yield Rule((verb,), paths=(path,))
        for group in rule.groups:
            for resource in rule.resources:
                for name in rule.names or ("",):
                    yield Rule((verb,), (group,), (resource,), (name,) if name else ())


def _covers(owner: Rule, single: Rule) -> bool:
    if "*" not in owner.verbs and single.verbs[0] not in owner.verbs:
        return False
    if single.paths:
        return all(
            any(p in ("*", path) or (p.endswith("*") and path.startswith(p[:-1])) for p in owner.paths) for path in single.paths
        )
    if "*" not in owner.groups and single.groups[0] not in owner.groups:
        return False
    if "*" not in owner.resources:
        resource = single.resources[0]
        _, slash, subresource = resource.partition("/")
        if resource not in owner.resources and not (slash and f"*/{subresource}" in owner.resources):
            return False
    return not owner.names or (bool(single.names) and single.names[0] in owner.names)


def format_rules(rules: Iterable[Rule]) -> str:
    """Rules as a refusal lists them, one a line; those that differ only in their verb are joined.

    `{APIGroups:[""], Resources:["pods"], Verbs:["get" "list"]}`
    """
    joined: dict[tuple[tuple[str, ...], ...], list[str]] = {}
    for rule in rules:
        joined.setdefault((rule.groups, rule.resources, rule.paths, rule.names), []).extend(rule.verbs)
    lines = []
    for (groups, resources, paths, names), verbs in joined.items():
        parts = []
        for label, values in (
            ("APIGroups", groups),
            ("Resources", resources),
            ("NonResourceURLs", paths),
            ("ResourceNames", names),
            ("Verbs", verbs),
        ):
            if values:
                parts.append(f"{label}:[{_quoted(values)}]")
        lines.append("{" + ", ".join(parts) + "}")
    return "\n".join(sorted(lines))


def _quoted(values: Iterable[str]) -> str:
    return " ".join(f'"{value}"' for value in dict.fromkeys(values))
