"""A node's agent: makes its parts, keeps its session with a server, and says how the node is.

The order of a start: the runtime answers, what runs is found, the session opens, the Node is registered, pods come down. When the
session is lost pods go on; when the agent ends containers go on, and the next agent takes them up.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import orjson
import structlog

from kubelite import __version__
from kubelite.agent import housekeeping, machine, node, security
from kubelite.agent.cgroups import Cgroups
from kubelite.agent.context import Context, Options
from kubelite.agent.events import Recorder
from kubelite.agent.hosts import Dns
from kubelite.agent.images import Images
from kubelite.agent.link import Link, LinkFault
from kubelite.agent.machine import Machine
from kubelite.agent.node import Health
from kubelite.agent.objects import Objects
from kubelite.agent.pods import Pods
from kubelite.agent.pressure import Pressure
from kubelite.agent.status import Outbox
from kubelite.agent.tokens import Tokens
from kubelite.agent.tunnels import Tunnels
from kubelite.agent.volumes.payloads import Sources
from kubelite.agent.volumes.volumes import Volumes
from kubelite.meta.errors import ApiError
from kubelite.meta.types import Obj
from kubelite.rpc import node_pb2 as pb
from runtimes.interface import Runtime, RuntimeFault, RuntimeInfo

log = structlog.get_logger()

FIRST_RETRY_S = 0.1
LAST_RETRY_S = 10.0
NOT_READY_CHECK_S = 0.2
READY_CHECK_S = 10.0
#: The Node's status is sent at least so often, changed or not.
NODE_REPORT_S = 300.0
#: What a simulated node does without.
SIMULATED_WITHOUT = ("services", "endpointslices.discovery.k8s.io", "nodes")


class Component(Protocol):
    """A part of the node's data plane (network/): told what changes, run beside the pods."""

    def changed(self, resource: str, old: Obj | None, new: Obj | None) -> None: ...

    def synced(self) -> None: ...

    async def run(self) -> None: ...


#: Makes the data plane once the session has told of the cluster.
Network = Callable[[pb.ClusterInfo, Options], Sequence[Component]]


