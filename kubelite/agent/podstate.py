"""What a pod needs next, decided without I/O: (pod, what the runtime showed, what the agent remembers, now) -> Decision.

Here live restart policies, init containers and sidecars, crash back-off, probes' verdicts, the active deadline and the order of
termination. The sync loop carries a Decision out and asks again after every event; deciding twice on the same inputs gives the
same answer, and what is under way (`Memory.busy`) is never asked for again.

Source: pkg/kubelet/kuberuntime (computePodActions, computeInitContainerActions), pkg/kubelet/container/helpers.go, v1.34.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from kubelite.agent.observation import Observed, Record, hash_of
from kubelite.agent.resizing import Resize
from kubelite.meta import times
from kubelite.meta.types import Obj
from runtimes.interface import ContainerState, SandboxState

INITIAL_BACKOFF_S = 10.0
MAX_BACKOFF_S = 300.0
#: A container that ran this long before it ended starts over with the initial delay.
BACKOFF_RESET_S = 600.0
#: How long a container's end is shown before its back-off is.
SHOW_END_S = 1.0
MINIMUM_GRACE_S = 2
#: The key of the pod's sandbox among container names, which can't have a slash.
SANDBOX = "/sandbox"

Role = Literal["init", "sidecar", "regular", "ephemeral"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A container's probes as they stand. None: no result yet, or no such probe."""

    started: bool | None = None
    alive: bool | None = None
    ready: bool | None = None


@dataclass(frozen=True, slots=True)
class Backoff:
    """The delay that the next restart of a container has to wait from its end, and when it was set."""

    delay_s: float
    updated_s: float
    hash: str = ""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why a container (or the sandbox) could not be started, and when it is tried again."""

    reason: str
    message: str
    retry_at_s: float


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a pod ends as Failed though nobody deleted it. `grace_s` is set where it must be quicker than the pod asks for;
    `refused`: the node never took it; `disruption`: the node needed what it had, which is told as a condition."""

    reason: str
    message: str
    grace_s: float | None = None
    refused: bool = False
    disruption: bool = False


@dataclass(slots=True)
class Memory:
    """What the agent knows beyond the runtime: `verdicts` by container id; the rest by container name."""

    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    backoffs: Mapping[str, Backoff] = field(default_factory=dict)
    waiting: Mapping[str, Waiting] = field(default_factory=dict)
    #: Containers (and SANDBOX) with a start or a stop under way.
    busy: frozenset[str] = frozenset()
    #: Set once the pod must end though nobody deleted it.
    ending: Ending | None = None
    started_at_s: float = 0.0
    #: The resources that running containers have, by container id, as their specs gave them.
    applied: Mapping[str, Obj] = field(default_factory=dict)
    #: How the resources that its spec asks for stand.
    resize: Resize = field(default_factory=Resize)
    #: The pod's phase as last reported is Succeeded or Failed: nothing of it is ever started again.
    terminal: bool = False


@dataclass(frozen=True, slots=True)
class Start:
    name: str
    role: Role
    restarts: int
    #: The back-off delay that the container after this one will find.
    backoff: Backoff


@dataclass(frozen=True, slots=True)
class Kill:
    """Ends a container: its preStop hook, then its stop signal once all of `after` have ended, then force after the grace."""

    record: Record
    grace_s: float
    message: str
    reason: Literal["", "liveness", "startup", "unknown"] = ""
    after: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Decision:
    """Carried out at once, in this order: kills, stopping of sandboxes, creation of one, starts (one after the other)."""

    kills: tuple[Kill, ...] = ()
    stop_sandboxes: tuple[str, ...] = ()
    create_sandbox: int | None = None
    starts: tuple[Start, ...] = ()
    #: Running containers whose limits are to become those of the spec.
    resizes: tuple[Record, ...] = ()
    #: Waiting reasons to show, by container (crash back-off).
    holds: Mapping[str, Waiting] = field(default_factory=dict)
    #: Whether the pod is on its way out: every container is being ended and none will be started.
    terminating: bool = False
    #: Nothing runs and nothing ever will: volumes and sandboxes may go, a deleted pod may be removed.
    finished: bool = False
    #: The pod outlived its deadline: to be remembered as `Memory.ending`.
    ending: Ending | None = None
    #: When to decide again though nothing happens.
    wake_at_s: float | None = None


def decide(pod: Obj, observed: Observed, memory: Memory, now_s: float) -> Decision:
    spec = pod["spec"]
    deadline_s = spec.get("activeDeadlineSeconds")
    ending = memory.ending
    wake_at_s: float | None = None
    if deadline_s is not None and ending is None and not memory.terminal and memory.started_at_s:
        if now_s >= memory.started_at_s + deadline_s:
            ending = Ending("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")
        else:
            wake_at_s = memory.started_at_s + deadline_s
    if "deletionTimestamp" in pod["metadata"] or ending is not None or memory.terminal:
        return _terminate(pod, observed, memory, ending)
    if SANDBOX in memory.busy:
        return Decision(wake_at_s=wake_at_s)
    return _Progress(pod, observed, memory, now_s, wake_at_s).decide()


