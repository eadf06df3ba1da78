"""A head that was read before means what it meant then: with memory as without, the door says and asks the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
from frontwire import CHAT, SMALL, chat, chunks, head
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_any_bytes import Line, State

from solar.core.backend import Backend
from solar.edge.frontdoor import FrontDoor
from solar.edge.hall import Hall
from solar.edge.heads import LONGEST, MOST, Heads, Key, KnownHeads, cut
from solar.edge.reception import BODY_SECONDS
from solar.edge.tasks import Tasks
from solar.edge.transport import Sink, UpstreamRequest
from solar.router import Router

MAX_BODY = 100  # bytes, so that a length can be too much
MAX_BUFFERED = 150


class Patient:
    """A transport to a backend that answers when it is told to, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, bytes, bytes]] = []  # what was written, headers, body
        self.waiting: list[tuple[bytes, Sink]] = []

    def send(self, request: UpstreamRequest, sink: Sink) -> Patient:
        if request.method == b"POST":
            self.asked.append((request.wire, repr(request.headers).encode(), request.body))
            self.waiting.append((request.body, sink))
        else:  # a probe
            answered(sink, b'{"object":"list","data":[{"id":"m"}]}')
        return self

    def answer(self) -> None:
        """To the one that has waited longest."""
        if self.waiting:
            body, sink = self.waiting.pop(0)
            answered(sink, body)

    def pause(self) -> None: ...
    def resume(self) -> None: ...

    def abort(self) -> None:
        self.waiting.clear()

    def unacknowledged(self) -> bool:
        return False

    async def close(self) -> None: ...


def answered(sink: Sink, body: bytes) -> None:
    sink.head(200, [(b"content-type", b"application/json")], len(body))
    if body:
        sink.chunk(body)
    sink.end()


