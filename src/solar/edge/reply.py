"""How an answer is written at the front door: its head, its framing, its end."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from solar.core.headers import Block, Headers, wire_of
from solar.core.record import Record
from solar.edge.answers import route_lines
from solar.edge.incoming import Incoming

if TYPE_CHECKING:
    from solar.edge.frontdoor import FrontDoor
    from solar.edge.hall import ServerState

JOIN_BELOW: Final = 16 * 1024  # bytes that are copied behind their head or chunk size rather than sent apart

_LINE = {
    code: f"HTTP/1.1 {code} {HTTPStatus(code).phrase if code in list(HTTPStatus) else ''}\r\n".encode()
    for code in range(200, 600)
}

_SIZES: Final = [b"%x\r\n" % size for size in range(1024)]  # how a chunk begins: most are small


def status_line(status: int) -> bytes:
    """How an answer begins."""
    return _LINE.get(status) or b"HTTP/1.1 %d \r\n" % status


class Standing:
    """The headers of every answer, such as the date, as HTTP/1.1 writes them. A server makes them anew each second."""

    __slots__ = ("_headers", "_state", "_wire")

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._headers: Headers = []
        self._wire = b""

    def __repr__(self) -> str:
        return f"<Standing {self._headers!r}>"

    def wire(self) -> bytes:
        """As they are now."""
        headers = self._state.default_headers
        if headers is not self._headers:
            self._headers = headers
            self._wire = wire_of(headers)
        return self._wire


class Reply:
    """The client of one exchange or application, on a connection of ours. Head and first bytes leave together."""

    __slots__ = ("_bodiless", "_chunked", "_cors", "_door", "_head", "_incoming", "_until_close")

    def __init__(self, door: FrontDoor, incoming: Incoming, cors: Headers) -> None:
        self._door = door
        self._incoming = incoming
        self._cors = cors
        self._head = b""
        self._chunked = False
        self._until_close = False  # only the end of the connection tells the end of the answer
        self._bodiless = incoming.method == "HEAD"

    def __repr__(self) -> str:
        return f"<Reply to {self._incoming!r}>"

    def head(self, status: int, headers: Block, record: Record | None, length: int | None) -> None:
        """`record` is None where an answer never was on its way."""
        incoming = self._incoming
        lines = [status_line(status), self._door.hall.standing.wire(), headers.wire]
        if record is not None:
            lines.append(route_lines(record))
        if self._cors:
            lines.append(wire_of(self._cors))
        if status == 204 or status == 304:
            self._bodiless = True
        elif length is not None:
            lines.append(b"content-length: %d\r\n" % length)
        elif incoming.version == "1.1":
            self._chunked = True
            lines.append(b"transfer-encoding: chunked\r\n")
        else:  # an HTTP/1.0 client knows no chunks
            self._until_close = True
            incoming.keep_alive = False
        if not incoming.keep_alive:
            lines.append(b"connection: close\r\n")
        elif incoming.version == "1.0":
            lines.append(b"connection: keep-alive\r\n")
        lines.append(b"\r\n")
        self._head = b"".join(lines)

    def write(self, data: bytes) -> None:
        head, self._head = self._head, b""
        door = self._door
        outbox = door.hall.outbox
        if self._bodiless:
            if head:
                outbox.write(door.transport, head)
        elif self._chunked:
            size = _SIZES[len(data)] if len(data) < len(_SIZES) else b"%x\r\n" % len(data)
            if len(data) < JOIN_BELOW:
                outbox.write(door.transport, b"".join((head, size, data, b"\r\n")))
            else:
                outbox.write(door.transport, head + size, data, b"\r\n")
        elif not head:
            outbox.write(door.transport, data)
        elif len(data) < JOIN_BELOW:
            outbox.write(door.transport, head + data)
        else:
            outbox.write(door.transport, head, data)

    def end(self) -> None:
        head, self._head = self._head, b""
        if self._chunked and not self._bodiless:
            head += b"0\r\n\r\n"
        if head:
            self._door.write(head)
        self._door.answered(self._incoming)

    def abort(self) -> None:
        head, self._head = self._head, b""
        if head:
            self._door.write(head)
        self._door.cut(reset=self._until_close)
