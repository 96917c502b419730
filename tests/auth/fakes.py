"""Informers without a server: the real Informer class, fed by hand."""

from typing import Any

from kubelite.client.informers import Informer
from kubelite.meta.types import Obj


class StaticInformers:
    """Hands out real informers that never run; tests put objects in with `put` and take them out with `drop`."""

    def __init__(self, objects: dict[str, list[Obj]] | None = None) -> None:
        self._informers: dict[str, Informer] = {}
        self._revision = 1
        for resource, items in (objects or {}).items():
            for item in items:
                self.put(resource, item)

    def of(self, resource: str) -> Informer:
        client: Any = None
        if resource not in self._informers:
            self._informers[resource] = Informer(client, resource)
            self._informers[resource].synced.set()
        return self._informers[resource]

    def put(self, resource: str, obj: Obj) -> None:
        self._revision += 1
        obj = obj | {"metadata": obj["metadata"] | {"resourceVersion": str(self._revision)}}
        self.of(resource)._apply(obj, deleted=False)

    def drop(self, resource: str, obj: Obj) -> None:
        self.of(resource)._apply(obj, deleted=True)

    def lookup(self, resource: str, namespace: str, name: str) -> Obj | None:
        return self.of(resource).get(name, namespace)


def named(name: str, namespace: str = "", uid: str = "", **fields: Any) -> Obj:
    """An object with metadata and the fields given."""
    metadata: Obj = {"name": name, "uid": uid or f"uid-{name}", "resourceVersion": "1"}
    if namespace:
        metadata["namespace"] = namespace
    metadata |= fields.pop("metadata", {})
    return {"metadata": metadata, **fields}
