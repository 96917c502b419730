"""containerd's own events as the interface's: the CRI of 1.6 has none.

The CRI plugin learns of an exit and of a process killed for want of memory from the same events as we do, so they are reported
once the plugin knows of them: who looks again then sees it. The latter often comes after the exit whose reason it is. Events of
execs in a container are left out.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc

from runtimes.containerd.calls import fault
from runtimes.containerd.importing import NAMESPACE
from runtimes.interface import RuntimeEvent, RuntimeFault, Unreachable
from runtimes.rpc import containerd_event_types_pb2 as event_types
from runtimes.rpc import containerd_events_pb2 as events_pb
from runtimes.rpc import containerd_events_pb2_grpc as events_grpc

_KINDS = {
    "/tasks/start": "started",
    "/tasks/exit": "stopped",
    "/tasks/oom": "oom",
    "/containers/create": "created",
    "/containers/delete": "deleted",
}
#: What the CRI plugin must know of before it is told.
_SETTLED = ("stopped", "oom")
_SETTLE_S = 5.0
_BUFFER = 4096


class Owners:
    """Which sandbox a container belongs to; of a sandbox itself its own id. Learnt from every call that says so."""

    def __init__(self, refresh: Callable[[], Awaitable[None]]) -> None:
        self._refresh = refresh
        self._owners: dict[str, str] = {}

    def learn(self, container_id: str, sandbox_id: str) -> None:
        self._owners[container_id] = sandbox_id

    def forget(self, container_id: str) -> None:
        self._owners.pop(container_id, None)

    def known(self, container_id: str) -> str:
        return self._owners.get(container_id, "")

    async def of(self, container_id: str) -> str:
        """The sandbox's id, empty when the runtime has no such container."""
        if container_id not in self._owners:
            await self._refresh()
        return self._owners.get(container_id, "")


async def events(
    channel: grpc.aio.Channel, socket: str, owners: Owners, is_known: Callable[[RuntimeEvent], Awaitable[bool]]
) -> AsyncIterator[RuntimeEvent]:
    """`is_known` says whether the CRI plugin knows what an event tells. Raises: Unreachable when the connection ends."""
    filters = [f'topic=="{topic}",namespace=={NAMESPACE}' for topic in _KINDS]
    service = events_grpc.EventsStub(channel)  # type: ignore[no-untyped-call]
    call = service.Subscribe(events_pb.SubscribeRequest(filters=filters))
    # Bounded: a reader that is that far behind loses events, as the interface allows, and finds out by listing.
    found: asyncio.Queue[RuntimeEvent | None] = asyncio.Queue(_BUFFER)
    failure: list[RuntimeFault] = []

    def emit(event: RuntimeEvent | None) -> None:
        if found.full():
            found.get_nowait()
        found.put_nowait(event)

    async def settle(event: RuntimeEvent) -> None:
        deadline = time.monotonic() + _SETTLE_S
        pause_s = 0.002
        while time.monotonic() < deadline and not await is_known(event):
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, 0.1)
        emit(event)

    async def read(group: asyncio.TaskGroup) -> None:
        try:
            async for envelope in call:
                container_id = _container(envelope)
                if not container_id:
                    continue
                kind, sandbox_id = _KINDS[envelope.topic], owners.known(container_id)
                if not sandbox_id and kind in _SETTLED:
                    sandbox_id = await owners.of(container_id)
                if not sandbox_id:
                    continue  # another client's, or one that is being made: its maker is waiting for it
                event = RuntimeEvent(sandbox_id, container_id, kind, envelope.timestamp.ToNanoseconds())
                if kind in _SETTLED:
                    group.create_task(settle(event), name=f"container-{kind}")
                else:
                    emit(event)
            failure.append(Unreachable(f"containerd at {socket} ended its events"))
        except grpc.aio.AioRpcError as e:
            failure.append(_unreachable(fault(e, socket)))
        except RuntimeFault as e:
            failure.append(_unreachable(e))
        emit(None)

    async def guarded() -> None:
        try:
            async with asyncio.TaskGroup() as group:
                await read(group)
        except* RuntimeFault as e:  # a status call failed while settling: the connection is gone
            failure.extend(_unreachable(x) for x in e.exceptions if isinstance(x, RuntimeFault))
            emit(None)

    reader = asyncio.create_task(guarded(), name="containerd-events")
    try:
        while (event := await found.get()) is not None:
            yield event
        raise failure[0] if failure else Unreachable(f"containerd at {socket} ended its events")
    finally:
        call.cancel()
        reader.cancel()
        await asyncio.wait([reader])


def _unreachable(error: RuntimeFault) -> Unreachable:
    return error if isinstance(error, Unreachable) else Unreachable(str(error))


def _container(envelope: events_pb.Envelope) -> str:
    """The id of the container that an event is about; empty for the end of an exec."""
    value = envelope.event.value
    if envelope.topic == "/tasks/exit":
        ended = event_types.TaskExit.FromString(value)
        return ended.container_id if ended.id == ended.container_id else ""
    if envelope.topic == "/tasks/start":
        return event_types.TaskStart.FromString(value).container_id
    if envelope.topic == "/tasks/oom":
        return event_types.TaskOOM.FromString(value).container_id
    if envelope.topic == "/containers/create":
        return event_types.ContainerCreate.FromString(value).id
    return event_types.ContainerDelete.FromString(value).id
