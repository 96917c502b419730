"""Informers: what a component knows of a resource, kept current by one list and one watch.

One informer a resource, shared by all parts of a process, started when the first part asks for it. An informer holds each
object once, as the client handed it out; what it hands out is that same object, which nobody mutates. Handlers are
synchronous, called in the order of the events, and must only note what to do (usually: add a key to a work queue).

An informer never ends on an error (see `reflector`). Between a fault and its repair the cache is stale, never wrong.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import TypeAlias

import structlog

from kubelite.client import reflector
from kubelite.client.contract import Client
from kubelite.meta.types import Obj

log = structlog.get_logger()

Objects: TypeAlias = list[Obj]
#: handler(old, new): old is None when the object is new to the cache, new is None when it is gone.
Handler: TypeAlias = Callable[[Obj | None, Obj | None], None]
IndexKeys: TypeAlias = Callable[[Obj], Iterable[str]]
_Key: TypeAlias = tuple[str, str]


def _key_of(obj: Obj) -> _Key:
    meta = obj["metadata"]
    return meta.get("namespace", ""), meta["name"]


class Informer:
    """The current objects of one resource. Made by `Informers.of`."""

    def __init__(self, client: Client, resource: str, *, transform: Callable[[Obj], Obj] | None = None) -> None:
        self.resource = resource
        #: Set once the first list is in the cache and its handlers have run.
        self.synced = asyncio.Event()
        self._client = client
        self._transform = transform
        self._namespaces: dict[str, dict[str, Obj]] = {}
        self._index_keys: dict[str, IndexKeys] = {}
        self._indexes: dict[str, dict[str, dict[_Key, Obj]]] = {}
        self._handlers: dict[int, Handler] = {}
        self._next_handler = 0

    def get(self, name: str, namespace: str = "") -> Obj | None:
        """The object, or None where the cache has none."""
        objects = self._namespaces.get(namespace)
        return None if objects is None else objects.get(name)

    def list(self, namespace: str = "") -> Objects:
        """The objects of a namespace; all of them where it is empty. In no particular order."""
        if namespace:
            return [*self._namespaces.get(namespace, {}).values()]
        return [obj for objects in self._namespaces.values() for obj in objects.values()]

    def __len__(self) -> int:
        return sum(map(len, self._namespaces.values()))

    def add_index(self, name: str, keys: IndexKeys) -> None:
        """Keeps the objects by what `keys` gives for each. A name stands for one meaning in the whole process: adding it twice
        is fine, the second `keys` is not used."""
        if name in self._index_keys:
            return
        self._index_keys[name] = keys
        index: dict[str, dict[_Key, Obj]] = {}
        for obj in self.list():
            for key in keys(obj):
                index.setdefault(key, {})[_key_of(obj)] = obj
        self._indexes[name] = index

    def by_index(self, name: str, key: str) -> Objects:
        """The objects for which the index `name` gives `key`."""
        found = self._indexes[name].get(key)
        return [] if found is None else [*found.values()]

    def subscribe(self, handler: Handler) -> Callable[[], None]:
        """Calls `handler` for every object there is, now, and then for every change. Returns what ends that."""
        number = self._next_handler
        self._next_handler += 1
        for obj in self.list():
            self._call(handler, None, obj)
        self._handlers[number] = handler

        def unsubscribe() -> None:
            self._handlers.pop(number, None)

        return unsubscribe

    async def run(self) -> None:
        """Lists and watches until cancelled."""
        await reflector.reflect(self._client, self.resource, listed=self._replace, changed=self._apply)

    def _replace(self, objects: Objects) -> None:
        gone = {_key_of(obj) for obj in self.list()}
        for obj in objects:
            gone.discard(_key_of(obj))
            self._apply(obj, deleted=False)
        for namespace, name in gone:
            last = self._namespaces[namespace][name]
            self._apply(last, deleted=True)
        self.synced.set()

    def _apply(self, obj: Obj, deleted: bool) -> None:
        if self._transform is not None:
            obj = self._transform(obj)
        namespace, name = _key_of(obj)
        objects = self._namespaces.get(namespace)
        old = None if objects is None else objects.get(name)
        if deleted:
            if objects is None or old is None:
                return
            del objects[name]
            if not objects:
                del self._namespaces[namespace]
            self._reindex((namespace, name), old, None)
            # The last state is what handlers see as `old`: it has the deletion's revision, and what changed with it.
            self._notify(obj, None)
            return
        if old is not None and old["metadata"].get("resourceVersion") == obj["metadata"].get("resourceVersion"):
            return
        if objects is None:
            objects = self._namespaces[namespace] = {}
        objects[name] = obj
        self._reindex((namespace, name), old, obj)
        if old is not None and old["metadata"].get("uid") != obj["metadata"].get("uid"):
            # Deleted and created anew while we did not look: handlers must see both.
            self._notify(old, None)
            old = None
        self._notify(old, obj)

    def _reindex(self, key: _Key, old: Obj | None, new: Obj | None) -> None:
        for name, keys in self._index_keys.items():
            index = self._indexes[name]
            if old is not None:
                for value in keys(old):
                    bucket = index.get(value)
                    if bucket is not None:
                        bucket.pop(key, None)
                        if not bucket:
                            del index[value]
            if new is not None:
                for value in keys(new):
                    index.setdefault(value, {})[key] = new

    def _notify(self, old: Obj | None, new: Obj | None) -> None:
        for handler in [*self._handlers.values()]:
            self._call(handler, old, new)

    def _call(self, handler: Handler, old: Obj | None, new: Obj | None) -> None:
        try:
            handler(old, new)
        except Exception:
            # One component's fault must not cost the others their events.
            log.exception("informer_handler_failed", resource=self.resource, handler=getattr(handler, "__qualname__", ""))


def metadata_only(obj: Obj) -> Obj:
    """The object without its content, and without the bulk in its metadata: for those who follow only what exists."""
    meta = {key: value for key, value in obj["metadata"].items() if key not in ("managedFields", "annotations")}
    return {"apiVersion": obj.get("apiVersion", ""), "kind": obj.get("kind", ""), "metadata": meta}


class Informers:
    """The informers of a process. `of` may be called at any time; `run` keeps all of them current."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._informers: dict[tuple[str, bool], Informer] = {}
        self._tasks: dict[tuple[str, bool], asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None

    def of(self, resource: str) -> Informer:
        """The informer of `pods` or `deployments.apps`, made and started at the first ask."""
        return self._of(resource, metadata=False)

    def existing(self, resource: str) -> Informer | None:
        """The full informer of a resource, where some part has asked for it."""
        return self._informers.get((resource, False))

    def metadata_of(self, resource: str) -> Informer:
        """An informer for those who need only metadata (without annotations): the full one where there is one already."""
        if (resource, False) in self._informers:
            return self._informers[resource, False]
        return self._of(resource, metadata=True)

    def _of(self, resource: str, *, metadata: bool) -> Informer:
        key = resource, metadata
        informer = self._informers.get(key)
        if informer is None:
            informer = Informer(self.client, resource, transform=metadata_only if metadata else None)
            self._informers[key] = informer
            if self._group is not None:
                self._start(key, informer)
        return informer

    def forget(self, resource: str) -> None:
        """Stops the informers of a resource that is no longer served, such as that of a removed custom kind."""
        for key in ((resource, False), (resource, True)):
            self._informers.pop(key, None)
            task = self._tasks.pop(key, None)
            if task is not None:
                task.cancel()

    async def run(self) -> None:
        """Runs every informer, those asked for later included, until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                for key, informer in self._informers.items():
                    self._start(key, informer)
                await asyncio.get_running_loop().create_future()
            finally:
                self._group = None

    async def wait_synced(self) -> None:
        """Returns once every informer asked for until then has its objects."""
        while waiting := [i for i in self._informers.values() if not i.synced.is_set()]:
            for informer in waiting:
                await informer.synced.wait()

    def _start(self, key: tuple[str, bool], informer: Informer) -> None:
        assert self._group is not None
        self._tasks[key] = self._group.create_task(informer.run(), name=f"informer-{informer.resource}")
