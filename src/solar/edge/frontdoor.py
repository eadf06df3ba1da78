"""The front door of `solar serve`: HTTP/1.1 read and written by ourselves, before the same reception and exchange.

One object a connection. Requests are answered in the order in which they came. What llhttp lets through and nobody
should is refused here, in JSON. Paths that the router does not know go to an ASGI application.
"""

from __future__ import annotations

import asyncio
from collections import deque
from http import HTTPStatus
from urllib.parse import unquote_to_bytes

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from solar.core.headers import Headers
from solar.core.paths import locate
from solar.edge.cycle import Cycle
from solar.edge.exchange import Exchange
from solar.edge.hall import Hall
from solar.edge.incoming import Incoming, refusal_of
from solar.edge.reception import Answer
from solar.edge.request import ClientRequest
from solar.errors import InvalidRequest, SolarError

MAX_HEAD = 64 * 1024  # bytes of a request's line and headers
MAX_HEADERS = 256
BEHIND = 64 * 1024  # bytes of further requests that are read while one is being answered
SKIP = 64 * 1024  # bytes of a refused body that are read past, to keep the connection
LINGER_SECONDS = 2.0  # that a refused client may go on sending, so that it reads why
JOIN_BELOW = 16 * 1024  # bytes that are copied behind their head or chunk size rather than sent apart

