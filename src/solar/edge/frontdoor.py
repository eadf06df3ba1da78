"""The front door of `solar serve`: HTTP/1.1 read and written by ourselves, before the same reception and exchange.

One object a connection. Requests are answered in the order in which they came. What llhttp lets through and nobody
should is refused here, in JSON. Paths that the router does not know go to an ASGI application.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from solar.core.headers import Block
from solar.core.paths import locate
from solar.edge.cycle import Cycle
from solar.edge.exchange import Exchange
from solar.edge.hall import HEAD_SECONDS, IDLE_SECONDS, TAKE_SECONDS, Hall
from solar.edge.handover import hand_over
from solar.edge.incoming import Incoming, KnownRequest
from solar.edge.peer import has_left, reset_on_close
from solar.edge.reader import Reader
from solar.edge.reception import BODY_SECONDS
from solar.edge.reply import Reply
from solar.edge.request import Answer, Asked
from solar.errors import InvalidRequest, SolarError

BEHIND: Final = 64 * 1024  # bytes of further requests that are read while one is being answered
SKIP: Final = 64 * 1024  # bytes of a refused body that are read past, to keep the connection
LINGER_SECONDS = 2.0  # that a refused client may go on sending, so that it reads why

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class FrontDoor(Reader):
    """One client's connection: an asyncio.Protocol in all but its base, which a compiled class cannot have."""

    def __init__(self, hall: Hall) -> None:
        super().__init__(hall.heads)
        self.hall = hall
        self._line: deque[Incoming] = deque()  # requests in order; the first is being answered
        self._behind = 0  # bytes of the requests whose turn has not come
        self._reading_paused = self._advancing = self._eof = False
        self.full = False  # the client reads slower than we write
        self._owed = 0  # bytes that waited for it at the last look
        self._owed_since = 0.0  # when they became so few
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
        self.since = self.hall.now
        self.hall.enter(self)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self.since = self.hall.now
        self._read(data)
        if self._behind or self._reading_paused or (self._line and self._line[0].cycle is not None):
            self._mind_the_queue()

    def eof_received(self) -> bool:
        """A client of an inference that closes its side has left; others still get their answer."""
        self.hall.outbox.hand_over(self.transport)  # False below closes the connection
        front = self._line[0] if self._line else None
        if front is None or front.answered or not front.complete:
            return False
        if front.exchange is not None:
            front.exchange.client_gone()  # at once: what is written already may take its time
            return False
        if front.cycle is not None:
            front.cycle.hang_up()
        self._eof = not self.hall.tls  # TLS cannot be closed on one side
        return self._eof

    def connection_lost(self, error: Exception | None) -> None:
        self.hall.leave(self)
        self._deaf = True
        line, self._line = self._line, deque()
        for incoming in line:
            if incoming.exchange is not None:
                incoming.exchange.client_gone()
            elif incoming.cycle is not None:
                incoming.cycle.disconnect()
            elif incoming.request is not None:
                self.hall.reception.left_early(incoming.request)
            incoming.exchange = None
        self.forget_parser()

    def pause_writing(self) -> None:
        self.full = True
        if self._line and (exchange := self._line[0].exchange) is not None:
            exchange.client_full()

    def resume_writing(self) -> None:
        self.full = False
        self._owed = 0  # it has taken some: what waits at the next look may be as much again, and is not the same
        if self._line:
            front = self._line[0]
            if front.exchange is not None:
                front.exchange.client_ready()
            elif front.cycle is not None:
                front.cycle.writable()
            self._advance()
            self._mind_the_queue()

    # --- what the reader says

    def _head_came(self, incoming: Incoming) -> None:
        if self._line or self.full:
            self._wait(incoming)
        else:
            self._line.append(incoming)
            self._arrive(incoming)

    def _body_came(self, incoming: Incoming, size: int) -> None:
        if not incoming.started:
            self._behind += size
        request = incoming.request
        if request is not None and incoming.size > request.reserved:
            try:
                self.hall.reception.reserve(request, incoming.size - request.reserved)
            except SolarError as error:
                self._refuse(incoming, error)
        elif incoming.cycle is not None:
            incoming.cycle.readable()

    def _offers(self, incoming: Incoming, rest: bytes) -> bool:
        return not self._line and hand_over(self, incoming, rest)

    def _request_came(self, incoming: Incoming) -> None:
        if incoming.answered:
            self._next(incoming)
        elif incoming.cycle is not None:
            incoming.cycle.readable()
        elif incoming.started:
            self._begin(incoming)

    # --- one request

    def _arrive(self, incoming: Incoming) -> None:
        """It is the first in line: decide by its head."""
        incoming.started = True
        hall = self.hall
        if incoming.refusal is not None:
            self._refuse(incoming, incoming.refusal)
            return
        asked = incoming.asked
        if asked is None:
            decoded, query = incoming.place()
            if hall.app is not None and locate(decoded).kind == "unknown":
                incoming.cycle = Cycle(self, incoming, decoded, query)
                hall.spawn(incoming.cycle)
                return
            asked = self._ask(incoming, decoded, query)
        request = hall.reception.arrive(asked, self.client)
        if request.answer is not None:
            self._answer(incoming, request.answer)
            return
        incoming.request = request
        size = incoming.size if incoming.length is None else incoming.length
        if size:
            try:
                hall.reception.reserve(request, size)
            except SolarError as error:
                self._refuse(incoming, error)
                return
        if incoming.complete:
            self._begin(incoming)
        else:
            self.ask_for_body(incoming)

    def _ask(self, incoming: Incoming, path: str, query: bytes) -> Asked:
        """What its head means; remembered where the next one will say the same."""
        headers = [header for header in incoming.headers if header[0] != b"content-length"]
        asked = self.hall.reception.read(incoming.method, path, query, headers)
        if (
            incoming.key is not None
            and incoming.length is not None
            and incoming.keep_alive
            and incoming.version == "1.1"
            and asked.endpoint is not None
            and asked.refusal is None
            and not any(name == b"expect" for name, _ in headers)
        ):
            self._heads.keep(incoming.key, KnownRequest(incoming.target, incoming.head_size, asked))
        return asked

    def ask_for_body(self, incoming: Incoming) -> None:
        """Tell a client that waits for a sign to go on."""
        if incoming.expects_continue:
            incoming.continued = True
            self.write(_CONTINUE)

    def _begin(self, incoming: Incoming) -> None:
        """Its body is complete: hand it over."""
        request = incoming.request
        if request is None or incoming.exchange is not None:
            return
        if self._eof:
            self.close()
            return
        if request.endpoint is not None:
            try:
                self.hall.reception.complete(request, incoming.take())
            except SolarError as error:
                self._refuse(incoming, error)
                return
        else:
            request.record.body_at = self.hall.reception.relay.clock()  # a body that nobody wants may have come first
        reply = Reply(self, incoming, request.asked.cors)
        incoming.exchange = exchange = Exchange(self.hall.reception.relay, reply, request)
        exchange.begin()
        if self.full:
            exchange.client_full()

    def _refuse(self, incoming: Incoming, error: SolarError) -> None:
        reception = self.hall.reception
        request = incoming.request or reception.stranger(incoming.method, incoming.headers, self.client)
        self._answer(incoming, reception.refuse(request, error))

    def fail(self, incoming: Incoming) -> None:
        """The application did not answer."""
        self._refuse(incoming, SolarError("the application failed"))

    def _answer(self, incoming: Incoming, answer: Answer) -> None:
        """A complete answer of our own; perhaps before the request's body is here."""
        incoming.skip()
        incoming.request = None
        if not incoming.complete and incoming.unread() > SKIP:
            incoming.keep_alive = False
        reply = Reply(self, incoming, [])
        reply.head(answer.status, Block(answer.headers), None, len(answer.body))
        if answer.body:
            reply.write(answer.body)
        reply.end()

    def answered(self, incoming: Incoming) -> None:
        """The answer to the first in line is written."""
        incoming.answered = True
        self.since = self.hall.now
        if incoming.refusal is not None:
            self._close(linger=True)
        elif incoming.complete:
            self._next(incoming)
        else:
            incoming.skip()
            if incoming.unread() > (SKIP if incoming.keep_alive else 0):
                self._close(linger=True)
            self._mind_the_queue()

    def cut(self, *, reset: bool = False) -> None:
        """An answer broke: what was written still goes out, and then the connection closes without the answer's end."""
        self._deaf = True
        if reset:
            self.hall.outbox.hand_over(self.transport)
            reset_on_close(self.transport)
            if self.hall.tls:  # closing would take leave first, as if the answer had ended
                asyncio.get_running_loop().call_soon(self.transport.abort)
                return
        self.close()

    def _next(self, done: Incoming) -> None:
        self._line.popleft()
        done.exchange = None  # it leads back here: without this, only the collector would free them
        if not done.keep_alive or (self._eof and not self._line):
            self._close(linger=False)
        elif self._line or self._reading_paused:
            self._advance()
            self._mind_the_queue()

    def _wait(self, incoming: Incoming) -> None:
        """Its turn has not come."""
        self._line.append(incoming)
        self._behind += incoming.head_size

    def _advance(self) -> None:
        """Let the first in line arrive, and whoever follows where it is answered at once."""
        if self._advancing:  # a loop further out goes on: many small requests at once must not nest
            return
        self._advancing = True
        try:
            while self._line and not (self._line[0].started or self.full or self.transport.is_closing()):
                incoming = self._line[0]
                self._behind -= incoming.head_size + incoming.size
                self._arrive(incoming)
        finally:
            self._advancing = False

    # --- the connection

    def write(self, data: bytes) -> None:
        """Send it, with whatever else is written in this turn of the loop."""
        self.hall.outbox.write(self.transport, data)

    def close(self) -> None:
        """Send what was written, then close."""
        self.hall.outbox.hand_over(self.transport)
        self.transport.close()

    def _refuse_input(self, error: SolarError) -> None:
        """What comes is no HTTP that we read: answer what is under way, then say why, then close."""
        if self._deaf:
            return
        self._deaf = True
        incoming, self._reading = self._reading or Incoming(), None
        incoming.keep_alive = False
        incoming.refusal = error
        if not self._line or self._line[-1] is not incoming:
            self._wait(incoming)
        if not incoming.started:
            self._advance()
        elif incoming.answered:
            self._close(linger=True)
        elif incoming.cycle is None:
            self._refuse(incoming, error)
        else:
            incoming.cycle.disconnect()
            if incoming.cycle.begun:
                self.cut(reset=True)
            else:
                self._refuse(incoming, error)

    def _mind_the_queue(self) -> None:
        """Read a little ahead, to see a client leave while it is being answered; but not without limit."""
        behind = self._behind
        if self._line and self._line[0].cycle is not None:
            behind += self._line[0].held
        if behind > BEHIND and not self._deaf:
            if not self._reading_paused and not self.transport.is_closing():
                self._reading_paused = True
                self.transport.pause_reading()
        elif self._reading_paused:
            self._reading_paused = False
            if not self.transport.is_closing():
                self.transport.resume_reading()

    def body_taken(self) -> None:
        """An application took what it had of a body: there is room again."""
        self._mind_the_queue()

    def _close(self, *, linger: bool) -> None:
        self._deaf = True
        if not linger:
            self.close()
        elif not self.transport.is_closing():
            self._mind_the_queue()
            self.hall.outbox.hand_over(self.transport)
            if self.transport.can_write_eof():
                self.transport.write_eof()
            asyncio.get_running_loop().call_later(LINGER_SECONDS, self.transport.close)

    def shutdown(self) -> None:
        """The server stops: close when idle, else after the answer that is under way."""
        if not self._line or self._line[0].answered:
            self.close()
        for incoming in self._line:
            incoming.keep_alive = False

    def tick(self, now: float) -> None:
        """Look for who takes too long: between two requests, to send a head, to send or take a byte."""
        if self.full and self._takes_nothing(now):
            self.transport.abort()
            return
        if self._reading_paused:  # then the end of the connection is not seen either
            if self._line and self._line[0].exchange is not None and has_left(self.transport):
                self.transport.abort()
            return
        silent = now - self.since
        if self._deaf:
            if silent > BODY_SECONDS and self.transport.is_closing():  # it does not read what it is still owed
                self.transport.abort()
            return
        reading = self._reading
        if reading is None:
            if not self._line and silent > IDLE_SECONDS:
                self._close(linger=False)
        elif not reading.frozen:
            if reading.since == 0.0:
                reading.since = now
            elif now - reading.since > HEAD_SECONDS:
                why = f"the request's head did not come within {HEAD_SECONDS:g} s"
                self._refuse_input(InvalidRequest(why, status=408, code="head_timeout"))
        elif reading.started and silent > BODY_SECONDS:
            why = f"no byte of the request's body came for {BODY_SECONDS:g} s"
            self._refuse_input(InvalidRequest(why, status=408, code="body_timeout"))

    def _takes_nothing(self, now: float) -> bool:
        """Whether for too long not a byte of what waits for the client has gone out."""
        owed = self.transport.get_write_buffer_size()
        if owed != self._owed:
            self._owed, self._owed_since = owed, now
        return now - self._owed_since > TAKE_SECONDS
