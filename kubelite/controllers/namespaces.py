"""Namespaces that end: deletes what is in them, pods first, reports what stays, and takes its finalizer off.

Source: kubernetes pkg/controller/namespace/deletion, v1.34 (order, conditions, their reasons and messages; KEP-5080).
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import ClassVar

from kubelite.controllers import conditions
from kubelite.controllers.environment import Environment
from kubelite.controllers.reconciler import Controller
from kubelite.meta import times
from kubelite.meta.errors import ApiError, MethodNotAllowed, NotFound
from kubelite.meta.types import Obj
from kubelite.schema.kinds import Kind

FINALIZER = "kubernetes"
#: What waits for others' finalizers is looked at again after this; pods that end report themselves.
AGAIN_S = 0.1
LATEST_AGAIN_S = 15.0

#: type -> (reason, message) when there is nothing to tell.
FINE = {
    "NamespaceDeletionDiscoveryFailure": ("ResourcesDiscovered", "All resources successfully discovered"),
    "NamespaceDeletionGroupVersionParsingFailure": ("ParsedGroupVersions", "All legacy kube types successfully parsed"),
    "NamespaceDeletionContentFailure": (
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    "NamespaceContentRemaining": ("ContentRemoved", "All content successfully removed"),
    "NamespaceFinalizersRemaining": ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
}


@dataclass(slots=True)
class Remains:
    """What is still in a namespace after a round of deleting."""

    by_resource: Counter[str] = field(default_factory=Counter)
    by_finalizer: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def faults(self) -> dict[str, tuple[str, str]]:
        """type -> (reason, message) of the conditions that are True."""
        found = {}
        if self.failures:
            text = ", ".join(sorted(self.failures))
            message = f"Failed to delete all resource types, {len(self.failures)} remaining: {text}"
            found["NamespaceDeletionContentFailure"] = ("ContentDeletionFailed", message)
        if self.by_resource:
            text = ", ".join(sorted(f"{name} has {count} resource instances" for name, count in self.by_resource.items()))
            found["NamespaceContentRemaining"] = ("SomeResourcesRemain", f"Some resources are remaining: {text}")
        if self.by_finalizer:
            text = ", ".join(sorted(f"{name} in {count} resource instances" for name, count in self.by_finalizer.items()))
            message = f"Some content in the namespace has finalizers remaining: {text}"
            found["NamespaceFinalizersRemaining"] = ("SomeFinalizersRemain", message)
        return found


def status_of(namespace: Obj, faults: dict[str, tuple[str, str]], now: str) -> Obj:
    """The namespace's status with these conditions True and the others of this controller False."""
    status = namespace.get("status") or {}
    listed = status.get("conditions") or []
    for type_, fine in FINE.items():
        reason, message = faults.get(type_, fine)
        condition = conditions.make(type_, "True" if type_ in faults else "False", now, reason, message)
        old = conditions.find(listed, type_)
        if old is not None and old["status"] == condition["status"]:
            condition["lastTransitionTime"] = old.get("lastTransitionTime", now)
        listed = conditions.put(listed, condition, moved=("status", "reason", "message"))
    return {**status, "phase": "Terminating", "conditions": listed}


class Namespaces(Controller):
    """Empties namespaces that are being deleted."""

    name: ClassVar[str] = "namespace-controller"
    workers: ClassVar[int] = 8
    max_backoff_s: ClassVar[float] = LATEST_AGAIN_S

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        #: How often a namespace was found not to be empty yet.
        self._tries: dict[str, int] = {}
        self._namespaces = self.informer("namespaces")
        self.follow(self._namespaces, lambda ns: (ns["metadata"]["name"],) if "deletionTimestamp" in ns["metadata"] else ())
        self.informer("pods").subscribe(self._pod_changed)

    def _pod_changed(self, old: Obj | None, new: Obj | None) -> None:
        if new is None and old is not None:
            namespace = self._namespaces.get(old["metadata"]["namespace"])
            if namespace is not None and "deletionTimestamp" in namespace["metadata"]:
                self.queue.add(namespace["metadata"]["name"])

    async def reconcile(self, key: str) -> None:
        if self._namespaces.get(key) is None:
            self._tries.pop(key, None)
            return
        try:
            namespace = await self.client.get("namespaces", key)
        except NotFound:
            return
        if "deletionTimestamp" not in namespace["metadata"] or FINALIZER not in namespace["spec"].get("finalizers", ()):
            return
        remains = Remains()
        await self._empty(self.env.kinds.preferred("pods"), key, remains)
        pods_first = bool(remains.by_resource)
        if not pods_first:
            for kind in self._kinds():
                if kind.group or kind.plural != "pods":
                    await self._empty(kind, key, remains)
        status = status_of(namespace, remains.faults(), times.now())
        if status != namespace.get("status"):
            namespace = await self.client.update("namespaces", {**namespace, "status": status}, subresource="status")
        if remains.failures or remains.by_resource:
            # Pods report their end themselves; for others, and where something goes wrong, look again later and later.
            tries = self._tries[key] = self._tries.get(key, 0) + 1
            self.queue.add_after(key, min(AGAIN_S * 2 ** min(tries, 10), LATEST_AGAIN_S))
            return
        self._tries.pop(key, None)
        finalizers = [f for f in namespace["spec"]["finalizers"] if f != FINALIZER]
        await self.client.update(
            "namespaces", {**namespace, "spec": {**namespace["spec"], "finalizers": finalizers}}, subresource="finalize"
        )

    def _kinds(self) -> list[Kind]:
        """One row for each resource that can be in a namespace."""
        found: dict[str, Kind] = {}
        for kind in self.env.kinds:
            name = kind.group_resource
            if kind.namespaced and name not in found and {"list", "delete"} <= {*kind.verbs}:
                found[name] = self.env.kinds.preferred(name)
        return list(found.values())

    async def _empty(self, kind: Kind, namespace: str, remains: Remains) -> None:
        resource = kind.group_resource
        try:
            listing = await self.client.list(resource, namespace)
            if not listing.items:
                return
            if "deletecollection" in kind.verbs:
                await self.client.delete_collection(resource, namespace)
            else:
                for obj in listing.items:
                    await self._delete(resource, obj)
            left = (await self.client.list(resource, namespace)).items
        except (NotFound, MethodNotAllowed):
            return  # the kind went away meanwhile, or cannot be deleted
        except ApiError as e:
            remains.failures.append(e.message)
            return
        if left:
            remains.by_resource[f"{kind.plural}.{kind.group}"] += len(left)
        for obj in left:
            remains.by_finalizer.update(obj["metadata"].get("finalizers") or ())
        if left and kind.plural != "pods" and not any(obj["metadata"].get("finalizers") for obj in left):
            what = f"{kind.api_version} {kind.plural}"
            remains.failures.append(f"unexpected items still remain in namespace: {namespace} for gvr: {what}")

    async def _delete(self, resource: str, obj: Obj) -> None:
        meta = obj["metadata"]
        try:
            await self.client.delete(resource, meta["name"], meta["namespace"], propagation_policy="Background")
        except NotFound:
            return
