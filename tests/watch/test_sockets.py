import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from managed import KEY
from served import Served, said
from starlette.websockets import WebSocket
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from raw_wire import CHAT, connected
from solar.control import gateway as gateway_module
from solar.control import websocket
from solar.control.api.asking import Desk
from solar.control.api.sockets import SOCKETS
from solar.errors import InvalidRequest, StoreFailed
from solar.testing import FakeBackend

Serve = Callable[..., AbstractAsyncContextManager[Served]]
DOORS = pytest.mark.parametrize("door", ["front", "asgi"])
ECHO = "/ws/echo/a%20b"
UPGRADE = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
NONCE = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"


async def echo(desk: Desk, socket: WebSocket) -> None:
    if socket.path_params.get("name") == "full":
        raise StoreFailed("no room")
    await socket.accept()
    await socket.send_json(socket.path_params)
    async for text in socket.iter_text():
        if text == "fail":
            raise InvalidRequest("\u00e9" * 100)
        await socket.send_text(text)


async def never(desk: Desk, socket: WebSocket) -> None:
    """Does not know whether it wants the client."""
    await socket.receive()  # that it wants to come
    await socket.receive()


async def deaf(desk: Desk, socket: WebSocket) -> None:
    """Writes for ever."""
    await socket.accept()
    while True:
        await socket.send_text("x" * 100_000)


@pytest.fixture(autouse=True)
def _handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    for path, handler in (
        ("/ws/echo/{name}", echo),
        ("/ws/host-channel", echo),
        ("/ws/deaf", deaf),
        ("/ws/never", never),
    ):
        monkeypatch.setitem(SOCKETS, path, handler)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "LEAVE_SECONDS", 0.1)


async def refused(opening: AbstractAsyncContextManager[ClientConnection]) -> tuple[int, str]:
    """The status and the code of a handshake that fails."""
    with pytest.raises(InvalidStatus) as refusal:
        async with opening:
            pass
    answer = refusal.value.response
    return answer.status_code, json.loads(answer.body)["error"]["code"] if answer.body else ""


async def opens(opening: AbstractAsyncContextManager[ClientConnection]) -> bool:
    async with opening as client:
        return bool(await said(client))


@asynccontextmanager
async def asking(gateway: Served) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(f"http://{gateway.place}", headers={"X-API-Key": KEY}) as session:
        yield session


async def token_of(gateway: Served) -> str:
    async with asking(gateway) as session, session.post("/ws/token") as answer:
        told = await answer.json()
        assert told["expires_in"] == 60
        assert answer.headers["cache-control"] == "no-store"
        return str(told["token"])


@DOORS
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_both_doors_carry_frames_both_ways(serve: Serve, door: str, tls: bool) -> None:
    async with serve(door, tls=tls) as gateway, gateway.open(ECHO) as client:
        assert json.loads(await said(client)) == {"name": "a b"}
        for text in ("hello", "x" * 1_000_000):
            await client.send(text)
            assert await said(client) == text


@DOORS
async def test_another_library_is_understood_as_well(serve: Serve, door: str) -> None:
    async with serve(door) as gateway, asking(gateway) as session, session.ws_connect(ECHO) as client:
        assert await client.receive_json() == {"name": "a b"}
        await client.send_str("hello")
        assert await client.receive_str() == "hello"


@DOORS
async def test_a_connection_that_had_requests_before_may_become_a_socket(serve: Serve, door: str) -> None:
    async with serve(door) as gateway, connected(gateway.port) as wire:
        wire.ask(path="/health")
        await wire.answer()
        wire.ask(path="/ws/host-channel", head=UPGRADE + NONCE)
        assert (await wire.head()).startswith("HTTP/1.1 101")
        assert await wire.reader.readexactly(4) == b"\x81\x02{}"


async def test_frames_that_came_with_the_handshake_are_not_lost(serve: Serve) -> None:
    async with serve() as gateway, connected(gateway.port) as wire:
        wire.ask(path="/ws/host-channel", head=UPGRADE + NONCE)
        wire.writer.write(b"\x81\x82\x00\x00\x00\x00hi")
        await wire.head()
        assert await wire.reader.readexactly(8) == b"\x81\x02{}\x81\x02hi"


