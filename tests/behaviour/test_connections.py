"""Kept connections: what died unused costs nothing, and no byte of one answer reaches the client of another."""

from __future__ import annotations

import gzip

import pytest
from gateways import fakes, reply

from raw_wire import CHAT, STREAM
from solar.testing import faults

pytestmark = pytest.mark.doors("uvicorn")
every_door = pytest.mark.doors("uvicorn", "hypercorn", "granian")


@pytest.mark.parametrize("payload", [CHAT, STREAM])
async def test_a_connection_is_kept_for_the_next_request(gateway, payload):
    async with fakes(1) as (fake,), gateway(fake) as gw:
        for _ in range(3):
            assert (await gw.ask(payload)).whole
        assert len({recorded.connection for recorded in fake.inference}) == 1


async def test_a_kept_connection_that_died_unused_is_replaced_and_counts_as_no_attempt(gateway):
    async with fakes(2) as (a, b), gateway(a) as gw:
        a.script(None, faults.close_before_head(), faults.reset_before_head(), None)
        assert (await gw.ask()).status == 200
        got = await gw.ask()
        assert (got.status, got.headers["x-solar-attempts"]) == (502, "1")
        assert (len(a.inference), b.inference) == (3, [])
        got = await gw.ask()
        assert (got.status, got.headers["x-solar-attempts"]) == (200, "1")


async def test_an_engine_that_closes_after_every_answer_costs_no_attempt(gateway):
    async with fakes(2) as (a, b), gateway(a, b) as gw:
        a.always(faults.close_after_answer())
        b.always(faults.close_after_answer())
        for _ in range(20):
            got = await gw.ask()
            assert (got.status, got.whole, got.headers["x-solar-attempts"]) == (200, True, "1")
        assert [status.state for status in gw.router.backends] == ["healthy", "healthy"]


async def test_an_engine_that_closes_after_a_hundred_requests_costs_no_attempt(gateway):
    async with fakes(1, keepalive_requests=3) as (fake,), gateway(fake) as gw:
        for _ in range(10):
            got = await gw.ask()
            assert (got.status, got.headers["x-solar-attempts"]) == (200, "1")
        assert len({recorded.connection for recorded in fake.inference}) == 4


async def test_an_engine_that_closes_idle_connections_costs_no_attempt(gateway):
    async with fakes(1) as (fake,), gateway(fake) as gw:
        for _ in range(5):
            got = await gw.ask()
            assert (got.status, got.headers["x-solar-attempts"]) == (200, "1")
            fake.close_idle()
        assert len(fake.inference) == 5


async def test_bytes_on_an_idle_connection_never_reach_the_next_client(gateway):
    async with fakes(1) as (fake,), gateway(fake) as gw:
        fake.script(faults.unsolicited())
        assert (await gw.ask()).status == 200
        fake.release()
        await fake.wait_for(lambda: fake.open == 0)
        got = await gw.ask()
        assert (got.status, got.whole, got.headers["x-solar-attempts"]) == (200, True, "1")


@pytest.mark.parametrize("payload", [CHAT, STREAM])
@pytest.mark.parametrize(
    "fault",
    [
        faults.second_answer(),
        faults.trailing_bytes(),
        faults.trailing_bytes("junk"),
        faults.trailing_bytes("HTTP/1.1 418 Teapot\r\n\r\n"),
    ],
    ids=repr,
)
@every_door
async def test_bytes_behind_an_answer_never_reach_a_client(gateway, fault, payload):
    async with fakes(1) as (fake,), gateway(fake) as gw, gw.connect() as wire:
        fake.script(fault)
        for _ in range(2):  # on one connection of the client: a stray byte would break its second answer
            wire.ask(payload)
            got = await reply(wire)
            assert (got.status, got.whole) == (200, True)
            assert got.body.count(b"word0") == 1
        first, second = fake.inference
        assert first.connection != second.connection


async def test_a_body_longer_than_its_length_is_cut_at_its_length(gateway):
    async with fakes(1) as (fake,), gateway(fake) as gw:
        fake.script(faults.wrong_content_length(10))
        short = await gw.ask()
        assert len(short.body) == int(short.headers["content-length"])
        whole = await gw.ask()
        assert (whole.status, len(whole.body)) == (200, len(short.body) + 10)
        assert fake.inference[0].connection != fake.inference[1].connection


@pytest.mark.parametrize("code", [100, 102, 103])
@every_door
async def test_an_informational_answer_is_not_the_answer(gateway, code):
    async with fakes(1) as (fake,), gateway(fake) as gw:
        fake.script(faults.informational(code))
        got = await gw.ask()
        assert (got.status, got.whole, "x-interim" in got.headers) == (200, True, False)


@pytest.mark.parametrize("payload", [CHAT, STREAM])
@every_door
async def test_trailers_are_dropped(gateway, payload):
    async with fakes(1) as (fake,), gateway(fake) as gw:
        fake.script(faults.trailers())
        async with gw.connect() as wire:
            wire.ask(payload, head="Connection: close\r\n")
            raw, _ = await wire.rest()
        assert raw.startswith(b"HTTP/1.1 200 ")
        assert b"trailer" not in raw.lower()


@pytest.mark.parametrize("fault", [faults.http10(), faults.close_delimited()], ids=repr)
@pytest.mark.parametrize("payload", [CHAT, STREAM])
@every_door
async def test_an_answer_that_ends_with_its_connection_is_whole(gateway, fault, payload):
    async with fakes(1) as (fake,), gateway(fake) as gw:
        fake.script(fault)
        got = await gw.ask(payload)
        assert (got.status, got.whole, b"word4" in got.body) == (200, True, True)
        assert (await gw.booked()).end == "success"


@every_door
async def test_a_204_has_no_body_whatever_was_sent(gateway):
    async with fakes(1) as (fake,), gateway(fake) as gw, gw.connect() as wire:
        fake.script(faults.no_content())
        wire.ask(CHAT)
        got = await reply(wire)
        assert (got.status, "content-length" in got.headers) == (204, False)
        wire.ask(CHAT)
        assert (await reply(wire)).status == 200


async def test_what_comes_compressed_all_the_same_keeps_its_bytes_and_says_so(gateway):
    async with fakes(1) as (fake,), gateway(fake) as gw:
        fake.script(faults.gzip())
        got = await gw.ask(head="Accept-Encoding: gzip, br\r\n")
        assert fake.inference[0].all_headers("accept-encoding") == ["identity"]
        assert got.headers["content-encoding"] == "gzip"
        assert b"word4" in gzip.decompress(got.body)
