"""Attempts: from the outcome of one to done, retry elsewhere, or give up."""

from __future__ import annotations

from enum import Enum

_TAKEN_AT_MOST = 2  # a request that crashes engines must not walk through the fleet
_LOST_UNUSED_WITHIN = 1.0  # seconds: a backend's close of an idle connection has crossed our request on the way
_BUDGET_SECONDS = 10.0


class Outcome(Enum):
    """How an attempt ended."""

    ANSWERED = "answered"  # a status that passes through to the client, 4xx included
    REFUSED = "refused"  # nobody listens
    CONNECT_TIMEOUT = "connect timeout"
    DIED_UNUSED = "died unused"  # a pooled connection that the backend had closed before our request came
    RESET = "reset"  # the connection was lost after the request was taken, before the first body byte
    UNREADABLE = "unreadable"  # not HTTP, a head too large, a 1xx answer gone wrong
    STALLED = "stalled"
    TIMEOUT = "timeout"  # no first byte in time
    BUSY = "busy"  # 429 or 503
    FAILED = "failed"  # 500, 502 or 504
    BROKEN = "broken"  # after the commit

    @property
    def taken(self) -> bool:
        """Whether the backend may have worked on the request."""
        return self not in _NEVER_TAKEN


_NEVER_TAKEN = frozenset({Outcome.REFUSED, Outcome.CONNECT_TIMEOUT, Outcome.DIED_UNUSED, Outcome.BUSY})
# A timeout is final too: the client has waited for long, and the backend may be at work still.
_FINAL = frozenset({Outcome.ANSWERED, Outcome.BROKEN, Outcome.TIMEOUT})


def outcome_of_status(status: int) -> Outcome:
    """What the status of a backend's final answer means for the attempt."""
    if status in (429, 503):
        return Outcome.BUSY
    if status in (500, 502, 504):
        return Outcome.FAILED
    return Outcome.ANSWERED if status >= 200 else Outcome.UNREADABLE


def died_unused(reused: bool, answered_bytes: int, waited: float) -> bool:
    """Whether a connection that was lost `waited` seconds after sending was dead before: then it is just replaced.

    Backends close idle connections; ours was on its way by then. A loss that comes later, after a byte, or on a fresh
    connection says that the backend had the request.
    """
    return reused and answered_bytes == 0 and waited <= _LOST_UNUSED_WITHIN


def after_replacement(outcome: Outcome, replaced: bool) -> Outcome:
    """The outcome of an attempt whose connection may have been replaced.

    Where the first connection was lost and nobody listens any more, the engine has crashed with the request in hand.
    """
    return Outcome.RESET if replaced and outcome is Outcome.REFUSED else outcome


class Attempts:
    """One request's attempts: `began` when one is sent (a replaced connection is none), `may_retry` when it ended."""

    __slots__ = ("_judged", "count", "taken", "tried")

    def __init__(self) -> None:
        self.count = 0  # attempts that really went out
        self.taken = 0  # of those, how many a backend may have worked on
        self.tried: set[str] = set()  # backend ids: none is asked twice
        self._judged = 0

    def __repr__(self) -> str:
        return f"<Attempts {self.count}, {self.taken} taken, tried {sorted(self.tried)}>"

    def began(self, backend_id: str) -> None:
        self.count += 1
        self.tried.add(backend_id)

    def may_retry(self, outcome: Outcome, *, committed: bool) -> bool:
        """Whether the request may go to a backend that was not tried, after its last attempt ended with `outcome`.

        What no backend took may try every candidate; what one took is tried once more in all; never after the commit.
        Asking again about the same attempt gives the same answer.
        """
        if outcome.taken and self._judged < self.count:
            self._judged = self.count
            self.taken += 1
        return not committed and outcome not in _FINAL and self.taken < _TAKEN_AT_MOST


class RetryBudget:
    """A share of the requests, and some each second, may be retried: a dying fleet must not be stormed."""

    __slots__ = ("_at", "_tokens", "floor", "most", "ratio")

    def __init__(self, *, ratio: float = 0.2, floor: float = 10.0) -> None:
        self.ratio = ratio  # retries that each request brings
        self.floor = floor  # retries that each second brings
        self.most = _BUDGET_SECONDS * floor
        self._tokens = self.most
        self._at = 0.0

    def __repr__(self) -> str:
        return f"<RetryBudget {self._tokens:.1f} of {self.most:.0f}>"

    def deposit(self) -> None:
        """A request came in."""
        if self._tokens < self.most:
            self._tokens = min(self.most, self._tokens + self.ratio)

    def withdraw(self, now: float) -> bool:
        """Take the right to one retry; False when the budget is spent."""
        self._tokens = min(self.most, self._tokens + (now - self._at) * self.floor)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