@DOORS
@pytest.mark.parametrize(
    "head", [NONCE, UPGRADE, UPGRADE.replace("13", "12") + NONCE], ids=["no upgrade", "no nonce", "an old version"]
)
async def test_what_is_no_handshake_opens_nothing(serve: Serve, door: str, head: str) -> None:
    async with serve(door) as gateway, connected(gateway.port) as wire:
        wire.ask(path=ECHO, head=f"X-API-Key: {KEY}\r\n{head}")
        answer, _ = await wire.answer()
        assert int(answer[9:12]) in (400, 426)


async def test_the_front_door_passes_over_the_wish_for_a_socket_where_the_router_answers(serve: Serve) -> None:
    async with serve() as gateway, connected(gateway.port) as wire:
        wire.ask(path="/health", head=UPGRADE + NONCE)
        assert (await wire.answer())[0].startswith("HTTP/1.1 200")
        wire.ask({"model": "m"}, path="/ws/token", head=f"X-API-Key: {KEY}\r\n{UPGRADE}{NONCE}")
        assert (await wire.answer())[0].startswith("HTTP/1.1 200")


@DOORS
async def test_a_socket_needs_the_key(serve: Serve, door: str) -> None:
    async with serve(door) as gateway:
        assert await refused(gateway.open(ECHO, key=None)) == (401, "invalid_api_key")
        assert await refused(gateway.open(ECHO, key="another")) == (401, "invalid_api_key")
        assert await refused(gateway.open(ECHO + "?token=" + KEY, key=None)) == (401, "invalid_api_key")
        assert await opens(gateway.open(ECHO, key=None, headers={"Authorization": f"Bearer {KEY}"}))
        assert await opens(gateway.open("/ws/host-channel", key=None))


@DOORS
async def test_a_browser_shows_the_key_as_a_protocol_and_is_told_which_is_spoken(serve: Serve, door: str) -> None:
    odd = "a key, \u00e9/%+"
    async with serve(door, keys=(KEY, odd)) as gateway:
        for key in (KEY, quote(odd, safe="")):
            offered = [Subprotocol("solar"), Subprotocol(f"solar.key.{key}")]
            async with gateway.open(ECHO, key=None, subprotocols=offered) as client:
                assert client.subprotocol == "solar"
        wrong = [Subprotocol("solar"), Subprotocol("solar.key.another")]
        assert await refused(gateway.open(ECHO, key=None, subprotocols=wrong)) == (401, "invalid_api_key")


@DOORS
async def test_a_token_opens_one_socket_and_no_second(serve: Serve, door: str) -> None:
    async with serve(door) as gateway:
        where = f"{ECHO}?token={await token_of(gateway)}"
        assert await opens(gateway.open(where, key=None))
        assert await refused(gateway.open(where, key=None)) == (401, "invalid_api_key")
        assert await opens(gateway.open(where))  # the key opens it, whatever else there is


async def test_a_token_needs_the_key(serve: Serve) -> None:
    wrong = {"X-API-Key": "another"}
    async with serve() as gateway, asking(gateway) as session, session.post("/ws/token", headers=wrong) as answer:
        assert answer.status == 401


@DOORS
async def test_pages_of_other_origins_open_nothing(serve: Serve, door: str) -> None:
    async with serve(door, allowed_hosts=["app.test"]) as gateway:
        for path in (ECHO, "/ws/host-channel", f"{ECHO}?token={await token_of(gateway)}"):
            for origin in ("http://evil.test", "http://[", "null"):
                assert await refused(gateway.open(path, origin=origin)) == (403, "foreign_host")
        assert await opens(gateway.open(ECHO, origin=f"http://{gateway.place}"))
        assert await opens(gateway.open(ECHO, origin="https://app.test"))


async def test_without_a_key_only_names_of_loopback_open_sockets(serve: Serve) -> None:
    async with serve(keys=()) as gateway:
        assert await opens(gateway.open(ECHO, key=None))
        async with connected(gateway.port) as wire:
            wire.ask(path=ECHO, head=UPGRADE + NONCE)  # its Host is x
            head, body = await wire.answer()
            assert (int(head[9:12]), json.loads(body)["error"]["code"]) == (403, "foreign_host")


