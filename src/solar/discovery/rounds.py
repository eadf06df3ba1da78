"""A discoverer that looks, lists what it saw, waits, and looks again."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Protocol

from solar.core.backend import Backend
from solar.discovery.base import BackendsListed, Change
from solar.discovery.sighting import Sighting
from solar.errors import SolarError


class Looks(Protocol):
    """Who looks round after round, and may remember between them."""

    async def look(self) -> tuple[Sighting, ...]:
        """What is there now. Raises where nothing can be said of it: then all stays as it was."""
        ...

    def pause(self) -> float:
        """How long to wait after that look, in seconds."""
        ...


def blind(error: SolarError, where: str, why: str, otherwise: str = "") -> tuple[Sighting, ...]:
    """What a look says whose source cannot be looked at: behind the error's first semicolon stands what to do,
    or `otherwise` where it says nothing of that.
    """
    reason, _, advice = error.message.partition("; ")
    return (
        Sighting(where.partition(":")[2] or where, where, why, reason=reason, advice=advice or otherwise, blind=True),
    )


class Rounds(ABC):
    """What discoverers have in common whose source does not call them. A look that raises changes nothing."""

    name: str

    def __init__(self, *, every: float) -> None:
        self.every = every  # seconds between two looks
        self._woken = asyncio.Event()

    @abstractmethod
    async def look(self) -> tuple[Sighting, ...]:
        """One whole look. Raises where nothing can be said of what is there: then all stays as it was."""

    def pause(self) -> float:
        """How long to wait after a look, in seconds."""
        return self.every

    def begin(self) -> Looks:
        """Who looks while somebody watches: an object that remembers, where rounds know of each other."""
        return self

    def watch(self) -> AsyncIterator[Change]:
        """Lists what is there, first and after each change."""
        return self.rounds(self.begin())

    async def rounds(self, looks: Looks) -> AsyncGenerator[Change, None]:
        """Lists what `looks` sees, first and after each change."""
        self._woken = asyncio.Event()  # of the loop that watches: the next one may run in another
        listed: tuple[Backend, ...] | None = None
        while True:
            self._woken.clear()
            found = tuple(seen.backend for seen in await looks.look() if seen.backend is not None)
            if found != listed:
                listed = found
                yield BackendsListed(found)
            await self._pause(looks.pause())

    def wake(self) -> None:
        """Look again now."""
        self._woken.set()

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return
