"""A source: the page on which an agent tells the lines that it holds of an instance's log, asked again and again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from solar.control.fleet.calls import AgentAnswer
from solar.control.logs.feed import Feed
from solar.errors import UpstreamFailed
from solar.wire.lines import read_entries

Ask = Callable[[], Awaitable[AgentAnswer]]


async def page(ask: Ask) -> bytes:
    """What the agent answers. Raises HostUnreachable, or UpstreamFailed where it refuses."""
    answer = await ask()
    if answer.status != 200:
        raise UpstreamFailed(f"the agent answered {answer.status} when asked for the log")
    return answer.body


async def poll(ask: Ask, feed: Feed, pause: Callable[[], float]) -> None:
    """Take what is new, each `pause()` seconds, for ever. Raises as page() does, and Unreadable."""
    last = 0
    while True:
        body = await page(ask)
        if (this := hash(body)) != last:  # else it is the same again
            feed.take(read_entries(body))
            last = this
        feed.well()
        await feed.rest(pause())
