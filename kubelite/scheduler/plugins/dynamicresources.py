"""DynamicResources: allocating devices to pods is not done here, so a pod that asks for some is held back, and told why."""

from collections.abc import Sequence
from typing import ClassVar

from kubelite.scheduler.framework import ClusterEvent, Failure, Memory, Refusal, Rows, Scope
from kubelite.scheduler.snapshot import Snapshot
from kubelite.scheduler.templates import Template

NOT_ALLOCATED = "pod has resource claims, for which this scheduler allocates no devices"


class DynamicResources:
    name: ClassVar = "DynamicResources"
    scope: ClassVar = Scope.NODES
    events: ClassVar[frozenset[ClusterEvent]] = frozenset()

    def pre_filter(self, snapshot: Snapshot, template: Template) -> None:
        if template.spec.get("resourceClaims"):
            raise Refusal(self.name, NOT_ALLOCATED)

    def applies(self, snapshot: Snapshot, template: Template, memory: Memory) -> bool:
        return False

    def filter(self, snapshot: Snapshot, template: Template, rows: Rows, memory: Memory) -> Sequence[Failure]:
        return []
