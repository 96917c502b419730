"""The claims of pods' generic ephemeral volumes; they are the pod's and go with it.

Source: kubernetes pkg/controller/volume/ephemeral, v1.34.
"""

from collections.abc import Iterable
from typing import ClassVar

from kubelite.controllers import owners, pods
from kubelite.controllers.environment import Environment
from kubelite.controllers.reconciler import Controller, is_namespace_terminating, key_of, split_key
from kubelite.controllers.volumes import BY_CLAIM, CLAIMS, index_by_claim
from kubelite.meta.copies import deep_copy
from kubelite.meta.errors import AlreadyExists, ApiError
from kubelite.meta.types import Obj


class EphemeralVolumes(Controller):
    """Makes them, and looks again when one of somebody else's of the same name goes."""

    name: ClassVar[str] = "ephemeral-volume-controller"
    component: ClassVar[str] = "ephemeral_volume"

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        self._pods = self.informer("pods")
        self._claims = self.informer(CLAIMS)
        index_by_claim(self._pods)
        self.follow(self._pods, lambda pod: (key_of(pod),) if any(_ephemeral(pod)) else ())
        self._claims.subscribe(self._claim_changed)

    def _claim_changed(self, old: Obj | None, new: Obj | None) -> None:
        if old is not None and new is None:
            for pod in self._pods.by_index(BY_CLAIM, key_of(old)):
                self.queue.add(key_of(pod))

    async def reconcile(self, key: str) -> None:
        namespace, name = split_key(key)
        pod = self._pods.get(name, namespace)
        if pod is None or pods.is_terminating(pod):
            return
        for volume in _ephemeral(pod):
            claim_name = f"{name}-{volume['name']}"
            found = self._claims.get(claim_name, namespace)
            if found is None:
                await self._make(pod, volume, claim_name)
            elif not owners.is_controlled_by(found, pod):
                text = f"PVC {namespace}/{claim_name} was not created for pod {key} (pod is not owner)"
                self._tell(pod, volume, text)

    async def _make(self, pod: Obj, volume: Obj, name: str) -> None:
        template = deep_copy(volume["ephemeral"]["volumeClaimTemplate"])
        namespace = pod["metadata"]["namespace"]
        meta = {**(template.get("metadata") or {}), "name": name, "namespace": namespace}
        meta["ownerReferences"] = [owners.reference_to(pod, "v1", "Pod")]
        claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": template["spec"]}
        try:
            await self.client.create(CLAIMS, claim)
        except AlreadyExists:
            return
        except ApiError as e:
            if is_namespace_terminating(e):
                return
            self._tell(pod, volume, f"create PVC {name}: {e.message}")
            raise

    def _tell(self, pod: Obj, volume: Obj, why: str) -> None:
        self.events.event(pod, "Warning", "FailedBinding", f"ephemeral volume {volume['name']}: {why}")


def _ephemeral(pod: Obj) -> Iterable[Obj]:
    return [volume for volume in pod["spec"].get("volumes") or () if "ephemeral" in volume]
