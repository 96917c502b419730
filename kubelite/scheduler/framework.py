"""The scheduling framework: what a plugin is, in which order plugins run, and what is remembered for a template.

A filter plugin says which nodes fail and why, as masks over all rows; a score plugin gives a vector over all rows. A plugin's
`scope` says what its answer depends on, and so how long it holds:

- NODES: on what nodes are (labels, taints, ...): worked out once for a template until a node changes;
- ROW: on the node of a row and the pods there: only rows that changed are worked out again;
- CLUSTER: on pods anywhere: worked out for each decision.

Points and names are those of the Kubernetes scheduling framework: pre-filter, filter, score and normalize score. Post-filter
is preemption, bind is the scheduler's own.

Scores are the whole numbers that Kubernetes works with: only so are the same nodes equal. A plugin that can tell equal nodes
apart may add a fraction (MAX_FRACTION at most), which decides where Kubernetes takes any of them.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from kubelite.scheduler.snapshot import Floats, Mask, Snapshot
from kubelite.scheduler.templates import Template

#: Every row, or the numbers of some.
Rows = slice | np.ndarray[Any, np.dtype[np.int64]]
ALL = slice(None)

MAX_SCORE = 100.0
#: What a plugin may add to a whole score. All plugins together stay below 1.
MAX_FRACTION = 0.1


class Scope(Enum):
    NODES = "nodes"
    ROW = "row"
    CLUSTER = "cluster"


class ClusterEvent(Enum):
    """What may make a pod schedulable that was not. Each comes with what was (`old`) and what is (`new`), as far as there is
    either: nodes and volumes as objects, pods as PodInfo."""

    NODE_ADDED = "node added"
    NODE_REMOVED = "node removed"
    NODE_LABELS = "node labels"
    NODE_TAINTS = "node taints"
    NODE_ALLOCATABLE = "node allocatable"
    POD_ASSIGNED = "pod assigned"
    POD_CHANGED = "assigned pod changed"
    POD_REMOVED = "assigned pod removed"
    NAMESPACE = "namespace labels"
    CLAIM = "persistent volume claim"
    VOLUME = "persistent volume"
    STORAGE_CLASS = "storage class"
    CSI_NODE = "CSI node"
    CSI_DRIVER = "CSI driver"
    CSI_CAPACITY = "CSI storage capacity"
    VOLUME_DETACHED = "volume attachment removed"


@dataclass(frozen=True, slots=True)
class Change:
    """An event and what it is about."""

    event: ClusterEvent
    old: Any = None
    new: Any = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Rows (of those asked for) that fail for one reason. `unresolvable`: removing pods would not help."""

    reason: str
    mask: Mask
    unresolvable: Mask | bool = False


class Refusal(Exception):
    """A pod that fits nowhere, whatever the nodes are: its pre-filter failed."""

    def __init__(self, plugin: str, message: str) -> None:
        super().__init__(message)
        self.plugin, self.message = plugin, message


class Memory(dict[Any, Any]):
    """What plugins remember for one template: each under its own name, or tuples that begin with it."""

    #: The rows that passed every filter, for scores of scope CLUSTER.
    feasible: Mask


@runtime_checkable
class Filter(Protocol):
    name: ClassVar[str]
    scope: ClassVar[Scope]
    #: After which events a pod that this plugin refused is worth another try.
    events: ClassVar[frozenset[ClusterEvent]]

    def applies(self, snapshot: Snapshot, template: Template, memory: Memory) -> bool:
        """Whether it could fail any node; asked before every use, so it must be quick."""
        ...

    def filter(self, snapshot: Snapshot, template: Template, rows: Rows, memory: Memory) -> Sequence[Failure]:
        """The rows of `rows` that fail."""
        ...


@runtime_checkable
class PreFilter(Protocol):
    """What a filter plugin has where pods can fit nowhere, whatever the nodes are."""

    name: ClassVar[str]

    def pre_filter(self, snapshot: Snapshot, template: Template) -> None:
        """Asked before every decision, in the plugins' order. Raises Refusal."""
        ...


@runtime_checkable
class Hinting(Protocol):
    """What a filter plugin has that can tell which of its events may help a pod; without it all do."""

    name: ClassVar[str]

    def helps(self, change: Change, template: Template) -> bool:
        """Whether a pod of the template, which the plugin refused, may fit now. Where in doubt it does."""
        ...


@runtime_checkable
class Score(Protocol):
    name: ClassVar[str]
    scope: ClassVar[Scope]
    weight: ClassVar[float]

    def applies(self, snapshot: Snapshot, template: Template, memory: Memory) -> bool: ...

    def score(self, snapshot: Snapshot, template: Template, rows: Rows, memory: Memory) -> Floats:
        """Of scope ROW, the score itself: `normalize` changes nothing."""
        ...

    def normalize(self, scores: Floats, feasible: Mask) -> Floats:
        """Scores over all rows, brought to 0 (worst) to 100 among the feasible ones; whole numbers."""
        ...


