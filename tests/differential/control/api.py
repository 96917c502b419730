"""Requests to a server by resource and name, as scripts give them."""

import json
from collections.abc import Mapping
from typing import Any

from kubelite.schema import builtin
from tests.differential.servers import Answer, Server

_KINDS = builtin.kinds()
_JSON = {"Accept": "application/json", "Content-Type": "application/json"}


class Api:
    """A server as one namespace's user sees it."""

    def __init__(self, server: Server, namespace: str) -> None:
        self.server = server
        self.namespace = namespace

    def path(self, resource: str, name: str = "", subresource: str = "") -> str:
        """`of` a resource: `deployments.apps`; `pods`; its version is the preferred one."""
        kind = _KINDS.preferred(resource)
        root = f"/apis/{kind.api_version}" if kind.group else f"/api/{kind.version}"
        inside = f"/namespaces/{self.namespace}" if kind.namespaced else ""
        return root + inside + "/" + "/".join(part for part in (kind.plural, name, subresource) if part)

    def create(self, obj: Mapping[str, Any]) -> Answer:
        kind = _KINDS.of_kind(obj["apiVersion"], obj["kind"])
        assert kind is not None, obj
        return self._send("POST", self.path(kind.group_resource), obj)

    def get(self, resource: str, name: str) -> Answer:
        return self._send("GET", self.path(resource, name))

    def list(self, resource: str, selector: str = "") -> list[dict[str, Any]]:
        answer = self._send("GET", self.path(resource) + (f"?labelSelector={selector}" if selector else ""))
        assert answer.code == 200, answer
        items: list[dict[str, Any]] = answer.body["items"]
        return items

    def patch(
        self, resource: str, name: str, change: Mapping[str, Any], subresource: str = "", form: str = "merge-patch"
    ) -> Answer:
        headers = {**_JSON, "Content-Type": f"application/{form}+json"}
        return self._send("PATCH", self.path(resource, name, subresource), change, headers)

    def post(self, resource: str, name: str, subresource: str, body: Mapping[str, Any]) -> Answer:
        return self._send("POST", self.path(resource, name, subresource), body)

    def delete(self, resource: str, name: str, options: Mapping[str, Any] | None = None) -> Answer:
        return self._send("DELETE", self.path(resource, name), options)

    def _send(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] = _JSON) -> Answer:
        text = None if body is None else json.dumps(body).replace("{ns}", self.namespace).encode()
        return self.server.send(method, path.replace("{ns}", self.namespace), text, headers)
