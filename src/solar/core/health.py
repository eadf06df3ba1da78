"""Health: what active probes say of one backend, and when to ask it next."""

from __future__ import annotations

from typing import Literal

State = Literal["unknown", "loading", "healthy", "down"]

_LOADING_WORDS = (b"loading", b"starting", b"unavailable_error")  # in the body of a 503, as engines put it


def says_loading(body: bytes) -> bool:
    """Whether the body of a 503 says that the model is on its way."""
    lowered = body.lower()
    return any(word in lowered for word in _LOADING_WORDS)


class Health:
    """One backend as its probes see it. Times are seconds; `jitter` is a random number from 0 to 1.

    The healthy are asked once an interval. Who is loading, suspect, failing or down is asked again after `first_retry`,
    then after twice as long, up to the interval; a change of state starts that pace anew.
    """

    __slots__ = (
        "_doubted_at",
        "_failures",
        "_wait",
        "ever_asked",
        "fails",
        "first_retry",
        "interval",
        "listed",
        "next_at",
        "reason",
        "since",
        "state",
    )

    def __init__(self, *, interval: float, fails: int = 2, first_retry: float = 0.25, listed: bool = False) -> None:
        self.interval = interval
        self.fails = fails  # failures in a row that take a healthy backend down
        self.first_retry = first_retry
        self.listed = listed  # its models come from the settings: it can be used before the first answer
        self.state: State = "unknown"
        self.reason = ""  # what keeps it from being healthy, in human words
        self.since = 0.0  # when the state last changed
        self.next_at = 0.0  # when to ask next
        self.ever_asked = False
        self._failures = 0
        self._wait = first_retry
        self._doubted_at = float("-inf")

    def __repr__(self) -> str:
        why = f" ({self.reason})" if self.reason else ""
        return f"<Health {self.state}{why} since {self.since:.1f}, next probe at {self.next_at:.1f}>"

    @property
    def usable(self) -> bool:
        """Whether requests may go there, as far as probes can tell."""
        return self.state == "healthy" or (self.listed and self.state == "unknown")

    def due(self, now: float) -> bool:
        return now >= self.next_at

    def passed(self, now: float, jitter: float, *, suspect: bool = False) -> None:
        """The probe was answered: healthy at once. A `suspect` one answers probes and nothing else: ask again soon."""
        self._failures = 0
        self._become("healthy", "", now)
        if suspect:
            self._ask_soon(now, jitter)
        else:
            self._wait = self.first_retry
            self._ask_in(self.interval, now, jitter)

    def loading(self, now: float, jitter: float) -> None:
        """The probe was answered with "loading": somebody lives there, and takes no requests yet."""
        self._failures = 0
        self._become("loading", "the model is loading", now)
        self._ask_soon(now, jitter)

    def failed(self, now: float, reason: str, jitter: float, *, moving: bool = False, refused: bool = False) -> None:
        """The probe failed. `refused`: nobody listens. `moving`: it timed out while answers move on that backend.

        A busy engine may be too busy to answer a probe: where answers move, a timeout says nothing.
        """
        self.ever_asked = True
        if refused or not moving:
            self._failures += 1
            if refused or self.state != "healthy" or self._failures >= self.fails:
                self._become("down", reason, now)
        self._ask_soon(now, jitter)

    def doubted(self, now: float) -> None:
        """A request failed there: ask at once, yet no more than once per `first_retry`, however many fail."""
        at = max(now, self._doubted_at + self.first_retry)
        if at < self.next_at:
            self.next_at = self._doubted_at = at

    def _become(self, state: State, reason: str, now: float) -> None:
        self.ever_asked = True
        self.reason = reason
        if state != self.state:
            self.state = state
            self.since = now
            self._wait = self.first_retry

    def _ask_soon(self, now: float, jitter: float) -> None:
        self._ask_in(min(self._wait, self.interval), now, jitter)
        self._wait = min(2 * self._wait, self.interval)

    def _ask_in(self, seconds: float, now: float, jitter: float) -> None:
        # Jitter keeps the probes of many backends from falling into step.
        self.next_at = now + seconds * (0.9 + 0.2 * jitter)