class Talk:
    """The front door of one router, one connection at a time."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self.upstream = Patient()
        self.runner = runner
        self.router = Router(
            [Backend("a", "http://a.invalid", models=("m",))],
            upstream=self.upstream,
            session_affinity=True,
            max_body=MAX_BODY,
            max_buffered_bytes=MAX_BUFFERED,
            drain_seconds=0,
        )
        runner.run(self.router.start())
        self.state = State()
        self.hall = Hall(self.router.reception, self.state, Tasks(self.router._log))

    @property
    def remembered(self) -> int:
        return len(self.hall.heads._known)

    def forget(self) -> None:
        self.hall.heads._known.clear()

    def say(self, steps: list[bytes | None], *, forgetful: bool = False) -> tuple[object, ...]:
        """Say pieces to a new connection; at None the backend answers once. All that can be seen of it from outside."""
        return self.runner.run(self._say(steps, forgetful))

    async def _say(self, steps: list[bytes | None], forgetful: bool) -> tuple[object, ...]:
        door, line = FrontDoor(self.hall), Line()
        relay, upstream = self.router.reception.relay, self.upstream
        upstream.asked.clear()
        relay._ids = 0  # so that answers can be compared
        door.connection_made(line)
        for step in steps:
            if forgetful:
                self.forget()
                door._heads._last = None
            if step is None:
                upstream.answer()
            elif not line.over:
                door.data_received(step)
            self.hall.outbox.end_turn()  # as at the end of each turn of the loop
        seen = line.said, line.over, line.reads, relay.buffered, list(upstream.asked)
        if not door.eof_received():
            line.close()
        seen += (line.over,)
        door.connection_lost(None)
        upstream.waiting.clear()
        assert not relay.open
        assert not relay.buffered
        assert not self.state.connections
        return (without_times(seen[0]), *seen[1:])


def without_times(said: bytes) -> bytes:
    return b"\r\n".join(line for line in said.split(b"\r\n") if not line.startswith(b"x-solar-overhead-ms"))


@pytest.fixture(scope="module")
def talk() -> Iterator[Talk]:
    with asyncio.Runner() as runner:
        talk = Talk(runner)
        yield talk
        runner.run(talk.router.stop())


@pytest.fixture
def fresh(talk: Talk) -> Talk:
    talk.forget()
    return talk


Framed = Callable[[bytes], bytes]  # a body, and the request around it


def posts(*fields: str, line: str = f"POST {CHAT} HTTP/1.1", host: str | None = "localhost") -> Framed:
    """A request whose `fields` hold the length of its body as {0}."""
    return lambda body: head(line, *(field.format(len(body)) for field in fields), host=host) + body


REMEMBERED = [
    posts("Content-Length: {0}"),
    posts("content-length:{0}", "X-Request-Id: mine", "Authorization: Bearer k", "X-Session-Id: s"),
    posts("X-Empty:", "Content-Length: 000{0}", "Origin: http://a", "Connection: keep-alive"),
    posts("Content-Length: {0}", line=f"POST {CHAT}?a=b HTTP/1.1"),
    posts("Content-Length: {0}", "X: Content-Length: 4", "X-Content-Length: 5", "Content-Type: text/plain"),
    posts("Content-Length: {0}", "Upgrade: websocket"),
]
READ_ANEW = [
    posts("Content-Length: {0}", "Connection: close"),
    posts("Content-Length: {0}", line=f"POST {CHAT} HTTP/1.0"),
    posts("Content-Length: {0}", "Connection: keep-alive", line=f"POST {CHAT} HTTP/1.0"),
    posts("Content-Length: {0}", "Expect: 100-continue"),
    posts("Content-Length: {0}", "Connection: Upgrade", "Upgrade: websocket"),
    posts("CONTENT-LENGTH: {0}"),
    posts("Content-Length:  {0}"),
    posts("Content-Length: {0} "),
    posts("Content-Length: 00000000000000{0}"),
    posts("Content-Length: {0}", f"X: {'x' * LONGEST}"),
    lambda body: chunks(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"),
    lambda body: b"\r\n" + chat(body=body),
    posts("Content-Length: {0}", line="GET /v1/models HTTP/1.1"),
]
REFUSED = [
    posts("Content-Length: {0}", "Content-Length: {0}"),
    posts("Content-Length: {0}", "content-length: 7"),
    posts("Content-Length: {0}, {0}"),
    posts("Content-Length: +{0}"),
    posts("Content-Length: {0}", "Transfer-Encoding: chunked"),
    posts("Content-Length: {0}\r\n 3"),
    posts("Content-Length: {0}", "Host: other"),
    posts("Content-Length: {0}", host=None),
    posts("Content-Length: {0}", "Expect: more"),
    posts("Content-Length: {0}", "Content-Length : 5"),
    posts("Content-Length: {0}\n"),
    posts("Content-Length: {0}\n\r"),
    posts("X: y\nContent-Length: {0}"),
    posts("Content-Length: {0}", "X: \0"),
    posts("Content-Length: {0}", line="POST /nowhere HTTP/1.1"),
    posts("Content-Length: {0}", line=f"POST {CHAT}#a HTTP/1.1"),
    posts("Content-Length: {0}", line=f"POST {CHAT}"),
    posts("Content-Length: {0}", line="POST /v1/models HTTP/1.1"),
    posts("Content-Length: {0}", line=f"OPTIONS {CHAT} HTTP/1.1"),
    posts("Content-Length: {0}", line="CONNECT a:1 HTTP/1.1"),
    lambda body: body,
]

bodies = st.one_of(
    st.integers(0, MAX_BODY + 2 - len(SMALL)).map(lambda blanks: SMALL + b" " * blanks),
    st.sampled_from([b"", b"{", chat(), b'{"model":"none"}', b"\r\n\r\n", chat(body=b"")]),
)
usual = st.builds(lambda framed, body: framed(body), st.sampled_from(REMEMBERED), bodies)
any_request = st.builds(lambda framed, body: framed(body), st.sampled_from(REMEMBERED + READ_ANEW + REFUSED), bodies)
places = st.lists(st.integers(0, 3000), max_size=8)
answers = st.lists(st.integers(0, 12), max_size=6)


def steps_of(requests: list[bytes], places: list[int], answers: list[int]) -> list[bytes | None]:
    """`requests` as one stream, cut at `places`; the backend answers behind the pieces named, and at the end."""
    data = b"".join(requests)
    marks = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    steps: list[bytes | None] = [data[start:end] for start, end in pairwise(marks)]
    for at in answers:
        steps.insert(min(at, len(steps)), None)
    return steps + [None] * len(requests)


def agree(talk: Talk, steps: list[bytes | None]) -> None:
    """The door that remembers and the one that forgets before each piece are one to a client and to a backend."""
    forgetful = talk.say(steps, forgetful=True)
    talk.forget()
    assert talk.say(steps) == forgetful  # what it learns on the way
    assert talk.say(steps) == forgetful  # and what it knows by then


@settings(deadline=None, max_examples=300)
@given(requests=st.lists(st.one_of(usual, any_request), min_size=1, max_size=5), places=places, answers=answers)
@example(requests=[chat(), chat(body=b""), chat(body=chat()), chat()], places=[], answers=[])
@example(requests=[chat(), posts("Content-Length: 9")(SMALL), chat()], places=[70, 80], answers=[0, 1])
def test_a_door_that_remembers_says_and_asks_what_one_does_that_forgets(
    talk: Talk, requests: list[bytes], places: list[int], answers: list[int]
) -> None:
    agree(talk, steps_of(requests, places, answers))


@settings(deadline=None, max_examples=200)
@given(
    requests=st.lists(usual, min_size=1, max_size=3),
    at=st.integers(0, 300),
    noise=st.sampled_from([b"", b"\n", b"\r", b"\r\n", b" ", b"0", b":", b"\r\n\r\n", b"\0", b"\xff"]),
    places=places,
)
def test_one_damaged_byte_is_never_taken_for_the_head_that_it_damages(
    talk: Talk, requests: list[bytes], at: int, noise: bytes, places: list[int]
) -> None:
    first, *others = requests
    at %= len(first)
    agree(talk, steps_of([first, first[:at] + noise + first[at + 1 :], *others], places, []))


@settings(deadline=None, max_examples=60)
@given(requests=st.lists(st.one_of(usual, any_request), min_size=1, max_size=3))
def test_a_client_that_leaves_anywhere_leaves_no_books_open(talk: Talk, requests: list[bytes]) -> None:
    agree(talk, [b"".join(requests)])
    agree(talk, [b"".join(requests)[:-1]])


@pytest.mark.parametrize("framed", REMEMBERED)
def test_a_usual_head_is_remembered_whatever_the_length(fresh: Talk, framed: Framed) -> None:
    for blanks in range(3):
        fresh.say([framed(SMALL + b" " * blanks), None])
    assert fresh.remembered == 1


@pytest.mark.parametrize("framed", READ_ANEW + REFUSED)
def test_an_unusual_or_refused_head_is_never_remembered(fresh: Talk, framed: Framed) -> None:
    for _ in range(2):
        fresh.say([framed(SMALL), None])
        assert fresh.remembered == 0


def test_only_the_first_head_of_a_piece_is_remembered_and_none_that_came_in_pieces(fresh: Talk) -> None:
    whole = chat() + chat("X: second")
    fresh.say([whole[:20], whole[20:], None, None])
    assert fresh.remembered == 0
    fresh.say([whole, None, None])
    assert fresh.remembered == 1


def test_a_key_that_is_wrong_is_not_remembered(fresh: Talk) -> None:
    with asyncio.Runner() as runner:
        router = Router([Backend("a", "http://a.invalid", models=("m",))], upstream=Patient(), api_keys=["right"])
        runner.run(router.start())
        hall, line = Hall(router.reception, State(), Tasks(router._log)), Line()

        async def say(*requests: bytes) -> None:
            door = FrontDoor(hall)
            door.connection_made(line)
            for request in requests:
                door.data_received(request)
            door.connection_lost(None)

        runner.run(say(chat("X-API-Key: wrong"), chat("X-API-Key: right"), chat("X-API-Key: wrong")))
        runner.run(router.stop())
    assert [line for line in line.said.split(b"\r\n") if line.startswith(b"HTTP/")] == [b"HTTP/1.1 401 Unauthorized"]
    assert [key for key in hall.heads._known if b"wrong" in b"".join(key)] == []


def test_the_length_of_the_next_body_is_its_own(fresh: Talk) -> None:
    short, long = b'{"model":"m"}', b'{"model":"m","user":"u"}'
    for _ in range(2):
        *_, asked, _ = fresh.say([chat(body=short) + chat(body=long) + chat(body=short), None, None, None])
        assert [body for _, _, body in asked] == [short, long, short]  # type: ignore[misc, attr-defined]


@pytest.mark.parametrize("outer", [*REMEMBERED, *READ_ANEW[:5]])
def test_a_body_that_looks_like_a_known_request_is_a_body(fresh: Talk, outer: Framed) -> None:
    inner = chat(body=b"")
    whole = outer(inner)
    fresh.say([inner])
    agree(fresh, [whole[: -len(inner)], inner, chat(), None])  # outer's head is not known at first, and then it is
    *_, asked, _ = fresh.say([inner, whole[: -len(inner)], inner])
    assert asked == []


async def test_memory_is_bounded_in_heads_and_in_bytes_of_each() -> None:
    known: KnownHeads[bytes, int] = KnownHeads()
    for number in range(3 * MOST + 1):
        known.keep(b"%d" % number, number)
        assert len(known._known) <= MOST
    assert known.get(b"%d" % number) == number
    assert repr(known) == "<KnownHeads 1>"
    assert cut(b"POST / HTTP/1.1\r\nContent-Length: 1\r\nX: " + b"x" * LONGEST + b"\r\n\r\n") is None


def test_many_different_heads_do_not_fill_the_doors_memory(fresh: Talk) -> None:
    fresh.say([chat(f"X-Request-Id: {number}", body=b"{") for number in range(MOST + 10)])
    assert fresh.remembered == 10


@pytest.mark.parametrize(
    ("data", "key", "length", "behind"),
    [
        (b"A\r\nContent-Length: 12\r\nB\r\n\r\nbody", (b"A\r\nContent-Length: ", b"\r\nB\r\n\r\n"), 12, b"body"),
        (b"A\r\ncontent-length:007\r\n\r\n", (b"A\r\ncontent-length:", b"\r\n\r\n"), 7, b""),
        (
            b"A\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            (b"A\r\nContent-Length: ", b"\r\nContent-Length: 2\r\n\r\n"),
            1,
            b"",
        ),
    ],
)
def test_the_key_is_all_of_the_head_but_the_digits_of_its_first_length(
    data: bytes, key: Key, length: int, behind: bytes
) -> None:
    seen = cut(data)
    assert seen is not None
    assert (seen[0], seen[1], data[seen[2] :]) == (key, length, behind)


@pytest.mark.parametrize(
    "data",
    [
        b"A\r\nContent-Length: 12\r\n",
        b"A\r\nB: Content-Length: 12\r\n\r\n",
        b"A\r\nX-Content-Length: 12\r\n\r\n",
        b"A\r\nContent-Length: 12 \r\n\r\n",
        b"A\r\nContent-Length: 1\n\r\n\r\n",
        b"A\r\nContent-Length: -1\r\n\r\n",
        b"A\r\nContent-Length: 1000000000000000\r\n\r\n",
        b"A\r\n\r\nContent-Length: 12\r\n\r\n",
    ],
)
def test_a_head_without_a_plain_length_has_no_key(data: bytes) -> None:
    assert cut(data) is None


pieces_of_heads = st.lists(
    st.sampled_from(
        [
            b"A",
            b"\r\n",
            b"\r\nContent-Length: ",
            b"\r\ncontent-length:",
            b"12",
            b"7",
            b" ",
            b"\r\n\r\n",
            b"1234567890123456",
        ]
    ),
    max_size=8,
).map(b"".join)


@settings(deadline=None, max_examples=500)
@given(first=pieces_of_heads, second=pieces_of_heads)
@example(b"A\r\nContent-Length: 12\r\n\r\n", b"A\r\nContent-Length: 7\r\n\r\nAA")
@example(b"A\r\nContent-Length: 12\r\n\r\n", b"A\r\nContent-Length: 1234567890123456\r\n\r\n")
@example(b"A\r\nContent-Length: 12\r\n\r\n", b"A\r\nContent-Length: \r\n\r\n")
@example(b"A\r\nContent-Length: 12\r\n\r\n", b"A\r\nContent-Length: 12")
@example(b"A\r\nContent-Length: 12\r\n\r\n", b"A\r\nContent-Length: ")
def test_what_was_said_last_is_found_where_the_search_would_find_it(first: bytes, second: bytes) -> None:
    known: KnownHeads[Key, tuple[Key, str]] = KnownHeads()
    if (seen := cut(first)) is not None:
        Heads(known).keep(seen[0], "first")
    heads = Heads(known)
    assert (heads.find(first) is None) == (seen is None)
    assert heads.find(second) == Heads(known).find(second)


class Clock:
    """The door's clocks, moved by hand."""

    def __init__(self, talk: Talk) -> None:
        self.hall = talk.hall
        self.door, self.line = FrontDoor(talk.hall), Line()
        self.door.connection_made(self.line)

    def wait(self, seconds: float) -> None:
        self.hall.outbox.end_turn()
        self.hall.now += seconds
        self.door.tick(self.hall.now)


