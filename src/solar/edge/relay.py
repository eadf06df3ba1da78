"""What all exchanges share: the roster, the transport, the limits, the books; and the tick that tells them the time."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from solar.core.member import Member
from solar.core.record import Record
from solar.core.roster import Roster
from solar.edge.exchange import Exchange
from solar.edge.hooks import Hooks
from solar.edge.metrics import Metrics
from solar.edge.request import ClientRequest
from solar.edge.transport import Upstream

EVIDENCE_EVERY = 1.0  # seconds between two looks at unacknowledged bytes
EVIDENCE_AFTER = 2.0  # seconds that an exchange must have been silent to be looked at


@dataclass(frozen=True, slots=True)
class RelayOptions:
    """The limits of the data path; each has the default that `Router` has."""

    hold_while_loading: bool = False
    keepalive_seconds: float = 15.0  # 0: no comments
    keepalive_while_waiting: bool = False  # comments before the backend has said anything, at the price of a late error
    max_body: int = 128 * 1024 * 1024  # bytes of one request
    max_buffered_bytes: int = 512 * 1024 * 1024  # over all requests


class Relay:
    """The shared side of the data path. One per router and event loop."""

    def __init__(
        self,
        roster: Roster,
        upstream: Upstream,
        metrics: Metrics,
        options: RelayOptions,
        log: logging.Logger,
        log_request: Callable[[Record], None],
        hooks: Hooks,
    ) -> None:
        self.roster = roster
        self.upstream = upstream
        self.metrics = metrics
        self.options = options
        self.hooks = hooks
        self.clock: Callable[[], float] = time.monotonic  # uvloop's own stands still within an iteration
        self.wall = time.time
        self.open: set[Exchange] = set()
        self.buffered = 0  # bytes of request bodies in memory
        self.stopping = False  # nothing new is taken
        self.on_tick: list[Callable[[float], None]] = []  # who else wants to hear the time
        self._id_prefix = f"req_{secrets.token_hex(6)}"
        self._ids = 0
        self._log = log
        self._log_request = log_request
        self._idle: list[asyncio.Future[None]] = []
        self._evidence_at = 0.0

    def __repr__(self) -> str:
        return f"<Relay {len(self.open)} open, {self.buffered} bytes buffered>"

    def new_id(self) -> str:
        """A request id that no other process gives."""
        self._ids += 1
        return self._id_prefix + "%06x" % self._ids  # noqa: UP031  # compiled, an f-string with a format is slow

    # --- the buffer budget

    def reserve(self, size: int) -> bool:
        """Take `size` bytes of the budget for request bodies; False when it is spent."""
        if self.buffered + size > self.options.max_buffered_bytes:
            return False
        self.buffered += size
        return True

    def release_body(self, request: ClientRequest) -> None:
        """Let go of a request's body, and give back what it held."""
        self.buffered -= request.reserved
        request.reserved = 0
        request.body = b""

    # --- what exchanges report

    def retried(self, record: Record) -> None:
        """A request leaves a backend for another."""
        left = record.tries[-1]
        self.metrics.retried(left.backend, left.outcome)
        number = len(record.tries)
        self._log.info("retry request=%s attempt=%d backend=%s detail=%r", record.id, number, left.backend, left.detail)
        if (hook := self.hooks.on_reroute) is not None:
            self.tell(hook, record, left)

    def ejected(self, member: Member, detail: str) -> None:
        """A backend's circuit opened."""
        self.metrics.ejected(member.backend.id)
        seconds = max(0.0, member.breaker.returns_at - self.clock())
        self._log.warning("ejected backend=%s for=%.1fs detail=%r", member.backend.id, seconds, detail)

    def closed(self, exchange: Exchange) -> None:
        """The books on a request are closed."""
        if exchange.request.reserved:
            self.release_body(exchange.request)
        self.open.discard(exchange)
        self.book(exchange.record)
        if self._idle and not self.open:
            idle, self._idle = self._idle, []
            for waiter in idle:
                if not waiter.done():
                    waiter.set_result(None)

    def book(self, record: Record) -> None:
        """Count a finished request, and log it."""
        self.metrics.closed(record)
        self._log_request(record)
        if (hook := self.hooks.on_record) is not None:
            self.tell(hook, record)

    def tell(self, hook: Callable[..., None], record: Record, *more: object) -> None:
        """Call one of the hooks."""
        try:
            hook(record, *more)
        except Exception as error:  # noqa: BLE001  # foreign code: whatever it raises, the request goes on
            self._log.error("hook failed request=%s hook=%r", record.id, hook, exc_info=error)

    def drained(self) -> asyncio.Future[None]:
        """Done once no exchange is open."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.open:
            self._idle.append(waiter)
        else:
            waiter.set_result(None)
        return waiter

    # --- time

    def tick(self, now: float) -> None:
        """Let time pass for everyone: queues, silence, timeouts, keep-alive comments."""
        roster = self.roster
        for waiter in roster.room.expired(now):
            if isinstance(waiter, Exchange):
                waiter.queue_timeout()
        self._look_for_stalls(now)
        for exchange in list(self.open):
            exchange.tick(now)
        roster.changed()
        self.metrics.settle()
        for listener in self.on_tick:
            listener(now)

    def _look_for_stalls(self, now: float) -> None:
        if now - self._evidence_at >= EVIDENCE_EVERY:
            self._evidence_at = now
            self._look_for_evidence(now)
        for member in self.roster.members.values():
            if not member.load.in_flight:
                continue
            before = member.stall.grade
            grade = member.stall.check(now, loading=member.health.state == "loading")
            if grade == "suspect" and before == "moving":
                silent = member.stall.silent_for(now)
                self._log.info("suspect backend=%s silent_for=%.1fs", member.backend.id, silent)
                member.health.doubted(now)
            elif grade == "stalled" and before != "stalled":
                self.stalled(member, now)

    def _look_for_evidence(self, now: float) -> None:
        """Bytes that nobody acknowledges prove what silence only suggests, for requests that do not stream too."""
        for exchange in list(self.open):
            member = exchange.member
            if member is None or member.stall.stalled or now - exchange.moved_at < EVIDENCE_AFTER:
                continue
            if exchange.unacknowledged() and member.stall.evidence("bytes that were sent to it stay unacknowledged"):
                self.stalled(member, now)

    def stalled(self, member: Member, now: float) -> None:
        """A backend was found stalled: move what can be moved, end what cannot."""
        reason = member.stall.stalled_reason
        self.metrics.stalled(member.backend.id)
        self._log.warning("stalled backend=%s detail=%r", member.backend.id, reason)
        member.health.doubted(now)
        for exchange in [ex for ex in self.open if ex.member is member]:
            exchange.stalled(now, reason)

    def shut(self) -> None:
        """End every exchange that is still open, truthfully."""
        # Who waits goes first, or the next in line would be sent to each place that is freed here.
        for exchange in sorted(self.open, key=lambda exchange: exchange.member is not None):
            exchange.shut()
