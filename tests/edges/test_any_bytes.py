"""Whatever the bytes and however they are cut: the protocol driven in memory, without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from frontwire import CHAT, HEALTH, SMALL, STREAM, chat, chunks, head
from hypothesis import example, given, settings
from hypothesis import strategies as st

from solar.core.backend import Backend
from solar.edge.frontdoor import FrontDoor
from solar.edge.hall import Hall
from solar.edge.tasks import Tasks
from solar.edge.transport import Sink, UpstreamRequest
from solar.router import Router

QUICK = settings(deadline=None, max_examples=200)


class Told:
    """A transport to a backend that answers before the question is over, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, bytes, bytes]] = []

    def send(self, request: UpstreamRequest, sink: Sink) -> Told:
        answer = request.body
        if request.method == b"POST":
            self.asked.append((request.method, request.target, request.body))
        else:  # a probe
            answer = b'{"object":"list","data":[{"id":"m"}]}'
        sink.head(200, [(b"content-type", b"application/json")], len(answer))
        sink.chunk(answer)
        sink.end()
        return self

    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def abort(self) -> None: ...

    def unacknowledged(self) -> bool:
        return False

    async def close(self) -> None: ...


class Line(asyncio.Transport):
    """A client's connection in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.said = b""
        self.over = False
        self.reads = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.over, "written behind the end"
        self.said += bytes(data)

    def writelines(self, pieces: Any) -> None:
        self.write(b"".join(pieces))

    def write_eof(self) -> None:
        self.over = True

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        self.over = True

    abort = close

    def is_closing(self) -> bool:
        return self.over

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True


class State:
    """What a server keeps."""

    connections: set[Any]

    def __init__(self) -> None:
        self.connections = set()
        self.default_headers: list[tuple[bytes, bytes]] = []


Talk = Callable[[list[bytes]], tuple[bytes, bool]]


@pytest.fixture(scope="module")
def upstream() -> Told:
    return Told()


@pytest.fixture(scope="module")
def talk(upstream: Told) -> Iterator[Talk]:
    """Says pieces to a new connection; what it answers, and whether it is closed then."""
    with asyncio.Runner() as runner:
        router = Router([Backend("a", "http://a.invalid", models=("m",))], upstream=upstream)
        runner.run(router.start())
        state = State()
        hall = Hall(router.reception, state, Tasks(router._log))
        relay = router.reception.relay

        async def say(pieces: list[bytes]) -> tuple[bytes, bool]:
            door, line = FrontDoor(hall), Line()
            upstream.asked.clear()
            relay._ids = 0  # so that answers can be compared
            door.connection_made(line)
            for piece in pieces:
                door.data_received(piece)
            if not door.eof_received():
                line.close()
            left = line.over
            door.connection_lost(None)
            assert not relay.open
            assert not relay.buffered
            assert not state.connections
            return line.said, left

        yield lambda pieces: runner.run(say(pieces))
        runner.run(router.stop())


def cut(data: bytes, places: list[int]) -> list[bytes]:
    marks = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in pairwise(marks)]


def heard(said: bytes) -> list[bytes]:
    """Answers without what differs from one time to the next."""
    lines = said.split(b"\r\n")
    return [line for line in lines if not line.startswith((b"x-solar-overhead-ms", b"x-request-id"))]


VALID = [
    chat(),
    chat("X-Name: value", "X-Empty:"),
    chat(body=STREAM),
    chunks(b"5\r\n" + SMALL[:5] + b"\r\n8;x=y\r\n" + SMALL[5:] + b"\r\n0\r\nX-Sum: 1\r\n\r\n"),
    chat("Upgrade: websocket", "Connection: Upgrade"),
    chat("Expect: 100-continue", version="1.0"),
    HEALTH,
    head("GET /nowhere HTTP/1.1"),
    head("HEAD /v1/models HTTP/1.1"),
    chat(body=b"{"),
    chat("Connection: close"),
    head(f"POST {CHAT} HTTP/1.1", "Content-Length: 13", host=None) + SMALL,
]  # fmt: skip
places = st.lists(st.integers(0, 2000), max_size=12)


def test_a_valid_request_is_asked_of_the_backend(talk: Talk, upstream: Told) -> None:
    said, _ = talk([chat()])
    assert said.startswith(b"HTTP/1.1 200 OK\r\n")
    assert said.endswith(b"\r\n\r\n" + SMALL)
    assert upstream.asked == [(b"POST", CHAT.encode(), SMALL)]


@pytest.mark.parametrize("second", range(len(VALID)))
@pytest.mark.parametrize("first", range(len(VALID)))
def test_two_requests_byte_by_byte_are_answered_as_in_one_piece(
    talk: Talk, upstream: Told, first: int, second: int
) -> None:
    sent = VALID[first] + VALID[second]
    whole = heard(talk([sent])[0])
    asked = list(upstream.asked)
    assert heard(talk([bytes([byte]) for byte in sent])[0]) == whole
    assert upstream.asked == asked


@QUICK
@given(requests=st.lists(st.sampled_from(VALID), min_size=1, max_size=3), places=places)
def test_where_requests_are_cut_changes_no_answer(
    talk: Talk, upstream: Told, requests: list[bytes], places: list[int]
) -> None:
    sent = b"".join(requests)
    whole = heard(talk([sent])[0])
    asked = list(upstream.asked)
    assert heard(talk(cut(sent, places))[0]) == whole
    assert upstream.asked == asked


WORDS = [
    *(b"GET ", b"POST ", CHAT.encode(), b"/health", b" HTTP/1.1", b" HTTP/1.0", b"\r\n", b"\n", b"\r", b"\0", b": "),
    *(b"Host: a", b"Content-Length: ", b"13", b"Transfer-Encoding: chunked", b"d\r\n", b"0\r\n\r\n", b" ", b"\xff"),
    *(b"Upgrade: x", b"Connection: upgrade", b"Connection: close", b"Expect: 100-continue", b"CONNECT ", b"PRI * "),
    *(b":", SMALL[:-1]),
]
noise = st.one_of(st.binary(max_size=300), st.lists(st.sampled_from(WORDS), max_size=30).map(b"".join))


@settings(QUICK, max_examples=500)
@given(data=noise, places=places)
@example(data=b"\r\n" * 40_000, places=[])
def test_no_bytes_break_the_door_or_reach_a_backend(talk: Talk, upstream: Told, data: bytes, places: list[int]) -> None:
    said, over = talk(cut(data, places))
    assert over
    assert said == b"" or said.startswith(b"HTTP/1.1 ")
    assert upstream.asked == []


@QUICK
@given(request=st.sampled_from(VALID), at=st.integers(0, 2000), byte=st.binary(min_size=1, max_size=2), places=places)
def test_a_damaged_request_is_answered_or_closed(
    talk: Talk, upstream: Told, request: bytes, at: int, byte: bytes, places: list[int]
) -> None:
    at %= len(request)
    said, over = talk(cut(request[:at] + byte + request[at + 1 :], places))
    assert over
    assert said == b"" or said.startswith(b"HTTP/1.1 ")
    assert len(upstream.asked) <= 1
