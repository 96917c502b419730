"""VolumeRestrictions: a claim of the access mode ReadWriteOncePod has one pod at a time, and so have disks that pods name
themselves and don't only read.

Source: plugins/volumerestrictions, v1.34.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from kubelite.scheduler.framework import Change, ClusterEvent, Failure, Memory, Refusal, Rows, Scope
from kubelite.scheduler.plugins.volumebinding import uses
from kubelite.scheduler.snapshot import Snapshot
from kubelite.scheduler.templates import Template
from kubelite.scheduler.volumes import Volumes

NO_DISK = "node(s) had no available disk"
IN_USE = "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod"


class VolumeRestrictions:
    name: ClassVar = "VolumeRestrictions"
    scope: ClassVar = Scope.CLUSTER
    events: ClassVar = frozenset((ClusterEvent.NODE_ADDED, ClusterEvent.POD_REMOVED, ClusterEvent.CLAIM))

    def __init__(self, volumes: Volumes) -> None:
        self._volumes = volumes

    def pre_filter(self, snapshot: Snapshot, template: Template) -> None:
        for use in template.claims:
            if use.owner is None and (template.namespace, use.name) not in self._volumes.claims:
                raise Refusal(self.name, f'persistentvolumeclaim "{use.name}" not found')

    def applies(self, snapshot: Snapshot, template: Template, memory: Memory) -> bool:
        return bool(template.disks) or (bool(template.claims) and self._in_use(snapshot, template))

    def filter(self, snapshot: Snapshot, template: Template, rows: Rows, memory: Memory) -> Sequence[Failure]:
        taken = np.zeros(snapshot.size, np.bool_)
        for disk in template.disks:
            for row, others in snapshot.usage.disks.get(disk.key, {}).items():
                taken[row] |= any(disk.conflicts(other) for other in others)
        failures = [Failure(NO_DISK, taken[rows])]
        if self._in_use(snapshot, template):
            failures.append(Failure(IN_USE, ~taken[rows]))
        return failures

    def helps(self, change: Change, template: Template) -> bool:
        match change.event:
            case ClusterEvent.POD_REMOVED:
                gone = change.old.template
                shared = {use.name for use in gone.claims} & {use.name for use in template.claims}
                disks = any(disk.conflicts(other) for disk in template.disks for other in gone.disks)
                return disks or (gone.namespace == template.namespace and bool(shared))
            case ClusterEvent.CLAIM:
                return change.old is None and uses(template, change.new)
            case _:
                return True

    def _in_use(self, snapshot: Snapshot, template: Template) -> bool:
        """Whether another pod has one of the template's claims that are for one pod alone."""
        return any(
            (template.namespace, use.name) in snapshot.usage.claim_users and self._is_exclusive(template.namespace, use.name)
            for use in template.claims
            if use.owner is None
        )

    def _is_exclusive(self, namespace: str, name: str) -> bool:
        claim = self._volumes.claims.get((namespace, name))
        return claim is not None and "ReadWriteOncePod" in (claim["spec"].get("accessModes") or ())
