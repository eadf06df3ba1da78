"""Where the request of an exchange goes: to which backend, into the queue, to another backend, or nowhere.

One of the three parts of an exchange: it decides, and exchange.py acts on that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from solar.core.attempts import Outcome
from solar.core.decision import Pick
from solar.core.health import says_loading
from solar.core.roster import RETRY_AFTER_LOADING, Refusal
from solar.edge import answers
from solar.edge.answering import QUEUED, Answering
from solar.edge.attempt import Attempt

if TYPE_CHECKING:
    from solar.core.catalog import Route


class Choosing(Answering):
    """The part of an exchange that finds it a backend."""

    __slots__ = ()

    def _send(self, pick: Pick, now: float) -> None:
        """Begin an attempt."""
        raise NotImplementedError

    # --- a backend, or the queue

    def _place(self, now: float, *, new: bool = False) -> None:
        """Send to the best candidate that was not tried; wait, or answer, where there is none."""
        roster = self._relay.roster
        route: Route | None = roster.resolve(self.record.model)
        name = route.name if route is not None else ""  # one queue for all names that nobody knows yet
        if new and roster.room.seats and roster.room.waiting(name):  # nobody overtakes those who wait
            return self._join(name, now)
        choice = self._choose(route, now)
        if isinstance(choice, Pick):
            return self._send(choice, now)
        if self._held is not None:
            return self._answer_held(self._held, now)
        if self._waits_for(choice):
            self._keep_try(now)
            self.record.weighed = choice.weighed.bounded()
            return self._join(name, now)
        if self._last is not None:
            return self._give_up(now)
        self.record.weighed = choice.weighed.bounded()
        if choice.why == "unknown":
            return self._fail(answers.no_such_model(self.record.model))
        return self._fail(answers.unavailable(self.record.model, choice), detail=choice.detail)

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

    def _join(self, name: str, now: float) -> None:
        options = self._relay.roster.options
        if not self._relay.roster.room.join(name, self, now):
            return self._fail(answers.queue_full(self.record.model, options.queue_limit))
        self._state = QUEUED
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

    # --- another backend, or the end

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

    def _give_up(self, now: float) -> None:
        """Everything allowed was tried."""
        if self._held is not None:
            return self._answer_held(self._held, now)
        outcome, detail = self._last or (Outcome.REFUSED, "")
        return self._fail(answers.gave_up(self.record.model, outcome, self.attempts.count), detail=detail)
