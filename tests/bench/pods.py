"""Pod start on a real containerd: one pod at a time, then fifty at once. Needs root and what `make install` installs."""

import asyncio
import json
import os
import statistics
import time
from collections.abc import AsyncIterator
from pathlib import Path

from tests.bench import cluster
from tests.bench.load import Target
from tests.bench.measures import Failed, Figure

PODS = "/api/v1/namespaces/default/pods"
IMAGES = Path(__file__).parents[2] / ".cache" / "images"


async def starts() -> AsyncIterator[Figure]:
    async with cluster.running(
        "up", "--runtime", "containerd", "--images", str(IMAGES), "--node-name", f"bench-{os.getpid()}"
    ) as up:
        target = up.target
        await _node_ready(target)
        latencies = [await _one(target, f"one-{i}") for i in range(11)]
        yield "pod_start_s", statistics.median(latencies[1:])  # the first one also warms the runtime up
        yield "burst_50_s", await _fifty(target)
        await _clean(target)


async def _call(target: Target, method: str, path: str, body: object = None, expected: int = 200) -> dict[str, object]:
    connection = await target.connect()
    try:
        code, text = await connection.exchange(target.request(method, path, json.dumps(body).encode() if body else b""))
    finally:
        connection.close()
    if code != expected:
        raise Failed(f"{method} {path}: {code} {text[:300]!r}")
    return json.loads(text)  # type: ignore[no-any-return]


async def _until(target: Target, path: str, is_reached: object, limit_s: float) -> None:
    """Follows a watch of `path` until `is_reached(event's object)`."""
    reached = asyncio.Event()
    rest = b""

    def on_data(data: bytes) -> None:
        nonlocal rest
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if is_reached(json.loads(line)["object"]):  # type: ignore[operator]
                reached.set()

    connection = await target.connect()
    task = asyncio.create_task(connection.stream(target.request("GET", path), on_data), name=f"watch {path}")
    try:
        async with asyncio.timeout(limit_s):
            await reached.wait()
    finally:
        task.cancel()
        connection.close()


async def _node_ready(target: Target) -> None:
    def is_ready(node: dict[str, dict[str, list[dict[str, str]]]]) -> bool:
        conditions = node["status"].get("conditions") or []
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    await _until(target, "/api/v1/nodes?watch=1", is_ready, 60)


def _spec() -> dict[str, object]:
    return {
        "terminationGracePeriodSeconds": 0,
        "tolerations": [{"operator": "Exists"}],
        "containers": [{"name": "c", "image": "registry.k8s.io/pause:3.10.1"}],
    }


async def _one(target: Target, name: str) -> float:
    watch = asyncio.create_task(
        _until(
            target,
            f"{PODS}?watch=1&fieldSelector=metadata.name%3D{name}",
            lambda pod: pod["status"].get("phase") == "Running",
            60,
        ),
        name=f"watch {name}",
    )
    await asyncio.sleep(0.2)  # the watch is open before the clock starts
    begin = time.perf_counter()
    await _call(target, "POST", PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": _spec()}, 201)
    await watch
    seconds = time.perf_counter() - begin
    await _call(target, "DELETE", f"{PODS}/{name}?gracePeriodSeconds=0")
    return seconds


async def _fifty(target: Target) -> float:
    path = "/apis/apps/v1/namespaces/default/deployments"
    labels = {"app": "burst"}
    template = {"metadata": {"labels": labels}, "spec": _spec()}
    body = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "burst"},
        "spec": {"replicas": 50, "selector": {"matchLabels": labels}, "template": template},
    }
    begin = time.perf_counter()
    await _call(target, "POST", path, body, 201)
    await _until(target, f"{path}?watch=1", lambda d: d["status"].get("availableReplicas") == 50, 120)
    return time.perf_counter() - begin


async def _clean(target: Target) -> None:
    await _call(target, "DELETE", "/apis/apps/v1/namespaces/default/deployments/burst?propagationPolicy=Background")

    async def gone() -> None:
        while (await _call(target, "GET", PODS))["items"]:
            await asyncio.sleep(0.2)

    await asyncio.wait_for(gone(), 120)
