"""The AdmissionRequest: a request as webhooks get it and as expressions see it in `request`.

Source: admission.k8s.io/v1; apiserver pkg/admission/plugin/webhook/request/admissionreview.go.
"""

import uuid
from typing import Any

from kubelite.meta.types import Obj
from kubelite.meta.users import User
from kubelite.registry.contract import Attributes

_OPTIONS = {"CREATE": "CreateOptions", "UPDATE": "UpdateOptions", "DELETE": "DeleteOptions"}


def format_request(attributes: Attributes) -> Obj:
    """The request without its objects: who does what to which resource."""
    target, kind = attributes.target, attributes.target.kind
    group, version, name = attributes.body_kind if attributes.body_kind[2] else (kind.group, kind.version, kind.kind)
    own_kind = {"group": group, "version": version, "kind": name}
    resource = {"group": kind.group, "version": kind.version, "resource": kind.plural}
    request: Obj = {
        "uid": str(uuid.uuid4()),
        "kind": own_kind,
        "resource": resource,
        "requestKind": own_kind,
        "requestResource": resource,
        "name": target.name,
        "namespace": target.namespace if kind.group_resource != "namespaces" else target.name,
        "operation": attributes.operation,
        "userInfo": format_user(attributes.user),
        "dryRun": attributes.dry_run,
        "options": _options(attributes),
    }
    if target.subresource:
        request["subResource"] = request["requestSubResource"] = target.subresource
    return {key: value for key, value in request.items() if value != ""}


def format_user(user: User) -> Obj:
    """A UserInfo."""
    info: Obj = {"username": user.name, "uid": user.uid, "groups": list(user.groups), "extra": user.extra}
    return {key: value for key, value in info.items() if value}


def with_kind(attributes: Attributes, obj: Obj | None) -> Obj | None:
    """An object with its kind and version, which those who read it elsewhere need."""
    if obj is None or ("kind" in obj and "apiVersion" in obj):
        return obj
    kind = attributes.target.kind
    group, version, name = attributes.body_kind if attributes.body_kind[2] else (kind.group, kind.version, kind.kind)
    return {"apiVersion": f"{group}/{version}" if group else version, "kind": name, **obj}


def _options(attributes: Attributes) -> dict[str, Any] | None:
    kind = _OPTIONS.get(attributes.operation)
    if kind is None:
        return dict(attributes.options) or None
    given = {key: value for key, value in attributes.options.items() if value not in (None, "", [])}
    if attributes.dry_run:
        given["dryRun"] = ["All"]
    return {"kind": kind, "apiVersion": "meta.k8s.io/v1", **given}
