"""One module for each verb, and the way from a request to the one that handles it.

A handler is `async def handle(api, request, kind) -> Reply | Streamed`. Routing reads the table of kinds, so a kind that
appears or goes (a custom one) is served or not at that moment.
"""

from collections.abc import Awaitable, Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from kubelite.api.requests import Reply, Request, Streamed
from kubelite.meta.errors import BadRequest, MethodNotAllowed, NotFound

if TYPE_CHECKING:
    from kubelite.api.app import Api
    from kubelite.schema.kinds import Kind

__all__ = ["Reply", "Streamed", "dispatch"]

Handler = Callable[["Api", Request, "Kind"], Awaitable["Reply | Streamed"]]

NOT_FOUND = Reply(404, b"404 page not found\n", b"text/plain; charset=utf-8", b"X-Content-Type-Options: nosniff\r\n")

#: Verb -> module of this package. A module loads when its first request comes.
_VERBS = {
    "get": "get",
    "list": "list",
    "watch": "watch",
    "create": "create",
    "update": "update",
    "patch": "patch",
    "delete": "delete",
    "deletecollection": "deletecollection",
}
#: (group, resource, subresource) -> module, for what no registry stores.
_SPECIAL = {
    ("", "pods", "log"): "logs",
    ("", "pods", "exec"): "exec",
    ("", "pods", "attach"): "exec",
    ("", "pods", "portforward"): "portforward",
    ("", "pods", "proxy"): "proxy",
    ("", "services", "proxy"): "proxy",
    ("", "nodes", "proxy"): "proxy",
    ("", "serviceaccounts", "token"): "token",
    ("authentication.k8s.io", "tokenreviews", ""): "reviews",
    ("authentication.k8s.io", "selfsubjectreviews", ""): "reviews",
    ("authorization.k8s.io", "subjectaccessreviews", ""): "reviews",
    ("authorization.k8s.io", "selfsubjectaccessreviews", ""): "reviews",
    ("authorization.k8s.io", "localsubjectaccessreviews", ""): "reviews",
    ("authorization.k8s.io", "selfsubjectrulesreviews", ""): "reviews",
    ("", "componentstatuses", ""): "componentstatuses",
}
#: Verbs of a collection's URL, and those that a method on the other sort of URL is taken for.
_COLLECTION_VERBS = frozenset(("create", "list", "watch", "deletecollection"))
_NAMED_OR_NOT = frozenset(("create", "update", "patch"))
#: Kinds of the core group that are there for old clients only.
_DEPRECATED = {
    "endpoints": "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
    "componentstatuses": "v1 ComponentStatus is deprecated in v1.19+",
}
_CLUSTER_WIDE_VERBS = frozenset(("list", "watch"))
_loaded: dict[str, Handler] = {}


async def dispatch(api: "Api", request: Request) -> Reply | Streamed:
    """Raises ApiError."""
    info = request.info
    if not info.is_resource:
        return await _load("nonresource")(api, request, None)  # type: ignore[arg-type]
    kind = api.kinds.resource(info.group, info.version, info.resource)
    if kind is None:
        if api.aggregated is not None and (reply := await api.aggregated(request)) is not None:
            return reply
        return absent(api, info.group)
    request.kind = kind
    if not kind.namespaced:
        # The scope of the URL must be the kind's (CVE-2019-11247); a Namespace's own name stands where others have theirs.
        if info.namespace and not (kind.plural == "namespaces" and not kind.group):
            return absent(api, info.group)
    elif not info.namespace and info.verb not in _CLUSTER_WIDE_VERBS:
        if info.name or kind.custom:
            return absent(api, info.group)
        raise not_allowed()
    if info.subresource:
        subresource = kind.subresources.get(info.subresource)
        if subresource is None or not info.name:
            if kind.custom and info.name:
                raise NotFound.of(kind.group, kind.plural, info.name)
            return absent(api, info.group)
        verbs = subresource.verbs
    else:
        verbs = kind.verbs
        if info.parts or (info.name and _COLLECTION_VERBS.issuperset(verbs)):
            return absent(api, info.group)
        if bool(info.name) != (info.verb not in _COLLECTION_VERBS) and info.verb in _NAMED_OR_NOT:
            raise not_allowed()
    if info.verb in verbs and (kind.custom or kind.plural in _DEPRECATED):
        _warn_of_age(request, kind)
    if "%" in info.name and info.verb not in _COLLECTION_VERBS:
        raise BadRequest(f"Name parameter invalid: \"{info.name}\": may not contain '%'")
    special = _SPECIAL.get((kind.group, kind.plural, info.subresource))
    if special is not None:
        return await (_loaded.get(special) or _load(special))(api, request, kind)
    if info.verb not in verbs:
        raise not_allowed()
    verb = _VERBS[info.verb]
    return await (_loaded.get(verb) or _load(verb))(api, request, kind)


def absent(api: "Api", group: str) -> Reply:
    """The answer to what is not served: within the groups of Kubernetes' own kinds a Status, else a text.

    Raises:
        NotFound: the group has kinds of Kubernetes' own.
    """
    if any(kind.group == group and not kind.custom for kind in api.kinds):
        raise NotFound("the server could not find the requested resource")
    return NOT_FOUND


def _warn_of_age(request: Request, kind: "Kind") -> None:
    """Tells a client of a deprecated kind or version that it is one."""
    if not kind.custom:
        if not kind.group:
            request.warnings.append(_DEPRECATED[kind.plural])
        return
    version: Mapping[str, Any] = kind.crd_version or {}
    if version.get("deprecated"):
        request.warnings.append(version.get("deprecationWarning") or f"{kind.api_version} {kind.kind} is deprecated")


def not_allowed() -> MethodNotAllowed:
    return MethodNotAllowed("the server does not allow this method on the requested resource")


def _load(name: str) -> Handler:
    handler: Handler | None = _loaded.get(name)
    if handler is None:
        handler = _loaded[name] = import_module(f"{__name__}.{name}").handle
    return handler
