"""What HTTPS clients meet at both doors of `solar serve`, with uvloop and without."""

import asyncio
import contextlib
import hashlib
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
import pytest_asyncio
from gateway_process import SERVER, WITHIN, Gateway, trusting

from raw_wire import CHAT, STREAM, Wire
from solar.testing import FakeBackend, Fault, faults

pytestmark = pytest.mark.asyncio(loop_scope="module")

LARGE = 24_000_000  # bytes; the buffers of all sockets on the way hold some megabytes
WITHOUT_UVLOOP = "import sys\nsys.modules['uvloop'] = None\n"


@dataclass
class Served:
    """A gateway that speaks TLS, before a backend."""

    process: Gateway
    fake: FakeBackend
    door: str

    @asynccontextmanager
    async def connect(self, receive: int | None = None) -> AsyncIterator[Wire]:
        """A connection; `receive` is how many bytes its kernel may hold."""
        sock = socket.socket()
        if receive is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.process.port))
        reader, writer = await asyncio.open_connection(
            sock=sock, ssl=trusting("server.pem"), server_hostname="127.0.0.1", limit=2**20
        )
        try:
            yield Wire(reader, writer)
        finally:
            writer.transport.abort()

    async def until(self, condition: Callable[[], object]) -> None:
        await self.fake.wait_for(condition, WITHIN)


@pytest_asyncio.fixture(
    scope="module", loop_scope="module", params=["front-uvloop", "asgi-uvloop", "front-asyncio", "asgi-asyncio"]
)
async def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    door, _, loop = request.param.partition("-")
    directory: Path = tmp_path_factory.mktemp("gateway")
    (directory / "sitecustomize.py").write_text(WITHOUT_UVLOOP if loop == "asyncio" else "")
    path = os.pathsep.join(filter(None, (str(directory), os.environ.get("PYTHONPATH"))))
    async with FakeBackend(["m"]) as fake:
        flags = ("--port", "0", "--door", door, "--backend", f"a={fake.url}", "--allowed-host", "x", *SERVER)
        process = Gateway(directory, *flags, env={"PYTHONPATH": path})
        try:
            assert (await asyncio.to_thread(lambda: process.url)).startswith("https://127.0.0.1:")
            yield Served(process, fake, door)
            assert await asyncio.to_thread(process.stop) == 0
        finally:
            process.process.kill()
            await asyncio.to_thread(process.ended)
            process.process.stdout.close()  # type: ignore[union-attr]
        assert "Traceback" not in process.said
        assert "SSL" not in process.said


async def settled(read: Callable[[], int]) -> int:
    """What `read` says once it says the same for a while."""
    before = -1
    while (now := read()) != before:
        before = now
        await asyncio.sleep(0.3)
    return now


def cut(fault: Fault) -> Any:
    return pytest.param(fault, id=repr(fault))


async def test_a_connection_takes_one_chat_after_the_other(served: Served) -> None:
    async with served.connect() as wire:
        for _ in range(3):
            wire.ask(CHAT)
            head, body = await wire.answer()
            assert head.startswith("HTTP/1.1 200 OK\r\n")
            assert b"word0" in body
        tls: ssl.SSLObject = wire.writer.get_extra_info("ssl_object")
        assert tls.version() == "TLSv1.3"


async def test_http_1_1_is_agreed_upon(served: Served) -> None:
    context = trusting("server.pem")
    context.set_alpn_protocols(["h2", "http/1.1"])
    _, writer = await asyncio.open_connection("127.0.0.1", served.process.port, ssl=context)
    assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
    writer.close()
    await writer.wait_closed()


async def test_tls_1_2_is_taken_too(served: Served) -> None:
    context = trusting("server.pem")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    _, writer = await asyncio.open_connection("127.0.0.1", served.process.port, ssl=context)
    assert writer.get_extra_info("ssl_object").version() == "TLSv1.2"
    writer.close()
    await writer.wait_closed()


async def test_events_come_when_they_are_made(served: Served) -> None:
    served.fake.script(faults.stall_after(2))
    async with served.connect() as wire:
        wire.ask(STREAM)
        assert b"word0" in await asyncio.wait_for(wire.reader.readuntil(b"word0"), WITHIN)
        assert served.fake.in_flight == 1
        served.fake.release()
        assert b"data: [DONE]\n\n" in await asyncio.wait_for(wire.reader.readuntil(b"\r\n0\r\n\r\n"), WITHIN)


@pytest.mark.parametrize("fault", [cut(faults.reset_after(2)), cut(faults.clean_end_after(2))])
async def test_a_stream_that_breaks_says_so_and_is_cut(fault: Fault, served: Served) -> None:
    served.fake.script(fault)
    async with served.connect() as wire:
        wire.ask(STREAM)
        got, _ = await wire.rest()
    assert b'data: {"error"' in got
    assert b"[DONE]" not in got
    assert not got.endswith(b"0\r\n\r\n")


