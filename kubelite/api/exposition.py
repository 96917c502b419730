"""Metrics in Prometheus' text format. A module of its own, since the library it needs loads when somebody first scrapes."""

from collections.abc import Iterable
from itertools import accumulate

from prometheus_client import GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from kubelite.api.metrics import BUCKETS_S, Family, Histogram, Labels

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4.encode()
_BOUNDS = (*map(str, BUCKETS_S), "+Inf")

#: The process's own numbers: processor time, memory, open files, the garbage collector's.
_process = CollectorRegistry()
for _collector in (ProcessCollector, PlatformCollector, GCCollector):
    _collector(registry=_process)


class _Taken(Collector):
    """Metrics that were read before, on the event loop, where nothing changes meanwhile."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = [*metrics]

    def collect(self) -> list[Metric]:
        return self._metrics


def taken(families: Iterable[Family], durations: Iterable[tuple[Labels, Histogram]] = ()) -> CollectorRegistry:
    """What metrics are at this moment."""
    registry = CollectorRegistry()
    registry.register(_Taken([*map(_simple, families), *([_durations(durations)] if durations else [])]))
    return registry


def text(registry: CollectorRegistry, *, process: bool = False) -> bytes:
    """The text of what was taken, with `process` of the process too. Takes a while: for a thread."""
    return generate_latest(registry) + (generate_latest(_process) if process else b"")


def _simple(family: Family) -> Metric:
    made = (CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily)(family.name, family.help)
    suffix = "_total" if family.kind == "counter" else ""
    for labels, value in family.samples:
        made.add_sample(family.name + suffix, dict(labels), value)
    return made


def _durations(series: Iterable[tuple[Labels, Histogram]]) -> Metric:
    made = HistogramMetricFamily("apiserver_request_duration_seconds", "Seconds from the request's head to the reply.")
    for labels, histogram in series:
        for bound, count in zip(_BOUNDS, accumulate(histogram.buckets), strict=True):
            made.add_sample(f"{made.name}_bucket", {**labels, "le": bound}, count)
        made.add_sample(f"{made.name}_count", dict(labels), histogram.count)
        made.add_sample(f"{made.name}_sum", dict(labels), histogram.total_s)
    return made
