"""Questions to the database, for the one thread that reads."""

from __future__ import annotations

import heapq
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from solar.store.archive import line_of
from solar.store.asking import Asked, Told, total
from solar.store.facts import COLUMNS, Host, RequestSummary, iso, of_row
from solar.store.place import BUSY_SECONDS

LONGEST = 10.0  # seconds that a question may take
_LOOK_EVERY = 10_000  # steps of SQLite's machine between two looks at the clock

_REQUEST = f"SELECT {', '.join(COLUMNS)} FROM requests"  # noqa: S608
_KINDS = "request_type, status, coalesce(resolved_model, model), host_id, host_name"
_TALLIES = (  # see asking.Tally
    f"SELECT {_KINDS}, count(*), sum(attempts > 1), coalesce(sum(prompt_tokens), 0), count(prompt_tokens),"  # noqa: S608
    " coalesce(sum(completion_tokens), 0), count(completion_tokens), sum(duration_us) / 1e6 FROM requests"
)
# As the index on them has it, so that SQLite knows it again.
_IN_TROUBLE = "(status <> 'success' OR attempts > 1)"


class Happened(NamedTuple):
    """One thing on a request's way."""

    at_ms: int
    type: str  # request_start, request_routed, ...
    data: object  # for JSON


Telling = Callable[[RequestSummary], Iterable[Happened]]


class Reader:
    """Reads what is written; a writer does not make it wait, nor it a writer. Raises sqlite3.Error."""

    def __init__(self, path: Path) -> None:
        self._until = 0.0
        self._path = path
        uri = f"{path.absolute().as_uri()}?mode=ro"
        connect = sqlite3.connect
        self._connection = connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        self._connection.set_progress_handler(lambda: time.monotonic() > self._until, _LOOK_EVERY)

    def __repr__(self) -> str:
        return f"<Reader {self._path}>"

    def close(self) -> None:
        """Give the file back."""
        self._connection.close()

    def give_up(self) -> None:
        """Let the question that is being answered fail at once. For any thread."""
        self._until = 0.0

    def hosts(self) -> tuple[Host, ...]:
        """All of them, the first registered first."""
        with self._asking() as connection:
            rows = connection.execute(
                "SELECT id, name, url, api_key, created_ms, settings FROM hosts ORDER BY created_ms, id"
            ).fetchall()
        return tuple(
            Host(host_id, name, url, key, created_ms, msgspec.json.decode(settings))
            for host_id, name, url, key, created_ms, settings in rows
        )

    def requests(self, asked: Asked) -> Told:
        """One page, and how many there are in all."""
        with self._asking() as connection:
            (found,) = connection.execute(*counting(asked)).fetchone()
            rows = connection.execute(*page(asked)).fetchall()
        return asked.answer_requests(found, [of_row(row).as_json() for row in rows])

    def stats(self, asked: Asked) -> Told:
        """What all of them make together."""
        with self._asking() as connection:
            return asked.answer_stats(total(connection.execute(*tallies(asked))))

    def events(self, asked: Asked, telling: Telling) -> Told:
        """The newest that `telling` finds in what ended, the oldest of them first."""
        newest: list[tuple[int, int, Happened]] = []
        turn = count(0, -1)  # of two at one time the first told is the older one, and rows come the newest first
        with self._asking() as connection:
            for row in connection.execute(*in_order(asked)):
                summary = of_row(row)
                if len(newest) == asked.limit and newest[0][0] >= summary.ended_ms:
                    break  # nothing that is older can be newer than these
                for happened in reversed(tuple(telling(summary))):
                    if happened.type in asked.types or not asked.types:
                        add = heapq.heappush if len(newest) < asked.limit else heapq.heappushpop
                        add(newest, (happened.at_ms, next(turn), happened))
        items = [{"type": one.type, "timestamp": iso(one.at_ms), "data": one.data} for _, _, one in sorted(newest)]
        return asked.answer_events(items)

    def lines(self, row_id: int, most: int) -> tuple[list[bytes], int]:
        """The next requests behind the row with that id, as an export has them; and the last one's id."""
        question = f"{_REQUEST.replace('SELECT', 'SELECT id,')} WHERE id > ? ORDER BY id LIMIT ?"
        with self._asking() as connection:
            rows = connection.execute(question, (row_id, most)).fetchall()
        return [line_of(of_row(row[1:])) for row in rows], rows[-1][0] if rows else row_id

    @contextmanager
    def _asking(self) -> Iterator[sqlite3.Connection]:
        self._until = time.monotonic() + LONGEST
        self._connection.execute("BEGIN")
        try:
            yield self._connection
        finally:
            if self._connection.in_transaction:
                self._connection.execute("COMMIT")


Question = tuple[str, list[Any]]


def counting(asked: Asked) -> Question:
    """How many requests are asked for."""
    where, values = _matching(asked)
    return f"SELECT count(*) FROM requests {where}", values  # noqa: S608


def page(asked: Asked) -> Question:
    """One page of them, the newest first. What stands before it is skipped without being read."""
    where, values = _matching(asked)
    order = "ORDER BY ended_ms DESC, id DESC"
    ids = f"SELECT id FROM requests {where} {order} LIMIT ? OFFSET ?"  # noqa: S608
    return f"{_REQUEST} WHERE id IN ({ids}) {order}", [*values, asked.limit, (asked.page - 1) * asked.limit]


def tallies(asked: Asked) -> Question:
    """One row for each kind of request."""
    where, values = _matching(asked)
    return f"{_TALLIES} {where} GROUP BY {_KINDS}", values


def in_order(asked: Asked) -> Question:
    """All of them, the newest first; only what went wrong where only that is asked for."""
    where, values = _matching(asked)
    if asked.only_trouble:
        where += f" AND {_IN_TROUBLE}"
    return f"{_REQUEST} {where} ORDER BY ended_ms DESC, id DESC", values


def _matching(asked: Asked) -> Question:
    filters = {
        "status": asked.status,
        "request_type": asked.request_type,
        "model": asked.model,
        "host_id": asked.host_id,
    }
    wanted = {name: value for name, value in filters.items() if value is not None}
    where = "".join(f" AND {name} = ?" for name in wanted)
    if asked.status not in (None, "success"):
        where += f" AND {_IN_TROUBLE}"
    return f"WHERE ended_ms >= ? AND ended_ms < ?{where}", [asked.since_ms, asked.until_ms, *wanted.values()]
