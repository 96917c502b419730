"""What each node needs: its pods, what these refer to, and what every node's data plane is made from.

One `Desired` for all sessions subscribes once to each informer and passes a change only to the sessions that it concerns, so that
a thousand nodes cost a change no more than those that need it.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol, TypeAlias

import orjson

from kubelite.client.informers import Informers
from kubelite.meta import pods
from kubelite.meta.types import Obj
from kubelite.rpc import node_pb2 as pb

#: (resource, namespace, name).
Key: TypeAlias = tuple[str, str, str]

PODS = "pods"
#: What every node gets all of.
SHARED = ("services", "endpointslices.discovery.k8s.io", "nodes", "runtimeclasses.node.k8s.io")
#: What a node gets where one of its pods names it, and how the names are found.
REFERENCED: Mapping[str, Callable[[Obj], set[str]]] = {
    "configmaps": pods.config_maps,
    "secrets": pods.secrets,
    "persistentvolumeclaims": pods.claims,
}
VOLUMES = "persistentvolumes"


class Subscriber(Protocol):
    """A session, as `Desired` sees it."""

    node_name: str
    without: frozenset[str]

    def queue(self, key: Key, obj: Obj | None) -> None:
        """Has an object sent, or with None removed; the newest state of a key wins."""
        ...


class Desired:
    """Routes changes to sessions."""

    def __init__(self, informers: Informers) -> None:
        self._informers = {r: informers.of(r) for r in (PODS, *SHARED, *REFERENCED, VOLUMES)}
        self._informers[PODS].add_index("nodeName", lambda pod: (pod["spec"].get("nodeName", ""),))
        self._subscribers: dict[str, Subscriber] = {}
        #: Who needs an object, and for which of its pods: key -> node name -> uids of pods.
        self._needs: dict[Key, dict[str, set[str]]] = {}
        self._of_pod: dict[str, set[Key]] = {}
        self._frames: dict[Key, tuple[str, bytes]] = {}
        self._unsubscribe: list[Callable[[], None]] = []

    async def wait_synced(self) -> None:
        for informer in self._informers.values():
            await informer.synced.wait()
        if not self._unsubscribe:
            for resource, informer in self._informers.items():
                self._unsubscribe.append(informer.subscribe(self._handler(resource)))

    def close(self) -> None:
        for unsubscribe in self._unsubscribe:
            unsubscribe()
        self._unsubscribe.clear()

    def pod(self, namespace: str, name: str) -> Obj | None:
        return self._informers[PODS].get(name, namespace)

    def node(self, name: str) -> Obj | None:
        return self._informers["nodes"].get(name)

    # Sessions.

    def add(self, subscriber: Subscriber) -> None:
        """Queues all that the node needs now, what pods refer to before the pods; from then on what changes."""
        self._subscribers[subscriber.node_name] = subscriber
        for resource in SHARED:
            if resource in subscriber.without:
                continue
            for obj in self._informers[resource].list():
                subscriber.queue(key_of(resource, obj), obj)
        own = self.node(subscriber.node_name)
        if own is not None:
            subscriber.queue(key_of("nodes", own), own)
        for pod in self._informers[PODS].by_index("nodeName", subscriber.node_name):
            self._pod_needed(subscriber, pod)

    def remove(self, subscriber: Subscriber) -> None:
        if self._subscribers.get(subscriber.node_name) is not subscriber:
            return
        del self._subscribers[subscriber.node_name]
        for key, nodes in list(self._needs.items()):
            if nodes.pop(subscriber.node_name, None) is not None and not nodes:
                del self._needs[key]

    # Changes.

    def _handler(self, resource: str) -> Callable[[Obj | None, Obj | None], None]:
        if resource == PODS:
            return self._pod_changed
        if resource in SHARED:
            return lambda old, new: self._shared_changed(resource, old, new)
        return lambda old, new: self._referenced_changed(resource, old, new)

    def _pod_changed(self, old: Obj | None, new: Obj | None) -> None:
        node_name = (new or old or {})["spec"].get("nodeName", "")
        subscriber = self._subscribers.get(node_name)
        if subscriber is None:
            return
        if new is not None:
            self._pod_needed(subscriber, new)
        elif old is not None:
            subscriber.queue(key_of(PODS, old), None)
            self._unneed(subscriber, old["metadata"]["uid"], self._of_pod.pop(old["metadata"]["uid"], set()))

    def _pod_needed(self, subscriber: Subscriber, pod: Obj) -> None:
        uid = pod["metadata"]["uid"]
        before = self._of_pod.get(uid, set())
        needed = set(self._references(pod))
        for key in needed:
            uids = self._needs.setdefault(key, {}).setdefault(subscriber.node_name, set())
            first = not uids
            uids.add(uid)
            obj = self._get(key) if first else None
            if obj is not None:
                subscriber.queue(key, obj)
        self._of_pod[uid] = needed
        subscriber.queue(key_of(PODS, pod), pod)
        self._unneed(subscriber, uid, before - needed)

    def _unneed(self, subscriber: Subscriber, uid: str, keys: set[Key]) -> None:
        for key in keys:
            nodes = self._needs.get(key, {})
            uids = nodes.get(subscriber.node_name, set())
            uids.discard(uid)
            if not uids:
                nodes.pop(subscriber.node_name, None)
                if not nodes:
                    self._needs.pop(key, None)
                subscriber.queue(key, None)

    def _references(self, pod: Obj) -> Iterator[Key]:
        namespace = pod["metadata"]["namespace"]
        for resource, names in REFERENCED.items():
            for name in names(pod):
                yield resource, namespace, name
                if resource == "persistentvolumeclaims":
                    claim = self._informers[resource].get(name, namespace)
                    volume = (claim or {}).get("spec", {}).get("volumeName")
                    if volume:
                        yield VOLUMES, "", volume

    def _get(self, key: Key) -> Obj | None:
        resource, namespace, name = key
        return self._informers[resource].get(name, namespace)

    def _shared_changed(self, resource: str, old: Obj | None, new: Obj | None) -> None:
        obj = new or old or {}
        key = key_of(resource, obj)
        if new is None:
            self._frames.pop(key, None)
        for subscriber in list(self._subscribers.values()):
            if resource not in subscriber.without or (resource == "nodes" and key[2] == subscriber.node_name):
                subscriber.queue(key, new)

    def _referenced_changed(self, resource: str, old: Obj | None, new: Obj | None) -> None:
        key = key_of(resource, new or old or {})
        nodes = self._needs.get(key)
        if not nodes:
            return
        for name, uids in list(nodes.items()):
            subscriber = self._subscribers.get(name)
            if subscriber is None:
                continue
            if resource == "persistentvolumeclaims" and new is not None:
                # Bound meanwhile, perhaps: its volume is needed too, before it.
                volume = new["spec"].get("volumeName")
                found = self._get((VOLUMES, "", volume)) if volume else None
                if found is not None:
                    for uid in uids:
                        self._needs.setdefault((VOLUMES, "", volume), {}).setdefault(name, set()).add(uid)
                        self._of_pod.setdefault(uid, set()).add((VOLUMES, "", volume))
                    subscriber.queue((VOLUMES, "", volume), found)
            subscriber.queue(key, new)

    # The wire.

    def frame(self, key: Key, obj: Obj) -> pb.ToNode:
        """The message that brings an object down; the bytes of what many nodes get are made once."""
        revision = obj["metadata"].get("resourceVersion", "0")
        if key[0] in SHARED:
            known = self._frames.get(key)
            if known is None or known[0] != revision:
                known = self._frames[key] = (revision, orjson.dumps(_trimmed(key[0], obj)))
            data = known[1]
        else:
            data = orjson.dumps(_trimmed(key[0], obj))
        return pb.ToNode(changed=pb.Changed(resource=key[0], object_json=data, revision=int(revision or 0)))


def key_of(resource: str, obj: Obj) -> Key:
    meta = obj["metadata"]
    return resource, meta.get("namespace", ""), meta["name"]


def _trimmed(resource: str, obj: Obj) -> Obj:
    """The object without what no agent looks at."""
    meta = obj["metadata"]
    if "managedFields" in meta:
        obj = {**obj, "metadata": {k: v for k, v in meta.items() if k != "managedFields"}}
    if resource == "nodes" and "images" in (obj.get("status") or {}):
        obj = {**obj, "status": {k: v for k, v in obj["status"].items() if k != "images"}}
    return obj
