"""A source: the WebSocket on which an agent tells an instance's log, its whole ring first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

from solar.control.logs.feed import Feed
from solar.wire.lines import Entry, read_entry
from solar.wire.reading import Unreadable

QUIET = 0.1  # seconds without a line: what comes later is not of the ring
LONGEST = 2.0  # seconds that it may take to tell the ring


async def stream(opened: AbstractAsyncContextManager[AsyncIterator[str]], feed: Feed) -> None:
    """Follow it until it closes. Raises HostUnreachable, NoStream, or Unreadable with what the agent says."""
    loop = asyncio.get_running_loop()
    async with opened as texts:
        ring: list[Entry] | None = []

        def settled() -> None:
            nonlocal ring
            told, ring = ring or [], None
            feed.take(told)
            feed.well()

        latest = loop.time() + LONGEST
        timer = loop.call_later(QUIET, settled)
        try:
            async for text in texts:
                try:
                    entry = read_entry(text)
                except Unreadable:
                    if not ring and ring is not None:  # the agent's refusal comes first
                        raise
                    continue
                if ring is None:
                    feed.take([entry])
                    continue
                ring.append(entry)
                timer.cancel()
                timer = loop.call_at(min(loop.time() + QUIET, latest), settled)
        finally:
            timer.cancel()
            if ring:
                feed.take(ring)
