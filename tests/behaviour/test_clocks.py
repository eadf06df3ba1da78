"""What time brings: limits on what a backend may take, comments for a client that waits, patience with a slow one."""

from __future__ import annotations

import json

import pytest
from gateways import backend, fakes, reply, settled, until

from raw_wire import CHAT, STREAM
from solar.core.backend import Timeouts
from solar.testing import Fault, faults
from solar.testing.answer import Act, head

pytestmark = pytest.mark.doors("uvicorn")
every_door = pytest.mark.doors("uvicorn", "hypercorn", "granian")

COMMENT = b": keep-alive\n\n"
MANY = 50_000_000  # bytes that no set of kernel buffers holds


def code_of(got):
    return json.loads(got.body)["error"]["code"]


@pytest.mark.parametrize("fault", [faults.silent(), faults.hang_after_head()], ids=repr)
@pytest.mark.parametrize("payload", [CHAT, STREAM], ids=["json", "stream"])
async def test_no_first_byte_in_time_is_504_and_is_not_tried_elsewhere(gateway, fault, payload):
    async with fakes(2) as (a, b), gateway(backend(a, timeouts=Timeouts(first_byte=0.1)), backend(b, "b")) as gw:
        a.script(fault)
        got = await gw.ask(payload)
        assert (got.status, code_of(got), got.headers["x-solar-attempts"]) == (504, "upstream_timeout", "1")
        await a.wait_for(lambda: a.inference[0].cancelled)
        assert (b.inference, gw.in_flight) == ([], 0)


async def test_a_json_answer_that_stops_in_its_middle_is_cut_after_the_pause_allowed(gateway):
    async with fakes(1) as (fake,), gateway(backend(fake, timeouts=Timeouts(between_bytes=0.1))) as gw:
        fake.script(faults.stall_after(1))
        got = await gw.ask()
        assert (got.status, got.whole) == (200, False)
        assert (await gw.booked()).code == "upstream_timeout"


async def test_the_pause_between_bytes_has_no_limit_before_the_first_one(gateway):
    async with fakes(1) as (fake,), gateway(backend(fake, timeouts=Timeouts(between_bytes=1))) as gw:
        fake.script(faults.hang_after_head())
        async with gw.connect() as wire:
            wire.ask(STREAM)
            await fake.wait_for(lambda: fake.inference and fake.inference[0].bytes_sent)
            gw.later(5)
            fake.release()
            assert (await reply(wire)).events[-1] == b"data: [DONE]"


async def test_the_total_limit_ends_a_stream_that_moves(gateway):
    async with fakes(1, token_interval=0.05) as (fake,), gateway(backend(fake, timeouts=Timeouts(total=0.3))) as gw:
        fake.tokens = 1000
        got = await gw.ask(STREAM)
        assert (got.status, got.whole, got.events[-1].startswith(b'data: {"error":')) == (200, False, True)
        assert (await gw.booked()).code == "upstream_timeout"


async def test_limits_of_a_model_come_before_those_of_its_backend(gateway):
    async with fakes(1) as (fake,):
        strict = backend(fake, timeouts=Timeouts(first_byte=60), model_timeouts={"m": Timeouts(first_byte=0.1)})
        async with gateway(strict) as gw:
            fake.script(faults.silent())
            assert (await gw.ask()).status == 504


@every_door
async def test_a_client_that_waits_for_a_stream_hears_comments_once_the_backend_took_it(gateway):
    async with fakes(1) as (fake,), gateway(fake, keepalive_seconds=0.01) as gw, gw.connect() as wire:
        fake.script(faults.hang_after_head())
        wire.ask(STREAM)
        told = await wire.head()
        assert (told.split()[1], "text/event-stream" in told) == ("200", True)
        assert (await wire.reader.readuntil(b"\n\n")).endswith(COMMENT)
        fake.release()
        rest, _ = await wire.rest()
        assert rest.count(b"data: ") == 8


async def test_comments_come_between_events_only(gateway):
    async with fakes(1) as (fake,), gateway(fake, keepalive_seconds=0.01) as gw:
        fake.script(faults.slow(40, 0.02))
        got = await gw.ask(STREAM)
        assert COMMENT in got.body
        assert got.body.replace(COMMENT, b"").count(b"\n\n") == 8
        assert all(json.loads(e[6:]) for e in got.events if e != COMMENT.strip() and e != b"data: [DONE]")


class PauseInABigEvent(Fault):
    """Stalls in the middle of an event that is too long to be held back."""

    def steps(self, answer):
        yield head(answer, "close")
        body = answer.retold(words=("x" * 200_000,)).body
        yield from (body[:100_000], Act.STALL, body[100_000:], Act.FIN)


