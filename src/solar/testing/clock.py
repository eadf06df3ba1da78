"""A clock that moves only when a test says so."""

from __future__ import annotations


class FakeClock:
    """Stands in for `time.monotonic`: call it for the time, in seconds; `advance` moves it.

    >>> clock = FakeClock()
    >>> clock.advance(2.5)
    >>> clock()
    2.5
    """

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Moves the clock on. Raises ValueError for a negative time: a monotonic clock never goes back."""
        if seconds < 0:
            raise ValueError(f"a monotonic clock cannot go back; got {seconds!r} seconds")
        self.now += seconds

    def __repr__(self) -> str:
        return f"<FakeClock at {self.now:g} s>"