class Agent:
    """One node. `run` is all there is to call; `ready` is set once the node is registered and its pods are known."""

    def __init__(self, link: Link, runtime: Runtime, options: Options, network: Network | None = None) -> None:
        host_ips = options.host_ips or (() if options.simulated else machine.addresses())
        options = replace(options, host_ips=host_ips or ("127.0.0.1",))
        self._machine: Machine
        self.options = options
        self.ready = asyncio.Event()
        self._link = link
        self._runtime = runtime
        self._network = network
        self._components: list[Component] = []
        self._outbox = Outbox()
        objects = Objects()
        recorder = Recorder(options.node_name, self._outbox.event)
        tokens = Tokens(self._create_token)
        sources = Sources(objects, tokens, options.host_ips)
        self.context = Context(
            options=options,
            runtime=runtime,
            objects=objects,
            recorder=recorder,
            images=Images(runtime, recorder),
            volumes=Volumes(options.data_dir / "pods", sources),
            tokens=tokens,
            cgroups=Cgroups(options.cgroup_parent),
            now=time.time,
            report=self._outbox.pod,
            dns=Dns(resolv_conf=options.resolv_conf),
            host_ips=options.host_ips,
        )
        self.pods = Pods(self.context)
        self._tunnels = Tunnels(self.context, self.pods, link)
        self._node_wake = asyncio.Event()
        self.pressure = Pressure(self.context, self.pods, self._node_wake.set)
        self._reported_node: Obj | None = None
        self._synced = False
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Runs the node until cancelled. Containers go on running after it."""
        await self._start_runtime()
        if not self.options.simulated:
            await self.context.volumes.start()
            await asyncio.to_thread(self.context.cgroups.start)
        await asyncio.to_thread(self._measure)
        if not self.options.simulated:
            # Known before the first pod comes, which may have to be refused.
            await self.pressure.observe()
        self.context.objects.subscribe(self._object_changed)
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                group.create_task(self.pods.run(), name="pods")
                await self.pods.ready.wait()
                group.create_task(self._watch_node(), name="node status")
                group.create_task(self._heartbeats(), name="heartbeats")
                if not self.options.simulated:
                    group.create_task(housekeeping.run(self.context, self.pods), name="housekeeping")
                    group.create_task(self.pressure.run(), name="pressure")
                await self._sessions()
            finally:
                self._group = None

    async def _start_runtime(self) -> None:
        delay_s = FIRST_RETRY_S
        while True:
            try:
                await self._runtime.start()
                # Known before the first status, which names each container by its runtime.
                self._runtime_known(await self._runtime.info())
                return
            except RuntimeFault as e:
                log.warning("runtime_not_started", error=str(e), again_in_s=delay_s)
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, LAST_RETRY_S)

    # The session.

    async def _sessions(self) -> None:
        delay_s = FIRST_RETRY_S
        while True:
            began = time.monotonic()
            try:
                # The link consumes the outbox in a task of its own, and is who ends that.
                up = self._outbox.stream(self._hello())
                async with contextlib.aclosing(self._link.session(up)) as session:
                    async for message in session:
                        self._received(message)
                log.info("session_ended", node=self.options.node_name)
            except (LinkFault, ApiError) as e:
                log.warning("session_lost", node=self.options.node_name, error=str(e), again_in_s=delay_s)
            if time.monotonic() - began > LAST_RETRY_S:
                delay_s = FIRST_RETRY_S
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, LAST_RETRY_S)

    def _hello(self) -> pb.Hello:
        held = [pb.Held(resource=r, namespace=ns, name=n, resource_version=v) for r, ns, n, v in self.context.objects.held()]
        without = SIMULATED_WITHOUT if self.options.simulated else ()
        return pb.Hello(node_name=self.options.node_name, agent_version=__version__, held=held, without=without)

    def _received(self, message: pb.ToNode) -> None:
        match message.WhichOneof("message"):
            case "changed":
                self.context.objects.changed(message.changed.resource, orjson.loads(message.changed.object_json))
            case "removed":
                removed = message.removed
                self.context.objects.removed(removed.resource, removed.name, removed.namespace)
            case "cluster":
                self._cluster_known(message.cluster)
            case "synced":
                self.pods.synced()
                for component in self._components:
                    component.synced()
                self._synced = True
                self._check_ready()
            case "tunnel" if self._group is not None:
                tunnel = message.tunnel
                self._group.create_task(self._tunnel(tunnel), name=f"tunnel {tunnel.tunnel_id}")

    def _check_ready(self) -> None:
        if self._synced and self._known_node() is not None and not self.ready.is_set():
            log.info("agent_ready", node=self.options.node_name)
            self.ready.set()

    async def _tunnel(self, request: pb.TunnelRequest) -> None:
        try:
            await self._tunnels.serve(request)
        except Exception:
            # A supervisor: one tunnel's fault must not end the agent.
            log.exception("tunnel_failed", tunnel=request.tunnel_id)
            self._outbox.send(pb.FromNode(tunnel_refused=pb.TunnelRefused(tunnel_id=request.tunnel_id, message="internal error")))

    def _cluster_known(self, cluster: pb.ClusterInfo) -> None:
        self.context.dns = Dns(cluster.cluster_domain, cluster.dns_address, self.options.resolv_conf)
        if self._network is None or self._components or self._group is None:
            return
        self._components = list(self._network(cluster, self.options))
        for component in self._components:
            self.context.objects.subscribe(component.changed)
            self._group.create_task(component.run(), name=type(component).__name__)

    def _object_changed(self, resource: str, old: Obj | None, new: Obj | None) -> None:
        if resource == "pods" and new is None and old is not None:
            self._outbox.forget_pod(old["metadata"]["uid"])
        elif resource == "nodes" and new is not None and new["metadata"]["name"] == self.options.node_name:
            cidr = new["spec"].get("podCIDR")
            if cidr and (old is None or old["spec"].get("podCIDR") != cidr):
                use_pod_cidr = getattr(
                    self._runtime, "use_pod_cidr", None
                )  # the fake runtime has no network that gives addresses
                if use_pod_cidr is not None:
                    use_pod_cidr(cidr)
                # The pod network can be made now, and the node become ready.
                self._node_wake.set()
            if node.advertised(old) != node.advertised(new):
                self._node_wake.set()
            if bool(new["spec"].get("unschedulable")) != bool(((old or {}).get("spec") or {}).get("unschedulable")):
                self._tell_status("NodeNotSchedulable" if new["spec"].get("unschedulable") else "NodeSchedulable")
            self._check_ready()

    async def _create_token(self, namespace: str, account: str, request: Obj) -> Obj:
        asked = pb.TokenRequest(namespace=namespace, service_account=account, request_json=orjson.dumps(request))
        answer: Obj = orjson.loads((await self._link.create_token(asked)).response_json)
        return answer

    # The node.

    def _measure(self) -> None:
        self._machine = machine.read()
        disk_bytes = 0
        if not self.options.simulated:
            self.options.data_dir.mkdir(parents=True, exist_ok=True)
            disk_bytes = machine.disk(self.options.data_dir).size_bytes
        self._capacity, self._allocatable = node.capacity_of(self.options, self._machine, disk_bytes or 1 << 40)
        self.context.allocatable = self._allocatable
        self.context.memory_bytes = self._machine.memory_bytes
        self.context.has_apparmor = self._machine.has_apparmor
        self.context.masked_paths = security.MASKED_PATHS + self._machine.thermal_paths
        self.context.volumes.use_allocatable(self._allocatable)

    async def _watch_node(self) -> None:
        """Reports the Node when it changes, and now and then when it does not."""
        reported_at = 0.0
        while True:
            self._node_wake.clear()
            current, reported = await self._node(), self._reported_node
            if reported is None or not node.same(current, reported) or time.monotonic() - reported_at > NODE_REPORT_S:
                if reported is None:
                    self._tell_start()
                for reason in node.transitions(reported or self._known_node(), current):
                    self._tell_status(reason)
                self._reported_node, reported_at = current, time.monotonic()
                self._outbox.node(current)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(READY_CHECK_S if _is_ready(current) else NOT_READY_CHECK_S):
                    await self._node_wake.wait()
                    # Several changes in a row make one look.
                    await asyncio.sleep(NOT_READY_CHECK_S)

    def _tell_start(self) -> None:
        self.context.recorder.node("Normal", "Starting", "Starting kubelet.")
        if self.context.cgroups.version == 1:
            text = "cgroup v1 support is in maintenance mode, please migrate to cgroup v2"
            self.context.recorder.node("Warning", "CgroupV1", text)
        before = (((self._known_node() or {}).get("status") or {}).get("nodeInfo") or {}).get("bootID")
        if before and before != self._machine.boot_id:
            text = f"Node {self.options.node_name} has been rebooted, boot id: {self._machine.boot_id}"
            self.context.recorder.node("Warning", "Rebooted", text)

    def _tell_status(self, reason: str) -> None:
        self.context.recorder.node("Normal", reason, f"Node {self.options.node_name} status is now: {reason}")

    def _known_node(self) -> Obj | None:
        """The Node as the API has it."""
        return self.context.objects.get("nodes", self.options.node_name)

    async def _node(self) -> Obj:
        fault, info, images = "", None, []
        try:
            info = await self._runtime.info()
            images = list(await self._runtime.list_images())
            self.context.images.seen(images)
        except RuntimeFault as e:
            fault = str(e)
        health = Health(self.context.pressure, fault, info)
        if info is not None:
            self._runtime_known(info)
        # What was reported last, rather than what has come back of it: the times of transitions must not move while it travels.
        previous, given = self._reported_node or self._known_node(), node.advertised(self._known_node())
        return node.node_of(self.options, self._machine, health, self._capacity, self._allocatable, images, previous, given)

    def _runtime_known(self, info: RuntimeInfo) -> None:
        self.context.runtime_info = info
        if info.name and info.name != self.options.runtime_name:
            self.options = replace(self.options, runtime_name=info.name)
            self.context.options = self.options

    async def _heartbeats(self) -> None:
        while True:
            self._outbox.heartbeat()
            # Nodes that start together must not beat together for ever.
            await asyncio.sleep(self.options.heartbeat_s * random.uniform(0.96, 1.0))


def _is_ready(current: Obj) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in current["status"]["conditions"])
