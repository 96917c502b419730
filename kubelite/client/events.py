"""Events: what components tell users about objects, as core/v1 Event objects.

`event()` never waits and never fails: it puts the event into a bounded queue, and drops it (counted) where the queue is full.
`run()` writes them. Repeats of one event raise the count of one object instead of making a new one; many alike are merged
into one `(combined from similar events)`; one source may flood about one object only so much.

Source: client-go tools/record/events_cache.go, v0.34 (the key of a repeat, the limits).
"""

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import structlog

from kubelite.client.contract import Client
from kubelite.meta import times
from kubelite.meta.errors import ApiError, NotFound
from kubelite.meta.types import Obj

log = structlog.get_logger()

QUEUE_LIMIT = 4096
BATCH_LIMIT = 64
CACHE_LIMIT = 4096
#: Of events that differ only in their message, none longer than the interval after the last, this one and all after it are one.
SIMILAR_LIMIT = 10
SIMILAR_INTERVAL_S = 600.0
BURST = 25
REFILL_S = 300.0
COMBINED = "(combined from similar events): "
LONGEST_MESSAGE = 1024

EventType = Literal["Normal", "Warning"]
#: The hash of what events have in common. A node's recorder remembers thousands; the texts themselves would take megabytes.
_Key = int


@dataclass(slots=True)
class _Similar:
    """Hashes of messages seen of events that are alike, and when the last was."""

    messages: tuple[int, ...] = ()
    at: float = 0.0


class _Written(NamedTuple):
    """What a repeat needs to know of the event that it repeats."""

    name: str
    namespace: str
    times: int


@dataclass(slots=True)
class _Bucket:
    """How many events one source may still send about one object."""

    tokens: float = BURST
    at: float = 0.0


@dataclass(slots=True)
class _Shared:
    """What the recorders of one `run` share."""

    client: Client
    queue: asyncio.Queue[Obj]
    written: OrderedDict[_Key, _Written] = field(default_factory=OrderedDict)
    similar: OrderedDict[_Key, _Similar] = field(default_factory=OrderedDict)
    buckets: OrderedDict[_Key, _Bucket] = field(default_factory=OrderedDict)
    dropped: int = 0


def reference(obj: Obj, field_path: str = "") -> Obj:
    """An ObjectReference to the object."""
    meta = obj["metadata"]
    found = {"kind": obj.get("kind", ""), "apiVersion": obj.get("apiVersion", ""), "fieldPath": field_path}
    found |= {key: meta.get(key, "") for key in ("namespace", "name", "uid", "resourceVersion")}
    return {key: value for key, value in found.items() if value}


