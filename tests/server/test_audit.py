"""The audit log of a running server."""

import asyncio
import base64
import json
import ssl
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
import yaml
from structlog.testing import capture_logs

from kubelite.api import audit
from kubelite.api.audit import AuditLog
from kubelite.api.requests import RequestInfo
from kubelite.meta.users import User
from tests.server.test_server import running


@asynccontextmanager
async def session_of(directory: Path) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    """A client of the administrator, and the server's address."""
    config = yaml.safe_load((directory / "kubeconfig").read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    tls = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    pem = directory / "admin.pem"
    pem.write_bytes(base64.b64decode(user["client-certificate-data"]) + base64.b64decode(user["client-key-data"]))
    tls.load_cert_chain(pem)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as session:
        yield session, cluster["server"]


def events(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "audit.log").read_text().splitlines()]


async def test_writes_refusals_and_reads_of_secrets_are_logged_and_never_their_data(tmp_path: Path) -> None:
    async with running(tmp_path, audit_log=True), session_of(tmp_path) as (session, server):
        path = f"{server}/api/v1/namespaces/default"
        body = {"metadata": {"name": "s"}, "stringData": {"password": "never-in-a-log"}}
        await session.post(f"{path}/secrets", json=body)
        await session.get(f"{path}/secrets/s")
        await session.get(f"{path}/pods")
        await session.get(f"{path}/pods/none")
        await session.delete(f"{path}/secrets/s", headers={"Audit-Id": "mine"})
    found = events(tmp_path)
    asked = [(e["verb"], e["objectRef"]["resource"], e["objectRef"].get("name"), e["responseStatus"]["code"]) for e in found]
    assert asked == [
        ("create", "secrets", None, 201),
        ("get", "secrets", "s", 200),
        ("get", "pods", "none", 404),
        ("delete", "secrets", "s", 200),
    ]
    assert {e["user"]["username"] for e in found} == {"kubernetes-admin"}
    assert found[-1]["auditID"] == "mine"
    text = (tmp_path / "audit.log").read_text()
    assert "never-in-a-log" not in text
    assert base64.b64encode(b"never-in-a-log").decode() not in text
    assert stat.S_IMODE((tmp_path / "audit.log").stat().st_mode) == 0o600


async def test_who_acts_as_somebody_else_is_named_beside_them(tmp_path: Path) -> None:
    async with running(tmp_path, audit_log=True), session_of(tmp_path) as (session, server):
        as_jane = {"Impersonate-User": "jane", "Impersonate-Uid": "7", "Impersonate-Extra-Team": "a"}
        await session.get(f"{server}/api/v1/nodes", headers=as_jane)
    (event,) = events(tmp_path)
    assert event["user"]["username"] == "kubernetes-admin"
    assert event["impersonatedUser"] == {
        "username": "jane",
        "uid": "7",
        "groups": ["system:authenticated"],
        "extra": {"team": ["a"]},
    }
    assert event["responseStatus"]["code"] == 403


async def test_what_there_is_no_room_for_is_counted_in_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "MAX_WAITING", 2)
    monkeypatch.setattr(audit, "FLUSH_S", 0.01)
    log = AuditLog(tmp_path / "audit.log")
    request: Any = SimpleNamespace(
        info=RequestInfo("create", "/x"),
        user=User("jane"),
        impersonator=None,
        raw_path="/x",
        query_text="",
        headers={},
        id="1",
        status=201,
        connection=SimpleNamespace(remote="192.0.2.1"),
        audit_annotations=None,
    )
    for _ in range(5):
        log.record(request, 0.1)
    with capture_logs() as lines:
        task = asyncio.create_task(log.run())
        async with asyncio.timeout(10):
            while not lines or len(events(tmp_path) if (tmp_path / "audit.log").exists() else []) < 2:
                await asyncio.sleep(0.01)
        task.cancel()
    assert [(line["event"], line["count"]) for line in lines] == [("audit_events_dropped", 3)]
    assert len(events(tmp_path)) == 2