class _Progress:
    """One decision about a pod that is to run."""

    def __init__(self, pod: Obj, observed: Observed, memory: Memory, now_s: float, wake_at_s: float | None) -> None:
        self.pod, self.observed, self.memory, self.now_s = pod, observed, memory, now_s
        self.spec = pod["spec"]
        self.starts: list[Start] = []
        self.kills: list[Kill] = []
        self.resizes: list[Record] = []
        self.holds: dict[str, Waiting] = {}
        self.wake_at_s = wake_at_s

    def decide(self) -> Decision:
        sandbox = self.observed.active
        if sandbox is None:
            return self._without_sandbox()
        stale = tuple(s.id for s in self.observed.sandboxes[1:] if s.state is SandboxState.READY)
        for container in self.spec.get("ephemeralContainers") or ():
            if self.observed.newest(container["name"]) is None:
                self._start(container, "ephemeral")
        initialized, failed = self._initialize(sandbox.id)
        if failed:
            return self._all_ended(stale)
        if initialized and not self._regular():
            return self._all_ended(stale)
        return self._done(stop_sandboxes=stale)

    def _done(self, stop_sandboxes: tuple[str, ...] = (), create_sandbox: int | None = None) -> Decision:
        return Decision(
            kills=tuple(self.kills),
            stop_sandboxes=stop_sandboxes,
            create_sandbox=create_sandbox,
            starts=tuple(self.starts),
            resizes=tuple(self.resizes),
            holds=self.holds,
            wake_at_s=self.wake_at_s,
        )

    def _all_ended(self, stale: tuple[str, ...]) -> Decision:
        """No regular container runs or will: what still runs (sidecars) ends, then the sandbox."""
        decision = _terminate(self.pod, self.observed, self.memory, None)
        return Decision(
            kills=decision.kills,
            stop_sandboxes=decision.stop_sandboxes or stale,
            terminating=True,
            finished=decision.finished,
            wake_at_s=None if decision.finished else self.wake_at_s,
        )

    def _without_sandbox(self) -> Decision:
        """There is no sandbox, or it died: end what ran in it, then make a new one if anything is to run in it."""
        observed, memory = self.observed, self.memory
        attempt = observed.sandboxes[0].attempt + 1 if observed.sandboxes else 0
        policy = self.spec.get("restartPolicy", "Always")
        regular = self.spec["containers"]
        created = any(observed.newest(c["name"]) is not None for c in regular)
        if policy == "Never" and attempt and observed.containers:
            return self._all_ended(())
        if created and not any(self._restarts(c) for c in regular):
            return self._all_ended(())
        running = [c for c in observed.containers if c.may_run]
        if running:
            self.kills = list(_terminate(self.pod, observed, memory, None).kills)
            return self._done()
        waiting = memory.waiting.get(SANDBOX)
        if waiting is not None and waiting.retry_at_s > self.now_s:
            self._wake(waiting.retry_at_s)
            return self._done()
        return self._done(create_sandbox=attempt)

    def _initialize(self, sandbox_id: str) -> tuple[bool, bool]:
        """Starts what initialization needs next. Returns whether regular containers may run, and whether the pod has failed."""
        init = self.spec.get("initContainers") or []
        if not init:
            return True, False
        began = any(
            (found := self.observed.newest(c["name"])) is not None
            and found.sandbox_id == sandbox_id
            and found.state in (ContainerState.RUNNING, ContainerState.CREATED)
            for c in self.spec["containers"]
        ) or self._regular_ended_here(sandbox_id)
        for index, container in enumerate(init):
            record = self.observed.newest(container["name"])
            if record is not None and record.sandbox_id != sandbox_id:
                record = None
            if container.get("restartPolicy") == "Always":
                up = self._sidecar(container, record)
                if not up and not began and not any(self._ran_here(later, sandbox_id) for later in init[index + 1 :]):
                    return False, False
                continue
            if began:
                continue
            if record is None or record.state is ContainerState.CREATED:
                # A later one that ran proves that this one did, though the runtime forgot it.
                if any(self._ran_here(later, sandbox_id) for later in init[index + 1 :]):
                    continue
                self._start(container, "init")
                return False, False
            if record.running:
                return False, False
            if record.state is ContainerState.UNKNOWN:
                self._kill_unknown(container, record, "Init container")
                return False, False
            if record.exit_code != 0:
                if not should_restart(container, self.spec, record):
                    return False, True
                self._start(container, "init")
                return False, False
        return True, False

    def _regular_ended_here(self, sandbox_id: str) -> bool:
        return any(
            (found := self.observed.newest(c["name"])) is not None and found.sandbox_id == sandbox_id and found.exited
            for c in self.spec["containers"]
        )

    def _ran_here(self, container: Obj, sandbox_id: str) -> bool:
        record = self.observed.newest(container["name"])
        return record is not None and record.sandbox_id == sandbox_id

    def _sidecar(self, container: Obj, record: Record | None) -> bool:
        """Keeps a restartable init container running. Returns whether it has started, so that the next one may."""
        name = container["name"]
        if name in self.memory.busy:
            return False
        if record is None or record.exited or record.state is ContainerState.CREATED:
            self._start(container, "sidecar")
            return False
        if record.state is ContainerState.UNKNOWN:
            self._kill_unknown(container, record, "Init container")
            return False
        verdict = self.memory.verdicts.get(record.id, Verdict())
        if container.get("startupProbe") is not None and verdict.started is not True:
            if verdict.started is False:
                self._kill(container, record, f"Init container {name} failed startup probe", "startup")
            return False
        if record.hash and record.hash != hash_of(container):
            self._kill(container, record, f"Init container {name} definition changed")
        elif verdict.alive is False:
            self._kill(container, record, f"Init container {name} failed liveness probe", "liveness")
        else:
            self._resize(container, record)
        return True

    def _regular(self) -> bool:
        """Starts, keeps or ends the regular containers. Returns whether any runs or will run."""
        alive = False
        for container in self.spec["containers"]:
            name = container["name"]
            if name in self.memory.busy:
                alive = True
                continue
            record = self.observed.newest(name)
            if record is None or not record.running:
                if not self._restarts(container):
                    continue
                alive = True
                if record is not None and record.state is ContainerState.UNKNOWN:
                    self._kill_unknown(container, record, "Container")
                else:
                    self._start(container, "regular")
                continue
            verdict = self.memory.verdicts.get(record.id, Verdict())
            restarts = container.get("restartPolicy", self.spec.get("restartPolicy", "Always")) != "Never"
            again = ", will be restarted" if restarts else ""
            if record.hash and record.hash != hash_of(container):
                self._kill(container, record, f"Container {name} definition changed, will be restarted")
                restarts = True
            elif verdict.alive is False:
                self._kill(container, record, f"Container {name} failed liveness probe{again}", "liveness")
            elif verdict.started is False and container.get("startupProbe") is not None:
                self._kill(container, record, f"Container {name} failed startup probe{again}", "startup")
            else:
                self._resize(container, record)
                restarts = True
            alive = alive or restarts
        return alive

    def _resize(self, container: Obj, record: Record) -> None:
        """Has a running container's limits changed, by restarting it where its policy for a changed resource says so."""
        applied = self.memory.applied.get(record.id)
        wanted = container.get("resources") or {}
        if applied is None or applied == wanted:
            return
        changed = {
            name
            for kind in ("requests", "limits")
            for name in {**(applied.get(kind) or {}), **(wanted.get(kind) or {})}
            if (applied.get(kind) or {}).get(name) != (wanted.get(kind) or {}).get(name)
        }
        policies = {p["resourceName"]: p["restartPolicy"] for p in container.get("resizePolicy") or ()}
        if any(policies.get(name) == "RestartContainer" for name in changed):
            self._kill(container, record, f"Container {record.name} resize requires restart, will be restarted")
        elif record.name not in self.memory.busy:
            self.resizes.append(record)

    def _restarts(self, container: Obj) -> bool:
        record = self.observed.newest(container["name"])
        return record is None or not record.exited or should_restart(container, self.spec, record)

    def _start(self, container: Obj, role: Role) -> None:
        """Asks for a start unless one is under way, has just failed or must wait for its back-off."""
        name = container["name"]
        if name in self.memory.busy:
            return
        waiting = self.memory.waiting.get(name)
        if waiting is not None and waiting.retry_at_s > self.now_s:
            self._wake(waiting.retry_at_s)
            return
        record = self.observed.newest(name)
        key = hash_of(container)
        backoff = self.memory.backoffs.get(name)
        if backoff is not None and backoff.hash != key:
            backoff = None
        ended = next((c for c in self.observed.containers if c.name == name and c.exited), None)
        if ended is None:
            self.starts.append(Start(name, role, record.restarts + 1 if record else 0, backoff or Backoff(0, self.now_s, key)))
            return
        ended_at_s = ended.finished_at_ns / 1e9
        if backoff is not None and ended_at_s - backoff.updated_s > BACKOFF_RESET_S:
            backoff = None
        delay_s = backoff.delay_s if backoff else 0.0
        if delay_s and ended_at_s + delay_s > self.now_s:
            if self.now_s < ended_at_s + SHOW_END_S:
                self._wake(ended_at_s + SHOW_END_S)
                return
            meta = self.pod["metadata"]
            self.holds[name] = Waiting(
                "CrashLoopBackOff",
                f"back-off {times.format_go_duration(int(delay_s) * 10**9)} restarting failed container={name} "
                f"pod={meta['name']}_{meta['namespace']}({meta['uid']})",
                ended_at_s + delay_s,
            )
            self._wake(ended_at_s + delay_s)
            return
        following = min(delay_s * 2, MAX_BACKOFF_S) if delay_s else INITIAL_BACKOFF_S
        restarts = max(c.restarts for c in self.observed.containers if c.name == name) + 1
        self.starts.append(Start(name, role, restarts, Backoff(following, self.now_s, key)))

    def _kill(self, container: Obj, record: Record, message: str, reason: Literal["", "liveness", "startup"] = "") -> None:
        if record.name not in self.memory.busy:
            self.kills.append(Kill(record, grace_of(self.pod, container, reason), message, reason))

    def _kill_unknown(self, container: Obj, record: Record, what: str) -> None:
        if record.name not in self.memory.busy:
            message = f'{what} is in "unknown" state, try killing it before restart'
            self.kills.append(Kill(record, grace_of(self.pod, container, ""), message, "unknown"))

    def _wake(self, at_s: float) -> None:
        self.wake_at_s = at_s if self.wake_at_s is None else min(self.wake_at_s, at_s)


