"""One request of the front door through an ASGI application: for paths that the router does not know."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

from solar.core.headers import Block, Headers
from solar.edge.incoming import Incoming
from solar.edge.reply import Reply

if TYPE_CHECKING:
    from solar.edge.frontdoor import FrontDoor

_OURS = frozenset({b"connection", b"keep-alive", b"transfer-encoding", b"upgrade"})  # the connection is not the app's

_log = logging.getLogger("solar")


class Cycle:
    """`receive` and `send` of one request."""

    def __init__(self, door: FrontDoor, incoming: Incoming, path: str, query: bytes) -> None:
        self.begun = False  # the head of its answer is here
        self._door = door
        self._incoming = incoming
        self._reply = Reply(door, incoming, [])
        self._gone = False
        self._ended = False
        self._hung_up = False  # the client says no more; perhaps it still listens
        self._body_given = False
        self._left: int | None = None  # bytes that the answer's own length still promises
        self._changed = asyncio.Event()
        self._scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": incoming.version,
            "method": incoming.method,
            "scheme": "https" if door.hall.tls else "http",
            "path": path,
            "raw_path": incoming.target.partition(b"?")[0],
            "query_string": query,
            "root_path": "",
            "headers": incoming.headers,
            "client": (door.client, 0),
            "server": None,
            "state": {},
        }

    def __repr__(self) -> str:
        return f"<Cycle {self._incoming!r}>"

    async def run(self) -> None:
        """Call the application; an answer that it does not finish is cut, and one that it never begins is a 500."""
        app = self._door.hall.app
        if app is None:
            return
        try:
            await app(self._scope, self.receive, self.send)
        except Exception:  # noqa: BLE001  # the outer boundary: whatever an application raises, the connection must end
            _log.exception("the application failed on %r", self._incoming)
        if self._gone or self._ended:
            return
        if self.begun:
            self._reply.abort()
        else:
            self._door.fail(self._incoming)

    def disconnect(self) -> None:
        """The client is gone."""
        self._gone = True
        self._changed.set()

    def hang_up(self) -> None:
        """The client closed its side: the application hears it, and may answer all the same."""
        self._hung_up = True
        self._changed.set()

    def readable(self) -> None:
        """More of the body is here, or all of it."""
        self._changed.set()

    def writable(self) -> None:
        """The client has caught up."""
        self._changed.set()

    async def receive(self) -> MutableMapping[str, Any]:
        """ASGI's receive."""
        incoming = self._incoming
        if not self.begun:
            self._door.ask_for_body(incoming)
        while not (self._gone or self._ended):
            if not self._body_given and (incoming.held or incoming.complete):
                self._body_given = incoming.complete
                body = incoming.take()
                self._door.body_taken()
                return {"type": "http.request", "body": body, "more_body": not incoming.complete}
            if self._hung_up:
                break
            self._changed.clear()
            await self._changed.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """ASGI's send."""
        while self._door.full and not self._gone:
            self._changed.clear()
            await self._changed.wait()
        if self._gone or self._ended:
            return
        if message["type"] == "http.response.start":
            self._begin(message["status"], message.get("headers", ()))
            return
        body = bytes(message.get("body", b""))
        more = message.get("more_body", False)
        if self._left is not None and self._incoming.method != "HEAD":
            self._left -= len(body)
            if self._left < 0 or (self._left and not more):
                raise RuntimeError("the application's answer is not as long as its Content-Length")
        if body:
            self._reply.write(body)
        if not more:
            self._ended = True
            self._reply.end()
            self._changed.set()

    def _begin(self, status: int, given: Any) -> None:
        headers: Headers = []
        for raw_name, raw_value in given:
            name, value = bytes(raw_name).lower(), bytes(raw_value)
            if name == b"connection" and value.strip().lower() == b"close":
                self._incoming.keep_alive = False
            if name == b"content-length":
                self._left = int(value)
            elif name not in _OURS:
                headers.append((name, value))
        self.begun = True
        self._reply.head(status, Block(headers), None, self._left)
