"""A source: the page on which an agent tells the lines that it holds of an instance's log, asked again and again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from solar.control.fleet.calls import AgentAnswer
from solar.control.logs.feed import Feed
from solar.errors import UpstreamFailed
from solar.wire.lines import read_entries


async def poll_once(ask: Callable[[], Awaitable[AgentAnswer]], feed: Feed, last: int = 0) -> int:
    """Take what is new; returns what to give next time as `last`, by which a page that is the same is known.

    Raises HostUnreachable, Unreadable, or UpstreamFailed where the agent refuses.
    """
    answer = await ask()
    if answer.status != 200:
        raise UpstreamFailed(f"the agent answered {answer.status} when asked for the log")
    if (this := hash(answer.body)) != last:
        feed.take(read_entries(answer.body))
    feed.well()
    return this


async def poll(ask: Callable[[], Awaitable[AgentAnswer]], feed: Feed, pause: Callable[[], float]) -> None:
    """Do so for ever, each `pause()` seconds. Raises as poll_once does."""
    last = 0
    while True:
        last = await poll_once(ask, feed, last)
        await feed.rest(pause())