async def test_a_broken_answer_to_an_http_1_0_client_never_ends_as_if_it_were_whole(served: Served) -> None:
    served.fake.script(faults.reset_after(2))
    async with served.connect() as wire:
        body = b'{"model":"m","stream":true}'
        wire.writer.write(b"POST /v1/chat/completions HTTP/1.0\r\nHost: x\r\nContent-Length: 27\r\n\r\n" + body)
        if served.door == "asgi":  # it collects such an answer
            assert " 502 " in await wire.head()
            return
        await asyncio.wait_for(wire.reader.readuntil(b'{"error"'), WITHIN)
        with pytest.raises((ConnectionResetError, ssl.SSLError)):  # only its end could tell
            await asyncio.wait_for(wire.reader.read(), WITHIN)


@pytest.mark.parametrize("how", ["goodbye", "close", "reset"])
@pytest.mark.parametrize("when", ["waiting", "streaming"])
async def test_a_client_that_leaves_frees_its_backend(how: str, when: str, served: Served) -> None:
    served.fake.script(faults.silent() if when == "waiting" else faults.stall_after(2))
    before = len(served.fake.inference)
    sock = await asyncio.to_thread(_blocking, served.process.port)
    body = b'{"model":"m","stream":true}'
    sock.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 27\r\n\r\n" + body)
    await served.until(lambda: len(served.fake.inference) > before)
    if when == "streaming":
        while b"word0" not in await asyncio.to_thread(sock.recv, 65536):
            pass
    await asyncio.to_thread(_leave, sock, how)
    await served.until(lambda: served.fake.inference[-1].cancelled)
    sock.close()


def _blocking(port: int) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", port), timeout=WITHIN)
    return trusting("server.pem").wrap_socket(plain, server_hostname="127.0.0.1")


def _leave(sock: ssl.SSLSocket, how: str) -> None:
    if how == "goodbye":  # TLS says that it is over; the socket stays
        with contextlib.suppress(OSError):  # what still came is no goodbye
            sock.unwrap()
    elif how == "close":  # as when a process ends
        sock.close()
    else:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        sock.close()


async def test_a_big_body_arrives_as_it_was_sent(served: Served) -> None:
    picture = hashlib.shake_128(b"seed").hexdigest(10_000_000)
    async with served.connect() as wire:
        wire.ask({**CHAT, "image": picture})
        await wire.writer.drain()
        head, _ = await wire.answer()
    assert head.startswith("HTTP/1.1 200")
    assert picture.encode() in served.fake.inference[-1].body


async def test_a_body_beyond_the_limit_is_refused_while_it_is_sent(served: Served) -> None:
    async with served.connect() as wire:
        wire.writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n")
        wire.writer.write(bytes(1_000_000))
        head, body = await wire.answer()
    assert head.startswith("HTTP/1.1 413")
    assert b'"error"' in body


@pytest.mark.parametrize("payload", [CHAT, STREAM], ids=["plain", "stream"])
async def test_a_slow_reader_holds_the_backend_back_and_gets_all(payload: object, served: Served) -> None:
    served.fake.script(faults.big(LARGE))
    before = len(served.fake.inference)
    async with served.connect(receive=65536) as wire:
        wire.ask(payload)
        await served.until(lambda: len(served.fake.inference) > before)
        asked = served.fake.inference[-1]
        assert 0 < await settled(lambda: asked.bytes_sent) < LARGE
        _, body = await asyncio.wait_for(wire.answer(), 4 * WITHIN)
        assert len(body) > LARGE


async def test_a_slow_reader_gets_all_of_an_answer_that_closes_the_connection(served: Served) -> None:
    served.fake.script(faults.big(2_000_000))
    async with served.connect(receive=4096) as wire:
        wire.ask(CHAT, head="Connection: close\r\n")
        await served.until(lambda: served.fake.inference and served.fake.inference[-1].finished)
        _, body = await asyncio.wait_for(wire.answer(), WITHIN)
        assert len(body) > 2_000_000
        assert await asyncio.wait_for(wire.reader.read(), WITHIN) == b""


async def test_the_official_client_needs_only_the_certificate(served: Served) -> None:
    http = openai.DefaultAsyncHttpxClient(verify=trusting("server.pem"))
    async with openai.AsyncOpenAI(base_url=f"{served.process.url}/v1", api_key="x", http_client=http) as ai:
        said = await ai.chat.completions.create(model="m", messages=[{"role": "user", "content": "hello"}])
        assert said.choices[0].message.content
        stream = await ai.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "hello"}], stream=True
        )
        assert [chunk.choices[0].finish_reason async for chunk in stream if chunk.choices][-1] == "stop"


async def test_what_is_no_tls_is_closed_and_nobody_else_notices(served: Served) -> None:
    for said in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\xff\xff" + bytes(9000), b""):
        reader, writer = await asyncio.open_connection("127.0.0.1", served.process.port)
        writer.write(said)
        writer.write_eof()
        with contextlib.suppress(ConnectionResetError):
            assert b"HTTP" not in await asyncio.wait_for(reader.read(), WITHIN)
        writer.close()
    async with served.connect() as wire:
        wire.ask(CHAT)
        assert (await wire.answer())[0].startswith("HTTP/1.1 200")
