"""Role-based access control over four informers: who is bound to which role, and what the roles allow.

Bindings are indexed by subject as they change. What the rules say of (identity, verb, resource, namespace) is worked out
once and kept until a role or binding changes, so a request costs one look into a dict; the object's name, which differs
with every request, is not part of the key.

Source: plugin/pkg/auth/authorizer/rbac/rbac.go, pkg/registry/rbac/validation/rule.go.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from kubelite.auth import rules
from kubelite.auth.contract import Access, Decision
from kubelite.meta.types import Obj
from kubelite.meta.users import SERVICE_ACCOUNT_PREFIX, User

RESOURCES = ("clusterroles", "roles", "clusterrolebindings", "rolebindings")
GROUP = "rbac.authorization.k8s.io"
_NO_OPINION = Decision(None)
_CACHED_VERDICTS = 16384


class _Informer(Protocol):
    def get(self, name: str, namespace: str = "") -> Obj | None: ...
    def subscribe(self, handler: Callable[[Obj | None, Obj | None], None]) -> Callable[[], None]: ...


class _Informers(Protocol):
    """What Rbac needs of client.informers.Informers."""

    def of(self, resource: str) -> _Informer: ...


@dataclass(slots=True)
class _Verdict:
    """What the rules say of one question: allowed for all names, or for some."""

    every: Decision | None = None
    names: dict[str, Decision] = field(default_factory=dict)


class Rbac:
    """The authorizer. Complete only when its informers have synced."""

    def __init__(self, informers: _Informers) -> None:
        self._cluster_roles, self._roles, cluster_bindings, bindings = (informers.of(f"{r}.{GROUP}") for r in RESOURCES)
        # Bindings by (namespace or "", subject's kind and name), then by the binding's name.
        self._bound: dict[tuple[str, str, str], dict[str, Obj]] = {}
        self._rules: dict[tuple[str, str], tuple[rules.Rule, ...]] = {}
        self._verdicts: dict[tuple[object, ...], _Verdict] = {}
        self._cluster_roles.subscribe(self._role_changed)
        self._roles.subscribe(self._role_changed)
        cluster_bindings.subscribe(self._binding_changed)
        bindings.subscribe(self._binding_changed)

    def authorize(self, access: Access) -> Decision:
        user = access.user
        if access.path:
            key: tuple[object, ...] = (user.name, user.groups, access.verb, access.path)
        else:
            key = (user.name, user.groups, access.verb, access.group, access.resource, access.subresource, access.namespace)
        verdict = self._verdicts.get(key)
        if verdict is None:
            if len(self._verdicts) >= _CACHED_VERDICTS:
                self._verdicts.clear()
            verdict = self._verdicts[key] = self._decide(access)
        if verdict.every is not None:
            return verdict.every
        if verdict.names and access.name:
            return verdict.names.get(access.name, _NO_OPINION)
        return _NO_OPINION

    def rules_for(self, user: User, namespace: str) -> list[rules.Rule]:
        """Every rule that holds for the user in the namespace, the cluster-wide ones first."""
        return [rule for _, rule in self._granted(user, namespace)]

    def rules_of(self, kind: str, name: str, namespace: str) -> tuple[rules.Rule, ...] | None:
        """The rules of a role (`kind` Role or ClusterRole); None where there is no such role."""
        namespace = namespace if kind == "Role" else ""
        found = self._rules.get((namespace, name))
        if found is None:
            role = self._roles.get(name, namespace) if namespace else self._cluster_roles.get(name)
            if role is None:
                return None
            found = self._rules[namespace, name] = rules.parse(role.get("rules"))
        return found

    def _decide(self, access: Access) -> _Verdict:
        verdict = _Verdict()
        # Rules for URLs count only in ClusterRoles that are bound for the whole cluster.
        for reason, rule in self._granted(access.user, "" if access.path else access.namespace):
            if access.path:
                if rule.paths and rule.matches_path(access.verb, access.path):
                    verdict.every = Decision(True, reason())
                    break
            elif rule.matches(access.verb, access.group, access.resource, access.subresource):
                if not rule.names:
                    verdict.every = Decision(True, reason())
                    break
                decision = Decision(True, reason())
                for name in rule.names:
                    verdict.names.setdefault(name, decision)
        return verdict

    def _granted(self, user: User, namespace: str) -> Iterator[tuple[Callable[[], str], rules.Rule]]:
        """The rules that apply, each with what makes the text of why it does."""
        subjects = [("User", user.name), *(("Group", group) for group in user.groups)]
        for scope in ("", namespace) if namespace else ("",):
            for kind, name in subjects:
                for binding in self._bound.get((scope, kind, name), {}).values():
                    role = binding["roleRef"]
                    for rule in self.rules_of(role["kind"], role["name"], scope) or ():
                        yield _Reason(binding, kind, name), rule

    def _role_changed(self, old: Obj | None, new: Obj | None) -> None:
        metadata = (new or old or {})["metadata"]
        self._rules.pop((metadata.get("namespace", ""), metadata["name"]), None)
        self._verdicts.clear()

    def _binding_changed(self, old: Obj | None, new: Obj | None) -> None:
        self._verdicts.clear()
        for binding in (old, new):
            if binding is None:
                continue
            namespace, name = binding["metadata"].get("namespace", ""), binding["metadata"]["name"]
            for subject in binding.get("subjects") or ():
                key = (namespace, *_subject(subject, namespace))
                if binding is new:
                    self._bound.setdefault(key, {})[name] = binding
                elif (bound := self._bound.get(key)) is not None:
                    bound.pop(name, None)
                    if not bound:
                        del self._bound[key]


@dataclass(frozen=True, slots=True)
class _Reason:
    binding: Obj
    kind: str
    name: str

    def __call__(self) -> str:
        metadata, role = self.binding["metadata"], self.binding["roleRef"]
        name, kind = metadata["name"], "ClusterRoleBinding"
        if metadata.get("namespace"):
            name, kind = f"{name}/{metadata['namespace']}", "RoleBinding"
        subject = f'{self.kind} "{self.name}"'
        if self.name.startswith(SERVICE_ACCOUNT_PREFIX):
            namespace, _, account = self.name.removeprefix(SERVICE_ACCOUNT_PREFIX).partition(":")
            subject = f'ServiceAccount "{account}/{namespace}"'
        return f'RBAC: allowed by {kind} "{name}" of {role["kind"]} "{role["name"]}" to {subject}'


def _subject(subject: Obj, namespace: str) -> tuple[str, str]:
    """A binding's subject as an identity's kind and name: a service account is a user."""
    if subject["kind"] == "ServiceAccount":
        return "User", f"{SERVICE_ACCOUNT_PREFIX}{subject.get('namespace') or namespace}:{subject['name']}"
    return subject["kind"], subject["name"]
