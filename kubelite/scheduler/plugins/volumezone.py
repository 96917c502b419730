"""VolumeZone: a volume whose labels say in which zones or regions it is can be used on nodes there.

Source: plugins/volumezone, v1.34.
"""

from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np

from kubelite.meta.types import Obj
from kubelite.scheduler.framework import Change, ClusterEvent, Failure, Memory, Refusal, Rows, Scope
from kubelite.scheduler.plugins.volumebinding import uses
from kubelite.scheduler.snapshot import Snapshot
from kubelite.scheduler.templates import Template
from kubelite.scheduler.volumes import Volumes, class_of

NO_ZONE = "node(s) had no available volume zone"
#: The labels, and the current name of each.
LABELS = {
    "failure-domain.beta.kubernetes.io/zone": "topology.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region": "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone": "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region": "topology.kubernetes.io/region",
}


class VolumeZone:
    """Of scope NODES like VolumeBinding."""

    name: ClassVar = "VolumeZone"
    scope: ClassVar = Scope.NODES
    events: ClassVar = frozenset(
        (
            ClusterEvent.NODE_ADDED,
            ClusterEvent.NODE_LABELS,
            ClusterEvent.CLAIM,
            ClusterEvent.VOLUME,
            ClusterEvent.STORAGE_CLASS,
        )
    )

    def __init__(self, volumes: Volumes) -> None:
        self._volumes = volumes

    def pre_filter(self, snapshot: Snapshot, template: Template) -> None:
        for claim in self._claims(template) if template.claims else ():
            name = claim["spec"].get("volumeName")
            if name and name not in self._volumes.volumes:
                raise Refusal(self.name, f'persistentvolume "{name}" not found')
            if not name and not self._volumes.waits(claim):
                without = "PersistentVolumeClaim had no pv name and storageClass name"
                raise Refusal(self.name, "PersistentVolume had no name" if class_of(claim) else without)

    def applies(self, snapshot: Snapshot, template: Template, memory: Memory) -> bool:
        return bool(template.claims) and any(zones(volume) for volume in self._bound(template))

    def filter(self, snapshot: Snapshot, template: Template, rows: Rows, memory: Memory) -> Sequence[Failure]:
        restricted, wrong = np.zeros(snapshot.size, np.bool_), np.zeros(snapshot.size, np.bool_)
        for label in LABELS:
            restricted |= snapshot.column(label).ids >= 0
        for volume in self._bound(template):
            for label, allowed in zones(volume).items():
                column, current = snapshot.column(label), snapshot.column(LABELS[label])
                inside = np.where(
                    column.ids >= 0, column.table(allowed.__contains__, False), current.table(allowed.__contains__, False)
                )
                wrong |= ~inside
        # A node without any such label is in a cluster without zones.
        return [Failure(NO_ZONE, (restricted & wrong)[rows], unresolvable=True)]

    def helps(self, change: Change, template: Template) -> bool:
        old, new = change.old, change.new
        match change.event:
            case ClusterEvent.CLAIM:
                return new is not None and uses(template, new)
            case ClusterEvent.VOLUME:
                return new is not None and (old is None or zones(old) != zones(new))
            case ClusterEvent.STORAGE_CLASS:
                return new is not None and old is None and new.get("volumeBindingMode") == "WaitForFirstConsumer"
            case _:
                return True

    def _claims(self, template: Template) -> Iterator[Obj]:
        """Those that pods share; the claims of ephemeral volumes are not looked at."""
        for use in template.claims:
            claim = self._volumes.claims.get((template.namespace, use.name))
            if claim is not None and use.owner is None:
                yield claim

    def _bound(self, template: Template) -> Iterator[Obj]:
        for claim in self._claims(template):
            volume = self._volumes.volumes.get(claim["spec"].get("volumeName") or "")
            if volume is not None:
                yield volume


def zones(volume: Obj) -> dict[str, set[str]]:
    """The zones and regions in which a volume is, by label; several are joined by two underscores."""
    labels = volume["metadata"].get("labels") or {}
    found = {}
    for label in LABELS:
        values = {value.strip() for value in labels[label].split("__")} if label in labels else set()
        if values and "" not in values:
            found[label] = values
    return found
