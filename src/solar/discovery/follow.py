"""Whoever watches may fail: what it had found stays, and it is asked to watch again after a pause that grows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

from solar.discovery.base import Change
from solar.errors import SolarError

SHORTEST = 0.5  # seconds of the first pause; each is twice as long as the one before
LONGEST = 30.0


async def follow(
    watch: Callable[[], AsyncIterator[Change]], failed: Callable[[Exception, float], None]
) -> AsyncIterator[Change]:
    """The changes that `watch` yields, until it ends. `failed` hears each error, and the pause in seconds after it."""
    clock = asyncio.get_running_loop().time
    pause = SHORTEST
    while True:
        began = clock()
        try:
            changes = watch()
            try:
                async for change in changes:
                    yield change
                return
            finally:
                await _close(changes)
        except Exception as error:  # noqa: BLE001  # a discoverer is foreign code: whatever it raises, the router goes on
            if clock() - began > pause:  # it has worked for a while: not for a list and no more
                pause = SHORTEST
            failed(error, pause)
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST)


def complaining(log: logging.Logger, who: str) -> Callable[[Exception, float], None]:
    """A `failed` for `follow` that says what is wrong: in the log, once for as long as it is the same."""
    said = ""

    def failed(error: Exception, pause: float) -> None:
        nonlocal said
        level = logging.DEBUG if str(error) == said else logging.ERROR
        known = isinstance(error, SolarError)  # it says what is wrong; a foreign one is shown with its place
        log.log(level, "%s failed; again in %.1fs: %s", who, pause, error, exc_info=None if known else error)
        said = str(error)

    return failed


async def _close(changes: AsyncIterator[Change]) -> None:
    """End an iterator that nobody asks any more, now and not when it is collected. One of one's own may have no end."""
    close = getattr(changes, "aclose", None)
    if close is not None:
        await close()
