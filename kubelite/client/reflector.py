"""One list and one watch of a resource, kept going through everything: what informers and others that follow it build on.

It watches on from the last revision it saw, lists again when that is compacted, and backs off while the server does not
answer. No error ends it.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import NoReturn

import structlog

from kubelite.client.contract import Client, WatchEvent
from kubelite.meta.errors import ApiError, Expired, Gone
from kubelite.meta.types import Obj

log = structlog.get_logger()

FIRST_BACKOFF_S = 0.05
LAST_BACKOFF_S = 10.0


async def reflect(
    client: Client, resource: str, *, listed: Callable[[list[Obj]], None], changed: Callable[[Obj, bool], None]
) -> NoReturn:
    """Calls `listed` with all objects there are, then `changed(obj, deleted)` for each change in order, until cancelled.

    `listed` is called again after a fault that cost events: what it leaves out is gone.
    """
    backoff_s = FIRST_BACKOFF_S
    revision = ""
    while True:
        try:
            if not revision:
                listing = await client.list(resource)
                listed(listing.items)
                revision = listing.resource_version
            async with _closing(client.watch(resource, resource_version=revision, bookmarks=True)) as stream:
                async for kind, obj in stream:
                    if kind != "BOOKMARK":
                        changed(obj, kind == "DELETED")
                    revision = obj["metadata"]["resourceVersion"]
                    backoff_s = FIRST_BACKOFF_S
            # The server ended the watch, as it does after its time: go on from where we are, but never in a busy loop.
            await asyncio.sleep(FIRST_BACKOFF_S * random.random())
            continue
        except (Expired, Gone):
            log.info("watch_expired", resource=resource, revision=revision)
            revision = ""
        except asyncio.CancelledError:
            raise
        except Exception as e:  # noqa: BLE001 - a reconcile loop: no fault of a server or a receiver ends it
            level = log.warning if not isinstance(e, ApiError) or e.code >= 500 else log.info
            level("watch_failed", resource=resource, error=str(e) or type(e).__name__, again_in_s=backoff_s)
            if not isinstance(e, ApiError) or (e.code < 500 and e.code != 429):
                revision = ""
        await asyncio.sleep(backoff_s * (0.5 + random.random() / 2))
        backoff_s = min(backoff_s * 2, LAST_BACKOFF_S)


@contextlib.asynccontextmanager
async def _closing(stream: AsyncIterator[WatchEvent]) -> AsyncIterator[AsyncIterator[WatchEvent]]:
    """Ends a watch with the block, not when the garbage collector comes by."""
    try:
        yield stream
    finally:
        if isinstance(stream, AsyncGenerator):
            await stream.aclose()
