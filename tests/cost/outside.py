"""What is outside of a gateway: a client and two backends, which move only while the gateway has nothing to do.

They live in the gateway's own thread, as a generator that its event loop asks on before it would wait. So there is one
order in which things happen, however fast or busy the machine is.
"""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn

PATIENCE = 10.0  # seconds; only a gateway that hangs needs them
KEY = "sk-counted"
MODEL = "counted"

Moves = Iterator[int]  # each is the number of bytes that were sent to the gateway just now


class Stuck(Exception):
    """The gateway did not do what was waited for."""


@dataclass(frozen=True)
class Work:
    """One kind of request, which is repeated."""

    name: str
    request: bytes
    answer: tuple[bytes, ...]  # as the backend sends it, piece by piece
    ends: bytes  # the last bytes of the answer, as the client gets it
    rounds: int
    by_piece: bool = False  # count for each piece of the answer, not for each request


def _request(size: int, **more: object) -> bytes:
    asked = {"messages": [{"role": "user", "content": ""}], **more, "model": MODEL}
    asked["messages"][0]["content"] = "x" * (size - len(json.dumps(asked)))  # type: ignore[index]
    body = json.dumps(asked).encode()
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nAccept: application/json\r\n"
        b"Content-Type: application/json\r\nUser-Agent: counted/1\r\nAuthorization: Bearer %b\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (KEY.encode(), len(body), body)
    )


def _answer(body: bytes, status: bytes = b"200 OK") -> bytes:
    head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % (status, len(body)) + body


def _stream(events: int) -> tuple[bytes, ...]:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    choice = {"index": 0, "delta": {"content": "ten words "}, "logprobs": None, "finish_reason": None}
    event = {"id": "1", "object": "chat.completion.chunk", "created": 1700000000, "model": MODEL, "choices": [choice]}
    one = _chunk(b"data: %b\n\n" % json.dumps(event).encode())
    last = {**event, "choices": [{**choice, "delta": {}, "finish_reason": "stop"}]}
    return (
        head + one,
        *[one] * (events - 2),
        _chunk(b"data: %b\n\n" % json.dumps(last).encode()),
        _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n",
    )


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


_COMPLETION = json.dumps(
    {
        "id": "1",
        "object": "chat.completion",
        "created": 1700000000,
        "model": MODEL,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "y" * 750}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 40, "completion_tokens": 200, "total_tokens": 240},
    }
).encode()

WORKS = (
    Work("300 B", _request(300), (_answer(_COMPLETION),), _COMPLETION, rounds=400),
    Work("32 KB", _request(32 * 1024), (_answer(_COMPLETION),), _COMPLETION, rounds=400),
    Work("a chunk", _request(300, stream=True), _stream(300), b"0\r\n\r\n", rounds=2, by_piece=True),
)

_PAGES = {
    b"/health": _answer(b'{"status":"ok"}'),
    b"/v1/models": _answer(json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model"}]}).encode()),
}
_NO_PAGE = _answer(b'{"error":{"message":"there is no such page"}}', b"404 Not Found")


class Backends:
    """Two model servers that know one model."""

    def __init__(self) -> None:
        self._doors = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        self._read: dict[socket.socket, bytes] = {}  # open connections, and what came on each

    @property
    def urls(self) -> tuple[str, ...]:
        return tuple(f"http://127.0.0.1:{door.getsockname()[1]}" for door in self._doors)

    def asked(self, gateway: int) -> tuple[socket.socket, bytes] | None:
        """Wait for a whole request: its connection and its target. None where it is the gateway's turn before that."""
        while ready := _readable([*self._doors, *self._read], gateway):
            for source in ready:
                if source in self._doors:
                    self._read[_prompt(source.accept()[0])] = b""
                    continue
                data = source.recv(1 << 20)
                held = self._read[source] + data
                if not data:
                    del self._read[source]
                    source.close()
                elif _whole(held):
                    self._read[source] = b""
                    return source, held.split(b" ", 2)[1]
                else:
                    self._read[source] = held
        return None

    def close(self) -> None:
        for open_socket in [*self._doors, *self._read]:
            open_socket.close()


class Outside:
    """A client and its backends, and when counts begin and end."""

    def __init__(self, cut: Callable[[], None], done: Callable[[Work], None]) -> None:
        self.backends = Backends()
        self.port = 0  # where the gateway listens; set once it does
        self._cut = cut  # between two of what is counted
        self._done = done  # all of it

    def moves(self, gateway: int) -> Moves:
        """Answer the gateway's probes until it listens, then ask it for everything in WORKS.

        `gateway` is a file that can be read when the gateway has something to do.
        """
        while not self.port:
            if asked := self.backends.asked(gateway):
                connection, target = asked
                page = _PAGES.get(target, _NO_PAGE)
                connection.sendall(page)
                yield len(page)
            else:
                yield 0
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as client:
            _prompt(client)
            yield 0
            for work in WORKS:
                for _ in range(work.rounds):
                    yield from self._exchange(client, work, gateway)
                self._done(work)
        self.backends.close()

    def _exchange(self, client: socket.socket, work: Work, gateway: int) -> Moves:
        if not work.by_piece:
            self._cut()
        client.sendall(work.request)
        yield len(work.request)
        while (asked := self.backends.asked(gateway)) is None:
            yield 0
        connection, _ = asked
        got = b""
        for piece in work.answer:
            if work.by_piece:
                self._cut()
            connection.sendall(piece)
            yield len(piece)
            if _readable([client], gateway):
                got += client.recv(1 << 20)
        while not got.endswith(work.ends):
            got += client.recv(1 << 20) or _stuck(f"the answer to {work.name} ended early: {got!r}")
        if not got.startswith(b"HTTP/1.1 200 "):
            _stuck(f"the answer to {work.name} is {got!r}")


def _prompt(connection: socket.socket) -> socket.socket:
    """Let the end of something large be sent at once: it would wait until its beginning is acknowledged."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _readable(sources: Sequence[socket.socket], gateway: int) -> list[socket.socket]:
    """Wait until one of `sources` can be read, or the gateway has something to do."""
    poll = select.poll()
    by_number = {source.fileno(): source for source in sources}
    for number in (*by_number, gateway):
        poll.register(number, select.POLLIN)
    ready = poll.poll(PATIENCE * 1000)
    if not ready:
        _stuck("the gateway waits, and so does everybody else")
    return [by_number[number] for number, _ in ready if number != gateway]


def _whole(request: bytes) -> bool:
    head, end, body = request.partition(b"\r\n\r\n")
    length = [line[15:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return bool(end) and len(body) == int(length[0] if length else 0)


def _stuck(why: str) -> NoReturn:
    raise Stuck(why)
