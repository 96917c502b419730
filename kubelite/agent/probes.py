"""Startup, liveness and readiness probes: one task a probe of each container name, its verdict kept for podstate.

A probe ticks at its period from the pod's first sync on, whether its container runs or not, so that a container has some time
before its first probe; readiness is also probed whenever a status would say "not ready" of a container that may be. A verdict
changes only after as many equal results in a row as its threshold asks for; a check that could not be made counts for nothing.
Liveness and readiness wait for the startup probe; a container that failed liveness or startup is not probed again until it was
restarted (it then has another id).

Source: pkg/kubelet/prober (worker.go, prober.go, prober_manager.go), v1.34.
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import structlog

from kubelite.agent import checks
from kubelite.agent.checks import Result
from kubelite.agent.context import Context
from kubelite.agent.events import field_path
from kubelite.agent.observation import Observed, Record
from kubelite.agent.podstate import Verdict, all_containers, container_of
from kubelite.meta.types import Obj

log = structlog.get_logger()

Kind = Literal["startup", "liveness", "readiness"]
KINDS: tuple[Kind, ...] = ("startup", "liveness", "readiness")
_VERDICT_FIELD = {"startup": "started", "liveness": "alive", "readiness": "ready"}
ATTEMPTS = 3


@dataclass(slots=True)
class _Probe:
    """One probe's task, and what it has found of the container that has the name at the moment."""

    name: str
    kind: Kind
    task: asyncio.Task[None] | None = None
    trigger: asyncio.Event = field(default_factory=asyncio.Event)
    container_id: str = ""
    last: bool | None = None
    run: int = 0
    held: bool = False


class Probers:
    """The probes of one pod's containers. `changed` is called when a verdict does."""

    def __init__(self, context: Context, changed: Callable[[], None]) -> None:
        self._context = context
        self._changed = changed
        self._probes: dict[tuple[str, Kind], _Probe] = {}
        self._pod: Obj = {}
        self._observed = Observed()
        self._adopted = False
        #: By container id.
        self.verdicts: dict[str, Verdict] = {}

    def adopt(self, verdicts: Mapping[str, Verdict]) -> None:
        """Takes over what an agent before this one found: good until a probe says otherwise."""
        self.verdicts.update(verdicts)
        self._adopted = True

    def update(self, pod: Obj, observed: Observed, terminating: bool) -> None:
        """Probes what has probes, and nothing else. A pod on its way out keeps its readiness probes only."""
        self._pod, self._observed = pod, observed
        wanted = {
            (container["name"], kind): container[f"{kind}Probe"]
            for container, role in all_containers(pod)
            for kind in KINDS
            if container.get(f"{kind}Probe") is not None
            and role not in ("init", "ephemeral")
            and (kind == "readiness" or not terminating)
        }
        for key, spec in wanted.items():
            if key not in self._probes:
                self._start(*key, float(spec.get("periodSeconds") or 10))
        for key in [k for k in self._probes if k not in wanted]:
            task = self._probes.pop(key).task
            assert task is not None
            task.cancel()
        alive = {record.id for record in observed.containers}
        self.verdicts = {id_: verdict for id_, verdict in self.verdicts.items() if id_ in alive}
        for container, _ in all_containers(pod):
            record = observed.newest(container["name"])
            probe = self._probes.get((container["name"], "readiness"))
            if probe is None or record is None or not record.running or self._verdict(record.id).ready:
                continue
            if self._has_started(container, record):
                probe.trigger.set()

    def _start(self, name: str, kind: Kind, period_s: float) -> None:
        probe = self._probes[name, kind] = _Probe(name, kind)
        meta = self._pod["metadata"]
        what = f"{kind} probe of {name} in {meta['namespace']}/{meta['name']}"
        probe.task = asyncio.create_task(self._tick(probe, period_s), name=what)

    async def stop(self) -> None:
        tasks = [probe.task for probe in self._probes.values() if probe.task is not None]
        self._probes.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _tick(self, probe: _Probe, period_s: float) -> None:
        if self._adopted:
            # An agent that starts must not probe all of its node's containers in one moment.
            await asyncio.sleep(random.uniform(0, period_s))
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        while True:
            probe.trigger.clear()
            await self._probe(probe)
            due_s = max(due_s + period_s, loop.time())
            try:
                async with asyncio.timeout_at(due_s):
                    await probe.trigger.wait()
                due_s = loop.time()
            except TimeoutError:
                continue

    async def _probe(self, probe: _Probe) -> None:
        """Probes the container if it is to be probed now, and draws the conclusion."""
        found, record = container_of(self._pod, probe.name), self._observed.newest(probe.name)
        if found is None or record is None or not record.running:
            return
        container, spec = found[0], found[0][f"{probe.kind}Probe"]
        if probe.container_id != record.id:
            probe.container_id, probe.last, probe.run, probe.held = record.id, None, 0, False
        age_s = int(self._context.now()) - record.started_at_ns // 10**9
        too_early = age_s < (spec.get("initialDelaySeconds") or 0)
        if probe.held or too_early or self._has_started(container, record) is (probe.kind == "startup"):
            return
        result = await self._check(probe.kind, container, record, spec)
        if result is None:
            return
        probe.run = probe.run + 1 if result.good is probe.last else 1
        probe.last = result.good
        threshold = spec.get("successThreshold") or 1 if result.good else spec.get("failureThreshold") or 3
        if probe.run < threshold:
            return
        if probe.kind == "startup" or (probe.kind == "liveness" and not result.good):
            probe.held = True
        self._set(record.id, probe.kind, result.good)

    async def _check(self, kind: Kind, container: Obj, record: Record, spec: Obj) -> Result | None:
        """What a probe found, told in an event where users should know; None: nothing."""
        pod, path = self._pod, field_path(self._pod, container["name"])
        ips = self._context.host_ips if pod["spec"].get("hostNetwork") else self._observed.ips
        fault: checks.Errored | None = None
        for _ in range(ATTEMPTS):
            try:
                result = await checks.run(self._context, container, record.id, spec, ips)
                break
            except checks.Errored as e:
                fault = e
        else:
            text = f"{kind.capitalize()} probe errored and resulted in unknown state: {fault}"
            self._context.recorder.pod(pod, "Warning", "Unhealthy", text, path)
            return None
        if result.warning:
            self._context.recorder.pod(pod, "Warning", "ProbeWarning", f"{kind.capitalize()} probe warning: {result.text}", path)
        elif not result.good:
            self._context.recorder.pod(pod, "Warning", "Unhealthy", f"{kind.capitalize()} probe failed: {result.text}", path)
        return result

    def _has_started(self, container: Obj, record: Record) -> bool:
        return container.get("startupProbe") is None or self._verdict(record.id).started is True

    def _verdict(self, id_: str) -> Verdict:
        return self.verdicts.get(id_, Verdict())

    def _set(self, id_: str, kind: Kind, value: bool) -> None:
        before = self._verdict(id_)
        after = replace(before, **{_VERDICT_FIELD[kind]: value})
        if after != before:
            log.debug("probe_verdict", probe=kind, pod=self._pod["metadata"]["name"], container_id=id_, good=value)
            self.verdicts[id_] = after
            self._changed()
