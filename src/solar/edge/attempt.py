"""One try on one backend, and the books that it opens there: slot, circuit, silence, rest. Closed exactly once."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple

from solar.core.backend import Origin
from solar.core.headers import AnswerHeaders, Block, value_of
from solar.core.openai import splice
from solar.core.rest import retry_after
from solar.core.select import Candidate
from solar.edge.heads import line_and_host
from solar.edge.request import ClientRequest
from solar.edge.transport import Call, UpstreamRequest

if TYPE_CHECKING:
    from solar.edge.relay import Relay


_NONE_YET: Final = AnswerHeaders([])


class Attempt:
    """A request on its way to a candidate."""

    __slots__ = (
        "_epoch", "_open", "_relay", "_slot", "call", "candidate", "dropped", "headers", "length", "member", "moved_at",
        "sent_at", "status", "timeouts", "watched",
    )  # fmt: skip

    def __init__(self, relay: Relay, candidate: Candidate, request: ClientRequest, now: float) -> None:
        self._relay = relay
        self.candidate = candidate
        self.member = member = candidate.member
        backend = member.backend
        self.timeouts = backend.timeouts_for(candidate.model) if backend.model_timeouts else backend.timeouts
        self.call: Call | None = None
        self.dropped = False  # given up, perhaps before the call was known
        self.status = 0
        self.headers = _NONE_YET
        self.length: int | None = None
        self.sent_at = self.moved_at = now
        self._open = True
        self._slot = member.load.take(candidate.size)
        breaker = member.breaker
        self._epoch = breaker.epoch if breaker.state == "closed" else breaker.began(now)
        # A token is about four bytes; only the ratio to what this backend took before matters.
        self.watched = member.stall.sent(now, streaming=request.peek.stream, prompt_tokens=len(request.body) // 4)
        relay.roster.picked(candidate)

    def __repr__(self) -> str:
        return f"<Attempt on {self.member.backend.id}, status {self.status or 'none yet'}>"

    def request(self, client: ClientRequest) -> UpstreamRequest:
        """The client's request as this backend shall see it."""
        backend = self.member.backend
        endpoint = client.endpoint
        asked = client.asked
        if endpoint is None:
            path, wire = backend.prefix + client.target.decode("ascii"), "plain"
        else:
            path, wire = (backend.prefix if endpoint.versioned else backend.root) + endpoint.upstream, endpoint.wire
        # What a client may spell as it likes is not remembered.
        opening_of = _opening if endpoint is not None and not asked.query else _opening.__wrapped__
        opening = opening_of(client.method, backend.origin, path, asked.query, backend.api_key, wire)
        request_id = client.record.id.encode("latin-1")
        headers = [*asked.passed.pairs, *opening.headers.pairs, (b"x-request-id", request_id)]
        head = b"%b%b%bx-request-id: %b\r\n" % (opening.line, asked.passed.wire, opening.headers.wire, request_id)
        body = client.body
        if client.peek.span is not None and self.candidate.model != client.peek.model:
            body = splice(body, client.peek, self.candidate.model)
        return UpstreamRequest(backend, client.method, opening.target, headers, body, self.timeouts.connect, head)

    # --- while it runs

    def answered(self, status: int, headers: AnswerHeaders, length: int | None, now: float) -> None:
        """Its head came. That is a sign of life, and no first byte: some engines send it before they prefill."""
        self.status, self.headers, self.length = status, headers, length
        self.moved_at = now
        self.member.stall.moved(now, None)

    def not_read(self, now: float) -> None:
        """We are the ones who do not read: its silence says nothing."""
        self.moved_at = now
        self.member.stall.moved(now, None)

    def proved(self, now: float) -> None:
        """It has begun to answer: that closes a circuit on trial, however long the answer takes."""
        breaker = self.member.breaker
        # Where the epochs differ another attempt is the trial, and this one must not come to speak for it.
        if breaker.state != "closed" and breaker.epoch == self._epoch:
            breaker.succeeded(self._epoch, now)
            self._epoch = breaker.epoch

    def rests(self, now: float) -> None:
        """It answered 429 or 503: leave that model on it alone for as long as it asks."""
        member = self.member
        wait = retry_after(
            value_of(self.headers, b"retry-after"),
            self._relay.wall(),
            ms=value_of(self.headers, b"retry-after-ms"),
        )
        if wait:
            self._relay.roster.rests.rest(member.backend.id, self.candidate.model, now + wait)
        if self.status == 503:
            member.health.doubted(now)

    def drop(self) -> None:
        """Give the call up; its connection closes at once."""
        self.dropped = True
        call, self.call = self.call, None
        if call is not None:
            call.abort()

    # --- verdicts: what it says of its backend

    def abandoned(self, now: float) -> None:
        """It says nothing: the client left, or the answer was the client's fault or a 500 that nobody contradicted."""
        self.member.breaker.abandoned(self._epoch, now)

    def failed(self, now: float, detail: str) -> None:
        if self.member.breaker.failed(self._epoch, now):
            self._relay.ejected(self.member, detail)
        self.member.health.doubted(now)

    def judged_by_status(self, now: float) -> None:
        """The verdict of a complete answer. 429, 503 and a 500 that nobody contradicts say nothing."""
        if self.status in (502, 504):
            self.failed(now, f"it answered {self.status}")
        elif self.status in (429, 500, 503):
            self.abandoned(now)
        else:
            self.member.breaker.succeeded(self._epoch, now)

    def release(self, now: float) -> None:
        """Give the slot back; those who wait for it hear of it."""
        if not self._open:
            return
        self._open = False
        self._slot.give_back()
        self.member.stall.closed(now, self.watched)
        roster = self._relay.roster
        if roster.room.seats:
            roster.freed(self.member)

    def overdue(self, now: float, *, committed: bool) -> str | None:
        """What has taken too long, in words; None while nothing has."""
        timeouts = self.timeouts
        if not committed:
            if timeouts.first_byte is not None and now - self.sent_at > timeouts.first_byte:
                return f"no first byte within {timeouts.first_byte:g} s"
        elif timeouts.between_bytes is not None and now - self.moved_at > timeouts.between_bytes:
            return f"no byte for {timeouts.between_bytes:g} s"
        return None


class Opening(NamedTuple):
    """What all requests for one thing at one backend begin with."""

    target: bytes  # path and query
    line: bytes  # with the host
    headers: Block


@lru_cache(maxsize=1024)
def _opening(method: bytes, origin: Origin, path: str, query: bytes, api_key: str | None, wire: str) -> Opening:
    target = path.encode("ascii")
    if query:
        target += b"?" + query
    headers = [(b"accept-encoding", b"identity")]
    if api_key is not None:
        key = api_key.encode("ascii")
        headers.append((b"authorization", b"Bearer " + key))
        if wire == "messages":
            headers.append((b"x-api-key", key))
    return Opening(target, line_and_host(method, target, origin), Block(headers))


class HeldAnswer:
    """A failing answer, kept for the case that nobody does better."""

    __slots__ = ("_size", "attempt", "parts", "since")

    MOST: ClassVar[int] = 64 * 1024  # bytes
    SECONDS: ClassVar[float] = 5.0  # that it may take to arrive

    def __init__(self, attempt: Attempt, since: float) -> None:
        self.attempt = attempt
        self.since = since
        self.parts: list[bytes] = []
        self._size = 0

    @property
    def size(self) -> int:
        """Bytes of body."""
        return self._size

    def keep(self, data: bytes) -> bool:
        """False when it has grown too large to keep."""
        self._size += len(data)
        self.parts.append(data)
        return self._size <= self.MOST
