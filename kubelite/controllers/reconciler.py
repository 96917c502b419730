"""The loop that every controller is: keys in, reconciled one at a time each, again after an error with back-off.

A controller says which informers it needs and which keys an object concerns, and implements `reconcile(key)`: bring what the
key names to what it should be, from whatever state, reading only caches and the client. It never learns what happened.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import ClassVar

import structlog

from kubelite.client.informers import Informer
from kubelite.client.workqueue import BASE_DELAY_S, ShutDown, WorkQueue
from kubelite.controllers.environment import Environment
from kubelite.meta.errors import AlreadyExists, ApiError, Conflict, NotFound
from kubelite.meta.types import Obj

log = structlog.get_logger()

#: How long an owner's key waits, for each object that it owns, after one of them changed. Looking at an owner costs time for
#: each; without the wait five thousand pods that become ready one by one would cost twenty-five million looks.
PACE_S = 0.0002
PACED_FROM = 50

KeysOf = Callable[[Obj], Iterable[str]]


def key_of(obj: Obj) -> str:
    """`namespace/name`, or the name alone of a cluster-wide object."""
    meta = obj["metadata"]
    namespace = meta.get("namespace", "")
    return f"{namespace}/{meta['name']}" if namespace else str(meta["name"])


def own_key(obj: Obj) -> Iterable[str]:
    """The keys of a controller's primary resource: each object's own."""
    return (key_of(obj),)


def split_key(key: str) -> tuple[str, str]:
    """(namespace, name); the namespace is empty for a cluster-wide object."""
    namespace, _, name = key.rpartition("/")
    return namespace, name


class Controller(ABC):
    """A controller of keys. Subclasses subscribe in `__init__`; `run` ends only when cancelled."""

    #: The row's name in the table of controllers.
    name: ClassVar[str]
    #: The component of its events, where it is not the name.
    component: ClassVar[str] = ""
    workers: ClassVar[int] = 4
    #: The first try after a failure comes so soon, each after it twice as late.
    base_backoff_s: ClassVar[float] = BASE_DELAY_S
    #: No key waits longer than this for its next try.
    max_backoff_s: ClassVar[float] = 120.0

    def __init__(self, env: Environment) -> None:
        self.env = env
        self.client = env.client
        self.events = env.events.named(self.component or self.name)
        self.queue: WorkQueue[str] = WorkQueue(base_delay_s=self.base_backoff_s, max_delay_s=self.max_backoff_s)
        self._needs: list[Informer] = []
        self._sizes: dict[str, int] = {}

    def informer(self, resource: str) -> Informer:
        """The resource's shared informer; `reconcile` is called only once it has its objects."""
        informer = self.env.informers.of(resource)
        if informer not in self._needs:
            self._needs.append(informer)
        return informer

    def follow(self, informer: Informer, keys: KeysOf = own_key) -> None:
        """Queues the keys that a changed object gives now and gave before."""

        def changed(old: Obj | None, new: Obj | None) -> None:
            if new is not None:
                for key in keys(new):
                    self.queue.add(key)
            if old is not None:
                for key in keys(old):
                    self.queue.add(key)

        informer.subscribe(changed)

    def set_size(self, key: str, objects: int) -> None:
        """Says how many objects a reconcile of the key looks at, for `add_paced`."""
        if objects > PACED_FROM:
            self._sizes[key] = objects
        else:
            self._sizes.pop(key, None)

    def add_paced(self, key: str) -> None:
        """Queues a key because one of many objects changed: the more there are, the longer it waits for further changes."""
        size = self._sizes.get(key)
        if size is None:
            self.queue.add(key)
        else:
            self.queue.add_after(key, size * PACE_S)

    @abstractmethod
    async def reconcile(self, key: str) -> None:
        """Makes what the key names as it should be."""

    async def run(self) -> None:
        """Reconciles until cancelled."""
        for informer in self._needs:
            await informer.synced.wait()
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(self.workers):
                    group.create_task(self._work(), name=f"{self.name}-{number}")
        finally:
            self.queue.shut_down()

    async def _work(self) -> None:
        while True:
            try:
                key = await self.queue.get()
            except ShutDown:
                return
            try:
                await self.reconcile(key)
            except (Conflict, AlreadyExists, NotFound) as e:
                # The cache was behind; it soon is not.
                log.debug("reconcile_again", controller=self.name, key=key, error=e.message)
                self.queue.add_rate_limited(key)
            except ApiError as e:
                log.info("reconcile_failed", controller=self.name, key=key, error=e.message, tries=self.queue.failures(key))
                self.queue.add_rate_limited(key)
            except Exception:
                log.exception("reconcile_failed", controller=self.name, key=key)
                self.queue.add_rate_limited(key)
            else:
                self.queue.forget(key)
            finally:
                self.queue.done(key)


def is_namespace_terminating(e: ApiError) -> bool:
    """The write was refused because its namespace is going away: there is nothing left to do."""
    return any(cause.reason == "NamespaceTerminating" for cause in e.causes)
