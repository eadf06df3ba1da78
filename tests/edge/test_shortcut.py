"""The shorter way through an ASGI application: whoever is at either end cannot tell it from uvicorn's own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvicorn
from garbage import left_to_the_collector
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from solar.control.door import asgi_door
from solar.edge.shortcut import BEHIND, Shortcut, fits, fits_cycle

Answers = Callable[[Any, Any], Awaitable[None]]

HEAD = b"POST /v1/a%20b?x=1 HTTP/1.1\r\nHost: a\r\nX-Twice: 1\r\nX-Twice: 2\r\ncontent-length: "


def post(body: bytes, head: bytes = HEAD) -> bytes:
    return head + b"%d\r\n\r\n" % len(body) + body


class Line:
    """A transport that keeps what it was told."""

    def __init__(self) -> None:
        self.written = b""
        self.over = self.paused = False
        self.protocol: Any = None

    def write(self, data: bytes) -> None:
        self.written += data

    def writelines(self, parts: tuple[bytes, ...]) -> None:
        self.written += b"".join(parts)

    def is_closing(self) -> bool:
        return self.over

    def close(self) -> None:
        self.over = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def get_protocol(self) -> Any:
        return self.protocol

    def get_extra_info(self, name: str) -> Any:
        return {"peername": ("10.0.0.1", 5), "sockname": ("10.0.0.2", 80)}.get(name)

    def take(self) -> bytes:
        written, self.written = self.written, b""
        return written


class Application:
    """Answers as `answer` says; keeps what it was asked."""

    def __init__(self, answer: Answers) -> None:
        self.asked: list[tuple[dict[str, Any], bytes]] = []
        self.ended = 0
        self._answer = answer

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        while message.get("more_body"):
            more = await receive()
            message = {**more, "body": message["body"] + more["body"]}
        self.asked.append((scope, message["body"]))
        try:
            await self._answer(receive, send)
        finally:
            self.ended += 1


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  there is no event to wait for
            await asyncio.sleep(0)


async def settle() -> None:
    """Let the loop turn until nothing is left to do."""
    for _ in range(10):
        await asyncio.sleep(0)


def connected(app: Any, *, door: Any = None, **settings: Any) -> tuple[Any, Line]:
    config = uvicorn.Config(app, log_config=None, access_log=False, interface="asgi3", **settings)
    config.load()
    state = ServerState()
    state.default_headers = [(b"date", b"today")]
    protocol = (door or asgi_door())(config, state, {"kept": 1})
    line = Line()
    line.protocol = protocol
    protocol.connection_made(line)
    return protocol, line


async def knowing(app: Application, **settings: Any) -> tuple[Any, Line]:
    """A connection on which the next `post` takes the shorter way."""
    protocol, line = connected(app, **settings)
    protocol.data_received(post(b"first"))
    await until(lambda: app.ended)
    await settle()
    line.take()
    assert not line.over
    return protocol, line


def start(*headers: tuple[bytes, bytes], status: int = 200) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": headers}


def piece(data: bytes | bytearray, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


def says(*messages: dict[str, Any]) -> Answers:
    async def answer(receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    return answer


async def hello(receive: Any, send: Any) -> None:
    await says(start((b"content-length", b"5")), piece(b"hello"))(receive, send)


async def fail(receive: Any, send: Any) -> None:
    raise OSError("the test says so")


LENGTH = (b"content-length", b"5")
SHORT = [
    hello,
    says(start((b"x-a", b"b")), piece(b"hel", more=True), piece(b"lo")),
    says(start(), piece(b"", more=True), piece(b"")),
    says(start(), piece(b"x" * 100_000, more=True), piece(b"y" * 20_000)),
    says(start((b"content-length", b"120000")), piece(b"x" * 100_000, more=True), piece(b"y" * 20_000)),
    says(start(status=204), piece(b"")),
    says(start((b"x-latin", b"\xe4\t,")), piece(bytearray(b"hello"))),
    says(start((b"connection", b"close"), LENGTH, status=404), piece(b"hello")),
]


@pytest.mark.parametrize("answer", SHORT)
async def test_an_answer_has_the_bytes_that_uvicorn_writes(answer: Answers) -> None:
    got = []
    for door in (asgi_door(), HttpToolsProtocol):
        app = Application(hello)
        protocol, line = connected(app, door=door)
        protocol.data_received(post(b"first"))
        await until(lambda app=app: app.ended == 1)
        await settle()
        line.take()
        app._answer = answer
        protocol.data_received(post(b"again"))
        await until(lambda app=app: app.ended == 2)
        await settle()
        head, _, body = line.take().partition(b"\r\n\r\n")
        got.append((sorted(head.split(b"\r\n")), body, line.over))
    assert got[0] == got[1]


BROKEN = [
    says(start(LENGTH), piece(b"hell")),
    says(start(LENGTH), piece(b"hello!")),
    says(start(), piece(b"hello", more=True)),
    says(start(), start()),
    says(piece(b"hello")),
    says(start((b"x", b"a\r\nb: c"))),
    says(start((b"x", b"a\x00b"))),
    says(start((b"x y", b"a"))),
    fail,
]


@pytest.mark.parametrize("answer", BROKEN)
async def test_an_answer_that_the_application_does_not_finish_ends_its_connection(answer: Answers) -> None:
    app = Application(hello)
    protocol, line = await knowing(app)
    app._answer = answer
    protocol.data_received(post(b"again"))
    await until(lambda: app.ended == 2)
    await settle()
    assert line.over
    assert not line.written.endswith((b"hello", b"hello!", b"0\r\n\r\n"))
    assert not line.written or line.written.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 500 "))
    assert protocol.tasks == protocol._plain.connections - {protocol} == set()


async def test_the_application_is_asked_as_uvicorn_asks_it() -> None:
    app = Application(hello)
    protocol, _ = await knowing(app)
    protocol.data_received(post(b"other length"))
    await until(lambda: app.ended == 2)
    (long, _), (short, body) = app.asked
    assert body == b"other length"
    assert dict(short["headers"])[b"content-length"] == b"12"
    for scope in (long, short):
        scope["headers"] = [header for header in scope["headers"] if header[0] != b"content-length"]
    assert long == short
    assert long["state"] is not short["state"]
    assert protocol._ours


NOT_KEPT = [
    b"GET / HTTP/1.1\r\ncontent-length: ",
    b"POST / HTTP/1.0\r\ncontent-length: ",
    b"POST / HTTP/1.1\r\nconnection: close\r\ncontent-length: ",
    b"POST / HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: ",
    b"POST / HTTP/1.1\r\nupgrade: h2c\r\nconnection: upgrade\r\ncontent-length: ",
]


@pytest.mark.parametrize("head", NOT_KEPT)
async def test_only_what_is_plain_takes_the_shorter_way(head: bytes) -> None:
    app = Application(hello)
    protocol, _ = connected(app)
    protocol.data_received(post(b"body", head))
    await until(lambda: app.ended == 1)
    assert not protocol.shared.heads._known


async def test_a_refused_head_is_not_remembered() -> None:
    protocol, line = connected(Application(hello))
    protocol.data_received(post(b"body", b"POST / HTTP/1.1\r\nbad name: 1\r\ncontent-length: "))
    assert line.written.startswith(b"HTTP/1.1 400 ")
    assert not protocol.shared.heads._known


async def test_what_is_no_request_means_nothing_that_was_asked_before() -> None:
    protocol, line = await knowing(Application(hello))
    protocol.data_received(b"\x01" + post(b"again"))
    assert line.written.startswith(b"HTTP/1.1 400 ")
    assert len(protocol.shared.heads._known) == 1


async def test_a_head_does_not_mean_what_came_behind_its_request() -> None:
    app = Application(hello)
    protocol, _ = connected(app)
    protocol.data_received(post(b"one") + post(b"two", b"POST /other HTTP/1.1\r\nHost: a\r\ncontent-length: "))
    await until(lambda: app.ended == 2)
    await settle()
    protocol.data_received(post(b"three"))
    await until(lambda: app.ended == 3)
    assert [scope["path"] for scope, _ in app.asked] == ["/v1/a b", "/other", "/v1/a b"]


async def test_the_rest_of_a_head_is_no_request_whatever_it_looks_like() -> None:
    app = Application(hello)
    protocol, _ = await knowing(app)
    protocol.data_received(b"POST /x HTTP/1.1\r\nX-Rest: ")
    protocol.data_received(post(b"a known request"))
    await until(lambda: app.ended == 2)
    assert app.asked[1][0]["path"] == "/x"


async def test_the_rest_of_a_body_that_nobody_read_is_no_request_whatever_it_looks_like() -> None:
    asked: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        asked.append(scope["path"])
        await hello(receive, send)

    protocol, line = connected(app)
    protocol.data_received(post(b"first"))
    await settle()
    inner = post(b"a known request")
    protocol.data_received(b"POST /x HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % len(inner))
    await settle()
    assert line.written.count(b"HTTP/1.1 200 OK") == 2
    protocol.data_received(inner)
    await settle()
    assert asked == ["/v1/a b", "/x"]


@pytest.mark.parametrize("size", [1, 7, 90])
async def test_a_request_in_pieces_is_answered_like_a_whole_one(size: int) -> None:
    app = Application(hello)
    protocol, line = await knowing(app)
    data = post(b"in pieces") + post(b"whole")
    for at in range(0, len(data), size):
        protocol.data_received(data[at : at + size])
    await until(lambda: app.ended == 3)
    await settle()
    assert [body for _, body in app.asked] == [b"first", b"in pieces", b"whole"]
    assert line.written.count(b"HTTP/1.1 200 OK") == 2


async def test_requests_that_come_together_are_answered_in_order() -> None:
    app = Application(hello)
    protocol, line = await knowing(app)
    protocol.data_received(post(b"one") + post(b"two") + b"GET / HTTP/1.1\r\n\r\n" + post(b"three"))
    await until(lambda: app.ended == 5)
    await settle()
    assert [body for _, body in app.asked[1:]] == [b"one", b"two", b"", b"three"]
    assert line.written.count(b"HTTP/1.1 200 OK") == 4


def waits(begun: asyncio.Event) -> Answers:
    """Answers once it is told that its client has left, or not at all."""

    async def answer(receive: Any, send: Any) -> None:
        begun.set()
        assert (await receive()) == {"type": "http.disconnect"}

    return answer


async def test_the_application_hears_that_its_client_has_left() -> None:
    app = Application(hello)
    protocol, line = await knowing(app)
    app._answer = waits(begun := asyncio.Event())
    protocol.data_received(post(b"again"))
    await begun.wait()
    assert app.ended == 1
    protocol.connection_lost(None)
    await until(lambda: app.ended == 2)
    assert protocol.tasks == protocol._plain.connections == set()
    assert line.written == b""


async def test_a_request_that_is_over_is_out_of_memory_at_once() -> None:
    app = Application(hello)
    protocol, _ = await knowing(app)
    with left_to_the_collector() as left:
        protocol.data_received(post(b"again"))
        await until(lambda: app.ended == 2)
        await settle()
    assert left.isdisjoint({"Passage", "Task", "_asyncio.Task"})


async def test_too_much_that_comes_during_an_answer_is_left_in_the_kernel() -> None:
    app = Application(hello)
    protocol, line = await knowing(app)
    go_on = asyncio.Event()

    async def answer(receive: Any, send: Any) -> None:
        await go_on.wait()
        await hello(receive, send)

    app._answer = answer
    protocol.data_received(post(b"again"))
    protocol.data_received(post(b"x" * BEHIND))
    assert line.paused
    go_on.set()
    await until(lambda: app.ended == 3)
    assert not line.paused
    assert app.asked[-1][1] == b"x" * BEHIND


@pytest.mark.parametrize("leaves", [False, True])
async def test_who_writes_to_a_slow_client_waits_for_it(leaves: bool) -> None:
    app = Application(hello)
    protocol, line = await knowing(app)
    app._answer = says(start(), piece(b"one", more=True), piece(b"two"))
    protocol.data_received(post(b"again"))
    protocol.pause_writing()
    await settle()
    assert (app.ended, line.written) == (1, b"")
    if leaves:
        protocol.connection_lost(None)
    else:
        protocol.resume_writing()
    await until(lambda: app.ended == 2)
    await settle()
    assert (b"two" in line.written) is not leaves


@pytest.mark.parametrize("requests", [1, 2])
async def test_an_idle_connection_is_closed(requests: int) -> None:
    app = Application(hello)
    protocol, line = await knowing(app, timeout_keep_alive=0.02)
    for number in range(1, requests):
        protocol.data_received(post(b"again"))
        await until(lambda n=number: app.ended == n + 1)
        await settle()
    await until(lambda: line.over)
    assert app.ended == requests


async def test_a_connection_whose_answer_takes_its_time_is_not_idle() -> None:
    app = Application(hello)
    protocol, line = await knowing(app, timeout_keep_alive=0.01)
    protocol.data_received(post(b"again"))
    await until(lambda: app.ended == 2)
    app._answer = waits(begun := asyncio.Event())
    protocol.data_received(post(b"again"))
    await begun.wait()
    await until(lambda: protocol._timer is None)  # it has looked
    assert not line.over
    protocol.connection_lost(None)


async def test_a_server_that_stops_lets_an_answer_end() -> None:
    app = Application(hello)
    protocol, line = await knowing(app)
    protocol.data_received(post(b"again"))
    protocol.shutdown()
    assert not line.over
    await until(lambda: line.over)
    assert b"connection: close\r\n" in line.written
    assert line.written.endswith(b"hello")


async def test_a_server_that_stops_closes_what_is_idle() -> None:
    protocol, line = await knowing(Application(hello))
    protocol.shutdown()
    assert line.over


async def test_a_server_that_has_no_more_patience_cuts_the_answer() -> None:
    app = Application(hello)
    protocol, line = await knowing(app)
    app._answer = waits(begun := asyncio.Event())
    protocol.data_received(post(b"again"))
    await begun.wait()
    (task,) = protocol.tasks
    task.cancel()
    await until(task.done)
    assert line.over
    assert not protocol.tasks


async def test_what_was_written_leaves_before_the_connection_ends() -> None:
    protocol, line = connected(Application(hello))
    protocol.shared.outbox.write(line, b"the last words")
    assert not line.written
    protocol.eof_received()
    assert line.written == b"the last words"


async def test_a_connection_that_was_handed_on_is_not_ours_to_close() -> None:
    protocol, line = connected(Application(hello))
    connections = protocol._plain.connections
    assert connections == {protocol}
    line.protocol = "a WebSocket's"  # uvicorn gives it one while it reads
    protocol.data_received(b"GET / HTTP/1.1\r\n\r\n")
    assert not connections


async def test_uvicorn_is_alone_where_it_does_not_fit() -> None:
    plain, _ = connected(Application(hello), door=HttpToolsProtocol)
    assert fits(plain)
    del plain.pipeline
    assert not fits(plain)
    assert not fits(object())


async def test_uvicorn_is_alone_where_only_it_can_do_what_is_asked() -> None:
    for setting in ({"limit_concurrency": 1}, {"reset_contextvars": True}):
        protocol, _ = connected(Application(hello), **setting)
        assert isinstance(protocol, HttpToolsProtocol)
    protocol, _ = connected(Application(hello))
    assert isinstance(protocol, Shortcut)


async def test_requests_of_a_uvicorn_that_does_not_fit_take_the_long_way() -> None:
    app = Application(hello)
    protocol, _ = connected(app)
    protocol.data_received(post(b"first"))
    assert fits_cycle(protocol._plain.cycle)
    await until(lambda: app.ended)
    await settle()
    del protocol._plain.cycle.waiting_for_100_continue
    assert not fits_cycle(protocol._plain.cycle)
    protocol.data_received(post(b"again"))
    assert not protocol._ours
    await until(lambda: app.ended == 2)


async def test_two_lengths_in_one_answer_are_none() -> None:
    app = Application(hello)
    protocol, line = await knowing(app)
    app._answer = says(start((b"content-length", b"5"), (b"content-length", b"2")), piece(b"hi"))
    protocol.data_received(post(b"second"))
    await settle()
    assert line.over


async def test_behind_a_connection_that_closes_no_request_begins() -> None:
    app = Application(hello)
    protocol, line = await knowing(app)
    protocol.data_received(post(b"second") + post(b"third"))
    line.over = True
    await settle()
    assert [body for _, body in app.asked] == [b"first", b"second"]
