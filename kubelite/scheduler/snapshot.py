"""What the scheduler knows of the cluster, in columns: a row a node, an array a property.

Nodes come and go in rows that are used again; `alive` says which rows are nodes. Pods are counted into their node's row when
they are added (bound, or assumed: chosen by us and not yet confirmed) and taken out when they are removed; nothing is summed
up again. Three numbers tell readers what changed: `nodes_version` (what nodes are and offer), `version` (anything), and the
list of rows that changed (`changed_since`), so that what was worked out for a template is mended instead of made anew.

Pure: no clock, no I/O. Plugins read it; only the scheduler's event handlers and preemption's trials change it.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from kubelite.meta.types import Obj
from kubelite.scheduler import resources
from kubelite.scheduler.templates import Template
from kubelite.scheduler.terms import AffinityTerm, PodMatcher
from kubelite.scheduler.usage import Usage

Mask = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

#: The resources that every node has a column of; others get one when a node offers or a pod requests them.
RESOURCES = ("cpu", "memory", "ephemeral-storage", "pods")

#: (key, value, effect)
Taint = tuple[str, str, str]


def taints_of(node: Obj) -> tuple[Taint, ...]:
    return tuple((t["key"], t.get("value") or "", t["effect"]) for t in (node.get("spec") or {}).get("taints") or ())


@dataclass(eq=False, slots=True)
class PodInfo:
    """A pod as the snapshot keeps it."""

    uid: str
    name: str
    template: Template
    priority: int
    terminating: bool
    obj: Obj

    @property
    def namespace(self) -> str:
        return self.template.namespace

    @property
    def key(self) -> str:
        return f"{self.template.namespace}/{self.name}"


class LabelColumn:
    """One label key over all nodes: the number of each node's value, -1 where it has no such label."""

    __slots__ = ("ids", "numbers", "values")

    def __init__(self, size: int) -> None:
        self.ids = np.full(size, -1, np.int64)
        self.values: list[str] = []
        self.numbers: dict[str, int] = {}

    def put(self, row: int, value: str | None) -> None:
        if value is None:
            self.ids[row] = -1
            return
        number = self.numbers.get(value)
        if number is None:
            number = self.numbers[value] = len(self.values)
            self.values.append(value)
        self.ids[row] = number

    def table(self, test: Callable[[str], bool], absent: bool) -> Mask:
        """For each node whether its value passes; the test runs once a value, not once a node."""
        passed = np.fromiter((*map(test, self.values), absent), np.bool_, len(self.values) + 1)
        result: Mask = passed[self.ids]  # -1, no such label, is the last one
        return result

    def totals(self, counts: Ints, where: Mask | None = None) -> Ints:
        """The sum of `counts` over the nodes of each value; one more at the end, for no value, is 0."""
        summed = np.bincount(self.ids + 1, weights=counts if where is None else counts * where, minlength=len(self.values) + 1)
        totals = np.empty(len(summed), np.int64)
        totals[:-1] = summed[1:]
        totals[-1] = 0
        return totals

    def present(self, where: Mask) -> Mask:
        """Which values there are among some nodes; one more at the end for no value, False."""
        found = np.bincount(self.ids + 1, weights=where, minlength=len(self.values) + 1)
        result = np.empty(len(found), np.bool_)
        result[:-1] = found[1:] > 0
        result[-1] = False
        return result


class Counter:
    """How many pods on each node fit a description. Kept by the snapshot as pods come and go."""

    __slots__ = ("counts", "total")

    def __init__(self, size: int) -> None:
        self.counts: Ints = np.zeros(size, np.int64)
        self.total = 0

    def add(self, row: int, amount: int) -> None:
        self.counts[row] += amount
        self.total += amount


@dataclass(slots=True)
class Image:
    """An image that nodes have: its size, as the first node told it, and the nodes' rows."""

    size_bytes: int
    rows: set[int] = field(default_factory=set)


#: Pods that look the same to every matcher: (namespace, labels, being deleted).
_Look = tuple[str, frozenset[tuple[str, str]], bool]


