"""What writes the records: in batches, each in one transaction, as long as it lives; and deletes what is too old."""

from __future__ import annotations

import asyncio
import logging
import math
from contextlib import suppress

from solar.errors import StoreFailed
from solar.store.backlog import Backlog
from solar.store.connections import LEAVE, Connections, now_ms
from solar.store.database import Database, RowsOf

GATHER = 0.25  # seconds that an entry waits for others, to be written with them
BATCH = 1000  # entries that are written together
PRUNE_EVERY = 3600.0  # seconds between two looks for what is too old
PRUNE_STEP = 1000  # rows that are deleted together


class Recorder:
    """The one that takes from the backlog. Its methods are for the thread of the loop that it runs in."""

    def __init__(
        self,
        connections: Connections,
        backlog: Backlog,
        rows_of: RowsOf,
        retention_days: float | None,
        log: logging.Logger,
    ) -> None:
        self._connections = connections
        self._backlog = backlog
        self._rows_of = rows_of
        self._retention_days = retention_days
        self._log = log
        self._wake = connections.changed
        self._flushes: list[asyncio.Future[None]] = []
        self._stopping = False
        self._end: asyncio.Timeout | None = None  # of run()
        self._next_prune = -math.inf

    def __repr__(self) -> str:
        return f"<Recorder {self._backlog!r}>"

    def push(self, entry: object) -> None:
        """Take an entry: O(1), and nothing is waited for."""
        waiting = self._backlog.push(entry)
        if waiting == 1 or waiting == BATCH:
            self._wake.set()

    async def flush(self) -> None:
        """Return once all that was recorded until now is on disk, or was given up. Raises StoreFailed."""
        if self._connections.state.kind == "stopped":
            raise StoreFailed("the store is stopped")
        written = asyncio.get_running_loop().create_future()
        self._flushes.append(written)
        self._wake.set()
        await written

    async def run(self) -> None:
        """Write what comes in until stop(); then write the rest. Cancelled, it ends at once."""
        try:
            async with asyncio.timeout(None) as self._end:
                self._connections.begin()
                while not self._stopping:
                    await self._step()
                    await self._rest()
                await self._step(all_of_it=True)
        except TimeoutError:
            pass  # what is left is said below
        finally:
            self._end = None
            if left := len(self._backlog) + self._backlog.taken:
                self._log.error("store: %d entries are lost at the end: %s", left, self._connections.state.reason)
            await self._connections.close()
            self._answer(len(self._flushes), StoreFailed("the store is stopped"))

    def stop(self) -> None:
        """Let run() come to its end, soon even if the disk hangs."""
        self._stopping = True
        self._wake.set()
        if self._end is not None:
            self._end.reschedule(asyncio.get_running_loop().time() + LEAVE)

    async def _step(self, *, all_of_it: bool = False) -> None:
        """Write what waits, and delete a little of what is too old. What can't be done now is done after a pause."""
        asked = len(self._flushes)
        left = len(self._backlog) if asked or all_of_it else min(BATCH, len(self._backlog))
        if self._connections.unused and not (asked or left):
            return
        try:
            if not left:
                await self._connections.do(_nothing)  # it may not be open yet
            while left > 0:
                left -= await self._write()
            self._answer(asked)
            asked = 0
            await self._prune_some()
        except StoreFailed as error:
            self._answer(asked, error)

    async def _write(self) -> int:
        """Write the oldest entries; how many. If that fails they go back to their place."""
        batch = self._backlog.take(BATCH)
        try:
            unfit = await self._connections.do(lambda database: database.write(batch, self._rows_of))
        except StoreFailed:
            self._backlog.give_back(batch)
            raise
        self._backlog.written(unfit)
        if unfit:
            self._log.error("store: %d entries are lost: no database could hold what is in them", unfit)
        return len(batch)

    async def _prune_some(self) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._next_prune:
            return
        days = self._retention_days
        before = None if days is None else now_ms() - int(days * 86_400_000)
        if not await self._connections.do(lambda database: database.prune(before, PRUNE_STEP)):
            self._next_prune = now + PRUNE_EVERY

    async def _rest(self) -> None:
        """Wait until there is something to do: a full batch, an entry that waited long enough, old ones to delete."""
        loop = asyncio.get_running_loop()
        resting_since, entry_since = loop.time(), math.inf
        while not (self._stopping or self._flushes):
            if pause := self._connections.pause:
                until = resting_since + pause
            elif len(self._backlog) >= BATCH or self._connections.doubtful:
                return
            else:
                entry_since = min(entry_since, loop.time()) if self._backlog else math.inf
                until = min(entry_since + GATHER, math.inf if self._connections.unused else self._next_prune)
            if until <= loop.time():
                return
            self._wake.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(until if until < math.inf else None):
                    await self._wake.wait()

    def _answer(self, count: int, error: StoreFailed | None = None) -> None:
        """Tell the first `count` of those who asked for it that all is written, or why not."""
        answered, self._flushes = self._flushes[:count], self._flushes[count:]
        for flush in answered:
            if flush.done():  # whoever asked has left
                continue
            if error is None:
                flush.set_result(None)
            else:
                flush.set_exception(error)


def _nothing(_: Database) -> None:
    """Opening is all that is wanted."""
