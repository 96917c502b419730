"""What components program against: the Client.

Resources are named as kubectl names them: `pods`, `deployments.apps`; the group's preferred version is used. Objects that a
client hands out are shared and never mutated. The loopback client in api/ calls the registry in the same process, with
authorization and admission; `client.http` speaks to any server. Both raise `meta.errors.ApiError`.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from kubelite.meta.types import Obj

PatchForm = Literal["json", "merge", "strategic", "apply"]


class WatchEvent(NamedTuple):
    """ADDED, MODIFIED, DELETED or BOOKMARK, and the object (of a bookmark only its resourceVersion counts)."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    obj: Obj


@dataclass(frozen=True, slots=True)
class Listing:
    """A list's items and the revision that a watch continues from."""

    items: list[Obj]
    resource_version: str
    continue_token: str = ""


class Client(Protocol):
    async def get(self, resource: str, name: str, namespace: str = "", *, subresource: str = "") -> Obj: ...

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
    ) -> Listing: ...

    def watch(
        self,
        resource: str,
        namespace: str = "",
        *,
        resource_version: str = "",
        label_selector: str = "",
        field_selector: str = "",
        bookmarks: bool = False,
    ) -> AsyncIterator[WatchEvent]:
        """Events after `resource_version`, without end. Raises Expired when the revision is compacted: list again."""
        ...

    async def create(self, resource: str, obj: Obj, namespace: str = "", *, name: str = "", subresource: str = "") -> Obj:
        """With `subresource`: a create under the object `name`, such as a pod's binding or eviction."""
        ...

    async def update(self, resource: str, obj: Obj, *, subresource: str = "") -> Obj:
        """Replaces the object that obj's metadata names; its resourceVersion, where set, must be the newest (Conflict)."""
        ...

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
    ) -> Obj: ...

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
    ) -> Obj: ...

    async def delete_collection(
        self, resource: str, namespace: str = "", *, label_selector: str = "", field_selector: str = ""
    ) -> None: ...
