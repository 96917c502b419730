"""A client over plain dicts with real list and watch behaviour, for the tests of client/ alone."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

from kubelite.client.contract import Listing, WatchEvent
from kubelite.meta.errors import Expired
from kubelite.meta.types import Obj


class DictClient:
    """Lists and watches what `put` and `remove` have made of it; `compact` and `end_watches` play a server's moods."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Obj] = {}
        self.log: list[tuple[int, str, WatchEvent]] = []
        self.compacted = 0
        self.lists = 0
        self.failures: list[BaseException] = []
        self._revision = itertools.count(1)
        self.revision = 0
        self._changed = asyncio.Condition()
        self._generation = 0

    def stamp(self, obj: Obj) -> Obj:
        self.revision = next(self._revision)
        meta = {"uid": f"uid-{obj['metadata']['name']}", **obj["metadata"], "resourceVersion": str(self.revision)}
        return {**obj, "metadata": meta}

    async def put(self, resource: str, name: str, namespace: str = "", **content: Any) -> Obj:
        meta = {"name": name, **({"namespace": namespace} if namespace else {}), **content.pop("metadata", {})}
        obj = self.stamp({**content, "metadata": meta})
        key = resource, namespace, name
        kind = "MODIFIED" if key in self.objects else "ADDED"
        self.objects[key] = obj
        await self._publish(resource, WatchEvent(kind, obj))  # type: ignore[arg-type]
        return obj

    async def remove(self, resource: str, name: str, namespace: str = "") -> None:
        obj = self.stamp(self.objects.pop((resource, namespace, name)))
        await self._publish(resource, WatchEvent("DELETED", obj))

    async def _publish(self, resource: str, event: WatchEvent) -> None:
        self.log.append((self.revision, resource, event))
        async with self._changed:
            self._changed.notify_all()

    async def end_watches(self, *, compact: bool = False) -> None:
        if compact:
            self.compacted = self.revision
        self._generation += 1
        async with self._changed:
            self._changed.notify_all()

    async def list(self, resource: str, namespace: str = "", **_: Any) -> Listing:
        self.lists += 1
        if self.failures:
            raise self.failures.pop(0)
        items = [o for (r, ns, _), o in self.objects.items() if r == resource and namespace in ("", ns)]
        return Listing(items, str(self.revision))

    async def watch(
        self, resource: str, namespace: str = "", *, resource_version: str = "", **_: Any
    ) -> AsyncIterator[WatchEvent]:
        position = int(resource_version)
        generation = self._generation
        while True:
            if position < self.compacted:
                raise Expired("too old resource version")
            for revision, of, event in [*self.log]:
                if revision > position:
                    position = revision
                    if of == resource:
                        yield event
            async with self._changed:
                if self._generation != generation:
                    return
                if not any(revision > position for revision, _, _ in self.log):
                    await self._changed.wait()
            if self._generation != generation:
                return
