"""A source: the page on which an agent tells the lines that it holds of an instance's log, asked again and again."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from urllib.parse import quote

from solar.control.fleet.hosts import HostWatch
from solar.control.logs.feed import Feed
from solar.control.logs.items import Key
from solar.errors import UpstreamFailed
from solar.wire.lines import Entry, read_entries

_OF_A_HOST = 2  # pages that one agent is asked for at once


def path_of(key: Key) -> str:
    """Where an agent tells a log."""
    return f"/instances/{quote(key.instance_id, safe='')}/logs"


class Pages:
    """Asks agents for their lines. Many logs at once hurry neither an agent nor, as pages are long, our requests."""

    def __init__(self) -> None:
        self._asking: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(_OF_A_HOST))
        self._reading = asyncio.Lock()

    async def get(self, watch: HostWatch, key: Key) -> bytes:
        """What the agent answers. Raises HostUnreachable, or UpstreamFailed where it refuses."""
        async with self._asking[key.host_id]:
            answer = await watch.ask("GET", path_of(key))
        if answer.status != 200:
            raise UpstreamFailed(f"the agent answered {answer.status} when asked for the log")
        return answer.body

    async def read(self, body: bytes, take: Callable[[tuple[Entry, ...]], None]) -> None:
        """Let `take` have the lines of an answer, when it is its turn. Raises Unreadable."""
        async with self._reading:
            take(read_entries(body))
            await asyncio.sleep(0)  # requests are served between two pages


async def poll(pages: Pages, watch: HostWatch, feed: Feed, pause: Callable[[], float]) -> None:
    """Take what is new, each `pause()` seconds, for ever. Raises as Pages does."""

    def taken(entries: Sequence[Entry]) -> None:
        feed.take(entries)
        feed.well()

    last = 0
    while True:
        body = await pages.get(watch, feed.key)
        if (this := hash(body)) == last:
            feed.well()
        else:
            await pages.read(body, taken)
            last = this
        await feed.rest(pause())
