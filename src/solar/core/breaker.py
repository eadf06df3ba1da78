"""The passive circuit breaker: what real requests say of a backend, and how long it is ejected for it."""

from __future__ import annotations

from typing import Literal

Circuit = Literal["closed", "open", "half-open"]

_QUIET = 10.0  # closed for so many times the last ejection: the growth is forgotten


class Breaker:
    """One backend's circuit. Every attempt gets an epoch when it begins, and must give one verdict when it ends.

    The epoch grows with each change of state, so a late answer cannot speak for a new state: it is ignored.
    Times are seconds of one monotonic clock.
    """

    __slots__ = (
        "_closed_at",
        "_ejection",
        "_failures",
        "base",
        "epoch",
        "longest",
        "returns_at",
        "state",
        "threshold",
        "trips",
    )

    def __init__(self, *, threshold: int = 3, base: float = 2.0, longest: float = 60.0) -> None:
        self.threshold = threshold  # failures in a row that eject
        self.base = base  # the first ejection; each next one doubles
        self.longest = longest
        self.state: Circuit = "closed"
        self.epoch = 0
        self.returns_at = 0.0  # when the ejection ends; 0 when closed
        self.trips = 0  # ejections so far, failed trials included
        self._failures = 0  # in a row, while closed
        self._ejection = 0.0  # length of the last one
        self._closed_at = 0.0

    def __repr__(self) -> str:
        until = "" if self.state == "closed" else f" until {self.returns_at:.1f}"
        return f"<Breaker {self.state}{until}, {self._failures} failures in a row, {self.trips} trips>"

    def admits(self, now: float) -> bool:
        """Whether selection may use the backend: closed, or its ejection is over and no trial is out."""
        if self.state == "closed":
            return True
        return self.state == "open" and now >= self.returns_at

    def began(self, now: float) -> int:
        """Take note of an attempt that is being sent; the epoch it speaks for.

        The first one after an ejection is its trial. One that is sent while a trial is out (the least bad of all that
        are ejected) belongs to an epoch that is over: the trial alone decides.
        """
        if self.state == "half-open":
            return self.epoch - 1
        if self.state == "open" and now >= self.returns_at:
            self._become("half-open")
        return self.epoch

    def succeeded(self, epoch: int, now: float) -> None:
        """The attempt was answered: failures are forgiven, and a trial or a least-bad attempt closes the circuit."""
        if epoch != self.epoch:
            return
        self._failures = 0
        if self.state != "closed":
            self._become("closed")
            self.returns_at = 0.0
            self._closed_at = now

    def failed(self, epoch: int, now: float) -> bool:
        """The backend failed the attempt. True when this ejected it."""
        if epoch != self.epoch or self.state == "open":
            return False
        if self.state == "closed":
            self._failures += 1
            if self._failures < self.threshold:
                return False
            if now - self._closed_at >= _QUIET * self._ejection:
                self._ejection = 0.0
        self._ejection = min(self.longest, 2 * self._ejection or self.base)
        self._become("open")
        self.returns_at = now + self._ejection
        self._failures = 0
        self.trips += 1
        return True

    def abandoned(self, epoch: int, now: float) -> None:
        """The attempt ended without a verdict (the client left). A trial is given back: the next attempt is one."""
        if epoch == self.epoch and self.state == "half-open":
            self._become("open")  # and returns_at has passed, or there had been no trial

    def _become(self, state: Circuit) -> None:
        self.state = state
        self.epoch += 1
