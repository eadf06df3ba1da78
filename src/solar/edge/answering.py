"""What the client of an exchange hears: heads, bytes, errors; and how it ends.

One of the three parts of an exchange. It has its state, which choosing.py and exchange.py move on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from solar.core.attempts import Attempts, Outcome
from solar.core.decision import Try
from solar.core.dialects import DIALECTS
from solar.core.headers import Block
from solar.core.record import End
from solar.edge import answers
from solar.edge.attempt import Attempt, HeldAnswer
from solar.edge.request import Client, ClientRequest
from solar.errors import SolarError, UpstreamFailed
from solar.sse import Watch, usage_in

if TYPE_CHECKING:
    from solar.core.member import Member
    from solar.edge.relay import Relay

USAGE_IN_LAST: Final = 16 * 1024  # bytes at the end of a JSON answer that are searched for its usage

QUEUED: Final = 0
WAITING: Final = 1
HOLDING: Final = 2
ANSWERING: Final = 3
CLOSED: Final = 4
STATES = ("queued", "waiting", "holding", "answering", "closed")


class Answering:
    """The part of an exchange that speaks to its client."""

    __slots__ = (
        "_attempt", "_client", "_committed", "_first_sent_at", "_gone", "_head_sent", "_held", "_last", "_last_out",
        "_paused", "_queued_at", "_relay", "_served", "_state", "_tail", "_unproved_500", "_watch", "attempts",
        "record", "request",
    )  # fmt: skip

    _attempt: Attempt  # the current one; set once the first has begun

    def __init__(self, relay: Relay, client: Client, request: ClientRequest) -> None:
        self._relay = relay
        self._client = client
        self.request = request
        self.record = request.record
        self.attempts = Attempts()
        self._state = QUEUED
        self._queued_at: float | None = None
        self._first_sent_at = 0.0
        self._held: HeldAnswer | None = None
        self._unproved_500: Attempt | None = None  # counts once another backend answers the same request
        self._last: tuple[Outcome, str] | None = None  # how the last attempt ended
        self._watch: Watch | None = None
        self._tail = b""
        self._last_out = request.record.started_at
        self._committed = False  # a body byte of an answer has come: there is no other backend any more
        self._head_sent = False
        self._paused = False
        self._gone = False
        self._served = False  # the client has had the whole stream before it left

    @property
    def member(self) -> Member | None:
        """The backend that has the request now."""
        return self._attempt.member if self._state in (WAITING, HOLDING, ANSWERING) else None

    # --- while it goes well

    def _commit(self, now: float) -> None:
        """The first body byte is here: from now on there is no other backend."""
        attempt = self._attempt
        self._committed = True
        self.record.first_byte_at = now
        self.record.upstream_seconds += now - attempt.sent_at
        if attempt.status < 500 and attempt.member.breaker.state != "closed":
            attempt.proved(now)
        if attempt.status < 400 and self._unproved_500 is not None:  # a 4xx: the request was at fault, for both
            blamed, self._unproved_500 = self._unproved_500, None
            blamed.failed(now, "it answered 500 where another backend answered")
        self._relay.release_body(self.request)
        if not self._head_sent:
            self._relay_head()

    def _relay_head(self) -> None:
        """Send the head of the backend's answer, as the client shall see it."""
        attempt = self._attempt
        headers = attempt.headers.passed if self._watch is None else attempt.headers.as_stream
        if attempt.status >= 500:
            headers = answers.with_retry_advice(headers, self.attempts.count)
        self._send_head(attempt.status, headers, attempt.length)

    def _send_head(self, status: int, headers: Block, length: int | None) -> None:
        if not self._gone:
            self.record.status = status
            self._head_sent = True
            self._client.head(status, headers, self.record, length)

    def _write(self, data: bytes, now: float) -> None:
        if not self._gone:
            self._last_out = now
            self.record.bytes_out += len(data)
            self._client.write(data)

    def _complete(self, now: float) -> None:
        attempt = self._attempt
        attempt.judged_by_status(now)
        attempt.release(now)
        if not self._gone:
            self._client.end()
        if attempt.status < 400:
            self._close("success", now)
        else:
            self._close(_end_of(attempt.status), now, code=f"upstream_{attempt.status}")

    # --- when it does not

    def _answer_held(self, held: HeldAnswer, now: float) -> None:
        """Nobody did better: the client gets the answer that was held, as it came."""
        if held.attempt is not self._attempt:
            self._keep_try(now)
        self._held = None
        self._attempt = attempt = held.attempt
        if self._head_sent:
            return self._fail(UpstreamFailed(f"the backend answered {attempt.status}"))
        attempt.length = held.size
        self.record.backend = attempt.member.backend.id
        self.record.resolved = attempt.candidate.model
        self._watch = None
        self.record.first_byte_at = now
        self._relay_head()
        for part in held.parts:
            self._write(part, now)
        if not self._gone:
            self._client.end()
        return self._close(_end_of(attempt.status), now, code=f"upstream_{attempt.status}")

    def _broken(self, now: float, code: str, detail: str) -> None:
        """The answer broke after its first byte: say so in its own format, and close without the end mark."""
        if self._watch is not None and self._watch.finished(clean=False):  # its own end had come: nothing is missing
            return self._complete(now)
        self._attempt.failed(now, detail)
        return self._cut(now, code, detail)

    def _cut(self, now: float, code: str, detail: str = "") -> None:
        self._attempt.release(now)
        watch = self._watch
        if not self._gone:
            if watch is not None and not watch.inside and not watch.error_seen():
                self._client.write(watch.error_event(answers.cut_short(code), code, request_id=self.record.id))
            self._client.abort()
        self._close("broken", now, code=code, detail=detail)

    def _fail(self, error: SolarError, *, detail: str = "") -> None:
        """Answer with an error of our own, in the wire's own shape."""
        now = self._relay.clock()
        record = self.record
        wire = self.request.wire
        detail = detail or error.message
        if self._head_sent:
            if not self._gone:
                dialect = DIALECTS[self.request.endpoint.wire if self.request.endpoint is not None else "plain"]
                self._client.write(dialect.error_event(error.message, error.code or "error", request_id=record.id))
                self._client.abort()
            return self._close("broken", now, code=error.code, detail=detail)
        body, headers = answers.error_answer(error, wire, record.id, attempts=self.attempts.count)
        self._send_head(error.status, Block(headers), len(body))
        self._write(body, now)
        if not self._gone:
            self._client.end()
        return self._close(_end_of(error.status), now, code=error.code, detail=detail)

    # --- the books

    def _keep_try(self, now: float) -> None:
        """The last attempt failed, and was not the last word: it is written down, once."""
        record = self.record
        if self._last is not None and len(record.tries) < self.attempts.count:
            outcome, detail = self._last
            attempt = self._attempt
            tried = Try(record.backend, record.resolved, attempt.sent_at, now, outcome.value, detail, record.weighed)
            record.tries = (*record.tries, tried)

    def _forget_500(self, now: float) -> None:
        """Nobody contradicted it: it was the request's own fault, as far as we know."""
        attempt, self._unproved_500 = self._unproved_500, None
        if attempt is not None:
            attempt.abandoned(now)

    def _close(self, end: End, now: float, *, code: str | None = None, detail: str = "") -> None:
        if self._state == CLOSED:  # the client left while it was told the end
            return
        self._state = CLOSED
        if self._unproved_500 is not None:
            self._forget_500(now)
        record = self.record
        record.ended_at = now
        record.end = "client_gone" if self._gone and not self._served else end
        record.code = code
        record.detail = detail
        if self._gone and not self._head_sent:
            record.status = 499
        watch = self._watch
        if watch is not None:
            record.stream = True
            record.events = watch.events
            record.tokens_in, record.tokens_out = watch.usage()
        elif self._tail:
            record.tokens_in, record.tokens_out = usage_in(self._tail[-USAGE_IN_LAST:])
        self._relay.closed(self)  # type: ignore[arg-type]  # it is an Exchange: this part has no life of its own


def _end_of(status: int) -> End:
    return "success" if status < 400 else "rejected" if status < 500 else "failed"
