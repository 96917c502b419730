"""What is counted of requests, and the numbers of the other parts beside it; `exposition` makes Prometheus' text of them.

Counting is on every request's path, so it is a dict lookup and a few additions; all else is done when somebody scrapes.
Labels come only from the table of kinds and from fixed sets, never from what a client sent (else a client could grow them
without bound).

Source: apiserver pkg/endpoints/metrics/metrics.go (names, labels and buckets), v0.34.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from kubelite.api.requests import Request

BUCKETS_S = (0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0)

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Family:
    """A metric: its name without suffixes, and a value for each set of labels."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    samples: Iterable[tuple[Labels, float]]


@dataclass(slots=True)
class Histogram:
    """How many observations fell below each bound of BUCKETS_S (one more for those above all), and their sum."""

    count: int = 0
    total_s: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))


#: The metrics of a part, at the moment of the call.
Source = Callable[[], Iterable[Family]]

#: (verb, group, version, resource, subresource, scope, code)
_Key = tuple[str, str, str, str, str, str, int]
_LABELS = ("verb", "group", "version", "resource", "subresource", "scope")


class Metrics:
    def __init__(self) -> None:
        self._requests: dict[_Key, Histogram] = {}
        self._sources: list[Source] = []
        #: Requests under way: that read, that may change something, and streams.
        self.underway = {"readOnly": 0, "mutating": 0, "longRunning": 0}

    def add_source(self, source: Source) -> None:
        self._sources.append(source)

    def observe(self, request: Request, duration_s: float) -> None:
        info, kind = request.info, request.kind
        if kind is not None:
            sub = info.subresource if info.subresource in kind.subresources else ""
            scope = "resource" if info.name else "namespace" if info.namespace else "cluster"
            key = (info.verb.upper(), kind.group, kind.version, kind.plural, sub, scope, request.status)
        else:
            key = (info.verb.upper() if len(info.verb) < 10 else "OTHER", "", "", "", "", "", request.status)
        series = self._requests.get(key)
        if series is None:
            series = self._requests[key] = Histogram()
        series.count += 1
        series.total_s += duration_s
        series.buckets[bisect_left(BUCKETS_S, duration_s)] += 1

    def families(self) -> Iterator[Family]:
        totals = [({"code": str(code), **_labels(key)}, series.count) for (*key, code), series in self._requests.items()]
        yield Family("apiserver_request", "counter", "Requests by verb, resource and code.", totals)
        inflight = [({"request_kind": sort}, self.underway[sort]) for sort in ("readOnly", "mutating")]
        yield Family("apiserver_current_inflight_requests", "gauge", "Requests under way that are not streams.", inflight)
        yield Family("apiserver_longrunning_requests", "gauge", "Streams under way.", [({}, self.underway["longRunning"])])
        for source in self._sources:
            yield from source()

    def durations(self) -> list[tuple[Labels, Histogram]]:
        """Seconds from a request's head to its reply, of all codes together."""
        merged: dict[tuple[object, ...], Histogram] = {}
        for (*key, _), series in self._requests.items():
            into = merged.setdefault(tuple(key), Histogram())
            into.count += series.count
            into.total_s += series.total_s
            into.buckets = [a + b for a, b in zip(into.buckets, series.buckets, strict=True)]
        return [(_labels(key), series) for key, series in merged.items()]


def _labels(key: Iterable[object]) -> dict[str, str]:
    return {"component": "apiserver", **dict(zip(_LABELS, map(str, key), strict=True))}
