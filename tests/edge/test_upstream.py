"""Answers as backends frame them, on real sockets: what is relayed, and which connection is used again."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solar.core.attempts import Outcome
from solar.core.backend import Backend
from solar.core.headers import Headers
from solar.edge.connection import Connection, key_of
from solar.edge.tasks import Tasks
from solar.edge.transport import Failure, UpstreamRequest
from solar.edge.upstream import MAX_IDLE, FreshUpstream, HttpUpstream
from solar.testing import FakeBackend, faults

BODY = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
Answering = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Heard:
    """What a sink was told, in order."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: Headers = []
        self.length: int | None = None
        self.body = b""
        self.chunks = 0
        self.failure: Failure | None = None
        self.ended = False
        self._begun = asyncio.Event()
        self._over = asyncio.Event()
        self.on_chunk: Callable[[], None] = lambda: None

    def head(self, status: int, headers: Headers, length: int | None) -> None:
        assert not self.status
        self.status, self.headers, self.length = status, headers, length
        self._begun.set()

    def chunk(self, data: bytes) -> None:
        assert self.status
        assert data
        assert not self._over.is_set()
        self.body += data
        self.chunks += 1
        self.on_chunk()

    def end(self) -> None:
        assert not self._over.is_set()
        self.ended = True
        self._over.set()

    def failed(self, failure: Failure) -> None:
        assert not self._over.is_set()
        self.failure = failure
        self._over.set()

    async def answering(self) -> None:
        async with asyncio.timeout(5):
            await self._begun.wait()

    async def over(self) -> Heard:
        async with asyncio.timeout(5):
            await self._over.wait()
        return self

    @property
    def outcome(self) -> Outcome | None:
        return self.failure.outcome if self.failure is not None else None


class Pool:
    """A transport with its tasks."""

    def __init__(self) -> None:
        self.tasks = Tasks(logging.getLogger("solar.test"))
        self.upstream = HttpUpstream(self.tasks)

    def send(self, url: str, heard: Heard, *, body: bytes = BODY, method: bytes = b"POST", fresh: bool = False) -> Any:
        request = UpstreamRequest(
            Backend("a", url), method, b"/v1/chat/completions", [(b"content-type", b"application/json")], body, 2.0
        )
        return (FreshUpstream(self.upstream) if fresh else self.upstream).send(request, heard)

    async def ask(self, url: str, **how: Any) -> Heard:
        heard = Heard()
        self.send(url, heard, **how)
        return await heard.over()


@asynccontextmanager
async def pool() -> AsyncIterator[Pool]:
    made = Pool()
    try:
        yield made
    finally:
        await made.tasks.stop()
        await made.upstream.close()
        await asyncio.sleep(0)


@asynccontextmanager
async def serving(answering: Answering) -> AsyncIterator[str]:
    """A server of raw bytes; its URL."""
    writers: list[asyncio.StreamWriter] = []

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        try:
            await answering(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            writer.close()

    server = await asyncio.start_server(accepted, "127.0.0.1", 0, limit=2**22)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0)


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next((line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), b":0")
    return head + await reader.readexactly(int(length.partition(b":")[2]))


def says(*pieces: bytes, close: bool = False) -> Answering:
    """Answers each request of a connection with these bytes, each in a write of its own."""

    async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            if close:
                writer.close()
                return

    return answering


async def heard_of(*pieces: bytes, close: bool = False) -> tuple[Heard, bool]:
    """What is heard of an answer, and whether its connection was kept."""
    async with serving(says(*pieces, close=close)) as url, pool() as made:
        heard = await made.ask(url)
        return heard, bool(made.upstream._idle.get(key_of(Backend("a", url))))


