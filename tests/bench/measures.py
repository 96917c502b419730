"""What is measured, one function for each group of figures. Each yields (name, figure) as named in `budgets`."""

import asyncio
import compileall
import json
import statistics
import time
from collections.abc import AsyncIterator

from tests.bench import cluster
from tests.bench.load import Connection, Rate, Target

Figure = tuple[str, float]
NAMESPACE = "bench"
STARTS = 5
OBJECTS = 5000
WATCHERS = 20


class Failed(Exception):
    """A measure met errors: its figure would be worthless."""


async def start() -> AsyncIterator[Figure]:
    """Start to /readyz with an empty data directory, then idle memory: everything in one process, an agent included."""
    for package in ("kubelite", "runtimes"):
        compileall.compile_dir(package, quiet=2)  # what installing does
    seconds = []
    for _ in range(STARTS):
        async with cluster.running("up", "--runtime", "fake") as up:
            seconds.append(up.seconds_to_ready)
    yield "start_s", statistics.median(seconds)
    async with cluster.running("up", "--runtime", "fake") as up:
        await asyncio.sleep(5)  # idle is after the start's own work has settled
        yield "idle_mb", up.resident_mb()


async def api() -> AsyncIterator[Figure]:
    """The rates of the API with 32 requests in flight, the list, and the watch."""
    async with cluster.running("server", "--disable", "scheduler") as server:
        target = server.target
        await _namespace(target)
        base = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
        names = [f"c-{i}" for i in range(OBJECTS)]
        value = "x" * 900
        yield "create_per_s", _rate(await target.run([target.request("POST", base, _config_map(n, value)) for n in names], 201))
        yield "get_per_s", _rate(await target.run([target.request("GET", f"{base}/{n}") for n in names], 200))
        updates = [target.request("PUT", f"{base}/{n}", _config_map(n, value + "y")) for n in names]
        yield "update_per_s", _rate(await target.run(updates, 200))
        merge = "application/merge-patch+json"
        patches = [target.request("PATCH", f"{base}/{n}", b'{"data":{"w":"z"}}', merge) for n in names]
        yield "patch_per_s", _rate(await target.run(patches, 200))
        pods = f"/api/v1/namespaces/{NAMESPACE}/pods"
        creates = [target.request("POST", pods, _pod(f"p-{i}")) for i in range(OBJECTS)]
        yield "create_pod_per_s", _rate(await target.run(creates, 201))
        listed = target.request("GET", f"{pods}?resourceVersion=0")
        yield "list_ms", _sound(await asyncio.to_thread(target.run_large, listed, count=40, in_flight=2)).p50_ms
        yield "watch_events_per_s", await _watched_creates(target)
        deletes = [target.request("DELETE", f"{base}/{n}") for n in names]
        yield "delete_per_s", _rate(await target.run(deletes, 200))


async def scheduling() -> AsyncIterator[Figure]:
    """Pods bound per second on 5,000 nodes, from the first create to the last binding seen by a watch; then the memory."""
    async with cluster.running("server", "--cluster-cidr", "10.128.0.0/11") as server:  # has a network for each node
        target = server.target
        await _namespace(target)
        nodes = [target.request("POST", "/api/v1/nodes", _node(i)) for i in range(OBJECTS)]
        _rate(await target.run(nodes, 201))
        await _nodes_known(target)
        pods = f"/api/v1/namespaces/{NAMESPACE}/pods"
        for template in ("plain", "spread", "antiaffinity", "affinity"):
            count = OBJECTS if template == "plain" else 1000
            yield f"bound_{template}_per_s", await _bound(target, pods, template, count)
            if template == "plain":
                yield "loaded_mb", server.resident_mb()


def _sound(rate: Rate) -> Rate:
    if rate.errors:
        raise Failed(f"{rate.errors} of {rate.errors + rate.count} requests failed, the first with: {rate.first_error}")
    return rate


def _rate(rate: Rate) -> float:
    return _sound(rate).per_second


