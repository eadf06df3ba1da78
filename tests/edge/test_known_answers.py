"""An answer's head that was read before means what it meant then: with memory and without, a sink hears the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_upstream import BODY, Pool, Wire

from solar.core.backend import Backend
from solar.core.headers import AnswerHeaders, Headers
from solar.edge.connection import Connection, key_of
from solar.edge.heads import LONGEST, MOST
from solar.edge.transport import Failure, UpstreamRequest
from solar.edge.upstream import HttpCall

Framed = Callable[[bytes], bytes]  # a body, and the answer around it


class Answer(NamedTuple):
    """One answer as it comes up a connection."""

    data: bytes
    cuts: list[int]
    abort: bool  # its sink gives up at the head


class Noted:
    """What a sink was told, in order."""

    def __init__(self, *, abort: bool) -> None:
        self.told: list[tuple[object, ...]] = []
        self.call: HttpCall | None = None
        self._abort = abort

    def head(self, status: int, headers: Headers, length: int | None) -> None:
        assert isinstance(headers, AnswerHeaders)
        self.told.append((status, [*headers], headers.passed.wire, headers.event_stream, length))
        if self._abort and self.call is not None:
            self.call.abort()

    def chunk(self, data: bytes) -> None:
        self.told.append((data,))

    def end(self) -> None:
        self.told.append(("end",))

    def failed(self, failure: Failure) -> None:
        self.told.append(failure)


def heard(made: Pool, answers: list[Answer], *, forgetful: bool = False) -> list[tuple[object, ...]]:
    """Let a backend answer so many requests, on one connection while it is kept. All that is seen of it."""
    return asyncio.run(_heard(made, answers, forgetful))


async def _heard(made: Pool, answers: list[Answer], forgetful: bool) -> list[tuple[object, ...]]:
    seen: list[tuple[object, ...]] = []
    upstream = made.upstream
    request = UpstreamRequest(Backend("a", "http://h"), b"POST", b"/v1/x", [], BODY, None)
    connection: Connection | None = None
    for answer in answers:
        if connection is None:
            connection = Connection(upstream, key_of(request.backend))
            connection.connection_made(Wire())
            upstream.keep(connection)
        noted = Noted(abort=answer.abort)
        noted.call = upstream.send(request, noted)
        marks = sorted({0, len(answer.data), *(cut % (len(answer.data) + 1) for cut in answer.cuts)})
        for start, end in pairwise(marks):
            if forgetful:
                forget(made)
                connection._heads._last = None
            if not connection.transport.is_closing():
                connection.data_received(answer.data[start:end])
        kept = connection in upstream._idle.get(connection.key, ()) and not connection.transport.is_closing()
        if not kept:
            connection.eof_received()
            connection.connection_lost(None)
            connection = None
        assert forgetful or noted.told or noted.call.sink is None
        seen.append((*noted.told, kept))
    if connection is not None:
        connection.connection_lost(None)
    assert upstream.connections == 0
    return seen


def forget(made: Pool) -> None:
    made.upstream.heads._known.clear()


def says(status: str, *fields: str, version: str = "1.1") -> Framed:
    """An answer whose `fields` hold the length of its body as {0}."""

    def framed(body: bytes) -> bytes:
        lines = [f"HTTP/{version} {status}", *(field.format(len(body)) for field in fields), "", ""]
        return "\r\n".join(lines).encode("latin-1") + body

    return framed


def chunked(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + (
        b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
    )


REMEMBERED = [
    says("200 OK", "Content-Length: {0}", "Content-Type: application/json"),
    says("200 OK", "content-length:{0}", "Content-Type: text/event-stream", "Cache-Control: public"),
    says("200 OK", "Content-Length: 00{0}", "X-Empty:", "Set-Cookie: a=1", "Set-Cookie: b=2"),
    says("503 Service Unavailable", "Retry-After: 1", "Content-Length: {0}"),
    says("200 OK", "Content-Length: {0}", "Connection: close"),
    says("200 OK", "Connection: X-Hop", "X-Hop: 1", "Content-Length: {0}"),
    says("200 OK", "Content-Length: {0}", version="1.0"),
    says("200 OK", "Content-Length: {0}", "Connection: keep-alive", version="1.0"),
    says("200", "X: Content-Length: 4", "Content-Length: {0}", "Content-Encoding: gzip"),
]
READ_ANEW = [
    says("200 OK"),
    says("204 No Content", "Content-Length: {0}"),
    says("304 Not Modified", "Content-Length: {0}"),
    says("200 OK", "CONTENT-LENGTH: {0}"),
    says("200 OK", "Content-Length: {0} "),
    says("200 OK", "Content-Length: {0}", f"X: {'x' * LONGEST}"),
    chunked,
    lambda body: b"HTTP/1.1 100 Continue\r\nContent-Length: 1\r\n\r\n" + REMEMBERED[0](body),
    lambda body: b"HTTP/1.1 103 Early\r\n\r\n" * 3 + REMEMBERED[0](body),
    lambda body: b"HTTP/1.1 103 Early\r\nContent-Length: 1\r\n\r\n" * 17 + REMEMBERED[0](body),
]
UNREADABLE = [
    says("200 OK", "Content-Length: {0}", "Content-Length: {0}"),
    says("200 OK", "Content-Length: {0}", "content-length: 7"),
    says("200 OK", "Content-Length: {0}", "Transfer-Encoding: chunked"),
    says("200 OK", "Content-Length: {0}", "Transfer-Encoding: gzip"),
    says("200 OK", "Content-Length: {0}\r\n 3"),
    says("200 OK", "Content-Length: {0}\n"),
    says("200 OK", "Content-Length: -{0}"),
    says("101 Switching", "Content-Length: {0}", "Upgrade: x", "Connection: upgrade"),
    says("99 Low", "Content-Length: {0}"),
    says("200 OK", "Content-Length: {0}", version="2.0"),
    lambda body: b"HTTP/1.1 200 OK\nContent-Length: 1\n\n" + body,
    lambda body: b"nonsense" + body,
]

bodies = st.one_of(st.binary(max_size=30), st.sampled_from([b"", b"\r\n\r\n", b"0\r\n\r\n", REMEMBERED[0](b"inside")]))
datas = st.one_of(
    st.builds(lambda framed, body: framed(body), st.sampled_from(REMEMBERED), bodies),
    st.builds(lambda framed, body: framed(body), st.sampled_from(REMEMBERED + READ_ANEW + UNREADABLE), bodies),
    st.builds(lambda framed, body, behind: framed(body) + behind, st.sampled_from(REMEMBERED), bodies, bodies),
    st.builds(lambda framed, body, size: framed(body)[:size], st.sampled_from(REMEMBERED), bodies, st.integers(1, 120)),
)
answers = st.builds(Answer, datas, st.lists(st.integers(0, 3000), max_size=4), st.booleans())


THEN_MORE = REMEMBERED[0](b"one") + b"more"


def plain(data: bytes, *cuts: int) -> Answer:
    return Answer(data, [*cuts], abort=False)


@settings(deadline=None, max_examples=300)
@given(answers=st.lists(answers, min_size=1, max_size=6))
@example(answers=[plain(REMEMBERED[0](body)) for body in (b"one", b"", b"three", b"")])
@example(answers=[plain(REMEMBERED[0](b"one")), plain(REMEMBERED[0](b"") + b"more"), plain(REMEMBERED[0](b"two"))])
@example(answers=[plain(THEN_MORE, len(THEN_MORE) - 4), plain(REMEMBERED[0](b"two"))])
def test_a_pool_that_remembers_hears_what_one_does_that_forgets(answers: list[Answer]) -> None:
    made = Pool()
    forgetful = heard(made, answers, forgetful=True)
    forget(made)
    assert heard(made, answers) == forgetful  # what it learns on the way
    assert heard(made, answers) == forgetful  # and what it knows by then


@pytest.mark.parametrize("framed", REMEMBERED)
def test_a_usual_head_is_remembered_whatever_the_length(framed: Framed) -> None:
    made = Pool()
    bodies = (b"one", b"", b"three", b"four")
    told = heard(made, [plain(framed(body)) for body in bodies])
    assert len(made.upstream.heads._known) == 1
    assert [b"".join(piece[0] for piece in one if len(piece) == 1 and piece != ("end",)) for *one, _ in told] == [
        *bodies
    ]
    assert [one[0][-1] for one in told] == [len(body) for body in bodies]  # type: ignore[index]


@pytest.mark.parametrize("framed", READ_ANEW[:7] + UNREADABLE)
def test_an_unusual_or_unreadable_head_is_never_remembered(framed: Framed) -> None:
    made = Pool()
    heard(made, [plain(framed(b"body"))] * 2)
    assert made.upstream.heads._known == {}


@pytest.mark.parametrize("framed", READ_ANEW[7:])
def test_what_comes_behind_an_informational_answer_is_not_remembered_with_it(framed: Framed) -> None:
    made = Pool()
    heard(made, [plain(framed(b"body"))] * 2)
    assert made.upstream.heads._known == {}


def test_a_length_of_zero_with_bytes_behind_it_ends_the_connection() -> None:
    framed = REMEMBERED[0]
    told = heard(Pool(), [plain(framed(b"body")), plain(framed(b"") + b"x"), plain(framed(b"body"))])
    assert [kept for *_, kept in told] == [True, False, True]


def test_a_known_head_that_says_close_closes() -> None:
    told = heard(Pool(), [plain(REMEMBERED[4](b"body"))] * 3)
    assert [kept for *_, kept in told] == [False, False, False]


def test_an_answer_that_ends_inside_its_length_is_broken() -> None:
    made = Pool()
    whole = REMEMBERED[0](b"body")
    told = heard(made, [plain(whole), plain(whole[:-1]), plain(whole, 3, 60)])
    assert isinstance(told[1][-2], Failure)
    assert [kept for *_, kept in told] == [True, False, True]


def test_engines_that_stamp_each_head_do_not_fill_the_memory() -> None:
    made = Pool()
    heard(made, [plain(says("200 OK", f"X-Request-Id: {n}", "Content-Length: {0}")(b"")) for n in range(MOST + 9)])
    assert len(made.upstream.heads._known) == 9
