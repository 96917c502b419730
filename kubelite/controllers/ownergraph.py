"""Who owns whom: the graph that the garbage collector decides on. Pure, and small: of an object only its coordinates stay.

Source: kubernetes pkg/controller/garbagecollector/graph.go, v1.34.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from kubelite.meta.types import Obj

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"


class Owner(NamedTuple):
    """An owner reference. `blocking`: the owner's foreground deletion waits for this object."""

    uid: str
    api_version: str
    kind: str
    name: str
    blocking: bool


@dataclass(slots=True)
class Node:
    """One object of the cluster."""

    resource: str
    namespace: str
    name: str
    uid: str
    api_version: str
    kind: str
    owners: tuple[Owner, ...]
    deleted: bool = False
    #: It is deleted in the foreground: first its dependents, then it.
    foreground: bool = False
    #: It is deleted, and its dependents are to stay.
    orphaning: bool = False


def owners_of(obj: Obj) -> tuple[Owner, ...]:
    references = obj["metadata"].get("ownerReferences") or ()
    return tuple(Owner(r["uid"], r["apiVersion"], r["kind"], r["name"], bool(r.get("blockOwnerDeletion"))) for r in references)


def node_of(resource: str, obj: Obj) -> Node:
    meta = obj["metadata"]
    deleted = "deletionTimestamp" in meta
    finalizers = meta.get("finalizers") or ()
    return Node(
        resource,
        meta.get("namespace", ""),
        meta["name"],
        meta["uid"],
        obj.get("apiVersion", ""),
        obj.get("kind", ""),
        owners_of(obj),
        deleted,
        deleted and FOREGROUND in finalizers,
        deleted and ORPHAN in finalizers,
    )


class Graph:
    """All objects by uid, and the dependents of each uid that is named as an owner, whether it is known or not."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self._dependents: dict[str, set[str]] = {}

    def put(self, node: Node) -> Node | None:
        """Adds an object or its new state; returns the one before."""
        old = self.nodes.get(node.uid)
        self.nodes[node.uid] = node
        before = set() if old is None else {owner.uid for owner in old.owners}
        after = {owner.uid for owner in node.owners}
        for uid in after - before:
            self._dependents.setdefault(uid, set()).add(node.uid)
        for uid in before - after:
            self._detach(uid, node.uid)
        return old

    def remove(self, uid: str) -> Node | None:
        """Takes an object out; its dependents are still known as those of its uid."""
        node = self.nodes.pop(uid, None)
        if node is not None:
            for owner in node.owners:
                self._detach(owner.uid, uid)
        return node

    def _detach(self, owner_uid: str, uid: str) -> None:
        found = self._dependents.get(owner_uid)
        if found is not None:
            found.discard(uid)
            if not found:
                del self._dependents[owner_uid]

    def dependents(self, uid: str) -> list[Node]:
        return [self.nodes[each] for each in self._dependents.get(uid, ())]

    def blocking_dependents(self, uid: str) -> list[Node]:
        """The dependents that a foreground deletion of `uid` waits for."""
        return [node for node in self.dependents(uid) if any(o.uid == uid and o.blocking for o in node.owners)]

    def holds(self, owner: Owner, namespace: str) -> Node | None:
        """The owner that a reference of an object in `namespace` names, where the graph has exactly that object."""
        node = self.nodes.get(owner.uid)
        if node is None or node.name != owner.name or node.kind != owner.kind or node.namespace not in ("", namespace):
            return None
        return node if _group(node.api_version) == _group(owner.api_version) else None

    def of_resource(self, resource: str) -> Iterable[Node]:
        return [node for node in self.nodes.values() if node.resource == resource]


def _group(api_version: str) -> str:
    return api_version.rpartition("/")[0]
