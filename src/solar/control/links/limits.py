"""How much those who knock, and those who are linked, may take of us. Times are seconds, monotonic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from solar.wire.channel import CROWDED, NotRegistered

MOST, OF_ONE = 256, 64  # connections that have not registered yet: in all, of one address
BYTES_PER_SECOND, BURST = 1 << 20, 2 << 20  # of one link
ALL_BYTES_PER_SECOND, ALL_BURST = 4 << 20, 8 << 20  # of all together
OF_EACH = 100  # bytes that a frame counts, however small it is


class Anteroom:
    """Who has knocked, and has not registered yet."""

    def __init__(self, most: int = MOST, of_one: int = OF_ONE) -> None:
        self._most, self._of_one = most, of_one
        self._waiting: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<Anteroom {self._waiting.total()} wait>"

    @contextmanager
    def entered(self, address: str) -> Iterator[None]:
        """While it registers. Raises NotRegistered where too many do."""
        if self._waiting.total() >= self._most or self._waiting[address] >= self._of_one:
            raise NotRegistered(CROWDED)
        self._waiting[address] += 1
        try:
            yield
        finally:
            self._waiting[address] -= 1
            if not self._waiting[address]:
                del self._waiting[address]


class Allowance:
    """How much a link may say. What is beyond is read later, so that its agent has to wait."""

    __slots__ = ("_at", "_burst", "_left", "_rate", "_shared")

    def __init__(
        self, rate: float = BYTES_PER_SECOND, burst: float = BURST, *, shared: Allowance | None = None
    ) -> None:
        self._rate, self._burst = rate, burst
        self._left, self._at = burst, 0.0
        self._shared = shared  # with all other links

    def __repr__(self) -> str:
        return f"<Allowance {self._left:.0f} of {self._burst:.0f} bytes left>"

    def spend(self, size: int, now: float) -> float:
        """Count a frame of `size`; returns the seconds to wait before the next one is read."""
        self._left = min(self._burst, self._left + (now - self._at) * self._rate) - size - OF_EACH
        self._at = now
        pause = max(0.0, -self._left / self._rate)
        return pause if self._shared is None else max(pause, self._shared.spend(size, now))


class Seldom:
    """What is said again only after a minute, for each who causes it."""

    def __init__(self, pause: float = 60.0, most: int = 1000) -> None:
        self._pause, self._most = pause, most
        self._said: dict[str, float] = {}  # oldest first

    def __repr__(self) -> str:
        return f"<Seldom, of {len(self._said)}>"

    def admits(self, who: str, now: float) -> bool:
        """Whether to say it now; then it counts as said. Where too many cause it, nothing is said of others."""
        for known, at in list(self._said.items()):
            if now - at < self._pause:
                break
            del self._said[known]
        if who in self._said or len(self._said) >= self._most:
            return False
        self._said[who] = now
        return True
