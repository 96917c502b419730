"""The review APIs as functions: each takes the posted object and returns it with its status filled in.

Source: pkg/registry/{authorization,authentication}, staging authorization/v1 and authentication/v1 types.
"""

from collections.abc import Mapping
from typing import Any

from kubelite.auth.contract import Access, Authenticator, Authorizer, Credentials, Decision
from kubelite.auth.rbac import Rbac
from kubelite.auth.tokens import ServiceAccountTokens
from kubelite.meta import errors, times
from kubelite.meta.types import Obj
from kubelite.meta.users import MASTERS_GROUP, User

_AUTHORIZATION = "authorization.k8s.io"
_AUTHENTICATION = "authentication.k8s.io"


def subject_access_review(review: Obj, authorizer: Authorizer) -> Obj:
    """Whether the user and groups of the spec may do what the spec says.

    Raises:
        Invalid: the spec names no user and no group, or not exactly one kind of attributes.
    """
    return _reviewed(review, "SubjectAccessReview", _subject(review), authorizer)


def local_subject_access_review(review: Obj, namespace: str, authorizer: Authorizer) -> Obj:
    """A subject access review of one namespace, that of the URL."""
    attributes = (review.get("spec") or {}).get("resourceAttributes")
    causes = []
    if attributes is None:
        causes.append(errors.required("spec.resourceAttributes", "must be specified"))
    elif attributes.get("namespace", "") != namespace:
        causes.append(
            errors.invalid("spec.resourceAttributes.namespace", attributes.get("namespace", ""), "must match metadata.namespace")
        )
    if causes:
        raise _invalid(causes)
    return _reviewed(review, "LocalSubjectAccessReview", _subject(review), authorizer)


def self_subject_access_review(review: Obj, user: User, authorizer: Authorizer) -> Obj:
    """Whether the one who asks may do what the spec says."""
    return _reviewed(review, "SelfSubjectAccessReview", user, authorizer)


def self_subject_rules_review(review: Obj, user: User, rbac: Rbac) -> Obj:
    """What the one who asks may do in the namespace of the spec.

    Raises:
        BadRequest: the spec names no namespace.
    """
    namespace = (review.get("spec") or {}).get("namespace", "")
    if not namespace:
        raise errors.BadRequest("no namespace on request")
    found = rbac.rules_for(user, namespace)
    resource_rules: list[Obj] = []
    path_rules: list[Obj] = []
    if MASTERS_GROUP in user.groups:
        resource_rules.append({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]})
        path_rules.append({"verbs": ["*"], "nonResourceURLs": ["*"]})
    for rule in found:
        if rule.paths:
            path_rules.append({"verbs": list(rule.verbs), "nonResourceURLs": list(rule.paths)})
            continue
        entry: Obj = {"verbs": list(rule.verbs), "apiGroups": list(rule.groups), "resources": list(rule.resources)}
        if rule.names:
            entry["resourceNames"] = list(rule.names)
        resource_rules.append(entry)
    status: Obj = {
        "resourceRules": _distinct(resource_rules),
        "nonResourceRules": _distinct(path_rules),
        "incomplete": bool(user.node_name),
    }
    if user.node_name:
        status["evaluationError"] = "node authorizer does not support user rule resolution"
    return _object(review, _AUTHORIZATION, "SelfSubjectRulesReview") | {"spec": {}, "status": status}


def self_subject_review(user: User) -> Obj:
    """Who the one who asks is."""
    now = {"metadata": {"creationTimestamp": times.now()}}
    return _object(now, _AUTHENTICATION, "SelfSubjectReview") | {"status": {"userInfo": format_user(user)}}


async def token_review(review: Obj, authenticator: Authenticator, tokens: ServiceAccountTokens) -> Obj:
    """Whose token the spec's is. A token that is not valid is an answer, not an error."""
    spec = review.get("spec") or {}
    token, audiences = spec.get("token", ""), spec.get("audiences") or []
    if not token:
        raise errors.BadRequest("token is required for TokenReview in authentication")
    result = _object(review, _AUTHENTICATION, "TokenReview") | {"spec": spec}
    try:
        if tokens.is_issuer_of(token):
            user, matching = tokens.verify(token, audiences)
        else:
            found = await authenticator.authenticate(Credentials(token))
            if found is None:
                return result | {"status": {"user": {}}}
            # Only tokens that say for whom they are can be for somebody else than the API server.
            matching = tuple(a for a in audiences or tokens.audiences if a in tokens.audiences)
            user = found
    except errors.Unauthorized as error:
        why = f"[invalid bearer token, {error.message}]" if tokens.is_issuer_of(token) else "invalid bearer token"
        return result | {"status": {"user": {}, "error": why}}
    if audiences and not matching:
        return result | {"status": {"user": {}}}
    status = {"authenticated": True, "user": format_user(user), "audiences": list(matching)}
    return result | {"status": status}


def format_user(user: User) -> Obj:
    """A UserInfo, as reviews, admission reviews and certificate requests carry it."""
    info: Obj = {"username": user.name}
    if user.uid:
        info["uid"] = user.uid
    if user.groups:
        info["groups"] = list(user.groups)
    if user.extra:
        info["extra"] = user.extra
    return info


def _invalid(causes: list[errors.Cause]) -> errors.Invalid:
    """A refused review; Kubernetes does not say of which kind."""
    return errors.Invalid.of(_AUTHORIZATION, "", "", causes)


def _subject(review: Obj) -> User:
    spec = review.get("spec") or {}
    name, groups = spec.get("user", ""), spec.get("groups") or ()
    if not name and not groups:
        raise _invalid([errors.invalid("spec.user", "", "at least one of user or group must be specified")])
    return User(name, tuple(groups), spec.get("uid", ""), spec.get("extra") or {})


def _reviewed(review: Obj, kind: str, user: User, authorizer: Authorizer) -> Obj:
    spec = review.get("spec") or {}
    resource, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if resource is not None and path is not None:
        cause = errors.invalid("spec.nonResourceAttributes", path, "cannot be specified in combination with resourceAttributes")
        raise _invalid([cause])
    if resource is None and path is None:
        cause = errors.invalid(
            "spec.resourceAttributes", None, "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        )
        raise _invalid([cause])
    decision = authorizer.authorize(_access(user, resource, path))
    return _object(review, _AUTHORIZATION, kind) | {"spec": spec, "status": _status(decision)}


def _access(user: User, resource: Mapping[str, Any] | None, path: Mapping[str, Any] | None) -> Access:
    if resource is None:
        path = path or {}
        return Access(user, path.get("verb", ""), path=path.get("path", "") or "/")
    selector = (resource.get("fieldSelector") or {}).get("rawSelector", "")
    labels = (resource.get("labelSelector") or {}).get("rawSelector", "")
    return Access(
        user,
        resource.get("verb", ""),
        resource.get("group", ""),
        resource.get("version", "") or "*",
        resource.get("resource", ""),
        resource.get("subresource", ""),
        resource.get("namespace", ""),
        resource.get("name", ""),
        field_selector=selector,
        label_selector=labels,
    )


def _status(decision: Decision) -> Obj:
    status: Obj = {"allowed": decision.allowed is True}
    if decision.allowed is False:
        status["denied"] = True
    if decision.reason:
        status["reason"] = decision.reason
    return status


def _object(review: Obj, group: str, kind: str) -> Obj:
    return {"kind": kind, "apiVersion": f"{group}/v1", "metadata": review.get("metadata") or {"creationTimestamp": None}}


def _distinct(items: list[Obj]) -> list[Obj]:
    found: list[Obj] = []
    for item in items:
        if item not in found:
            found.append(item)
    return found
