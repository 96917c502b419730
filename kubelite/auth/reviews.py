"""The review APIs as functions: each takes a review in its normal form and returns it with its status filled in.

Source: pkg/registry/{authorization,authentication}, staging authorization/v1 and authentication/v1 types.
"""

from collections.abc import Callable, Mapping
from typing import Any

from kubelite.auth.contract import Access, Authenticator, Authorizer, Credentials, Decision
from kubelite.auth.rbac import Rbac
from kubelite.auth.tokens import ServiceAccountTokens
from kubelite.meta import errors, selectors, times
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.meta.users import MASTERS_GROUP, User
from kubelite.registry.validation import fields

_AUTHORIZATION = "authorization.k8s.io"


def subject_access_review(review: Obj, authorizer: Authorizer) -> Obj:
    """Whether the user and groups of the spec may do what the spec says.

    Raises:
        Invalid: the spec names no user and no group, or not exactly one kind of attributes.
    """
    return _reviewed(review, _subject(review), authorizer, _check_subject(review) + _check_metadata(review))


def local_subject_access_review(review: Obj, authorizer: Authorizer) -> Obj:
    """A subject access review of one namespace, that of its metadata."""
    spec, namespace = review.get("spec") or {}, review["metadata"].get("namespace", "")
    resource, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    causes = _check_subject(review) + _check_metadata(review, " except for namespace")
    if resource is not None and resource.get("namespace", "") != namespace:
        text = "must match metadata.namespace"
        causes.append(errors.invalid("spec.resourceAttributes.namespace", resource.get("namespace", ""), text))
    if path is not None:
        causes.append(errors.invalid("spec.nonResourceAttributes", path, "disallowed on this kind of request"))
    return _reviewed(review, _subject(review), authorizer, causes)


def self_subject_access_review(review: Obj, user: User, authorizer: Authorizer) -> Obj:
    """Whether the one who asks may do what the spec says."""
    return _reviewed(review, user, authorizer, _check_metadata(review))


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
    return {**review, "metadata": {}, "spec": {}, "status": status}


def self_subject_review(review: Obj, user: User) -> Obj:
    """Who the one who asks is."""
    return {**review, "metadata": {"creationTimestamp": times.now()}, "status": {"userInfo": format_user(user)}}


async def token_review(review: Obj, authenticator: Authenticator, tokens: ServiceAccountTokens) -> Obj:
    """Whose token the spec's is. A token that is not valid is an answer, not an error."""
    spec = review.get("spec") or {}
    token, audiences = spec.get("token", ""), spec.get("audiences") or []
    if not token:
        raise errors.BadRequest("token is required for TokenReview in authentication")
    result = {**review, "status": {"user": {}}}
    try:
        if tokens.is_issuer_of(token):
            user, matching = tokens.verify(token, audiences)
        else:
            found = await authenticator.authenticate(Credentials(token))
            if found is None:
                return result
            # Only tokens that say for whom they are can be for somebody else than the API server.
            matching = tuple(a for a in audiences or tokens.audiences if a in tokens.audiences)
            user = found
    except errors.Unauthorized as error:
        why = f"[invalid bearer token, {error.message}]" if tokens.is_issuer_of(token) else "invalid bearer token"
        return result | {"status": {"user": {}, "error": why}}
    if audiences and not matching:
        return result
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


def _subject(review: Obj) -> User:
    spec = review.get("spec") or {}
    return User(spec.get("user", ""), tuple(spec.get("groups") or ()), spec.get("uid", ""), spec.get("extra") or {})


def _check_subject(review: Obj) -> list[Cause]:
    spec = review.get("spec") or {}
    if spec.get("user") or spec.get("groups"):
        return []
    return [errors.invalid("spec.user", "", "at least one of user or group must be specified")]


def _check_metadata(review: Obj, except_for: str = "") -> list[Cause]:
    """Reviews are no objects: they have no names and nothing else of that."""
    allowed = ("managedFields", "namespace") if except_for else ("managedFields",)
    said = [field for field in review["metadata"] if field not in allowed]
    return [errors.invalid("metadata", review["metadata"], f"must be empty{except_for}")] if said else []


def _check_attributes(spec: Obj) -> list[Cause]:
    resource, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if resource is not None and path is not None:
        text = "cannot be specified in combination with resourceAttributes"
        return [errors.invalid("spec.nonResourceAttributes", path, text), *_check_selectors(resource)]
    if resource is None and path is None:
        text = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        return [errors.invalid("spec.resourceAttributes", None, text)]
    return _check_selectors(resource or {})


