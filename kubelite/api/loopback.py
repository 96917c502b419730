"""The Client of the parts that run in the server's process: the registry without HTTP, but with authorization.

Admission is the registry's, so nothing is skipped but the wire. Objects are the registry's own and shared: nobody mutates
them.

Source: client.contract.
"""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Literal

import orjson

from kubelite.auth.authorizers import require
from kubelite.auth.contract import Access, Authorizer
from kubelite.client.contract import Listing, PatchForm, WatchEvent
from kubelite.meta.errors import NotFound
from kubelite.meta.types import Obj
from kubelite.meta.users import LOOPBACK, MASTERS_GROUP, User
from kubelite.registry.contract import DeleteOptions, ListOptions, Patch, Target, WriteOptions
from kubelite.schema.kinds import Kind, Kinds

if TYPE_CHECKING:
    from kubelite.registry.registry import Registry


class LoopbackClient:
    """Acts as `user`; `field_manager` is who field management says wrote."""

    def __init__(
        self,
        registry: "Registry",
        kinds: Kinds,
        authorizer: Authorizer | None = None,
        user: User = LOOPBACK,
        field_manager: str = "kubelite",
    ) -> None:
        self._registry = registry
        self._kinds = kinds
        self._authorizer = authorizer
        self._user = user
        self._manager = field_manager
        self._trusted = authorizer is None or MASTERS_GROUP in user.groups
        self._rows: dict[str, Kind] = {}
        self._generation = -1

    def as_user(self, user: User, field_manager: str = "") -> "LoopbackClient":
        """The same client in somebody else's name."""
        return LoopbackClient(self._registry, self._kinds, self._authorizer, user, field_manager or self._manager)

    async def get(self, resource: str, name: str, namespace: str = "", *, subresource: str = "") -> Obj:
        target = self._target("get", resource, namespace, name, subresource)
        return self._registry.parsed(await self._registry.get(target))

    async def list(
        self,
        resource: str,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 0,
        continue_token: str = "",
        resource_version: str | None = None,
    ) -> Listing:
        target = self._target("list", resource, namespace)
        options = ListOptions(label_selector, field_selector, limit, continue_token, resource_version)
        page = await self._registry.list(target, options)
        items = [self._registry.parsed(entry) for entry in page.items]
        return Listing(items, str(page.revision), page.continue_token)

    async def watch(
        self,
        resource: str,
        namespace: str = "",
        *,
        resource_version: str = "",
        label_selector: str = "",
        field_selector: str = "",
        bookmarks: bool = False,
    ) -> AsyncIterator[WatchEvent]:
        target = self._target("watch", resource, namespace)
        options = ListOptions(label_selector, field_selector, resource_version=resource_version, allow_watch_bookmarks=bookmarks)
        watch = self._registry.watch(target, options)
        try:
            while True:
                for item in await watch.next_batch():
                    yield WatchEvent(item.type, self._seen(target.kind, item))
        finally:
            watch.close()

    def _seen(self, kind: Kind, item: Any) -> Obj:
        if item.type == "BOOKMARK":
            return {
                "kind": kind.kind,
                "apiVersion": kind.api_version,
                "metadata": {"resourceVersion": str(item.entry.revision)},
            }
        return self._registry.parsed(item.entry)

    async def create(self, resource: str, obj: Obj, namespace: str = "", *, name: str = "", subresource: str = "") -> Obj:
        metadata = obj.get("metadata") or {}
        namespace = namespace or metadata.get("namespace", "")
        target = self._target("create", resource, namespace, name, subresource)
        return self._registry.parsed(await self._registry.create(target, obj, self._options()))

    async def update(self, resource: str, obj: Obj, *, subresource: str = "") -> Obj:
        metadata = obj["metadata"]
        target = self._target("update", resource, metadata.get("namespace", ""), metadata["name"], subresource)
        entry, _ = await self._registry.update(target, obj, self._options())
        return self._registry.parsed(entry)

    async def patch(
        self,
        resource: str,
        name: str,
        namespace: str,
        patch: object,
        *,
        form: PatchForm = "merge",
        subresource: str = "",
        field_manager: str = "",
        force: bool = False,
    ) -> Obj:
        target = self._target("patch", resource, namespace, name, subresource)
        options = self._options()
        options.force = force
        if field_manager:
            options.field_manager = field_manager
        entry, _ = await self._registry.patch(target, Patch(form, orjson.dumps(patch)), options)
        return self._registry.parsed(entry)

    async def delete(
        self,
        resource: str,
        name: str,
        namespace: str = "",
        *,
        grace_period_s: int | None = None,
        propagation_policy: Literal["Orphan", "Background", "Foreground"] | None = None,
        precondition_uid: str = "",
        precondition_resource_version: str = "",
    ) -> Obj:
        target = self._target("delete", resource, namespace, name)
        delete = DeleteOptions(grace_period_s, propagation_policy, precondition_uid, precondition_resource_version)
        entry, status, _ = await self._registry.delete(target, delete, self._options())
        return self._registry.parsed(entry) if entry is not None else status or {}

    async def delete_collection(
        self, resource: str, namespace: str = "", *, label_selector: str = "", field_selector: str = ""
    ) -> None:
        target = self._target("deletecollection", resource, namespace)
        options = ListOptions(label_selector, field_selector)
        await self._registry.delete_collection(target, options, DeleteOptions(), self._options())

    def _options(self) -> WriteOptions:
        return WriteOptions(user=self._user, field_manager=self._manager, field_validation="Ignore")

    def _target(self, verb: str, resource: str, namespace: str, name: str = "", subresource: str = "") -> Target:
        kind = self._row(resource)
        if not kind.namespaced:
            namespace = ""
        if not self._trusted:
            self._authorize(verb, kind, namespace, name, subresource)
        return Target(kind, namespace, name, subresource)

    def _row(self, resource: str) -> Kind:
        if self._generation != self._kinds.generation:
            self._rows.clear()
            self._generation = self._kinds.generation
        kind = self._rows.get(resource)
        if kind is None:
            try:
                kind = self._rows[resource] = self._kinds.preferred(resource)
            except KeyError as e:
                raise NotFound(f"the server could not find the requested resource: {resource}") from e
        return kind

    def _authorize(self, verb: str, kind: Kind, namespace: str, name: str, subresource: str) -> None:
        assert self._authorizer is not None
        access = Access(self._user, verb, kind.group, kind.version, kind.plural, subresource, namespace, name)
        require(self._authorizer, access)
