"""Deployments: one ReplicaSet for each template, and the way from one to the next. The numbers are in `rollouts`.

Source: kubernetes pkg/controller/deployment, v1.34.
"""

from collections.abc import Iterable, Sequence
from typing import ClassVar

from kubelite.controllers import conditions, owners, pods, rollouts
from kubelite.controllers.environment import Environment
from kubelite.controllers.reconciler import Controller, is_namespace_terminating, key_of, split_key
from kubelite.meta import hashing, selectors, times
from kubelite.meta.copies import deep_copy
from kubelite.meta.errors import AlreadyExists, ApiError, NotFound
from kubelite.meta.types import Obj

RESOURCE = "deployments.apps"
SETS = "replicasets.apps"


class Deployments(Controller):
    """Rolls templates out; writes ReplicaSets and the status."""

    name: ClassVar[str] = "deployment-controller"
    workers: ClassVar[int] = 5

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        self._claims = owners.Claims(self.client, SETS, RESOURCE, "apps/v1", "Deployment")
        self._deployments = self.informer(RESOURCE)
        self._sets = self.informer(SETS)
        self._pods = self.informer("pods")
        owners.index_by_controller(self._sets)
        owners.index_by_controller(self._pods)
        self.follow(self._deployments)
        self.follow(self._sets, self._owners_of_set)
        self._pods.subscribe(self._pod_changed)

    def _owners_of_set(self, replica_set: Obj) -> Iterable[str]:
        namespace = replica_set["metadata"]["namespace"]
        reference = owners.controller_of(replica_set)
        if reference is not None:
            if reference["kind"] == "Deployment":
                yield f"{namespace}/{reference['name']}"
            return
        labels = replica_set["metadata"].get("labels") or {}
        for deployment in self._deployments.list(namespace) if labels else ():
            if selectors.from_object(deployment["spec"]["selector"]).matches(labels):
                yield key_of(deployment)

    def _pod_changed(self, old: Obj | None, new: Obj | None) -> None:
        """A Deployment that recreates waits for the old pods to be gone."""
        if new is not None or old is None:
            return
        namespace, reference = old["metadata"]["namespace"], owners.controller_of(old)
        owner = self._sets.get(reference["name"], namespace) if reference and reference["kind"] == "ReplicaSet" else None
        reference = None if owner is None else owners.controller_of(owner)
        deployment = self._deployments.get(reference["name"], namespace) if reference else None
        if deployment is not None and not rollouts.is_rolling(deployment):
            self.queue.add(key_of(deployment))

    async def reconcile(self, key: str) -> None:
        namespace, name = split_key(key)
        deployment = self._deployments.get(name, namespace)
        if deployment is None:
            return
        selector = deployment["spec"]["selector"]
        if not selector.get("matchLabels") and not selector.get("matchExpressions"):
            text = "This deployment is selecting all pods. A non-empty selector is required."
            self.events.event(deployment, "Warning", "SelectingAll", text)
            await self._write_status(
                deployment,
                {**(deployment.get("status") or {}), "observedGeneration": deployment["metadata"].get("generation", 0)},
            )
            return
        candidates = owners.owned(self._sets, deployment) + owners.orphans(self._sets, namespace)
        sets = await self._claims.claim(deployment, selectors.from_object(selector), candidates)
        if "deletionTimestamp" in deployment["metadata"]:
            deployment, newest = await self._sync_newest(deployment, sets)
            await self._sync_status(deployment, sets, newest)
            return
        deployment = await self._mark_pause(deployment)
        paused = deployment["spec"].get("paused", False)
        if not paused and rollouts.rollback_of(deployment) is not None:
            await self._roll_back(deployment, sets)
            return
        deployment, newest = await self._sync_newest(deployment, sets)
        if paused or rollouts.is_scaled(deployment, sets):
            sets = await self._scale(deployment, sets, newest)
            if paused and rollouts.rollback_of(deployment) is None:
                await self._clean_up(deployment, _without(sets, newest))
            await self._sync_status(deployment, sets, _same(sets, newest))
        elif rollouts.is_rolling(deployment):
            await self._roll(key, deployment, sets, newest)
        else:
            await self._recreate(key, deployment, sets, newest)

    async def _roll(self, key: str, deployment: Obj, sets: list[Obj], newest: Obj | None) -> None:
        if newest is None:
            deployment, newest = await self._create_newest(deployment, sets)
            if newest is None:
                return
        sets = _with(sets, newest)
        size = rollouts.desired(deployment)
        if rollouts.desired(newest) != size:
            wanted = min(size, rollouts.new_set_size(deployment, sets, rollouts.desired(newest)))
            if wanted != rollouts.desired(newest):
                newest = await self._resize(deployment, newest, wanted)
                await self._sync_rollout(key, deployment, _with(sets, newest), newest)
                return
        olds = _without(sets, newest)
        steps = rollouts.steps_down(deployment, olds, newest)
        for name, size in steps:
            each = next(s for s in sets if s["metadata"]["name"] == name)
            sets = _with(sets, await self._resize(deployment, each, size))
        if not steps and rollouts.is_complete(deployment, deployment.get("status") or {}):
            await self._clean_up(deployment, olds)
        await self._sync_rollout(key, deployment, sets, newest)

    async def _recreate(self, key: str, deployment: Obj, sets: list[Obj], newest: Obj | None) -> None:
        olds = _without(sets, newest)
        active = [s for s in olds if rollouts.desired(s) > 0]
        for each in active:
            sets = _with(sets, await self._resize(deployment, each, 0))
        if active or self._has_old_pods(olds):
            await self._sync_rollout(key, deployment, sets, newest)
            return
        if newest is None:
            deployment, newest = await self._create_newest(deployment, sets)
            if newest is None:
                return
        newest = await self._resize(deployment, newest, rollouts.desired(deployment))
        if rollouts.is_complete(deployment, deployment.get("status") or {}):
            await self._clean_up(deployment, olds)
        await self._sync_rollout(key, deployment, _with(sets, newest), newest)

    def _has_old_pods(self, olds: Sequence[Obj]) -> bool:
        """Pods of earlier templates exist, those that are going away included."""
        if rollouts.count_of(olds) > 0:
            return True
        return any(not pods.is_finished(pod) for each in olds for pod in owners.owned(self._pods, each))

    async def _scale(self, deployment: Obj, sets: list[Obj], newest: Obj | None) -> list[Obj]:
        """Sizes the sets for a new number of replicas without moving a rollout forward."""
        active = [s for s in sets if rollouts.desired(s) > 0]
        if len(active) < 2:
            only = active[0] if active else newest or next(reversed(rollouts.oldest_first(sets)), None)
            if only is not None:
                sets = _with(sets, await self._resize(deployment, only, rollouts.desired(deployment)))
        elif rollouts.is_saturated(deployment, newest):
            for each in _without(active, newest):
                sets = _with(sets, await self._resize(deployment, each, 0))
        elif rollouts.is_rolling(deployment):
            sizes = rollouts.proportional_sizes(deployment, active)
            for each in active:
                size = sizes[each["metadata"]["name"]]
                sets = _with(sets, await self._resize(deployment, each, size, remember=True))
        return sets

    async def _resize(self, deployment: Obj, replica_set: Obj, size: int, *, remember: bool = False) -> Obj:
        """Sizes the set. `remember`: it takes the Deployment's size down even where its own stays."""
        meta, before = replica_set["metadata"], rollouts.desired(replica_set)
        remembered = rollouts.replica_annotations(deployment)
        known = not remember or remembered.items() <= rollouts.annotations_of(replica_set).items()
        if before == size and known:
            return replica_set
        annotations = {**rollouts.annotations_of(replica_set), **remembered}
        changed = await self.client.update(
            SETS,
            {**replica_set, "metadata": {**meta, "annotations": annotations}, "spec": {**replica_set["spec"], "replicas": size}},
        )
        if before != size:
            direction = "up" if before < size else "down"
            text = f"Scaled {direction} replica set {meta['name']} from {before} to {size}"
            self.events.event(deployment, "Normal", "ScalingReplicaSet", text)
        return changed

    async def _sync_newest(self, deployment: Obj, sets: list[Obj]) -> tuple[Obj, Obj | None]:
        """The Deployment and its newest set, where there is one, with annotations, revision and condition brought up to date."""
        newest = rollouts.newest_set(deployment, sets)
        if newest is None:
            return deployment, None
        highest = max(map(rollouts.revision, _without(sets, newest)), default=0)
        annotations = rollouts.set_annotations(deployment, rollouts.annotations_of(newest), highest + 1)
        min_ready_s = deployment["spec"].get("minReadySeconds", 0)
        if annotations != rollouts.annotations_of(newest) or newest["spec"].get("minReadySeconds", 0) != min_ready_s:
            spec = {**newest["spec"], "minReadySeconds": min_ready_s}
            newest = await self.client.update(
                SETS, {**newest, "metadata": {**newest["metadata"], "annotations": annotations}, "spec": spec}
            )
            sets[:] = _with(sets, newest)
        deployment = await self._write_revision(deployment, annotations.get(rollouts.REVISION, ""))
        listed = (deployment.get("status") or {}).get("conditions") or []
        if rollouts.has_deadline(deployment) and conditions.find(listed, "Progressing") is None:
            text = f'Found new replica set "{newest["metadata"]["name"]}"'
            deployment = await self._write_condition(deployment, "True", "FoundNewReplicaSet", text)
        return deployment, newest

    async def _create_newest(self, deployment: Obj, sets: Sequence[Obj]) -> tuple[Obj, Obj | None]:
        meta, spec, status = deployment["metadata"], deployment["spec"], deployment.get("status") or {}
        template = deep_copy(spec["template"])
        hash_ = hashing.of_value(spec["template"], status.get("collisionCount"))
        labels = {**((template.get("metadata") or {}).get("labels") or {}), rollouts.HASH_LABEL: hash_}
        template["metadata"] = {**(template.get("metadata") or {}), "labels": labels}
        selector = {**spec["selector"], "matchLabels": {**spec["selector"].get("matchLabels", {}), rollouts.HASH_LABEL: hash_}}
        size = rollouts.new_set_size(deployment, sets, 0)
        revision = max(map(rollouts.revision, sets), default=0) + 1
        annotations = {**rollouts.set_annotations(deployment, {}, revision), **rollouts.replica_annotations(deployment)}
        name = f"{meta['name'][: 253 - 1 - len(hash_)]}-{hash_}"
        wanted: Obj = {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": name,
                "namespace": meta["namespace"],
                "labels": dict(labels),
                "annotations": annotations,
                "ownerReferences": [owners.reference_to(deployment, "apps/v1", "Deployment")],
            },
            "spec": {"replicas": size, "selector": selector, "template": template},
        }
        if spec.get("minReadySeconds"):
            wanted["spec"]["minReadySeconds"] = spec["minReadySeconds"]
        try:
            newest = await self.client.create(SETS, wanted)
        except AlreadyExists:
            found = await self.client.get(SETS, name, meta["namespace"])
            if owners.is_controlled_by(found, deployment) and rollouts.same_template(found["spec"]["template"], spec["template"]):
                return await self._write_revision(deployment, str(revision)), found
            # Another template has this hash: the next try hashes with the count.
            await self._write_status(deployment, {**status, "collisionCount": status.get("collisionCount", 0) + 1})
            raise
        except ApiError as e:
            if is_namespace_terminating(e):
                return deployment, None
            text = f'Failed to create new replica set "{name}": {e.message}'
            if rollouts.has_deadline(deployment):
                await self._write_condition(deployment, "False", "ReplicaSetCreateError", text)
            self.events.event(deployment, "Warning", "ReplicaSetCreateError", text)
            raise
        if size > 0:
            self.events.event(deployment, "Normal", "ScalingReplicaSet", f"Scaled up replica set {name} from 0 to {size}")
        deployment = await self._write_revision(deployment, str(revision))
        if rollouts.has_deadline(deployment):
            text = f'Created new replica set "{name}"'
            deployment = await self._write_condition(deployment, "True", "NewReplicaSetCreated", text)
        return deployment, newest

    async def _mark_pause(self, deployment: Obj) -> Obj:
        """Says that a pause began or ended, so that the time in it doesn't count against the deadline."""
        if not rollouts.has_deadline(deployment):
            return deployment
        current = conditions.find((deployment.get("status") or {}).get("conditions"), "Progressing")
        reason = "" if current is None else current.get("reason", "")
        paused = deployment["spec"].get("paused", False)
        if reason == "ProgressDeadlineExceeded" or paused == (reason == "DeploymentPaused"):
            return deployment
        if paused:
            return await self._write_condition(deployment, "Unknown", "DeploymentPaused", "Deployment is paused")
        return await self._write_condition(deployment, "Unknown", "DeploymentResumed", "Deployment is resumed")

    async def _roll_back(self, deployment: Obj, sets: list[Obj]) -> None:
        name = deployment["metadata"]["name"]
        deployment, newest = await self._sync_newest(deployment, sets)
        if newest is None:
            deployment, newest = await self._create_newest(deployment, sets)
            if newest is None:
                return
            sets = _with(sets, newest)
        wanted = rollouts.rollback_of(deployment) or rollouts.last_revision(sets)
        annotations = {k: v for k, v in rollouts.annotations_of(deployment).items() if k != rollouts.ROLLBACK_TO}
        spec = deployment["spec"]
        found = next((s for s in sets if rollouts.revision(s) == wanted), None) if wanted else None
        if found is None:
            text = "Unable to find the revision to rollback to." if wanted else "Unable to find last revision."
            self.events.event(deployment, "Warning", "DeploymentRollbackRevisionNotFound", text)
        elif rollouts.same_template(found["spec"]["template"], spec["template"]):
            text = f'The rollback revision contains the same template as current deployment "{name}"'
            self.events.event(deployment, "Warning", "DeploymentRollbackTemplateUnchanged", text)
        else:
            template = deep_copy(found["spec"]["template"])
            template["metadata"].get("labels", {}).pop(rollouts.HASH_LABEL, None)
            spec = {**spec, "template": template}
            own = {k: v for k, v in annotations.items() if k in rollouts.OWN_ANNOTATIONS}
            theirs = {k: v for k, v in rollouts.annotations_of(found).items() if k not in rollouts.OWN_ANNOTATIONS}
            annotations = {**own, **theirs}
        await self.client.update(
            RESOURCE, {**deployment, "metadata": {**deployment["metadata"], "annotations": annotations}, "spec": spec}
        )
        if spec is not deployment["spec"]:
            text = f'Rolled back deployment "{name}" to revision {wanted}'
            self.events.event(deployment, "Normal", "DeploymentRollback", text)

    async def _clean_up(self, deployment: Obj, olds: Sequence[Obj]) -> None:
        """Deletes old, empty sets beyond the revisions that are kept."""
        kept = deployment["spec"].get("revisionHistoryLimit", rollouts.UNLIMITED)
        alive = [s for s in olds if "deletionTimestamp" not in s["metadata"]]
        if kept == rollouts.UNLIMITED or len(alive) <= kept:
            return
        for each in rollouts.by_revision(alive)[: len(alive) - kept]:
            meta, status = each["metadata"], each.get("status") or {}
            if status.get("replicas", 0) or rollouts.desired(each):
                continue
            if meta.get("generation", 0) > status.get("observedGeneration", 0):
                continue
            try:
                await self.client.delete(SETS, meta["name"], meta["namespace"], precondition_uid=meta["uid"])
            except NotFound:
                continue

    async def _sync_rollout(self, key: str, deployment: Obj, sets: Sequence[Obj], newest: Obj | None) -> None:
        status = rollouts.rollout_status(deployment, sets, newest, self.env.now())
        if status != deployment.get("status"):
            await self._write_status(deployment, status)
        current = conditions.find(status["conditions"], "Progressing")
        if current is None or current.get("reason") == "ProgressDeadlineExceeded" or not rollouts.has_deadline(deployment):
            return
        if not rollouts.is_complete(deployment, status):
            since = times.parse_seconds(current.get("lastUpdateTime") or current["lastTransitionTime"])
            left = since + deployment["spec"]["progressDeadlineSeconds"] - self.env.now()
            self.queue.add_after(key, max(left, 0) + 1)

    async def _sync_status(self, deployment: Obj, sets: Sequence[Obj], newest: Obj | None) -> None:
        status = rollouts.status_of(deployment, sets, newest, times.now())
        if status != deployment.get("status"):
            await self._write_status(deployment, status)

    async def _write_status(self, deployment: Obj, status: Obj) -> Obj:
        changed = {**deployment, "metadata": {**deployment["metadata"]}, "status": status}
        return await self.client.update(RESOURCE, changed, subresource="status")

    async def _write_condition(self, deployment: Obj, status: str, reason: str, message: str) -> Obj:
        new = rollouts.condition("Progressing", status, reason, message, times.now())
        old = deployment.get("status") or {}
        listed = rollouts.put_condition(old.get("conditions") or [], new)
        return await self._write_status(deployment, {**old, "conditions": listed})

    async def _write_revision(self, deployment: Obj, revision: str) -> Obj:
        if not revision or rollouts.annotations_of(deployment).get(rollouts.REVISION) == revision:
            return deployment
        meta = deployment["metadata"]
        change = {"metadata": {"annotations": {rollouts.REVISION: revision}, "resourceVersion": meta["resourceVersion"]}}
        return await self.client.patch(RESOURCE, meta["name"], meta["namespace"], change, subresource="status")


def _same(sets: Sequence[Obj], wanted: Obj | None) -> Obj | None:
    """The set of that uid as it is in `sets`."""
    if wanted is None:
        return None
    return next((s for s in sets if s["metadata"]["uid"] == wanted["metadata"]["uid"]), wanted)


def _without(sets: Sequence[Obj], one: Obj | None) -> list[Obj]:
    return [s for s in sets if one is None or s["metadata"]["uid"] != one["metadata"]["uid"]]


def _with(sets: Sequence[Obj], changed: Obj) -> list[Obj]:
    """The sets with one replaced by its newer state, or added."""
    return [*_without(sets, changed), changed]