_LINE = {
    code: f"HTTP/1.1 {code} {HTTPStatus(code).phrase if code in list(HTTPStatus) else ''}\r\n".encode()
    for code in range(200, 600)
}
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class FrontDoor(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, hall: Hall) -> None:
        self.hall = hall
        self._parser = HttpRequestParser(self)
        self._line: deque[Incoming] = deque()  # requests in order; the first is being answered
        self._reading: Incoming | None = None  # whose head or body is arriving
        self._head_size = 0
        self._deaf = False  # nothing more is read as HTTP; the connection is about to close
        self._reading_paused = False
        self._advancing = False
        self._eof = False
        self.full = False  # the client reads slower than we write
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set before anything else is called
        self.client = ""
        self.since = 0.0  # when the last byte came, or the last answer ended

    def __repr__(self) -> str:
        return f"<FrontDoor {self.client}, {len(self._line)} requests>"

    # --- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # a TCP or TLS connection is always a full Transport
        peer = transport.get_extra_info("peername")
        self.client = peer[0] if isinstance(peer, tuple) else ""
        self.since = self.hall.clock()
        self.hall.enter(self)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self.since = self.hall.clock()
        reading = self._reading
        if reading is None or not reading.frozen:
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            self._decline_upgrade(data[upgrade.args[0] :])
        except HttpParserError:
            self._refuse_input(InvalidRequest("the request is not valid HTTP/1.1", code="invalid_http"))
        else:
            reading = self._reading
            if reading is not None and not reading.frozen and self._head_size > MAX_HEAD:
                self._refuse_input(_head_too_large())
        self._mind_the_queue()

    def eof_received(self) -> bool:
        """A client of an inference that closes its side has left; others still get their answer."""
        front = self._line[0] if self._line else None
        if front is None or front.exchange is not None or not front.complete or self.hall.tls:
            return False
        self._eof = True
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self.hall.leave(self)
        self._deaf = True
        line, self._line = self._line, deque()
        for incoming in line:
            if incoming.exchange is not None:
                incoming.exchange.client_gone()
            elif incoming.cycle is not None:
                incoming.cycle.disconnect()
            elif incoming.arrival is not None and isinstance(incoming.arrival.next, ClientRequest):
                self.hall.reception.left_early(incoming.arrival)

    def pause_writing(self) -> None:
        self.full = True
        if self._line and (exchange := self._line[0].exchange) is not None:
            exchange.client_full()

    def resume_writing(self) -> None:
        self.full = False
        if self._line:
            front = self._line[0]
            if front.exchange is not None:
                front.exchange.client_ready()
            elif front.cycle is not None:
                front.cycle.writable()

    # --- what llhttp calls

    def on_message_begin(self) -> None:
        if not self._deaf:
            self._reading = Incoming()

    def on_url(self, url: bytes) -> None:
        if self._reading is not None:
            self._reading.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        reading = self._reading
        if reading is not None and not reading.frozen:  # trailers come here too: they are dropped
            reading.headers.append((name.lower(), value))
            reading.head_size += len(name) + len(value) + 4

    def on_headers_complete(self) -> None:
        reading = self._reading
        if reading is None:
            return
        parser = self._parser
        reading.frozen = True
        self._head_size = 0
        reading.method = parser.get_method().decode("ascii")
        reading.version = parser.get_http_version()
        reading.keep_alive = parser.should_keep_alive()
        if parser.should_upgrade():  # llhttp stops reading here: see _decline_upgrade
            return
        if reading.head_size > MAX_HEAD or len(reading.headers) > MAX_HEADERS:
            reading.refusal = _head_too_large()
        else:
            reading.refusal = refusal_of(reading)
        self._line.append(reading)
        if self._line[0] is reading:
            self._arrive(reading)

    def on_body(self, data: bytes) -> None:
        reading = self._reading
        if reading is None or reading.skipping:
            return
        reading.add(data)
        request = reading.request
        if request is not None and reading.size > request.reserved:
            try:
                self.hall.reception.reserve(request, reading.size - request.reserved)
            except SolarError as error:
                self._refuse(reading, error)
        elif reading.cycle is not None:
            reading.cycle.readable()

    def on_message_complete(self) -> None:
        reading = self._reading
        if reading is None or self._parser.should_upgrade():
            return
        self._reading = None
        reading.complete = True
        if not reading.keep_alive:
            self._deaf = True
        if self._line and self._line[0] is reading:
            if reading.answered:
                self._next(reading)
            elif reading.cycle is not None:
                reading.cycle.readable()
            else:
                self._begin(reading)

    # --- one request

    def _arrive(self, incoming: Incoming) -> None:
        """It is the first in line: decide by its head."""
        incoming.started = True
        hall = self.hall
        if incoming.refusal is not None:
            self._refuse(incoming, incoming.refusal)
            return
        path, _, query = incoming.target.partition(b"?")
        decoded = unquote_to_bytes(path).decode("utf-8", "replace") if b"%" in path else path.decode("ascii")
        if hall.app is not None and locate(decoded).kind == "unknown":
            incoming.cycle = Cycle(self, incoming, decoded, query)
            hall.spawn(incoming.cycle)
            return
        arrival = hall.reception.arrive(incoming.method, decoded, query, incoming.headers, self.client)
        incoming.arrival = arrival
        if not isinstance(arrival.next, ClientRequest):
            self._answer(incoming, arrival.next)
            return
        incoming.request = arrival.next
        if self._expects_body(incoming, arrival.next) and incoming.complete:
            self._begin(incoming)

    def _expects_body(self, incoming: Incoming, request: ClientRequest) -> bool:
        """Make room for its body, and ask for it where the client waits to be asked. False when it was refused."""
        reception = self.hall.reception
        try:
            reception.expect(request)
            if incoming.size > request.reserved:
                reception.reserve(request, incoming.size - request.reserved)
        except SolarError as error:
            self._refuse(incoming, error)
            return False
        if incoming.expects_continue and not incoming.complete and not incoming.size:
            self.transport.write(_CONTINUE)
        return True

    def _begin(self, incoming: Incoming) -> None:
        """Its body is complete: hand it over."""
        request = incoming.request
        if request is None or incoming.exchange is not None:
            return
        if request.endpoint is not None:
            try:
                self.hall.reception.complete(request, incoming.take())
            except SolarError as error:
                self._refuse(incoming, error)
                return
        cors = incoming.arrival.cors if incoming.arrival is not None else []
        reply = Reply(self, incoming, cors)
        incoming.exchange = exchange = Exchange(self.hall.reception.relay, reply, request)
        exchange.begin()
        if self.full:
            exchange.client_full()

    def _refuse(self, incoming: Incoming, error: SolarError) -> None:
        reception = self.hall.reception
        if incoming.arrival is None:
            incoming.arrival = reception.stranger(incoming.method, incoming.headers, self.client)
        self._answer(incoming, reception.refuse(incoming.arrival, error))

    def _answer(self, incoming: Incoming, answer: Answer) -> None:
        """A complete answer of our own; perhaps before the request's body is here."""
        incoming.take()
        incoming.request = None
        incoming.skipping = True
        if not incoming.complete and incoming.unread() > SKIP:
            incoming.keep_alive = False
        reply = Reply(self, incoming, [])
        reply.head(answer.status, answer.headers)
        if answer.body:
            reply.write(answer.body)
        reply.end()

    def answered(self, incoming: Incoming) -> None:
        """The answer to the first in line is written."""
        incoming.answered = True
        self.since = self.hall.clock()
        if not incoming.keep_alive or self._eof:
            self._close(linger=not incoming.complete)
        elif incoming.complete:
            self._next(incoming)

    def cut(self) -> None:
        """An answer broke: what was written still goes out, and then the connection closes without its end."""
        self._deaf = True
        self.transport.close()

    def _next(self, done: Incoming) -> None:
        if self._line and self._line[0] is done:
            self._line.popleft()
        if self._advancing:  # a loop further out goes on: many small requests at once must not nest
            return
        self._advancing = True
        try:
            while self._line and not self._line[0].started and not self.transport.is_closing():
                self._arrive(self._line[0])
        finally:
            self._advancing = False
        if not self._line and self._deaf:
            self._close(linger=False)
        self._mind_the_queue()

    # --- the connection

    def _refuse_input(self, error: SolarError) -> None:
        """What comes is no HTTP that we read: answer what is under way, then say why, then close."""
        incoming, self._reading = self._reading, None
        if incoming is None:
            incoming = Incoming()
        incoming.frozen = incoming.complete = True
        incoming.keep_alive = False
        incoming.refusal = error
        self._deaf = True
        if not any(waiting is incoming for waiting in self._line):
            self._line.append(incoming)
        if self._line[0] is incoming and not incoming.answered:
            if incoming.cycle is not None:
                incoming.cycle.disconnect()
                self.cut()
            else:
                self._refuse(incoming, error)

    def _decline_upgrade(self, rest: bytes) -> None:
        """Nobody offered an upgrade: read the request as if it had not asked. llhttp needs another head for that."""
        incoming, self._reading = self._reading, None
        if incoming is None:
            return
        self._parser = HttpRequestParser(self)
        if incoming.method == "CONNECT":
            self._reading = incoming
            self._refuse_input(InvalidRequest("CONNECT is not served here", status=405, code="method_not_allowed"))
            return
        lines = [f"{incoming.method} ".encode() + incoming.target + f" HTTP/{incoming.version}\r\n".encode()]
        lines += [b"%b: %b\r\n" % header for header in incoming.headers if header[0] not in (b"upgrade", b"connection")]
        if not incoming.keep_alive:
            lines.append(b"connection: close\r\n")
        self.data_received(b"".join([*lines, b"\r\n", rest]))

    def _mind_the_queue(self) -> None:
        """Read a little ahead, to see a client leave while it is being answered; but not without limit."""
        behind = sum(waiting.size + waiting.head_size for waiting in list(self._line)[1:]) if len(self._line) > 1 else 0
        front = self._line[0] if self._line else None
        if front is not None and front.cycle is not None:
            behind += front.size
        if behind > BEHIND and not self._reading_paused:
            self._reading_paused = True
            self.transport.pause_reading()
        elif behind <= BEHIND and self._reading_paused:
            self._reading_paused = False
            if not self.transport.is_closing():
                self.transport.resume_reading()

    def body_taken(self) -> None:
        """An application took what it had of a body: there is room again."""
        self._mind_the_queue()

    def _close(self, *, linger: bool) -> None:
        self._deaf = True
        if linger:
            self.transport.write_eof() if self.transport.can_write_eof() else None
            asyncio.get_running_loop().call_later(LINGER_SECONDS, self.transport.close)
        else:
            self.transport.close()

    def shutdown(self) -> None:
        """The server stops: close when idle, else after the answer that is under way."""
        if not self._line and self._reading is None:
            self.transport.close()
        for incoming in self._line:
            incoming.keep_alive = False

    def tick(self, now: float, *, idle: float, head: float, body: float) -> None:
        """Look for who takes too long, in seconds: between two requests, to send a head, a byte of a body."""
        silent = now - self.since
        reading = self._reading
        if self._deaf:
            return
        if reading is None:
            if not self._line and silent > idle:
                self._close(linger=False)
        elif not reading.frozen:
            if reading.since == 0.0:
                reading.since = now
            elif now - reading.since > head:
                self._refuse_input(
                    InvalidRequest(
                        f"the request's head did not come within {head:g} s", status=408, code="head_timeout"
                    )
                )
        elif silent > body and reading.cycle is None and self._line and self._line[0] is reading:
            error = InvalidRequest(
                f"no byte of the request's body came for {body:g} s", status=408, code="body_timeout"
            )
            reading.keep_alive = False
            self._refuse(reading, error)


