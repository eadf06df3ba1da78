"""A source: the WebSocket on which an agent tells an instance's log, its whole ring first."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing

from solar.control.logs.feed import Feed
from solar.control.logs.settling import settle
from solar.wire.lines import Entry, read_entry
from solar.wire.reading import Unreadable


async def stream(opened: AbstractAsyncContextManager[AsyncIterator[str]], feed: Feed) -> None:
    """Follow it until it closes. Raises HostUnreachable, NoStream, or Unreadable with what the agent says."""
    async with opened as texts, aclosing(_entries(texts)) as entries:
        await settle(entries, feed)


async def _entries(texts: AsyncIterator[str]) -> AsyncGenerator[Sequence[Entry], None]:
    begun = False
    async for text in texts:
        try:
            entry = read_entry(text)
        except Unreadable:
            if not begun:  # a refusal comes first
                raise
            continue
        begun = True
        yield (entry,)
