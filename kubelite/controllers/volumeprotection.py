"""No claim and no volume is deleted while it is used.

Source: kubernetes pkg/controller/volume/{pvcprotection,pvprotection}, v1.34.
"""

from typing import ClassVar

from kubelite.controllers import pods
from kubelite.controllers.environment import Environment
from kubelite.controllers.reconciler import Controller, split_key
from kubelite.controllers.volumes import BY_CLAIM, CLAIMS, VOLUMES, index_by_claim
from kubelite.meta.pods import claims as claims_of
from kubelite.meta.types import Obj

CLAIM_FINALIZER = "kubernetes.io/pvc-protection"
VOLUME_FINALIZER = "kubernetes.io/pv-protection"


class ClaimProtection(Controller):
    """Lets a deleted claim go once no pod uses it."""

    name: ClassVar[str] = "persistentvolumeclaim-protection-controller"

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        self._claims = self.informer(CLAIMS)
        self._pods = self.informer("pods")
        index_by_claim(self._pods)
        self.follow(self._claims)
        self._pods.subscribe(self._pod_changed)

    def _pod_changed(self, old: Obj | None, new: Obj | None) -> None:
        if old is not None and (new is None or pods.is_finished(new)):
            for name in claims_of(old):
                self.queue.add(f"{old['metadata']['namespace']}/{name}")

    async def reconcile(self, key: str) -> None:
        namespace, name = split_key(key)
        claim = self._claims.get(name, namespace)
        if claim is None:
            return
        finalizers = claim["metadata"].get("finalizers") or []
        if "deletionTimestamp" not in claim["metadata"]:
            if CLAIM_FINALIZER not in finalizers:
                await self._set_finalizers(claim, [*finalizers, CLAIM_FINALIZER])
            return
        if CLAIM_FINALIZER in finalizers and not any(_uses(pod) for pod in self._pods.by_index(BY_CLAIM, key)):
            live = (await self.client.list("pods", namespace)).items
            if not any(name in claims_of(pod) and _uses(pod) for pod in live):
                await self._set_finalizers(claim, [f for f in finalizers if f != CLAIM_FINALIZER])

    async def _set_finalizers(self, claim: Obj, finalizers: list[str]) -> None:
        await self.client.update(CLAIMS, {**claim, "metadata": {**claim["metadata"], "finalizers": finalizers}})


def _uses(pod: Obj) -> bool:
    """The pod may still have its volumes mounted: it was placed and has not ended."""
    return bool(pod["spec"].get("nodeName")) and not pods.is_finished(pod)


class VolumeProtection(Controller):
    """Lets a deleted volume go once it is bound to no claim."""

    name: ClassVar[str] = "persistentvolume-protection-controller"
    workers: ClassVar[int] = 1

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        self._volumes = self.informer(VOLUMES)
        self.follow(self._volumes)

    async def reconcile(self, key: str) -> None:
        volume = self._volumes.get(key)
        if volume is None:
            return
        finalizers = volume["metadata"].get("finalizers") or []
        if "deletionTimestamp" not in volume["metadata"]:
            wanted = finalizers if VOLUME_FINALIZER in finalizers else [*finalizers, VOLUME_FINALIZER]
        elif (volume.get("status") or {}).get("phase") == "Bound":
            return
        else:
            wanted = [f for f in finalizers if f != VOLUME_FINALIZER]
        if wanted != finalizers:
            await self.client.update(VOLUMES, {**volume, "metadata": {**volume["metadata"], "finalizers": wanted}})
