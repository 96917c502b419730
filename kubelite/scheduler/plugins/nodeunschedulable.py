"""NodeUnschedulable: cordoned nodes take only pods that tolerate it."""

from collections.abc import Sequence
from typing import ClassVar

from kubelite.scheduler.framework import Change, ClusterEvent, Failure, Memory, Rows, Scope
from kubelite.scheduler.plugins.tainttoleration import tolerates
from kubelite.scheduler.snapshot import Snapshot
from kubelite.scheduler.templates import Template

TAINT = ("node.kubernetes.io/unschedulable", "", "NoSchedule")


class NodeUnschedulable:
    name: ClassVar = "NodeUnschedulable"
    scope: ClassVar = Scope.NODES
    events: ClassVar = frozenset((ClusterEvent.NODE_ADDED, ClusterEvent.NODE_TAINTS))

    def applies(self, snapshot: Snapshot, template: Template, memory: Memory) -> bool:
        return bool(snapshot.unschedulable.any()) and not tolerates(template.tolerations, TAINT)

    def filter(self, snapshot: Snapshot, template: Template, rows: Rows, memory: Memory) -> Sequence[Failure]:
        return [Failure("node(s) were unschedulable", snapshot.unschedulable[rows], unresolvable=True)]

    def helps(self, change: Change, template: Template) -> bool:
        was = change.old is None or bool((change.old.get("spec") or {}).get("unschedulable"))
        return was and not (change.new.get("spec") or {}).get("unschedulable")
