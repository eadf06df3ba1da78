"""Clients that do not read: what they are owed waits at the backend, not in memory."""

import pytest
from frontwire import HEALTH, SMALL, STREAM, Wants, books_closed, chat, doors, head, the_door
from gateways import Gateway, Serves, reply, settled, until

from raw_wire import Wire
from solar.edge.frontdoor import FrontDoor
from solar.testing import FakeBackend, faults

LARGE = 50_000_000  # bytes; a socket's own buffers hold some megabytes


async def not_reading(gw: Gateway, fake: FakeBackend, wire: Wire, body: bytes = STREAM) -> FrontDoor:
    """The door of a client that asks for a large answer and leaves it unread, once it is owed a lot."""
    fake.script(faults.big(LARGE))
    wire.writer.write(chat(body=body))
    door = await the_door(gw)
    await until(lambda: door.full)
    return door


@pytest.mark.parametrize("body", [SMALL, STREAM], ids=["plain", "stream"])
async def test_a_client_that_does_not_read_holds_its_backend_back(front: Serves, body: bytes) -> None:
    async with FakeBackend(["m"]) as fake, front(fake) as gw, gw.connect() as wire:
        door = await not_reading(gw, fake, wire, body)
        assert await settled(lambda: fake.inference[0].bytes_sent) < LARGE or not fake.inference[0].finished
        assert door.transport.get_write_buffer_size() < 2_000_000
        got = await reply(wire)
        assert got.whole
        assert len(got.body) > LARGE
        await books_closed(gw)


async def test_a_client_that_does_not_read_can_leave(front: Serves) -> None:
    async with FakeBackend(["m"]) as fake, front(fake) as gw:
        async with gw.connect() as wire:
            await not_reading(gw, fake, wire)
            wire.writer.write_eof()
            await fake.wait_for(lambda: fake.inference[0].cancelled)
        await books_closed(gw)


def pass_slowly(gw: Gateway, seconds: int) -> None:
    """Time as it passes: a backend that nobody reads from is told apart from a silent one by many looks."""
    for _ in range(seconds):
        gw.later(1.0)


async def test_a_client_that_takes_no_byte_for_a_minute_frees_its_backend(front: Serves) -> None:
    async with FakeBackend(["m"]) as fake, front(fake) as gw, gw.connect() as wire:
        door = await not_reading(gw, fake, wire)
        await settled(lambda: fake.inference[0].bytes_sent)
        pass_slowly(gw, 55)
        assert not door.transport.is_closing()
        pass_slowly(gw, 6)
        await fake.wait_for(lambda: fake.inference[0].cancelled)
        assert (await gw.booked()).end == "client_gone"
        await books_closed(gw)


async def test_a_client_that_takes_a_little_now_and_then_is_waited_for(front: Serves) -> None:
    async with FakeBackend(["m"]) as fake, front(fake) as gw, gw.connect() as wire:
        door = await not_reading(gw, fake, wire)
        for _ in range(4):
            await until(lambda: door.full)
            await settled(lambda: fake.inference[0].bytes_sent)
            pass_slowly(gw, 40)
            assert not door.transport.is_closing()
            owed = door.transport.get_write_buffer_size()
            while door.full and door.transport.get_write_buffer_size() == owed:
                await wire.reader.read(1_000_000)


@pytest.mark.parametrize(("path", "count"), [("/metrics", 4_000), ("/" + "nowhere" * 28, 20_000)])
async def test_a_client_that_asks_and_does_not_read_is_not_answered_without_limit(
    front: Serves, path: str, count: int
) -> None:
    async with FakeBackend(["m"]) as fake, front(fake) as gw, gw.connect() as wire:
        wire.writer.write(head(f"GET {path} HTTP/1.1") * count + HEALTH)
        door = await the_door(gw)
        await until(lambda: door._reading_paused)
        assert door.transport.get_write_buffer_size() < 500_000
        for _ in range(count):
            await reply(wire)
        Wants(200).judge(await reply(wire))


async def test_a_client_that_does_not_read_the_end_of_a_broken_answer_is_cut_off(front: Serves) -> None:
    async with FakeBackend(["m"]) as fake, front(fake) as gw, gw.connect() as wire:
        await not_reading(gw, fake, wire)
        gw.exchanges[0].shut()
        assert (await gw.booked()).end == "broken"
        gw.later(61.0)
        await until(lambda: not doors(gw))