class EventRecorder:
    """Records a component's events. One `run()` serves the recorder and all that `named` made from it."""

    def __init__(self, client: Client, component: str, host: str = "", *, _shared: _Shared | None = None) -> None:
        self._shared = _shared or _Shared(client, asyncio.Queue(QUEUE_LIMIT))
        self._component = component
        self._host = host

    def named(self, component: str) -> "EventRecorder":
        """A recorder for another component over the same queue."""
        return EventRecorder(self._shared.client, component, self._host, _shared=self._shared)

    def event(self, about: Obj, type: EventType, reason: str, message: str, *, field_path: str = "") -> None:
        """Tells of an object, which may also be an ObjectReference (a dict without metadata)."""
        involved = reference(about, field_path) if "metadata" in about else about
        now = times.now()
        namespace = involved.get("namespace") or "default"
        source = {"component": self._component, **({"host": self._host} if self._host else {})}
        event: Obj = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{involved['name']}.{time.time_ns():x}", "namespace": namespace},
            "involvedObject": involved,
            "reason": reason,
            "message": message if len(message) <= LONGEST_MESSAGE else message[: LONGEST_MESSAGE - 3] + "...",
            "source": source,
            "type": type,
            "count": 1,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "reportingComponent": self._component,
            "reportingInstance": self._host,
        }
        try:
            self._shared.queue.put_nowait(event)
        except asyncio.QueueFull:
            self._shared.dropped += 1

    def statistics(self) -> dict[str, int]:
        """Numbers for metrics."""
        return {"waiting": self._shared.queue.qsize(), "dropped": self._shared.dropped, "remembered": len(self._shared.written)}

    async def run(self) -> None:
        """Writes events until cancelled."""
        while True:
            batch = [await self._shared.queue.get()]
            while len(batch) < BATCH_LIMIT and not self._shared.queue.empty():
                batch.append(self._shared.queue.get_nowait())
            await self._write_all(batch)

    async def flush(self) -> None:
        """Writes what is queued now; for a component that is about to stop."""
        batch = []
        while not self._shared.queue.empty():
            batch.append(self._shared.queue.get_nowait())
        await self._write_all(batch)

    async def _write_all(self, events: list[Obj]) -> None:
        """Those about one object one after the other, since repeats build on each other; the objects side by side, since their
        writes then share a commit."""
        by_object: dict[str, list[Obj]] = {}
        for event in events:
            involved = event["involvedObject"]
            by_object.setdefault(involved.get("uid") or involved["name"], []).append(event)
        await asyncio.gather(*map(self._write_in_order, by_object.values()))

    async def _write_in_order(self, events: list[Obj]) -> None:
        for event in events:
            try:
                await self._write(event)
            except ApiError as e:
                # An event about something in a namespace that ends, say. Events are best effort.
                log.debug("event_not_written", reason=event["reason"], about=event["involvedObject"].get("name"), error=e.message)
            except Exception:
                log.exception("event_not_written", reason=event["reason"])

    async def _write(self, event: Obj) -> None:
        shared = self._shared
        if not self._may_send(event):
            shared.dropped += 1
            return
        event, key = self._combine(event)
        known = shared.written.get(key)
        if known is not None:
            patch = {"count": known.times + 1, "lastTimestamp": event["lastTimestamp"], "message": event["message"]}
            try:
                self._remember(key, await shared.client.patch("events", known.name, known.namespace, patch))
                return
            except NotFound:
                pass  # it expired meanwhile; this is a new one
        self._remember(key, await shared.client.create("events", event))

    def _remember(self, key: _Key, event: Obj) -> None:
        written = self._shared.written
        meta = event["metadata"]
        written[key] = _Written(meta["name"], meta["namespace"], event.get("count", 1))
        written.move_to_end(key)
        while len(written) > CACHE_LIMIT:
            written.popitem(last=False)

    def _combine(self, event: Obj) -> tuple[Obj, _Key]:
        """The event as it is to be written and the key that its repeats share."""
        involved = event["involvedObject"]
        common = (
            event["source"]["component"],
            event["source"].get("host", ""),
            involved.get("kind", ""),
            involved.get("namespace", ""),
            involved.get("name", ""),
            involved.get("uid", ""),
            involved.get("apiVersion", ""),
            event["type"],
            event["reason"],
            event["reportingComponent"],
            event["reportingInstance"],
        )
        alike, message = hash(common), hash(event["message"])
        exact = hash((*common, involved.get("fieldPath", ""), event["message"]))
        now = time.monotonic()
        similar = self._shared.similar.setdefault(alike, _Similar(at=now))
        self._shared.similar.move_to_end(alike)
        if len(self._shared.similar) > CACHE_LIMIT:
            self._shared.similar.popitem(last=False)
        if now - similar.at > SIMILAR_INTERVAL_S:
            similar.messages = ()
        similar.at = now
        if message in similar.messages:
            return event, exact
        if len(similar.messages) < SIMILAR_LIMIT - 1:
            similar.messages += (message,)
            return event, exact
        # Who reports is not said of a combined one: so it is in Kubernetes.
        return {**event, "message": COMBINED + event["message"], "reportingComponent": ""}, alike

    def _may_send(self, event: Obj) -> bool:
        involved = event["involvedObject"]
        source = event["source"]
        about = (involved.get(name, "") for name in ("kind", "namespace", "name", "uid", "apiVersion"))
        key = hash((source["component"], source.get("host", ""), *about, event["type"]))
        now = time.monotonic()
        buckets = self._shared.buckets
        bucket = buckets.setdefault(key, _Bucket(at=now))
        buckets.move_to_end(key)
        if len(buckets) > CACHE_LIMIT:
            buckets.popitem(last=False)
        bucket.tokens = min(BURST, bucket.tokens + (now - bucket.at) / REFILL_S)
        bucket.at = now
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True
