"""The two schedulers, each on an API server, each telling what its score plugins gave.

The real one tells it in its log (`-v=10` for the file that decides), kubelite's through a subclass that asks the plugins before
it decides.
"""

import asyncio
import contextlib
import re
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Protocol

from kubelite.client.contract import Client
from kubelite.client.informers import Informers
from kubelite.scheduler.cluster import nominated_node
from kubelite.scheduler.decide import explain
from kubelite.scheduler.queue import QueuedPod
from kubelite.scheduler.scheduler import RESOURCES, Scheduler, Write
from tests.differential.scheduling.scenario import key_of, resource_of
from tests.differential.scheduling.stage import There, revisions
from tests.differential.servers import Server

START_LIMIT_S = 30.0
#: The real scheduler is idle when nothing has changed for so long: after a pod came, and after anything else, when those that
#: wait may be tried again.
CALM_S = 0.15
LONG_CALM_S = 1.6
_SCORED = re.compile(r'"Plugin scored node for pod" pod="([^"]*)" plugin="([^"]*)" node="([^"]*)" score=(-?\d+)')
_ATTEMPT = re.compile(r'"Attempting to schedule pod" pod="([^"]*)"')


#: {plugin: {node: weighted score}}
Scores = Mapping[str, Mapping[str, int]]


class Watched(Protocol):
    def scores(self, pod: str) -> Scores:
        """Those of the last attempt with a pod (`namespace/name`); empty where there was no choice."""
        ...

    def during(self, pods: Sequence[str], *, anew: bool) -> contextlib.AbstractContextManager[object]:
        """While a step is done, after which these pods wait. `anew`: it may change something for those that wait already."""
        ...

    def is_idle(self, there: There) -> bool:
        """Whether it has nothing left to do, with these objects there."""
        ...


class Real:
    """A kube-scheduler process."""

    def __init__(self, binary: Path, server: Server, log: Path) -> None:
        kubeconfig = str(server.kubeconfig)
        options = {
            "kubeconfig": kubeconfig,
            "authentication-kubeconfig": kubeconfig,
            "authorization-kubeconfig": kubeconfig,
            "leader-elect": "false",
            "secure-port": "0",
            "vmodule": "schedule_one=10",
        }
        self._command = [str(binary), *(f"--{name}={value}" for name, value in options.items())]
        self._log = log
        self._out = log.open("w")
        self._process = subprocess.Popen(self._command, stderr=self._out, stdout=self._out)
        self._calm_s = CALM_S
        self._seen: object = None
        self._since = time.monotonic()

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._out.close()

    @contextlib.contextmanager
    def during(self, pods: Sequence[str], *, anew: bool) -> Iterator[None]:
        """Where pods wait already it starts anew after the step, so that each is tried."""
        self._calm_s = LONG_CALM_S if anew else CALM_S
        if not anew:
            yield
            return
        self._process.terminate()
        self._process.wait()
        tried = Counter(self._attempts())
        yield
        self._process = subprocess.Popen(self._command, stderr=self._out, stdout=self._out)
        end = time.monotonic() + START_LIMIT_S
        while time.monotonic() < end:
            now = Counter(self._attempts())
            if all(now[pod] > tried[pod] or pod not in tried for pod in pods):
                return
            time.sleep(0.05)
        raise TimeoutError("kube-scheduler did not try the pods")

    def is_idle(self, there: There) -> bool:
        """It doesn't tell, so it is idle when nothing has changed for some time."""
        now, seen = time.monotonic(), revisions(there)
        if seen != self._seen:
            self._seen, self._since = seen, now
        nominated = any((pod.get("status") or {}).get("nominatedNodeName") for pod in there["Pod"].values())
        return now - self._since >= (4 * self._calm_s if nominated else self._calm_s)

    def _lines(self) -> list[str]:
        return self._log.read_text(errors="replace").splitlines()

    def _attempts(self) -> list[str]:
        return [found[1] for line in self._lines() if (found := _ATTEMPT.search(line))]

    def scores(self, pod: str) -> Scores:
        found: dict[str, dict[str, int]] = {}
        for line in self._lines():
            if (attempt := _ATTEMPT.search(line)) and attempt[1] == pod:
                found = {}
            elif (scored := _SCORED.search(line)) and scored[1] == pod:
                found.setdefault(scored[2], {})[scored[3]] = int(scored[4])
        return found

    def complaints(self) -> list[str]:
        """What it logged as warnings and errors."""
        return [line for line in self._lines() if re.match(r"[WE]\d{4} ", line)]


