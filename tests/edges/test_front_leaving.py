"""Clients that leave, in every phase and every way: their backend stops, and the books are closed."""

import asyncio
import socket
import struct

import pytest
from frontwire import CHAT, HEALTH, SMALL, STREAM, asked, books_closed, chat, chunks, doors, ends, head
from gateways import Serves, reply, until

from raw_wire import Wire
from solar.testing import FakeBackend, Fault, faults

POST = f"POST {CHAT} HTTP/1.1"


def leave(wire: Wire, how: str) -> None:
    if how == "half":
        wire.writer.write_eof()
    elif how == "close":
        wire.writer.close()
    else:
        sock = wire.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wire.writer.transport.abort()


ways = pytest.mark.parametrize("how", ["half", "close", "reset"])


@ways
@pytest.mark.parametrize(
    "sent",
    [b"", b"PO", head(POST)[:-2], head(POST, "Content-Length: 13"), chat()[:-1], chunks(b"d\r\n" + SMALL + b"\r\n")],
    ids=["nothing", "method", "head", "no body", "body", "no last chunk"],
)
async def test_who_leaves_in_the_middle_of_a_request_is_not_heard(front: Serves, sent: bytes, how: str) -> None:
    async with FakeBackend(["m"]) as fake, front(fake) as gw, gw.connect() as wire:
        wire.writer.write(sent)
        await wire.writer.drain()
        leave(wire, how)
        if b"\r\n\r\n" in sent and how != "reset":  # a reset may overtake what was sent
            record = await gw.booked()
            assert (record.status, record.end) == (499, "client_gone")
        await books_closed(gw)
        assert asked(fake) == []


@ways
@pytest.mark.parametrize(
    "behind", [b"", HEALTH, chat(), chat()[:-3], b"GET /hea"], ids=["none", "page", "chat", "part", "head"]
)
@pytest.mark.parametrize("fault", [faults.silent(), faults.hang_after_head(), faults.stall_after(2)], ids=repr)
async def test_who_leaves_during_an_answer_takes_its_backend_along(
    front: Serves, fault: Fault, behind: bytes, how: str
) -> None:
    async with FakeBackend(["m"]) as fake, front(fake) as gw, gw.connect() as wire:
        fake.script(fault)
        wire.writer.write(chat(body=STREAM))
        await fake.wait_for(lambda: fake.inference and fake.inference[0].complete)
        wire.writer.write(behind)
        await wire.writer.drain()
        leave(wire, how)
        await fake.wait_for(lambda: fake.inference[0].cancelled)
        assert (await gw.booked()).end == "client_gone"
        await books_closed(gw)
        assert asked(fake) == [("POST", CHAT, STREAM)]


@pytest.mark.parametrize("how", ["half", "close"])
async def test_who_leaves_is_seen_behind_requests_that_are_not_read(front: Serves, how: str) -> None:
    async with FakeBackend(["m"]) as fake, front(fake) as gw, gw.connect() as wire:
        fake.script(faults.silent())
        wire.writer.write(chat(body=STREAM))
        await fake.wait_for(lambda: fake.inference and fake.inference[0].complete)
        wire.writer.write(chat(body=b"x" * 100_000))  # more than is read ahead
        await wire.writer.drain()
        leave(wire, how)
        await fake.wait_for(lambda: fake.inference[0].cancelled)
        await books_closed(gw)


@pytest.mark.parametrize("path", ["/health", "/v1/models", "/nowhere", "/metrics"])
async def test_who_only_stops_talking_still_gets_a_page(front: Serves, path: str) -> None:
    async with FakeBackend(["m"]) as fake, front(fake) as gw, gw.connect() as wire:
        wire.writer.write(head(f"GET {path} HTTP/1.1") + head("GET /nowhere HTTP/1.1") + HEALTH)
        wire.writer.write_eof()
        first, second, third = [await reply(wire) for _ in range(3)]
        assert (first.status in (200, 404), second.status, third.status) == (True, 404, 200)
        assert await ends(wire) == b""


async def test_who_stopped_talking_has_left_once_its_inference_would_begin(front: Serves) -> None:
    async with FakeBackend(["m"]) as fake, front(fake) as gw, gw.connect() as wire:
        wire.writer.write(head("GET /nowhere HTTP/1.1") + chat())
        wire.writer.write_eof()
        assert (await reply(wire)).status == 404
        await ends(wire)
        await books_closed(gw)
        assert all(recorded.cancelled for recorded in fake.inference)


@ways
async def test_who_leaves_behind_a_refusal_is_booked_once(front: Serves, how: str) -> None:
    async with FakeBackend(["m"]) as fake, front(fake, api_keys=["k"]) as gw, gw.connect() as wire:
        wire.writer.write(head(POST, "Content-Length: 1000"))
        assert (await reply(wire)).status == 401
        leave(wire, how)
        await until(lambda: not doors(gw))
        assert [record.status for record in gw.records] == [401]
        await books_closed(gw)


async def test_who_leaves_behind_a_body_that_is_too_large_is_booked_once(front: Serves) -> None:
    async with FakeBackend(["m"]) as fake, front(fake, max_body=10) as gw, gw.connect() as wire:
        wire.writer.write(head(POST, "Content-Length: 13"))
        assert (await reply(wire)).status == 413
        leave(wire, "close")
        await until(lambda: not doors(gw))
        assert [record.status for record in gw.records] == [413]
        await books_closed(gw)


async def test_a_hundred_who_leave_at_once_leave_nothing_behind(front: Serves) -> None:
    async with FakeBackend(["m"]) as fake, front(fake) as gw:
        fake.always(faults.stall_after(1))

        async def one(number: int) -> None:
            async with gw.connect() as wire:
                wire.writer.write(chat(body=STREAM))
                await wire.head()
                leave(wire, ("half", "close", "reset")[number % 3])

        async with asyncio.TaskGroup() as group:
            for number in range(100):
                group.create_task(one(number))
        await fake.wait_for(lambda: len(fake.inference) == 100 and not fake.in_flight)
        await books_closed(gw)
