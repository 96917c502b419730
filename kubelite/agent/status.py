"""What goes up: statuses, events, heartbeats, in the order that they matter, only the newest status of each pod.

A status is kept until its pod is gone: a session that breaks loses nothing, since the next one sends all of them again and the
server writes only what differs. Events are best effort: beyond a bound the oldest are dropped, and the log says how many.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator

import orjson
import structlog

from kubelite.meta.types import Obj
from kubelite.rpc import node_pb2 as pb

log = structlog.get_logger()

EVENT_LIMIT = 1000


class Outbox:
    """Messages that wait for the session to take them."""

    def __init__(self) -> None:
        self._pods: dict[str, pb.FromNode] = {}
        self._unsent: dict[str, None] = {}
        self._node: Obj | None = None
        self._node_unsent = False
        self._events: deque[Obj] = deque(maxlen=EVENT_LIMIT)
        self._others: deque[pb.FromNode] = deque()
        self._wake = asyncio.Event()
        self._dropped_events = 0

    def pod(self, pod: Obj, status: Obj, terminated: bool) -> None:
        meta = pod["metadata"]
        report = pb.PodReport(
            namespace=meta["namespace"],
            name=meta["name"],
            uid=meta["uid"],
            status_json=orjson.dumps(status),
            terminated=terminated,
        )
        self._pods[meta["uid"]] = pb.FromNode(pod=report)
        self._unsent[meta["uid"]] = None
        self._wake.set()

    def forget_pod(self, uid: str) -> None:
        """The API has no such pod any more."""
        self._pods.pop(uid, None)
        self._unsent.pop(uid, None)

    def node(self, node: Obj) -> None:
        self._node, self._node_unsent = node, True
        self._wake.set()

    def event(self, event: Obj) -> None:
        if len(self._events) == EVENT_LIMIT:
            self._dropped_events += 1
        self._events.append(event)
        self._wake.set()

    def heartbeat(self) -> None:
        # One that nobody took says the same as this one.
        if not any(m.WhichOneof("message") == "heartbeat" for m in self._others):
            self.send(pb.FromNode(heartbeat=pb.Heartbeat()))

    def send(self, message: pb.FromNode) -> None:
        self._others.append(message)
        self._wake.set()

    async def stream(self, hello: pb.Hello) -> AsyncGenerator[pb.FromNode, None]:
        """One session's messages: the hello, everything that is current, then what comes up. Never ends by itself."""
        self._unsent = dict.fromkeys(self._pods)
        self._node_unsent = self._node is not None
        self._others.clear()
        yield pb.FromNode(hello=hello)
        while True:
            while (message := self._next()) is not None:
                yield message
            self._wake.clear()
            await self._wake.wait()

    def _next(self) -> pb.FromNode | None:
        if self._node_unsent and self._node is not None:
            self._node_unsent = False
            return pb.FromNode(node=pb.NodeReport(node_json=orjson.dumps(self._node)))
        if self._others:
            return self._others.popleft()
        if self._unsent:
            uid = next(iter(self._unsent))
            del self._unsent[uid]
            return self._pods[uid]
        if self._dropped_events:
            log.warning("events_dropped", count=self._dropped_events, limit=EVENT_LIMIT)
            self._dropped_events = 0
        if self._events:
            return pb.FromNode(event=pb.EventReport(event_json=orjson.dumps(self._events.popleft())))
        return None
