"""Which numbers of which part are which metric. Parts know nothing of Prometheus: they have `statistics()`.

Source: component-base metrics/prometheus/workqueue, pkg/scheduler/metrics, apiserver pkg/util/flowcontrol/metrics (names), v1.34.
What only kubelite has is named kubelite_*.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from kubelite.api.metrics import Family

if TYPE_CHECKING:
    from kubelite.api.fairness import Fairness
    from kubelite.client.events import EventRecorder
    from kubelite.controllers import Controllers
    from kubelite.nodes.sessions import Nodes
    from kubelite.registry.registry import Registry
    from kubelite.scheduler.scheduler import Scheduler

_STORE = {
    "bytes": "Size of the newest state of all keys.",
    "revision": "The newest readable revision.",
    "compacted_revision": "The revision up to which history is forgotten.",
    "waiting_writes": "Writes that wait for their commit.",
    "writable": "Whether writes are taken: 0 after a commit that failed.",
    "largest_batch": "The most writes that shared a commit.",
    "ring_events": "Events that watches are served from memory.",
    "ring_bytes": "Size of these events.",
    "watches": "Open watches, those of the server's own parts among them.",
    "slowest_watch_lag": "How many revisions the slowest watch is behind.",
}
_STORE_COUNTERS = {
    "writes": "Writes that were committed.",
    "commits": "Commits.",
    "commit_failures": "Commits that failed.",
}
_LEVELS = {
    "current_executing_requests": ("executing", "Requests that hold a seat."),
    "current_inqueue_requests": ("waiting", "Requests that wait for a seat."),
    "nominal_limit_seats": ("seats", "Seats that the level has by its configuration."),
    "current_limit_seats": ("seats", "Seats that the level has now: as many, since none are lent."),
}


def of_registry(registry: "Registry") -> Iterator[Family]:
    """The store's numbers, and how many objects there are of each kind."""
    numbers = registry.store.statistics()
    for name, text in _STORE.items():
        yield Family(f"kubelite_store_{name}", "gauge", text, [({}, numbers[name])])
    for name, text in _STORE_COUNTERS.items():
        yield Family(f"kubelite_store_{name}", "counter", text, [({}, numbers[name])])
    stored = {registry.entries.storage_kind(kind) for kind in registry.kinds}
    objects = [({"resource": kind.group_resource}, registry.store.count(kind.prefix)) for kind in stored]
    yield Family("apiserver_storage_objects", "gauge", "Stored objects by resource.", objects)


def of_fairness(fairness: "Fairness") -> Iterator[Family]:
    levels = fairness.statistics()
    for metric, (name, text) in _LEVELS.items():
        samples = [({"priority_level": level}, numbers[name]) for level, numbers in levels.items()]
        yield Family(f"apiserver_flowcontrol_{metric}", "gauge", text, samples)


def of_controllers(controllers: "Controllers") -> Iterator[Family]:
    queues = controllers.statistics()

    def samples(*names: str) -> list[tuple[Mapping[str, str], float]]:
        return [({"name": queue}, sum(numbers[name] for name in names)) for queue, numbers in queues.items()]

    yield Family("workqueue_depth", "gauge", "Keys that wait to be reconciled.", samples("depth"))
    yield Family("workqueue_adds", "counter", "Keys that were added.", samples("added"))
    yield Family("workqueue_retries", "counter", "Keys that were tried again after a failure.", samples("retried"))
    yield Family("kubelite_workqueue_delayed", "gauge", "Keys that wait for their time.", samples("delayed"))
    yield Family("kubelite_workqueue_processing", "gauge", "Keys that are being reconciled.", samples("processing"))


def of_scheduler(scheduler: "Scheduler") -> Iterator[Family]:
    numbers = scheduler.statistics()
    queues = {place: numbers[f"queue_{place}"] for place in ("active", "backoff", "unschedulable", "gated")}
    pending = [({"queue": place}, count) for place, count in queues.items()]
    yield Family("scheduler_pending_pods", "gauge", "Pods without a node, by where they wait.", pending)
    results = {"scheduled": "scheduled", "unschedulable": "unschedulable", "error": "errors"}
    attempts = [({"result": result, "profile": scheduler.name}, numbers[name]) for result, name in results.items()]
    yield Family("scheduler_schedule_attempts", "counter", "Attempts to place a pod, by result.", attempts)
    yield Family("scheduler_preemption_attempts", "counter", "Preemptions.", [({}, numbers["preemptions"])])
    cache = [({"type": sort}, numbers[sort]) for sort in ("nodes", "pods")]
    cache.append(({"type": "assumed_pods"}, numbers["assumed"]))
    yield Family("scheduler_cache_size", "gauge", "Nodes and pods that the scheduler knows of.", cache)


def of_events(recorders: Mapping[str, "EventRecorder"]) -> Iterator[Family]:
    found = {component: recorder.statistics() for component, recorder in recorders.items()}
    waiting = [({"component": component}, numbers["waiting"]) for component, numbers in found.items()]
    yield Family("kubelite_events_waiting", "gauge", "Events that wait to be written.", waiting)
    dropped = [({"component": component}, numbers["dropped"]) for component, numbers in found.items()]
    yield Family("kubelite_events_dropped", "counter", "Events beyond the limits of their rate.", dropped)


def of_nodes(nodes: "Nodes") -> Iterator[Family]:
    yield Family("kubelite_node_sessions", "gauge", "Nodes that are connected.", [({}, nodes.connected)])
