"""Requests for admission, and a client over the same hand-fed informers that the plugins read."""

import asyncio
from typing import Any

from kubelite.client.contract import Listing
from kubelite.meta import errors
from kubelite.meta.types import Obj
from kubelite.meta.users import User
from kubelite.registry.contract import Attributes, Operation, Target
from kubelite.schema import builtin
from tests.auth.fakes import StaticInformers

KINDS = builtin.kinds()
ADMIN = User("admin", ("system:masters", "system:authenticated"))
NODE = User("system:node:n1", ("system:nodes", "system:authenticated"))


class StaticClient:
    """Reads what the informers hold; `update` refuses an old resourceVersion, as a server does."""

    def __init__(self, informers: StaticInformers) -> None:
        self._informers = informers
        self.updates: list[Obj] = []
        self.show_updates = True

    async def get(self, resource: str, name: str, namespace: str = "", *, subresource: str = "") -> Obj:
        found = self._informers.of(resource).get(name, namespace)
        if found is None:
            raise errors.NotFound.of("", resource, name)
        return found

    async def list(self, resource: str, namespace: str = "", **options: Any) -> Listing:
        return Listing(self._informers.of(resource).list(namespace), "1")

    async def update(self, resource: str, obj: Obj, *, subresource: str = "") -> Obj:
        metadata = obj["metadata"]
        await asyncio.sleep(0)  # a commit takes at least a turn of the loop
        current = await self.get(resource, metadata["name"], metadata.get("namespace", ""))
        last = next((u for u in reversed(self.updates) if u["metadata"]["name"] == metadata["name"]), current)
        newest = max((current, last), key=lambda o: int(o["metadata"]["resourceVersion"]))
        if newest["metadata"]["resourceVersion"] != metadata["resourceVersion"]:
            raise errors.Conflict.of("", resource, metadata["name"], "the object has been modified")
        if self.show_updates:
            self._informers.put(resource, obj)
            written = await self.get(resource, metadata["name"], metadata.get("namespace", ""))
        else:
            written = obj | {"metadata": metadata | {"resourceVersion": str(int(metadata["resourceVersion"]) + 1000)}}
        self.updates.append(written)
        return written


def request(
    operation: Operation,
    resource: str,
    obj: Obj | None,
    *,
    old: Obj | None = None,
    user: User = ADMIN,
    namespace: str = "ns",
    name: str = "",
    subresource: str = "",
    dry_run: bool = False,
) -> Attributes:
    """Attributes of a request about an object, its name taken from it where there is one."""
    kind = KINDS.preferred(resource)
    name = name or ((obj or old or {}).get("metadata") or {}).get("name", "")
    target = Target(kind, namespace if kind.namespaced else "", name, subresource)
    return Attributes(operation, target, obj, old, user, dry_run, {})


def pod(name: str = "p", *, labels: dict[str, str] | None = None, annotations: dict[str, str] | None = None, **spec: Any) -> Obj:
    metadata: Obj = {"name": name, "namespace": "ns", "uid": f"uid-{name}", "resourceVersion": "1"}
    if labels:
        metadata["labels"] = labels
    if annotations:
        metadata["annotations"] = annotations
    containers = spec.pop("containers", [{"name": "c", "image": "i"}])
    return {"metadata": metadata, "spec": {"containers": containers, **spec}}