@dataclass(slots=True)
class State:
    """What is remembered for a template: filters of the nodes, filters and scores of the rows, each with how far they hold."""

    memory: Memory = field(default_factory=Memory)
    nodes_version: int = -1
    #: Rows that pass all plugins of scope NODES.
    nodes_pass: Mask = field(default_factory=lambda: np.zeros(0, np.bool_))
    #: Scores of plugins of scope NODES before normalizing; those that give all nodes the same are left out.
    node_scores: list[tuple[Score, Floats]] = field(default_factory=list)
    position: int = -1
    #: Rows that pass all plugins of scope ROW, and the weighted sum of their scores.
    rows_pass: Mask = field(default_factory=lambda: np.zeros(0, np.bool_))
    row_scores: Floats = field(default_factory=lambda: np.zeros(0, np.float64))


class Framework:
    """The plugins in their order, and the states of the templates in use."""

    def __init__(self, filters: Sequence[Filter], scores: Sequence[Score], *, max_states: int = 256) -> None:
        self.filters = tuple(filters)
        self.scores = tuple(scores)
        self.pre_filters = tuple(f for f in filters if isinstance(f, PreFilter))
        self.cluster_filters = tuple(f for f in filters if f.scope is Scope.CLUSTER)
        self.cluster_scores = tuple(s for s in scores if s.scope is Scope.CLUSTER)
        self._states: OrderedDict[Template, State] = OrderedDict()
        self._max_states = max_states
        self._interested = {event: tuple(f for f in filters if event in f.events) for event in ClusterEvent}

    def interested(self, event: ClusterEvent) -> Sequence[Filter]:
        """The plugins whose refusals an event may turn."""
        return self._interested[event]

    def active(self, snapshot: Snapshot, template: Template, memory: Memory) -> list[Filter]:
        """The filters that could fail a node for the template as things are."""
        return [plugin for plugin in self.filters if plugin.applies(snapshot, template, memory)]

    def state(self, snapshot: Snapshot, template: Template) -> State:
        """The template's state, brought up to date with the snapshot. Raises Refusal."""
        for plugin in self.pre_filters:
            plugin.pre_filter(snapshot, template)
        state = self._states.get(template)
        if state is None:
            state = self._states[template] = State()
            if len(self._states) > self._max_states:
                self._states.popitem(last=False)
        else:
            self._states.move_to_end(template)
        if state.nodes_version != snapshot.nodes_version:
            self._update_nodes(snapshot, template, state)
        if state.position != snapshot.position:
            self._update_rows(snapshot, template, state)
        return state

    def forget(self, affected: Callable[[Template], bool]) -> None:
        """Something that plugins look at beside nodes and pods has changed for some templates."""
        for template in [template for template in self._states if affected(template)]:
            del self._states[template]

    def _update_nodes(self, snapshot: Snapshot, template: Template, state: State) -> None:
        passing = snapshot.alive.copy()
        for plugin in self.filters:
            if plugin.scope is Scope.NODES and plugin.applies(snapshot, template, state.memory):
                for failure in plugin.filter(snapshot, template, ALL, state.memory):
                    passing &= ~failure.mask
        state.nodes_pass = passing
        state.node_scores = []
        for score in self.scores:
            if score.scope is Scope.NODES and score.applies(snapshot, template, state.memory):
                vector = score.score(snapshot, template, ALL, state.memory)
                alive = vector[snapshot.alive]
                if alive.size and alive.min() != alive.max():
                    state.node_scores.append((score, vector))
        state.nodes_version = snapshot.nodes_version

    def _update_rows(self, snapshot: Snapshot, template: Template, state: State) -> None:
        changed = None if state.position < 0 else snapshot.changed_since(state.position)
        rows: Rows = ALL if changed is None else _as_rows(set(changed))
        if changed is None:
            state.rows_pass = np.ones(snapshot.size, np.bool_)
            state.row_scores = np.zeros(snapshot.size, np.float64)
        passing = np.ones(len(state.rows_pass[rows]), np.bool_)
        for plugin in self.filters:
            if plugin.scope is Scope.ROW and plugin.applies(snapshot, template, state.memory):
                for failure in plugin.filter(snapshot, template, rows, state.memory):
                    passing &= ~failure.mask
        total = np.zeros(len(passing), np.float64)
        for score in self.scores:
            if score.scope is Scope.ROW and score.applies(snapshot, template, state.memory):
                total += score.weight * score.score(snapshot, template, rows, state.memory)
        state.rows_pass[rows] = passing
        state.row_scores[rows] = total
        state.position = snapshot.position


def _as_rows(numbers: set[int]) -> Rows:
    """One row, the common case between two decisions, is a slice: NumPy takes a view of it instead of a copy."""
    if len(numbers) == 1:
        (number,) = numbers
        return slice(number, number + 1)
    return np.array(sorted(numbers), np.int64)
