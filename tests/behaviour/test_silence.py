"""Silence is a fault of its own: what is suspect gets nothing new, what is stalled gives back what it has."""

from __future__ import annotations

import httpx
import pytest
from gateways import backend, fakes, reply, until

from raw_wire import CHAT, STREAM
from solar.testing import faults

pytestmark = pytest.mark.doors("uvicorn")


async def test_new_requests_avoid_what_is_suspect_and_return_once_it_moves(gateway):
    async with fakes(2) as (a, b), gateway(a, b) as gw, gw.connect() as wire:
        a.script(faults.stall_after(1))
        wire.ask(STREAM)
        await wire.head()
        gw.later(2.5)
        assert gw.backend("a").state == "suspect"
        for _ in range(4):
            assert (await gw.ask()).headers["x-solar-backend"] == "b"
        a.release()
        assert b"[DONE]" in (await wire.rest())[0]
        assert gw.backend("a").state == "healthy"
        assert (await gw.ask()).headers["x-solar-backend"] == "a"


async def test_a_suspect_is_asked_where_there_is_no_other(gateway):
    async with fakes(1) as (a,), gateway(a) as gw, gw.connect() as wire:
        a.script(faults.stall_after(1), None)
        wire.ask(STREAM)
        await wire.head()
        gw.later(2.5)
        assert gw.backend("a").state == "suspect"
        assert (await gw.ask()).status == 200


async def test_what_is_stalled_gives_its_waiting_requests_away_and_ends_its_streams_truthfully(gateway):
    async with fakes(2) as (a, b), gateway(a) as gw, gw.connect() as open_stream, gw.connect() as waiting:
        a.script(faults.stall_after(2), faults.silent())
        open_stream.ask(STREAM)
        await open_stream.head()
        waiting.ask(STREAM)
        await a.wait_for(lambda: len(a.inference) == 2)
        await gw.router.add_backend(backend(b, "b"))
        gw.later(31)
        cut, _ = await open_stream.rest()
        assert (cut.count(b'data: {"error":'), cut.endswith(b"0\r\n\r\n")) == (1, False)
        moved = await reply(waiting)
        assert (moved.whole, moved.headers["x-solar-backend"], moved.headers["x-solar-attempts"]) == (True, "b", "2")
        await a.wait_for(lambda: all(recorded.cancelled for recorded in a.inference[:2]))
        assert [record.code for record in gw.records] == ["upstream_stalled", None]


async def test_a_json_answer_under_way_is_not_cut_because_the_streams_beside_it_are(gateway):
    async with fakes(1) as (a,), gateway(a) as gw, gw.connect() as wire, gw.connect() as other:
        a.script(faults.stall_after(1), faults.stall_after(1))
        wire.ask(CHAT)
        await wire.head()
        other.ask(STREAM)
        await other.head()
        gw.later(31)
        assert b'data: {"error":' in (await other.rest())[0]
        a.release()
        assert b"word4" in (await wire.rest())[0]


async def test_a_request_moves_away_from_a_stalled_backend_once_at_most(gateway):
    async with fakes(3) as (a, b, c), gateway(a) as gw, gw.connect() as wire:
        for fake in (a, b, c):
            fake.always(faults.silent())
        wire.ask(STREAM)
        await a.wait_for(lambda: a.inference)
        await gw.router.add_backend(backend(b, "b"))
        gw.later(31)
        await b.wait_for(lambda: b.inference)
        await gw.router.add_backend(backend(c, "c"))
        gw.later(31)
        assert (gw.backend("b").state, c.inference) == ("stalled", [])
        b.always(None)
        b.release()
        got = await reply(wire)
        assert (got.status, got.headers["x-solar-backend"], got.events[-1]) == (200, "b", b"data: [DONE]")


async def test_an_engine_that_freezes_whole_is_found_out_and_comes_back_by_a_token(gateway):
    """In real time: its kernel still takes connections, so only its silence on a fresh one tells."""
    async with (
        fakes(2) as (a, b),
        gateway(backend(a, type="llamacpp")) as gw,
        gw.connect() as open_stream,
        gw.connect() as waiting,
    ):
        a.script(faults.stall_after(1), faults.silent())
        open_stream.ask(STREAM)
        await open_stream.head()
        waiting.ask(STREAM)
        await a.wait_for(lambda: len(a.inference) == 2)
        a.freeze()
        await gw.router.add_backend(backend(b, "b"))
        await until(lambda: gw.backend("a").state == "suspect")
        assert (await gw.ask()).headers["x-solar-backend"] == "b"
        assert (await reply(waiting)).headers["x-solar-backend"] == "b"
        assert (await open_stream.rest())[0].count(b'data: {"error":') == 1
        assert gw.backend("a").state == "stalled"
        a.thaw()
        await until(lambda: gw.backend("a").state == "healthy")
        assert a.inference[2].payload["max_tokens"] == 1
        assert (await gw.ask()).headers["x-solar-backend"] == "a"


async def test_the_silence_of_a_request_that_does_not_stream_is_no_evidence(gateway):
    async with fakes(2) as (a, b), gateway(a, b) as gw, gw.connect() as wire:
        a.script(faults.silent())
        wire.ask(CHAT)
        await a.wait_for(lambda: a.inference)
        gw.later(300)
        assert gw.backend("a").state == "healthy"
        a.release()
        assert (await reply(wire)).headers["x-solar-backend"] == "a"


async def test_a_stalled_backend_that_loads_on_demand_is_never_woken_by_a_probe(gateway):
    async with fakes(1) as (a,), gateway(backend(a, type="ollama")) as gw, gw.connect() as wire:
        a.script(faults.stall_after(1))
        wire.ask(STREAM)
        await wire.head()
        gw.later(31)
        await gw.booked()
        await until(lambda: gw.backend("a").state == "healthy")
        assert len(a.inference) == 1


async def test_a_fleet_that_has_stalled_is_neither_healthy_nor_ready(gateway):
    async with fakes(1) as (a,), gateway(a) as gw, gw.connect() as wire:
        a.script(faults.stall_after(1), faults.silent())
        wire.ask(STREAM)
        await wire.head()
        gw.later(31)
        await gw.booked()
        async with httpx.AsyncClient(base_url=gw.url, trust_env=False) as client:
            assert (await client.get("/health")).json()["status"] == "degraded"
            assert (await client.get("/health/ready")).status_code == 503
