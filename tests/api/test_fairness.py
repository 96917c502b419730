"""Flow schemas classify; priority levels have seats and queues that take turns."""

import asyncio

import pytest

from kubelite.api.fairness import Fairness
from kubelite.api.requests import parse_path
from kubelite.meta.errors import TooManyRequests
from kubelite.meta.users import User
from kubelite.server import flowcontrol

ADMIN = User("admin", ("system:masters", "system:authenticated"))
JANE = User("jane", ("system:authenticated",))
NODE = User("system:node:n1", ("system:nodes", "system:authenticated"))
SCHEDULER = User("system:kube-scheduler", ("system:authenticated",))
ACCOUNT = User("system:serviceaccount:default:x", ("system:serviceaccounts", "system:authenticated"))
KUBE_SYSTEM = User("system:serviceaccount:kube-system:x", ("system:serviceaccounts", "system:authenticated"))

PODS = parse_path("GET", "/api/v1/namespaces/a/pods", {})
LEASE = parse_path("PUT", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1", {})
HEALTH = parse_path("GET", "/healthz", {})


@pytest.fixture
def fairness() -> Fairness:
    made = Fairness()
    made.configure(flowcontrol.flow_schemas(), flowcontrol.priority_levels())
    return made


@pytest.mark.parametrize(
    ("user", "info", "flow"),
    [
        (ADMIN, PODS, "exempt"),
        (JANE, PODS, "global-default"),
        (JANE, HEALTH, "probes"),
        (NODE, LEASE, "system-node-high"),
        (NODE, PODS, "system-nodes"),
        (SCHEDULER, PODS, "kube-scheduler"),
        (SCHEDULER, LEASE, "system-leader-election"),
        (KUBE_SYSTEM, PODS, "kube-system-service-accounts"),
        (ACCOUNT, PODS, "service-accounts"),
    ],
)
def test_requests_belong_to_the_flows_of_kubernetes(fairness, user, info, flow):
    assert fairness.classify(user, info).name == flow


def test_seats_are_shared_by_the_levels_shares(fairness):
    seats = {name: level["seats"] for name, level in fairness.statistics().items()}
    assert seats["workload-low"] == 245  # 100 of 245 shares of 600
    assert seats["catch-all"] == 13
    assert sum(seats.values()) >= 600


async def test_who_finds_no_seat_waits_for_one(fairness):
    flow = fairness.classify(JANE, PODS)
    flow.level.seats = 1
    first = await fairness.seat(flow, JANE, PODS)
    waiting = asyncio.ensure_future(fairness.seat(flow, JANE, PODS))
    await asyncio.sleep(0)
    assert not waiting.done()
    first.release()
    second = await waiting
    assert flow.level.executing == 1
    second.release()
    assert flow.level.executing == 0


async def test_queues_take_turns_so_that_one_flow_starves_no_other(fairness):
    flow = fairness.classify(JANE, PODS)
    flow.level.seats = 1
    held = await fairness.seat(flow, JANE, PODS)
    order: list[str] = []

    async def ask(user: User) -> None:
        seat = await fairness.seat(flow, user, PODS)
        order.append(user.name)
        seat.release()

    noisy = [asyncio.ensure_future(ask(JANE)) for _ in range(3)]
    await asyncio.sleep(0)
    quiet = asyncio.ensure_future(ask(User("joe")))
    await asyncio.sleep(0)
    held.release()
    await asyncio.gather(*noisy, quiet)
    assert order == ["jane", "joe", "jane", "jane"]


async def test_cve_2020_8552_a_full_queue_refuses_with_a_time_to_come_back(fairness):
    flow = fairness.classify(JANE, PODS)
    flow.level.seats = 1
    flow.level.queue_limit = 1
    held = await fairness.seat(flow, JANE, PODS)
    waiting = asyncio.ensure_future(fairness.seat(flow, JANE, PODS))
    await asyncio.sleep(0)
    with pytest.raises(TooManyRequests) as e:
        await fairness.seat(flow, JANE, PODS)
    assert e.value.retry_after_s == 1
    held.release()
    (await waiting).release()


async def test_a_request_that_is_given_up_leaves_its_queue(fairness):
    flow = fairness.classify(JANE, PODS)
    flow.level.seats = 1
    held = await fairness.seat(flow, JANE, PODS)
    waiting = asyncio.ensure_future(fairness.seat(flow, JANE, PODS))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    held.release()
    assert flow.level.executing == 0
    (await fairness.seat(flow, JANE, PODS)).release()


def test_a_changed_level_keeps_what_runs(fairness):
    level = fairness.classify(JANE, PODS).level
    level.executing = 3
    fairness.configure(flowcontrol.flow_schemas(), flowcontrol.priority_levels())
    assert fairness.classify(JANE, PODS).level.executing == 3
