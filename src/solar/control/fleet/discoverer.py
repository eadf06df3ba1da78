"""The fleet as one more source of backends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from solar.core.backend import Backend
from solar.discovery.base import BackendsListed, Change

FIRST = 0.5  # seconds that the first list waits for hosts that have not answered yet: a router starts with a whole one


class FleetDiscoverer:
    """Lists the running instances of all hosts, as the fleet tells them."""

    name = "fleet"

    def __init__(self) -> None:
        self._backends: tuple[Backend, ...] = ()
        self._watching: set[asyncio.Event] = set()
        self._complete = asyncio.Event()

    def __repr__(self) -> str:
        return f"<FleetDiscoverer {len(self._backends)} backends>"

    def tell(self, backends: tuple[Backend, ...]) -> None:
        """All that there is now."""
        if backends != self._backends:
            self._backends = backends
            for woken in self._watching:
                woken.set()

    def complete(self) -> None:
        """Every host was asked once."""
        self._complete.set()

    async def watch(self) -> AsyncIterator[Change]:
        """The list, first and after each change. It never fails."""
        woken = asyncio.Event()
        self._watching.add(woken)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(FIRST):
                    await self._complete.wait()
            while True:
                woken.clear()
                yield BackendsListed(self._backends)
                await woken.wait()
        finally:
            self._watching.discard(woken)
