"""The queue with a clock of the test's own."""

import asyncio

from kubelite.scheduler.framework import Change, ClusterEvent
from kubelite.scheduler.queue import EARLY_BURST, Queue, QueuedPod
from kubelite.scheduler.templates import Template
from tests.scheduler.objects import World, pod


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Plugin:
    """As much of a plugin as the queue asks for."""

    def __init__(self, name: str, *helped: str) -> None:
        self.name, self.helped = name, helped

    def helps(self, change: Change, template: Template) -> bool:
        return not self.helped or template.labels.get("app") in self.helped


FIT, AFFINITY = Plugin("NodeResourcesFit"), Plugin("InterPodAffinity")


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

    def refuse(self, name: str, **more: object) -> None:
        """A pod comes and fits nowhere."""
        self.add(name, **more)
        queued = self.pop()
        assert queued.pod.name == name
        self.queue.unschedulable(queued, ["NodeResourcesFit"])

    def moved(self, *plugins: Plugin) -> int:
        return self.queue.moved(Change(ClusterEvent.POD_REMOVED), plugins)  # type: ignore[arg-type]

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
        self.refuse("a")
        self.clock.now += 60
        assert self.queue.pop() is None
        assert self.moved(AFFINITY) == 0
        assert self.queue.pop() is None
        assert self.moved(AFFINITY, FIT) == 1
        assert self.pop().attempts == 2

    def test_a_plugin_says_which_pods_an_event_may_help(self) -> None:
        for name in ("a", "b", "c"):
            self.refuse(name, labels={"app": "web" if name == "a" else "db"})
        assert self.moved(Plugin("NodeResourcesFit", "db")) == 2
        assert [self.pop().pod.name, self.pop().pod.name] == ["b", "c"]
        assert self.queue.pop() is None

    def test_an_event_that_helps_only_less_important_pods_moves_no_others(self) -> None:
        self.refuse("urgent", priority=10)
        self.refuse("a")
        assert self.queue.moved(Change(ClusterEvent.POD_REMOVED), [FIT], 5) == 1  # type: ignore[list-item]
        assert self.pop().pod.name == "a"

    def test_where_nobody_else_waits_an_event_cuts_the_back_off_short(self) -> None:
        self.refuse("a")
        self.moved(FIT)
        self.add("b")
        assert [self.pop().pod.name, self.pop().pod.name] == ["b", "a"]

    def test_of_those_that_come_early_the_important_come_first(self) -> None:
        self.refuse("a")
        self.refuse("urgent", priority=10)
        self.moved(FIT)
        assert [self.pop().pod.name, self.pop().pod.name] == ["urgent", "a"]

    def test_only_so_many_come_early(self) -> None:
        for i in range(30):
            self.refuse(f"p{i}")
        self.moved(FIT)
        assert len([*iter(self.queue.pop, None)]) == EARLY_BURST
        self.clock.now += 0.125
        assert len([*iter(self.queue.pop, None)]) == 2
        self.clock.now += 1
        assert len([*iter(self.queue.pop, None)]) == 30 - EARLY_BURST - 2

    def test_a_pod_that_failed_comes_after_those_that_came_before_that(self) -> None:
        self.add("a")
        first = self.pop()
        self.clock.now += 1
        self.add("b")
        self.clock.now += 1
        self.queue.unschedulable(first, ["NodeResourcesFit"])
        self.clock.now += 2
        self.moved(FIT)
        assert [self.pop().pod.name, self.pop().pod.name] == ["b", "a"]

    def test_the_back_off_doubles_up_to_ten_seconds(self) -> None:
        self.add("a")
        waits = []
        for _ in range(6):
            queued = self.pop()
            self.queue.retry(queued)
            waits.append(queued.backoff_s)
            assert self.queue.pop() is None  # what failed otherwise doesn't come early
            self.clock.now += waits[-1]
        assert waits == [1, 2, 4, 8, 10, 10]

    def test_a_pod_that_waits_five_minutes_is_tried_again(self) -> None:
        self.refuse("a")
        self.clock.now += 301
        self.pop()

    def test_gated_pods_wait_until_their_gates_are_gone(self) -> None:
        self.add("a", schedulingGates=[{"name": "quota"}])
        self.moved(FIT, AFFINITY)
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
