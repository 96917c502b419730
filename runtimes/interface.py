"""The container runtime as an agent sees it: the CRI's two services, with its verbs and states.

Shapes follow k8s.io/cri-api runtime/v1 (fields in snake case, durations in seconds, sizes in bytes, times in nanoseconds since
the epoch). A backend implements `Runtime`; the entry point group `kubelite.runtimes` names a `Backend` class for each. Backends
share the suite in `runtimes.suite` and nothing else, and this package imports nothing of kubelite.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar, Protocol


class RuntimeFault(Exception):
    """A runtime refused or failed. The message is the runtime's own and is shown to users; `code` is gRPC's name of its kind
    (`NotFound`), where the runtime speaks gRPC."""

    def __init__(self, message: str = "", code: str = "") -> None:
        super().__init__(message)
        self.code = code

    @property
    def described(self) -> str:
        """The message with its code, in gRPC's words."""
        return f"rpc error: code = {self.code} desc = {self}" if self.code else str(self)


class NotFound(RuntimeFault):
    """No such sandbox, container or image."""


class Unreachable(RuntimeFault):
    """The runtime does not answer; the call may have happened or not. Try again."""


class ImagePullFault(RuntimeFault):
    """An image could not be pulled."""


class InvalidImageName(RuntimeFault):
    """The image's name cannot be parsed."""


class SandboxState(StrEnum):
    READY = "ready"
    NOT_READY = "not_ready"


class ContainerState(StrEnum):
    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"
    UNKNOWN = "unknown"


class NamespaceMode(StrEnum):
    POD = "pod"
    CONTAINER = "container"
    NODE = "node"
    TARGET = "target"


@dataclass(frozen=True, slots=True)
class PortMapping:
    protocol: str
    container_port: int
    host_port: int
    host_ip: str = ""


@dataclass(frozen=True, slots=True)
class DnsConfig:
    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SecurityProfile:
    """`kind` is RuntimeDefault, Unconfined or Localhost; `reference` of the latter a path (seccomp) or a name (AppArmor)."""

    kind: str = "RuntimeDefault"
    reference: str = ""


@dataclass(frozen=True, slots=True)
class SecurityContext:
    """A container's security settings, as the CRI's LinuxContainerSecurityContext; of a sandbox only those that apply."""

    privileged: bool = False
    run_as_user: int | None = None
    run_as_username: str = ""
    run_as_group: int | None = None
    supplemental_groups: tuple[int, ...] = ()
    supplemental_groups_strict: bool = False
    add_capabilities: tuple[str, ...] = ()
    drop_capabilities: tuple[str, ...] = ()
    readonly_rootfs: bool = False
    no_new_privs: bool = False
    seccomp: SecurityProfile = field(default_factory=SecurityProfile)
    #: None: the runtime's default where the machine has AppArmor.
    apparmor: SecurityProfile | None = None
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    selinux: Mapping[str, str] = field(default_factory=dict)
    network: NamespaceMode = NamespaceMode.POD
    pid: NamespaceMode = NamespaceMode.CONTAINER
    ipc: NamespaceMode = NamespaceMode.POD
    pid_target: str = ""


