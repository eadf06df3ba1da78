"""Client gone means upstream gone, in every phase: no engine works for nobody, and no slot stays taken."""

from __future__ import annotations

import asyncio

import pytest
from gateways import backend, fakes, until

from raw_wire import CHAT, STREAM
from solar.testing import faults

PROMPTLY = 0.5  # seconds; the law says 0.1, a busy machine may need more
here = pytest.mark.doors("uvicorn")


def leave(wire, how):
    """The ways in which a client goes; a closing SDK looks like a FIN."""
    if how == "fin":
        wire.writer.close()
    elif how == "reset":
        wire.writer.transport.abort()
    else:
        wire.writer.write_eof()
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize("payload", [CHAT, STREAM], ids=["json", "stream"])
@pytest.mark.parametrize("how", ["fin", "reset", "half-close"])
@pytest.mark.parametrize(
    ("fault", "sent"),
    [(faults.silent(), 0), (faults.hang_after_head(), 1), (faults.stall_after(2), 100)],
    ids=["waiting for the head", "waiting for the first token", "in the middle"],
)
async def test_a_client_that_leaves_ends_the_work_at_its_backend(gateway, payload, how, fault, sent):
    async with fakes(1) as (fake,), gateway(fake) as gw:
        fake.script(fault)
        async with gw.connect() as wire:
            wire.ask(payload)
            await fake.wait_for(lambda: fake.inference and fake.inference[0].complete)
            await fake.wait_for(lambda: fake.inference[0].bytes_sent >= sent)
            if sent == 100:
                await wire.head()
            left_at = leave(wire, how)
            await fake.wait_for(lambda: fake.inference[0].cancelled)
            assert fake.inference[0].client_gone_at - left_at < PROMPTLY
            record = await gw.booked()
            assert (record.end, record.status) == ("client_gone", 200 if sent == 100 else 499)
            assert (gw.in_flight, len(fake.inference)) == (0, 1)


@pytest.mark.parametrize("payload", [CHAT, STREAM], ids=["json", "stream"])
async def test_a_client_that_leaves_the_queue_is_never_sent_anywhere(gateway, payload):
    async with fakes(1) as (fake,), gateway(backend(fake, max_in_flight=1)) as gw:
        fake.script(faults.silent())
        async with gw.connect() as first:
            first.ask(payload)
            await fake.wait_for(lambda: len(fake.inference) == 1)
            async with gw.connect() as second:
                second.ask(payload)
                await until(lambda: gw.waiting == 1)
                leave(second, "fin")
                assert (await gw.booked()).end == "client_gone"
                assert gw.waiting == 0
            fake.release()
            assert b" 200 " in (await first.rest())[0]
        assert (len(fake.inference), gw.in_flight) == (1, 0)


async def test_a_client_that_leaves_while_we_connect_is_never_sent_anywhere(gateway):
    async with fakes(1) as (fake,), gateway(fake) as gw:
        fake.ignore_connects()
        async with gw.connect() as wire:
            wire.ask(CHAT)
            await until(lambda: gw.in_flight == 1)
            leave(wire, "fin")
            record = await gw.booked()
        assert (record.end, record.status, gw.in_flight) == ("client_gone", 499, 0)
        fake.resume_accept()
        assert (await gw.ask()).status == 200
        assert len(fake.inference) == 1


async def test_a_client_that_leaves_in_its_own_request_is_never_sent_anywhere(gateway):
    async with fakes(1) as (fake,), gateway(fake) as gw:
        async with gw.connect() as wire:
            wire.writer.write(
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n" + b'{"model":"m"}'
            )
            await wire.writer.drain()
            leave(wire, "fin")
            assert (await gw.booked()).end == "client_gone"
        assert fake.inference == []


@here
async def test_a_client_that_leaves_says_nothing_about_the_backend(gateway):
    async with fakes(1) as (fake,), gateway(fake) as gw:
        fake.always(faults.stall_after(1))
        for count in range(1, 6):
            async with gw.connect() as wire:
                wire.ask(STREAM)
                await wire.head()
            await gw.booked(count)
        assert gw.backend("a").state == "healthy"


@pytest.mark.parametrize("payload", [CHAT, STREAM], ids=["json", "stream"])
@here
async def test_drain_reads_the_answer_to_its_end(gateway, payload):
    async with fakes(1) as (fake,), gateway(backend(fake, cancel="drain")) as gw:
        fake.script(faults.stall_after(1))
        async with gw.connect() as wire:
            wire.ask(payload)
            await wire.head()
        await until(lambda: gw.exchanges[0]._gone)
        assert gw.in_flight == 1
        fake.release()
        assert (await gw.booked()).end == "client_gone"
        assert (fake.inference[0].finished, fake.inference[0].cancelled, gw.in_flight) == (True, False, 0)


@here
async def test_drain_reads_on_for_a_client_that_was_slow_before_it_left(gateway):
    async with fakes(1) as (fake,), gateway(backend(fake, cancel="drain")) as gw:
        fake.script(faults.big(20_000_000))
        async with gw.connect() as wire:
            wire.ask(STREAM)
            await wire.head()
            await until(lambda: gw.exchanges[0]._paused)
        assert (await gw.booked()).end == "client_gone"
        await fake.wait_for(lambda: fake.inference[0].finished)
        assert not fake.inference[0].cancelled
