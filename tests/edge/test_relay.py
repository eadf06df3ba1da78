"""What all exchanges share: the buffer budget, the end of waiting, the names of requests."""

from __future__ import annotations

import asyncio
import logging

import pytest
from exchange_bench import EVENT, Bench, backends

from solar.core.openai import peek
from solar.edge.relay import RelayOptions
from solar.edge.tasks import Tasks


def test_the_budget_for_bodies_is_never_overdrawn() -> None:
    bench = Bench(options=RelayOptions(max_buffered_bytes=100))
    assert bench.relay.reserve(60)
    assert not bench.relay.reserve(41)
    assert bench.relay.reserve(40)
    assert repr(bench.relay) == "<Relay 0 open, 100 bytes buffered>"


def test_a_body_is_given_back_once() -> None:
    bench = Bench(*backends("a"))
    exchange, _ = bench.ask()
    bench.relay.release_body(exchange.request)
    bench.relay.release_body(exchange.request)
    assert bench.relay.buffered == 0
    assert exchange.request.peek == peek(b'{"model": "m", "stream": false}')


def test_no_two_requests_have_one_id() -> None:
    first, second = Bench().relay, Bench().relay
    assert len({relay.new_id() for relay in (first, second) for _ in range(100)}) == 200


async def test_draining_waits_for_the_last_exchange() -> None:
    bench = Bench(*backends("a"))
    assert bench.relay.drained().done()
    bench.ask()
    bench.ask()
    given_up, *drained = [bench.relay.drained() for _ in range(3)]
    given_up.cancel()
    bench.calls[0].answer()
    assert not any(each.done() for each in drained)
    bench.calls[1].answer()
    assert all(each.done() for each in drained)


def test_an_idle_backend_is_never_suspect() -> None:
    bench = Bench(*backends("a"))
    bench.later(100.0)
    assert bench.member("a").stall.grade == "moving"


def test_evidence_is_looked_for_once_a_second() -> None:
    bench = Bench(*backends("a"))
    bench.ask(stream=True)
    bench.calls[0].stream(EVENT)
    looked: list[float] = []
    bench.calls[0].unacknowledged = lambda: bool(looked.append(bench.clock()))  # type: ignore[method-assign]
    bench.later(5.0)
    assert len(looked) == 3


def test_while_a_model_loads_its_silence_is_no_evidence() -> None:
    bench = Bench(*backends("a"))
    bench.ask(stream=True)
    bench.member("a").health.loading(bench.clock(), 0.5)
    bench.later(100.0)
    assert bench.member("a").stall.grade == "moving"


async def test_tasks_end_with_their_owner_and_a_failure_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    tasks = Tasks(logging.getLogger("solar.test"))
    begun = asyncio.Event()

    async def works() -> None:
        begun.set()
        await asyncio.Event().wait()

    async def fails() -> None:
        raise ValueError("it broke")

    running = tasks.spawn(works(), "works")
    failing = tasks.spawn(fails(), "fails")
    await begun.wait()
    await asyncio.wait([failing])
    await asyncio.sleep(0)
    assert (len(tasks), [record.getMessage() for record in caplog.records]) == (
        1,
        ["background task 'fails' failed: ValueError('it broke')"],
    )
    await tasks.stop()
    assert running.cancelled()
    assert len(tasks) == 0
