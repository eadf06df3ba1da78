"""Full or loading everywhere: requests wait their turn, within limits that each refusal names."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager

import pytest
from gateways import backend, fakes, reply, until

from raw_wire import CHAT
from solar.testing import FakeBackend, faults

pytestmark = pytest.mark.doors("uvicorn")


@asynccontextmanager
async def one_at_a_time(gateway, **settings):
    """A gateway whose only backend takes one request, and has it."""
    async with fakes(1) as (fake,), gateway(backend(fake, max_in_flight=1), **settings) as gw:
        fake.script(faults.silent())
        async with gw.connect() as first:
            first.ask(CHAT)
            await fake.wait_for(lambda: len(fake.inference) == 1)
            yield fake, gw, first


def code_of(got):
    return json.loads(got.body)["error"]["code"]


async def test_who_waits_is_served_in_order_of_arrival(gateway):
    async with one_at_a_time(gateway) as (fake, gw, first), gw.connect() as second, gw.connect() as third:
        second.ask({**CHAT, "user": "second"})
        await until(lambda: gw.waiting == 1)
        third.ask({**CHAT, "user": "third"})
        await until(lambda: gw.waiting == 2)
        fake.release()
        assert [(await reply(wire)).status for wire in (first, second, third)] == [200, 200, 200]
        assert [recorded.payload.get("user") for recorded in fake.inference] == [None, "second", "third"]
        assert (gw.waiting, gw.in_flight) == (0, 0)
        assert all(record.queued > 0 for record in gw.records[1:])


async def test_a_full_queue_is_429_with_the_time_to_come_back(gateway):
    async with one_at_a_time(gateway, queue_limit=1) as (_, gw, _), gw.connect() as second:
        second.ask(CHAT)
        await until(lambda: gw.waiting == 1)
        got = await gw.ask()
        assert (got.status, code_of(got)) == (429, "queue_full")
        assert int(got.headers["retry-after"]) >= 1
        assert gw.waiting == 1


async def test_who_waits_too_long_gets_429_with_the_time_to_come_back(gateway):
    async with one_at_a_time(gateway) as (fake, gw, _), gw.connect() as second:
        second.ask(CHAT)
        await until(lambda: gw.waiting == 1)
        gw.later(61)
        got = await reply(second)
        assert (got.status, code_of(got), int(got.headers["retry-after"]) >= 1) == (429, "queue_timeout", True)
        assert (gw.waiting, len(fake.inference)) == (0, 1)


async def test_a_place_on_another_backend_ends_the_wait(gateway):
    async with one_at_a_time(gateway) as (_, gw, _), fakes(1) as (other,), gw.connect() as second:
        second.ask(CHAT)
        await until(lambda: gw.waiting == 1)
        await gw.router.add_backend(backend(other, "b"))
        assert (await reply(second)).headers["x-solar-backend"] == "b"


async def test_queues_of_different_models_do_not_wait_for_each_other(gateway):
    async with (
        FakeBackend(["m"]) as busy,
        FakeBackend(["n"]) as idle,
        gateway(backend(busy, max_in_flight=1), backend(idle, "b")) as gw,
        gw.connect() as first,
        gw.connect() as second,
    ):
        busy.script(faults.silent())
        first.ask(CHAT)
        await busy.wait_for(lambda: len(busy.inference) == 1)
        second.ask(CHAT)
        await until(lambda: gw.waiting == 1)
        assert (await gw.ask({**CHAT, "model": "n"})).status == 200


async def test_loading_everywhere_is_503_that_says_so(gateway):
    async with fakes(2, loading=True) as (a, b), gateway(a, b) as gw:
        got = await gw.ask()
        assert (got.status, code_of(got)) == (503, "model_loading")
        assert int(got.headers["retry-after"]) >= 1
        assert (a.inference, b.inference) == ([], [])


async def test_what_has_loaded_is_used_though_another_still_loads(gateway):
    async with fakes(1, loading=True) as (a,), fakes(1) as (b,), gateway(a, b) as gw:
        for _ in range(3):
            assert (await gw.ask()).headers["x-solar-backend"] == "b"
        assert a.inference == []


async def test_hold_while_loading_waits_until_it_has_loaded(gateway):
    async with fakes(1, loading=True) as (fake,), gateway(fake, hold_while_loading=True) as gw:
        async with gw.connect() as wire:
            wire.ask(CHAT)
            await until(lambda: gw.waiting == 1)
            fake.loading = False
            assert (await reply(wire)).status == 200
        assert len(fake.inference) == 1
