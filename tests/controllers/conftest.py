"""A cluster without nodes: the real store, registry, client and informers, with the controllers that a test asks for."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from kubelite.api.loopback import LoopbackClient
from kubelite.client.events import EventRecorder
from kubelite.client.informers import Informers
from kubelite.controllers import Controller, Environment, Settings
from kubelite.meta import times
from kubelite.meta.errors import ApiError, NotFound
from kubelite.meta.types import Obj
from kubelite.registry.contract import AllowAll, Attributes
from kubelite.registry.registry import Registry
from kubelite.schema import builtin
from kubelite.store.sqlite import SqliteStore


class Gate(AllowAll):
    """Admission that refuses creates of the resources that a test names, with the error that it gives."""

    def __init__(self) -> None:
        self.refused: dict[str, ApiError] = {}
        self.asked = 0

    async def validate(self, attributes: Attributes) -> None:
        error = self.refused.get(attributes.target.kind.group_resource) if attributes.operation == "CREATE" else None
        if error is not None:
            self.asked += 1
            raise error


class Cluster:
    """What a test talks to: `client`, controllers with `start`, and conditions to wait for."""

    def __init__(self, path: Path, settings: Settings) -> None:
        self.store = SqliteStore(path / "store.db")
        self.kinds = builtin.kinds()
        self.gate = Gate()
        self.registry = Registry(self.store, self.kinds, self.gate)
        self.client = LoopbackClient(self.registry, self.kinds)
        self.informers = Informers(self.client)
        self.events = EventRecorder(self.client, "test")
        self.env = Environment(self.client, self.informers, self.events, self.kinds, settings)
        self._tasks: list[asyncio.Task[Any]] = []

    async def __aenter__(self) -> "Cluster":
        await self.store.start()
        await self.registry.start()
        self._spawn(self.informers.run())
        self._spawn(self.events.run())
        await self.client.create("namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}})
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in reversed(self._tasks):
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self.store.stop()

    def _spawn(self, run: Any) -> None:
        self._tasks.append(asyncio.create_task(run))

    def start(self, *makes: Callable[[Environment], Controller]) -> "list[Controller]":
        controllers = [make(self.env) for make in makes]
        for controller in controllers:
            self._spawn(controller.run())
        return controllers

    async def until(self, check: Callable[[], Awaitable[Any]], what: str = "") -> Any:
        """The first true result of `check`, asked again at each turn of the loop."""
        try:
            async with asyncio.timeout(30):
                while not (result := await check()):
                    await asyncio.sleep(0.002)
                return result
        except TimeoutError:
            raise AssertionError(f"waited in vain for {what or check}") from None

    async def get(self, resource: str, name: str, namespace: str = "default") -> Obj | None:
        try:
            return await self.client.get(resource, name, namespace)
        except NotFound:
            return None

    async def list(self, resource: str, namespace: str = "default", **selectors: str) -> "list[Obj]":
        return (await self.client.list(resource, namespace, **selectors)).items  # type: ignore[arg-type]

    async def until_gone(self, resource: str, name: str, namespace: str = "default") -> None:
        async def gone() -> bool:
            return await self.get(resource, name, namespace) is None

        await self.until(gone, f"{resource} {name} to be gone")

    async def until_count(self, resource: str, count: int, namespace: str = "default", **selectors: str) -> "list[Obj]":
        found: list[Obj] = []

        async def there() -> bool:
            nonlocal found
            found = await self.list(resource, namespace, **selectors)
            return len(found) == count

        await self.until(there, f"{count} {resource}")
        return found

    async def until_status(self, resource: str, name: str, namespace: str = "default", **fields: Any) -> Obj:
        """The object, once these fields of its status have these values (None: are absent)."""

        async def fits() -> Obj | None:
            obj = await self.get(resource, name, namespace)
            status = {} if obj is None else obj.get("status") or {}
            return obj if obj is not None and all(status.get(k) == v for k, v in fields.items()) else None

        found: Obj = await self.until(fits, f"{resource} {name} with {fields}")
        return found

    async def set_pod(self, pod: Obj, phase: str = "Running", *, ready: bool = True, ip: str = "10.0.0.9", **status: Any) -> None:
        """What a node would report of a pod."""
        condition = {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": times.now()}
        wanted = {"phase": phase, "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [condition], **status}
        meta = pod["metadata"]
        change = {"status": wanted}
        await self.client.patch("pods", meta["name"], meta["namespace"], change, form="strategic", subresource="status")

    async def bind(self, pod: Obj, node: str = "n1") -> None:
        """What the scheduler does. A pod that is bound is not gone at once when it is deleted."""
        name = pod["metadata"]["name"]
        binding = {"metadata": {"name": name}, "target": {"kind": "Node", "name": node}}
        await self.client.create("pods", binding, pod["metadata"]["namespace"], name=name, subresource="binding")

    def run_pods(self, *, ready: bool = True) -> None:
        """Plays a node: every pod runs at once, and a pod that is deleted ends at once."""

        async def play(pod: Obj) -> None:
            meta = pod["metadata"]
            with contextlib.suppress(NotFound):
                if "deletionTimestamp" in meta:
                    await self.client.delete("pods", meta["name"], meta["namespace"], grace_period_s=0)
                elif pod.get("status", {}).get("phase") == "Pending":
                    if not pod["spec"].get("nodeName"):
                        await self.bind(pod)
                    await self.set_pod(pod, ready=ready)

        async def run() -> None:
            queue: asyncio.Queue[Obj] = asyncio.Queue()
            self.informers.of("pods").subscribe(lambda old, new: queue.put_nowait(new) if new is not None else None)
            while True:
                await play(await queue.get())

        self._spawn(run())

    async def reasons(self, about: str, namespace: str = "default") -> "list[str]":
        """The reasons of the events about an object."""
        return [e["reason"] for e in await self.list("events", namespace) if e["involvedObject"]["name"] == about]


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with Cluster(tmp_path, Settings(root_ca_pem="CERTIFICATE")) as made:
        yield made


def pod_template(app: str = "web", image: str = "web:1", **spec: Any) -> Obj:
    return {"metadata": {"labels": {"app": app}}, "spec": {"containers": [{"name": "c", "image": image}], **spec}}


def workload(kind: str, name: str = "web", api_version: str = "apps/v1", **spec: Any) -> Obj:
    wanted = {"selector": {"matchLabels": {"app": "web"}}, "template": pod_template(), **spec}
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": "default"}, "spec": wanted}
