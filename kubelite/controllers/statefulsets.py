"""StatefulSets: numbered pods with names and claims of their own, made, replaced and taken away in order.

Source: kubernetes pkg/controller/statefulset/stateful_set_control.go and stateful_pod_control.go, v1.34.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import ClassVar

from kubelite.controllers import owners, pods, revisions
from kubelite.controllers import statefulpods as plan
from kubelite.controllers.environment import Environment
from kubelite.controllers.podcontrol import slow_start
from kubelite.controllers.reconciler import Controller, is_namespace_terminating, key_of, split_key
from kubelite.meta import selectors
from kubelite.meta.errors import AlreadyExists, ApiError, Conflict, NotFound
from kubelite.meta.types import Obj

RESOURCE = "statefulsets.apps"
CLAIMS = "persistentvolumeclaims"


class StatefulSets(Controller):
    """Keeps the pods and claims; rolls templates out; writes the status."""

    name: ClassVar[str] = "statefulset-controller"
    workers: ClassVar[int] = 5

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        self._pod_claims = owners.Claims(self.client, "pods", RESOURCE, "apps/v1", "StatefulSet")
        self._revision_claims = owners.Claims(self.client, revisions.RESOURCE, RESOURCE, "apps/v1", "StatefulSet")
        self._revisions = revisions.Revisions(self.client, "apps/v1", "StatefulSet", plan.HASH_LABEL)
        self._sets = self.informer(RESOURCE)
        self._pods = self.informer("pods")
        self._history = self.informer(revisions.RESOURCE)
        self._volume_claims = self.informer(CLAIMS)
        owners.index_by_controller(self._pods)
        owners.index_by_controller(self._history)
        self.follow(self._sets)
        self.follow(self._pods, self._owners_of)
        self._volume_claims.subscribe(self._claim_changed)

    def _owners_of(self, pod: Obj) -> Iterable[str]:
        namespace = pod["metadata"]["namespace"]
        reference = owners.controller_of(pod)
        if reference is not None:
            if reference["kind"] == "StatefulSet":
                yield f"{namespace}/{reference['name']}"
            return
        labels = pod["metadata"].get("labels") or {}
        for owner in self._sets.list(namespace) if labels else ():
            if selectors.from_object(owner["spec"]["selector"]).matches(labels):
                yield key_of(owner)

    def _claim_changed(self, old: Obj | None, new: Obj | None) -> None:
        """A claim that is gone may be what a pod waits for."""
        if new is None and old is not None:
            namespace, name = old["metadata"]["namespace"], old["metadata"]["name"]
            for owner in self._sets.list(namespace):
                prefixes = [f"{t['metadata']['name']}-{owner['metadata']['name']}-" for t in plan.claim_templates(owner)]
                if name.startswith(tuple(prefixes)):
                    self.queue.add(key_of(owner))

    async def reconcile(self, key: str) -> None:
        namespace, name = split_key(key)
        owner = self._sets.get(name, namespace)
        if owner is None:
            return
        selector = selectors.from_object(owner["spec"]["selector"])
        known = await self._revision_claims.claim(
            owner, selector, owners.owned(self._history, owner) + owners.orphans(self._history, namespace)
        )
        candidates = owners.owned(self._pods, owner) + owners.orphans(self._pods, namespace)
        candidates = [pod for pod in candidates if plan.ordinal_of(owner, pod) >= 0]
        owned = await self._pod_claims.claim(owner, selector, candidates)
        status = owner.get("status") or {}
        collisions = status.get("collisionCount", 0)
        try:
            update, others = await self._revisions.current(owner, known, collisions)
        except revisions.Collision:
            await self._write_status(owner, {**status, "collisionCount": collisions + 1})
            return
        current = next((r for r in others if r["metadata"]["name"] == status.get("currentRevision")), update)
        failure: ApiError | None = None
        outdated = 0
        if "deletionTimestamp" not in owner["metadata"]:
            try:
                outdated = await self._advance(owner, owned, current, update)
            except ApiError as e:
                failure = e
        names = current["metadata"]["name"], update["metadata"]["name"]
        now = self.env.now()
        wanted = plan.status_of(owner, owned, *names, collisions, now, outdated)
        if wanted != status:
            await self._write_status(owner, wanted)
        if failure is not None:
            raise failure
        used = {*names, *map(plan.revision_of, owned)}
        history = [r for r in others if r["metadata"]["name"] not in used]
        await self._revisions.trim(history, owner["spec"].get("revisionHistoryLimit", 10), used)
        min_ready_s = owner["spec"].get("minReadySeconds", 0)
        if min_ready_s and wanted.get("readyReplicas", 0) != wanted["availableReplicas"]:
            self.queue.add_after(key, pods.next_available_in(owned, min_ready_s, now) or min_ready_s)

    async def _advance(self, owner: Obj, owned: Sequence[Obj], current: Obj, update: Obj) -> int:
        """One step: missing pods, then pods beyond the size, then the rolling update; in order unless the set is parallel.
        Returns how many pods the rolling update deleted.
        """
        now = self.env.now()
        start, size = plan.start_of(owner), plan.size_of(owner)
        by_ordinal = {plan.ordinal_of(owner, pod): pod for pod in owned}
        replicas = [by_ordinal.get(start + index) for index in range(size)]
        condemned = [by_ordinal[o] for o in sorted(by_ordinal, reverse=True) if not plan.is_in_range(owner, o)]
        judged = [(start + index, pod) for index, pod in enumerate(replicas)]
        unhealthy = [pod for _, pod in judged if pod is None or not plan.is_healthy(owner, pod, now)]
        unhealthy += [pod for pod in reversed(condemned) if not plan.is_healthy(owner, pod, now)]
        first_unhealthy = unhealthy[0] if unhealthy else None

        async def keep(index: int) -> bool:
            return await self._keep(owner, start + index, replicas[index], current, update)

        async def take_away(index: int) -> bool:
            return await self._take_away(owner, condemned[index], first_unhealthy)

        async def settle_claims(index: int) -> bool:
            await self._settle_claims(owner, condemned[index])
            return False

        for step, count in ((keep, size), (settle_claims, len(condemned)), (take_away, len(condemned))):
            if not await self._each(owner, step, count):
                return 0
        return await self._roll(owner, replicas, update) if plan.is_rolling(owner) else 0

    async def _each(self, owner: Obj, step: Callable[[int], Awaitable[bool]], count: int) -> bool:
        """Takes the step for each index. In order: until one says that it blocks those after it (False then)."""
        if not plan.is_parallel(owner):
            for index in range(count):
                if await step(index):
                    return False
            return True

        async def unordered(index: int) -> None:
            await step(index)

        _, failure = await slow_start(count, unordered)
        if failure is not None:
            raise failure
        return True

    async def _keep(self, owner: Obj, ordinal: int, pod: Obj | None, current: Obj, update: Obj) -> bool:
        """Makes one pod as it should be; True where those after it must wait."""
        if pod is None:
            await self._create(owner, ordinal, current, update)
            return True
        if pods.is_finished(pod):
            if not pods.is_terminating(pod):
                await self._delete(owner, pod)
            return True
        if pods.phase(pod) == "Pending":
            await self._make_claims(owner, ordinal, pod["metadata"]["name"])
            await self._settle_claims(owner, pod, new=True)
        if not plan.is_parallel(owner) and not plan.is_healthy(owner, pod, self.env.now()):
            return True
        await self._repair(owner, ordinal, pod)
        return False

    async def _repair(self, owner: Obj, ordinal: int, pod: Obj) -> None:
        """Sets right what a pod that was adopted lacks, and whom its claims belong to. What a pod can't get any more, volumes
        for one, is told each time that it is tried.
        """
        name = pod["metadata"]["name"]
        try:
            changed = plan.repaired(owner, pod)
            if changed is not None and changed["spec"] is not pod["spec"]:
                await self._make_claims(owner, ordinal, name)
            settled = await self._settle_claims(owner, pod)
            if changed is not None:
                await self.client.update("pods", changed)
        except ApiError as e:
            if not isinstance(e, Conflict):
                self._tell(owner, "update", name, e)
            raise
        if changed is not None or settled:
            self._tell(owner, "update", name)

    async def _create(self, owner: Obj, ordinal: int, current: Obj, update: Obj) -> None:
        name = f"{owner['metadata']['name']}-{ordinal}"
        for template in plan.claim_templates(owner):
            claim = self._volume_claims.get(plan.claim_name(owner, template, ordinal), owner["metadata"]["namespace"])
            if claim is not None and plan.is_stale(owner, name, claim):
                return
        try:
            await self._make_claims(owner, ordinal, name)
        except ApiError as e:
            self._tell(owner, "create", name, e)
            raise
        update_name = update["metadata"]["name"]
        revision = current if plan.wants_current(owner, update_name, ordinal) else update
        pod = plan.new_pod(owner, plan.template_of(revision), revision["metadata"]["name"], ordinal)
        try:
            created = await self.client.create("pods", pod)
        except AlreadyExists:
            raise
        except ApiError as e:
            if is_namespace_terminating(e):
                return
            self._tell(owner, "create", name, e)
            raise
        self._tell(owner, "create", name)
        await self._settle_claims(owner, created, new=True)

    async def _make_claims(self, owner: Obj, ordinal: int, pod_name: str) -> None:
        namespace = owner["metadata"]["namespace"]
        for template in plan.claim_templates(owner):
            name = plan.claim_name(owner, template, ordinal)
            found = self._volume_claims.get(name, namespace)
            if found is not None:
                if "deletionTimestamp" in found["metadata"]:
                    raise Conflict(f"pvc {name} is being deleted")
                continue
            in_set = f"in StatefulSet {owner['metadata']['name']}"
            try:
                await self.client.create(CLAIMS, plan.new_claim(owner, template, ordinal))
            except AlreadyExists:
                continue
            except ApiError as e:
                text = f"create Claim {name} for Pod {pod_name} {in_set} failed error: {e.message}"
                self.events.event(owner, "Warning", "FailedCreate", text)
                raise ApiError(f"failed to create PVC {name}: {e.message}", reason=e.reason, code=e.code, causes=e.causes) from e
            self.events.event(owner, "Normal", "SuccessfulCreate", f"create Claim {name} Pod {pod_name} {in_set} success")

    async def _settle_claims(self, owner: Obj, pod: Obj, *, new: bool = False) -> bool:
        """Gives the pod's claims the owners that the set's retention policy wants; False where they had them. Of claims that
        somebody else controls it tells when something changes, or the pod is `new`.
        """
        names = plan.claims_of(owner, plan.ordinal_of(owner, pod)).values()
        claims = [c for name in names if (c := self._volume_claims.get(name, pod["metadata"]["namespace"]))]
        wanted = [(claim, plan.claim_owners(owner, pod, claim)) for claim in claims]
        changes = any(references is not None for _, references in wanted)
        for claim, references in wanted if changes or new else ():
            meta = claim["metadata"]
            if plan.has_conflict(owner, pod, claim):
                text = f"PersistentVolumeClaim {meta['name']} has a conflicting OwnerReference that acts as a manging "
                text += "controller, the retention policy is ignored for this claim"
                self.events.event(owner, "Warning", "ConflictingController", text)
            if references is not None:
                await self.client.update(CLAIMS, {**claim, "metadata": {**meta, "ownerReferences": references}})
        return changes

    async def _take_away(self, owner: Obj, pod: Obj, first_unhealthy: Obj | None) -> bool:
        if pods.is_terminating(pod):
            return True
        if not plan.is_parallel(owner) and not plan.is_available(owner, pod, self.env.now()) and pod is not first_unhealthy:
            return True
        await self._delete(owner, pod)
        return True

    async def _roll(self, owner: Obj, replicas: Sequence[Obj | None], update: Obj) -> int:
        """Deletes the pod with the highest number that is of an old template, once all above it are healthy; says how many."""
        now = self.env.now()
        for index in range(len(replicas) - 1, plan.partition_of(owner) - 1, -1):
            pod = replicas[index]
            if pod is None:
                return 0
            if plan.revision_of(pod) != update["metadata"]["name"] and not pods.is_terminating(pod):
                await self._delete(owner, pod)
                return 1
            if not plan.is_healthy(owner, pod, now):
                return 0
        return 0

    async def _delete(self, owner: Obj, pod: Obj) -> None:
        meta = pod["metadata"]
        try:
            await self.client.delete("pods", meta["name"], meta["namespace"], precondition_uid=meta["uid"])
        except NotFound:
            return
        except ApiError as e:
            self._tell(owner, "delete", meta["name"], e)
            raise
        self._tell(owner, "delete", meta["name"])

    def _tell(self, owner: Obj, verb: str, pod_name: str, failure: ApiError | None = None) -> None:
        about = f"{verb} Pod {pod_name} in StatefulSet {owner['metadata']['name']}"
        if failure is None:
            self.events.event(owner, "Normal", f"Successful{verb.title()}", f"{about} successful")
        else:
            self.events.event(owner, "Warning", f"Failed{verb.title()}", f"{about} failed error: {failure.message}")

    async def _write_status(self, owner: Obj, status: Obj) -> None:
        changed = {**owner, "metadata": {**owner["metadata"]}, "status": status}
        await self.client.update(RESOURCE, changed, subresource="status")
