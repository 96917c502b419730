"""NamespaceLifecycle: nothing is created in a namespace that is missing or ends, and some namespaces can't be deleted.

Source: apiserver pkg/admission/plugin/namespace/lifecycle.
"""

import time

from kubelite.admission import faults
from kubelite.client.contract import Client
from kubelite.client.informers import Informers
from kubelite.meta import errors
from kubelite.meta.types import Obj
from kubelite.registry.contract import Attributes, Operation
from kubelite.schema.kinds import Kind

IMMORTAL = frozenset({"default", "kube-system", "kube-public"})
#: After a deletion was seen here, the cache may say for this long that the namespace lives.
_DISTRUST_S = 30.0
_REVIEWS = frozenset({"localsubjectaccessreviews.authorization.k8s.io"})


class NamespaceLifecycle:
    name = "NamespaceLifecycle"

    def __init__(self, client: Client, informers: Informers) -> None:
        self._client = client
        self._namespaces = informers.of("namespaces")
        self._deleted_at: dict[str, float] = {}

    def handles(self, operation: Operation, kind: Kind, subresource: str) -> bool:
        if kind.group_resource == "namespaces":
            return operation == "DELETE"
        # An update finds its object, and with that its namespace: only a creation can come too early or too late.
        return kind.namespaced and operation == "CREATE" and kind.group_resource not in _REVIEWS

    async def admit(self, attributes: Attributes) -> Obj | None:
        if attributes.operation == "DELETE":
            self._note_deletion(attributes)
            return attributes.obj
        name = attributes.target.namespace
        if not name:
            return attributes.obj
        namespace = self._namespaces.get(name)
        if namespace is None or (self._deleted_at and self._is_distrusted(name)):
            try:
                namespace = await self._client.get("namespaces", name)
            except errors.NotFound:
                raise errors.NotFound.of("", "namespaces", name) from None
        if (namespace.get("status") or {}).get("phase") == "Terminating":
            cause = errors.Cause("metadata.namespace", "NamespaceTerminating", f"namespace {name} is being terminated")
            why = f"unable to create new content in namespace {name} because it is being terminated"
            raise faults.forbidden(attributes, why, (cause,))
        return attributes.obj

    def _note_deletion(self, attributes: Attributes) -> None:
        name = attributes.target.name
        if name in IMMORTAL:
            raise faults.forbidden(attributes, "this namespace may not be deleted")
        now = time.monotonic()
        for other in [n for n, at in self._deleted_at.items() if now - at > _DISTRUST_S]:
            del self._deleted_at[other]
        self._deleted_at[name] = now

    def _is_distrusted(self, name: str) -> bool:
        at = self._deleted_at.get(name)
        return at is not None and time.monotonic() - at <= _DISTRUST_S