def _check_selectors(resource: Mapping[str, Any]) -> list[Cause]:
    """What is asked about is limited by texts or by requirements. Operators that only newer clients know are no fault."""
    causes: list[Cause] = []
    for field in ("fieldSelector", "labelSelector"):
        selector, path = resource.get(field), f"spec.resourceAttributes.{field}"
        if selector is None:
            continue
        raw, requirements = selector.get("rawSelector"), selector.get("requirements")
        if raw and requirements:
            text = "may not specified at the same time as requirements"
            causes.append(errors.invalid(f"{path}.rawSelector", raw, text))
        if not raw and not requirements:
            text = f"when {path} is specified, requirements or rawSelector is required"
            causes.append(errors.required(f"{path}.requirements", text))
        for index, requirement in enumerate(requirements or ()):
            at = f"{path}.requirements[{index}]"
            if field == "labelSelector":
                causes += fields.label_requirement(requirement, at, any_operator=True)
                continue
            causes += [] if requirement.get("key") else [errors.required(f"{at}.key", "must be specified")]
            causes += fields.operator_values(requirement, at)
    return causes


def _reviewed(review: Obj, user: User, authorizer: Authorizer, causes: list[Cause]) -> Obj:
    spec = review.get("spec") or {}
    causes = _check_attributes(spec) + causes
    if causes:
        raise errors.Invalid.of(_AUTHORIZATION, "", "", causes)  # of which kind, Kubernetes does not say
    access, ignored = _access(user, spec.get("resourceAttributes"), spec.get("nonResourceAttributes"))
    status = _status(authorizer.authorize(access))
    if ignored:
        status["evaluationError"] = "; ".join(ignored)
    return {**review, "status": status}


def _access(user: User, resource: Mapping[str, Any] | None, path: Mapping[str, Any] | None) -> tuple[Access, list[str]]:
    """What is asked about, and what of it was not understood."""
    if resource is None:
        path = path or {}
        return Access(user, path.get("verb", ""), path=path.get("path", "") or "/"), []
    ignored: list[str] = []
    access = Access(
        user,
        resource.get("verb", ""),
        resource.get("group", ""),
        resource.get("version", "") or "*",
        resource.get("resource", ""),
        resource.get("subresource", ""),
        resource.get("namespace", ""),
        resource.get("name", ""),
        field_selector=_selector(resource, "fieldSelector", _field_term, ignored),
        label_selector=_selector(resource, "labelSelector", _label_term, ignored),
    )
    return access, ignored


def _selector(resource: Mapping[str, Any], field: str, term: Callable[[Mapping[str, Any]], str], ignored: list[str]) -> str:
    """The text of a selector. Requirements that are not understood are left out, which asks for no less."""
    selector = resource.get(field) or {}
    raw: str = selector.get("rawSelector", "")
    parse = selectors.parse_fields if field == "fieldSelector" else selectors.parse_labels
    wanted = [term(requirement) for requirement in selector.get("requirements") or ()]
    known = [text for text in wanted if text and _is_read(parse, text)]
    if raw and not _is_read(parse, raw):
        raw = ""
        ignored.append(f"spec.resourceAttributes.{field} ignored due to parse error")
    elif len(known) < len(wanted):
        partially = "partially " if known else ""
        ignored.append(f"spec.resourceAttributes.{field} {partially}ignored due to parse error")
    return raw or ",".join(known)


def _is_read(parse: Callable[[str], object], text: str) -> bool:
    try:
        parse(text)
    except ValueError:
        return False
    return True


def _field_term(requirement: Mapping[str, Any]) -> str:
    """A requirement as the term of a field selector; empty where it can't be one."""
    sign = {"In": "=", "NotIn": "!="}.get(requirement.get("operator", ""))
    values = requirement.get("values") or []
    return f"{requirement.get('key', '')}{sign}{values[0]}" if sign and len(values) == 1 else ""


def _label_term(requirement: Mapping[str, Any]) -> str:
    key, listed = requirement.get("key", ""), ",".join(requirement.get("values") or ())
    match requirement.get("operator", ""):
        case "In" | "NotIn" as operator:
            return f"{key} {operator.lower()} ({listed})"
        case "Exists":
            return f"{key}"
        case "DoesNotExist":
            return f"!{key}"
    return ""


def _status(decision: Decision) -> Obj:
    status: Obj = {"allowed": decision.allowed is True}
    if decision.allowed is False:
        status["denied"] = True
    if decision.reason:
        status["reason"] = decision.reason
    return status


def _distinct(items: list[Obj]) -> list[Obj]:
    found: list[Obj] = []
    for item in items:
        if item not in found:
            found.append(item)
    return found
