import asyncio
import json

import pytest

from solar.control import watchers as module
from solar.control.watchers import EVENTS, HOSTS, ROUTING, Watcher, Watchers
from solar.store import RequestSummary
from solar.wire.watching import Filter


def request(model: str) -> RequestSummary:
    return RequestSummary(
        request_id="r",
        request_type="chat",
        status="success",
        ending="success",
        http_status=200,
        model=model,
        endpoint="/v1/chat/completions",
        client_ip="127.0.0.1",
        stream=False,
        attempts=1,
        ended_ms=1,
        duration_us=1000,
    )


async def waiting(watcher: Watcher) -> list[object]:
    """All that waits for it, as it reads that."""
    watcher.tell("null")
    frames = []
    async for frame in watcher:
        if frame == "null":
            break
        frames.append(json.loads(frame))
    return frames


async def test_each_watcher_reads_the_kinds_that_it_joined_for_in_order() -> None:
    watchers = Watchers()
    hosts, routing = watchers.join(HOSTS), watchers.join(ROUTING)
    for number, kind in enumerate(["request_start", "host_status", "request_success", "unheard-of"]):
        watchers.tell(kind, str(number))
    assert await waiting(hosts) == [1]
    assert await waiting(routing) == [0, 2]


async def test_whoever_waits_is_woken_by_a_frame_and_by_leaving() -> None:
    watchers = Watchers()
    watcher = watchers.join(HOSTS)
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        first = tasks.create_task(anext(watcher))
        await asyncio.sleep(0)
        watchers.tell("host_status", "1")
        assert await first == "1"
        last = tasks.create_task(anext(watcher, "the end"))
        await asyncio.sleep(0)
        watcher.leave()
        assert await last == "the end"


async def test_a_slow_reader_misses_the_oldest_and_reads_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_FRAMES", 3)
    watchers = Watchers()
    with watchers.join(HOSTS) as watcher:
        for number in range(5):
            watchers.tell("host_status", str(number))
        assert [await anext(watcher) for _ in range(4)] == [b'{"type":"gap","missed":2}', "2", "3", "4"]
        watchers.tell("host_status", "5")
        assert await anext(watcher) == "5"


async def test_what_waits_is_bounded_in_bytes() -> None:
    watchers = Watchers()
    with watchers.join(HOSTS) as watcher:
        for _ in range(100):
            watchers.tell("host_status", bytes(300_000))
        assert json.loads(await anext(watcher)) == {"type": "gap", "missed": 97}
        assert [len(await anext(watcher)) for _ in range(3)] == [300_000] * 3
        watchers.tell("host_status", bytes(2_000_000))  # more than there is room for
        watchers.tell("host_status", "1")
        assert [await anext(watcher), await anext(watcher)] == [b'{"type":"gap","missed":1}', "1"]


async def test_a_filter_is_for_requests_that_are_over_and_for_its_watcher_alone() -> None:
    watchers = Watchers()
    one, all_of_them = watchers.join(EVENTS, Filter(model="a")), watchers.join(EVENTS)
    for number, model in enumerate("aba"):
        watchers.tell("gateway_request", str(number), request(model))
    watchers.tell("request_success", "3")
    one.filter = Filter(status="error")
    watchers.tell("gateway_request", "4", request("a"))
    assert await waiting(one) == [0, 2, 3]
    assert await waiting(all_of_them) == [0, 1, 2, 3, 4]


def test_who_tells_hears_whether_anybody_wants_it() -> None:
    watchers = Watchers()
    heard = []
    watchers.on_watched.append(lambda: heard.append((watchers.watched, watchers.wants(ROUTING))))
    with watchers.join(HOSTS), watchers.join(ROUTING) as second:
        second.leave()
    assert heard == [(True, False), (True, True), (True, False), (False, False)]
    assert repr(watchers) == "<Watchers of nothing>"


def test_nothing_waits_for_who_has_left() -> None:
    watchers = Watchers()
    with watchers.join(HOSTS) as watcher:
        watchers.tell("host_status", "1")
    watchers.tell("host_status", "2")
    assert repr(watcher) == "<Watcher, 0 frames wait, 0 missed>"


async def test_a_reader_with_much_to_read_gives_others_their_turn() -> None:
    watchers = Watchers()
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async with asyncio.TaskGroup() as tasks:
        besides = tasks.create_task(others())
        with watchers.join(HOSTS) as watcher:
            for number in range(320):
                watchers.tell("host_status", str(number))
            for _ in range(320):
                await anext(watcher)
        besides.cancel()
    assert turns >= 8
