"""Where logs are written: here. The gateway's own lines, those of its requests first of all."""

from __future__ import annotations

import asyncio
import re
import threading
from collections import deque
from collections.abc import Callable
from functools import partial

from solar.control.logs.feed import Feed
from solar.control.logs.hub import LogHub
from solar.control.logs.items import Key, Place
from solar.edge.linewriter import BatchedLines
from solar.wire.lines import Entry, shortened

PLACE = Place("gateway", "requests", "gateway", "requests")
MOST = 1000  # lines that are kept while nobody reads them

_TEXT = re.compile(r"(\d{4}-\d\d-\d\dT[\d:.]+Z) ")
_JSON = re.compile(r'\{"time": "(\d{4}-\d\d-\d\dT[\d:.]+Z)"')


class OwnLog:
    """What `lines` writes. Until somebody reads it, a batch of lines costs no more than being kept."""

    def __init__(self, lines: BatchedLines) -> None:
        self._batches: deque[tuple[str, int]] = deque()  # with their numbers of lines
        self._kept = 0  # lines in them
        self._number = 0  # of the first of them
        self._lock = threading.Lock()  # lines come from any thread
        self._news: Callable[[], object] | None = None  # wakes who reads
        lines.told = self._told

    def __repr__(self) -> str:
        return f"<OwnLog, {self._kept} lines wait>"

    def begin(self, hub: LogHub) -> None:
        """Tell `hub` which log there is."""
        hub.tell(PLACE)

    def has(self, key: Key) -> bool:
        """Whether it is this one."""
        return key == PLACE.key

    async def follow(self, feed: Feed) -> None:
        """Follow it, until cancelled."""
        news = asyncio.Event()
        self._news = partial(asyncio.get_running_loop().call_soon_threadsafe, news.set)
        try:
            while True:
                news.clear()
                feed.take(self._taken())
                feed.well()
                await news.wait()
        finally:
            self._news = None

    def _told(self, text: str) -> None:
        count = text.count("\n")
        with self._lock:
            self._batches.append((text, count))
            self._kept += count
            while self._kept - self._batches[0][1] >= MOST:
                _, dropped = self._batches.popleft()
                self._kept -= dropped
                self._number += dropped
        if (news := self._news) is not None:
            news()

    def _taken(self) -> list[Entry]:
        with self._lock:
            text, number = "".join(text for text, _ in self._batches), self._number
            self._number += self._kept
            self._batches.clear()
            self._kept = 0
        return [_entry(seq, line) for seq, line in enumerate(text.split("\n")[:-1], number)]


def _entry(seq: int, line: str) -> Entry:
    if time := _TEXT.match(line):
        return Entry(seq, time[1], shortened(line[time.end() :]))
    time = _JSON.match(line)
    return Entry(seq, time[1] if time else "", shortened(line))
