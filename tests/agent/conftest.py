"""A cluster of one node: the real store, registry, client and informers, a session over the in-process link, the fake runtime."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from kubelite.agent.agent import Agent
from kubelite.agent.context import Options
from kubelite.agent.thresholds import Threshold
from kubelite.api.loopback import LoopbackClient
from kubelite.client.informers import Informers
from kubelite.meta.errors import NotFound
from kubelite.meta.types import Obj
from kubelite.meta.users import User
from kubelite.nodes.sessions import Nodes
from kubelite.registry.contract import AllowAll
from kubelite.registry.registry import Registry
from kubelite.rpc import node_pb2 as pb
from kubelite.schema import builtin
from kubelite.store.sqlite import SqliteStore
from runtimes.fake import Backend
from runtimes.interface import BackendOptions

NODE = "n1"


class Cluster:
    """What a test talks to."""

    def __init__(self, path: Path, runtime: Any = None) -> None:
        self.path = path
        #: None: how full the machine of the tests is must not matter to them.
        self.eviction_hard: tuple[Threshold, ...] = ()
        self.store = SqliteStore(path / "store.db")
        self.kinds = builtin.kinds()
        self.registry = Registry(self.store, self.kinds, AllowAll())
        self.client = LoopbackClient(self.registry, self.kinds)
        self.informers = Informers(self.client)
        self.tokens: list[str] = []
        self.nodes = Nodes(
            lambda user: self.client,
            self.informers,
            pb.ClusterInfo(cluster_domain="cluster.local", dns_address="10.96.0.10"),
            issue_token=self._issue_token,
        )
        self.is_real = runtime is not None
        self.runtime = runtime or Backend(BackendOptions(str(path / "runtime")))
        self.agent: Agent
        self._tasks: list[asyncio.Task[Any]] = []
        self._agent_task: asyncio.Task[None]

    async def _issue_token(self, user: User, namespace: str, account: str, request: Obj) -> Obj:
        self.tokens.append(f"{namespace}/{account}")
        status = {"token": f"token-{len(self.tokens)}", "expirationTimestamp": "2100-01-01T00:00:00Z"}
        return {**request, "status": status}

    async def __aenter__(self) -> "Cluster":
        await self.store.start()
        await self.registry.start()
        self._tasks.append(asyncio.create_task(self.informers.run()))
        for name in ("default", "kube-node-lease"):
            await self.client.create("namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        self._tasks.append(asyncio.create_task(self.nodes.run()))
        await self.nodes.ready.wait()
        await self.start_agent()
        return self

    async def start_agent(self) -> None:
        options = Options(
            NODE,
            self.path / "node",
            host_ips=("192.0.2.7",),
            cgroup_parent="kubelite-test" if self.is_real else "",
            eviction_hard=self.eviction_hard,
        )
        self.agent = Agent(self.nodes.link(NODE), self.runtime, options)
        self._agent_task = asyncio.create_task(self.agent.run())
        await self.agent.ready.wait()

    async def stop_agent(self) -> None:
        self._agent_task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._agent_task

    async def __aexit__(self, *_: object) -> None:
        await self.stop_agent()
        await self.agent.context.volumes.unmount()
        for task in reversed(self._tasks):
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self.registry.stop()
        await self.store.stop()

    async def until(self, check: Callable[[], Awaitable[Any]], what: str = "") -> Any:
        """The first true result of `check`, asked again at each turn of the loop."""
        try:
            async with asyncio.timeout(30):
                while not (result := await check()):
                    await asyncio.sleep(0.002)
                return result
        except TimeoutError:
            raise AssertionError(f"waited in vain for {what or check}") from None

    async def pod(self, name: str = "web") -> Obj | None:
        try:
            return await self.client.get("pods", name, "default")
        except NotFound:
            return None

    async def until_pod(self, check: Callable[[Obj], Any], name: str = "web", what: str = "") -> Obj:
        async def fits() -> Obj | None:
            pod = await self.pod(name)
            with contextlib.suppress(KeyError, IndexError):
                if pod is not None and check(pod):
                    return pod
            return None

        try:
            found: Obj = await self.until(fits)
        except AssertionError:
            pod = await self.pod(name)
            raise AssertionError(f"{what or check}: {pod and pod.get('status')}") from None
        return found

    async def until_gone(self, name: str = "web") -> None:
        async def gone() -> bool:
            return await self.pod(name) is None

        await self.until(gone, f"pod {name} to be gone")

    async def run_pod(self, *containers: Obj, name: str = "web", **spec: Any) -> Obj:
        """Makes a pod on the node; containers default to one that runs until it is stopped."""
        made = containers or (container(),)
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "default", "labels": {"app": "web"}},
            "spec": {"nodeName": NODE, "containers": list(made), **spec},
        }
        return await self.client.create("pods", pod, "default")

    async def reasons(self, name: str = "web") -> list[str]:
        """The reasons of the events about a pod."""
        events = await self.client.list("events", "default")
        return [e["reason"] for e in events.items if e["involvedObject"]["name"] == name]


def container(name: str = "c", *command: str, **fields: Any) -> Obj:
    made: Obj = {"name": name, "image": "web:1", **fields}
    if command:
        made["command"] = list(command)
    return made


def status_of(pod: Obj, name: str = "c", field: str = "containerStatuses") -> Obj:
    found: Obj = next(s for s in pod["status"][field] if s["name"] == name)
    return found


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with Cluster(tmp_path) as made:
        yield made
