import asyncio
from collections.abc import AsyncGenerator

import orjson
from structlog.testing import capture_logs

from kubelite.agent.status import EVENT_LIMIT, Outbox
from kubelite.rpc import node_pb2 as pb


def pod(name: str) -> dict[str, dict[str, str]]:
    return {"metadata": {"namespace": "ns", "name": name, "uid": name}}


async def taken(stream: AsyncGenerator[pb.FromNode, None]) -> list[pb.FromNode]:
    """Everything that a session has to send at once."""
    messages = [await anext(stream)]
    while True:
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        if not waiting.done():
            waiting.cancel()
            return messages
        messages.append(waiting.result())


async def test_a_new_session_sends_the_newest_status_of_each_pod_again() -> None:
    outbox = Outbox()
    outbox.pod(pod("a"), {"phase": "Pending"}, False)
    outbox.pod(pod("b"), {"phase": "Running"}, False)
    outbox.pod(pod("a"), {"phase": "Running"}, False)
    for _ in range(2):
        messages = await taken(outbox.stream(pb.Hello()))
        assert messages[0].WhichOneof("message") == "hello"
        assert [(m.pod.name, orjson.loads(m.pod.status_json)) for m in messages[1:]] == [
            ("a", {"phase": "Running"}),
            ("b", {"phase": "Running"}),
        ]
    outbox.forget_pod("a")
    assert [m.pod.name for m in (await taken(outbox.stream(pb.Hello())))[1:]] == ["b"]


async def test_of_too_many_events_the_oldest_go_and_the_log_says_how_many() -> None:
    outbox = Outbox()
    for number in range(EVENT_LIMIT + 3):
        outbox.event({"number": number})
    with capture_logs() as logs:
        messages = await taken(outbox.stream(pb.Hello()))
    assert [orjson.loads(m.event.event_json)["number"] for m in messages[1:]] == [*range(3, EVENT_LIMIT + 3)]
    assert [(line["event"], line["count"]) for line in logs] == [("events_dropped", 3)]
