"""NodeResourcesFit and NodeResourcesBalancedAllocation: what pods request and nodes have left.

Both tell nodes apart that are equal in whole numbers, by what the whole numbers leave out: small pods spread then, too.
Source: plugins/noderesources (fit.go, least_allocated.go, balanced_allocation.go), v1.34.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from kubelite.meta.types import Obj
from kubelite.scheduler import resources
from kubelite.scheduler.framework import MAX_FRACTION, MAX_SCORE, Change, ClusterEvent, Failure, Memory, Rows, Scope
from kubelite.scheduler.snapshot import Floats, Ints, Mask, Snapshot
from kubelite.scheduler.templates import Template


def _free(offered: Ints, used: Ints) -> Ints:
    """What is left, none of what a node doesn't have or has given away twice."""
    result: Ints = np.maximum(offered - used, 0)
    return result


def _used_share(offered: Ints, used: Ints) -> Floats:
    """At most 1; 0 of what a node doesn't have."""
    result: Floats = np.minimum(used / np.maximum(offered, 1), 1.0)
    return result


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

    def helps(self, change: Change, template: Template) -> bool:
        wanted = template.requests
        match change.event:
            case ClusterEvent.POD_REMOVED:
                return True
            case ClusterEvent.POD_CHANGED:
                before, after = change.old.template.requests, change.new.template.requests
                return any(before.get(name, 0) > after.get(name, 0) for name in wanted)
            case _:
                before = _offered(change.old)
                after = _offered(change.new)
                fits = after.get("pods", 0) >= 1 and all(amount <= after.get(name, 0) for name, amount in wanted.items())
                return fits and any(after.get(name, 0) > before.get(name, 0) for name in ("pods", *wanted))

    def score(self, snapshot: Snapshot, template: Template, rows: Rows, memory: Memory) -> Floats:
        cpu, memory_bytes = snapshot.allocatable["cpu"][rows], snapshot.allocatable["memory"][rows]
        free_cpu = _free(cpu, snapshot.compared_cpu[rows] + template.compared[0])
        free_memory = _free(memory_bytes, snapshot.compared_memory[rows] + template.compared[1])
        cpu, memory_bytes = np.maximum(cpu, 1), np.maximum(memory_bytes, 1)
        whole = free_cpu * 100 // cpu + free_memory * 100 // memory_bytes
        total: Floats = (whole // 2) + (free_cpu / cpu + free_memory / memory_bytes) * (MAX_FRACTION / 2)
        # A resource that a node doesn't have doesn't count.
        lacking = (snapshot.allocatable["cpu"][rows] == 0) ^ (snapshot.allocatable["memory"][rows] == 0)
        if lacking.any():
            total[lacking] = whole[lacking]
        return total

    def normalize(self, scores: Floats, feasible: Mask) -> Floats:
        return scores


def _offered(node: Obj | None) -> resources.Amounts:
    return resources.amounts(((node or {}).get("status") or {}).get("allocatable"))


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
        balance = 1 - np.abs(difference / 2)
        result: Floats = np.floor(balance * MAX_SCORE) + balance * (MAX_FRACTION / 2)
        return result

    def normalize(self, scores: Floats, feasible: Mask) -> Floats:
        return scores