def test_a_body_behind_a_known_head_that_does_not_come_is_a_408(fresh: Talk) -> None:
    async def stall() -> bytes:
        clock = Clock(fresh)
        clock.door.data_received(chat(body=b"{"))
        clock.door.data_received(chat()[:-1])
        clock.wait(BODY_SECONDS - 1.0)
        before = clock.line.said
        assert b" 408 " not in before
        clock.wait(2.0)
        clock.door.data_received(b"}")  # too late: it is deaf
        clock.door.connection_lost(None)
        return clock.line.said[len(before) :]

    said = fresh.runner.run(stall())
    assert fresh.remembered == 1
    assert said.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close\r\n" in said
    assert fresh.router.reception.relay.buffered == 0


def test_a_known_head_is_too_much_where_its_length_is(fresh: Talk) -> None:
    fresh.say([chat(), None])
    said, *_ = fresh.say([chat(body=SMALL + b" " * MAX_BODY), chat(), None])
    assert isinstance(said, bytes)
    assert [said.count(b"HTTP/1.1 %d " % status) for status in (413, 200)] == [1, 1]


async def stopped(talk: Talk, before: bytes, after: bytes) -> tuple[bytes, bool]:
    """What is said, and whether it is closed, when the server stops between two pieces behind a head that is known."""
    door, line = FrontDoor(talk.hall), Line()
    door.connection_made(line)
    door.data_received(chat(body=b"{"))
    talk.hall.outbox.end_turn()
    said = len(line.said)
    door.data_received(before)
    door.shutdown()
    if after:
        door.data_received(after)
    talk.upstream.answer()
    closed = line.over
    door.connection_lost(None)
    assert not talk.upstream.waiting
    return line.said[said:], closed


@pytest.mark.parametrize(("whole", "status"), [(chat(), 200), (chat(body=b"{" + b" " * 9), 400)])
@pytest.mark.parametrize("at", [-1, -5])
def test_who_stops_answers_what_has_begun_and_nothing_behind_it(
    fresh: Talk, whole: bytes, status: int, at: int
) -> None:
    said, closed = fresh.runner.run(stopped(fresh, whole[:at], whole[at:] + chat()))
    assert said.startswith(b"HTTP/1.1 %d " % status)
    assert said.count(b"HTTP/1.1 ") == 1
    assert b"connection: close\r\n" in said
    assert closed