@DOORS
async def test_there_is_no_socket_but_those_of_the_table(serve: Serve, door: str) -> None:
    async with serve(door) as gateway:
        for path in ("/ws/nothing", "/ws", "/", "/gateway/state"):
            assert await refused(gateway.open(path)) == (403, "")


@DOORS
async def test_a_socket_that_is_asked_for_as_a_page_says_what_it_is(serve: Serve, door: str) -> None:
    async with serve(door) as gateway, asking(gateway) as session, session.get(ECHO) as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (426, "upgrade_required")


@DOORS
async def test_a_handler_that_refuses_is_heard_before_and_after_the_handshake(serve: Serve, door: str) -> None:
    async with serve(door) as gateway:
        assert await refused(gateway.open("/ws/echo/full")) == (503, "store_unavailable")
        async with gateway.open(ECHO) as client:
            await said(client)
            await client.send("fail")
            with pytest.raises(ConnectionClosed) as closed:
                await said(client)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1011, "\u00e9" * 60)


@DOORS
async def test_a_message_beyond_the_limit_closes_its_socket(serve: Serve, door: str) -> None:
    async with serve(door) as gateway, connected(gateway.port) as wire:
        wire.ask(path="/ws/host-channel", head=UPGRADE + NONCE)
        await wire.head()
        assert await wire.reader.readexactly(4) == b"\x81\x02{}"
        wire.writer.write(b"\x82\xff" + (4 * 1024 * 1024 + 1).to_bytes(8) + bytes(4))
        frame = await wire.reader.readexactly(4)
        assert (frame[0], int.from_bytes(frame[2:])) == (0x88, 1009)


@DOORS
async def test_sockets_are_limited_in_number(serve: Serve, door: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_module, "MOST_SOCKETS", 2)
    async with serve(door) as gateway:
        async with gateway.open(ECHO) as one, gateway.open(ECHO) as two:
            await said(one)
            await said(two)
            assert await refused(gateway.open(ECHO)) == (503, "too_many_sockets")
        await gateway.idle()
        assert await opens(gateway.open(ECHO))


@DOORS
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_a_stopping_gateway_says_goodbye_with_1001(serve: Serve, door: str, tls: bool) -> None:
    async with serve(door, tls=tls) as gateway, gateway.open(ECHO) as client:
        await said(client)
        gateway.stop()
        with pytest.raises(ConnectionClosed) as closed:
            await said(client)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001