def _terminate(pod: Obj, observed: Observed, memory: Memory, ending: Ending | None) -> Decision:
    """Ends everything: regular containers at once, sidecars in reverse order once those have ended, then the sandboxes."""
    running = observed.may_run()
    regular = {c["name"] for c in pod["spec"]["containers"]}
    sidecars = [c["name"] for c in pod["spec"].get("initContainers") or () if c.get("restartPolicy") == "Always"]
    containers = {c["name"]: c for c, _ in all_containers(pod)}
    kills = []
    for record in running:
        if record.name in memory.busy:
            continue
        after: frozenset[str] = frozenset()
        if record.name in sidecars:
            first = regular.union(sidecars[sidecars.index(record.name) + 1 :])
            after = frozenset(other.name for other in running if other.name in first)
        grace_s = grace_of(pod, containers.get(record.name), "")
        if ending is not None and ending.grace_s is not None:
            grace_s = min(grace_s, ending.grace_s)
        kills.append(Kill(record, grace_s, f"Stopping container {record.name}", "", after))
    sandboxes: tuple[str, ...] = ()
    if not running and not memory.busy:
        sandboxes = tuple(s.id for s in observed.sandboxes if s.state is SandboxState.READY)
    return Decision(
        kills=tuple(kills),
        stop_sandboxes=sandboxes,
        terminating=True,
        finished=not running and not memory.busy and not sandboxes,
        ending=ending,
    )


