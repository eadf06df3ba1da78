"""Whom to ask, and when: who answered is left in peace, who did not is asked again after pauses that grow."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from solar.discovery.asking import Asker, Settled
from solar.discovery.sighting import Address

SOON = 0.25  # seconds until one that did not answer is asked again; each pause is twice as long as the one before
LATE = 30.0


class Patience:
    """When to ask again. Times are seconds of one clock."""

    __slots__ = ("_first", "_last", "_next", "due")

    def __init__(self, first: float = SOON, last: float = LATE) -> None:
        self._first = first
        self._last = last
        self.renew()

    def __repr__(self) -> str:
        return f"<Patience due at {self.due:g}, then after {self._next:g} s>"

    def renew(self) -> None:
        """Ask at once, and then as often as at first."""
        self.due = float("-inf")
        self._next = self._first

    def asked(self, now: float) -> None:
        """It was asked, and will be again."""
        self.due = now + self._next
        self._next = min(2 * self._next, self._last)


class Known:
    """What came of asking each engine that a source names, by a key that says where it is."""

    def __init__(self) -> None:
        self._settled: dict[str, Settled] = {}
        self._waiting: dict[str, Patience] = {}

    def __repr__(self) -> str:
        return f"<Known {len(self._settled)} engines, {len(self._waiting)} to be asked again>"

    async def ask(self, wanted: Mapping[str, Sequence[Address]]) -> Mapping[str, Settled]:
        """What is known of all in `wanted`, once those who are due were asked. The others are forgotten."""
        clock = asyncio.get_running_loop().time
        now = clock()
        self._settled = {key: settled for key, settled in self._settled.items() if key in wanted}
        self._waiting = {key: patience for key, patience in self._waiting.items() if key in wanted}
        due = [key for key in wanted if key not in self._settled or self._is_due(key, now)]
        async with Asker() as asker:
            answers = await asyncio.gather(*(asker.settle(wanted[key]) for key in due))
        now = clock()
        for key, settled in zip(due, answers, strict=True):
            if settled.address is not None or key not in self._settled:
                self._settled[key] = settled
            if self._is_final(key):
                self._waiting.pop(key, None)
            else:
                self._waiting.setdefault(key, Patience()).asked(now)
        return self._settled

    def wait(self) -> float:
        """Seconds until somebody is due; infinite where nobody will be."""
        now = asyncio.get_running_loop().time()
        return min((max(0.0, patience.due - now) for patience in self._waiting.values()), default=float("inf"))

    def _is_due(self, key: str, now: float) -> bool:
        return key in self._waiting and self._waiting[key].due <= now

    def _is_final(self, key: str) -> bool:
        """Whether it told what it is: one that is loading may tell later."""
        asked = self._settled[key].asked
        return asked is not None and asked.type is not None
