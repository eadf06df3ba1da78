"""One client request across its attempts: an object that events go into and calls come out of.

It has no task and no await. The door brings the request and hears `head`, `write`, `end` or `abort`; the transport
brings the answer; the relay's tick brings the time. Tests drive the same object with fakes for all three.

This part hears what happens; choosing.py says where the request goes, answering.py what the client hears.

    queued -> waiting -> (holding -> waiting ->) answering -> closed
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from solar.core.attempts import Outcome, outcome_of_status
from solar.core.headers import AnswerHeaders, Headers
from solar.edge import answers
from solar.edge.answering import ANSWERING, CLOSED, HOLDING, QUEUED, STATES, USAGE_IN_LAST, WAITING
from solar.edge.attempt import Attempt, HeldAnswer
from solar.edge.choosing import Choosing
from solar.edge.transport import Failure
from solar.errors import UpstreamFailed
from solar.sse import Watch

if TYPE_CHECKING:
    from solar.core.decision import Pick

LINGERS = 1.0  # seconds that a backend may take to end a stream whose client has left at its end


class Exchange(Choosing):
    """One client request, from its complete body to the last byte of its answer."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<Exchange {self.record.id} {STATES[self._state]}, {self.attempts!r}>"

    @property
    def moved_at(self) -> float:
        """When its backend last showed a sign of life. Only meaningful while one has it."""
        return self._attempt.moved_at

    @property
    def closed(self) -> bool:
        """Whether the books on this request are closed."""
        return self._state == CLOSED

    # --- to a backend

    def begin(self) -> None:
        """The request is complete: find it a backend."""
        relay = self._relay
        relay.open.add(self)
        relay.roster.budget.deposit()
        if (hook := relay.hooks.on_start) is not None:
            relay.tell(hook, self.record)
        if relay.stopping:
            return self._fail(answers.stopping())
        return self._place(self.record.body_at, new=True)

    def _send(self, pick: Pick, now: float) -> None:
        record = self.record
        relay = self._relay
        if self._last is not None:
            self._keep_try(now)
            relay.retried(record)
        self._attempt = attempt = Attempt(relay, pick.candidate, self.request, now)
        backend = attempt.member.backend
        self.attempts.began(backend.id)
        if self.attempts.count == 1:
            self._first_sent_at = now
        self._state = WAITING
        self._watch = None
        record.attempts = self.attempts.count
        record.backend = backend.id
        record.resolved = pick.candidate.model
        record.session_broken = pick.session_broken
        record.weighed = pick.weighed.bounded(pick.candidate)
        request = attempt.request(self.request)
        attempt.sent_at = attempt.moved_at = record.sent_at = relay.clock()  # what came before was our own part
        if (hook := relay.hooks.on_routed) is not None:
            relay.tell(hook, record)
        upstream = backend.upstream if backend.upstream is not None else relay.upstream
        call = upstream.send(request, self)
        # A transport may answer before `send` returns; then this attempt, or the whole exchange, is over already.
        if self._attempt is attempt and self._state in (WAITING, HOLDING, ANSWERING):
            attempt.call = call
            if self._paused and self._state == ANSWERING:
                call.pause()
        elif attempt.dropped:
            call.abort()

    # --- what the transport says

    def head(self, status: int, headers: Headers, length: int | None) -> None:
        """The backend answers with `status`: relay it, or hold it and ask another."""
        if self._state == CLOSED:
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
                self._state = HOLDING
                return
        self._state = ANSWERING
        stream = known.event_stream and 200 <= status < 300
        if self._head_sent and not stream:
            attempt.drop()
            attempt.judged_by_status(now)
            attempt.release(now)
            self._fail(UpstreamFailed(f"the backend answered {status} when the stream had begun"))
        elif stream and length is None and not known.encoded:
            self._watch = Watch(self.request.endpoint.wire if self.request.endpoint is not None else "plain")

    def chunk(self, data: bytes) -> None:
        """A piece of the answer's body. The first one is the commit."""
        if self._state == CLOSED:
            return None
        relay = self._relay
        now = relay.clock()
        attempt = self._attempt
        if self._state == HOLDING:
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
        if self._state == CLOSED:
            return None
        now = self._relay.clock()
        self._attempt.call = None
        if self._state == HOLDING:
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
        if self._state == CLOSED:
            return None
        now = self._relay.clock()
        self._attempt.call = None
        if self._state == HOLDING:
            self._held = None
            return self._held_done(now)
        if not self._committed:
            return self._attempt_failed(failure.outcome, failure.detail, now)
        return self._broken(now, "upstream_cut", failure.detail)

    # --- what the client does

    def client_gone(self) -> None:
        """The client left: its backend stops working for nobody, unless it is one that must not be interrupted."""
        if self._state == CLOSED or self._gone:
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
        if self._state == ANSWERING and self._attempt.call is not None:
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
        if self._state == QUEUED or self._state == CLOSED:
            return
        attempt = self._attempt
        if self._state == HOLDING:
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
            if self._state not in (QUEUED, WAITING) or not options.keepalive_while_waiting:
                return
            if not self._head_sent:
                self._send_head(200, answers.EVENT_STREAM, None)
        elif watch.inside or self._state != ANSWERING:
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
        if self._state not in (WAITING, ANSWERING) or self.attempts.taken:
            return
        route = self._route()
        if route is not None and self._relay.roster.may_go_elsewhere(route, self.attempts.tried, now):
            self._attempt.drop()
            self._attempt_failed(Outcome.STALLED, reason, now)

    def shut(self) -> None:
        """The gateway stops and will not wait any longer."""
        now = self._relay.clock()
        if self._state == CLOSED:
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
