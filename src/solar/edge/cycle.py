"""One request of the front door through an ASGI application: for paths that the router does not know."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

from solar.edge.incoming import Incoming

if TYPE_CHECKING:
    from solar.edge.frontdoor import FrontDoor

_log = logging.getLogger("solar")


class Cycle:
    """`receive` and `send` of one request."""

    def __init__(self, door: FrontDoor, incoming: Incoming, path: str, query: bytes) -> None:
        from solar.edge.frontdoor import Reply

        self._door = door
        self._incoming = incoming
        self._reply = Reply(door, incoming, [])
        self._gone = False
        self._begun = False
        self._ended = False
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
        if self._begun:
            self._door.cut()
        else:
            self._reply.head(500, [(b"content-length", b"0")])
            self._reply.end()

    def disconnect(self) -> None:
        """The client is gone."""
        self._gone = True
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
        if incoming.expects_continue and not incoming.complete and not incoming.size and not self._begun:
            self._door.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while True:
            if self._gone or self._ended:
                return {"type": "http.disconnect"}
            body = incoming.take()
            if body or (incoming.complete and not incoming.skipping):
                incoming.size = 0
                incoming.skipping = incoming.complete
                self._door.body_taken()
                return {"type": "http.request", "body": body, "more_body": not incoming.complete}
            self._changed.clear()
            await self._changed.wait()

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """ASGI's send."""
        while self._door.full and not self._gone:
            self._changed.clear()
            await self._changed.wait()
        if self._gone or self._ended:
            return
        if message["type"] == "http.response.start":
            self._begun = True
            headers = [(bytes(name).lower(), bytes(value)) for name, value in message.get("headers", [])]
            self._reply.head(message["status"], headers)
            return
        if body := message.get("body", b""):
            self._reply.write(bytes(body))
        if not message.get("more_body", False):
            self._ended = True
            self._reply.end()
            self._changed.set()
