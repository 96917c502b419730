"""NodeResourcesFit and NodeResourcesBalancedAllocation: what pods request and nodes have left.

Scores are not cut to whole numbers as Kubernetes cuts them: fewer nodes are then equal, and small pods spread better.
Source: plugins/noderesources (fit.go, least_allocated.go, balanced_allocation.go), v1.34.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from kubelite.scheduler.framework import MAX_SCORE, ClusterEvent, Failure, Memory, Rows, Scope
from kubelite.scheduler.snapshot import Floats, Ints, Mask, Snapshot
from kubelite.scheduler.templates import Template


def _used_share(offered: Ints, used: Ints) -> Floats:
    """At most 1; 1 too for what a node doesn't have."""
    result: Floats = np.minimum(np.maximum(used, 1) / np.maximum(offered, 1), 1.0)
    return result


def _free_share(offered: Ints, used: Ints) -> Floats:
    return 1.0 - _used_share(offered, used)


class NodeResourcesFit:
    """Filters by requests; scores nodes with more left higher (LeastAllocated over CPU and memory)."""

    name: ClassVar = "NodeResourcesFit"
    scope: ClassVar = Scope.ROW
    events: ClassVar = frozenset(
        (ClusterEvent.NODE_ADDED, ClusterEvent.NODE_ALLOCATABLE, ClusterEvent.POD_REMOVED, ClusterEvent.POD_CHANGED)
    )
    weight: ClassVar = 1.0

    def applies(self, snapshot: Snapshot, template: Template, memory: Memory) -> bool:
        return True

    def filter(self, snapshot: Snapshot, template: Template, rows: Rows, memory: Memory) -> Sequence[Failure]:
        failures = []
        offered = snapshot.allocatable["pods"][rows]
        full = snapshot.requested["pods"][rows] + 1 > offered
        if full.any():
            failures.append(Failure("Too many pods", full))
        for name, wanted in template.requests.items():
            if name not in snapshot.allocatable:
                lacking = np.ones(len(offered), np.bool_)
                failures.append(Failure(f"Insufficient {name}", lacking, unresolvable=True))
                continue
            total = snapshot.allocatable[name][rows]
            lacking = wanted > total - snapshot.requested[name][rows]
            if lacking.any():
                failures.append(Failure(f"Insufficient {name}", lacking, unresolvable=wanted > total))
        return failures

    def score(self, snapshot: Snapshot, template: Template, rows: Rows, memory: Memory) -> Floats:
        cpu, memory_bytes = snapshot.allocatable["cpu"][rows], snapshot.allocatable["memory"][rows]
        total = _free_share(cpu, snapshot.compared_cpu[rows] + template.compared_cpu)
        total += _free_share(memory_bytes, snapshot.compared_memory[rows] + template.compared_memory)
        total *= MAX_SCORE / 2
        # A resource that a node doesn't have doesn't count.
        lacking = (cpu == 0) ^ (memory_bytes == 0)
        if lacking.any():
            total[lacking] *= 2
        return total

    def normalize(self, scores: Floats, feasible: Mask) -> Floats:
        return scores


class BalancedAllocation:
    """Scores nodes higher whose CPU and memory would be used alike."""

    name: ClassVar = "NodeResourcesBalancedAllocation"
    scope: ClassVar = Scope.ROW
    weight: ClassVar = 1.0

    def applies(self, snapshot: Snapshot, template: Template, memory: Memory) -> bool:
        return "cpu" in template.requests or "memory" in template.requests

    def score(self, snapshot: Snapshot, template: Template, rows: Rows, memory: Memory) -> Floats:
        cpu, memory_bytes = snapshot.allocatable["cpu"][rows], snapshot.allocatable["memory"][rows]
        difference = _used_share(cpu, snapshot.requested["cpu"][rows] + template.requests.get("cpu", 0))
        difference -= _used_share(memory_bytes, snapshot.requested["memory"][rows] + template.requests.get("memory", 0))
        missing = (cpu == 0) | (memory_bytes == 0)
        if missing.any():
            difference[missing] = 0.0
        result: Floats = MAX_SCORE - MAX_SCORE / 2 * np.abs(difference)
        return result

    def normalize(self, scores: Floats, feasible: Mask) -> Floats:
        return scores
