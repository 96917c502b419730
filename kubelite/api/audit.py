"""The audit log: who did what, as JSON lines of audit.k8s.io Events at level Metadata, so never an object's data.

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
from kubelite.meta.types import Obj

if TYPE_CHECKING:
    from kubelite.api.requests import Request

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


class AuditLog:
    """Appends to a file of mode 0600, which is rotated once (`.1`) when it has grown too large."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: list[bytes] = []
        self.dropped = 0

    def record(self, request: "Request", duration_s: float) -> None:
        info, user = request.info, request.user
        now = times.clock()
        event: Obj = {
            "kind": "Event",
            "apiVersion": "audit.k8s.io/v1",
            "level": "Metadata",
            "auditID": request.id,
            "stage": "ResponseComplete",
            "requestURI": request.path + ("?" + request.query_text if request.query_text else ""),
            "verb": info.verb,
            "user": {"username": user.name, "groups": list(user.groups)},
            "sourceIPs": [request.connection.remote],
            "userAgent": request.headers.get("User-Agent", ""),
            "responseStatus": {"metadata": {}, "code": request.status},
            "requestReceivedTimestamp": times.format_micro_time(now - duration_s),
            "stageTimestamp": times.format_micro_time(now),
        }
        if info.is_resource:
            event["objectRef"] = {
                key: value
                for key, value in (
                    ("resource", info.resource),
                    ("namespace", info.namespace),
                    ("name", info.name),
                    ("apiGroup", info.group),
                    ("apiVersion", info.version),
                    ("subresource", info.subresource),
                )
                if value
            }
        if request.audit_annotations:
            event["annotations"] = request.audit_annotations
        if len(self._waiting) >= MAX_WAITING:
            self.dropped += 1
            return
        self._waiting.append(orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE))

    async def run(self) -> None:
        try:
            while True:
                await asyncio.sleep(FLUSH_S)
                if self._waiting:
                    await asyncio.to_thread(self._write, self._take())
        finally:
            self._write(self._take())

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
