"""serviceaccounts/token: issues a bound, expiring token for a service account.

Source: pkg/registry/core/serviceaccount/storage/token.go and pkg/apis/authentication validation, v1.34.
"""

from typing import TYPE_CHECKING, Any

from kubelite.api.handlers import not_allowed
from kubelite.api.handlers.bodies import read_object
from kubelite.api.handlers.objects import Reply, media_of, reply_with
from kubelite.api.handlers.options import write_options
from kubelite.api.requests import Request
from kubelite.auth.tokens import MAX_LIFETIME_S, MIN_LIFETIME_S, Bound
from kubelite.meta import errors, names, times
from kubelite.meta.types import Obj
from kubelite.registry import bodies, writes
from kubelite.registry.contract import Attributes, Target
from kubelite.registry.validation import metadata
from kubelite.schema import builtin
from kubelite.schema.kinds import Kind

if TYPE_CHECKING:
    from kubelite.api.app import Api

DEFAULT_LIFETIME_S = 3600
_GROUP = "authentication.k8s.io"
#: The kinds of the core group whose objects a token may be bound to, and their resources.
_BINDABLE = {"Pod": "pods", "Secret": "secrets", "Node": "nodes"}


async def handle(api: "Api", request: Request, kind: Kind) -> Reply:
    if request.info.verb != "create":
        raise not_allowed()
    media = media_of(request, plain=True)
    options = write_options(request, "CreateOptions")
    info, row = request.info, builtin.body(_GROUP, "v1", "TokenRequest")
    body = bodies.received(row, await read_object(request, kind, options), options)
    writes.match_namespace(Target(row, info.namespace), body["metadata"])
    metadata.dedupe_owners(body["metadata"], options.warnings)
    token_kind = (_GROUP, "v1", "TokenRequest")
    attributes = Attributes(
        "CREATE",
        Target(kind, info.namespace, info.name, "token"),
        body,
        None,
        request.user,
        options.dry_run,
        {},
        token_kind,
        options.warnings,
    )
    admission = api.registry.admission
    body = await admission.mutate(attributes) or body
    await admission.validate(attributes)
    return reply_with(request, media, None, await issue(api, info.namespace, info.name, body), 201)


async def issue(api: "Api", namespace: str, name: str, body: Obj) -> Obj:
    """The TokenRequest with its status. Raises ApiError."""
    named = (body.get("metadata") or {}).get("name", name)
    if named != name:  # a request may name its account, but no other one
        cause = errors.invalid("metadata.name", named, "must match the service account name if specified")
        raise errors.Invalid.of(_GROUP, "TokenRequest", name, [cause])
    account = await api.client.get("serviceaccounts", name, namespace)
    spec = body.get("spec") or {}
    lifetime_s = spec.get("expirationSeconds")
    if lifetime_s is None:
        lifetime_s = DEFAULT_LIFETIME_S
    account_name, uid = account["metadata"]["name"], account["metadata"]["uid"]
    given = (body.get("metadata") or {}).get("uid", "")
    if given and given != uid:
        why = f"the UID in the token request ({given}) does not match the UID of the service account ({uid})"
        raise errors.Conflict.of(_GROUP, "TokenRequest", name, why)
    _check(spec, lifetime_s)
    bound: dict[str, Bound] = {}
    reference = spec.get("boundObjectRef")
    if reference is not None:
        bound = await _bind(api, namespace, account_name, reference)
    audiences = list(spec.get("audiences") or api.issuer.audiences)
    keyword: Any = bound
    issued = api.issuer.issue(namespace, account_name, uid, audiences=audiences, lifetime_s=lifetime_s, **keyword)
    filled: Obj = {"audiences": audiences, "expirationSeconds": lifetime_s, "boundObjectRef": reference}
    own = {"name": name, "namespace": namespace, "uid": uid, "creationTimestamp": times.now()}
    return {
        "kind": "TokenRequest",
        "apiVersion": f"{_GROUP}/v1",
        "metadata": {**(body.get("metadata") or {}), **own},
        "spec": filled,
        "status": {"token": issued.token, "expirationTimestamp": times.format_time(issued.expires_at_s)},
    }


def _check(spec: Obj, lifetime_s: int) -> None:
    causes = []
    if lifetime_s < MIN_LIFETIME_S:
        causes.append(errors.invalid("spec.expirationSeconds", lifetime_s, "may not specify a duration less than 10 minutes"))
    if lifetime_s > MAX_LIFETIME_S:
        causes.append(errors.invalid("spec.expirationSeconds", lifetime_s, "may not specify a duration larger than 2^32 seconds"))
    if causes:
        raise errors.Invalid.of(_GROUP, "TokenRequest", "", causes)


async def _bind(api: "Api", namespace: str, account: str, reference: Obj) -> dict[str, Bound]:
    kind, version = reference.get("kind", ""), reference.get("apiVersion", "")
    if version.count("/") > 1:  # which says nothing
        version = ""
    group, _, number = version.rpartition("/")
    resource = _BINDABLE.get(kind)
    if resource is None or group:
        raise errors.BadRequest(f"cannot bind token to object of type {group}/{number}, Kind={kind}")
    name = reference.get("name", "")
    if not name:
        raise errors.BadRequest("Name parameter required.")
    if names.path_segment(name):
        raise errors.BadRequest(f'Name parameter invalid: "{name}": {"; ".join(names.path_segment(name))}')
    obj = await api.client.get(resource, name, "" if resource == "nodes" else namespace)
    uid = obj["metadata"]["uid"]
    bound = {kind.lower(): Bound(name, uid)}
    if resource == "pods":
        if (obj.get("spec") or {}).get("serviceAccountName", "") != account:
            raise errors.BadRequest(
                f'cannot bind token for serviceaccount "{account}" to pod running with different serviceaccount name.'
            )
        node = obj["spec"].get("nodeName")
        if node:
            try:
                found = await api.client.get("nodes", node)
            except errors.NotFound:
                bound["node"] = Bound(node, "")
            else:
                bound["node"] = Bound(node, found["metadata"]["uid"])
    if reference.get("uid") and reference["uid"] != uid:
        why = (
            f"the UID in the bound object reference ({reference['uid']}) does not match the UID in record. "
            "The object might have been deleted and then recreated"
        )
        raise errors.Conflict.of("", kind, name, why)
    return bound
