"""An exchange between a client and a transport that tests play by hand, in a time that tests tell. No sockets."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Callable
from typing import Any

from solar.core.attempts import Outcome
from solar.core.backend import Backend
from solar.core.headers import Block, Headers, to_backend
from solar.core.member import Member
from solar.core.openai import peek
from solar.core.paths import locate
from solar.core.record import Record
from solar.core.roster import Roster, RosterOptions
from solar.edge.answers import route_pairs
from solar.edge.exchange import Exchange
from solar.edge.hooks import Hooks
from solar.edge.metrics import Metrics, Snapshot
from solar.edge.relay import Relay, RelayOptions
from solar.edge.request import Asked, ClientRequest
from solar.edge.transport import Failure, Sink, UpstreamRequest
from solar.testing import FakeClock

JSON: Headers = [(b"content-type", b"application/json")]
SSE: Headers = [(b"content-type", b"text/event-stream")]
EVENT = b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\n'
DONE = b"data: [DONE]\n\n"


class Call:
    """One request on a transport; the test says what comes back."""

    def __init__(self, request: UpstreamRequest, sink: Sink) -> None:
        self.request = request
        self.sink = sink
        self.over = False
        self.aborted = False
        self.paused = False
        self.silent = False  # bytes that were sent stay unacknowledged

    @property
    def backend(self) -> str:
        return self.request.backend.id

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def abort(self) -> None:
        self.aborted = self.over = True

    def unacknowledged(self) -> bool:
        return self.silent

    def head(self, status: int = 200, headers: Headers = JSON, length: int | None = None) -> None:
        self.sink.head(status, [*headers], length)

    def chunk(self, data: bytes) -> None:
        self.sink.chunk(data)

    def end(self) -> None:
        self.over = True
        self.sink.end()

    def failed(self, outcome: Outcome = Outcome.RESET, detail: str = "it broke") -> None:
        self.over = True
        self.sink.failed(Failure(outcome, detail))

    def answer(self, status: int = 200, headers: Headers = JSON, body: bytes = b"{}") -> None:
        """A whole answer."""
        self.head(status, headers, len(body))
        if body:
            self.chunk(body)
        if not self.over:
            self.end()

    def stream(self, *events: bytes) -> None:
        """The head of a stream and some events."""
        self.head(200, SSE)
        for event in events:
            self.chunk(event)


class Transport:
    """Calls in the order sent. `answers`, where it is set, answers within `send`."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.answers: Callable[[Call], None] | None = None

    def send(self, request: UpstreamRequest, sink: Sink) -> Call:
        call = Call(request, sink)
        self.calls.append(call)
        if self.answers is not None:
            self.answers(call)
        return call

    async def close(self) -> None:
        pass


class Client:
    """What one client saw, in order; it complains at once about what no client may see."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.pieces: list[bytes] = []
        self.ended = False
        self.aborted = False
        self.left = False
        self.on_write: Callable[[], None] = lambda: None

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def over(self) -> bool:
        return self.ended or self.aborted

    def head(self, status: int, headers: Block, record: Record, length: int | None) -> None:
        assert self.status == 0
        self._listens()
        said = [*headers.pairs, *route_pairs(record)]
        if length is not None and status not in (204, 304):
            said.append((b"content-length", b"%d" % length))
        self.status, self.headers = status, dict(said)

    def write(self, data: bytes) -> None:
        assert self.status
        assert data
        self._listens()
        self.pieces.append(data)
        self.on_write()

    def end(self) -> None:
        assert self.status
        self._listens()
        self.ended = True

    def abort(self) -> None:
        assert not self.over
        self.aborted = True

    def _listens(self) -> None:
        assert not self.over
        assert not self.left


class Bench:
    """A relay with its backends, a transport and a clock."""

    def __init__(
        self,
        *backends: Backend,
        roster: RosterOptions | None = None,
        options: RelayOptions | None = None,
        transport: Transport | None = None,
    ) -> None:
        self.clock = FakeClock(1000.0)
        self.roster = Roster(roster or RosterOptions())
        for backend in backends:
            self.roster.sources.claim(backend)
        self.roster.sync()
        self.transport = transport or Transport()
        self.records: list[Record] = []
        self.hooks = Hooks()
        metrics = Metrics(Snapshot)
        self.relay = Relay(
            self.roster,
            self.transport,
            metrics,
            options or RelayOptions(),
            logging.getLogger("solar.bench"),
            self.records.append,
            self.hooks,
        )
        self.relay.clock = self.clock
        self.relay.wall = lambda: 1_800_000_000.0
        self._numbers = itertools.count(1)

    @property
    def calls(self) -> list[Call]:
        return self.transport.calls

    def member(self, backend_id: str) -> Member:
        return self.roster.members[backend_id]

    def ask(
        self, *, stream: bool = False, model: str = "m", path: str = "/v1/chat/completions", **fields: Any
    ) -> tuple[Exchange, Client]:
        """One more request."""
        endpoint = locate(path).endpoint
        assert endpoint is not None
        record = Record(
            f"r{next(self._numbers)}",
            method="POST",
            path=path,
            endpoint=endpoint.name,
            client="c",
            started_at=self.clock(),
        )
        asked = Asked("POST", path, b"", fields.pop("headers", []), locate(path))
        asked.passed = Block(to_backend(asked.headers))
        request = ClientRequest(record, asked)
        request.session = fields.pop("session", None)
        request.body = json.dumps({"model": model, "stream": stream, **fields}).encode()
        request.peek = peek(request.body)
        record.model = request.peek.model or ""
        assert self.relay.reserve(len(request.body))
        request.reserved = len(request.body)
        client = Client()
        exchange = Exchange(self.relay, client, request)
        exchange.begin()
        return exchange, client

    def later(self, seconds: float, step: float = 0.25) -> None:
        """Time passes, with the relay's tick."""
        until = self.clock() + seconds
        while self.clock() < until:
            self.clock.now = min(until, self.clock() + step)
            self.relay.tick(self.clock())

    def assert_closed(self) -> None:
        """Nothing is open, nothing is counted, and no circuit waits for a trial that nobody makes."""
        assert not self.relay.open
        assert self.relay.buffered == 0
        assert len(self.roster.room) == 0
        assert all(call.over for call in self.calls)
        for member in self.roster.members.values():
            assert member.load.in_flight == member.load.host.in_flight == 0
            assert member.load.host.size == 0.0
            assert member.breaker.state != "half-open"
            assert not member.stall.streaming


def backends(*names: str, **facts: Any) -> list[Backend]:
    """Backends of the model "m", each on a host of its own."""
    return [Backend(name, f"http://{name}:80", models=("m",), **facts) for name in names]
