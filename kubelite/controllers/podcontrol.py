"""Creating and deleting many pods for an owner, with the events that tell of it.

Source: kubernetes pkg/controller/controller_utils.go, v1.34 (reasons, messages, the slow start).
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from kubelite.client.contract import Client
from kubelite.client.events import EventRecorder
from kubelite.controllers.reconciler import is_namespace_terminating
from kubelite.meta.errors import ApiError, NotFound
from kubelite.meta.types import Obj

SLOW_START = 1


async def slow_start(count: int, create: Callable[[int], Awaitable[None]]) -> tuple[int, ApiError | None]:
    """Calls `create(i)` for i below count in batches that double, and stops after a batch in which one failed.

    What fails once mostly fails for all (a quota, an invalid template): the server is not to be asked a thousand times.
    Returns how many succeeded and the first error.
    """
    done, size = 0, SLOW_START
    position = 0
    while position < count:
        batch = range(position, min(position + size, count))
        results = await asyncio.gather(*map(create, batch), return_exceptions=True)
        failures = [r for r in results if r is not None]
        done += len(results) - len(failures)
        for failure in failures:
            if not isinstance(failure, ApiError):
                raise failure
        if failures:
            return done, failures[0]  # type: ignore[return-value]  # the loop above has checked it
        position += len(batch)
        size *= 2
    return done, None


class PodControl:
    """Creates and deletes pods for owners, and records SuccessfulCreate and its like about the owner."""

    def __init__(self, client: Client, events: EventRecorder) -> None:
        self._client = client
        self._events = events

    async def create(self, pod: Obj, owner: Obj) -> Obj | None:
        """The created pod; None where its namespace is going away, which is nobody's failure."""
        try:
            created = await self._client.create("pods", pod)
        except ApiError as e:
            if is_namespace_terminating(e):
                return None
            self._events.event(owner, "Warning", "FailedCreate", f"Error creating: {e.message}")
            raise
        self._events.event(owner, "Normal", "SuccessfulCreate", f"Created pod: {created['metadata']['name']}")
        return created

    async def delete(self, pod: Obj, owner: Obj) -> bool:
        """False where the pod was gone already."""
        meta = pod["metadata"]
        try:
            await self._client.delete("pods", meta["name"], meta["namespace"], precondition_uid=meta["uid"])
        except NotFound:
            return False
        except ApiError as e:
            if e.code == 409:  # another pod has the name now
                return False
            self._events.event(owner, "Warning", "FailedDelete", f"Error deleting: {e.message}")
            raise
        self._events.event(owner, "Normal", "SuccessfulDelete", f"Deleted pod: {meta['name']}")
        return True

    async def delete_all(self, pods: Sequence[Obj], owner: Obj) -> list[Obj]:
        """Deletes them side by side. Returns those that were not there to delete.

        Raises:
            ApiError: the first failure, after all were tried.
        """
        results = await asyncio.gather(*(self.delete(pod, owner) for pod in pods), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return [pod for pod, deleted in zip(pods, results, strict=True) if not deleted]
