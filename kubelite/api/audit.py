"""The audit log: who did what, as JSON lines of audit.k8s.io Events at level Metadata, so never an object's data.

Logged is every write, every read of what may be secret, every stream into a container, and whatever was refused or failed.
Other reads are not: they are nearly all there is, and they change nothing.

Lines are gathered in memory and written by a thread twice a second; when more wait than the bound, requests are not held
up: the lines are dropped and counted, and the log says how many.
"""

import asyncio
import os
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import structlog

from kubelite.meta import times

if TYPE_CHECKING:
    from kubelite.api.requests import Request, RequestInfo
    from kubelite.meta.users import User

log = structlog.get_logger(__name__)

#: The request that a task is answering, for those deep inside who have something to add to its audit event.
current: "ContextVar[Request | None]" = ContextVar("current_request", default=None)


def annotate(key: str, value: str) -> None:
    """Adds an annotation to the audit event of the request under way; nowhere where there is none."""
    request = current.get()
    if request is not None:
        if request.audit_annotations is None:
            request.audit_annotations = {}
        request.audit_annotations[key] = value


MAX_WAITING = 20_000
MAX_FILE_BYTES = 100 * 1024 * 1024
FLUSH_S = 0.5
_READS = frozenset(("get", "list", "watch"))
_SENSITIVE = frozenset(("secrets", "configmaps", "tokenreviews"))


def _object_ref(info: "RequestInfo") -> bytes:
    reference = {
        "resource": info.resource,
        "namespace": info.namespace,
        "name": info.name,
        "apiGroup": info.group,
        "apiVersion": info.version,
        "subresource": info.subresource,
    }
    return b'"objectRef":%b,' % orjson.dumps({key: value for key, value in reference.items() if value})


class AuditLog:
    """Appends to a file of mode 0600, which is rotated once (`.1`) when it has grown too large."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: list[bytes] = []
        self._users: dict[str, tuple[User, bytes]] = {}
        self._second = 0
        self._second_text = b""
        self._dropped = 0

    def record(self, request: "Request", duration_s: float) -> None:
        """Notes a request that has been answered, if it is one that is logged."""
        info = request.info
        if request.status < 400 and info.verb in _READS and info.resource not in _SENSITIVE and not info.subresource:
            return
        if len(self._waiting) >= MAX_WAITING:
            self._dropped += 1
            return
        now = times.clock()
        user, impersonator = request.user, request.impersonator
        uri = request.raw_path + ("?" + request.query_text if request.query_text else "")
        annotations = request.audit_annotations
        # Written by hand: a dict of it all, dumped, costs three times as much on every write's path.
        self._waiting.append(
            b'{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":%b,"stage":"ResponseComplete",'
            b'"requestURI":%b,"verb":%b,"user":%b,%b"sourceIPs":[%b],"userAgent":%b,%b"responseStatus":{"metadata":{},"code":%d},'
            b'"requestReceivedTimestamp":"%b","stageTimestamp":"%b"%b}\n'
            % (
                orjson.dumps(request.id),
                orjson.dumps(uri),
                orjson.dumps(info.verb),
                self._user_of(impersonator or user),
                b'"impersonatedUser":%b,' % self._user_of(user) if impersonator else b"",
                orjson.dumps(request.connection.remote),
                orjson.dumps(request.headers.get("User-Agent", "")),
                _object_ref(info) if info.is_resource else b"",
                request.status,
                self._time(now - duration_s),
                self._time(now),
                b',"annotations":' + orjson.dumps(annotations) if annotations else b"",
            )
        )

    def _user_of(self, user: "User") -> bytes:
        found = self._users.get(user.name)
        if found is None or found[0] != user:
            if len(self._users) > 1024:
                self._users.clear()
            info = {"username": user.name, "uid": user.uid, "groups": list(user.groups), "extra": user.extra}
            found = self._users[user.name] = user, orjson.dumps({key: value for key, value in info.items() if value})
        return found[1]

    def _time(self, moment: float) -> bytes:
        second = int(moment)
        if second != self._second:
            self._second = second
            self._second_text = times.format_time(second).encode()[:-1]
        return b"%b.%06dZ" % (self._second_text, int((moment - second) * 1e6))

    async def run(self) -> None:
        try:
            while True:
                await asyncio.sleep(FLUSH_S)
                if self._dropped:
                    log.warning("audit_events_dropped", count=self._dropped, limit=MAX_WAITING)
                    self._dropped = 0
                if self._waiting:
                    await asyncio.to_thread(self._write, self._take())
        finally:
            await asyncio.to_thread(self._write, self._take())

    def _take(self) -> bytes:
        data = b"".join(self._waiting)
        self._waiting.clear()
        return data

    def _write(self, data: bytes) -> None:
        if not data:
            return
        try:
            if self._path.exists() and self._path.stat().st_size > MAX_FILE_BYTES:
                os.replace(self._path, self._path.with_name(self._path.name + ".1"))
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
        except OSError as e:
            log.error("audit_log_not_written", path=str(self._path), error=str(e))
