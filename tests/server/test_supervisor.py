"""Parts end in reverse order, and one that ends by itself is an error."""

import asyncio

import pytest

from kubelite.server.supervisor import PartFailed, Supervisor


async def test_parts_and_stops_go_in_reverse_order():
    supervisor = Supervisor()
    ended: list[str] = []

    async def part(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(name)

    async def stop(name: str) -> None:
        ended.append(name)

    supervisor.on_stop("store", lambda: stop("store"))
    supervisor.run("informers", part("informers"))
    supervisor.on_stop("api", lambda: stop("api"))
    supervisor.run("controllers", part("controllers"))
    await asyncio.sleep(0)
    await supervisor.stop(5)
    assert ended == ["controllers", "api", "informers", "store"]


async def test_a_part_that_ends_by_itself_fails_the_server():
    supervisor = Supervisor()

    async def part() -> None:
        raise ValueError("broken")

    supervisor.run("part", part())
    with pytest.raises(PartFailed, match="part ended: broken"):
        await supervisor.failed
    await supervisor.stop(1)


async def test_a_stop_that_hangs_does_not_hold_up_the_others():
    supervisor = Supervisor()
    ended: list[str] = []

    async def stop() -> None:
        ended.append("first")

    supervisor.on_stop("first", stop)
    supervisor.on_stop("hangs", asyncio.Event().wait)  # type: ignore[arg-type]
    async with asyncio.timeout(30):
        await supervisor.stop(0.1)
    assert ended == ["first"]
