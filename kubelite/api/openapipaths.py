"""Paths and operations for OpenAPI, from the rows of the table of kinds."""

from typing import Any

from kubelite.api.openapischemas import META, Schemas, list_name, schema_name
from kubelite.schema.builtin import definition
from kubelite.schema.kinds import Kind, Subresource

_MEDIA = ("application/json", "application/yaml")
_PATCH_MEDIA = (
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
)
#: For built-in kinds alone: clients decide by this what they send, and custom kinds take no such patch.
_STRATEGIC = "application/strategic-merge-patch+json"
_CONNECT = ("attach", "exec", "portforward", "proxy")
#: Verb -> method and the first word of the operation's id.
_OPERATIONS = {
    "get": ("get", "read"),
    "list": ("get", "list"),
    "create": ("post", "create"),
    "update": ("put", "replace"),
    "patch": ("patch", "patch"),
    "delete": ("delete", "delete"),
    "deletecollection": ("delete", "deleteCollection"),
}
_ACTIONS = {"create": "post", "update": "put"}
_WORDS = {
    "get": "read the specified {kind}",
    "list": "list or watch objects of kind {kind}",
    "create": "create a {kind}",
    "update": "replace the specified {kind}",
    "patch": "partially update the specified {kind}",
    "delete": "delete a {kind}",
    "deletecollection": "delete collection of {kind}",
}

#: name -> (type, what it is for)
_PARAMETERS: dict[str, tuple[str, str]] = {
    "allowWatchBookmarks": ("boolean", "Asks for events of type BOOKMARK, which carry only a resource version."),
    "continue": ("string", "The token of the page before, to get the next one."),
    "dryRun": ("string", "With All, everything is checked and nothing is stored."),
    "fieldManager": ("string", "Who is making the change; at most 128 printable characters."),
    "fieldSelector": ("string", "Restricts the objects by their fields."),
    "fieldValidation": ("string", "What to do with unknown and duplicate fields: Ignore, Warn or Strict."),
    "force": ("boolean", "For apply: takes over fields that others own."),
    "gracePeriodSeconds": ("integer", "Seconds before the object is deleted; zero means at once."),
    "ignoreStoreReadErrorWithClusterBreakingPotential": ("boolean", "Accepted and ignored."),
    "labelSelector": ("string", "Restricts the objects by their labels."),
    "limit": ("integer", "The most items in one answer."),
    "orphanDependents": ("boolean", "Deprecated: use propagationPolicy."),
    "pretty": ("string", "Accepted and ignored."),
    "propagationPolicy": ("string", "What happens to dependents: Orphan, Background or Foreground."),
    "resourceVersion": ("string", "How fresh the answer must be, or where a watch starts."),
    "resourceVersionMatch": ("string", "How resourceVersion is applied to a list: Exact or NotOlderThan."),
    "sendInitialEvents": ("boolean", "Starts a watch with the objects that there are."),
    "timeoutSeconds": ("integer", "Ends a list or watch after so many seconds."),
    "watch": ("boolean", "Streams changes instead of listing."),
}
_LIST = (
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
    "watch",
)
_WRITE = ("dryRun", "fieldManager", "fieldValidation")
_DELETE = (
    "dryRun",
    "gracePeriodSeconds",
    "ignoreStoreReadErrorWithClusterBreakingPotential",
    "orphanDependents",
    "propagationPolicy",
)
_QUERY = {
    "get": (),
    "list": _LIST,
    "create": _WRITE,
    "update": _WRITE,
    "patch": (*_WRITE, "force"),
    "delete": _DELETE,
    "deletecollection": (*_DELETE, *(name for name in _LIST if name not in ("allowWatchBookmarks", "watch"))),
}


