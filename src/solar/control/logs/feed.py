"""What a source of one log works with."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from solar.control.logs.hub import LogHub
from solar.control.logs.items import Key
from solar.wire.lines import Entry


class Feed:
    """Where the lines of one log go, and how its source says that all is well."""

    def __init__(self, hub: LogHub, key: Key) -> None:
        self.key = key
        self.works = False  # it has been well since it began last
        self._told = False  # it was said how it is
        self._trouble: str | None = None
        self._hub = hub
        self._woken = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Feed of {self.key.host_id}/{self.key.instance_id}>"

    def take(self, entries: Sequence[Entry]) -> None:
        """Lines, as LogHub.take has them."""
        self._hub.take(*self.key, entries)

    def well(self) -> None:
        """It is followed now, and what there was before has been taken."""
        self.works = True
        self._tell(None)

    def ill(self, trouble: str) -> None:
        """It is not followed now."""
        self._tell(trouble)

    def again(self) -> None:
        """Say once more how it is: its log may have been forgotten meanwhile."""
        if self._told:
            self._tell(self._trouble)

    def _tell(self, trouble: str | None) -> None:
        self._told, self._trouble = True, trouble
        self._hub.contact(*self.key, trouble)

    def wake(self) -> None:
        """What it rests for may have come."""
        self._woken.set()

    async def rest(self, seconds: float) -> None:
        """Return after that time, or when woken."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        self._woken.clear()