def both_loops(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[str], None]:
    """Runs a test under asyncio's own loop and under uvloop."""

    @pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
    def run(loop: str) -> None:
        uvloop = pytest.importorskip("uvloop") if loop == "uvloop" else None
        with asyncio.Runner(loop_factory=uvloop.new_event_loop if uvloop else None) as runner:
            runner.run(test())

    run.__name__ = test.__name__
    return run


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "close", "told", "kept"),
    [
        (OK, False, (200, 2, b"ok"), True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", False, (200, 0, b""), True),
        (CHUNKED + b"2\r\nok\r\n0\r\n\r\n", False, (200, None, b"ok"), True),
        (CHUNKED + b"1\r\no\r\n1;x=y\r\nk\r\n0\r\n\r\n", False, (200, None, b"ok"), True),
        (CHUNKED + b"2\r\nok\r\n0\r\nx-trailer: 1\r\nauthorization: x\r\n\r\n", False, (200, None, b"ok"), True),
        (b"HTTP/1.1 200 OK\r\n\r\nok", True, (200, None, b"ok"), False),
        (b"HTTP/1.0 200 OK\r\n\r\nok", True, (200, None, b"ok"), False),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", False, (200, 2, b"ok"), False),
        (b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok", False, (200, 2, b"ok"), True),
        (b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok", False, (200, 2, b"ok"), False),
        (b"HTTP/1.1 204 No Content\r\n\r\n", False, (204, 0, b""), True),
        (b"HTTP/1.1 204 No Content\r\ncontent-length: 2\r\n\r\nok", False, (204, 0, b""), False),
        (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 2\r\n\r\n", False, (304, 0, b""), True),
        (b"HTTP/1.1 304 X\r\ntransfer-encoding: chunked\r\n\r\n", False, (304, 0, b""), True),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, False, (200, 2, b"ok"), True),
        (b"HTTP/1.1 103 Early\r\nx-early: 1\r\n\r\nHTTP/1.1 102 Wait\r\n\r\n" + OK, False, (200, 2, b"ok"), True),
        (OK + OK, False, (200, 2, b"ok"), False),
        (OK + b"\r\n", False, (200, 2, b"ok"), False),
        (OK + b"garbage", False, (200, 2, b"ok"), False),
        (CHUNKED + b"2\r\nok\r\n0\r\n\r\n" + OK, False, (200, None, b"ok"), False),
        (CHUNKED + b"2\r\nok\r\n0\r\n\r\n\r\n", False, (200, None, b"ok"), False),
        (CHUNKED + b"2\r\nok\r\n0\r\n\r\ngarbage", False, (200, None, b"ok"), False),
    ],
)
async def test_every_valid_framing_is_read_and_only_a_clean_end_keeps_the_connection(
    answer: bytes, close: bool, told: tuple[int, int | None, bytes], kept: bool
) -> None:
    heard, was_kept = await heard_of(answer, close=close)
    assert (heard.status, heard.length, heard.body) == told
    assert (heard.ended, was_kept) == (True, kept)
    assert not {b"x-early", b"x-trailer", b"authorization"} & dict(heard.headers).keys()


@pytest.mark.parametrize(
    ("answer", "close"),
    [
        (b"SSH-2.0-OpenSSH\r\n", False),
        (b"\x16\x03\x01\x02\x00", False),
        (b"HTTP/2.0 200 OK\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\ncontent-length: 2\n\nok", False),
        (b"HTTP/1.1 200 OK\ncontent-length: 2\n\r\n\r\nok", False),
        (b"HTTP/1.1 2000 OK\r\n\r\n", False),
        (b"HTTP/1.1 099 OK\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nx: a\x00b\r\ncontent-length: 2\r\n\r\nok", False),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok", False),
        (b"HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\nok", False),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\n\r\nok", False),
        (b"HTTP/1.1 200 OK\r\ncontent-length: " + b"9" * 5000 + b"\r\n\r\nok", False),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\nok", True),
        (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n\x81\x05", False),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 17, False),
        (b"HTTP/1.1 200 OK\r\nx: " + b"h" * 70_000, False),
        (b"HTTP/1.1 200 OK\r\nx: " + b"h" * 70_000 + b"\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nx: half", True),
        (b"HTTP/1.1 100 Continue\r\n\r\n", True),
    ],
)
async def test_what_could_be_read_in_two_ways_is_not_relayed(answer: bytes, close: bool) -> None:
    heard, kept = await heard_of(answer, close=close)
    assert (heard.status, heard.outcome, kept) == (0, Outcome.UNREADABLE, False)


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (b"", Outcome.RESET),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", Outcome.RESET),
        (CHUNKED + b"2\r\nok\r\n", Outcome.RESET),
        (CHUNKED + b"2\r\nok\r\nzz\r\n", Outcome.UNREADABLE),
        (CHUNKED + b"2\r\nokX\r\n", Outcome.UNREADABLE),
    ],
)
async def test_an_answer_that_is_cut_is_not_complete(answer: bytes, outcome: Outcome) -> None:
    heard, kept = await heard_of(answer, close=True)
    assert (heard.ended, heard.outcome, kept) == (False, outcome, False)
    assert heard.body == (b"ok" if b"ok" in answer else b"")


async def test_a_reset_is_no_end_of_an_answer_that_ends_with_its_connection() -> None:
    arrived = asyncio.Event()

    async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nok")
        await arrived.wait()
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closes with RST
        writer.transport.abort()

    async with serving(answering) as url, pool() as made:
        heard = Heard()
        heard.on_chunk = arrived.set
        made.send(url, heard)
        await heard.over()
        assert (heard.body, heard.outcome) == (b"ok", Outcome.RESET)


@both_loops
async def test_a_request_that_its_backend_takes_slowly_is_nothing_to_complain_of() -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    async with serving(says(OK)) as url, pool() as made:
        assert (await made.ask(url, body=b" " * 2**23)).ended
    assert complaints == []


SPLIT = (
    b"HTTP/1.1 103 Early\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\nx-a: 1\r\ntransfer-encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\n1\r\n \r\nA;x=1\r\n0123456789\r\n0\r\nx-trailer: 1\r\n\r\n"
)
LONG = b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\nx-a: 1\r\n\r\nhello\r\n\r\nabc"


class Wire(asyncio.Transport):
    """Where a connection writes, in the property tests."""

    def __init__(self) -> None:
        super().__init__()
        self.closing = False
        self.written = b""

    def write(self, data: Any) -> None:
        self.written += data

    def writelines(self, list_of_data: Any) -> None:
        self.written += b"".join(list_of_data)

    def abort(self) -> None:
        self.closing = True

    close = abort

    def is_closing(self) -> bool:
        return self.closing

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


@given(st.sampled_from([SPLIT, LONG]), st.lists(st.integers(0, len(SPLIT)), max_size=25), st.booleans())
@settings(deadline=None, max_examples=300)
def test_an_answer_may_be_split_at_any_byte(answer: bytes, cuts: list[int], every: bool) -> None:
    async def read() -> None:
        made = Pool()
        request = UpstreamRequest(Backend("a", "http://h"), b"POST", b"/v1/x", [], BODY, None)
        connection = Connection(made.upstream, key_of(request.backend))
        connection.connection_made(Wire())
        made.upstream.keep(connection)
        heard = Heard()
        made.upstream.send(request, heard)
        edges = sorted({0, len(answer), *(range(len(answer)) if every else (cut % len(answer) for cut in cuts))})
        for start, end in pairwise(edges):
            connection.data_received(answer[start:end])
        assert (heard.status, heard.ended, dict(heard.headers)[b"x-a"]) == (200, True, b"1")
        assert heard.body == (b"hello 0123456789" if answer is SPLIT else b"hello\r\n\r\nabc")
        assert made.upstream._idle[connection.key] == [connection]
        assert repr(made.upstream) == "<HttpUpstream 1 connections (1 idle)>"

    asyncio.run(read())


@given(st.binary(max_size=200), st.booleans())
@settings(deadline=None, max_examples=300)
def test_no_bytes_at_all_break_the_reader(noise: bytes, after_a_head: bool) -> None:
    async def read() -> None:
        made = Pool()
        request = UpstreamRequest(Backend("a", "http://h"), b"POST", b"/v1/x", [], BODY, None)
        connection = Connection(made.upstream, key_of(request.backend))
        connection.connection_made(Wire())
        made.upstream.keep(connection)
        heard = Heard()
        made.upstream.send(request, heard)
        connection.data_received(CHUNKED + noise if after_a_head else noise or b"x")
        connection.eof_received()
        connection.connection_lost(None)
        assert heard.ended or heard.failure is not None

    asyncio.run(read())


# --- the request


async def test_a_request_is_written_whole_with_its_host_and_length() -> None:
    seen: list[bytes] = []

    async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            seen.append(await read_request(reader))
            writer.write(OK)

    async with serving(answering) as url, pool() as made:
        await made.ask(url)
        await made.ask(url, body=b"x" * 100_000)
        await made.ask(url, body=b"", method=b"GET")
    host = url.removeprefix("http://").encode()
    assert seen[0] == (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: " + host + b"\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n%b" % (len(BODY), BODY)
    )
    assert seen[1].endswith(b"content-length: 100000\r\n\r\n" + b"x" * 100_000)
    assert b"content-length" not in seen[2]


async def test_a_large_body_is_let_go_once_its_answer_has_begun() -> None:
    async with FakeBackend() as fake, pool() as made:
        fake.script(faults.hang_after_head())
        heard = Heard()
        call = made.send(fake.url, heard, body=BODY.replace(b"hi", b"hi" * 50_000))
        await fake.wait_for(lambda: fake.inference and fake.inference[0].bytes_sent)
        await heard.answering()
        assert call.request.body == b""
        call.abort()


# --- the pool


async def test_a_connection_is_used_again_after_a_clean_answer() -> None:
    async with FakeBackend() as fake, pool() as made:
        for _ in range(5):
            assert (await made.ask(fake.url)).ended
        assert (fake.connections, made.upstream.opened, made.upstream.connections) == (1, 1, 1)


async def test_requests_at_once_have_a_connection_each() -> None:
    async with FakeBackend() as fake, pool() as made:
        await asyncio.gather(*(made.ask(fake.url) for _ in range(4)))
        assert fake.connections == 4
        await asyncio.gather(*(made.ask(fake.url) for _ in range(4)))
        assert fake.connections == 4


async def test_a_fresh_connection_is_never_pooled_and_takes_none_from_the_pool() -> None:
    async with FakeBackend() as fake, pool() as made:
        await made.ask(fake.url)
        await made.ask(fake.url, fresh=True)
        assert fake.connections == 2
        await fake.wait_for(lambda: fake.open == 1)
        await made.ask(fake.url)
        assert fake.connections == 2


async def test_a_kept_connection_that_died_unused_is_replaced_unnoticed() -> None:
    async with FakeBackend() as fake, pool() as made:
        fake.script(faults.close_after_answer())
        for _ in range(2):
            assert (await made.ask(fake.url)).ended
        assert fake.connections == 2


async def test_a_kept_connection_is_replaced_once_and_then_it_is_a_reset() -> None:
    async with FakeBackend() as fake, pool() as made:
        await made.ask(fake.url)
        fake.always(faults.close_before_head())
        heard = await made.ask(fake.url)
        assert (heard.outcome, fake.connections, len(fake.inference)) == (Outcome.RESET, 2, 3)


async def test_a_fresh_connection_that_is_lost_is_not_replaced() -> None:
    async with FakeBackend() as fake, pool() as made:
        fake.always(faults.reset_before_head())
        assert (await made.ask(fake.url)).outcome is Outcome.RESET
        assert len(fake.inference) == 1


async def test_a_replacement_that_is_refused_says_that_the_engine_died_with_the_request() -> None:
    async with FakeBackend() as fake, pool() as made:
        await made.ask(fake.url)
        fake.script(faults.die())
        assert (await made.ask(fake.url)).outcome is Outcome.RESET


async def test_bytes_that_nobody_asked_for_close_an_idle_connection() -> None:
    async with FakeBackend() as fake, pool() as made:
        fake.script(faults.unsolicited())
        await made.ask(fake.url)
        fake.release()
        await fake.wait_for(lambda: fake.open == 0)
        assert (await made.ask(fake.url)).status == 200


async def test_removing_a_backend_closes_its_kept_connections() -> None:
    async with FakeBackend() as fake, pool() as made:
        await made.ask(fake.url)
        made.upstream.forget(Backend("a", fake.url))
        await fake.wait_for(lambda: fake.open == 0)
        made.upstream.forget(Backend("a", fake.url))


async def test_no_more_than_so_many_connections_are_kept() -> None:
    made = Pool()
    key = key_of(Backend("a", "http://h"))
    wires = [Wire() for _ in range(MAX_IDLE + 2)]
    for wire in wires:
        connection = Connection(made.upstream, key)
        connection.connection_made(wire)
        made.upstream.keep(connection)
    assert [wire.closing for wire in wires] == [False] * MAX_IDLE + [True] * 2


async def test_nobody_there_is_refused_and_a_black_hole_times_out() -> None:
    async with FakeBackend() as fake, pool() as made:
        fake.stop_listening()
        assert (await made.ask(fake.url)).outcome is Outcome.REFUSED
        assert (await made.ask("http://no-such-host.invalid")).outcome is Outcome.REFUSED
        assert (await made.ask("http://" + "x" * 70)).outcome is Outcome.REFUSED
    if sys.platform == "linux":
        async with FakeBackend() as fake, pool() as made:
            fake.ignore_connects()
            heard = Heard()
            request = UpstreamRequest(Backend("a", fake.url), b"GET", b"/", [], b"", 0.05)
            made.upstream.send(request, heard)
            assert (await heard.over()).outcome is Outcome.CONNECT_TIMEOUT


# --- calls


@both_loops
async def test_an_abort_closes_at_once_in_every_phase() -> None:
    async with FakeBackend() as fake, pool() as made:
        for fault in (faults.silent(), faults.hang_after_head(), faults.stall_after(1)):
            fake.script(fault)
            heard = Heard()
            call = made.send(fake.url, heard)
            await fake.wait_for(lambda: fake.in_flight == 1)
            call.abort()
            call.abort()
            await fake.wait_for(lambda: fake.in_flight == 0 and fake.open == 0)
            assert not heard.ended
            assert heard.failure is None
        call = made.send(fake.url, Heard())
        call.abort()  # while it connects
        await asyncio.sleep(0)
        call.pause()
        call.resume()
        assert not call.unacknowledged()
        assert len(fake.inference) == 3


@both_loops
async def test_a_paused_call_reads_nothing_and_resumes_where_it_was() -> None:
    async with FakeBackend() as fake, pool() as made:
        fake.script(faults.big(8_000_000))
        heard = Heard()
        call = made.send(fake.url, heard)
        heard.on_chunk = call.pause
        await heard.answering()
        for _ in range(20):
            await asyncio.sleep(0)
        assert heard.chunks <= 1
        before = heard.chunks
        for _ in range(20):
            await asyncio.sleep(0)
        assert heard.chunks == before
        heard.on_chunk = lambda: None
        call.resume()
        assert (await heard.over()).ended
        assert len(heard.body) > 8_000_000


@both_loops
async def test_a_call_that_was_paused_at_its_end_leaves_a_connection_that_reads() -> None:
    async with FakeBackend() as fake, pool() as made:
        heard = Heard()
        call = made.send(fake.url, heard)
        heard.on_chunk = call.pause
        await heard.over()
        assert (await made.ask(fake.url)).ended
        assert fake.connections == 1


@both_loops
async def test_a_call_that_is_paused_before_it_is_sent_waits() -> None:
    async with FakeBackend() as fake, pool() as made:
        heard = Heard()
        call = made.send(fake.url, heard)
        call.pause()
        await fake.wait_for(lambda: len(fake.inference) == 1 and not fake.in_flight)
        assert heard.status == 0
        call.resume()
        assert (await heard.over()).ended


@both_loops
async def test_an_early_answer_ends_an_upload_whose_connection_is_not_used_again() -> None:
    async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno")
        await writer.drain()
        await asyncio.Event().wait()

    async with serving(answering) as url, pool() as made:
        heard = await made.ask(url, body=b"x" * 30_000_000)
        assert (heard.status, heard.ended) == (413, True)
        assert not made.upstream._idle.get(key_of(Backend("a", url)))


@both_loops
async def test_a_server_that_talks_before_it_is_asked_is_not_waited_for() -> None:
    async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH\r\n")
        await reader.read()

    async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with serving(answering) as talks, serving(closing) as closes, pool() as made:
        for _ in range(20):
            assert (await made.ask(talks)).outcome in (Outcome.UNREADABLE, Outcome.RESET)
            assert (await made.ask(closes)).outcome in (Outcome.RESET, Outcome.REFUSED)


@both_loops
async def test_acknowledged_bytes_are_no_evidence() -> None:
    async with FakeBackend() as fake, pool() as made:
        fake.script(faults.silent())
        heard = Heard()
        call = made.send(fake.url, heard)
        assert not call.unacknowledged()  # it connects
        await fake.wait_for(lambda: fake.in_flight == 1)
        assert not call.unacknowledged()
        call.abort()
        assert not call.unacknowledged()


async def test_closing_ends_the_connections_in_use_too() -> None:
    async with FakeBackend() as fake, pool() as made:
        fake.script(faults.silent())
        heard = Heard()
        made.send(fake.url, heard)
        await fake.wait_for(lambda: fake.in_flight == 1)
        await made.upstream.close()
        assert (await heard.over()).outcome is Outcome.RESET
        assert made.upstream.connections == 0
