"""VolumeBinding: a pod goes where its claims' volumes are, or can be."""

from collections.abc import Sequence
from typing import ClassVar

from kubelite.scheduler.framework import ClusterEvent, Failure, Memory, Rows, Scope
from kubelite.scheduler.snapshot import Snapshot
from kubelite.scheduler.templates import Template
from kubelite.scheduler.volumes import PLUGIN, Volumes


class VolumeBinding:
    """Of scope NODES although claims and volumes count too: the scheduler has all states forgotten when one of those changes."""

    name: ClassVar = PLUGIN
    scope: ClassVar = Scope.NODES
    events: ClassVar = frozenset((ClusterEvent.NODE_ADDED, ClusterEvent.NODE_LABELS, ClusterEvent.VOLUMES))

    def __init__(self, volumes: Volumes) -> None:
        self._volumes = volumes

    def applies(self, snapshot: Snapshot, template: Template, memory: Memory) -> bool:
        return bool(template.claims)

    def filter(self, snapshot: Snapshot, template: Template, rows: Rows, memory: Memory) -> Sequence[Failure]:
        return [Failure(f.reason, f.mask[rows], f.unresolvable) for f in self._volumes.failures(snapshot, template)]
