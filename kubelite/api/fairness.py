"""Priority and fairness: which flow a request belongs to, and how many of a priority level run at once.

A FlowSchema classifies a request (the first that matches, by precedence), its PriorityLevelConfiguration has a share of
the server's seats. When the seats are taken, a request waits in its flow's queue; queues take turns, so one flow can't
starve another; a full queue or a wait beyond the limit gets 429 with Retry-After.

Simpler than upstream on purpose: no seat borrowing, no shuffle sharding (a queue for each flow while it waits), and a
request is one seat wide.

Source: KEP-1040, apiserver pkg/util/flowcontrol, v0.34.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from kubelite.api.requests import RequestInfo
from kubelite.meta.errors import TooManyRequests
from kubelite.meta.types import Obj
from kubelite.meta.users import SERVICE_ACCOUNT_PREFIX, User

#: Seats of the whole server (upstream: 400 read-only and 200 mutating).
TOTAL_SEATS = 600
MAX_WAIT_S = 15.0
MAX_FLOWS_QUEUED = 256
RETRY_AFTER_S = 1


@dataclass(slots=True, eq=False)
class Level:
    """One priority level: its seats and who waits for one."""

    name: str
    uid: str = ""
    exempt: bool = False
    seats: int = 1
    rejects: bool = False
    queue_limit: int = 50
    executing: int = 0
    waiting: "OrderedDict[str, deque[asyncio.Future[None]]]" = field(default_factory=OrderedDict)

    def release(self) -> None:
        """Gives a seat back, or on to the next flow in turn."""
        while self.waiting:
            flow, queue = self.waiting.popitem(last=False)
            while queue:
                future = queue.popleft()
                if not future.done():
                    if queue:
                        self.waiting[flow] = queue
                    future.set_result(None)
                    return
        self.executing -= 1

    async def wait(self, flow: str) -> None:
        """Waits for a seat. Raises TooManyRequests."""
        if self.rejects or (flow not in self.waiting and len(self.waiting) >= MAX_FLOWS_QUEUED):
            raise too_many()
        queue = self.waiting.setdefault(flow, deque())
        if len(queue) >= self.queue_limit:
            raise too_many()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(future)
        try:
            async with asyncio.timeout(MAX_WAIT_S):
                await future
        except TimeoutError as e:
            raise too_many() from e
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.release()
            raise
        finally:
            if not queue and self.waiting.get(flow) is queue:
                del self.waiting[flow]

    def statistics(self) -> dict[str, int]:
        return {"executing": self.executing, "seats": self.seats, "waiting": sum(map(len, self.waiting.values()))}


def too_many() -> TooManyRequests:
    return TooManyRequests("too many requests, please try again later", retry_after_s=RETRY_AFTER_S)


@dataclass(slots=True, eq=False)
class Flow:
    """What a FlowSchema makes of a request: its level, and the head lines that say so."""

    name: str
    level: Level
    headers: bytes
    distinguisher: str

    def queue_of(self, user: User, info: RequestInfo) -> str:
        """The queue in which a request waits: one for each user or namespace, as the schema says."""
        who = {"ByUser": user.name, "ByNamespace": info.namespace}.get(self.distinguisher, "")
        return f"{self.name}/{who}"


@dataclass(slots=True)
class _Schema:
    precedence: int
    name: str
    flow: Flow
    rules: list[Obj]


class Fairness:
    """Compiled from FlowSchema and PriorityLevelConfiguration objects; until there are any, everything is exempt."""

    def __init__(self, total_seats: int = TOTAL_SEATS) -> None:
        self._total = total_seats
        self._levels: dict[str, Level] = {}
        self._schemas: list[_Schema] = []
        self._cache: dict[tuple[Any, ...], Flow] = {}
        self._everything = Flow("exempt", Level("exempt", exempt=True), b"", "")

    def configure(self, schemas: Iterable[Obj], levels: Iterable[Obj]) -> None:
        """Takes the objects as they are now. What runs or waits keeps its level object, by name."""
        levels = list(levels)
        shares = {}
        for obj in levels:
            spec = obj.get("spec") or {}
            part = spec.get("exempt" if spec.get("type") == "Exempt" else "limited") or {}
            value = part.get("nominalConcurrencyShares")
            shares[obj["metadata"]["name"]] = 30 if value is None and spec.get("type") != "Exempt" else (value or 0)
        total = sum(shares.values()) or 1
        found: dict[str, Level] = {}
        for obj in levels:
            name = obj["metadata"]["name"]
            spec = obj.get("spec") or {}
            level = self._levels.get(name) or Level(name)
            level.uid = obj["metadata"].get("uid", "")
            level.exempt = spec.get("type") == "Exempt"
            level.seats = max(1, -(-self._total * shares[name] // total))
            response = (spec.get("limited") or {}).get("limitResponse") or {}
            level.rejects = response.get("type") == "Reject"
            level.queue_limit = (response.get("queuing") or {}).get("queueLengthLimit") or 50
            found[name] = level
        self._levels = found
        compiled = []
        for obj in schemas:
            spec = obj.get("spec") or {}
            target = found.get((spec.get("priorityLevelConfiguration") or {}).get("name", ""))
            if target is None:
                continue
            name, uid = obj["metadata"]["name"], obj["metadata"].get("uid", "")
            headers = f"X-Kubernetes-Pf-Flowschema-Uid: {uid}\r\nX-Kubernetes-Pf-Prioritylevel-Uid: {target.uid}\r\n"
            flow = Flow(name, target, headers.encode(), (spec.get("distinguisherMethod") or {}).get("type", ""))
            compiled.append(_Schema(spec.get("matchingPrecedence", 1000), name, flow, spec.get("rules") or []))
        compiled.sort(key=lambda s: (s.precedence, s.name))
        self._schemas = compiled
        self._cache.clear()

    def classify(self, user: User, info: RequestInfo) -> Flow:
        key = (
            user.name,
            user.groups,
            info.verb,
            info.group,
            info.resource,
            info.subresource,
            info.namespace if info.is_resource else info.path,
        )
        flow = self._cache.get(key)
        if flow is None:
            if len(self._cache) > 4096:
                self._cache.clear()
            flow = next((s.flow for s in self._schemas if _matches(s.rules, user, info)), self._everything)
            self._cache[key] = flow
        return flow

    async def seat(self, flow: Flow, user: User, info: RequestInfo) -> Level | None:
        """Takes a seat, waiting where none is free. The caller releases it. None: exempt."""
        level = flow.level
        if level.exempt:
            return None
        if level.executing < level.seats:
            level.executing += 1
            return level
        await level.wait(flow.queue_of(user, info))
        return level

    def statistics(self) -> dict[str, dict[str, int]]:
        return {name: level.statistics() for name, level in self._levels.items()}


def _matches(rules: list[Obj], user: User, info: RequestInfo) -> bool:
    for rule in rules:
        if not any(_is_subject(s, user) for s in rule.get("subjects") or ()):
            continue
        if info.is_resource:
            if any(_matches_resource(r, info) for r in rule.get("resourceRules") or ()):
                return True
        elif any(_matches_path(r, info) for r in rule.get("nonResourceRules") or ()):
            return True
    return False


def _is_subject(subject: Obj, user: User) -> bool:
    kind = subject.get("kind")
    if kind == "User":
        name = (subject.get("user") or {}).get("name")
        return name in ("*", user.name)
    if kind == "Group":
        name = (subject.get("group") or {}).get("name")
        return name == "*" or name in user.groups
    account = subject.get("serviceAccount") or {}
    prefix = f"{SERVICE_ACCOUNT_PREFIX}{account.get('namespace', '')}:"
    return user.name.startswith(prefix) and account.get("name") in ("*", user.name.removeprefix(prefix))


def _matches_resource(rule: Obj, info: RequestInfo) -> bool:
    resource = f"{info.resource}/{info.subresource}" if info.subresource else info.resource
    if not (
        _has(rule.get("verbs"), info.verb) and _has(rule.get("apiGroups"), info.group) and _has(rule.get("resources"), resource)
    ):
        return False
    return _has(rule.get("namespaces"), info.namespace) if info.namespace else bool(rule.get("clusterScope"))


def _matches_path(rule: Obj, info: RequestInfo) -> bool:
    if not _has(rule.get("verbs"), info.verb):
        return False
    return any(
        p in ("*", info.path) or (p.endswith("/*") and info.path.startswith(p[:-1])) for p in rule.get("nonResourceURLs") or ()
    )


def _has(allowed: list[str] | None, value: str) -> bool:
    return allowed is not None and ("*" in allowed or value in allowed)
