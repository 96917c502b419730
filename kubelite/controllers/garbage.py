"""The garbage collector: objects whose owners are gone go too; foreground and orphaning deletions come to their end.

It follows every kind that can be deleted: through the informer where some part of the process has one anyway, else by a
watch of its own that keeps nothing but coordinates.

Source: kubernetes pkg/controller/garbagecollector, v1.34.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import ClassVar, Literal

from kubelite.client import reflector
from kubelite.controllers import conditions
from kubelite.controllers.environment import Environment
from kubelite.controllers.ownergraph import FOREGROUND, ORPHAN, Graph, Node, Owner, node_of
from kubelite.controllers.reconciler import Controller
from kubelite.meta.errors import Conflict, NotFound
from kubelite.meta.types import Obj
from kubelite.schema.kinds import Kind

CRDS = "customresourcedefinitions.apiextensions.k8s.io"
#: Nobody is to lose an object because an event about it is gone.
IGNORED = frozenset({"events", "events.events.k8s.io"})
ABSENT_LIMIT = 500
#: A kind whose definition is established but which the table does not have yet is looked for again.
KIND_AGAIN_S = 0.5
KINDS = "kinds"


class UnknownKind(Exception):
    """An owner is of a kind that is not served, perhaps not yet."""


class GarbageCollector(Controller):
    """Deletes what has lost its owners."""

    name: ClassVar[str] = "garbage-collector-controller"
    workers: ClassVar[int] = 20
    max_backoff_s: ClassVar[float] = 60.0

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        self._graph = Graph()
        #: References to owners that are known not to exist, the oldest first.
        self._absent: OrderedDict[tuple[str, str, str, str], None] = OrderedDict()
        self._tasks: dict[str, asyncio.Task[object]] = {}
        self._unsubscribe: dict[str, Callable[[], None]] = {}
        self._synced: dict[str, asyncio.Event] = {}
        self._group: asyncio.TaskGroup | None = None
        self._definitions = self.informer(CRDS)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            self._group = group
            await self._definitions.synced.wait()
            self._follow_kinds()
            # Without every kind's objects an owner that is only late would look like one that is gone.
            for event in [*self._synced.values()]:
                await event.wait()
            self._definitions.subscribe(lambda old, new: self.queue.add(KINDS))
            await super().run()

    def _follow_kinds(self) -> None:
        """Starts to follow kinds that are served now, and ends it for those that are not any more."""
        wanted: dict[str, Kind] = {}
        for kind in self.env.kinds:
            resource = kind.group_resource
            if resource not in IGNORED and resource not in wanted and {"list", "watch", "delete"} <= {*kind.verbs}:
                wanted[resource] = kind
        for resource in [r for r in self._synced if r not in wanted]:
            self._drop(resource)
        for resource in wanted:
            if resource not in self._synced:
                self._follow_resource(resource)

    def _follow_resource(self, resource: str) -> None:
        informer = self.env.informers.existing(resource)
        if informer is not None:
            self._synced[resource] = informer.synced
            self._unsubscribe[resource] = informer.subscribe(lambda old, new: self._see(resource, old, new))
            return
        synced = self._synced[resource] = asyncio.Event()

        def listed(objects: list[Obj]) -> None:
            present = {obj["metadata"]["uid"] for obj in objects}
            for node in self._graph.of_resource(resource):
                if node.uid not in present:
                    self._gone(node.uid)
            for obj in objects:
                self._put(node_of(resource, obj))
            synced.set()

        def changed(obj: Obj, deleted: bool) -> None:
            if deleted:
                self._gone(obj["metadata"]["uid"])
            else:
                self._put(node_of(resource, obj))

        assert self._group is not None
        self._tasks[resource] = self._group.create_task(
            reflector.reflect(self.client, resource, listed=listed, changed=changed), name=f"{self.name}-{resource}"
        )

    def _drop(self, resource: str) -> None:
        del self._synced[resource]
        task = self._tasks.pop(resource, None)
        if task is not None:
            task.cancel()
        unsubscribe = self._unsubscribe.pop(resource, None)
        if unsubscribe is not None:
            unsubscribe()
        for node in self._graph.of_resource(resource):
            self._gone(node.uid)
        self.env.informers.forget(resource)

    def _see(self, resource: str, old: Obj | None, new: Obj | None) -> None:
        if new is not None:
            self._put(node_of(resource, new))
        elif old is not None:
            self._gone(old["metadata"]["uid"])

    def _put(self, node: Node) -> None:
        old = self._graph.put(node)
        if node.foreground and (old is None or not old.foreground):
            self.queue.add(node.uid)
            for dependent in self._graph.dependents(node.uid):
                self.queue.add(dependent.uid)
        if node.orphaning and (old is None or not old.orphaning):
            self.queue.add(node.uid)
        before = () if old is None else old.owners
        if node.owners == before:
            return
        # Owners that waited for this object may be done.
        for owner in before:
            if owner not in node.owners:
                self._wake_foreground(owner.uid)
        for owner in node.owners:
            found = self._graph.holds(owner, node.namespace)
            if found is None or found.foreground:
                self.queue.add(node.uid)
                break

    def _gone(self, uid: str) -> None:
        dependents = self._graph.dependents(uid)
        node = self._graph.remove(uid)
        if node is None:
            return
        self._note_absent(node.namespace, Owner(uid, node.api_version, node.kind, node.name, False))
        for dependent in dependents:
            self.queue.add(dependent.uid)
        for owner in node.owners:
            self._wake_foreground(owner.uid)

    def _wake_foreground(self, uid: str) -> None:
        owner = self._graph.nodes.get(uid)
        if owner is not None and owner.foreground:
            self.queue.add(uid)

    def _note_absent(self, namespace: str, owner: Owner) -> None:
        self._absent[namespace, owner.uid, owner.kind, owner.name] = None
        if len(self._absent) > ABSENT_LIMIT:
            self._absent.popitem(last=False)

    async def reconcile(self, key: str) -> None:
        if key == KINDS:
            self._refresh_kinds()
            return
        node = self._graph.nodes.get(key)
        if node is None:
            return
        if node.orphaning:
            await self._orphan(node)
        elif node.foreground:
            await self._finish_foreground(node)
        elif not node.deleted and node.owners:
            try:
                await self._judge(node)
            except UnknownKind as e:
                # A kind that may be served later; until then nobody can say that the owner is gone.
                self.queue.add_after(key, self.max_backoff_s)
                _log_unknown(node, e)

    def _refresh_kinds(self) -> None:
        self._follow_kinds()
        for definition in self._definitions.list():
            spec = definition["spec"]
            if conditions.is_true(definition, "Established") and f"{spec['names']['plural']}.{spec['group']}" not in self._synced:
                self.queue.add_after(KINDS, KIND_AGAIN_S)

    async def _judge(self, node: Node) -> None:
        """Keeps the object while one owner is there; else deletes it."""
        if all((found := self._graph.holds(o, node.namespace)) and not found.foreground for o in node.owners):
            return
        try:
            latest = await self.client.get(node.resource, node.name, node.namespace)
        except NotFound:
            self._gone(node.uid)
            return
        if latest["metadata"]["uid"] != node.uid:
            self._gone(node.uid)
            return
        current = node_of(node.resource, latest)
        if current.deleted or not current.owners:
            return
        states = [(owner, await self._state(owner, node)) for owner in current.owners]
        solid, dangling, waiting = ([o for o, state in states if state == wanted] for wanted in ("solid", "dangling", "waiting"))
        if solid:
            if dangling or waiting:
                await self._remove_owners(latest, node.resource, {owner.uid for owner in dangling + waiting})
            return
        meta = latest["metadata"]
        finalizers = meta.get("finalizers") or ()
        policy: Literal["Orphan", "Background", "Foreground"] = "Background"
        dependents = self._graph.dependents(node.uid)
        if waiting and dependents:
            if any(dependent.foreground for dependent in dependents):
                # A circle: somebody has to stop waiting.
                references = [{**r, "blockOwnerDeletion": False} for r in meta["ownerReferences"]]
                latest = await self._write_meta(latest, node.resource, {"ownerReferences": references})
                meta = latest["metadata"]
            policy = "Foreground"
        elif ORPHAN in finalizers:
            policy = "Orphan"
        elif FOREGROUND in finalizers:
            policy = "Foreground"
        try:
            await self.client.delete(
                node.resource,
                node.name,
                node.namespace,
                propagation_policy=policy,
                precondition_uid=node.uid,
                precondition_resource_version=meta["resourceVersion"],
            )
        except NotFound:
            return

    async def _state(self, owner: Owner, node: Node) -> Literal["solid", "dangling", "waiting"]:
        found = self._graph.holds(owner, node.namespace)
        if found is not None:
            return "waiting" if found.foreground else "solid"
        if any((ns, owner.uid, owner.kind, owner.name) in self._absent for ns in {"", node.namespace}):
            return "dangling"
        kind = self.env.kinds.of_kind(owner.api_version, owner.kind)
        if kind is None:
            raise UnknownKind(f"{owner.kind} of {owner.api_version}")
        if kind.namespaced and not node.namespace:
            # Nobody can own an object of the whole cluster from within a namespace. It is left alone.
            self._tell_invalid(owner, node)
            return "solid"
        namespace = node.namespace if kind.namespaced else ""
        try:
            obj = await self.client.get(kind.group_resource, owner.name, namespace)
        except NotFound:
            obj = None
        if obj is None or obj["metadata"]["uid"] != owner.uid:
            if owner.uid in self._graph.nodes:
                self._tell_invalid(owner, node)
            self._note_absent(namespace, owner)
            return "dangling"
        return "waiting" if node_of(kind.group_resource, obj).foreground else "solid"

    def _tell_invalid(self, owner: Owner, node: Node) -> None:
        about = {"kind": node.kind, "apiVersion": node.api_version, "name": node.name, "uid": node.uid}
        if node.namespace:
            about["namespace"] = node.namespace
        identity = f"[{owner.api_version}/{owner.kind}, namespace: {node.namespace}, name: {owner.name}, uid: {owner.uid}]"
        text = f'ownerRef {identity} does not exist in namespace "{node.namespace}"'
        self.events.event(about, "Warning", "OwnerRefInvalidNamespace", text)

    async def _finish_foreground(self, node: Node) -> None:
        """Lets the object go once no dependent blocks it; until then each dependent's end comes back here."""
        blocking = self._graph.blocking_dependents(node.uid)
        for dependent in blocking:
            if not dependent.foreground:
                self.queue.add(dependent.uid)
        if not blocking:
            await self._remove_finalizer(node, FOREGROUND)

    async def _orphan(self, node: Node) -> None:
        results = await asyncio.gather(
            *(self._release(dependent, node.uid) for dependent in self._graph.dependents(node.uid)), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result
        await self._remove_finalizer(node, ORPHAN)

    async def _release(self, dependent: Node, owner_uid: str) -> None:
        try:
            latest = await self.client.get(dependent.resource, dependent.name, dependent.namespace)
        except NotFound:
            return
        if latest["metadata"]["uid"] == dependent.uid:
            await self._remove_owners(latest, dependent.resource, {owner_uid})

    async def _remove_owners(self, latest: Obj, resource: str, uids: set[str]) -> None:
        references = latest["metadata"].get("ownerReferences") or []
        left = [r for r in references if r["uid"] not in uids]
        if len(left) != len(references):
            await self._write_meta(latest, resource, {"ownerReferences": left})

    async def _remove_finalizer(self, node: Node, finalizer: str) -> None:
        try:
            latest = await self.client.get(node.resource, node.name, node.namespace)
        except NotFound:
            return
        meta = latest["metadata"]
        if meta["uid"] == node.uid and finalizer in (meta.get("finalizers") or ()):
            await self._write_meta(latest, node.resource, {"finalizers": [f for f in meta["finalizers"] if f != finalizer]})

    async def _write_meta(self, latest: Obj, resource: str, change: Obj) -> Obj:
        """A merge patch, since it works for every kind; it fails where the object is not `latest` any more."""
        meta = latest["metadata"]
        patch = {"metadata": {**change, "uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}}
        try:
            return await self.client.patch(resource, meta["name"], meta.get("namespace", ""), patch)
        except NotFound as e:
            raise Conflict(e.message) from e


def _log_unknown(node: Node, e: UnknownKind) -> None:
    import structlog

    structlog.get_logger().info("owner_of_unknown_kind", resource=node.resource, name=node.name, owner=str(e))
