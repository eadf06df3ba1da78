"""The two ways to the database, to write and to read: opened, lost, and opened again, while the loop goes on."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from solar.errors import InvalidRequest, StoreFailed
from solar.store.backlog import Backlog
from solar.store.database import Database
from solar.store.original import adopt
from solar.store.place import REVISIONS, Place, Rows, prepare
from solar.store.reading import Reader
from solar.store.state import Kind, StoreState, trouble
from solar.store.worker import Worker

SLOW = 10.0  # seconds after which a disk that does not answer is reported
LEAVE = 5.0  # seconds that it gets when the store stops
PAUSES = (0.25, 30.0)  # seconds before the next try when nothing can be written: the first, and as long as it gets

T = TypeVar("T")


class Connections:
    """Each lives in its own thread. What broke is closed; at the next try the file is looked at as if new.

    Where there is no file, none is made before there is something to be kept, or a question that it must answer.
    """

    def __init__(
        self, path: Path, original: Path, backlog: Backlog, log: logging.Logger, bytes_kept: int | None
    ) -> None:
        self._path = path
        self._original = original  # the hosts of an original coordinator, to be taken over
        self._backlog = backlog
        self._bytes_kept = bytes_kept
        self._log = log
        self._writer, self._reader = Worker("store writes"), Worker("store reads")
        self._database: Database | None = None
        self._readings: Reader | None = None  # belongs to the reader's thread
        self._doubtful = False  # somebody met damage: look at the whole file before it is used again
        self._saved: Rows = ()  # from a damaged database, and not in the new one yet
        self._turn = asyncio.Lock()
        self._tried = asyncio.Event()
        self._readable = False
        self._lost_before = 0
        self.opened = asyncio.Event()  # it can be read
        self.changed = asyncio.Event()  # whoever writes regularly should look again
        self.state = StoreState("opening", "", now_ms())
        self.pause = 0.0  # seconds before the next try; 0: all is well

    def __repr__(self) -> str:
        return f"<Connections {self._path} {self.state.kind}>"

    def begin(self) -> None:
        """Look whether there is anything yet."""
        if not (self._path.exists() or self._original.exists()):
            self._say("unused", "")
            self._tried.set()
            self.opened.set()  # there is nothing to be waited for

    @property
    def unused(self) -> bool:
        """Whether there is no database yet, nor what one should begin with."""
        return self.state.kind == "unused" and not (self._path.exists() or self._original.exists())

    async def do(self, work: Callable[[Database], T]) -> T:
        """Let `work` write; raises StoreFailed where it can't be done now."""
        async with self._turn:
            if self.state.kind == "stopped":
                raise StoreFailed("the store is stopped")
            slow = asyncio.get_running_loop().call_later(SLOW, self._say, "behind", "the disk does not answer")
            try:
                if self._database is None or self._doubtful:
                    self._database = await self._open()
                done = await self._writer.run(partial(work, self._database))
            except (sqlite3.Error, OSError, StoreFailed) as error:
                await self._failed(error)
                raise StoreFailed(self.state.reason) from error
            finally:
                slow.cancel()
                self._tried.set()
            self._fine()
            return done

    async def ask(self, question: Callable[[Reader], T]) -> T:
        """Let `question` read; raises StoreFailed where it can't be answered now."""
        await self._tried.wait()
        if self.state.kind == "unused":
            await self.do(lambda _: None)
        if not self._readable:
            async with self._turn:  # it may be on its way
                pass
        if not self._readable:
            raise StoreFailed(self.state.reason)
        try:
            return await self._reader.run(partial(self._answer, question))
        except (sqlite3.Error, OSError) as error:
            if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_INTERRUPT:
                raise InvalidRequest("That takes too long to find out; ask for a shorter time.") from None
            found = trouble(error)
            if found.damaged:
                self._doubtful = True
                self.changed.set()
            raise StoreFailed(found.reason) from error

    @property
    def doubtful(self) -> bool:
        """Whether a reader met damage: the next do() looks into it."""
        return self._doubtful

    async def close(self) -> None:
        """Give the file back, if the disk lets us, and do nothing more."""
        if (reader := self._readings) is not None:
            reader.give_up()
        with suppress(TimeoutError):
            async with asyncio.timeout(LEAVE), self._turn:
                await self._close()
        self._readable = False
        self._say("stopped", "the store is stopped")
        self._tried.set()
        self._reader.end()
        self._writer.end()

    async def _open(self) -> Database:
        await self._close()
        place = await self._writer.run(partial(prepare, self._path, doubtful=self._doubtful))
        self._doubtful = False
        self._saved += place.saved
        if place.aside is not None:
            saved = sum(table == "hosts" for table, _ in place.saved)
            said = "store: the database was damaged; it is kept as %s, the new one has the %d hosts that could be read"
            self._log.error(said, place.aside, saved)
        try:
            place = replace(place, saved=self._saved)
            opening = partial(_open, place, self._original, self._bytes_kept)
            database, adopted, wrong = await self._writer.run(opening)
            self._saved = ()
        except (sqlite3.Error, OSError):
            if place.revision == REVISIONS[-1]:  # then it may still be read
                self._found()
            raise
        if adopted:
            self._log.info("store: took over %d hosts from %s", adopted, self._original)
        if wrong is not None:
            self._log.error("store: %s", wrong)
        self._found()
        return database

    def _found(self) -> None:
        self._readable = True
        self.opened.set()
        self._tried.set()

    async def _close(self) -> None:
        """Both: were a file open that is set aside, SQLite would in the end tidy up beside the one in its place."""
        self._readable = False
        await self._reader.run(self._close_readings)
        if (database := self._database) is not None:
            self._database = None
            await self._writer.run(database.close)

    async def _failed(self, error: sqlite3.Error | OSError | StoreFailed) -> None:
        found = trouble(error)
        self._doubtful = self._doubtful or found.damaged
        first, longest = PAUSES
        self.pause = min(self.pause * 2, longest) if self.pause else first
        self.changed.set()
        if (database := self._database) is not None and not found.passing:
            self._database = None
            await self._writer.run(database.close)
        losing = self._backlog.lost > self._lost_before
        self._say(found.kind, f"{found.reason}; the oldest entries are given up" if losing else found.reason)

    def _fine(self) -> None:
        if self.pause:
            self.pause = 0.0
            self.changed.set()
        if len(self._backlog) > self._backlog.limit // 2:
            self._say("behind", "more comes in than the disk takes")
        else:
            self._say("ok", "")
            self._lost_before = self._backlog.lost

    def _say(self, kind: Kind, reason: str) -> None:
        """Once for each change."""
        before = self.state
        if (before.kind, before.reason) == (kind, reason):
            return
        self.state = StoreState(kind, reason, before.since_ms if kind == before.kind else now_ms())
        if kind in ("behind", "failing"):
            self._log.warning("store %s: %s; requests are served, their records wait", kind, reason)
        elif kind == "ok" and before.kind not in ("unused", "opening"):
            lost = self._backlog.lost - self._lost_before
            self._log.warning("store ok again, after %s; %d entries were lost", before.kind, lost)

    def _answer(self, question: Callable[[Reader], T]) -> T:
        """In the reader's thread."""
        if self._readings is None:
            self._readings = Reader(self._path)
        try:
            return question(self._readings)
        except (sqlite3.Error, OSError):
            self._close_readings()
            raise

    def _close_readings(self) -> None:
        if (reader := self._readings) is not None:
            self._readings = None
            reader.close()


def _open(place: Place, original: Path, bytes_kept: int | None) -> tuple[Database, int, str | None]:
    database = Database(place, bytes_kept)
    try:
        return database, *adopt(database, original)
    except BaseException:
        database.close()
        raise


def now_ms() -> int:
    """The time, as records have it."""
    return int(time.time() * 1000)
