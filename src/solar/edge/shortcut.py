"""A shorter way from a client's connection to an ASGI application, beside the protocol of its server.

The server's own protocol reads whatever comes. When it has understood a head, that head is remembered; the next request
that begins with it, and is here as a whole, goes to the application without being read again. All else stays with the
server's protocol: what is new, incomplete, HTTP/1.0, no POST, or is not to be followed by another request.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from solar.edge.heads import Heads, Key, KnownHeads, cut
from solar.edge.outbox import Gathered, Outbox
from solar.edge.passage import Passage
from solar.edge.reply import Standing

if TYPE_CHECKING:
    from solar.edge.asgi import Scope

BEHIND: Final = 64 * 1024  # bytes that are read while a request is being answered

_OF_PLAIN: Final = (
    "_unset_keepalive_if_required", "app", "app_state", "client", "config", "connections", "cycle", "pipeline",
    "scheme", "scope", "server", "server_state", "shutdown", "tasks", "timeout_keep_alive",
)  # fmt: skip
_OF_CYCLE: Final = ("keep_alive", "more_body", "response_complete", "scope", "waiting_for_100_continue")
_OF_STATE: Final = ("default_headers", "total_requests")
_NOT_KEPT: Final = frozenset({b"expect", b"transfer-encoding", b"upgrade"})


class KnownScope:
    """What the server's protocol made of a head."""

    __slots__ = ("headers", "length_at", "scope")

    def __init__(self, scope: Scope, length_at: int) -> None:
        self.scope: dict[str, Any] = dict(scope)
        self.headers: list[tuple[bytes, bytes]] = list(scope["headers"])
        self.length_at = length_at  # where in the headers the body's length stands

    def __repr__(self) -> str:
        return f"<KnownScope {self.scope['path']!r}>"


class Shortcuts:
    """What the connections of one server share. `state` is the server's, as uvicorn keeps it."""

    def __init__(self, state: Any) -> None:
        self.outbox = Outbox()
        self.heads: KnownHeads[Key, tuple[Key, KnownScope]] = KnownHeads()
        self.loop = asyncio.get_running_loop()
        self.done = self.loop.create_future()  # what has been done already, for who awaits it
        self.done.set_result(None)
        self.state = state
        self.standing = Standing(state)

    def __repr__(self) -> str:
        return f"<Shortcuts, {self.heads!r}>"


