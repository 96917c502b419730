"""VolumeRestrictions: a claim of the access mode ReadWriteOncePod has one pod at a time.

Source: plugins/volumerestrictions, v1.34.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from kubelite.scheduler.framework import ClusterEvent, Failure, Memory, Rows, Scope
from kubelite.scheduler.snapshot import Snapshot
from kubelite.scheduler.templates import Template
from kubelite.scheduler.volumes import Volumes

IN_USE = "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod"


class VolumeRestrictions:
    name: ClassVar = "VolumeRestrictions"
    scope: ClassVar = Scope.CLUSTER
    events: ClassVar = frozenset((ClusterEvent.NODE_ADDED, ClusterEvent.POD_REMOVED, ClusterEvent.VOLUMES))

    def __init__(self, volumes: Volumes) -> None:
        self._volumes = volumes

    def applies(self, snapshot: Snapshot, template: Template, memory: Memory) -> bool:
        return any(
            (template.namespace, name) in snapshot.usage.claim_users and self._is_exclusive(template.namespace, name)
            for name in template.claims
        )

    def filter(self, snapshot: Snapshot, template: Template, rows: Rows, memory: Memory) -> Sequence[Failure]:
        return [Failure(IN_USE, np.ones(snapshot.size, np.bool_)[rows])]

    def _is_exclusive(self, namespace: str, name: str) -> bool:
        claim = self._volumes.claims.get((namespace, name))
        return claim is not None and "ReadWriteOncePod" in (claim["spec"].get("accessModes") or ())
