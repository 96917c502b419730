"""Authorizers that combine others, and the text of a refusal.

The order of a server: masters, node authorizer, RBAC. The first that allows or denies decides; no opinion of all is a no.
"""

from collections.abc import Iterable

from kubelite.auth.contract import Access, Authorizer, Decision
from kubelite.meta import errors
from kubelite.meta.users import MASTERS_GROUP

NO_OPINION = Decision(None)
_ALLOWED = Decision(True)


class Masters:
    """Members of system:masters may do anything; no rule can lock them out."""

    def authorize(self, access: Access) -> Decision:
        return _ALLOWED if MASTERS_GROUP in access.user.groups else NO_OPINION


class AlwaysAllow:
    """For tests and for parts that are composed without identity."""

    def authorize(self, access: Access) -> Decision:
        return _ALLOWED


class Union:
    """Asks each in order. Masters stand first without being named."""

    def __init__(self, authorizers: Iterable[Authorizer]) -> None:
        self._authorizers = tuple(authorizers)

    def authorize(self, access: Access) -> Decision:
        if MASTERS_GROUP in access.user.groups:
            return _ALLOWED
        reasons = []
        for authorizer in self._authorizers:
            decision = authorizer.authorize(access)
            if decision.allowed is not None:
                return decision
            if decision.reason:
                reasons.append(decision.reason)
        return Decision(None, "\n".join(reasons)) if reasons else NO_OPINION


def require(authorizer: Authorizer, access: Access) -> None:
    """Raises Forbidden unless the access is allowed."""
    decision = authorizer.authorize(access)
    if decision.allowed is not True:
        raise forbidden(access, decision.reason)


def forbidden(access: Access, reason: str = "") -> errors.Forbidden:
    """`pods "x" is forbidden: User "u" cannot get resource "pods" in API group "" in the namespace "ns"`.

    Source: apiserver pkg/endpoints/handlers/responsewriters/errors.go.
    """
    user = access.user.name
    if access.path:
        text = f'User "{user}" cannot {access.verb} path "{access.path}"'
        text = f"forbidden: {text}"
        return errors.Forbidden(f"{text}: {reason}" if reason else text)
    resource = f"{access.resource}/{access.subresource}" if access.subresource else access.resource
    where = f' in the namespace "{access.namespace}"' if access.namespace else " at the cluster scope"
    text = f'User "{user}" cannot {access.verb} resource "{resource}" in API group "{access.group}"{where}'
    if reason:
        text = f"{text}: {reason}"
    qualified = f"{access.resource}.{access.group}" if access.group else access.resource
    subject = f'{qualified} "{access.name}"' if access.name else qualified
    return errors.Forbidden(f"{subject} is forbidden: {text}", group=access.group, kind=access.resource, name=access.name)
