"""An ASGI application behind the front door, for the paths that the router does not know."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from frontwire import HEALTH, Wants, books_closed, chat, chunks, ends, head, stays_open, the_door
from gateways import Gateway, Serves, reply, until

from solar import Router
from solar.control.door import front_door
from solar.edge.frontdoor import FrontDoor
from solar.testing import FakeBackend

App = Callable[..., Awaitable[None]]
START = {"type": "http.response.start", "status": 200, "headers": [(b"Content-Type", b"text/plain")]}


async def behind(gw: Gateway, app: App) -> None:
    """Puts `app` where the router stands for what the front door does not know."""
    async with gw.connect():
        (await the_door(gw)).hall.app = app


def part(body: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more}


async def read(receive: Callable[[], Awaitable[dict[str, Any]]]) -> bytes:
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b"gone"
        body += message["body"]
        if not message["more_body"]:
            return body


async def echoes(scope: Any, receive: Any, send: Any) -> None:
    body = await read(receive)
    await send(START)
    await send(part(scope["method"].encode() + b" " + scope["path"].encode() + b" ", more=True))
    await send(part(body))


async def ignores(scope: Any, receive: Any, send: Any) -> None:
    await send({**START, "headers": [(b"content-length", b"2")]})
    await send(part(b"ok"))


async def fails_at_once(scope: Any, receive: Any, send: Any) -> None:
    raise ValueError("on purpose")


async def never_answers(scope: Any, receive: Any, send: Any) -> None:
    return


async def fails_in_the_middle(scope: Any, receive: Any, send: Any) -> None:
    await send(START)
    await send(part(b"half", more=True))
    raise ValueError("on purpose")


async def stops_in_the_middle(scope: Any, receive: Any, send: Any) -> None:
    await send(START)
    await send(part(b"half", more=True))


async def says_too_little(scope: Any, receive: Any, send: Any) -> None:
    await send({**START, "headers": [(b"content-length", b"10")]})
    await send(part(b"half"))


async def says_too_much(scope: Any, receive: Any, send: Any) -> None:
    await send({**START, "headers": [(b"content-length", b"2")]})
    await send(part(b"half"))


async def closes(scope: Any, receive: Any, send: Any) -> None:
    await send({**START, "headers": [(b"Connection", b"close"), (b"Transfer-Encoding", b"chunked")]})
    await send(part(b"ok"))


@pytest.mark.parametrize("size", [0, 1, 60_000, 3_000_000])
@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_it_reads_the_body_and_streams_its_answer(front: Serves, size: int, framing: str) -> None:
    body = b"x" * size
    framed = b"%x\r\n%b\r\n0\r\n\r\n" % (size, body) if size else b"0\r\n\r\n"
    async with FakeBackend(["m"]) as fake, front(fake) as gw:
        await behind(gw, echoes)
        async with gw.connect() as wire:
            sent = chat(body=body, path="/app/b%C3%BCro?q=1")
            if framing == "chunks":
                sent = chunks(framed).replace(b"/v1/chat/completions", b"/app/b%C3%BCro?q=1")
            wire.writer.write(sent)
            got = await reply(wire)
            assert (got.status, got.body, got.whole) == (200, "POST /app/büro ".encode() + body, True)
            assert got.headers["content-type"] == "text/plain"
            await stays_open(wire)


@pytest.mark.parametrize(("size", "stays"), [(0, True), (1000, True), (60_000, True), (3_000_000, False)])
async def test_an_early_answer_skips_a_small_body_and_closes_before_a_large_one(
    front: Serves, size: int, stays: bool
) -> None:
    async with FakeBackend(["m"]) as fake, front(fake) as gw:
        await behind(gw, ignores)
        async with gw.connect() as wire:
            wire.writer.write(head("POST /app HTTP/1.1", f"Content-Length: {size}"))
            assert (await reply(wire)).body == b"ok"
            wire.writer.write(b"x" * size)
            if stays:
                await stays_open(wire)
            else:
                assert await ends(wire) == b""


@pytest.mark.parametrize("app", [fails_at_once, never_answers])
async def test_one_that_does_not_answer_is_answered_for(front: Serves, app: App) -> None:
    async with FakeBackend(["m"]) as fake, front(fake) as gw:
        await behind(gw, app)
        async with gw.connect() as wire:
            wire.writer.write(head("GET /app HTTP/1.1"))
            Wants(500).judge(await reply(wire))
            await stays_open(wire)


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("app", [fails_in_the_middle, stops_in_the_middle, says_too_little, says_too_much])
async def test_an_answer_that_breaks_does_not_look_whole(front: Serves, app: App, version: str) -> None:
    async with FakeBackend(["m"]) as fake, front(fake) as gw:
        await behind(gw, app)
        async with gw.connect() as wire:
            wire.writer.write(head(f"GET /app HTTP/{version}", "Connection: keep-alive") + HEALTH)
            try:
                got = await reply(wire)
            except asyncio.IncompleteReadError as error:
                assert error.partial == b""  # noqa: PT017
            else:
                assert (got.status, got.whole) == (200, False)
            assert await ends(wire) == b""


async def test_the_connection_is_not_the_applications_but_it_may_close_it(front: Serves) -> None:
    async with FakeBackend(["m"]) as fake, front(fake) as gw:
        await behind(gw, closes)
        async with gw.connect() as wire:
            wire.writer.write(head("GET /app HTTP/1.1"))
            text = (await wire.head()).lower()
            assert (text.count("connection:"), text.count("transfer-encoding:")) == (1, 1)
            assert await ends(wire) == b"2\r\nok\r\n0\r\n\r\n"


@pytest.mark.parametrize("app", [echoes, ignores])
async def test_nothing_follows_its_answer_to_head(front: Serves, app: App) -> None:
    async with FakeBackend(["m"]) as fake, front(fake) as gw:
        await behind(gw, app)
        async with gw.connect() as wire:
            wire.writer.write(head("HEAD /app HTTP/1.1"))
            assert "200" in await wire.head()
            await stays_open(wire)


async def test_a_body_that_breaks_before_its_answer_is_a_400(front: Serves) -> None:
    async with FakeBackend(["m"]) as fake, front(fake) as gw:
        heard: list[bytes] = []

        async def listens(scope: Any, receive: Any, send: Any) -> None:
            heard.append(await read(receive))

        await behind(gw, listens)
        async with gw.connect() as wire:
            wire.writer.write(head("POST /app HTTP/1.1", "Transfer-Encoding: chunked") + b"2\r\nab\r\nzz\r\n")
            Wants(400, "invalid_http").judge(await reply(wire))
            assert await ends(wire) == b""
            await until(lambda: heard == [b"gone"])


async def test_it_hears_that_its_client_left(front: Serves) -> None:
    async with FakeBackend(["m"]) as fake, front(fake) as gw:
        heard: list[bytes] = []

        async def waits(scope: Any, receive: Any, send: Any) -> None:
            await read(receive)
            heard.append((await receive())["type"].encode())

        await behind(gw, waits)
        async with gw.connect() as wire:
            wire.writer.write(head("GET /app HTTP/1.1"))
            door = await the_door(gw)
            await until(lambda: door._line)
        await until(lambda: heard == [b"http.disconnect"])


async def test_it_is_held_back_by_a_client_that_does_not_read(front: Serves) -> None:
    async with FakeBackend(["m"]) as fake, front(fake) as gw:
        said = 0

        async def talks(scope: Any, receive: Any, send: Any) -> None:
            nonlocal said
            await send(START)
            for _ in range(500):
                await send(part(b"x" * 100_000, more=True))
                said += 1
            await send(part(b""))

        await behind(gw, talks)
        async with gw.connect() as wire:
            wire.writer.write(head("GET /app HTTP/1.1"))
            door = await the_door(gw)
            await until(lambda: door.full)
            assert said < 500
            assert door.transport.get_write_buffer_size() < 500_000
            assert len((await reply(wire)).body) == 50_000_000
            await stays_open(wire)


async def test_a_body_that_it_does_not_read_is_not_kept(front: Serves) -> None:
    async with FakeBackend(["m"]) as fake, front(fake) as gw:
        reads = asyncio.Event()

        async def dawdles(scope: Any, receive: Any, send: Any) -> None:
            await reads.wait()
            await echoes(scope, receive, send)

        await behind(gw, dawdles)
        async with gw.connect() as wire:
            wire.writer.write(chat(body=b"x" * 30_000_000, path="/app"))
            door = await the_door(gw)
            await until(lambda: door._reading_paused)
            assert door._line[0].held < 1_000_000
            reads.set()
            assert len((await reply(wire)).body) > 30_000_000
            await stays_open(wire)
            await books_closed(gw)


@pytest.mark.parametrize("size", [80_000, 100_000, 120_000])
async def test_a_body_that_it_leaves_half_read_is_skipped(front: Serves, size: int) -> None:
    async with FakeBackend(["m"]) as fake, front(fake) as gw:
        answers = asyncio.Event()

        async def dawdles(scope: Any, receive: Any, send: Any) -> None:
            await answers.wait()
            await ignores(scope, receive, send)

        await behind(gw, dawdles)
        async with gw.connect() as wire:
            wire.writer.write(head("POST /app HTTP/1.1", f"Content-Length: {size}") + b"x" * 64_500)
            door = await the_door(gw)
            await until(lambda: door._line and door._line[0].size == 64_500)
            wire.writer.write(b"x" * 10_000)
            await until(lambda: door._line[0].size == 74_500)
            answers.set()
            assert (await reply(wire)).body == b"ok"
            wire.writer.write(b"x" * (size - 74_500))
            await stays_open(wire)


async def test_a_router_that_was_started_again_is_served_anew() -> None:
    router = Router()
    door = cast("Callable[..., FrontDoor]", front_door(router))
    state = SimpleNamespace(connections=set(), default_headers=[])
    for _ in range(2):
        async with router:
            assert door(None, state, None).hall.reception is router.reception
