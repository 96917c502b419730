"""Counters of requests, and their exposition in Prometheus' text format.

Counting is on every request's path, so it is a dict lookup and a few additions; the text is made when somebody scrapes.
Labels come only from the table of kinds and from fixed sets, never from what a client sent (else a client could grow them
without bound).
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping

from kubelite.api.requests import Request

BUCKETS_S = (0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0)

#: Further numbers of a part: name without prefix -> value.
Source = Callable[[], Mapping[str, int | float]]


class _Series:
    __slots__ = ("buckets", "count", "total_s")

    def __init__(self) -> None:
        self.count = 0
        self.total_s = 0.0
        self.buckets = [0] * (len(BUCKETS_S) + 1)


class Metrics:
    def __init__(self) -> None:
        self._requests: dict[tuple[str, str, str, str, str, int], _Series] = {}
        self._sources: dict[str, Source] = {}
        self.long_running = 0
        self.inflight = 0

    def add_source(self, prefix: str, source: Source) -> None:
        """Exposes a part's `statistics()` as gauges named PREFIX_KEY."""
        self._sources[prefix] = source

    def observe(self, request: Request, duration_s: float) -> None:
        info = request.info
        kind = request.kind
        if kind is not None:
            sub = info.subresource if info.subresource in kind.subresources else ""
            key = (info.verb.upper(), kind.group, kind.version, kind.plural, sub, request.status)
        else:
            key = (info.verb.upper() if len(info.verb) < 10 else "OTHER", "", "", "", "", request.status)
        series = self._requests.get(key)
        if series is None:
            series = self._requests[key] = _Series()
        series.count += 1
        series.total_s += duration_s
        series.buckets[bisect_left(BUCKETS_S, duration_s)] += 1

    def exposition(self) -> bytes:
        lines = [
            "# HELP apiserver_request_total Requests by verb, resource and code.",
            "# TYPE apiserver_request_total counter",
        ]
        for (verb, group, version, resource, sub, code), series in self._requests.items():
            labels = _labels(verb, group, version, resource, sub)
            lines.append(f'apiserver_request_total{{code="{code}",{labels}}} {series.count}')
        lines += [
            "# HELP apiserver_request_duration_seconds Seconds from the request's head to the reply.",
            "# TYPE apiserver_request_duration_seconds histogram",
        ]
        for key, series in self._merged().items():
            labels = _labels(*key)
            running = 0
            for bound, count in zip((*BUCKETS_S, "+Inf"), series.buckets, strict=True):
                running += count
                lines.append(f'apiserver_request_duration_seconds_bucket{{{labels},le="{bound}"}} {running}')
            lines.append(f"apiserver_request_duration_seconds_sum{{{labels}}} {series.total_s}")
            lines.append(f"apiserver_request_duration_seconds_count{{{labels}}} {series.count}")
        lines.append("# TYPE apiserver_current_inflight_requests gauge")
        lines.append(f"apiserver_current_inflight_requests {self.inflight}")
        lines.append("# TYPE apiserver_longrunning_requests gauge")
        lines.append(f"apiserver_longrunning_requests {self.long_running}")
        for prefix, source in self._sources.items():
            for name, value in source().items():
                lines += [f"# TYPE {prefix}_{name} gauge", f"{prefix}_{name} {value}"]
        lines += _process_lines()
        return ("\n".join(lines) + "\n").encode()

    def _merged(self) -> dict[tuple[str, str, str, str, str], _Series]:
        merged: dict[tuple[str, str, str, str, str], _Series] = {}
        for key, series in self._requests.items():
            into = merged.setdefault(key[:5], _Series())
            into.count += series.count
            into.total_s += series.total_s
            into.buckets = [a + b for a, b in zip(into.buckets, series.buckets, strict=True)]
        return merged


def _labels(verb: str, group: str, version: str, resource: str, sub: str) -> str:
    return f'verb="{verb}",group="{group}",version="{version}",resource="{resource}",subresource="{sub}"'


def _process_lines() -> list[str]:
    import os
    import resource

    usage = resource.getrusage(resource.RUSAGE_SELF)
    with open("/proc/self/statm", encoding="ascii") as file:
        pages = int(file.read().split()[1])
    return [
        "# TYPE process_cpu_seconds_total counter",
        f"process_cpu_seconds_total {usage.ru_utime + usage.ru_stime}",
        "# TYPE process_resident_memory_bytes gauge",
        f"process_resident_memory_bytes {pages * os.sysconf('SC_PAGE_SIZE')}",
    ]
