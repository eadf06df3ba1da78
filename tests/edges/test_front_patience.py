"""How long the front door waits, what it reads before it says no, and how it says it to a client that still talks."""

import asyncio

import pytest
from frontwire import (
    CHAT,
    HEALTH,
    SMALL,
    STREAM,
    Wants,
    asked,
    books_closed,
    chat,
    chunks,
    ends,
    head,
    stays_open,
    the_door,
)
from gateways import Gateway, Serves, reply, until

from solar.testing import FakeBackend, faults

POST = f"POST {CHAT} HTTP/1.1"


def waited(gw: Gateway, seconds: float) -> None:
    """Time passes at once: the door looks at its clocks before and after."""
    gw.later(1.0)
    gw.later(seconds)


async def test_a_head_that_does_not_come_is_answered_408(front: Serves) -> None:
    async with FakeBackend(["m"]) as fake, front(fake) as gw, gw.connect() as wire:
        wire.writer.write(head(POST)[:-2])
        door = await the_door(gw)
        await until(lambda: door._head_size)
        waited(gw, 31.0)
        Wants(408, "head_timeout").judge(await reply(wire))
        assert await ends(wire) == b""


async def test_a_head_that_comes_a_byte_at_a_time_is_measured_from_its_first(front: Serves) -> None:
    async with FakeBackend(["m"]) as fake, front(fake) as gw, gw.connect() as wire:
        door = await the_door(gw)
        for number, byte in enumerate(head(POST, "X-Name: value")[:-2], 1):
            wire.writer.write(bytes([byte]))
            await until(lambda number=number: door._deaf or door._head_size == number)
            gw.later(1.0)
        Wants(408, "head_timeout").judge(await reply(wire))
        assert await ends(wire) == b""


@pytest.mark.parametrize(
    "sent", [head(POST, "Content-Length: 13") + b'{"mo', chunks(b"d\r\n{")], ids=["length", "chunks"]
)
async def test_a_body_that_does_not_come_is_answered_408(front: Serves, sent: bytes) -> None:
    async with FakeBackend(["m"]) as fake, front(fake) as gw, gw.connect() as wire:
        wire.writer.write(sent)
        door = await the_door(gw)
        await until(lambda: door._reading and door._reading.size)
        waited(gw, 61.0)
        Wants(408, "body_timeout").judge(await reply(wire))
        assert await ends(wire) == b""
        assert asked(fake) == []
        assert [record.status for record in gw.records] == [408]
        await books_closed(gw)


async def test_a_refused_body_that_does_not_come_closes_without_a_second_answer(front: Serves) -> None:
    async with FakeBackend(["m"]) as fake, front(fake, api_keys=["k"]) as gw, gw.connect() as wire:
        wire.writer.write(head(POST, "Content-Length: 13"))
        Wants(401).judge(await reply(wire))
        waited(gw, 61.0)
        assert await ends(wire) == b""
        assert [record.status for record in gw.records] == [401]


@pytest.mark.parametrize("before", [b"", HEALTH, b"\r\n"], ids=["new", "used", "blank line"])
async def test_an_idle_connection_is_closed(front: Serves, before: bytes) -> None:
    async with FakeBackend(["m"]) as fake, front(fake) as gw, gw.connect() as wire:
        wire.writer.write(before)
        if before == HEALTH:
            await reply(wire)
        door = await the_door(gw)
        await until(lambda: door._head_size == (2 if before == b"\r\n" else 0))
        waited(gw, 76.0)
        assert await ends(wire) == b""


async def test_a_connection_with_work_under_way_is_not_idle(front: Serves) -> None:
    async with FakeBackend(["m"]) as fake, front(fake) as gw, gw.connect() as wire:
        fake.script(faults.stall_after(1))
        wire.writer.write(chat(body=STREAM))
        await fake.wait_for(lambda: fake.inference and fake.inference[0].events == 1)
        waited(gw, 1.0)
        for _ in range(9):
            gw.later(10.0)
            await asyncio.sleep(0)
        fake.release()
        assert (await reply(wire)).status == 200


@pytest.mark.parametrize("key", [None, "k"])
async def test_a_client_that_waits_to_be_asked_is_asked_once_or_refused(front: Serves, key: str | None) -> None:
    async with FakeBackend(["m"]) as fake, front(fake, api_keys=["k"]) as gw, gw.connect() as wire:
        fields = ["Content-Length: 13", "Expect: 100-Continue", *([f"X-API-Key: {key}"] if key else [])]
        wire.writer.write(head(POST, *fields))
        if key is None:
            Wants(401, "invalid_api_key").judge(await reply(wire))
            assert asked(fake) == []
            return
        assert await wire.head() == "HTTP/1.1 100 Continue\r\n\r\n"
        for byte in SMALL:
            wire.writer.write(bytes([byte]))
            await wire.writer.drain()
        Wants(200).judge(await reply(wire))
        await stays_open(wire)
        assert asked(fake) == [("POST", CHAT, SMALL)]
        assert fake.inference[0].header("expect") is None


async def test_one_that_waits_behind_another_is_asked_in_its_turn(front: Serves) -> None:
    async with FakeBackend(["m"]) as fake, front(fake) as gw, gw.connect() as wire:
        fake.script(faults.delay(0.05))
        wire.writer.write(chat() + head(POST, "Content-Length: 13", "Expect: 100-continue"))
        Wants(200).judge(await reply(wire))
        assert await wire.head() == "HTTP/1.1 100 Continue\r\n\r\n"
        wire.writer.write(SMALL)
        Wants(200).judge(await reply(wire))
        await stays_open(wire)


@pytest.mark.parametrize("framing", ["length", "chunks"])
@pytest.mark.parametrize("wants", [Wants(401, "invalid_api_key"), Wants(413, "body_too_large")], ids=["401", "413"])
async def test_a_client_reads_why_it_is_refused_while_it_goes_on_sending(
    front: Serves, framing: str, wants: Wants
) -> None:
    keys = ["k"] if wants.status == 401 else []
    async with FakeBackend(["m"]) as fake, front(fake, api_keys=keys, max_body=100_000) as gw, gw.connect() as wire:
        wire.writer.write(
            head(POST, "Content-Length: 1000000" if framing == "length" else "Transfer-Encoding: chunked")
        )
        for _ in range(100):
            wire.writer.write(b"x" * 10_000 if framing == "length" else b"2710\r\n" + b"x" * 10_000 + b"\r\n")
            await wire.writer.drain()
        got = await reply(wire)
        wants.judge(got)
        assert got.headers["connection"] == "close"
        assert await ends(wire) == b""
        assert asked(fake) == []
        assert [record.status for record in gw.records] == [wants.status]
        await books_closed(gw)


async def test_a_refused_client_that_never_stops_is_cut_off(front: Serves, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("solar.edge.frontdoor.LINGER_SECONDS", 0.05)
    async with FakeBackend(["m"]) as fake, front(fake, api_keys=["k"]) as gw, gw.connect() as wire:
        wire.writer.write(head(POST, "Content-Length: 1000000000"))

        async def sends_for_ever() -> None:
            while True:
                wire.writer.write(b"x" * 100_000)
                await wire.writer.drain()

        with pytest.raises(ConnectionError):
            await asyncio.wait_for(sends_for_ever(), 5)
        await books_closed(gw)
