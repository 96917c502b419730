"""The queue with a clock of the test's own."""

import asyncio

from kubelite.scheduler.queue import Queue, QueuedPod
from tests.scheduler.objects import World, pod


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class TestQueue:
    def setup_method(self) -> None:
        self.clock = Clock()
        self.world = World()
        self.queue = Queue(self.clock)

    def add(self, name: str, **more: object) -> None:
        self.queue.add(self.world.info(pod(name, **more)))  # type: ignore[arg-type]

    def pop(self) -> QueuedPod:
        queued = self.queue.pop()
        assert queued is not None
        return queued

    def test_pods_come_by_priority_and_then_in_their_order(self) -> None:
        self.add("a")
        self.clock.now += 1
        self.add("b")
        self.add("urgent", priority=10)
        assert [self.pop().pod.name for _ in range(3)] == ["urgent", "a", "b"]
        assert self.queue.pop() is None

    def test_a_deleted_pod_does_not_come(self) -> None:
        self.add("a")
        self.queue.delete("uid-default-a")
        assert self.queue.pop() is None
        assert len(self.queue) == 0

    def test_a_refused_pod_waits_for_an_event_of_a_plugin_that_refused_it(self) -> None:
        self.add("a")
        self.queue.unschedulable(self.pop(), ["NodeResourcesFit"])
        self.clock.now += 60
        assert self.queue.pop() is None
        assert self.queue.moved(frozenset(["InterPodAffinity"])) == 0
        assert self.queue.pop() is None
        assert self.queue.moved(frozenset(["InterPodAffinity", "NodeResourcesFit"])) == 1
        assert self.pop().attempts == 2

    def test_an_event_during_the_back_off_takes_effect_after_it(self) -> None:
        self.add("a")
        self.queue.unschedulable(self.pop(), ["NodeResourcesFit"])
        self.clock.now += 0.5
        self.queue.moved(frozenset(["NodeResourcesFit"]))
        assert self.queue.pop() is None
        self.clock.now += 0.5
        self.pop()

    def test_the_back_off_doubles_up_to_ten_seconds(self) -> None:
        self.add("a")
        waits = []
        for _ in range(6):
            queued = self.pop()
            waits.append(queued.backoff_s)
            self.queue.retry(queued)
            self.clock.now += 10
        assert waits == [1, 2, 4, 8, 10, 10]

    def test_a_pod_that_waits_five_minutes_is_tried_again(self) -> None:
        self.add("a")
        self.queue.unschedulable(self.pop(), ["NodeResourcesFit"])
        self.clock.now += 301
        self.pop()

    def test_gated_pods_wait_until_their_gates_are_gone(self) -> None:
        self.add("a", schedulingGates=[{"name": "quota"}])
        self.queue.move_all()
        assert self.queue.pop() is None
        self.add("a")
        assert self.pop().attempts == 1

    def test_a_result_for_a_pod_that_was_deleted_meanwhile_is_dropped(self) -> None:
        self.add("a")
        queued = self.pop()
        self.queue.delete("uid-default-a")
        self.queue.unschedulable(queued, ["NodeResourcesFit"])
        self.queue.retry(queued)
        self.clock.now += 60
        assert self.queue.pop() is None

    async def test_waiting_ends_when_a_pod_comes(self) -> None:
        waiting = asyncio.create_task(self.queue.wait())
        await asyncio.sleep(0)
        assert not waiting.done()
        self.add("a")
        async with asyncio.timeout(30):
            await waiting