class _Operation:
    """One operation, before it is written in either version's form."""

    def __init__(
        self, kind: Kind, verb: str, sub: Subresource | None, *, everywhere: bool = False, with_path: bool = False
    ) -> None:
        self.kind, self.verb, self.sub = kind, verb, sub
        self.everywhere, self.with_path = everywhere, with_path
        shown = sub.kind if sub is not None else kind.kind
        self.gvk = {"group": kind.group, "version": kind.version, "kind": shown}
        if sub is not None and sub.version:
            self.gvk |= {"group": sub.group, "version": sub.version}
        self.connects = sub is not None and sub.name in _CONNECT
        self.body = schema_name(kind)
        if sub is not None and (sub.version or shown != kind.kind):
            self.body = definition(self.gvk["group"], self.gvk["version"], shown)

    @property
    def action(self) -> str:
        return "connect" if self.connects else _ACTIONS.get(self.verb, self.verb)

    @property
    def operation_id(self) -> str:
        kind = self.kind
        group = "".join(p.capitalize() for p in (kind.group or "core").removesuffix(".k8s.io").split("."))
        word = _OPERATIONS[self.verb][1]
        if self.connects:
            word = "connect"
            method = _OPERATIONS[self.verb][0].capitalize()
        else:
            method = ""
        scope = "Namespaced" if kind.namespaced and not self.everywhere else ""
        tail = self.sub.name.capitalize() if self.sub is not None else ""
        collection = "Collection" if self.verb == "deletecollection" else ""
        suffix = "ForAllNamespaces" if self.everywhere else "WithPath" if self.with_path else ""
        word = "delete" if collection else word
        return f"{word}{group}{kind.version.capitalize()}{method}{collection}{scope}{kind.kind}{tail}{suffix}"

    @property
    def answer(self) -> str:
        if self.verb == "list":
            return list_name(self.kind)
        return f"{META}Status" if self.verb in ("delete", "deletecollection") else self.body

    @property
    def media(self) -> tuple[str, ...]:
        """What its body may be."""
        if self.verb == "patch":
            return _PATCH_MEDIA if self.kind.custom else (*_PATCH_MEDIA, _STRATEGIC)
        return _MEDIA if self.kind.custom else ("*/*",)

    @property
    def common(self) -> dict[str, Any]:
        group = self.kind.group.removesuffix(".k8s.io").replace(".", "") if self.kind.group else "core"
        return {
            "tags": [f"{group}_{self.kind.version}"],
            "description": _WORDS[self.verb].format(kind=self.kind.kind)
            if self.sub is None
            else f"{_WORDS[self.verb].format(kind=self.kind.kind)}: {self.sub.name}",
            "operationId": self.operation_id,
        }

    @property
    def extensions(self) -> dict[str, Any]:
        return {"x-kubernetes-action": self.action, "x-kubernetes-group-version-kind": self.gvk}


def _operations(kind: Kind) -> dict[str, tuple[list[str], list[_Operation]]]:
    """Path -> its path parameters and operations."""
    base = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
    collection = f"{base}/namespaces/{{namespace}}/{kind.plural}" if kind.namespaced else f"{base}/{kind.plural}"
    scope = ["namespace"] if kind.namespaced else []
    found: dict[str, tuple[list[str], list[_Operation]]] = {}

    def add(path: str, parameters: list[str], operations: list[_Operation]) -> None:
        if operations:
            found[path] = (parameters, operations)

    verbs = kind.verbs
    on_collection = [_Operation(kind, v, None) for v in ("list", "create", "deletecollection") if v in verbs]
    add(collection, scope, on_collection)
    if kind.namespaced and "list" in verbs:
        add(f"{base}/{kind.plural}", [], [_Operation(kind, "list", None, everywhere=True)])
    item = [_Operation(kind, v, None) for v in ("get", "update", "patch", "delete") if v in verbs]
    add(f"{collection}/{{name}}", ["name", *scope], item)
    for sub in kind.subresources.values():
        on_sub = [_Operation(kind, v, sub) for v in ("get", "create", "update", "patch", "delete") if v in sub.verbs]
        add(f"{collection}/{{name}}/{sub.name}", ["name", *scope], on_sub)
        if sub.name == "proxy":
            again = [_Operation(kind, o.verb, sub, with_path=True) for o in on_sub]
            add(f"{collection}/{{name}}/proxy/{{path}}", ["name", *scope, "path"], again)
    return found


