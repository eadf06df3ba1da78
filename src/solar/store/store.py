"""The store: durable records of hosts and of requests that ended, that no request ever waits for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from solar.errors import StoreFailed
from solar.store import archive, importing
from solar.store.archive import Counts, HostLine
from solar.store.asking import Asked, Told
from solar.store.backlog import Backlog
from solar.store.connections import Connections, now_ms
from solar.store.database import RowsOf
from solar.store.facts import Host, RequestSummary, Row, row_of
from solar.store.reading import Reader, Telling
from solar.store.recorder import Recorder
from solar.store.state import StoreState

CHUNK = 1000  # entries that an export reads, and an import writes, together


def rows_of_summaries(summaries: Sequence[RequestSummary]) -> list[Row]:
    """What a store makes of what it records, unless it is told otherwise."""
    return [row_of(summary) for summary in summaries]


class Store:
    """Durable records in `data_dir`/solar.db. Somebody must run() it; its methods are for the thread of that loop.

    What is recorded becomes rows in the writer's thread, by `rows_of`. Whatever happens to the disk, the gateway goes
    on: at most `limit` entries wait to be written, the oldest are given up for new ones, and `state` tells.
    Requests are kept for `retention_days`, and while all take no more than `bytes_kept`; None: for ever, all.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        log: logging.Logger,
        retention_days: float | None = 365.0,
        bytes_kept: int | None = None,
        rows_of: RowsOf = rows_of_summaries,
        limit: int = 10_000,
    ) -> None:
        self.path = data_dir / "solar.db"
        self._backlog = Backlog(limit)
        self._connections = Connections(self.path, data_dir / "hosts.json", self._backlog, log, bytes_kept)
        self._recorder = Recorder(self._connections, self._backlog, rows_of, retention_days, log)
        self._importing = asyncio.Lock()

    def __repr__(self) -> str:
        state = self.state
        return f"<Store {self.path} {state.kind}, {state.waiting} waiting, {state.lost} lost>"

    @property
    def state(self) -> StoreState:
        """How it does, as of now."""
        backlog = self._backlog
        return replace(self._connections.state, waiting=len(backlog) + backlog.taken, lost=backlog.lost)

    def record(self, ended: object) -> None:
        """Keep a request that ended. Waits for nothing; it must not change any more."""
        self._recorder.push(ended)

    async def hosts(self) -> tuple[Host, ...]:
        """All hosts, the first registered first. Raises StoreFailed."""
        if self._connections.unused:
            return ()
        return await self._connections.ask(lambda reader: reader.hosts())

    async def put_host(self, host: Host) -> None:
        """Keep `host`, in place of one with its id. It is on disk then, or StoreFailed was raised."""
        await self._connections.do(lambda database: database.put_host(host))

    async def drop_host(self, host_id: str) -> bool:
        """Forget a host; whether there was one. Raises StoreFailed."""
        return await self._connections.do(lambda database: database.drop_host(host_id))

    async def requests(
        self,
        since_ms: int,
        until_ms: int,
        *,
        status: str | None = None,
        model: str | None = None,
        host_id: str | None = None,
        request_type: str | None = None,
        page: int = 1,
        limit: int = 200,
    ) -> Told:
        """A page of `/gateway/requests`: what ended from then and before then, the newest first.

        Raises InvalidRequest where too much is asked for, and StoreFailed; so do the others that ask.
        """
        asked = Asked(since_ms, until_ms, status, model, host_id, request_type, page=page, limit=limit)
        return await self._connections.ask(lambda reader: reader.requests(asked))

    async def stats(self, since_ms: int, until_ms: int, *, request_type: str | None = None) -> Told:
        """`/gateway/stats`: what the requests that ended in that time make together."""
        asked = Asked(since_ms, until_ms, request_type=request_type)
        return await self._connections.ask(lambda reader: reader.stats(asked))

    async def events(
        self, telling: Telling, since_ms: int, until_ms: int, *, types: Sequence[str] = (), limit: int = 1000
    ) -> Told:
        """`/gateway/events/recent`: the newest that `telling` finds in requests that ended in that time.

        The oldest of them comes first. No types: all. `telling` is called in the reader's thread.
        """
        asked = Asked(since_ms, until_ms, types=tuple(types), limit=limit)
        return await self._connections.ask(lambda reader: reader.events(asked, telling))

    async def export(self, *, keys: bool = False) -> AsyncIterator[bytes]:
        """Everything as JSON lines; the hosts' keys only if asked for. Raises StoreFailed."""
        with suppress(StoreFailed):  # a store in trouble is one to be saved
            await self.flush()
        hosts = await self.hosts()
        yield archive.first_line(now_ms()) + b"".join(archive.line_of(host, keys=keys) for host in hosts)
        last, count = 0, 0
        while True:
            lines, last = await self._connections.ask(partial(Reader.lines, row_id=last, most=CHUNK))
            if not lines:
                break
            count += len(lines)
            yield b"".join(lines)
        yield archive.last_line(Counts(len(hosts), count))

    async def import_(self, pieces: AsyncIterable[bytes]) -> Counts:
        """Take over an export: all of it or nothing, and nothing twice. Returns what was new.

        Raises InvalidRequest where it is no whole export, and StoreFailed.
        """
        unpacking, hosts, rows = archive.Unpacking(), list[HostLine](), list[Row]()
        async with self._importing:
            await self._connections.do(importing.begin)
            async for piece in pieces:
                for part in unpacking.feed(piece):
                    if isinstance(part, HostLine):
                        hosts.append(part)
                    else:
                        rows.append(row_of(part))
                if len(rows) >= CHUNK:
                    await self._connections.do(partial(importing.bring, rows=rows))
                    rows = []
            counts = unpacking.finish()
            await self._connections.do(partial(importing.bring, rows=rows))
            added = await self._connections.do(partial(importing.merge, lines=hosts, expected=counts))
        if added is None:
            raise StoreFailed("the database failed during the import; nothing was imported, try again")
        return added

    async def flush(self) -> None:
        """Return once all that was recorded until now is on disk, or was given up. Raises StoreFailed."""
        await self._recorder.flush()

    async def opened(self) -> None:
        """Return once the database can be read, however long that takes; at once where there is none yet."""
        await self._connections.opened.wait()

    async def run(self) -> None:
        """Write what comes in until stop(); then write the rest. Cancelled, it ends at once."""
        await self._recorder.run()

    def stop(self) -> None:
        """Let run() come to its end."""
        self._recorder.stop()
