"""What the parts of one agent share: its settings and its services. Composed in agent.py, read everywhere below."""

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kubelite.agent import thresholds
from kubelite.agent.cgroups import Cgroups
from kubelite.agent.events import Recorder
from kubelite.agent.hosts import Dns
from kubelite.agent.images import Images
from kubelite.agent.objects import Objects
from kubelite.agent.thresholds import Threshold
from kubelite.agent.tokens import Tokens
from kubelite.agent.volumes.volumes import Volumes
from kubelite.meta.types import Obj
from runtimes.interface import Runtime, RuntimeInfo


@dataclass(frozen=True, slots=True)
class Options:
    """An agent's settings. `simulated`: a node of the fake runtime, which touches nothing of the machine."""

    node_name: str
    data_dir: Path
    host_ips: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Obj, ...] = ()
    max_pods: int = 110
    simulated: bool = False
    #: Capacity to report instead of the machine's, such as {"cpu": "4", "memory": "8Gi"}.
    capacity: Mapping[str, str] = field(default_factory=dict)
    #: What of the machine pods may not have.
    reserved: Mapping[str, str] = field(default_factory=dict)
    runtime_name: str = "containerd"
    resolv_conf: str = "/etc/resolv.conf"
    #: Where pods' cgroups are made; empty: nowhere.
    cgroup_parent: str = "kubepods"
    #: How long a session's silence may last before the node's Lease is renewed.
    heartbeat_s: float = 10.0
    resync_s: float = 30.0
    #: Sysctls beyond the safe ones that pods may set, as names or prefixes ending in a star.
    allowed_unsafe_sysctls: tuple[str, ...] = ()
    #: Below these the node is under pressure, and pods may be evicted.
    eviction_hard: tuple[Threshold, ...] = thresholds.parse(thresholds.DEFAULT_HARD)


@dataclass(slots=True)
class Context:
    """One agent's services."""

    options: Options
    runtime: Runtime
    objects: Objects
    recorder: Recorder
    images: Images
    volumes: Volumes
    tokens: Tokens
    cgroups: Cgroups
    now: Callable[[], float]
    #: Hands a pod's status on: (pod, status, terminated).
    report: Callable[[Obj, Obj, bool], None]
    #: How many sandboxes are made at a time: more of them only wait for each other in the kernel and the network plugins, and
    #: all of a burst's pods then come up at its end (measured: 50 pods in 8.8 s instead of 11 on two processors).
    sandbox_slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(max(4, 2 * (os.cpu_count() or 1))))
    dns: Dns = field(default_factory=Dns)
    host_ips: tuple[str, ...] = ()
    allocatable: Mapping[str, str] = field(default_factory=dict)
    memory_bytes: int = 0
    has_apparmor: bool = False
    #: What no container sees of the machine.
    masked_paths: tuple[str, ...] = ()
    #: The node's conditions of pressure, as `pressure` last saw them.
    pressure: tuple[str, ...] = ()
    #: What the runtime last said of itself.
    runtime_info: RuntimeInfo | None = None

    @property
    def logs_dir(self) -> Path:
        return self.options.data_dir / "log" / "pods"

    def log_dir(self, pod: Obj) -> Path:
        """The directory of a pod's logs: NAMESPACE_NAME_UID."""
        meta = pod["metadata"]
        return self.logs_dir / f"{meta['namespace']}_{meta['name']}_{meta['uid']}"

    def message_path(self, uid: str, container: str, restarts: int) -> Path:
        """The file that a container writes its termination message to."""
        return self.volumes.pod_dir(uid) / "containers" / container / str(restarts)
