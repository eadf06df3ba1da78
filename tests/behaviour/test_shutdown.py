"""Stopping lets what is in flight finish, up to a limit, and takes nothing new."""

from __future__ import annotations

import asyncio
import json

import pytest
from gateways import backend, fakes, reply, until

from raw_wire import CHAT, STREAM
from solar.testing import faults

here = pytest.mark.doors("uvicorn")


async def stopping(gw):
    """Begins to stop the router, and returns once it takes nothing new."""
    task = asyncio.get_running_loop().create_task(gw.router.stop())
    relay = gw.router._running.relay
    await until(lambda: relay.stopping)
    return task


async def test_a_stream_in_flight_ends_as_if_nothing_were(gateway):
    async with fakes(1) as (fake,), gateway(fake, drain_seconds=5) as gw, gw.connect() as wire:
        fake.script(faults.stall_after(2))
        wire.ask(STREAM)
        await wire.head()
        stop = await stopping(gw)
        fake.release()
        rest, _ = await wire.rest()
        await stop
        assert (rest.count(b"data: "), b'"error"' in rest) == (8, False)
        assert rest.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


async def test_after_the_limit_a_stream_ends_truthfully(gateway):
    async with fakes(1) as (fake,), gateway(fake, drain_seconds=0.05) as gw, gw.connect() as wire:
        fake.script(faults.stall_after(2))
        wire.ask(STREAM)
        await wire.head()
        await gw.router.stop()
        rest, end = await wire.rest()
        assert (rest.count(b'data: {"error":'), rest.endswith(b"0\r\n\r\n"), end) == (1, False, "fin")
        assert (gw.records[0].end, gw.records[0].code) == ("broken", "shutdown")
        await fake.wait_for(lambda: fake.inference[0].cancelled)


@here
async def test_after_the_limit_a_json_answer_is_cut_without_a_word(gateway):
    async with fakes(1) as (fake,), gateway(fake, drain_seconds=0.05) as gw, gw.connect() as wire:
        fake.script(faults.stall_after(1))
        wire.ask(CHAT)
        await wire.head()
        await gw.router.stop()
        rest, end = await wire.rest()
        assert (b"error" in rest, end) == (False, "fin")


async def test_after_the_limit_who_has_no_answer_yet_gets_503(gateway):
    async with fakes(1) as (fake,), gateway(backend(fake, max_in_flight=1), drain_seconds=0.05) as gw:
        fake.script(faults.silent())
        async with gw.connect() as sent, gw.connect() as queued:
            sent.ask(CHAT)
            await fake.wait_for(lambda: fake.inference)
            queued.ask(CHAT)
            await until(lambda: gw.waiting == 1)
            await gw.router.stop()
            for wire in (sent, queued):
                got = await reply(wire)
                assert (got.status, json.loads(got.body)["error"]["code"]) == (503, "shutdown")
                assert int(got.headers["retry-after"]) >= 1
        assert len(fake.inference) == 1


async def test_new_requests_get_503_while_old_ones_finish(gateway):
    async with fakes(1) as (fake,), gateway(fake, drain_seconds=5) as gw, gw.connect() as wire:
        fake.script(faults.stall_after(2))
        wire.ask(STREAM)
        await wire.head()
        stop = await stopping(gw)
        got = await gw.ask()
        assert (got.status, json.loads(got.body)["error"]["code"]) == (503, "shutdown")
        fake.release()
        assert b"[DONE]" in (await wire.rest())[0]
        await stop


@here
async def test_nothing_is_left_of_a_router_that_stopped(gateway):
    async with fakes(2) as (a, b), gateway(a, b) as gw:
        await gw.ask()
        await gw.ask()
        await gw.router.stop()
        ours = ("clock", "probe", "connect", "client")
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith(ours)]
        await a.wait_for(lambda: a.open == 0)
        await b.wait_for(lambda: b.open == 0)
