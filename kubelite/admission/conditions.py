"""The variables and functions that expressions of admission see, and match conditions.

Source: https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/; apiserver pkg/cel/library/authz.go.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kubelite.admission.contract import Permits
from kubelite.admission.requests import format_request, with_kind
from kubelite.meta.types import Obj
from kubelite.meta.users import SERVICE_ACCOUNT_PREFIX, User
from kubelite.registry.contract import Attributes
from kubelite.schema import expressions


class Scope:
    """What the expressions of one request are evaluated over. Made once a request, converted once an expression."""

    def __init__(self, attributes: Attributes, permits: Permits, namespace: Obj | None = None) -> None:
        self._functions = _authorizer_functions(attributes, permits)
        self.variables: dict[str, Any] = {
            "object": with_kind(attributes, attributes.obj),
            "oldObject": with_kind(attributes, attributes.old),
            "request": format_request(attributes),
            "namespaceObject": namespace,
            "authorizer": {"authorizer": "self"},
        }
        # Everybody's `authorizer.requestResource` is the request's own resource.
        target = attributes.target
        self.variables["authorizer"]["requestResource"] = {
            "check": "resource",
            "group": target.kind.group,
            "resource": target.kind.plural,
            "subresource": target.subresource,
            "namespace": target.namespace,
            "name": target.name,
        }

    def evaluate(self, source: str, extra: Mapping[str, Any] | None = None) -> Any:
        """The value of an expression. Raises ExpressionError."""
        expression = expressions.compile(source)
        variables = {**self.variables, **extra} if extra else self.variables
        functions = self._functions if "authorizer" in expression.variables else None
        return expression.evaluate(variables, functions)


class ConditionFailed(Exception):
    """A match condition can't be evaluated; the text names it."""


def all_hold(conditions: Sequence[Obj], scope: Scope, extra: Mapping[str, Any] | None = None) -> bool:
    """Whether every match condition is true: one that is false decides, whatever fails beside it.

    Raises:
        ConditionFailed: one could not be evaluated, and none is false.
    """
    failed = ""
    for condition in conditions:
        try:
            value = scope.evaluate(condition["expression"], extra)
        except expressions.ExpressionError as error:
            failed = failed or f"expression '{condition['expression']}' resulted in error: {error}"
            continue
        if value is not True:
            return False
    if failed:
        raise ConditionFailed(failed)
    return True


def _authorizer_functions(attributes: Attributes, permits: Permits) -> dict[str, Callable[..., Any]]:
    """The authorizer library: checks are maps that the functions build up and `check` answers."""

    def with_field(field: str) -> Callable[[Obj, str], Obj]:
        return lambda check, value: {**check, field: value}

    def service_account(authorizer: Obj, namespace: str, name: str) -> Obj:
        return {**authorizer, "account": f"{namespace}:{name}"}

    def user_of(check: Obj) -> User:
        account = check.get("account")
        if not account:
            return attributes.user
        namespace = account.partition(":")[0]
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
        return User(SERVICE_ACCOUNT_PREFIX + account, groups)

    def check(asked: Obj, verb: str) -> Obj:
        user = user_of(asked)
        if asked["check"] == "path":
            return {"decision": False, "reason": "paths are not checked"}
        fields = (asked.get(f, "") for f in ("group", "resource", "subresource", "namespace", "name"))
        return {"decision": permits(user, verb, *fields)}

    return {
        "path": lambda authorizer, path: {**authorizer, "check": "path", "path": path},
        "group": lambda authorizer, group: {**authorizer, "check": "resource", "group": group},
        "resource": with_field("resource"),
        "subresource": with_field("subresource"),
        "namespace": with_field("namespace"),
        "name": with_field("name"),
        "serviceAccount": service_account,
        "check": check,
        "allowed": lambda decision: bool(decision["decision"]),
        "errored": lambda decision: False,
        "error": lambda decision: "",
        "reason": lambda decision: decision.get("reason", ""),
    }
