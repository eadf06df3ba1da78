"""One client request across its attempts: an object that events go into and calls come out of.

It has no task and no await. The door brings the request and hears `head`, `write`, `end` or `abort`; the transport
brings the answer; the relay's tick brings the time. Tests drive the same object with fakes for all three.

    queued -> waiting -> (holding ->) answering -> closed
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from solar.core.attempts import Attempts, Outcome, outcome_of_status
from solar.core.backend import Timeouts
from solar.core.dialects import DIALECTS
from solar.core.headers import Headers, to_backend, to_client, value_of
from solar.core.openai import Peek, error_body, splice
from solar.core.paths import Endpoint
from solar.core.record import End, Record
from solar.core.rest import retry_after
from solar.core.roster import Pick, Refusal
from solar.edge.transport import Call, Failure, UpstreamRequest
from solar.errors import InvalidRequest, ModelNotFound, NoBackendAvailable, SolarError, TooManyRequests, UpstreamFailed
from solar.sse import Watch, usage_in

if TYPE_CHECKING:
    from solar.core.load import Slot
    from solar.core.member import Member
    from solar.core.select import Candidate
    from solar.core.stall import Watched
    from solar.edge.relay import Relay

HELD_ANSWER = 64 * 1024  # bytes of a failing answer that are kept while another backend is asked
HELD_SECONDS = 5.0  # that such an answer may take to arrive
USAGE_IN_LAST = 64 * 1024  # bytes at the end of a JSON answer that are searched for its usage

_QUEUED, _WAITING, _HOLDING, _ANSWERING, _CLOSED = range(5)
_NO_PEEK = Peek(None, False, None, False, None, None)


class Client(Protocol):
    """The door's side of one exchange. None of these may raise or block."""

    def head(self, status: int, headers: Headers) -> None:
        """Status and headers of the answer; content-length is among them where it is known."""
        ...

    def write(self, data: bytes) -> None:
        """A piece of the body."""
        ...

    def end(self) -> None:
        """The answer is complete."""
        ...

    def abort(self) -> None:
        """The answer is cut: close the connection without the mark of a complete body."""
        ...


class ClientRequest:
    """What the door read of one request."""

    __slots__ = ("body", "endpoint", "headers", "method", "peek", "query", "record", "reserved", "session", "target")

    def __init__(self, record: Record, endpoint: Endpoint | None, headers: Headers, *, query: bytes = b"") -> None:
        self.record = record
        self.endpoint = endpoint  # None: a GET that goes to the default backend
        self.method = b"POST"
        self.target = b""  # the path under /v1 where there is no endpoint
        self.headers = headers  # names in lower case
        self.query = query  # without the question mark, passed on as it came
        self.body = b""
        self.peek: Peek = _NO_PEEK
        self.session: str | None = None
        self.reserved = 0  # bytes of the buffer budget that the body holds