@dataclass(frozen=True, slots=True)
class Resources:
    """A container's cgroup limits. Zero: not set. `memory_swap_limit_bytes` as in the CRI."""

    cpu_period_us: int = 0
    cpu_quota_us: int = 0
    cpu_shares: int = 0
    memory_limit_bytes: int = 0
    memory_swap_limit_bytes: int = 0
    oom_score_adj: int = 0
    hugepages: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SandboxConfig:
    """What a pod sandbox is made from. `attempt` counts re-creations; names and labels identify it when listed again."""

    name: str
    namespace: str
    uid: str
    attempt: int = 0
    hostname: str = ""
    log_directory: str = ""
    dns: DnsConfig | None = None
    port_mappings: tuple[PortMapping, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    cgroup_parent: str = ""
    sysctls: Mapping[str, str] = field(default_factory=dict)
    security: SecurityContext = field(default_factory=SecurityContext)
    runtime_handler: str = ""


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A sandbox as the runtime lists it. `ips` is filled by `sandbox_status`, primary first; of a node-network one empty."""

    id: str
    name: str
    namespace: str
    uid: str
    attempt: int
    state: SandboxState
    created_at_ns: int
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    ips: tuple[str, ...] = ()
    runtime_handler: str = ""


@dataclass(frozen=True, slots=True)
class Mount:
    container_path: str
    host_path: str
    readonly: bool = False
    recursive_readonly: bool = False
    selinux_relabel: bool = False
    propagation: str = "private"  # private, host_to_container, bidirectional


@dataclass(frozen=True, slots=True)
class Device:
    container_path: str
    host_path: str
    permissions: str = "rwm"


@dataclass(frozen=True, slots=True)
class ContainerConfig:
    """What a container is made from. `image` is an image id or reference that the runtime has; `log_path` is relative to the
    sandbox's log directory."""

    name: str
    attempt: int
    image: str
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    working_dir: str = ""
    env: tuple[tuple[str, str], ...] = ()
    mounts: tuple[Mount, ...] = ()
    devices: tuple[Device, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    log_path: str = ""
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False
    resources: Resources = field(default_factory=Resources)
    security: SecurityContext = field(default_factory=SecurityContext)
    stop_signal: str = ""
    #: The image as the pod's spec names it, for runtimes that show it.
    user_specified_image: str = ""


@dataclass(frozen=True, slots=True)
class Container:
    """A container as the runtime knows it. `container_status` fills what `list_containers` leaves empty (times, exit, reason)."""

    id: str
    sandbox_id: str
    name: str
    attempt: int
    image: str
    image_ref: str
    state: ContainerState
    created_at_ns: int
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    started_at_ns: int = 0
    finished_at_ns: int = 0
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    log_path: str = ""
    user: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Image:
    """`user` is the image's own: a number (uid) or a name (username), or neither."""

    id: str
    tags: tuple[str, ...]
    digests: tuple[str, ...]
    size_bytes: int
    uid: int | None = None
    username: str = ""
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class RegistryAuth:
    username: str = ""
    password: str = ""
    auth: str = ""
    identity_token: str = ""
    registry_token: str = ""


@dataclass(frozen=True, slots=True)
class ContainerStats:
    """What a running container uses. `filesystem_used_bytes` is its writable layer's, 0 where the runtime can't tell it."""

    container_id: str
    timestamp_ns: int
    cpu_usage_core_ns: int
    memory_working_set_bytes: int
    memory_rss_bytes: int = 0
    memory_usage_bytes: int = 0
    filesystem_used_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Condition:
    """RuntimeReady and NetworkReady, as the CRI's Status has them."""

    kind: str
    status: bool
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Handler:
    """A runtime handler, the default one with an empty name, and what it can do beyond the least."""

    name: str = ""
    recursive_readonly: bool = False
    user_namespaces: bool = False


@dataclass(frozen=True, slots=True)
class RuntimeInfo:
    name: str
    version: str
    conditions: tuple[Condition, ...]
    handlers: tuple[Handler, ...] = (Handler(),)
    #: Whether `SecurityContext.supplemental_groups_strict` is heeded.
    strict_groups: bool = False

    def handler(self, name: str) -> Handler:
        return next((h for h in self.handlers if h.name == name), Handler(name))


@dataclass(frozen=True, slots=True)
class RuntimeEvent:
    """Something changed in a sandbox: who watches looks again. `container_id` equals `sandbox_id` for the sandbox itself."""

    sandbox_id: str
    container_id: str
    kind: str  # created, started, stopped, deleted, oom: a process was killed for want of memory, told before or after its end
    at_ns: int


@dataclass(frozen=True, slots=True)
class ExecResult:
    stdout: bytes
    stderr: bytes
    exit_code: int


class ExecStream(Protocol):
    """A running exec or attach. Reading and writing may go on at once."""

    def output(self) -> AsyncIterator[tuple[int, bytes]]:
        """Chunks as (1 for stdout or 2 for stderr, bytes) until both end."""
        ...

    async def write_stdin(self, data: bytes) -> None:
        """Empty data closes stdin."""
        ...

    async def resize(self, columns: int, rows: int) -> None: ...

    async def exit_code(self) -> int:
        """Waits for the end; -1 for an attach that was detached."""
        ...

    async def close(self) -> None: ...


class ByteStream(Protocol):
    """A connection to a port in a sandbox."""

    async def read(self) -> bytes:
        """The next bytes; empty at the end."""
        ...

    async def write(self, data: bytes) -> None: ...

    async def write_eof(self) -> None: ...

    async def close(self) -> None: ...


class Runtime(Protocol):
    """The runtime and image services. Every call raises RuntimeFault or one of its subclasses, and may be repeated: stopping
    what is stopped and removing what is gone succeed."""

    async def start(self) -> None:
        """Connects (or starts the daemon that this backend owns). Raises Unreachable naming what was tried and the remedy."""
        ...

    async def stop(self) -> None:
        """Disconnects. Containers go on running, and so does an owned daemon."""
        ...

    async def end_idle(self) -> None:
        """Ends an owned daemon that has no sandbox; before `stop`. The next start brings it back."""
        ...

    async def info(self) -> RuntimeInfo: ...

    async def run_sandbox(self, config: SandboxConfig) -> str: ...

    async def stop_sandbox(self, sandbox_id: str) -> None: ...

    async def remove_sandbox(self, sandbox_id: str) -> None: ...

    async def sandbox_status(self, sandbox_id: str) -> Sandbox: ...

    async def list_sandboxes(self) -> Sequence[Sandbox]: ...

    async def create_container(self, sandbox_id: str, config: ContainerConfig, sandbox: SandboxConfig) -> str: ...

    async def start_container(self, container_id: str) -> None: ...

    async def stop_container(self, container_id: str, timeout_s: float) -> None:
        """Sends the stop signal, kills after the timeout; returns when it has ended."""
        ...

    async def remove_container(self, container_id: str) -> None: ...

    async def container_status(self, container_id: str) -> Container: ...

    async def list_containers(self) -> Sequence[Container]: ...

    async def update_container_resources(self, container_id: str, resources: Resources) -> None: ...

    async def reopen_container_log(self, container_id: str) -> None: ...

    async def exec_sync(self, container_id: str, command: Sequence[str], timeout_s: float) -> ExecResult:
        """Raises TimeoutError when the command outlives the timeout."""
        ...

    async def exec(self, container_id: str, command: Sequence[str], *, tty: bool, stdin: bool) -> ExecStream: ...

    async def attach(self, container_id: str, *, tty: bool, stdin: bool) -> ExecStream: ...

    async def port_forward(self, sandbox_id: str, port: int) -> ByteStream:
        """Raises RuntimeFault when nothing listens."""
        ...

    async def container_stats(self) -> Sequence[ContainerStats]: ...

    def events(self) -> AsyncIterator[RuntimeEvent]:
        """Without end; raises Unreachable when the runtime goes away. Events may be lost: who needs certainty lists."""
        ...

    async def pull_image(self, reference: str, auth: RegistryAuth | None = None) -> str:
        """The image's id. Raises ImagePullFault or InvalidImageName."""
        ...

    async def image_status(self, reference: str) -> Image | None: ...

    async def list_images(self) -> Sequence[Image]: ...

    async def remove_image(self, reference: str) -> None: ...

    async def import_image(self, archive: AsyncIterator[bytes]) -> Sequence[str]:
        """Takes an OCI or Docker archive, tar or gzipped, and returns the references it brought."""
        ...


@dataclass(frozen=True, slots=True)
class BackendOptions:
    """What the agent hands a backend. `state_dir` is the backend's own to keep daemons' files in; `endpoint` is empty unless
    the user named a running daemon."""

    state_dir: str
    endpoint: str = ""
    registries_dir: str = "/etc/containerd/certs.d"
    sandbox_image: str = "registry.k8s.io/pause:3.10.1"
    #: The CNI configuration and plugin directories of an owned daemon.
    cni_conf_dir: str = ""
    cni_bin_dirs: tuple[str, ...] = ("/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni")
    #: Backend-specific settings (the fake's timings and faults).
    settings: Mapping[str, object] = field(default_factory=dict)


class BackendClass(Protocol):
    """What an entry point names: constructed with BackendOptions it is a Runtime."""

    name: ClassVar[str]

    def __call__(self, options: BackendOptions) -> Runtime: ...

    def missing(self, options: BackendOptions) -> Sequence[str]:
        """What this machine lacks for the backend, each with the command that mends it; empty when it could run."""
        ...
