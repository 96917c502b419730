"""Impersonation: a request that asks to be carried out as somebody else, where RBAC allows it.

Source: apiserver pkg/endpoints/filters/impersonation.go, v0.34.
"""

from collections.abc import Mapping
from urllib.parse import unquote

from kubelite.auth.authorizers import require
from kubelite.auth.contract import Access, Authorizer
from kubelite.meta.errors import BadRequest
from kubelite.meta.users import (
    ANONYMOUS,
    AUTHENTICATED_GROUP,
    SERVICE_ACCOUNT_PREFIX,
    UNAUTHENTICATED_GROUP,
    User,
)

_EXTRA = "impersonate-extra-"


def impersonated(user: User, headers: Mapping[str, str], authorizer: Authorizer) -> User:
    """Who the request is to be carried out as: `user` where it asks for nobody.

    Raises:
        BadRequest: groups, a uid or extra values without a user.
        Forbidden: the user may not act as one of those named.
    """
    name = headers.get("Impersonate-User", "")
    groups = _all(headers, "impersonate-group")
    uid = headers.get("Impersonate-Uid", "")
    extra: dict[str, list[str]] = {}
    for key, value in headers.items():
        if key.lower().startswith(_EXTRA):
            extra.setdefault(unquote(key[len(_EXTRA) :]).lower(), []).append(value)
    if not name:
        if groups or uid or extra:
            raise BadRequest("requested impersonation of a group, uid or extra without impersonating a user")
        return user

    if name.startswith(SERVICE_ACCOUNT_PREFIX) and name.count(":") == 3:
        _, _, namespace, account = name.split(":")
        require(authorizer, Access(user, "impersonate", resource="serviceaccounts", namespace=namespace, name=account))
        if not groups:
            groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}"]
    else:
        require(authorizer, Access(user, "impersonate", resource="users", name=name))
    for group in _all(headers, "impersonate-group"):
        require(authorizer, Access(user, "impersonate", resource="groups", name=group))
    for key, values in extra.items():
        for value in values:
            require(
                authorizer,
                Access(
                    user,
                    "impersonate",
                    group="authentication.k8s.io",
                    version="v1",
                    resource="userextras",
                    subresource=key,
                    name=value,
                ),
            )
    if uid:
        require(
            authorizer,
            Access(user, "impersonate", group="authentication.k8s.io", version="v1", resource="uids", name=uid),
        )
    if name == ANONYMOUS:
        groups = [*groups, UNAUTHENTICATED_GROUP] if UNAUTHENTICATED_GROUP not in groups else groups
    elif AUTHENTICATED_GROUP not in groups:
        groups = [*groups, AUTHENTICATED_GROUP]
    return User(name, tuple(groups), uid, extra)


def _all(headers: Mapping[str, str], name: str) -> list[str]:
    return [value for key, value in headers.items() if key.lower() == name]
