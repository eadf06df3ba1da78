"""Many requests on one connection: answered in their order, and never one for another."""

import asyncio

import pytest
from frontwire import (
    CHAT,
    HEALTH,
    LAST,
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
from gateways import Serves, reply, until

from solar.testing import FakeBackend, faults

NONE = b'{"model":"none"}'


@pytest.mark.parametrize("count", [2, 10, 500])
async def test_requests_in_one_write_are_answered_in_their_order(front: Serves, count: int) -> None:
    async with FakeBackend(["m"]) as fake, front(fake) as gw, gw.connect() as wire:
        wire.writer.write(b"".join(chat(f"X-Request-ID: {number}") for number in range(count)))
        for number in range(count):
            got = await reply(wire)
            assert (got.status, got.headers["x-request-id"]) == (200, str(number))
        await stays_open(wire)
        assert asked(fake) == [("POST", CHAT, SMALL)] * count
        await books_closed(gw)


async def test_own_answers_and_errors_keep_their_place(front: Serves) -> None:
    async with FakeBackend(["m"]) as fake, front(fake) as gw, gw.connect() as wire:
        fake.script(faults.delay(0.05))
        sent = [chat(), HEALTH, chat(body=NONE), head("GET /nowhere HTTP/1.1"), chat(body=b"{"), chat(), HEALTH]
        wire.writer.write(b"".join(sent))
        assert [(await reply(wire)).status for _ in sent] == [200, 200, 404, 404, 400, 200, 200]
        await stays_open(wire)
        assert len(asked(fake)) == 2


async def test_a_second_request_waits_for_the_end_of_a_stream(front: Serves) -> None:
    async with FakeBackend(["m"]) as fake, front(fake) as gw, gw.connect() as wire:
        fake.script(faults.stall_after(2))
        wire.writer.write(chat(body=STREAM) + chat())
        await wire.head()
        await fake.wait_for(lambda: fake.inference[0].events == 2)
        assert len(fake.inference) == 1
        fake.release()
        told = await wire.reader.readuntil(b"\r\n0\r\n\r\n")
        assert b"[DONE]" in told
        Wants(200).judge(await reply(wire))
        await stays_open(wire)
        assert asked(fake) == [("POST", CHAT, STREAM), ("POST", CHAT, SMALL)]


@pytest.mark.parametrize(
    ("second", "wants"),
    [
        (b"\0\0\0\r\n\r\n", Wants(400, "invalid_http")),
        (b"BREW / HTTP/1.1\r\n\r\n", Wants(400, "invalid_http")),
        (head("GET /health HTTP/1.1", host=None), Wants(400, "invalid_http")),
        (chunks(b"zz\r\n"), Wants(400, "invalid_http")),
        (head("GET /health HTTP/1.1", "X-Name: " + "y" * 70_000), Wants(431, "head_too_large")),
        (head(f"POST {CHAT} HTTP/1.1", f"Content-Length: {10**15}"), Wants(413, "body_too_large")),
        (head("CONNECT a:1 HTTP/1.1"), Wants(405, "method_not_allowed")),
    ],
)
async def test_what_cannot_be_read_is_refused_behind_the_answer_under_way(
    front: Serves, second: bytes, wants: Wants
) -> None:
    async with FakeBackend(["m"]) as fake, front(fake) as gw, gw.connect() as wire:
        fake.script(faults.stall_after(1))
        wire.writer.write(chat(body=STREAM))
        await fake.wait_for(lambda: fake.inference and fake.inference[0].events == 1)
        wire.writer.write(second + HEALTH)
        fake.release()
        first = await reply(wire)
        assert first.whole
        assert first.body.endswith(b"data: [DONE]\n\n")
        wants.judge(await reply(wire))
        assert await ends(wire) == b""
        assert asked(fake) == [("POST", CHAT, STREAM)]
        await books_closed(gw)


async def test_nothing_is_read_behind_a_request_that_closes(front: Serves) -> None:
    async with FakeBackend(["m"]) as fake, front(fake) as gw, gw.connect() as wire:
        wire.writer.write(chat("Connection: close") + chat() + b"garbage")
        got = await reply(wire)
        assert (got.status, got.headers["connection"]) == (200, "close")
        assert await ends(wire) == b""
        assert len(asked(fake)) == 1


@pytest.mark.parametrize("refused", [chat(), chat(body=b"x" * 30_000)], ids=["small", "larger"])
async def test_the_connection_lives_on_behind_a_small_refused_body(front: Serves, refused: bytes) -> None:
    async with FakeBackend(["m"]) as fake, front(fake, api_keys=["k"]) as gw, gw.connect() as wire:
        for _ in range(3):
            wire.writer.write(refused)
            got = await reply(wire)
            Wants(401, "invalid_api_key").judge(got)
            assert "connection" not in got.headers
        await stays_open(wire)
        assert asked(fake) == []


async def test_what_was_skipped_can_break_and_the_refusal_stays_the_only_answer(front: Serves) -> None:
    async with FakeBackend(["m"]) as fake, front(fake, api_keys=["k"]) as gw, gw.connect() as wire:
        wire.writer.write(head(f"POST {CHAT} HTTP/1.1", "Transfer-Encoding: chunked"))
        Wants(401, "invalid_api_key").judge(await reply(wire))
        wire.writer.write(b"zz\r\n")
        assert await ends(wire) == b""
        assert [record.status for record in gw.records] == [401]


async def test_500_requests_that_ask_for_an_upgrade_are_answered_all_the_same(front: Serves) -> None:
    async with FakeBackend(["m"]) as fake, front(fake) as gw, gw.connect() as wire:
        upgrade = head("GET /health HTTP/1.1", "Upgrade: h2c", "Connection: Upgrade")
        wire.writer.write(upgrade * 500 + LAST)
        for _ in range(501):
            Wants(200).judge(await reply(wire))
        assert await ends(wire) == b""
        assert asked(fake) == []


async def test_many_requests_ahead_are_not_read_without_limit(front: Serves) -> None:
    async with FakeBackend(["m"]) as fake, front(fake) as gw, gw.connect() as wire:
        fake.script(faults.stall_after(1))
        wire.writer.write(chat(body=STREAM))
        await fake.wait_for(lambda: fake.inference)
        wire.writer.write(HEALTH * 200_000)
        door = await the_door(gw)
        await until(lambda: door._reading_paused)
        assert len(door._line) < 20_000
        fake.release()
        assert (await reply(wire)).whole
        async with asyncio.timeout(5):
            Wants(200).judge(await reply(wire))
