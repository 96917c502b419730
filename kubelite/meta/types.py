"""Names for the shapes that every part passes around.

API objects are plain dicts. Whatever a store, a cache, an informer or a client handed out is shared: nobody mutates it;
who needs a changed object makes a copy (`copies.deep_copy`) or builds a new one.
"""

from typing import Any, NotRequired, TypeAlias, TypedDict

Obj: TypeAlias = dict[str, Any]


class OwnerReference(TypedDict):
    apiVersion: str
    kind: str
    name: str
    uid: str
    controller: NotRequired[bool]
    blockOwnerDeletion: NotRequired[bool]


class ObjectMeta(TypedDict, total=False):
    name: str
    generateName: str
    namespace: str
    uid: str
    resourceVersion: str
    generation: int
    creationTimestamp: str
    deletionTimestamp: str
    deletionGracePeriodSeconds: int
    labels: dict[str, str]
    annotations: dict[str, str]
    ownerReferences: list[OwnerReference]
    finalizers: list[str]
    managedFields: list[Obj]
