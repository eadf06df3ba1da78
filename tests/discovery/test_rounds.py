"""What discoverers share: rounds, patience, and being followed though they fail."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest
from contract import DEADLINE

from solar import Backend, BackendFound, BackendsListed, Change
from solar.discovery import follow
from solar.discovery.patience import Known, Patience
from solar.discovery.rounds import Rounds
from solar.discovery.sighting import Address, Sighting
from solar.errors import SolarError
from solar.testing import FakeBackend, FakeDiscoverer

A, B = Backend("a", "http://127.0.0.1:9"), Backend("b", "http://127.0.0.1:10")


class Told(Rounds):
    """Sees what a test puts there."""

    name = "told"

    def __init__(self, *seen: Backend | None, every: float = 1e9) -> None:
        super().__init__(every=every)
        self.seen = seen
        self.looks = 0

    async def look(self) -> tuple[Sighting, ...]:
        self.looks += 1
        return tuple(Sighting("x", "here", "told", backend=backend) for backend in self.seen)


# --- rounds


async def test_the_first_list_comes_though_nothing_is_there() -> None:
    assert await anext(Told().watch()) == BackendsListed(())


async def test_what_is_seen_and_not_routed_to_is_not_listed() -> None:
    assert await anext(Told(A, None, B).watch()) == BackendsListed((A, B))


async def test_a_look_that_saw_the_same_tells_nothing() -> None:
    told = Told(A, every=0)
    changes = told.watch()
    await anext(changes)
    again = asyncio.get_running_loop().create_task(anext(changes))  # type: ignore[arg-type]
    async with asyncio.timeout(DEADLINE):
        while told.looks < 5:  # noqa: ASYNC110  # it tells nobody
            await asyncio.sleep(0)
    assert not again.done()
    told.seen = (A, B)
    assert await again == BackendsListed((A, B))


async def test_who_is_woken_looks_at_once() -> None:
    told = Told(A)
    changes = told.watch()
    await anext(changes)
    told.seen = (B,)
    told.wake()
    async with asyncio.timeout(DEADLINE):
        assert await anext(changes) == BackendsListed((B,))


def test_one_object_serves_one_loop_after_the_other() -> None:
    told = Told(A, every=0.001)

    async def two() -> None:
        changes = told.watch()
        await anext(changes)
        told.seen = (*told.seen, B)
        await anext(changes)

    asyncio.run(two())
    asyncio.run(two())


# --- patience


def test_pauses_grow_from_a_quarter_of_a_second_to_half_a_minute() -> None:
    patience, now, pauses = Patience(), 0.0, []
    for _ in range(9):
        patience.asked(now)
        pauses.append(patience.due - now)
        now = patience.due
    assert pauses == [0.25, 0.5, 1, 2, 4, 8, 16, 30, 30]
    patience.renew()
    assert patience.due < 0
    patience.asked(0)
    assert patience.due == 0.25


async def test_who_answered_is_asked_no_more_and_who_did_not_is() -> None:
    async with FakeBackend(["m"], kind="ollama") as there, FakeBackend(["m"], kind="ollama") as late:
        late.die()
        known = Known()
        wanted = {fake.url: (Address(fake.url, "why"),) for fake in (there, late)}
        settled = await known.ask(wanted)
        assert (settled[there.url].address is not None, settled[late.url].address) == (True, None)
        assert 0 < known.wait() <= 0.25
        asked = len(there.requests)
        late.revive()
        async with asyncio.timeout(DEADLINE):
            while settled[late.url].address is None:
                await asyncio.sleep(known.wait())
                settled = await known.ask(wanted)
        assert len(there.requests) == asked
        assert known.wait() == float("inf")


async def test_one_that_answered_stays_known_while_it_is_wanted_and_no_longer() -> None:
    async with FakeBackend(["m"], kind="ollama") as fake:
        known, wanted = Known(), {fake.url: (Address(fake.url, "why"),)}
        await known.ask(wanted)
        fake.die()
        assert (await known.ask(wanted))[fake.url].address is not None
        assert await known.ask({}) == {}
        assert (await known.ask(wanted))[fake.url].address is None


async def test_one_that_has_no_model_yet_is_known_and_asked_until_it_tells_what_it_is() -> None:
    async with FakeBackend([], kind="vllm", loading=True) as fake:
        known, wanted = Known(), {fake.url: (Address(fake.url, "why"),)}
        asked = (await known.ask(wanted))[fake.url].asked
        assert (asked is not None and asked.answered, asked and asked.type) == (True, None)
        fake.loading, fake.models = False, ("m",)
        async with asyncio.timeout(DEADLINE):
            while asked is None or asked.type is None:
                await asyncio.sleep(known.wait())
                asked = (await known.ask(wanted))[fake.url].asked
        assert asked.type == "vllm"


# --- following


async def test_pauses_between_failures_grow_and_a_list_alone_earns_no_short_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(follow, "SHORTEST", 0.001)
    monkeypatch.setattr(follow, "LONGEST", 0.008)
    pauses: list[float] = []
    watched = 0

    async def watch() -> AsyncIterator[Change]:
        nonlocal watched
        watched += 1
        yield BackendFound(A)
        if watched < 7:
            raise OSError("out of order")

    changes = [change async for change in follow.follow(watch, lambda _, pause: pauses.append(pause))]
    assert changes == [BackendFound(A)] * 7
    assert pauses == [0.001, 0.002, 0.004, 0.008, 0.008, 0.008]


async def test_who_has_worked_for_a_while_is_begun_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "SHORTEST", 0.001)
    pauses: list[float] = []
    fake = FakeDiscoverer()
    for _ in range(5):
        fake.fails(OSError("out of order"))
    fake.found(A)
    changes = follow.follow(fake.watch, lambda _, pause: pauses.append(pause))
    await anext(changes)
    await asyncio.sleep(4 * max(pauses))  # as long as it takes to have worked for a while
    fake.fails(OSError("again"))
    fake.found(B)
    await anext(changes)
    assert max(pauses) == 0.016
    assert pauses[-1] == 0.001


async def test_a_watch_that_ends_is_not_begun_again() -> None:
    async def watch() -> AsyncIterator[Change]:
        yield BackendFound(A)

    assert [change async for change in follow.follow(watch, pytest.fail)] == [BackendFound(A)]


async def test_who_follows_no_more_closes_what_it_followed() -> None:
    closed = False

    async def watch() -> AsyncIterator[Change]:
        nonlocal closed
        try:
            yield BackendFound(A)
            yield BackendFound(B)
        finally:
            closed = True

    changes = follow.follow(watch, pytest.fail)
    await anext(changes)
    await changes.aclose()  # type: ignore[attr-defined]
    assert closed


async def test_an_iterator_of_ones_own_needs_no_end() -> None:
    class Once:
        def __init__(self) -> None:
            self.left = [BackendFound(A)]

        def __aiter__(self) -> AsyncIterator[Change]:
            return self

        async def __anext__(self) -> Change:
            if not self.left:
                raise StopAsyncIteration
            return self.left.pop()

    assert [change async for change in follow.follow(Once, pytest.fail)] == [BackendFound(A)]


async def test_whatever_is_wrong_with_an_iterator_of_ones_own_is_a_failure_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(follow, "SHORTEST", 0.001)
    errors: list[Exception] = []

    class Awkward:
        async def __anext__(self) -> Change:
            raise StopAsyncIteration

        def __aiter__(self) -> AsyncIterator[Change]:
            return self

        async def aclose(self) -> None:
            raise OSError("it does not close")

    def watch() -> AsyncIterator[Change]:
        if not errors:
            raise OSError("it does not begin")
        return Awkward() if len(errors) == 1 else FakeDiscoverer().watch()

    changes = follow.follow(watch, lambda error, _: errors.append(error))
    waiting = asyncio.get_running_loop().create_task(anext(changes))  # type: ignore[arg-type]
    async with asyncio.timeout(DEADLINE):
        while len(errors) < 2:  # noqa: ASYNC110  # it tells nobody
            await asyncio.sleep(0.001)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert [str(error) for error in errors] == ["it does not begin", "it does not close"]


def test_the_same_complaint_is_said_once_and_another_one_is_news(caplog: pytest.LogCaptureFixture) -> None:
    failed = follow.complaining(logging.getLogger("solar"), "discoverer=docker")
    for error in (SolarError("no socket"), SolarError("no socket"), SolarError("no right"), SolarError("no socket")):
        failed(error, 0.5)
    assert [record.getMessage() for record in caplog.records] == [
        "discoverer=docker failed; again in 0.5s: no socket",
        "discoverer=docker failed; again in 0.5s: no right",
        "discoverer=docker failed; again in 0.5s: no socket",
    ]
