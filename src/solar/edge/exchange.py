"""One client request across its attempts: an object that events go into and calls come out of.

It has no task and no await. The door brings the request and hears `head`, `write`, `end` or `abort`; the transport
brings the answer; the relay's tick brings the time. Tests drive the same object with fakes for all three.

    queued -> waiting -> (holding -> waiting ->) answering -> closed
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from solar.core.attempts import Attempts, Outcome, outcome_of_status
from solar.core.dialects import DIALECTS
from solar.core.headers import AnswerHeaders, Block, Headers
from solar.core.health import says_loading
from solar.core.record import End
from solar.core.roster import RETRY_AFTER_LOADING, Pick, Refusal
from solar.edge import answers
from solar.edge.attempt import Attempt, HeldAnswer
from solar.edge.request import Client, ClientRequest
from solar.edge.transport import Failure
from solar.errors import SolarError, UpstreamFailed
from solar.sse import Watch, usage_in

if TYPE_CHECKING:
    from solar.core.catalog import Route
    from solar.core.member import Member
    from solar.edge.relay import Relay

LINGERS = 1.0  # seconds that a backend may take to end a stream whose client has left at its end
USAGE_IN_LAST = 16 * 1024  # bytes at the end of a JSON answer that are searched for its usage

_QUEUED, _WAITING, _HOLDING, _ANSWERING, _CLOSED = range(5)
_STATES = ("queued", "waiting", "holding", "answering", "closed")


class Exchange:
    """One client request, from its complete body to the last byte of its answer."""

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
        self._state = _QUEUED
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

    def __repr__(self) -> str:
        return f"<Exchange {self.record.id} {_STATES[self._state]}, {self.attempts!r}>"

    @property
    def member(self) -> Member | None:
        """The backend that has the request now."""
        return self._attempt.member if self._state in (_WAITING, _HOLDING, _ANSWERING) else None

    @property
    def moved_at(self) -> float:
        """When its backend last showed a sign of life. Only meaningful while one has it."""
        return self._attempt.moved_at

    @property
    def closed(self) -> bool:
        """Whether the books on this request are closed."""
        return self._state == _CLOSED

    # --- finding a backend

    def begin(self) -> None:
        """The request is complete: find it a backend."""
        relay = self._relay
        relay.open.add(self)
        relay.roster.budget.deposit()
        if relay.stopping:
            return self._fail(answers.stopping())
        return self._place(self.record.body_at, new=True)

    def _route(self) -> Route | None:
        return self._relay.roster.resolve(self.record.model)

    def _choose(self, route: Route | None, now: float) -> Pick | Refusal:
        roster = self._relay.roster
        if route is not None:
            return roster.select(route, self.attempts.tried, self.request.session, now)
        if self.record.model and roster.may_appear():
            return Refusal("loading", RETRY_AFTER_LOADING, "a backend is loading that has not said which model")
        return Refusal("unknown", 0.0, "")

    def _waits_for(self, refusal: Refusal) -> bool:
        return refusal.why == "full" or (refusal.why == "loading" and self._relay.options.hold_while_loading)

    def _place(self, now: float, *, new: bool = False) -> None:
        """Send to the best candidate that was not tried; wait, or answer, where there is none."""
        roster = self._relay.roster
        route = roster.resolve(self.record.model)
        name = route.name if route is not None else ""  # one queue for all names that nobody knows yet
        if new and roster.room.seats and roster.room.waiting(name):  # nobody overtakes those who wait
            return self._join(name, now)
        if route is not None:
            choice = roster.select(route, self.attempts.tried, self.request.session, now)
        else:
            choice = self._choose(route, now)
        if isinstance(choice, Pick):
            return self._send(choice, now)
        if self._held is not None:
            return self._answer_held(self._held, now)
        if self._waits_for(choice):
            return self._join(name, now)
        if self._last is not None:
            return self._give_up(now)
        if choice.why == "unknown":
            return self._fail(answers.no_such_model(self.record.model))
        return self._fail(answers.unavailable(self.record.model, choice), detail=choice.detail)

    def _join(self, name: str, now: float) -> None:
        options = self._relay.roster.options
        if not self._relay.roster.room.join(name, self, now):
            return self._fail(answers.queue_full(self.record.model, options.queue_limit))
        self._state = _QUEUED
        self._queued_at = now
        return None

    def _leave_queue(self, now: float) -> None:
        if self._queued_at is not None:
            self._relay.roster.room.leave(self)
            self.record.queued += now - self._queued_at
            self._queued_at = None

    def place_freed(self) -> bool:
        """A place may be free: take it, or stay in the queue."""
        now = self._relay.clock()
        choice = self._choose(self._route(), now)
        if isinstance(choice, Refusal) and self._waits_for(choice):
            return False
        self._leave_queue(now)
        self._place(now)
        return True

    def queue_timeout(self) -> None:
        """It waited as long as one may."""
        self._leave_queue(self._relay.clock())
        self._fail(answers.queue_timeout(self.record.model, self._relay.roster.options.queue_seconds))

    def _send(self, pick: Pick, now: float) -> None:
        record = self.record
        if self._last is not None:
            self._relay.retried(self, self._attempt, *self._last)
        self._attempt = attempt = Attempt(self._relay, pick.candidate, self.request, now)
        backend = attempt.member.backend
        self.attempts.began(backend.id)
        if self.attempts.count == 1:
            self._first_sent_at = now
        self._state = _WAITING
        self._watch = None
        record.sent_at = now
        record.attempts = self.attempts.count
        record.backend = backend.id
        record.resolved = pick.candidate.model
        record.session_broken = pick.session_broken
        upstream = backend.upstream if backend.upstream is not None else self._relay.upstream
        call = upstream.send(attempt.request(self.request), self)
        # A transport may answer before `send` returns; then this attempt, or the whole exchange, is over already.
        if self._attempt is attempt and self._state in (_WAITING, _HOLDING, _ANSWERING):
            attempt.call = call
            if self._paused and self._state == _ANSWERING:
                call.pause()
        elif attempt.dropped:
            call.abort()

    # --- what the transport says

    def head(self, status: int, headers: Headers, length: int | None) -> None:
        """The backend answers with `status`: relay it, or hold it and ask another."""
        if self._state == _CLOSED:
            return
        now = self._relay.clock()
        attempt = self._attempt
        known = headers if isinstance(headers, AnswerHeaders) else AnswerHeaders(headers)
        attempt.answered(status, known, length, now)
        if not 200 <= status < 429:
            outcome = outcome_of_status(status)
            if outcome is not Outcome.ANSWERED and self._goes_elsewhere(attempt, outcome, now):
                self.record.upstream_seconds += now - attempt.sent_at
                self._held = HeldAnswer(attempt, now)
                self._state = _HOLDING
                return
        self._state = _ANSWERING
        stream = known.event_stream and 200 <= status < 300
        if self._head_sent and not stream:
            attempt.drop()
            attempt.judged_by_status(now)
            attempt.release(now)
            self._fail(UpstreamFailed(f"the backend answered {status} when the stream had begun"))
        elif stream and length is None and not known.encoded:
            self._watch = Watch(self.request.endpoint.wire if self.request.endpoint is not None else "plain")

    def _goes_elsewhere(self, attempt: Attempt, outcome: Outcome, now: float) -> bool:
        """Whether another backend is asked instead of relaying a failing status."""
        roster = self._relay.roster
        self._last = (outcome, f"{attempt.member.backend.id} answered {attempt.status}")
        if outcome is Outcome.BUSY:
            attempt.rests(now)
        if self._gone or not self.attempts.may_retry(outcome, committed=self._committed):
            return False
        route = self._route()
        if route is None or not roster.may_go_elsewhere(route, self.attempts.tried, now):
            return self._may_wait_for(attempt)
        if not roster.budget.withdraw(now):
            return False
        if attempt.status == 500:
            self._forget_500(now)
            self._unproved_500 = attempt
        return True

    def _may_wait_for(self, attempt: Attempt) -> bool:
        """Whether its 503 may turn out to say "loading", and that is to be waited for."""
        roster = self._relay.roster
        hold = self._relay.options.hold_while_loading and attempt.status == 503
        return hold and self.record.queued < roster.options.queue_seconds

    def chunk(self, data: bytes) -> None:
        """A piece of the answer's body. The first one is the commit."""
        if self._state == _CLOSED:
            return None
        relay = self._relay
        now = relay.clock()
        attempt = self._attempt
        if self._state == _HOLDING:
            if self._held is not None and not self._held.keep(data):
                self._held = None
                if attempt.call is not None:  # else `send` has not returned: what it still says is none of the next one
                    attempt.drop()
                    self._held_done(now)
            return None
        watch = self._watch
        if watch is not None and data[:1] == b":" and watch.only_comments(data):
            return self._comment(data, now)
        if not self._committed:
            self._commit(now)
        elif watch is not None:
            relay.metrics.gap(now - attempt.moved_at)
        attempt.moved_at = now
        attempt.member.stall.moved(now, attempt.watched)
        if watch is not None:
            data = watch.feed(data)
            if not data:
                return None
        else:
            self._tail = data if len(data) >= 1024 else (self._tail + data)[-USAGE_IN_LAST:]
        if not self._gone:  # as _write does: this is every chunk of every stream
            self._last_out = now
            self.record.bytes_out += len(data)
            self._client.write(data)
        return None

    def _comment(self, data: bytes, now: float) -> None:
        """The backend keeps its connection alive: passed on, but no answer yet, and no sign that its engine moves."""
        if (data := self._watch.feed(data) if self._watch is not None else data) == b"":
            return
        if not self._head_sent:
            self._relay_head()
        self._write(data, now)

    def end(self) -> None:
        """The answer's framing says that it is complete."""
        if self._state == _CLOSED:
            return None
        now = self._relay.clock()
        self._attempt.call = None
        if self._state == _HOLDING:
            return self._held_done(now)
        watch = self._watch
        if watch is not None:
            if not watch.finished(clean=True):
                if self._committed:
                    return self._broken(now, "upstream_cut", "the stream ended before its end")
                return self._attempt_failed(Outcome.RESET, "the stream ended before its first byte", now)
            if rest := watch.rest():
                self._write(rest, now)
        if not self._committed:
            self._commit(now)
        return self._complete(now)

    def failed(self, failure: Failure) -> None:
        """The transport lost the answer, or never got one."""
        if self._state == _CLOSED:
            return None
        now = self._relay.clock()
        self._attempt.call = None
        if self._state == _HOLDING:
            self._held = None
            return self._held_done(now)
        if not self._committed:
            return self._attempt_failed(failure.outcome, failure.detail, now)
        return self._broken(now, "upstream_cut", failure.detail)

    # --- towards the client

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

    # --- failure

    def _attempt_failed(self, outcome: Outcome, detail: str, now: float) -> None:
        """An attempt ended without a byte for the client: another backend, or an error."""
        attempt = self._attempt
        self.record.upstream_seconds += now - attempt.sent_at
        self._last = (outcome, f"{attempt.member.backend.id}: {detail}")
        attempt.failed(now, detail)
        attempt.release(now)
        if self._gone:
            return self._close("client_gone", now)
        if not self.attempts.may_retry(outcome, committed=self._committed):
            return self._give_up(now)
        if not self._relay.roster.budget.withdraw(now):
            return self._give_up(now)
        return self._place(now)

    def _held_done(self, now: float) -> None:
        """The failing answer is complete, or given up: now ask another backend."""
        attempt = self._attempt
        if self._unproved_500 is not attempt:
            attempt.judged_by_status(now)
        held = self._held
        if held is not None and self._may_wait_for(attempt) and says_loading(b"".join(held.parts)):
            attempt.member.health.loading(now, 0.0)  # it said so before a probe could find out
            self.attempts.tried.discard(attempt.member.backend.id)
            self._held = None
        attempt.release(now)
        if self._gone:
            return self._close("client_gone", now)
        return self._place(now)

    def _answer_held(self, held: HeldAnswer, now: float) -> None:
        """Nobody did better: the client gets the answer that was held, as it came."""
        self._held = None
        self._attempt = attempt = held.attempt
        if self._head_sent:
            return self._fail(UpstreamFailed(f"the backend answered {attempt.status}"))
        attempt.length = held.size
        self.record.backend = attempt.member.backend.id
        self._watch = None
        self.record.first_byte_at = now
        self._relay_head()
        for part in held.parts:
            self._write(part, now)
        if not self._gone:
            self._client.end()
        return self._close(_end_of(attempt.status), now, code=f"upstream_{attempt.status}")

    def _forget_500(self, now: float) -> None:
        """Nobody contradicted it: it was the request's own fault, as far as we know."""
        attempt, self._unproved_500 = self._unproved_500, None
        if attempt is not None:
            attempt.abandoned(now)

    def _give_up(self, now: float) -> None:
        """Everything allowed was tried."""
        if self._held is not None:
            return self._answer_held(self._held, now)
        outcome, detail = self._last or (Outcome.REFUSED, "")
        return self._fail(answers.gave_up(self.record.model, outcome, self.attempts.count), detail=detail)

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

    # --- what the client does

    def client_gone(self) -> None:
        """The client left: its backend stops working for nobody, unless it is one that must not be interrupted."""
        if self._state == _CLOSED or self._gone:
            return
        now = self._relay.clock()
        self._gone = True
        # SDKs leave at [DONE]; the backend is about to end, and its connection can be kept.
        self._served = self._watch is not None and self._watch.finished(clean=False)
        member = self.member
        if self._served or (member is not None and member.backend.cancel == "drain"):
            if self._paused:
                self.client_ready()
            return
        self._withdraw(now)
        self._close("client_gone", now)

    def _withdraw(self, now: float) -> None:
        """Leave the queue or the backend, wherever the request is. It says nothing about anybody."""
        self._leave_queue(now)
        if self.member is not None:
            self._attempt.drop()
            if self._unproved_500 is not self._attempt:
                self._attempt.abandoned(now)
            self._attempt.release(now)

    def client_full(self) -> None:
        """The client reads slower than the backend writes: stop reading there."""
        self._paused = True
        if self._state == _ANSWERING and self._attempt.call is not None:
            self._attempt.call.pause()

    def client_ready(self) -> None:
        """The client has caught up."""
        self._paused = False
        if self.member is not None and self._attempt.call is not None:
            self._attempt.not_read(self._relay.clock())
            self._attempt.call.resume()

    # --- what time brings

    def tick(self, now: float) -> None:
        """Look at the clocks: several times a second is often enough."""
        self._keep_alive(now)
        if self._state == _QUEUED or self._state == _CLOSED:
            return
        attempt = self._attempt
        if self._state == _HOLDING:
            if self._held is None or now - self._held.since > HeldAnswer.SECONDS:
                self._held = None
                attempt.drop()
                self._held_done(now)
            return
        if self._paused and self._committed:
            attempt.not_read(now)
        late = attempt.overdue(now, committed=self._committed)
        total = attempt.timeouts.total
        if late is None and total is not None and now - self._first_sent_at > total:
            late = f"not complete within {total:g} s"
        if self._served and now - attempt.moved_at > LINGERS:
            late = "it did not end behind the stream's own end"
        if late is not None:
            attempt.drop()
            if self._committed:
                self._broken(now, "upstream_timeout", late)
            else:
                self._attempt_failed(Outcome.TIMEOUT, late, now)

    def _keep_alive(self, now: float) -> None:
        """A comment for a client that waits for a stream, between events only."""
        options = self._relay.options
        if not self.request.peek.stream or not options.keepalive_seconds or self._gone or self._paused:
            return
        if now - self._last_out < options.keepalive_seconds:
            return
        watch = self._watch
        if watch is None:
            if self._state not in (_QUEUED, _WAITING) or not options.keepalive_while_waiting:
                return
            if not self._head_sent:
                self._send_head(200, answers.EVENT_STREAM, None)
        elif watch.inside or self._state != _ANSWERING:
            return
        elif not self._head_sent:
            self._relay_head()
        self._last_out = now
        self._client.write(b": keep-alive\n\n")

    def stalled(self, now: float, reason: str) -> None:
        """Its backend is stalled: what has no first byte moves where it can; an open stream ends truthfully."""
        if self._committed:
            if self._watch is not None:
                self._attempt.drop()
                self._broken(now, "upstream_stalled", reason)
            return
        if self._state not in (_WAITING, _ANSWERING) or self.attempts.taken:
            return
        route = self._route()
        if route is not None and self._relay.roster.may_go_elsewhere(route, self.attempts.tried, now):
            self._attempt.drop()
            self._attempt_failed(Outcome.STALLED, reason, now)

    def shut(self) -> None:
        """The gateway stops and will not wait any longer."""
        now = self._relay.clock()
        if self._state == _CLOSED:
            return
        self._withdraw(now)
        if self._committed:
            self._cut(now, "shutdown")
        else:
            self._fail(answers.stopping())

    def unacknowledged(self) -> bool:
        """Whether bytes sent to its backend stay without an acknowledgement."""
        call = self._attempt.call if self.member is not None else None
        return call is not None and call.unacknowledged()

    # --- the books

    def _close(self, end: End, now: float, *, code: str | None = None, detail: str = "") -> None:
        if self._state == _CLOSED:  # the client left while it was told the end
            return
        self._state = _CLOSED
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
        self._relay.closed(self)


def _end_of(status: int) -> End:
    return "success" if status < 400 else "rejected" if status < 500 else "failed"