async def _namespace(target: Target) -> None:
    body = json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}).encode()
    connection = await target.connect()
    code, text = await connection.exchange(target.request("POST", "/api/v1/namespaces", body))
    if code != 201:
        raise Failed(f"the namespace was not created: {code} {text[:300]!r}")
    account = target.request("GET", f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/default")
    deadline = time.monotonic() + 10
    while (await connection.exchange(account))[0] != 200:
        if time.monotonic() > deadline:
            raise Failed("the namespace's default service account did not appear within 10 s")
        await asyncio.sleep(0.05)
    connection.close()


async def _nodes_known(target: Target) -> None:
    """Waits until the controllers have done what they do for a new node."""
    connection = await target.connect()
    async with asyncio.timeout(60):
        while (await connection.exchange(target.request("GET", "/api/v1/nodes")))[1].count(b'"podCIDR":') < OBJECTS:
            await asyncio.sleep(0.5)
    connection.close()


async def _open_watch(target: Target, path: str) -> tuple[Connection, bytes]:
    connection = await target.connect()
    _, body = await connection.exchange(target.request("GET", f"{path}?limit=1"))
    revision = json.loads(body)["metadata"]["resourceVersion"]
    return connection, target.request("GET", f"{path}?watch=1&resourceVersion={revision}")


async def _watched_creates(target: Target) -> float:
    path = f"/api/v1/namespaces/{NAMESPACE}/secrets"
    count = OBJECTS // 5
    wanted, seen, done = count * WATCHERS, 0, asyncio.Event()

    def on_data(data: bytes) -> None:
        nonlocal seen
        seen += data.count(b'"name":"w-')
        if seen >= wanted:
            done.set()

    streams = [await _open_watch(target, path) for _ in range(WATCHERS)]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(connection.stream(request, on_data)) for connection, request in streams]
        await asyncio.sleep(0.3)  # the watches are open before the clock starts
        begin = time.perf_counter()
        _rate(await target.run([target.request("POST", path, _secret(f"w-{i}")) for i in range(count)], 201))
        async with asyncio.timeout(60):
            await done.wait()
        seconds = time.perf_counter() - begin
        for task in tasks:
            task.cancel()
    return wanted / seconds


async def _bound(target: Target, path: str, template: str, count: int) -> float:
    bound: set[bytes] = set()
    done = asyncio.Event()
    rest = b""

    def on_data(data: bytes) -> None:
        nonlocal rest
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if b'"nodeName":"' in line:
                at = line.find(b'"name":"' + template.encode())
                bound.add(line[at + 8 : line.index(b'"', at + 8)])
        if len(bound) >= count:
            done.set()

    connection, request = await _open_watch(target, path)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(connection.stream(request, on_data))
        begin = time.perf_counter()
        creates = [target.request("POST", path, _pod(f"{template}-{i}", template, "default-scheduler")) for i in range(count)]
        _rate(await target.run(creates, 201))
        async with asyncio.timeout(120):
            await done.wait()
        seconds = time.perf_counter() - begin
        task.cancel()
    return count / seconds


def _config_map(name: str, value: str) -> bytes:
    metadata = {"name": name, "labels": {"app": "load"}}
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"v": value}}).encode()


def _secret(name: str) -> bytes:
    return json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"v": "x" * 900}}).encode()


def _pod(name: str, template: str = "plain", scheduler: str = "nobody") -> bytes:
    requests = {"cpu": "100m", "memory": "500Mi"}
    container = {"name": "pause", "image": "registry.k8s.io/pause:3.10.1", "resources": {"requests": requests}}
    spec: dict[str, object] = {"schedulerName": scheduler, "containers": [container]}
    selector = {"matchLabels": {"color": template}}
    match template:
        case "spread":
            spec["topologySpreadConstraints"] = [
                {
                    "maxSkew": 5,
                    "topologyKey": "topology.kubernetes.io/zone",
                    "whenUnsatisfiable": "DoNotSchedule",
                    "labelSelector": selector,
                }
            ]
        case "antiaffinity":
            term = {"labelSelector": selector, "topologyKey": "kubernetes.io/hostname"}
            spec["affinity"] = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
        case "affinity":
            term = {"labelSelector": selector, "topologyKey": "topology.kubernetes.io/zone"}
            spec["affinity"] = {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    metadata = {"name": name, "labels": {"app": "load", "color": template}}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}).encode()


def _node(index: int) -> bytes:
    name = f"load-node-{index}"
    capacity = {"cpu": "4", "memory": "32Gi", "pods": "110"}
    labels = {"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": f"zone-{index % 3 + 1}"}
    status = {
        "capacity": capacity,
        "allocatable": capacity,
        "conditions": [{"type": "Ready", "status": "True", "reason": "Load"}],
    }
    metadata = {"name": name, "labels": labels}
    return json.dumps({"apiVersion": "v1", "kind": "Node", "metadata": metadata, "status": status}).encode()