@pytest.mark.usefixtures("impatient")
@DOORS
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_a_client_that_never_reads_does_not_hold_up_the_end(
    serve: Serve, door: str, tls: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve(door, tls=tls) as gateway:
        client = await gateway.open("/ws/deaf", max_queue=1)
        await said(client)
        gateway.stop()
        async with asyncio.timeout(10):  # below what a drain may take
            await gateway.ended()
        client.transport.abort()
    assert [line.message for line in caplog.records if line.levelname == "ERROR"] == []


@DOORS
async def test_a_client_that_was_not_heard_yet_is_told_goodbye_all_the_same(
    serve: Serve, door: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = asyncio.Event()

    async def busy(desk: Desk, socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text("hello")
        await over.wait()

    monkeypatch.setitem(SOCKETS, "/ws/busy", busy)
    async with serve(door) as gateway, gateway.open("/ws/busy") as client:
        await said(client)
        await client.send("one")
        await client.send("two")
        gateway.stop()
        with pytest.raises(ConnectionClosed) as closed:
            await said(client)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
        assert closed.value.rcvd_then_sent  # and it was heard to say so itself
        over.set()


@pytest.mark.usefixtures("impatient")
@DOORS
async def test_a_handshake_that_is_under_way_does_not_hold_up_the_end(serve: Serve, door: str) -> None:
    async with serve(door) as gateway, connected(gateway.port) as wire:
        wire.ask(path="/ws/never", head=f"X-API-Key: {KEY}\r\n{UPGRADE}{NONCE}")
        await gateway.busy()
        gateway.stop()
        assert (await wire.head())[9:12] == "500"
        async with asyncio.timeout(10):
            await gateway.ended()


@DOORS
async def test_who_answers_no_pings_is_cut_off(serve: Serve, door: str) -> None:
    async with serve(door) as gateway, connected(gateway.port) as wire:
        gateway.server.config.ws_ping_interval = gateway.server.config.ws_ping_timeout = 0.02
        wire.ask(path="/ws/host-channel", head=UPGRADE + NONCE)
        await wire.head()
        frames = await asyncio.wait_for(wire.reader.read(), 10)  # to its end
        assert frames.startswith(b"\x81\x02{}\x89\x04")
        assert int.from_bytes(frames[frames.index(b"\x88") + 2 :][:2]) == 1011
        await gateway.idle()


@pytest.mark.usefixtures("impatient")
@DOORS
async def test_who_neither_reads_nor_answers_pings_is_cut_off(serve: Serve, door: str) -> None:
    async with serve(door) as gateway, connected(gateway.port) as wire:
        gateway.server.config.ws_ping_interval = gateway.server.config.ws_ping_timeout = 0.02
        wire.reader._transport.pause_reading()  # type: ignore[attr-defined]
        wire.ask(path="/ws/deaf", head=f"X-API-Key: {KEY}\r\n{UPGRADE}{NONCE}")
        await gateway.busy()
        await gateway.idle()


async def test_a_request_in_the_same_packet_is_answered_before_the_socket_opens(serve: Serve) -> None:
    async with serve() as gateway, connected(gateway.port) as wire:
        wire.ask(path="/health")
        wire.ask(path="/ws/host-channel", head=UPGRADE + NONCE)
        assert (await wire.answer())[0].startswith("HTTP/1.1 200")
        assert (await wire.head()).startswith("HTTP/1.1 101")


PAGE = f"GET {ECHO} HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\n"


@pytest.mark.parametrize(
    "head",
    [
        f"{PAGE}{UPGRADE}{NONCE}Content-Length: 2\r\n\r\nhi",
        f"{PAGE}{UPGRADE}{NONCE}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        f"{PAGE}{UPGRADE}{NONCE}Upgrade: websocket\r\n\r\n",
        f"{PAGE}{UPGRADE.replace('websocket', 'websocket, h2c')}{NONCE}\r\n",
        f"{PAGE.replace('HTTP/1.1', 'HTTP/1.0')}{UPGRADE.replace('Upgrade', 'keep-alive, Upgrade', 1)}{NONCE}\r\n",
    ],
    ids=["a body", "chunks", "twice", "two protocols", "HTTP/1.0"],
)
async def test_what_others_could_read_as_a_request_is_one(serve: Serve, head: str) -> None:
    async with serve() as gateway, connected(gateway.port) as wire:
        wire.writer.write(head.encode())
        assert (await wire.answer())[0][9:12] == "426"
        wire.ask(path="/health")
        assert (await wire.answer())[0][9:12] == "200"


async def test_a_socket_does_not_open_before_the_request_ahead_is_answered(serve: Serve) -> None:
    async with (
        FakeBackend(["m"]) as fake,
        serve(backends=(f"one={fake.url}",)) as gateway,
        connected(gateway.port) as wire,
    ):
        wire.ask(CHAT, head=f"X-API-Key: {KEY}\r\n")
        wire.ask(path=ECHO, head=f"X-API-Key: {KEY}\r\n{UPGRADE}{NONCE}")
        assert (await wire.answer())[0][9:12] == "200"
        assert (await wire.answer())[0][9:12] == "426"


async def test_a_server_that_cannot_carry_a_refusal_is_told_to_refuse(serve: Serve) -> None:
    sent = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async with serve() as gateway:
        scope = {"type": "websocket", "path": ECHO, "query_string": b"", "headers": [], "client": None}
        await gateway.gateway(scope, receive, send)
    assert sent == [{"type": "websocket.close"}]


async def test_a_message_in_more_pieces_than_anybody_needs_is_cut_off(serve: Serve) -> None:
    async with serve() as served, served.open(ECHO) as client:
        await client.recv()

        async def pieces() -> AsyncIterator[str]:
            for _ in range(5000):
                yield ""

        with suppress(ConnectionClosed):  # it may be cut off before the last piece
            await client.send(pieces())
        with pytest.raises(ConnectionClosed):
            await client.recv()
        await served.idle()
