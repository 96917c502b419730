"""What the session has brought down: the objects this node needs, by resource, and who wants to hear of changes.

The objects are shared: nobody mutates them. Handlers are called in order, synchronously, with (resource, old, new).
"""

from collections.abc import Callable, Iterator
from typing import TypeAlias

import structlog

from kubelite.meta.types import Obj

log = structlog.get_logger()

Handler: TypeAlias = Callable[[str, Obj | None, Obj | None], None]


class Objects:
    """The node's desired world."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[tuple[str, str], Obj]] = {}
        self._handlers: list[Handler] = []

    def get(self, resource: str, name: str, namespace: str = "") -> Obj | None:
        return self._objects.get(resource, {}).get((namespace, name))

    def list(self, resource: str, namespace: str = "") -> Iterator[Obj]:
        """The objects of a resource, of one namespace where it is given."""
        for (its_namespace, _), obj in self._objects.get(resource, {}).items():
            if not namespace or its_namespace == namespace:
                yield obj

    def subscribe(self, handler: Handler) -> None:
        self._handlers.append(handler)
        for resource, objects in self._objects.items():
            for obj in list(objects.values()):
                handler(resource, None, obj)

    def held(self) -> Iterator[tuple[str, str, str, str]]:
        """(resource, namespace, name, resourceVersion) of everything here: what a new session need not send again."""
        for resource, objects in self._objects.items():
            for (namespace, name), obj in objects.items():
                yield resource, namespace, name, obj["metadata"].get("resourceVersion", "")

    def changed(self, resource: str, obj: Obj) -> None:
        meta = obj["metadata"]
        key = (meta.get("namespace", ""), meta["name"])
        objects = self._objects.setdefault(resource, {})
        old = objects.get(key)
        objects[key] = obj
        if old is not None:
            if old["metadata"].get("resourceVersion") == meta.get("resourceVersion"):
                return
            if old["metadata"].get("uid") != meta.get("uid"):
                # One was deleted and another made under its name while we did not look.
                self._tell(resource, old, None)
                old = None
        self._tell(resource, old, obj)

    def removed(self, resource: str, name: str, namespace: str = "") -> None:
        old = self._objects.get(resource, {}).pop((namespace, name), None)
        if old is not None:
            self._tell(resource, old, None)

    def _tell(self, resource: str, old: Obj | None, new: Obj | None) -> None:
        for handler in self._handlers:
            try:
                handler(resource, old, new)
            except Exception:
                # One part's fault must not cost the others their changes.
                log.exception("object_handler_failed", resource=resource)
