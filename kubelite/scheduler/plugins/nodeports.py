"""NodePorts: two pods can't have the same host port on a node, unless on different addresses of it."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from kubelite.scheduler.framework import Change, ClusterEvent, Failure, Memory, Rows, Scope
from kubelite.scheduler.snapshot import Snapshot
from kubelite.scheduler.templates import Template

EVERY_ADDRESS = "0.0.0.0"


class NodePorts:
    name: ClassVar = "NodePorts"
    scope: ClassVar = Scope.ROW
    events: ClassVar = frozenset((ClusterEvent.NODE_ADDED, ClusterEvent.POD_REMOVED))

    def applies(self, snapshot: Snapshot, template: Template, memory: Memory) -> bool:
        return bool(template.host_ports)

    def filter(self, snapshot: Snapshot, template: Template, rows: Rows, memory: Memory) -> Sequence[Failure]:
        taken = np.zeros(snapshot.size, np.bool_)
        for protocol, port, wanted in template.host_ports:
            for row, addresses in snapshot.usage.ports.get((protocol, port), {}).items():
                taken[row] |= any(_collide(wanted, address) for address in addresses)
        return [Failure("node(s) didn't have free ports for the requested pod ports", taken[rows])]

    def helps(self, change: Change, template: Template) -> bool:
        if change.event is not ClusterEvent.POD_REMOVED:
            return True
        return any(
            (protocol, port) == (of, freed) and _collide(wanted, address)
            for protocol, port, wanted in template.host_ports
            for of, freed, address in change.old.template.host_ports
        )


def _collide(address: str, other: str) -> bool:
    return address == other or EVERY_ADDRESS in (address, other)
