"""The ends of a pod's containers: the hook, the wait for those that must end before, the stop signal, and force after the grace.

Which container ends, when and with which grace is decided in podstate.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import structlog

from kubelite.agent import hooks
from kubelite.agent.events import field_path
from kubelite.agent.podstate import MINIMUM_GRACE_S, Kill, container_of
from kubelite.meta.types import Obj
from runtimes.interface import NotFound, RuntimeFault

if TYPE_CHECKING:
    from kubelite.agent.sync import PodWorker

log = structlog.get_logger()

HOOK_LIMIT_S = 3600.0


class Ends:
    """The ends that are under way for one pod. `also` runs a task of the pod's work beside the others."""

    def __init__(self, worker: "PodWorker", also: Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]) -> None:
        self._worker = worker
        self._context = worker.context
        self._also = also
        self._stopping: set[str] = set()

    async def kill(self, kill: Kill) -> None:
        found = container_of(self._worker.pod, kill.record.name)
        await self.end(kill.record.name, kill.record.id, found and found[0], kill.grace_s, kill.message, kill.after)

    async def end(
        self, name: str, id_: str, container: Obj | None, grace_s: float, message: str, after: frozenset[str] = frozenset()
    ) -> None:
        """Ends a container: its preStop hook, then its stop signal once all of `after` have ended, then force after the grace."""
        context, pod = self._context, self._worker.pod
        context.recorder.pod(pod, "Normal", "Killing", message, field_path(pod, name))
        ends_at_s = context.now() + grace_s
        hook = ((container or {}).get("lifecycle") or {}).get("preStop")
        self._stopping.add(id_)
        try:
            if hook is not None and container is not None and grace_s > 0:
                await self._pre_stop(hook, container, id_, grace_s)
            await self._wait_ended(after, ends_at_s)
            remaining_s = max(ends_at_s - context.now(), float(MINIMUM_GRACE_S))
            with self.told_of_failing("KillContainer", name):
                await context.runtime.stop_container(id_, remaining_s)
        finally:
            self._stopping.discard(id_)
            self._worker.look_at(id_)

    def hurry(self, grace_s: float) -> None:
        """The pod's grace became shorter while its containers end: they get no more than this from now."""
        for id_ in self._stopping:
            self._also(self._stop_again(id_, grace_s))

    @contextlib.contextmanager
    def told_of_failing(self, action: str, target: str) -> Iterator[None]:
        """Tells users of a runtime that does not end what is to end. What is gone has ended."""
        try:
            yield
        except NotFound:
            return
        except RuntimeFault as e:
            text = f'error killing pod: failed to "{action}" for "{target}" with {action}Error: "{e.described}"'
            self._context.recorder.pod(self._worker.pod, "Warning", "FailedKillPod", text)
            raise

    async def run_hook(self, hook: Obj, container: Obj, id_: str, ips: Sequence[str]) -> None:
        """Runs a hook of a container to its end. Raises HookFault."""
        pod = self._worker.pod

        def fell_back(address: str) -> None:
            text = f"request to HTTPS lifecycle hook {address} got HTTP response, retry with HTTP succeeded"
            self._context.recorder.pod(pod, "Warning", "LifecycleHTTPFallback", text)

        await hooks.run(self._context.runtime, hook, container, id_, ips, HOOK_LIMIT_S, fell_back)

    async def _pre_stop(self, hook: Obj, container: Obj, id_: str, grace_s: float) -> None:
        pod, name = self._worker.pod, container["name"]
        ips = self._context.host_ips if pod["spec"].get("hostNetwork") else self._worker.observed.ips

        async def run() -> None:
            try:
                await self.run_hook(hook, container, id_, ips)
            except hooks.HookFault as e:
                log.info("pre_stop_failed", pod=self._worker.name, container=name, error=str(e))
                self._context.recorder.pod(pod, "Warning", "FailedPreStopHook", "PreStopHook failed", field_path(pod, name))

        # One that takes longer than the grace goes on while its container is stopped, and ends with it.
        running = self._also(run())
        await asyncio.wait([running], timeout=grace_s)

    async def _wait_ended(self, names: frozenset[str], until_s: float) -> None:
        """Returns once none of the named containers runs, or at `until_s`."""
        while any(r.name in names and r.may_run for r in self._worker.records.values()):
            remaining_s = until_s - self._context.now()
            if remaining_s <= 0:
                return
            looked = self._worker.looked
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(remaining_s):
                    await looked.wait()

    async def _stop_again(self, id_: str, grace_s: float) -> None:
        with contextlib.suppress(NotFound):
            await self._context.runtime.stop_container(id_, max(grace_s, float(MINIMUM_GRACE_S)))
        self._worker.look_at(id_)