class Exchange:
    """One client request, from its complete body to the last byte of its answer."""

    __slots__ = (
        "_body", "_call", "_candidate", "_client", "_committed", "_epoch", "_gone", "_head_sent", "_headers", "_held",
        "_last", "_last_out", "_length", "_member", "_moved_at", "_own_500", "_paused", "_queued_at", "_relay", "_sent_at",
        "_slot", "_state", "_status", "_tail", "_timeouts", "_watch", "_watched", "attempts", "record", "request",
    )  # fmt: skip

    # Set with the first attempt, and meaningful from then on.
    _candidate: Candidate
    _member: Member
    _timeouts: Timeouts

    def __init__(self, relay: Relay, client: Client, request: ClientRequest) -> None:
        self._relay = relay
        self._client = client
        self.request = request
        self.record = request.record
        self.attempts = Attempts()
        self._state = _QUEUED
        self._queued_at: float | None = None
        self._body: bytes = request.body
        self._slot: Slot | None = None
        self._watched: Watched | None = None
        self._call: Call | None = None
        self._epoch = 0
        self._sent_at = self._moved_at = self._last_out = request.record.started_at
        self._status = 0
        self._headers: Headers = []
        self._length: int | None = None
        self._watch: Watch | None = None
        self._tail = b""
        self._held: _Held | None = None
        self._own_500: tuple[Member, int] | None = None
        self._last: tuple[Outcome, str] | None = None
        self._committed = False
        self._head_sent = False
        self._paused = False
        self._gone = False

    def __repr__(self) -> str:
        state = ("queued", "waiting", "holding", "answering", "closed")[self._state]
        return f"<Exchange {self.record.id} {state}, {self.attempts!r}>"

    @property
    def member(self) -> Member | None:
        """The backend that has the request now."""
        return self._member if self._state in (_WAITING, _HOLDING, _ANSWERING) else None

    @property
    def closed(self) -> bool:
        """Whether the books on this request are closed."""
        return self._state == _CLOSED

    # --- placing the request

    def begin(self) -> None:
        """The request is complete: find it a backend."""
        relay = self._relay
        relay.open.add(self)
        relay.roster.budget.deposit()
        self._place(relay.clock(), new=True)

    def _place(self, now: float, *, new: bool = False) -> None:
        """Send to the best candidate that was not tried; wait or refuse where there is none."""
        roster = self._relay.roster
        if self._relay.stopping:
            return self._refuse(NoBackendAvailable("the gateway is stopping", code="shutdown", retry_after=1.0))
        route = roster.resolve(self.record.model or None)
        if route is None:
            return self._refuse(_no_such_model(self.record.model))
        if new and roster.room.waiting(route.name):  # nobody overtakes those who wait
            return self._join(route.name, now)
        choice = roster.select(route, self.attempts.tried, self.request.session, now)
        if isinstance(choice, Pick):
            return self._send(choice, now)
        if self._held is not None:
            return self._answer_held(now)
        if choice.why == "full" or (choice.why == "loading" and self._relay.options.hold_while_loading):
            return self._join(route.name, now)
        if self._last is not None:
            return self._give_up()
        return self._refuse(_unavailable(self.record.model, choice))

    def _join(self, name: str, now: float) -> None:
        roster = self._relay.roster
        if self._state == _QUEUED and self._queued_at is not None:
            return None  # it waits already
        if not roster.room.join(name, self, now):
            return self._refuse(
                TooManyRequests(
                    f"every backend of {self.record.model!r} is full and {roster.options.queue_limit} requests wait; "
                    "try again later",
                    retry_after=_RETRY_AFTER_FULL,
                )
            )
        self._state = _QUEUED
        self._queued_at = now
        return None

    def place_freed(self) -> bool:
        """A place may be free: take it, or stay in the queue."""
        relay = self._relay
        now = relay.clock()
        route = relay.roster.resolve(self.record.model or None)
        if route is not None:
            choice = relay.roster.select(route, self.attempts.tried, self.request.session, now)
            if isinstance(choice, Refusal) and (
                choice.why == "full" or (choice.why == "loading" and relay.options.hold_while_loading)
            ):
                return False
        self._leave_queue(now)
        self._place(now)
        return True

    def _leave_queue(self, now: float) -> None:
        self._relay.roster.room.leave(self)
        if self._queued_at is not None:
            self.record.queued += now - self._queued_at
            self._queued_at = None

    def queue_timeout(self) -> None:
        """It waited as long as one may."""
        self._leave_queue(self._relay.clock())
        seconds = self._relay.roster.options.queue_seconds
        self._refuse(
            TooManyRequests(
                f"no backend of {self.record.model!r} had room within {seconds:g} s; try again later",
                code="queue_timeout",
                retry_after=_RETRY_AFTER_FULL,
            )
        )

    def _send(self, pick: Pick, now: float) -> None:
        relay = self._relay
        request = self.request
        record = self.record
        candidate = self._candidate = pick.candidate
        member = self._member = candidate.member
        backend = member.backend
        self._slot = member.load.take(candidate.size)
        self._epoch = member.breaker.began(now)
        self._watched = member.stall.sent(now, streaming=request.peek.stream, prompt_tokens=len(self._body) // 4)
        relay.roster.picked(candidate)
        self.attempts.began(backend.id)
        self._timeouts = timeouts = backend.timeouts_for(candidate.model)
        self._state = _WAITING
        self._status = 0
        self._watch = None
        self._sent_at = self._moved_at = record.sent_at = now
        number = record.attempts = self.attempts.count
        record.backend = backend.id
        record.resolved = candidate.model
        record.session_broken = pick.session_broken
        body = self._body
        if request.peek.span is not None and candidate.model != request.peek.model:
            body = splice(body, request.peek, candidate.model)
        upstream = backend.upstream if backend.upstream is not None else relay.upstream
        call = upstream.send(
            UpstreamRequest(
                backend,
                request.method,
                self._target(),
                self._request_headers(),
                body,
                timeouts.connect,
            ),
            self,
        )
        # A transport may answer before `send` returns; then this attempt, or the whole exchange, is over already.
        if self._state in (_WAITING, _HOLDING, _ANSWERING) and self.attempts.count == number:
            self._call = call

    def _target(self) -> bytes:
        backend = self._member.backend
        endpoint = self.request.endpoint
        if endpoint is None:
            path = backend.prefix.encode() + self.request.target
        else:
            path = ((backend.prefix if endpoint.versioned else backend.root) + endpoint.upstream).encode()
        return path + b"?" + self.request.query if self.request.query else path

    def _request_headers(self) -> Headers:
        headers = to_backend(self.request.headers)
        headers.append((b"accept-encoding", b"identity"))
        headers.append((b"x-request-id", self.record.id.encode("latin-1")))
        key = self._member.backend.api_key
        if key is not None:
            secret = key.encode("ascii")
            headers.append((b"authorization", b"Bearer " + secret))
            if self.request.endpoint is not None and self.request.endpoint.wire == "messages":
                headers.append((b"x-api-key", secret))
        return headers

    # --- what the transport says

    def head(self, status: int, headers: Headers, length: int | None) -> None:
        """The backend answers with `status`: relay it, or hold it and ask another."""
        now = self._relay.clock()
        member = self._member
        member.stall.moved(now, None)
        self._moved_at = now
        self._status, self._headers, self._length = status, headers, length
        outcome = outcome_of_status(status)
        if outcome is not Outcome.ANSWERED and self._goes_elsewhere(member, outcome, status, now):
            self.record.upstream_seconds += now - self._sent_at
            self._held = _Held(status, headers, now)
            self._state = _HOLDING
            return
        self._state = _ANSWERING
        stream = 200 <= status < 300 and is_event_stream(headers)
        if self._head_sent and not stream:
            self._drop_call()
            self._verdict(outcome, now)
            self._release(now)
            self._fail(UpstreamFailed(f"the backend answered {status} after the stream had begun"), outcome.value)
        elif stream and length is None:
            self._watch = Watch(self.request.endpoint.wire if self.request.endpoint is not None else "plain")

    def _goes_elsewhere(self, member: Member, outcome: Outcome, status: int, now: float) -> bool:
        """What a failing status means for its backend, and whether another is asked instead."""
        relay = self._relay
        backend = member.backend
        self._last = (outcome, f"{backend.id} answered {status}")
        if outcome is Outcome.BUSY:
            wait = retry_after(
                value_of(self._headers, b"retry-after"), relay.wall(), ms=value_of(self._headers, b"retry-after-ms")
            )
            if wait:
                relay.roster.rests.rest(backend.id, self._candidate.model, now + wait)
            if status == 503:
                member.health.doubted(now)
        elif status == 500:
            self._forget_500(now)
            self._own_500 = (member, self._epoch)
        if self._gone or not self.attempts.may_retry(outcome, committed=self._committed):
            return False
        route = relay.roster.resolve(self.record.model or None)
        if route is None or not relay.roster.may_go_elsewhere(route, self.attempts.tried, now):
            return False
        if not relay.roster.budget.withdraw(now):
            return False
        relay.retried(self, backend.id, outcome, f"status {status}")
        return True

    def chunk(self, data: bytes) -> None:
        """A piece of the answer's body. The first one is the commit."""
        relay = self._relay
        now = relay.clock()
        if self._held is not None and self._state == _HOLDING:
            if not self._held.keep(data):
                self._drop_call()
                self._held = None
                self._held_done(now)
            return
        if not self._committed:
            self._commit(now)
            if self._state == _CLOSED:
                return
        else:
            self._member.stall.moved(now, self._watched)
            if self._watch is not None:
                relay.metrics.gap(now - self._moved_at)
        self._moved_at = now
        watch = self._watch
        if watch is not None:
            data = watch.feed(data)
            if not data:
                return
        else:
            self._tail = data if len(data) >= 1024 else (self._tail + data)[-USAGE_IN_LAST:]
        self._write(data, now)

    def _write(self, data: bytes, now: float) -> None:
        self._last_out = now
        self.record.bytes_out += len(data)
        if not self._gone:
            self._client.write(data)

    def _commit(self, now: float) -> None:
        """The first body byte is here: from now on there is no other backend."""
        record = self.record
        member = self._member
        self._committed = True
        record.first_byte_at = now
        record.upstream_seconds += now - self._sent_at
        member.stall.moved(now, self._watched)
        if self._status < 500:
            if self._own_500 is not None:
                blamed, epoch = self._own_500
                self._own_500 = None
                self._failed_there(blamed, epoch, now, "it answered 500 where another answered")
            if member.breaker.state != "closed":
                member.breaker.succeeded(self._epoch, now)
                self._epoch = member.breaker.epoch
        self._relay.release_body(self.request)
        self._body = self.request.body = b""
        if not self._head_sent:
            self._send_head(self._status, self._answer_headers())

    def _answer_headers(self) -> Headers:
        headers = to_client(self._headers)
        if self._length is not None and self._status not in (204, 304):
            headers.append((b"content-length", b"%d" % self._length))
        if self._watch is not None:
            headers = [h for h in headers if h[0] not in (b"cache-control", b"x-accel-buffering")]
            headers += _STREAM_HEADERS
        retryable = self._status >= 500 and self.attempts.count >= 2
        if retryable and value_of(headers, b"retry-after") is None and value_of(headers, b"x-should-retry") is None:
            headers.append((b"x-should-retry", b"false"))
        return headers

    def _send_head(self, status: int, headers: Headers) -> None:
        """Send the head with what we have to say about the way that the request took."""
        record = self.record
        headers.append((b"x-request-id", record.id.encode("latin-1")))
        if record.backend:
            headers.append((b"x-solar-backend", record.backend.encode("utf-8")))
        headers.append((b"x-solar-attempts", b"%d" % self.attempts.count))
        headers.append((b"x-solar-overhead-ms", b"%.3f" % (record.overhead * 1000)))
        if record.session_broken:
            headers.append((b"x-session-broken", b"true"))
        record.status = status
        self._head_sent = True
        if not self._gone:
            self._client.head(status, headers)

    def end(self) -> None:
        """The answer's framing says that it is complete."""
        now = self._relay.clock()
        self._call = None
        if self._state == _HOLDING:
            return self._held_done(now)
        watch = self._watch
        if not self._committed:
            if watch is not None and not watch.finished(clean=True):
                return self._attempt_failed(Outcome.RESET, "the stream ended before its first byte", now)
            self._commit(now)
        if watch is not None:
            if not watch.finished(clean=True):
                return self._broken(now, "upstream_cut", "the backend ended the stream before its end")
            rest = watch.rest()
            if rest:
                self._write(rest, now)
        return self._complete(now)

    def _complete(self, now: float) -> None:
        self._verdict(outcome_of_status(self._status), now)
        self._release(now)
        if not self._gone:
            self._client.end()
        status = self._status
        self._close("success" if status < 400 else "rejected" if status < 500 else "failed", now)

    def _verdict(self, outcome: Outcome, now: float) -> None:
        """What a complete answer says of its backend. A 500 that passes through, 429 and 503 say nothing."""
        member = self._member
        if outcome is Outcome.ANSWERED:
            member.breaker.succeeded(self._epoch, now)
        elif self._status in (502, 504):
            self._failed_there(member, self._epoch, now, f"it answered {self._status}")
        else:
            member.breaker.abandoned(self._epoch, now)

    def failed(self, failure: Failure) -> None:
        """The transport lost the answer, or never got one."""
        now = self._relay.clock()
        self._call = None
        if self._state == _HOLDING:
            self._held = None
            return self._held_done(now)
        if not self._committed:
            return self._attempt_failed(failure.outcome, failure.detail, now)
        if self._watch is not None and self._watch.finished(clean=False):
            return self._complete(now)
        return self._broken(now, "upstream_cut", failure.detail)

    # --- failure

    def _attempt_failed(self, outcome: Outcome, detail: str, now: float) -> None:
        """An attempt ended without a byte for the client: another backend, or an error."""
        relay = self._relay
        member = self._member
        self.record.upstream_seconds += now - self._sent_at
        self._last = (outcome, f"{member.backend.id}: {detail}")
        self._failed_there(member, self._epoch, now, detail)
        self._release(now)
        if self._gone:
            return self._close("client_gone", now)
        if not self.attempts.may_retry(outcome, committed=self._committed):
            return self._give_up()
        if not relay.roster.budget.withdraw(now):
            return self._give_up()
        relay.retried(self, member.backend.id, outcome, detail)
        return self._place(now)

    def _failed_there(self, member: Member, epoch: int, now: float, detail: str) -> None:
        if member.breaker.failed(epoch, now):
            self._relay.ejected(member, detail)
        member.health.doubted(now)

    def _held_done(self, now: float) -> None:
        """The failing answer is complete, or given up: now ask another backend."""
        member = self._member
        if self._status in (502, 504):
            self._failed_there(member, self._epoch, now, f"it answered {self._status}")
        elif self._status != 500:  # a 500 is judged by what another backend says to the same request
            member.breaker.abandoned(self._epoch, now)
        self._release(now)
        if self._gone:
            return self._close("client_gone", now)
        return self._place(now)

    def _answer_held(self, now: float) -> None:
        """Nobody did better: the client gets the answer that was held, as it came."""
        held = self._held
        assert held is not None  # noqa: S101  # only called where it is
        self._held = None
        self._status, self._headers, self._length = held.status, held.headers, held.size
        self._forget_500(now)
        if self._head_sent:
            return self._fail(UpstreamFailed(f"the backend answered {held.status}"), "upstream_failed")
        self.record.first_byte_at = now
        self._send_head(held.status, self._answer_headers())
        for part in held.parts:
            self._write(part, now)
        self._client.end()
        return self._close("rejected" if held.status < 500 else "failed", now, code=f"upstream_{held.status}")

    def _forget_500(self, now: float) -> None:
        if self._own_500 is not None:
            member, epoch = self._own_500
            self._own_500 = None
            member.breaker.abandoned(epoch, now)

    def _give_up(self) -> None:
        """Everything allowed was tried."""
        now = self._relay.clock()
        if self._held is not None:
            return self._answer_held(now)
        self._forget_500(now)
        outcome, detail = self._last or (Outcome.REFUSED, "")
        self._fail(_gave_up(self.record.model, outcome, self.attempts.count), outcome.value, detail)
        return None

    def _broken(self, now: float, code: str, detail: str) -> None:
        """The answer broke after its first byte: say so in its own format, and close without the end mark."""
        member = self._member
        watch = self._watch
        self._failed_there(member, self._epoch, now, detail)
        self._release(now)
        if not self._gone:
            if watch is not None and not watch.inside and not watch.error_seen():
                message = f"the stream was cut short: {_PUBLIC.get(code, 'the backend failed')}"
                self._client.write(watch.error_event(message, code, request_id=self.record.id))
            self._client.abort()
        self._close("client_gone" if self._gone else "broken", now, code=code, detail=detail)

    def _refuse(self, error: SolarError) -> None:
        self._fail(error, error.code)

    def _fail(self, error: SolarError, code: str | None, detail: str = "") -> None:
        """Answer with an error of our own, in the wire's own shape."""
        now = self._relay.clock()
        endpoint = self.request.endpoint
        wire = endpoint.wire if endpoint is not None else "plain"
        end: End = "failed" if error.status >= 500 else "rejected"
        if self._head_sent:
            if not self._gone:
                dialect = DIALECTS[wire]
                self._client.write(dialect.error_event(error.message, error.code or "error", request_id=self.record.id))
                self._client.abort()
            return self._close("broken", now, code=code, detail=detail or error.message)
        body, headers = error_answer(error, wire, self.record.id)
        if error.status >= 500 and self.attempts.count >= 2 and error.retry_after is None:
            headers.append((b"x-should-retry", b"false"))
        self._send_head(error.status, headers)
        if not self._gone:
            self._client.write(body)
            self._client.end()
        self.record.bytes_out += len(body)
        return self._close(end, now, code=code, detail=detail or error.message)

    # --- what the client does

    def client_gone(self) -> None:
        """The client left: its backend stops working for nobody, unless it is one that must not be interrupted."""
        if self._state == _CLOSED or self._gone:
            return
        now = self._relay.clock()
        self._gone = True
        member = self.member
        if self._state != _QUEUED and member is not None and member.backend.cancel == "drain":
            if self._paused:
                self.client_ready()
            return
        if self._queued_at is not None:
            self._leave_queue(now)
        self._drop_call()
        if self._slot is not None and member is not None:
            member.breaker.abandoned(self._epoch, now)
            self._release(now)
        self._forget_500(now)
        self._close("client_gone", now)

    def client_full(self) -> None:
        """The client reads slower than the backend writes: stop reading there."""
        self._paused = True
        if self._call is not None and self._state == _ANSWERING:
            self._call.pause()

    def client_ready(self) -> None:
        """The client has caught up."""
        self._paused = False
        if self._call is not None and self._state == _ANSWERING:
            self._moved_at = self._relay.clock()
            self._call.resume()

    # --- what time brings

    def tick(self, now: float) -> None:
        """Look at the clocks: several times a second is often enough."""
        state = self._state
        if state == _CLOSED:
            return
        self._keep_alive(now)
        if state == _QUEUED:
            return
        timeouts = self._timeouts
        if self._paused and self._committed:
            self._member.stall.moved(now, None)  # we are the ones who don't read
            return
        if state == _HOLDING:
            if self._held is not None and now - self._held.since > HELD_SECONDS:
                self._drop_call()
                self._held = None
                self._held_done(now)
        elif not self._committed:
            if timeouts.first_byte is not None and now - self._sent_at > timeouts.first_byte:
                self._drop_call()
                self._attempt_failed(Outcome.TIMEOUT, f"no first byte within {timeouts.first_byte:g} s", now)
        elif timeouts.between_bytes is not None and now - self._moved_at > timeouts.between_bytes:
            self._drop_call()
            self._broken(now, "upstream_timeout", f"no byte for {timeouts.between_bytes:g} s")
        if timeouts.total is not None and now - self.record.started_at > timeouts.total and self._call is not None:
            self._drop_call()
            if self._committed:
                self._broken(now, "upstream_timeout", f"not complete within {timeouts.total:g} s")
            else:
                self._attempt_failed(Outcome.TIMEOUT, f"not complete within {timeouts.total:g} s", now)

    def _keep_alive(self, now: float) -> None:
        """A comment for a client that waits for a stream, between events only."""
        options = self._relay.options
        if self._gone or self._paused or not self.request.peek.stream or not options.keepalive_seconds:
            return
        if now - self._last_out < options.keepalive_seconds:
            return
        watch = self._watch
        if watch is None:
            if self._committed or self._state == _HOLDING or not options.keepalive_while_waiting:
                return
            if not self._head_sent:
                self._send_head(200, [(b"content-type", b"text/event-stream"), *_STREAM_HEADERS])
        elif watch.inside:
            return
        elif not self._head_sent:
            self._send_head(self._status, self._answer_headers())
        self._last_out = now
        self._client.write(b": keep-alive\n\n")

    def stalled(self, now: float, reason: str) -> None:
        """Its backend is stalled: what has no first byte moves where it can; an open stream ends truthfully."""
        member = self._member
        if self._committed:
            if self._watch is not None or self.request.peek.stream:
                self._drop_call()
                self._broken(now, "upstream_stalled", f"{member.backend.id} is stalled: {reason}")
            return
        if self._state != _WAITING and self._state != _ANSWERING:
            return
        roster = self._relay.roster
        route = roster.resolve(self.record.model or None)
        if route is not None and self.attempts.taken == 0 and roster.may_go_elsewhere(route, self.attempts.tried, now):
            self._drop_call()
            self._attempt_failed(Outcome.STALLED, reason, now)

    def shut(self) -> None:
        """The gateway stops and will not wait any longer."""
        if self._state == _CLOSED:
            return
        now = self._relay.clock()
        if self._queued_at is not None:
            self._leave_queue(now)
        self._drop_call()
        member = self.member
        if self._slot is not None and member is not None:
            member.breaker.abandoned(self._epoch, now)
            self._release(now)
        if self._committed:
            if not self._gone:
                if self._watch is not None and not self._watch.inside:
                    message = "the stream was cut short: the gateway is stopping"
                    self._client.write(self._watch.error_event(message, "shutdown", request_id=self.record.id))
                self._client.abort()
            self._close("broken", now, code="shutdown")
        else:
            self._refuse(NoBackendAvailable("the gateway is stopping", code="shutdown", retry_after=1.0))

    def unacknowledged(self) -> bool:
        """Whether bytes sent to its backend stay without an acknowledgement."""
        return self._call is not None and self._call.unacknowledged()

    # --- the books

    def _drop_call(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.abort()

    def _release(self, now: float) -> None:
        slot, self._slot = self._slot, None
        if slot is None:
            return
        member = self._member
        slot.give_back()
        if self._watched is not None:
            member.stall.closed(now, self._watched)
        self._relay.roster.freed(member)

    def _close(self, end: End, now: float, *, code: str | None = None, detail: str = "") -> None:
        if self._state == _CLOSED:
            return
        self._state = _CLOSED
        record = self.record
        record.ended_at = now
        record.end = "client_gone" if self._gone else end
        record.code = code
        record.detail = detail
        if self._gone and not record.status:
            record.status = 499
        if self._watch is not None:
            record.stream = True
            record.events = self._watch.events
            record.tokens_in, record.tokens_out = self._watch.usage()
        elif self._tail:
            record.tokens_in, record.tokens_out = usage_in(self._tail)
        self._relay.closed(self)


class _Held:
    """A failing answer, kept for the case that nobody does better."""

    __slots__ = ("headers", "parts", "since", "size", "status")

    def __init__(self, status: int, headers: Headers, since: float) -> None:
        self.status = status
        self.headers = headers
        self.since = since
        self.parts: list[bytes] = []
        self.size = 0

    def keep(self, data: bytes) -> bool:
        """False when it has grown too large to keep."""
        self.size += len(data)
        self.parts.append(data)
        return self.size <= HELD_ANSWER


_RETRY_AFTER_FULL = 5.0
_STREAM_HEADERS: Headers = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
_PUBLIC = {
    "upstream_cut": "the backend ended it before its end",
    "upstream_timeout": "the backend took too long",
    "upstream_stalled": "the backend stopped moving",
}


def is_event_stream(headers: Headers) -> bool:
    """Whether an answer's content type says that it is an event stream, whatever the request had asked for."""
    kind = value_of(headers, b"content-type")
    return kind is not None and kind.lstrip()[:17].lower() == b"text/event-stream"


def error_answer(error: SolarError, wire: str, request_id: str) -> tuple[bytes, Headers]:
    """Body and headers of an error of our own."""
    body = error_body(
        error.message,
        status=error.status,
        type=error.type,
        code=error.code,
        param=error.param,
        wire="anthropic" if wire == "messages" else "openai",
        request_id=request_id,
    )
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if error.retry_after is not None:
        headers.append((b"retry-after", b"%d" % max(1, -int(-error.retry_after // 1))))
    return body, headers


def _no_such_model(model: str) -> SolarError:
    if not model:
        return InvalidRequest('the request names no model; add "model" (GET /v1/models lists them)', param="model")
    return ModelNotFound(f"no backend has the model {model!r}; GET /v1/models lists those there are", param="model")


def _unavailable(model: str, refusal: Refusal) -> SolarError:
    if refusal.why == "loading":
        return NoBackendAvailable(
            f"the model {model!r} is still loading; try again shortly",
            code="model_loading",
            retry_after=refusal.retry_after,
        )
    return NoBackendAvailable(f"no backend of {model!r} is available now", retry_after=refusal.retry_after)


def _gave_up(model: str, outcome: Outcome, attempts: int) -> SolarError:
    tried = f"{attempts} backend{'s' if attempts > 1 else ''} tried"
    if outcome in (Outcome.REFUSED, Outcome.CONNECT_TIMEOUT):
        return NoBackendAvailable(f"no backend of {model!r} could be reached ({tried})", retry_after=1.0)
    if outcome in (Outcome.TIMEOUT, Outcome.STALLED):
        return UpstreamFailed(f"the backend of {model!r} took too long ({tried})", status=504, code="upstream_timeout")
    return UpstreamFailed(f"the backend of {model!r} failed before it answered ({tried})")