class Snapshot:
    def __init__(self, size: int = 64) -> None:
        self.size = size
        self.rows: dict[str, int] = {}
        self.names: list[str] = [""] * size
        self.nodes: list[Obj | None] = [None] * size
        self.alive: Mask = np.zeros(size, np.bool_)
        self.unschedulable: Mask = np.zeros(size, np.bool_)
        self.allocatable: dict[str, Ints] = {name: np.zeros(size, np.int64) for name in RESOURCES}
        self.requested: dict[str, Ints] = {name: np.zeros(size, np.int64) for name in self.allocatable}
        self.compared_cpu: Ints = np.zeros(size, np.int64)
        self.compared_memory: Ints = np.zeros(size, np.int64)
        self.taint_ids = np.zeros(size, np.int64)
        self.taint_sets: list[tuple[Taint, ...]] = [()]
        self._taint_numbers: dict[tuple[Taint, ...], int] = {(): 0}
        self._columns: dict[str, LabelColumn] = {}
        self._free = list(range(size - 1, -1, -1))

        self.pods: list[dict[str, PodInfo]] = [{} for _ in range(size)]
        #: How many pods on nodes have which priority.
        self._priorities: dict[int, int] = {}
        self._where: dict[str, tuple[str, PodInfo]] = {}
        #: Pods of nodes that we don't know (yet, or any more), by node.
        self._orphans: dict[str, dict[str, PodInfo]] = {}
        self.usage = Usage()
        self.images: dict[str, Image] = {}
        self.namespaces: dict[str, dict[str, str]] = {}

        self._matchers: dict[PodMatcher | tuple[PodMatcher, ...], Counter] = {}
        self._matching: dict[_Look, list[Counter]] = {}
        self._carriers: dict[AffinityTerm, Counter] = {}
        self._weighted: dict[tuple[AffinityTerm, int], Counter] = {}

        self.version = 0
        self.nodes_version = 0
        #: Grows when other terms than before may match a template.
        self.terms_version = 0
        self._changes: list[int] = []
        self._changes_base = 0

    # Changes

    def _changed(self, row: int) -> None:
        self.version += 1
        self._changes.append(row)
        if len(self._changes) > 65536:
            self._changes_base += 32768
            del self._changes[:32768]

    @property
    def position(self) -> int:
        """Where `changed_since` is to go on."""
        return self._changes_base + len(self._changes)

    def changed_since(self, position: int) -> list[int] | None:
        """The rows that changed after a position; None where that is all of them, or too long ago to tell."""
        first = position - self._changes_base
        if first < 0 or len(self._changes) - first > self.size // 4 + 1:
            return None
        return self._changes[first:]

    # Nodes

    def put_node(self, node: Obj) -> frozenset[str]:
        """Adds or changes a node. Returns what changed: of `added`, `labels`, `taints`, `allocatable`."""
        name = node["metadata"]["name"]
        row = self.rows.get(name)
        if row is None:
            row = self._take_row(name)
            self._fill(row, node, None)
            for info in self._orphans.pop(name, {}).values():
                self._count(row, info, 1)
            self.nodes_version += 1
            self._changed(row)
            return frozenset(("added", "labels", "taints", "allocatable"))
        old = self.nodes[row]
        assert old is not None
        changes = set()
        if (old["metadata"].get("labels") or {}) != (node["metadata"].get("labels") or {}):
            changes.add("labels")
        old_spec, spec = old.get("spec") or {}, node.get("spec") or {}
        if old_spec.get("taints") != spec.get("taints") or old_spec.get("unschedulable") != spec.get("unschedulable"):
            changes.add("taints")
        old_status, status = old.get("status") or {}, node.get("status") or {}
        if old_status.get("allocatable") != status.get("allocatable"):
            changes.add("allocatable")
        images_changed = old_status.get("images") != status.get("images")
        self.nodes[row] = node
        if changes or images_changed:
            self._fill(row, node, old)
            self.nodes_version += 1
            self._changed(row)
        return frozenset(changes)

    def remove_node(self, name: str) -> None:
        row = self.rows.pop(name, None)
        if row is None:
            return
        self.alive[row] = False
        leftover = self.pods[row]
        for info in leftover.values():
            self._count(row, info, -1, keep=True)
        if leftover:
            self._orphans[name] = dict(leftover)
            leftover.clear()
        for column in self._columns.values():
            column.put(row, None)
        for arrays in (self.allocatable, self.requested):
            for array in arrays.values():
                array[row] = 0
        self._put_images(row, None, self.nodes[row])
        self.names[row] = ""
        self.nodes[row] = None
        self._free.append(row)
        self.nodes_version += 1
        self._changed(row)

    def _take_row(self, name: str) -> int:
        if not self._free:
            self._grow()
        row = self._free.pop()
        self.rows[name] = row
        self.names[row] = name
        self.alive[row] = True
        return row

    def _fill(self, row: int, node: Obj, old: Obj | None) -> None:
        labels = node["metadata"].get("labels") or {}
        for key, column in self._columns.items():
            column.put(row, self._label(node, labels, key))
        self.nodes[row] = node
        spec, status = node.get("spec") or {}, node.get("status") or {}
        self.unschedulable[row] = bool(spec.get("unschedulable"))
        taints = taints_of(node)
        number = self._taint_numbers.get(taints)
        if number is None:
            number = self._taint_numbers[taints] = len(self.taint_sets)
            self.taint_sets.append(taints)
        self.taint_ids[row] = number
        offered = resources.amounts(status.get("allocatable") or status.get("capacity"))
        for name in offered:
            self._resource(name)
        for name, array in self.allocatable.items():
            array[row] = offered.get(name, 0)
        self._put_images(row, status, (old or {}).get("status"))

    def _put_images(self, row: int, status: Obj | None, old: Obj | None) -> None:
        for image in (old or {}).get("images") or ():
            for name in image.get("names") or ():
                known = self.images.get(name)
                if known is not None:
                    known.rows.discard(row)
                    if not known.rows:
                        del self.images[name]
        for image in (status or {}).get("images") or ():
            for name in image.get("names") or ():
                self.images.setdefault(name, Image(image.get("sizeBytes", 0))).rows.add(row)

    def _resource(self, name: str) -> Ints:
        """The requested amounts of a resource over all nodes."""
        if name not in self.requested:
            self.requested[name] = np.zeros(self.size, np.int64)
            self.allocatable[name] = np.zeros(self.size, np.int64)
        return self.requested[name]

    def _grow(self) -> None:
        more = max(64, self.size // 4)

        def longer(array: npt.NDArray[Any], value: Any = 0) -> npt.NDArray[Any]:
            return np.concatenate([array, np.full(more, value, array.dtype)])

        for name in ("alive", "unschedulable", "compared_cpu", "compared_memory", "taint_ids"):
            setattr(self, name, longer(getattr(self, name)))
        for arrays in (self.allocatable, self.requested):
            for name in arrays:
                arrays[name] = longer(arrays[name])
        for column in self._columns.values():
            column.ids = longer(column.ids, -1)
        for counters in (self._matchers, self._carriers, self._weighted):
            for counter in counters.values():
                counter.counts = longer(counter.counts)
        self.names += [""] * more
        self.nodes += [None] * more
        self.pods += [{} for _ in range(more)]
        self._free += range(self.size + more - 1, self.size - 1, -1)
        self.size += more
        self._changes_base += len(self._changes) + 1  # every row's arrays are new
        self._changes.clear()

    @staticmethod
    def _label(node: Obj, labels: dict[str, str], key: str) -> str | None:
        return node["metadata"]["name"] if key == NAME_FIELD else labels.get(key)

    def column(self, key: str) -> LabelColumn:
        """The column of a label key, made when it is first asked for."""
        column = self._columns.get(key)
        if column is None:
            column = self._columns[key] = LabelColumn(self.size)
            for row in self.rows.values():
                node = self.nodes[row]
                assert node is not None
                column.put(row, self._label(node, node["metadata"].get("labels") or {}, key))
        return column

    def where(self, name: str) -> Mask:
        """The node of a name alone. Without a column of names, of which a cluster of DaemonSets asks for each."""
        mask = np.zeros(self.size, np.bool_)
        if name in self.rows:
            mask[self.rows[name]] = True
        return mask

    @property
    def node_count(self) -> int:
        return len(self.rows)

    # Pods

    def add_pod(self, node_name: str, info: PodInfo) -> None:
        """Counts a pod into its node. One that is there already moves."""
        if info.uid in self._where:
            self.remove_pod(info.uid)
        self._where[info.uid] = node_name, info
        row = self.rows.get(node_name)
        if row is None:
            self._orphans.setdefault(node_name, {})[info.uid] = info
            return
        self._count(row, info, 1)
        self._changed(row)

    def remove_pod(self, uid: str) -> PodInfo | None:
        found = self._where.pop(uid, None)
        if found is None:
            return None
        node_name, info = found
        row = self.rows.get(node_name)
        if row is None:
            strangers = self._orphans.get(node_name, {})
            strangers.pop(uid, None)
            if not strangers:
                self._orphans.pop(node_name, None)
            return info
        self._count(row, info, -1)
        self._changed(row)
        return info

    @contextlib.contextmanager
    def with_pods(self, by_node: Mapping[str, Iterable[PodInfo]]) -> Iterator[None]:
        """For a trial: as if these pods, which are on no node, were on these."""
        placed = [(node, info) for node, infos in by_node.items() for info in infos]
        for node, info in placed:
            self.add_pod(node, info)
        try:
            yield
        finally:
            for _, info in placed:
                self.remove_pod(info.uid)

    def pod(self, uid: str) -> PodInfo | None:
        found = self._where.get(uid)
        return found[1] if found else None

    def node_of(self, uid: str) -> str:
        found = self._where.get(uid)
        return found[0] if found else ""

    @property
    def pod_count(self) -> int:
        return len(self._where)

    @property
    def least_priority(self) -> int:
        """Of the pods on nodes; of none, a priority that no pod has."""
        return min(self._priorities, default=2**31)

    def _count(self, row: int, info: PodInfo, sign: int, *, keep: bool = False) -> None:
        template = info.template
        count = self._priorities.get(info.priority, 0) + sign
        if count:
            self._priorities[info.priority] = count
        else:
            del self._priorities[info.priority]
        if sign > 0:
            self.pods[row][info.uid] = info
        elif not keep:
            del self.pods[row][info.uid]
        self.requested["pods"][row] += sign
        for name, amount in template.requests.items():
            self._resource(name)[row] += sign * amount
        cpu, memory = template.counted
        self.compared_cpu[row] += sign * cpu
        self.compared_memory[row] += sign * memory
        if template.host_ports or template.claims or template.disks:
            self.usage.count(row, template, sign)
        for counter in self._counters_of(info):
            counter.add(row, sign)
        terms = template.terms
        if terms:
            for term in terms.required_anti_affinity:
                self._counter(self._carriers, term).add(row, sign)
            for term in terms.required_affinity:
                self._counter(self._weighted, (term, 0)).add(row, sign)
            for weighted in terms.preferred:
                self._counter(self._weighted, (weighted.term, weighted.weight)).add(row, sign)

    def _counter(self, counters: dict[Any, Counter], key: object) -> Counter:
        counter = counters.get(key)
        if counter is None:
            if len(counters) >= MAX_COUNTERS:
                for gone in [k for k, c in counters.items() if not c.total]:
                    del counters[gone]
            counter = counters[key] = Counter(self.size)
            self.terms_version += 1
        return counter

    # Who matches whom

    def _counters_of(self, info: PodInfo) -> list[Counter]:
        if not self._matchers:
            return []
        look: _Look = info.template.namespace, frozenset(info.template.labels.items()), info.terminating
        counters = self._matching.get(look)
        if counters is None:
            counters = [counter for key, counter in self._matchers.items() if self._matches(key, info)]
            if len(self._matching) >= 65536:
                self._matching.clear()
            self._matching[look] = counters
        return counters

    def _matches(self, key: PodMatcher | tuple[PodMatcher, ...], info: PodInfo) -> bool:
        namespace, labels = info.template.namespace, info.template.labels
        matchers = key if isinstance(key, tuple) else (key,)
        namespace_labels = self.namespaces.get(namespace, {})
        return all(m.matches(namespace, namespace_labels, labels, info.terminating) for m in matchers)

    def counter(self, *matchers: PodMatcher) -> Counter:
        """How many pods on each node match, all matchers where there are several. Counted once, then kept up to date."""
        key = matchers[0] if len(matchers) == 1 else matchers
        counter = self._matchers.get(key)
        if counter is None:
            if len(self._matchers) >= MAX_COUNTERS:  # of templates long gone, mostly; those in use are counted again
                self.forget_counters()
            counter = self._matchers[key] = Counter(self.size)
            self._matching.clear()
            verdicts: dict[tuple[int, bool], bool] = {}
            for row in self.rows.values():
                for info in self.pods[row].values():
                    look = id(info.template), info.terminating
                    if look not in verdicts:
                        verdicts[look] = self._matches(key, info)
                    if verdicts[look]:
                        counter.add(row, 1)
        return counter

    def forget_counters(self) -> None:
        """What matches has changed (a namespace's labels): count again when asked."""
        self._matchers.clear()
        self._matching.clear()
        self.version += 1
        self.terms_version += 1

    def carriers_against(self, template: Template) -> Iterable[tuple[AffinityTerm, Counter]]:
        """The required anti-affinity terms of existing pods that match the template, and how many pods a node carry them.
        Holds for one `terms_version`; terms that nobody carries are among them."""
        for term, counter in self._carriers.items():
            if self._term_matches(term, template):
                yield term, counter

    def carriers_for(self, template: Template) -> Iterable[tuple[AffinityTerm, int, Counter]]:
        """The same for terms that make a node better or worse, with their weight; 0 for required affinity."""
        for (term, weight), counter in self._weighted.items():
            if self._term_matches(term, template):
                yield term, weight, counter

    def _term_matches(self, term: AffinityTerm, template: Template) -> bool:
        namespace = template.namespace
        return term.matcher.matches(namespace, self.namespaces.get(namespace, {}), template.labels, False)

    # Namespaces

    def put_namespace(self, name: str, labels: dict[str, str] | None) -> bool:
        """Notes a namespace's labels, None when it is gone. Returns whether they changed."""
        if self.namespaces.get(name) == labels:
            return False
        if labels is None:
            self.namespaces.pop(name, None)
        else:
            self.namespaces[name] = labels
        self.forget_counters()
        return True


#: The "label" under which a node's name can be selected (matchFields).
NAME_FIELD = "metadata.name\0"
MAX_COUNTERS = 4096