def paths_v3(kind: Kind, schemas: Schemas) -> dict[str, Any]:
    paths: dict[str, Any] = {}
    for path, (parameters, operations) in _operations(kind).items():
        item: dict[str, Any] = {}
        for operation in operations:
            item[_OPERATIONS[operation.verb][0]] = _v3(operation, schemas)
        item["parameters"] = [
            {"name": p, "in": "path", "required": True, "schema": {"type": "string", "uniqueItems": True}} for p in parameters
        ]
        paths[path] = item
    return paths


def _v3(operation: _Operation, schemas: Schemas) -> dict[str, Any]:
    result = operation.common
    if operation.connects:
        content: dict[str, Any] = {"*/*": {"schema": {"type": "string"}}}
    else:
        result["parameters"] = [
            {
                "name": name,
                "in": "query",
                "description": _PARAMETERS[name][1],
                "schema": {"type": _PARAMETERS[name][0], "uniqueItems": True},
            }
            for name in _QUERY[operation.verb]
        ]
        reference = schemas.reference(operation.answer)
        content = {media: {"schema": reference} for media in _MEDIA}
        body = _body_of(operation)
        if body:
            result["requestBody"] = {"content": {m: {"schema": schemas.reference(body)} for m in operation.media}}
            if operation.verb in ("create", "update", "patch"):
                result["requestBody"]["required"] = True
    result["responses"] = {code: {"description": text, "content": content} for code, text in _codes(operation)}
    result["responses"]["401"] = {"description": "Unauthorized"}
    return result | operation.extensions


def paths_v2(kind: Kind, schemas: Schemas) -> dict[str, Any]:
    paths: dict[str, Any] = {}
    for path, (parameters, operations) in _operations(kind).items():
        item: dict[str, Any] = {}
        for operation in operations:
            item[_OPERATIONS[operation.verb][0]] = _v2(operation, schemas)
        item["parameters"] = [
            {"name": p, "in": "path", "required": True, "type": "string", "uniqueItems": True} for p in parameters
        ]
        paths[path] = item
    return paths


def _v2(operation: _Operation, schemas: Schemas) -> dict[str, Any]:
    result = operation.common
    result["schemes"] = ["https"]
    result["consumes"] = list(operation.media)
    result["produces"] = ["*/*"] if operation.connects else list(_MEDIA)
    schema: dict[str, Any] = {"type": "string"}
    if not operation.connects:
        parameters: list[dict[str, Any]] = [
            {
                "name": name,
                "in": "query",
                "description": _PARAMETERS[name][1],
                "type": _PARAMETERS[name][0],
                "uniqueItems": True,
            }
            for name in _QUERY[operation.verb]
        ]
        body = _body_of(operation)
        if body:
            entry: dict[str, Any] = {"name": "body", "in": "body", "schema": schemas.reference(body)}
            if operation.verb in ("create", "update", "patch"):
                entry["required"] = True
            parameters.insert(0, entry)
        result["parameters"] = parameters
        schema = schemas.reference(operation.answer)
    result["responses"] = {code: {"description": text, "schema": schema} for code, text in _codes(operation)}
    result["responses"]["401"] = {"description": "Unauthorized"}
    return result | operation.extensions


def _body_of(operation: _Operation) -> str:
    if operation.verb in ("create", "update"):
        return operation.body
    if operation.verb == "patch":
        return f"{META}Patch"
    return f"{META}DeleteOptions" if operation.verb in ("delete", "deletecollection") else ""


def _codes(operation: _Operation) -> list[tuple[str, str]]:
    codes = [("200", "OK")]
    if not operation.connects and operation.verb in ("create", "update", "patch"):
        codes.append(("201", "Created"))
    if operation.verb in ("create", "delete") and not operation.connects:
        codes.append(("202", "Accepted"))
    return codes
