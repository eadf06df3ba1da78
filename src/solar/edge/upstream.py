"""Pooled HTTP/1.1 to backends: one connection a request at a time, kept for the next one when its end was clean.

Connections are not limited in number: a limit here would be a queue that nobody sees.
"""

from __future__ import annotations

import asyncio
import ssl
from time import monotonic
from typing import Any, Final

from solar.core.attempts import Outcome, after_replacement, died_unused
from solar.core.backend import Backend
from solar.edge.connecting import connect
from solar.edge.connection import AnswerHead, Connection, PoolKey, key_of
from solar.edge.heads import Key, KnownHeads
from solar.edge.outbox import Outbox
from solar.edge.tasks import Tasks
from solar.edge.transport import Failure, Sink, UpstreamRequest

MAX_IDLE: Final = 256  # kept connections per backend; those beyond are closed, none is refused


class HttpUpstream:
    """The transport that `Router` uses by default."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self.heads: KnownHeads[Key, tuple[Key, AnswerHead]] = KnownHeads()
        self.outbox = Outbox()
        self._idle: dict[PoolKey, list[Connection]] = {}
        self._keys: dict[str, tuple[Backend, PoolKey]] = {}  # by the backend's id
        self._contexts: dict[tuple[str | None, bool], ssl.SSLContext] = {}
        self._open: set[Connection] = set()
        self.opened = 0  # connections ever opened

    def __repr__(self) -> str:
        idle = sum(len(kept) for kept in self._idle.values())
        return f"<HttpUpstream {len(self._open)} connections ({idle} idle)>"

    def send(self, request: UpstreamRequest, sink: Sink, *, fresh: bool = False) -> HttpCall:
        """Start one request, on a kept connection where there is one; `fresh` insists on a new one."""
        call = HttpCall(self, request, sink, fresh=fresh)
        kept = None if fresh else self._take(request.backend)
        if kept is None:
            call.connect()
        else:
            call.begin(kept, reused=True)
        return call

    @property
    def connections(self) -> int:
        """Open connections, idle ones included."""
        return len(self._open)

    def _take(self, backend: Backend) -> Connection | None:
        known = self._keys.get(backend.id)
        if known is None or known[0] is not backend:
            known = self._keys[backend.id] = (backend, key_of(backend))
        kept = self._idle.get(known[1])
        while kept:
            connection = kept.pop()
            if not connection.transport.is_closing():
                return connection
        return None

    def keep(self, connection: Connection) -> None:
        """Take a connection back whose answer ended cleanly."""
        kept = self._idle.get(connection.key)
        if kept is None:
            self._idle[connection.key] = [connection]
        elif len(kept) < MAX_IDLE:
            kept.append(connection)
        else:
            connection.transport.close()

    def opened_one(self, connection: Connection) -> None:
        """Count a connection that now stands."""
        self._open.add(connection)
        self.opened += 1

    def lost(self, connection: Connection) -> None:
        """Forget a connection that is gone."""
        self._open.discard(connection)
        kept = self._idle.get(connection.key)
        if kept and connection in kept:
            kept.remove(connection)

    def forget(self, backend: Backend) -> None:
        """Close the kept connections of a backend that was removed."""
        self._keys.pop(backend.id, None)
        for connection in self._idle.pop(key_of(backend), []):
            connection.transport.close()

    def context(self, key: PoolKey) -> ssl.SSLContext | None:
        """The TLS settings for `key`; made once, as reading the CA bundle takes milliseconds."""
        if key.origin.scheme != "https":
            return None
        context = self._contexts.get((key.ca_file, key.verify))
        if context is None:
            try:
                context = ssl.create_default_context(cafile=key.ca_file)
            except OSError as error:  # it is not there, or holds no certificate
                raise OSError(f"cannot use ca_file {key.ca_file!r}: {error}") from None
            if key.ca_file is not None:
                # A CA of one's own rarely has every extension that Python 3.13 came to ask for.
                context.verify_flags &= ~ssl.VERIFY_X509_STRICT
            if not key.verify:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            self._contexts[key.ca_file, key.verify] = context
        return context

    def spawn(self, call: HttpCall) -> asyncio.Task[Any]:
        """Open a connection for `call` in the background."""
        return self._tasks.spawn(connect(self, call), f"connect {call.request.backend.id}")

    async def close(self) -> None:
        """Close every connection, those in use too."""
        for connection in list(self._open):
            connection.transport.abort()
        self._idle.clear()


class FreshUpstream:
    """The same transport with a new connection for each request: for probes, as only that shows that it accepts."""

    def __init__(self, upstream: HttpUpstream) -> None:
        self._upstream = upstream

    def send(self, request: UpstreamRequest, sink: Sink) -> HttpCall:
        """Start one request on a connection of its own."""
        return self._upstream.send(request, sink, fresh=True)


class HttpCall:
    """One request on its way: connecting, sent, or over. A kept connection that died unused is replaced in here."""

    __slots__ = (
        "_connecting", "_pool", "connection", "fresh", "paused", "replaced", "request", "reused", "sent_at", "sink",
    )  # fmt: skip

    def __init__(self, pool: HttpUpstream, request: UpstreamRequest, sink: Sink, *, fresh: bool) -> None:
        self._pool = pool
        self.request = request
        self.sink: Sink | None = sink
        self.fresh = fresh  # on a connection of its own, that nobody else gets
        self.connection: Connection | None = None
        self._connecting: asyncio.Task[Any] | None = None
        self.reused = False
        self.replaced = False
        self.sent_at = 0.0
        self.paused = False

    def connect(self) -> None:
        """Open a new connection for this request."""
        self._connecting = self._pool.spawn(self)

    def connected(self, connection: Connection) -> None:
        """The new connection stands."""
        self._connecting = None
        if self.sink is None:
            connection.transport.abort()
        else:
            self.begin(connection, reused=False)

    def begin(self, connection: Connection, *, reused: bool) -> None:
        """Send the request on `connection`."""
        self.connection = connection
        self.reused = reused
        self.sent_at = monotonic()
        if self.paused:
            connection.transport.pause_reading()
        connection.start(self)

    def lost(self, outcome: Outcome, detail: str, *, answered: int) -> None:
        """The connection broke after `answered` bytes of the answer."""
        connection = self.connection
        if connection is not None and self.sink is not None and outcome is Outcome.RESET:
            waited = monotonic() - self.sent_at
            if died_unused(self.reused, answered, waited):
                self.connection = None
                self.replaced = True
                self.connect()
                return
        self.fail(outcome, detail)

    def fail(self, outcome: Outcome, detail: str) -> None:
        """Report the end of this call, once."""
        self.connection = None
        self._connecting = None
        sink, self.sink = self.sink, None
        if sink is not None:
            sink.failed(Failure(after_replacement(outcome, self.replaced), detail))

    def done(self) -> None:
        """The answer is complete."""
        self.connection = None
        sink, self.sink = self.sink, None
        if sink is not None:
            sink.end()

    def pause(self) -> None:
        """Read no more for now."""
        self.paused = True
        if self.connection is not None:
            self.connection.transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        self.paused = False
        if self.connection is not None:
            self.connection.transport.resume_reading()

    def abort(self) -> None:
        """Give up: the connection is closed at once, so that the engine stops working for nobody."""
        self.sink = None
        if self._connecting is not None:
            self._connecting.cancel()
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.call = None
            connection.transport.abort()

    def unacknowledged(self) -> bool:
        """Whether the peer's kernel has left our bytes unacknowledged for two seconds (Linux only, else False)."""
        return self.connection is not None and self.connection.unacknowledged()
