import asyncio

import pytest
import uvloop

from kubelite.client.workqueue import ShutDown, WorkQueue


async def test_a_key_added_twice_is_handed_out_once() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    queue.add("a")
    assert await queue.get() == "a"
    assert len(queue) == 0


async def test_a_key_added_while_it_is_worked_on_comes_again_when_done() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    await queue.get()
    queue.add("a")
    assert len(queue) == 0
    queue.done("a")
    assert await queue.get() == "a"
    queue.done("a")
    assert queue.idle


async def test_waiting_workers_get_one_key_each() -> None:
    queue: WorkQueue[str] = WorkQueue()
    workers = [asyncio.create_task(queue.get()) for _ in range(2)]
    await asyncio.sleep(0)
    queue.add("a")
    queue.add("b")
    assert sorted(await asyncio.gather(*workers)) == ["a", "b"]


async def test_a_cancelled_worker_passes_its_wake_up_on() -> None:
    queue: WorkQueue[str] = WorkQueue()
    first, second = asyncio.create_task(queue.get()), asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add("a")
    first.cancel()
    async with asyncio.timeout(30):
        assert await second == "a"


async def test_the_earliest_of_several_delays_counts() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_after("a", 60)
    queue.add_after("a", 0.01)
    queue.add_after("b", 30)
    async with asyncio.timeout(30):
        assert await queue.get() == "a"
    assert queue.statistics()["delayed"] == 1


async def test_back_off_doubles_until_it_is_forgotten() -> None:
    queue: WorkQueue[str] = WorkQueue(base_delay_s=0.001)
    for _ in range(3):
        queue.add_rate_limited("a")
        async with asyncio.timeout(30):
            queue.done(await queue.get())
    assert queue.failures("a") == 3
    queue.forget("a")
    assert queue.failures("a") == 0
    assert queue.statistics() == {"depth": 0, "processing": 0, "delayed": 0, "backing_off": 0, "added": 3, "retried": 3}


async def test_a_queue_that_is_shut_down_hands_out_what_it_has_and_then_ends_its_workers() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    queue.add_after("b", 0.001)
    queue.shut_down()
    queue.add("c")
    assert await queue.get() == "a"
    with pytest.raises(ShutDown):
        await queue.get()


def test_delays_that_are_over_at_once_can_follow_each_other_on_uvloop() -> None:
    async def main() -> list[str]:
        queue: WorkQueue[str] = WorkQueue()
        queue.add_after("later", 0.05)
        queue.add_after("a", 1e-9)
        queue.add_after("b", 1e-9)
        return [await queue.get(), await queue.get(), await queue.get()]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(main()) == ["a", "b", "later"]
