"""EventRateLimit: no namespace floods the store with events.

A token bucket for each namespace and one for the server; on by default here, where Kubernetes needs a configuration.

Source: plugin/pkg/admission/eventratelimit.
"""

import time
from collections import OrderedDict
from collections.abc import Callable

from kubelite.meta import errors
from kubelite.registry.contract import Attributes, Operation
from kubelite.schema.kinds import Kind

_KEPT_BUCKETS = 4096


class _Bucket:
    __slots__ = ("at", "tokens")

    def __init__(self, tokens: float, at: float) -> None:
        self.tokens, self.at = tokens, at


class EventRateLimit:
    name = "EventRateLimit"

    def __init__(
        self,
        *,
        server_per_s: float = 5000,
        namespace_per_s: float = 1000,
        burst_s: float = 5,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = {"Server": server_per_s, "Namespace": namespace_per_s}
        self._burst_s = burst_s
        self._clock = clock
        self._buckets: OrderedDict[tuple[str, str], _Bucket] = OrderedDict()

    def handles(self, operation: Operation, kind: Kind, subresource: str) -> bool:
        return operation in ("CREATE", "UPDATE") and kind.group_resource in ("events", "events.events.k8s.io")

    async def validate(self, attributes: Attributes) -> None:
        if attributes.dry_run:
            return
        now = self._clock()
        for kind, key in (("Server", ""), ("Namespace", attributes.target.namespace)):
            if not self._take(kind, key, now):
                text = f"limit reached on type {kind} for key {key}"
                raise errors.TooManyRequests(text, group=attributes.target.kind.group, kind="events", retry_after_s=1)

    def _take(self, kind: str, key: str, now: float) -> bool:
        rate = self._limits[kind]
        full = rate * self._burst_s
        bucket = self._buckets.get((kind, key))
        if bucket is None:
            bucket = self._buckets[kind, key] = _Bucket(full, now)
            if len(self._buckets) > _KEPT_BUCKETS:
                self._buckets.popitem(last=False)
        else:
            bucket.tokens = min(full, bucket.tokens + (now - bucket.at) * rate)
            bucket.at = now
            self._buckets.move_to_end((kind, key))
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True
