"""NodeVolumeLimits: a node can have so many volumes of a CSI driver, as its CSINode says.

What Kubernetes counts of in-tree sources as volumes of the drivers that took their place is not counted here.
Source: plugins/nodevolumelimits/csi.go, v1.34.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from kubelite.scheduler.framework import Change, ClusterEvent, Failure, Memory, Rows, Scope
from kubelite.scheduler.plugins.volumebinding import uses
from kubelite.scheduler.snapshot import Snapshot
from kubelite.scheduler.templates import Template
from kubelite.scheduler.volumes import Handle, Volumes, limits_of

EXCEEDED = "node(s) exceed max volume count"


class NodeVolumeLimits:
    """Of scope ROW although claims and limits count too: the scheduler has all states forgotten when one of those changes."""

    name: ClassVar = "NodeVolumeLimits"
    scope: ClassVar = Scope.ROW
    events: ClassVar = frozenset(
        (ClusterEvent.CSI_NODE, ClusterEvent.POD_REMOVED, ClusterEvent.CLAIM, ClusterEvent.VOLUME_DETACHED)
    )

    def __init__(self, volumes: Volumes) -> None:
        self._volumes = volumes

    def applies(self, snapshot: Snapshot, template: Template, memory: Memory) -> bool:
        return bool(template.claims) and bool(self._volumes.limits)

    def filter(self, snapshot: Snapshot, template: Template, rows: Rows, memory: Memory) -> Sequence[Failure]:
        wanted: dict[str, set[Handle]] = {}
        for claim in self._volumes.of_template(template):
            handle = self._volumes.handle_of(claim)
            if handle is not None:
                wanted.setdefault(handle[0], set()).add(handle)
        asked = np.zeros(snapshot.size, np.bool_)
        asked[rows] = True
        full = np.zeros(snapshot.size, np.bool_)
        for driver, handles in wanted.items():
            for node, limit in self._volumes.limits.get(driver, {}).items():
                row = snapshot.rows.get(node)
                if row is not None and asked[row]:
                    used = self._used(snapshot, row, driver)
                    new = len(handles - used)
                    full[row] |= new > 0 and len(used.union(self._volumes.attached(node, driver))) + new > limit
        return [Failure(EXCEEDED, full[rows])]

    def _used(self, snapshot: Snapshot, row: int, driver: str) -> set[Handle]:
        """The driver's volumes that the pods of a node use."""
        found = set()
        for key in snapshot.usage.claims.get(row, ()):
            claim = self._volumes.claims.get(key)
            handle = None if claim is None else self._volumes.handle_of(claim)
            if handle is not None and handle[0] == driver:
                found.add(handle)
        return found

    def helps(self, change: Change, template: Template) -> bool:
        match change.event:
            case ClusterEvent.CSI_NODE:
                before = limits_of(change.old)
                more = any(limit > before.get(driver, 0) for driver, limit in limits_of(change.new).items())
                return more or (change.old is None and change.new is not None)
            case ClusterEvent.POD_REMOVED:
                return bool(change.old.template.claims)
            case ClusterEvent.CLAIM:
                return change.new is not None and uses(template, change.new)
            case _:
                return bool(template.claims)