class Reply:
    """The client of one exchange or application, on a connection of ours. Head and first bytes leave together."""

    __slots__ = ("_bodiless", "_chunked", "_cors", "_door", "_head", "_incoming")

    def __init__(self, door: FrontDoor, incoming: Incoming, cors: Headers) -> None:
        self._door = door
        self._incoming = incoming
        self._cors = cors
        self._head = b""
        self._chunked = False
        self._bodiless = incoming.method == "HEAD"

    def head(self, status: int, headers: Headers) -> None:
        incoming = self._incoming
        lines = [_LINE.get(status) or b"HTTP/1.1 %d \r\n" % status, self._door.hall.standing_headers()]
        sized = False
        for name, value in headers:
            if name == b"content-length":
                sized = True
            lines += (name, b": ", value, b"\r\n")
        for name, value in self._cors:
            lines += (name, b": ", value, b"\r\n")
        if status in (204, 304):
            self._bodiless = True
        elif not sized:
            if incoming.version == "1.1":
                self._chunked = True
                lines.append(b"transfer-encoding: chunked\r\n")
            else:  # an HTTP/1.0 client knows no chunks: the end of the connection is the end of the answer
                incoming.keep_alive = False
        if not incoming.keep_alive:
            lines.append(b"connection: close\r\n")
        elif incoming.version == "1.0":
            lines.append(b"connection: keep-alive\r\n")
        lines.append(b"\r\n")
        self._head = b"".join(lines)

    def write(self, data: bytes) -> None:
        head, self._head = self._head, b""
        transport = self._door.transport
        if self._bodiless:
            if head:
                transport.write(head)
        elif self._chunked:
            size = b"%x\r\n" % len(data)
            if len(data) < JOIN_BELOW:
                transport.write(b"".join((head, size, data, b"\r\n")))
            else:
                transport.writelines((head + size, data, b"\r\n"))
        elif not head:
            transport.write(data)
        elif len(data) < JOIN_BELOW:
            transport.write(head + data)
        else:
            transport.writelines((head, data))

    def end(self) -> None:
        head, self._head = self._head, b""
        if self._chunked and not self._bodiless:
            self._door.transport.write(head + b"0\r\n\r\n")
        elif head:
            self._door.transport.write(head)
        self._door.answered(self._incoming)

    def abort(self) -> None:
        head, self._head = self._head, b""
        if head:
            self._door.transport.write(head)
        self._door.cut()


def _head_too_large() -> InvalidRequest:
    return InvalidRequest(
        f"the request's head is larger than {MAX_HEAD} bytes, or has more than {MAX_HEADERS} headers",
        status=431,
        code="head_too_large",
    )
