"""NodeName: a pod that names its node goes nowhere else."""

from collections.abc import Sequence
from typing import ClassVar

from kubelite.scheduler.framework import ClusterEvent, Failure, Memory, Rows, Scope
from kubelite.scheduler.snapshot import NAME_FIELD, Snapshot
from kubelite.scheduler.templates import Template


class NodeName:
    name: ClassVar = "NodeName"
    scope: ClassVar = Scope.NODES
    events: ClassVar = frozenset((ClusterEvent.NODE_ADDED,))

    def applies(self, snapshot: Snapshot, template: Template, memory: Memory) -> bool:
        return bool(template.spec.get("nodeName"))

    def filter(self, snapshot: Snapshot, template: Template, rows: Rows, memory: Memory) -> Sequence[Failure]:
        wanted = template.spec["nodeName"]
        mask = snapshot.column(NAME_FIELD).table(lambda name: name != wanted, absent=True)
        return [Failure("node(s) didn't match the requested node name", mask[rows], unresolvable=True)]
