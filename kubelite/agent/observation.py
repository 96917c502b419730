"""What the runtime showed of one pod: its sandboxes and containers, newest first, as podstate reads them.

A `Record` is a runtime's Container with what the agent wrote into its annotations already parsed. Records are the only
memory of restarts: an agent that starts anew finds the counts, hashes and back-off delays in them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from kubelite.meta.types import Obj
from runtimes.interface import Container, ContainerState, Sandbox, SandboxState

POD_NAME_LABEL = "io.kubernetes.pod.name"
POD_NAMESPACE_LABEL = "io.kubernetes.pod.namespace"
POD_UID_LABEL = "io.kubernetes.pod.uid"
CONTAINER_NAME_LABEL = "io.kubernetes.container.name"
#: Whose agent made it: two agents may share a runtime, and each leaves alone what is not its own.
NODE_LABEL = "io.kubelite.node"
HASH_ANNOTATION = "io.kubernetes.container.hash"
RESTARTS_ANNOTATION = "io.kubernetes.container.restartCount"
MESSAGE_PATH_ANNOTATION = "io.kubernetes.container.terminationMessagePath"
MESSAGE_POLICY_ANNOTATION = "io.kubernetes.container.terminationMessagePolicy"
GRACE_ANNOTATION = "io.kubernetes.pod.terminationGracePeriod"
PRE_STOP_ANNOTATION = "io.kubernetes.container.preStopHandler"
#: The resources that a container was made with, as its spec gave them.
RESOURCES_ANNOTATION = "io.kubelite.container.resources"
#: The back-off delay that the next restart will find, so that a new agent goes on where the old one was.
BACKOFF_ANNOTATION = "io.kubelite.container.backoffSeconds"


@dataclass(frozen=True, slots=True)
class Record:
    """One container that the runtime has, running or not. Times in nanoseconds since the epoch, 0 where there is none."""

    id: str
    sandbox_id: str
    name: str
    state: ContainerState
    restarts: int
    hash: str
    created_at_ns: int
    started_at_ns: int
    finished_at_ns: int
    exit_code: int
    reason: str
    message: str
    image: str
    image_ref: str
    backoff_s: float
    user: Mapping[str, object] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def running(self) -> bool:
        return self.state is ContainerState.RUNNING

    @property
    def exited(self) -> bool:
        return self.state is ContainerState.EXITED

    @property
    def may_run(self) -> bool:
        """Whether a process of it may exist: running, or in a state that the runtime can't tell."""
        return self.state in (ContainerState.RUNNING, ContainerState.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Observed:
    """A pod's sandboxes and containers, newest first."""

    sandboxes: tuple[Sandbox, ...] = ()
    containers: tuple[Record, ...] = ()

    @classmethod
    def of(cls, sandboxes: Iterable[Sandbox], containers: Iterable[Record]) -> "Observed":
        return cls(
            tuple(sorted(sandboxes, key=lambda s: (s.attempt, s.created_at_ns), reverse=True)),
            tuple(sorted(containers, key=lambda c: (c.created_at_ns, c.restarts), reverse=True)),
        )

    def newest(self, name: str) -> Record | None:
        """The latest container of that name, whichever sandbox it was in."""
        return next((c for c in self.containers if c.name == name), None)

    def previous(self, name: str) -> Record | None:
        """The one before the latest."""
        found = [c for c in self.containers if c.name == name]
        return found[1] if len(found) > 1 else None

    @property
    def active(self) -> Sandbox | None:
        """The newest sandbox while it is ready."""
        newest = self.sandboxes[0] if self.sandboxes else None
        return newest if newest is not None and newest.state is SandboxState.READY else None

    @property
    def ips(self) -> tuple[str, ...]:
        return self.sandboxes[0].ips if self.sandboxes else ()

    def may_run(self) -> list[Record]:
        return [c for c in self.containers if c.may_run]


def record_of(container: Container, message: str = "") -> Record:
    """A runtime's container as a record; `message` is its termination message where the agent has read one."""
    annotations = container.annotations
    try:
        restarts = int(annotations.get(RESTARTS_ANNOTATION, container.attempt))
        backoff_s = float(annotations.get(BACKOFF_ANNOTATION, 0))
    except ValueError:
        restarts, backoff_s = container.attempt, 0.0
    return Record(
        id=container.id,
        sandbox_id=container.sandbox_id,
        name=container.labels.get(CONTAINER_NAME_LABEL, container.name),
        state=container.state,
        restarts=restarts,
        hash=annotations.get(HASH_ANNOTATION, ""),
        created_at_ns=container.created_at_ns,
        started_at_ns=container.started_at_ns,
        finished_at_ns=container.finished_at_ns,
        exit_code=container.exit_code,
        reason=container.reason,
        message=message or container.message,
        image=container.image,
        image_ref=container.image_ref,
        backoff_s=backoff_s,
        user=container.user,
        annotations=annotations,
    )


def hash_of(container: Obj) -> str:
    """Changes when a running container must be replaced: its name and image alone, since nothing else of it may change.

    Source: pkg/kubelet/container/helpers.go HashContainer, v1.34 (which fields; the hash is our own).
    """
    value = 0x811C9DC5
    for byte in f"{container['name']}\0{container.get('image', '')}".encode():
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return f"{value:x}"
