"""However requests come, and in whatever pieces: with the shorter way all is as with uvicorn's protocol alone."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from test_shortcut import HEAD, Line, connected, piece, post, settle, start
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

OTHER = b"POST /other HTTP/1.1\r\nhost: a\r\nContent-Length:"
LAST = b"POST /last HTTP/1.1\r\nconnection: close\r\ncontent-length: "

bodies = st.sampled_from([b"", b"a", b"POST / HTTP/1.1\r\n\r\n", b"x" * 300])
plain = st.builds(post, bodies, st.sampled_from([HEAD, OTHER]))
unusual = st.sampled_from(
    [
        b"GET /page HTTP/1.1\r\n\r\n",
        b"\r\n" + post(b"after an empty line"),
        b"POST /chunks HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"POST /expects HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\nab",
        post(b"again", HEAD.replace(b"Host: a", b"Host:  a")),
    ]
)
lasts = st.sampled_from([b"", post(b"bye", LAST), b"POST / HTTP/1.0\r\ncontent-length: 1\r\n\r\nx"])


class Echo:
    """Answers with what it was asked, at times without a length."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        self.asked.append((scope, body))
        said = b"%d: %b" % (len(self.asked), body)
        length = [(b"content-length", b"%d" % len(said))] if len(body) != 1 else []
        await send(start(*length))
        await send(piece(said))


async def told(door: Any, pieces: list[tuple[bytes, bool]]) -> tuple[Any, bytes, bool]:
    """What the application was asked, what the client got, and whether its connection was closed."""
    app = Echo()
    protocol, line = connected(app, door=door)
    for data, rests in pieces:
        protocol.data_received(data)
        if rests:
            await settle()
    await settle_long(line)
    return app.asked, line.written, line.over


async def settle_long(line: Line) -> None:
    before = None
    while before != line.written:
        before = line.written
        await settle()


@settings(deadline=None, max_examples=150)
@given(
    requests=st.lists(plain | plain | unusual, max_size=6),
    last=lasts,
    cuts=st.lists(st.tuples(st.integers(0, 2000), st.booleans()), max_size=6),
)
def test_whoever_is_at_either_end_cannot_tell(requests: list[bytes], last: bytes, cuts: list[tuple[int, bool]]) -> None:
    data = b"".join(requests) + last
    ends = sorted((at, rests) for at, rests in cuts if at < len(data))
    pieces = [(post(b"first", head), True) for head in (HEAD, OTHER)]  # these are known from then on
    begun = 0
    for at, rests in [*ends, (len(data), True)]:
        if data[begun:at]:
            pieces.append((data[begun:at], rests))
        begun = at
    assert asyncio.run(told(None, pieces)) == asyncio.run(told(HttpToolsProtocol, pieces))


def test_a_connection_whose_requests_come_one_by_one_takes_the_shorter_way() -> None:
    async def ways() -> list[bool]:
        protocol, _ = connected(Echo())
        taken = []
        for body in (b"one", b"two", b"three"):
            protocol.data_received(post(body))
            taken.append(protocol._passage is not None)
            await settle()
        return taken

    assert asyncio.run(ways()) == [False, True, True]