async def test_a_long_event_that_pauses_gets_no_comment_inside(gateway):
    async with fakes(1) as (fake,), gateway(fake) as gw, gw.connect() as wire:
        fake.script(PauseInABigEvent("pause"))
        wire.ask(STREAM)
        await wire.reader.readuntil(b"x" * 1000)
        gw.later(20)
        fake.release()
        got, _ = await wire.rest()
        assert COMMENT not in got


@pytest.mark.parametrize(
    ("payload", "fault", "while_waiting"),
    [(CHAT, faults.hang_after_head(), False), (CHAT, faults.silent(), True), (STREAM, faults.silent(), False)],
)
async def test_no_comment_without_a_stream_or_before_the_backends_own_head(gateway, payload, fault, while_waiting):
    settings = {"keepalive_seconds": 0.01, "keepalive_while_waiting": while_waiting}
    async with fakes(1) as (fake,), gateway(fake, **settings) as gw, gw.connect() as wire:
        fake.script(fault)
        wire.ask(payload)
        await fake.wait_for(lambda: fake.inference)
        gw.later(2.5)
        fake.release()
        assert COMMENT not in (await wire.rest())[0]


@pytest.mark.parametrize("fault", [faults.hang_after_head(), faults.silent()], ids=repr)
async def test_comments_while_waiting_are_a_choice(gateway, fault):
    settings = {"keepalive_seconds": 0.01, "keepalive_while_waiting": True}
    async with fakes(1) as (fake,), gateway(fake, **settings) as gw, gw.connect() as wire:
        fake.script(fault)
        wire.ask(STREAM)
        assert " 200 " in await wire.head()
        assert (await wire.reader.readuntil(b"\n\n")).endswith(COMMENT)
        fake.release()
        assert (await wire.rest())[0].count(b"data: ") == 8


async def test_who_waits_in_the_queue_hears_comments_if_so_chosen(gateway):
    settings = {"keepalive_seconds": 0.01, "keepalive_while_waiting": True}
    async with fakes(1) as (fake,), gateway(backend(fake, max_in_flight=1), **settings) as gw:
        fake.script(faults.silent())
        async with gw.connect() as first, gw.connect() as second:
            first.ask(CHAT)
            await fake.wait_for(lambda: fake.inference)
            second.ask(STREAM)
            assert " 200 " in await second.head()
            assert (await second.reader.readuntil(b"\n\n")).endswith(COMMENT)
            fake.release()
            assert b"[DONE]" in (await second.rest())[0]


async def test_after_a_comment_another_backend_may_still_answer(gateway):
    async with fakes(2) as (a, b), gateway(a, b, keepalive_seconds=0.01) as gw, gw.connect() as wire:
        a.script(faults.hang_after_head())
        wire.ask(STREAM)
        await wire.head()
        await wire.reader.readuntil(COMMENT)
        a.die()
        rest, _ = await wire.rest()
        assert (rest.count(b"data: "), rest.count(b"HTTP/1.1"), len(b.inference)) == (8, 0, 1)


@every_door
async def test_after_a_comment_a_failure_is_told_in_the_stream(gateway):
    async with fakes(1) as (fake,), gateway(fake, keepalive_seconds=0.01) as gw, gw.connect() as wire:
        fake.script(faults.hang_after_head())
        wire.ask(STREAM)
        await wire.head()
        await wire.reader.readuntil(COMMENT)
        fake.die()
        rest, end = await wire.rest()
        assert (rest.count(b'data: {"error":'), rest.endswith(b"0\r\n\r\n"), end) == (1, False, "fin")


async def test_comments_do_not_hide_a_dead_backend(gateway):
    strict = Timeouts(between_bytes=0.6)
    async with fakes(1) as (fake,), gateway(backend(fake, timeouts=strict), keepalive_seconds=0.01) as gw:
        fake.script(faults.stall_after(2))
        got = await gw.ask(STREAM)
        assert (got.whole, COMMENT in got.body, got.body.count(b'data: {"error":')) == (False, True, 1)


@every_door
async def test_a_slow_client_stops_the_backend_and_not_the_stream(gateway):
    patient = Timeouts(between_bytes=1)
    async with fakes(1) as (fake,), gateway(backend(fake, timeouts=patient)) as gw, gw.connect() as wire:
        fake.script(faults.big(MANY))
        wire.ask(STREAM)
        await wire.head()
        await until(lambda: gw.exchanges[0]._paused)
        gw.later(5)  # longer than a backend may pause: but it is the client who does
        assert await settled(lambda: fake.inference[0].bytes_sent) < MANY / 2
        last = b""
        while not last.endswith(b"\r\n0\r\n\r\n") and (data := await wire.reader.read(2**20)):
            last = last[-100:] + data
        assert last.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        assert (await gw.booked()).end == "success"