def should_restart(container: Obj, spec: Obj, record: Record) -> bool:
    """Whether a container that ended is to run again, by its own rules and policy or the pod's."""
    policy = container.get("restartPolicy")
    if policy is not None:
        for rule in container.get("restartPolicyRules") or ():
            codes = rule.get("exitCodes") or {}
            matches = record.exit_code in (codes.get("values") or ())
            if matches == (codes.get("operator") == "In") and rule.get("action") == "Restart":
                return True
    policy = policy or spec.get("restartPolicy", "Always")
    if policy == "Never":
        return False
    return policy == "Always" or record.exit_code != 0


def grace_of(pod: Obj, container: Obj | None, reason: str) -> float:
    """Seconds that a container has between its stop signal and force: the deletion's, else the failed probe's, else the pod's."""
    deletion_s = pod["metadata"].get("deletionGracePeriodSeconds")
    if deletion_s is not None:
        return float(deletion_s)
    if container is not None and reason in ("liveness", "startup"):
        probe_s = (container.get(f"{reason}Probe") or {}).get("terminationGracePeriodSeconds")
        if probe_s is not None:
            return float(probe_s)
    pod_s = pod["spec"].get("terminationGracePeriodSeconds")
    return float(MINIMUM_GRACE_S if pod_s is None else pod_s)


def all_containers(pod: Obj) -> Iterator[tuple[Obj, Role]]:
    """Every container of a pod's spec with its role: init ones and sidecars, regular, ephemeral."""
    spec = pod["spec"]
    for container in spec.get("initContainers") or ():
        yield container, "sidecar" if container.get("restartPolicy") == "Always" else "init"
    for container in spec["containers"]:
        yield container, "regular"
    for container in spec.get("ephemeralContainers") or ():
        yield container, "ephemeral"


def container_of(pod: Obj, name: str) -> tuple[Obj, Role] | None:
    return next(((c, role) for c, role in all_containers(pod) if c["name"] == name), None)
