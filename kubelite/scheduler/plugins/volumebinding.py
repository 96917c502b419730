"""VolumeBinding: a pod goes where its claims' volumes are, or can be.

Source: plugins/volumebinding/volume_binding.go, v1.34.
"""

from collections.abc import Sequence
from typing import ClassVar

from kubelite.meta.types import Obj
from kubelite.scheduler.framework import Change, ClusterEvent, Failure, Memory, Refusal, Rows, Scope
from kubelite.scheduler.placement import place
from kubelite.scheduler.snapshot import Snapshot
from kubelite.scheduler.templates import Template
from kubelite.scheduler.volumes import Volumes, capacity_limit, is_bound

ELSEWHERE = "node(s) didn't match PersistentVolume's node affinity"
NO_VOLUME = "node(s) didn't find available persistent volumes to bind"
NO_SPACE = "node(s) did not have enough free storage"
GONE = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"


class VolumeBinding:
    """Of scope NODES although claims and volumes count too: the scheduler has all states forgotten when one of those changes."""

    name: ClassVar = "VolumeBinding"
    scope: ClassVar = Scope.NODES
    events: ClassVar = frozenset(
        (
            ClusterEvent.NODE_ADDED,
            ClusterEvent.NODE_LABELS,
            ClusterEvent.CLAIM,
            ClusterEvent.VOLUME,
            ClusterEvent.STORAGE_CLASS,
            ClusterEvent.CSI_DRIVER,
            ClusterEvent.CSI_CAPACITY,
        )
    )

    def __init__(self, volumes: Volumes) -> None:
        self._volumes = volumes

    def pre_filter(self, snapshot: Snapshot, template: Template) -> None:
        if not template.claims:
            return
        for use in template.claims:
            claim = self._volumes.claims.get((template.namespace, use.name))
            if claim is None:
                waiting = f'waiting for ephemeral volume controller to create the persistentvolumeclaim "{use.name}"'
                raise Refusal(self.name, waiting if use.owner else f'persistentvolumeclaim "{use.name}" not found')
            if (claim.get("status") or {}).get("phase") == "Lost":
                volume = claim["spec"].get("volumeName", "")
                raise Refusal(self.name, f'persistentvolumeclaim "{use.name}" bound to non-existent persistentvolume "{volume}"')
            if claim["metadata"].get("deletionTimestamp"):
                raise Refusal(self.name, f'persistentvolumeclaim "{use.name}" is being deleted')
            if use.owner:
                name, uid = use.owner
                owners = claim["metadata"].get("ownerReferences") or ()
                if not any(owner.get("controller") and owner.get("uid") == uid for owner in owners):
                    whose = f"PVC {template.namespace}/{use.name} was not created for pod {template.namespace}/{name}"
                    raise Refusal(self.name, f"{whose} (pod is not owner)")
        if any(not is_bound(claim) and not self._volumes.waits(claim) for claim in self._volumes.of_template(template)):
            raise Refusal(self.name, "pod has unbound immediate PersistentVolumeClaims")

    def applies(self, snapshot: Snapshot, template: Template, memory: Memory) -> bool:
        return bool(template.claims)

    def filter(self, snapshot: Snapshot, template: Template, rows: Rows, memory: Memory) -> Sequence[Failure]:
        found = place(self._volumes, snapshot, template)
        masks = ((ELSEWHERE, found.elsewhere), (NO_VOLUME, found.none), (NO_SPACE, found.no_space), (GONE, found.gone))
        return [Failure(reason, mask[rows], unresolvable=True) for reason, mask in masks if mask.any()]

    def helps(self, change: Change, template: Template) -> bool:
        old, new = change.old, change.new
        match change.event:
            case ClusterEvent.CLAIM:
                return new is not None and uses(template, new)
            case ClusterEvent.STORAGE_CLASS:
                return new is not None and (old is None or old.get("allowedTopologies") != new.get("allowedTopologies"))
            case ClusterEvent.CSI_CAPACITY:
                return (capacity_limit(new) or 0) > (capacity_limit(old) or 0) or (new is not None and old is None)
            case ClusterEvent.CSI_DRIVER:
                return not ((new or {}).get("spec") or {}).get("storageCapacity")
            case _:
                return new is not None


def uses(template: Template, claim: Obj) -> bool:
    """Whether pods of the template use this claim."""
    meta = claim["metadata"]
    return bool(template.namespace == meta["namespace"]) and any(use.name == meta["name"] for use in template.claims)
