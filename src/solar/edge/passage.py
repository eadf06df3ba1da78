"""One request on the shorter way through an ASGI application: its `receive`, its `send`, and its end."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Final

from solar.edge.reply import JOIN_BELOW, status_line

if TYPE_CHECKING:
    from solar.edge.asgi import Message, Scope
    from solar.edge.shortcut import Shortcut

# What may stand in no value of a header, control characters but for tabs, and what becomes of them here.
_CONTROLS: Final = bytes([*range(9), *range(10, 32), 127])
_CLEAN: Final = bytes.maketrans(_CONTROLS, b"?" * len(_CONTROLS))
_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_FRAMING: Final = frozenset({b"connection", b"content-length", b"transfer-encoding"})
MOST_NAMES: Final = 256  # of headers that are known to be valid

_log: Final = logging.getLogger("solar")
_names: Final[set[bytes]] = set()  # of headers, that are valid


class Passage:
    """What the application gets to read, and where it writes. Its body is whole, and given at once."""

    def __init__(self, way: Shortcut, body: bytes) -> None:
        self.keep_alive = True
        self.task: asyncio.Task[None] | None = None
        self._way = way
        self._body = body
        self._given = False
        self._head = b""  # it waits for the first piece of the body
        self._begun = False
        self._over = False  # the answer is complete
        self._chunked = False
        self._left = 0  # bytes that the answer's own length still promises
        self._changed: asyncio.Event | None = None

    def __repr__(self) -> str:
        return f"<Passage, {'over' if self._over else 'begun' if self._begun else 'waiting'}>"

    async def run(self, scope: Scope) -> None:
        """Call the application; an answer that it does not finish is cut, and one that it never begins is a 500."""
        way = self._way
        try:
            await way.app(scope, self.receive, self.send)
        except Exception:  # noqa: BLE001  # the outer boundary: whatever an application raises, the connection must end
            _log.exception("the application failed")
        finally:
            if self.task is not None:
                way.tasks.discard(self.task)
            if not self._over:
                self._end_early()

    def _end_early(self) -> None:
        self._over = True
        if not self._way.lost and not self._begun:
            _log.error("the application ended without an answer")
            text = b"content-type: text/plain; charset=utf-8\r\ncontent-length: 21\r\nconnection: close\r\n\r\n"
            standing = self._way.shared.standing.wire()
            self._way.write(b"".join([status_line(500), standing, text, b"Internal Server Error"]))
        elif self._head and not self._way.lost:
            self._way.write(self._head)
        self._way.answered(keep=False)

    def changed(self) -> None:
        """The client has left, or has caught up."""
        if self._changed is not None:
            self._changed.set()

    async def _change(self) -> None:
        if self._changed is None:
            self._changed = asyncio.Event()
        await self._changed.wait()
        self._changed.clear()

    # --- ASGI's receive

    def receive(self) -> Awaitable[Message]:
        """The body, and then that the client has left."""
        if self._given or self._way.lost:
            return self._leaving()
        self._given = True
        body, self._body = self._body, b""
        come: asyncio.Future[Message] = self._way.shared.loop.create_future()
        come.set_result({"type": "http.request", "body": body, "more_body": False})
        return come

    async def _leaving(self) -> Message:
        while not (self._way.lost or self._over):
            await self._change()
        return {"type": "http.disconnect"}

    # --- ASGI's send

    def send(self, message: Message) -> Awaitable[None]:
        """The head, then the pieces of the body. Who writes faster than the client reads has to wait."""
        if self._way.full:
            return self._send_later(message)
        self._write(message)
        return self._way.shared.done

    async def _send_later(self, message: Message) -> None:
        while self._way.full and not self._way.lost:
            await self._change()
        self._write(message)

    def _write(self, message: Message) -> None:
        if self._way.lost:
            return
        kind = message["type"]
        if kind == ("http.response.body" if self._begun else "http.response.start") and not self._over:
            if self._begun:
                body = message.get("body", b"")
                self._write_body(body if isinstance(body, bytes) else bytes(body), message.get("more_body", False))
            else:
                self._write_head(message["status"], message.get("headers", ()))
        else:
            raise RuntimeError(f"{kind!r} is not what has to come next in an answer")

    def _write_head(self, status: int, headers: Any) -> None:
        self._begun = True
        sized = False
        lines: list[bytes] = []
        values: list[bytes] = []
        name: bytes
        value: bytes
        for name, value in headers:
            if name not in _names:
                name = _valid(name)
            if name in _FRAMING:
                if name == b"content-length":
                    if sized:
                        raise RuntimeError("the answer has two Content-Lengths")
                    self._left = int(value)
                    sized = True
                else:
                    if name == b"connection" and b"close" in value.lower():
                        self.keep_alive = False
                    continue  # how the answer is framed is said below
            values.append(value)
            lines.append(name)
            lines.append(b": ")
            lines.append(value)
            lines.append(b"\r\n")
        said = b"".join(values)
        if said != said.translate(_CLEAN):
            raise RuntimeError("a header of the answer holds a control character")
        self._chunked = not sized and status not in (204, 304)
        framing = b"transfer-encoding: chunked\r\n\r\n" if self._chunked else b"\r\n"
        if not self.keep_alive:
            framing = b"connection: close\r\n" + framing
        self._head = b"".join([status_line(status), self._way.shared.standing.wire(), *lines, framing])

    def _write_body(self, body: bytes, more: bool) -> None:
        head, self._head = self._head, b""
        outbox, transport = self._way.shared.outbox, self._way.transport
        if not self._chunked:
            self._left -= len(body)
            if self._left < 0 or (self._left and not more):
                raise RuntimeError("the answer is not as long as its Content-Length")
            parts: tuple[bytes, ...] = (head, body)
        elif body:
            parts = (head + b"%x\r\n" % len(body), body, b"\r\n" if more else b"\r\n0\r\n\r\n")
        else:
            parts = (head, b"" if more else b"0\r\n\r\n")
        if len(body) < JOIN_BELOW:
            data = b"".join(parts)
            if data:
                outbox.write(transport, data)
        else:
            outbox.write(transport, *parts)
        if not more:
            self._over = True
            self.changed()
            self._way.answered(keep=self.keep_alive)


def _valid(name: bytes) -> bytes:
    """A header's name in lower case."""
    if not _NAME(name):
        raise RuntimeError(f"{name!r} is no name for a header")
    lower = name.lower()
    if lower == name and len(_names) < MOST_NAMES:
        _names.add(name)
    return lower