@contextlib.contextmanager
def real(binary: Path, server: Server) -> Iterator[Real]:
    with tempfile.TemporaryDirectory() as directory:
        made = Real(binary, server, Path(directory) / "log")
        try:
            yield made
        finally:
            made.close()


class _Telling(Scheduler):
    """kubelite's scheduler, which notes the scores before it decides, and whether something is still to be written."""

    def __init__(self, client: Client, informers: Informers) -> None:
        super().__init__(client, informers)
        self.told: dict[str, dict[str, dict[str, int]]] = {}
        self._unwritten = 0

    def _decide(self, queued: QueuedPod) -> Write | None:
        snapshot, framework, pod = self.cluster.snapshot, self.cluster.framework, queued.pod
        nominees = self.cluster.nominees_before(pod)
        alone = nominated_node(pod.obj)
        self.told[pod.key] = {} if alone else explain(snapshot, framework, pod.template, nominees=nominees)
        return super()._decide(queued)

    def _attempt(self, queued: QueuedPod) -> Write | None:
        write = super()._attempt(queued)
        if write is None:  # the pod is gone, or is out of the queue until its volumes are bound
            return None
        self._unwritten += 1
        return partial(self._counted, write)

    async def _counted(self, write: Write) -> None:
        try:
            await write()
        finally:
            self._unwritten -= 1

    @property
    def is_idle(self) -> bool:
        counts = self.queue.statistics()
        return not self._unwritten and not (counts["active"] or counts["backoff"] or counts["out"])


class Ours:
    """kubelite's scheduler, in a thread of its own."""

    def __init__(self, loop: asyncio.AbstractEventLoop, scheduler: _Telling, informers: Informers) -> None:
        self._loop, self._scheduler, self._informers = loop, scheduler, informers

    def scores(self, pod: str) -> Scores:
        return self._scheduler.told.get(pod, {})

    def during(self, pods: Sequence[str], *, anew: bool) -> contextlib.AbstractContextManager[object]:
        """It has to see by itself."""
        return contextlib.nullcontext()

    def is_idle(self, there: There) -> bool:
        """Whether it has seen all that and has done what it does about it."""
        resources = {kind: resource_of(kind) for kind in there}
        watched = {kind: there[kind] for kind, resource in resources.items() if resource in RESOURCES}

        async def has_done() -> bool:
            known = {kind: {key_of(obj): obj for obj in self._informers.of(resources[kind]).list()} for kind in watched}
            return self._scheduler.is_idle and revisions(known) == revisions(watched)

        return asyncio.run_coroutine_threadsafe(has_done(), self._loop).result(START_LIMIT_S)

    def call(self, what: Callable[[], object]) -> None:
        """Has its loop do something."""
        self._loop.call_soon_threadsafe(what)


@contextlib.contextmanager
def ours(server: Server) -> Iterator[Ours]:
    """kubelite's scheduler in a thread, on the same API."""
    started: Future[tuple[Ours, asyncio.Event]] = Future()

    async def run() -> None:
        end = asyncio.Event()
        async with server.client() as client:
            informers = Informers(client)
            scheduler = _Telling(client, informers)
            tasks = [asyncio.create_task(informers.run()), asyncio.create_task(scheduler.run())]
            await scheduler.ready.wait()
            made = Ours(asyncio.get_running_loop(), scheduler, informers)
            started.set_result((made, end))
            await end.wait()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    thread = threading.Thread(target=asyncio.run, args=(run(),), name="scheduler")
    thread.start()
    made, end = started.result(START_LIMIT_S)
    try:
        yield made
    finally:
        made.call(end.set)
        thread.join()
