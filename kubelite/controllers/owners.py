"""Controller references: who manages an object, and the adopting and releasing of what matches a selector.

Source: kubernetes pkg/controller/controller_ref_manager.go, v1.34.
"""

from collections.abc import Iterable, Sequence

from kubelite.client.contract import Client
from kubelite.client.informers import Informer
from kubelite.meta.errors import ApiError, Invalid, NotFound
from kubelite.meta.selectors import LabelSelector
from kubelite.meta.types import Obj, OwnerReference

#: The name of the index by controller, see `index_by_controller`.
BY_CONTROLLER = "controller"


def controller_of(obj: Obj) -> OwnerReference | None:
    """The reference to the one owner that manages the object."""
    for reference in obj["metadata"].get("ownerReferences") or ():
        if reference.get("controller"):
            found: OwnerReference = reference
            return found
    return None


def is_controlled_by(obj: Obj, owner: Obj) -> bool:
    reference = controller_of(obj)
    return reference is not None and reference["uid"] == owner["metadata"]["uid"]


def reference_to(owner: Obj, api_version: str, kind: str) -> OwnerReference:
    """The controller reference that an owner's objects carry."""
    return {
        "apiVersion": api_version,
        "kind": kind,
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def _controller_keys(obj: Obj) -> Iterable[str]:
    reference = controller_of(obj)
    return (reference["uid"] if reference is not None else f"orphans in {obj['metadata'].get('namespace', '')}",)


def index_by_controller(informer: Informer) -> None:
    """Keeps the objects by their controller's uid, and those without one by namespace."""
    informer.add_index(BY_CONTROLLER, _controller_keys)


def owned(informer: Informer, owner: Obj) -> list[Obj]:
    """The objects that the owner controls."""
    return informer.by_index(BY_CONTROLLER, owner["metadata"]["uid"])


def orphans(informer: Informer, namespace: str) -> list[Obj]:
    """A namespace's objects that nobody controls."""
    return informer.by_index(BY_CONTROLLER, f"orphans in {namespace}")


class Claims:
    """Adopts and releases objects of one resource on an owner's behalf."""

    def __init__(self, client: Client, resource: str, owner_resource: str, api_version: str, kind: str) -> None:
        self._client = client
        self._resource = resource
        self._owner_resource = owner_resource
        self._api_version = api_version
        self._kind = kind

    async def claim(
        self, owner: Obj, selector: LabelSelector, objects: Sequence[Obj], *, finalizers: Sequence[str] = ()
    ) -> list[Obj]:
        """Those of `objects` that are the owner's, after adopting orphans that match and releasing what matches no more.

        `finalizers` are added to what is adopted and taken off what is released.
        """
        uid = owner["metadata"]["uid"]
        going = "deletionTimestamp" in owner["metadata"]
        may_adopt: bool | None = None
        claimed = []
        for obj in objects:
            reference = controller_of(obj)
            matches = selector.matches(obj["metadata"].get("labels") or {})
            if reference is not None:
                if reference["uid"] != uid:
                    continue
                if matches:
                    claimed.append(obj)
                elif not going:
                    await self._release(obj, uid, finalizers)
                continue
            if going or not matches or "deletionTimestamp" in obj["metadata"]:
                continue
            if may_adopt is None:
                may_adopt = await self._may_adopt(owner)
            if may_adopt and await self._adopt(obj, owner, finalizers):
                claimed.append(obj)
        return claimed

    async def _may_adopt(self, owner: Obj) -> bool:
        """Asks the server, not the cache: an owner that is being deleted must not take new objects with it."""
        meta = owner["metadata"]
        try:
            fresh = await self._client.get(self._owner_resource, meta["name"], meta.get("namespace", ""))
        except NotFound:
            return False
        return fresh["metadata"]["uid"] == meta["uid"] and "deletionTimestamp" not in fresh["metadata"]

    async def _adopt(self, obj: Obj, owner: Obj, finalizers: Sequence[str]) -> bool:
        reference = reference_to(owner, self._api_version, self._kind)
        change: Obj = {"ownerReferences": [reference], "uid": obj["metadata"]["uid"]}
        if finalizers:
            change["finalizers"] = list(finalizers)
        return await self._patch(obj, change)

    async def _release(self, obj: Obj, uid: str, finalizers: Sequence[str]) -> bool:
        change: Obj = {"ownerReferences": [{"$patch": "delete", "uid": uid}], "uid": obj["metadata"]["uid"]}
        if finalizers:
            change["$deleteFromPrimitiveList/finalizers"] = list(finalizers)
        return await self._patch(obj, change)

    async def _patch(self, obj: Obj, change: Obj) -> bool:
        """False where the object is gone or another one of its name took its place."""
        meta = obj["metadata"]
        try:
            await self._client.patch(
                self._resource, meta["name"], meta.get("namespace", ""), {"metadata": change}, form="strategic"
            )
        except (NotFound, Invalid):
            return False
        except ApiError as e:
            if e.code == 409:  # the uid in the patch is not the object's any more
                return False
            raise
        return True