class Shortcut:
    """One connection: an asyncio.Protocol in all but its base. `plain` is the server's protocol for it."""

    def __init__(self, shared: Shortcuts, plain: Any) -> None:
        self.shared = shared
        self.app: Any = plain.app
        self.tasks: set[asyncio.Task[None]] = plain.tasks
        self.full = False  # the client reads slower than we write
        self.lost = False
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set before anything else is called
        self._plain = plain
        self._gathered: Gathered = None  # type: ignore[assignment]  # the same
        self._heads: Heads[KnownScope] = Heads(shared.heads)
        self._ours = False  # the server's protocol is between two requests, and has been since we looked
        self._passage: Passage | None = None  # the request that is being answered
        self._behind = b""  # what came meanwhile
        self._deaf = False  # too much of it: nothing is read
        self._patience: float = plain.timeout_keep_alive  # seconds
        self._idle_since = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Shortcut beside {self._plain!r}, {self._passage!r}>"

    # --- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # a TCP or TLS connection is always a full Transport
        self._gathered = Gathered(self.transport, self.shared.outbox)
        self._plain.connection_made(self._gathered)
        self._plain.connections.discard(self._plain)
        self._plain.connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self._passage is not None:
            self._behind += data
            if len(self._behind) > BEHIND and not self._deaf:
                self._deaf = True
                self.transport.pause_reading()
            return
        if self._ours or self._at_rest():
            found = self._heads.find(data)
            if found is not None:
                known, length, begins = found
                end = begins + length
                if len(data) >= end:
                    self._behind = data[end:]
                    self._begin(known, length, data[begins:end])
                    return
            elif self._heads.key is not None:
                before = self._plain.cycle
                self._read(data)
                if self._plain.cycle is not before:
                    self._remember(data)
                return
        self._read(data)

    def eof_received(self) -> None:
        self.shared.outbox.hand_over(self.transport)  # the connection is closed next
        self._plain.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        self._plain.connections.discard(self)
        self._plain.connection_lost(error)
        if self._timer is not None:
            self._timer.cancel()
        if self._passage is not None:
            self._passage.changed()

    def pause_writing(self) -> None:
        self.full = True
        self._plain.pause_writing()

    def resume_writing(self) -> None:
        self.full = False
        self._plain.resume_writing()
        if self._passage is not None:
            self._passage.changed()

    # --- what the server calls

    def shutdown(self) -> None:
        """Close the connection, once the answer on its way has ended."""
        if self._passage is not None:
            self._passage.keep_alive = False
        else:
            self._plain.shutdown()

    # --- the long way

    def _read(self, data: bytes) -> None:
        self._ours = False
        self._plain.data_received(data)
        speaking: object = self.transport.get_protocol()
        if speaking is not self:  # it is a WebSocket now
            self._plain.connections.discard(self)

    def _at_rest(self) -> bool:
        """Whether the server's protocol is between two requests; if so, it watches over the connection no more."""
        plain = self._plain
        cycle = plain.cycle
        if cycle is None:
            self._ours = plain.scope is None
        elif fits_cycle(cycle):
            over = cycle.response_complete and not cycle.more_body and not plain.pipeline
            self._ours = over and cycle.scope is plain.scope
        if self._ours:
            plain._unset_keepalive_if_required()
        return self._ours

    def _remember(self, data: bytes) -> None:
        """Keep what was understood of a head, if its request was nothing but plain, and all of `data`."""
        plain = self._plain
        cycle = plain.cycle
        seen = cut(data)
        if seen is None or len(data) != seen[1] + seen[2] or cycle.scope is not plain.scope or not fits_cycle(cycle):
            return
        scope = plain.scope
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        names = [name for name, _ in headers]
        if (
            scope["method"] == "POST"
            and scope["http_version"] == "1.1"
            and cycle.keep_alive
            and not cycle.more_body
            and not cycle.waiting_for_100_continue
            and names.count(b"content-length") == 1
            and _NOT_KEPT.isdisjoint(names)
        ):
            self._heads.keep(seen[0], KnownScope(scope, names.index(b"content-length")))

    # --- the short one

    def _begin(self, known: KnownScope, length: int, body: bytes) -> None:
        plain = self._plain
        headers = known.headers.copy()
        headers[known.length_at] = (b"content-length", b"%d" % length)
        scope = known.scope.copy()
        scope["asgi"] = scope["asgi"].copy()
        scope["client"] = plain.client
        scope["server"] = plain.server
        scope["scheme"] = plain.scheme
        scope["headers"] = headers
        scope["state"] = plain.app_state.copy()
        self._passage = passage = Passage(self, body)
        passage.task = task = self.shared.loop.create_task(passage.run(scope))
        self.tasks.add(task)

    def write(self, data: bytes) -> None:
        """Write a piece of an answer."""
        self.shared.outbox.write(self.transport, data)

    def answered(self, *, keep: bool) -> None:
        """The answer is complete; where the connection shall not be kept, it is cut behind what was written of it."""
        self._passage = None
        self.shared.state.total_requests += 1
        if self.lost or self.transport.is_closing():
            return
        if not keep:
            self._gathered.close()
            return
        if self._deaf:
            self._deaf = False
            self.transport.resume_reading()
        if self._behind:
            data, self._behind = self._behind, b""
            self.data_received(data)
            return
        self._idle_since = self.shared.loop.time()
        if self._timer is None:
            self._timer = self.shared.loop.call_later(self._patience, self._look)

    def _look(self) -> None:
        """Close an idle connection. One timer looks after many requests."""
        self._timer = None
        if self._passage is not None or not self._ours:  # who ends it sets the next one
            return
        left = self._idle_since + self._patience - self.shared.loop.time()
        if left > 0:
            self._timer = self.shared.loop.call_later(left, self._look)
        else:
            self._gathered.close()


def fits(plain: Any) -> bool:
    """Whether a protocol of uvicorn is as we know them, and does nothing that only it can."""
    return (
        all(hasattr(plain, name) for name in _OF_PLAIN)
        and all(hasattr(plain.server_state, name) for name in _OF_STATE)
        and getattr(plain, "limit_concurrency", None) is None
        and not getattr(plain, "access_log", False)
        and not getattr(plain.config, "reset_contextvars", False)
    )


def fits_cycle(cycle: Any) -> bool:
    """The same of its requests."""
    return all(hasattr(cycle, name) for name in _OF_CYCLE)
