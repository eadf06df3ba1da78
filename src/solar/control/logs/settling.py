"""What a source tells at first, all at once: what was before comes before what is new."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from solar.control.logs.feed import Feed
from solar.wire.lines import Entry

QUIET = 0.1  # seconds without a line: what comes later is new
LONGEST = 2.0  # seconds that it may take to tell what was before


async def settle(pieces: AsyncIterator[Sequence[Entry]], feed: Feed) -> None:
    """Take all of `pieces`. Once it is quiet for the first time, all is well."""
    loop = asyncio.get_running_loop()
    before: list[Entry] | None = []

    def settled() -> None:
        nonlocal before
        told, before = before or [], None
        feed.take(told)
        feed.well()

    latest = loop.time() + LONGEST
    timer = loop.call_later(QUIET, settled)
    try:
        async for entries in pieces:
            if before is None:
                feed.take(entries)
                continue
            before += entries
            timer.cancel()
            timer = loop.call_at(min(loop.time() + QUIET, latest), settled)
    finally:
        timer.cancel()
        if before:
            feed.take(before)
