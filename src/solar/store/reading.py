"""Questions to the database, for the one thread that reads. It brings SQLAlchemy, so it is imported in that thread."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, Select, case, func, select
from sqlalchemy.exc import DBAPIError

from solar.store.archive import line_of
from solar.store.asking import Asked, Told, total
from solar.store.database import connect, plain_errors
from solar.store.facts import Entry, Host, RequestSummary, RoutingEvent
from solar.store.place import BUSY_SECONDS
from solar.store.tables import events, hosts, requests

LONGEST = 10.0  # seconds that a question may take
_LOOK_EVERY = 10_000  # steps of SQLite's machine between two looks at the clock

_REQUEST = tuple(column for column in requests.columns if column.name != "id")


class Reader:
    """Reads what is written; a writer does not make it wait, nor it a writer. Raises sqlite3.Error."""

    def __init__(self, path: Path) -> None:
        self._until = 0.0
        self._path = path
        self._connection = connect(self._open, "BEGIN")

    def __repr__(self) -> str:
        return f"<Reader {self._path}>"

    def close(self) -> None:
        """Give the file back."""
        with suppress(DBAPIError):  # a broken one is rid of its file as well
            self._connection.close()

    def give_up(self) -> None:
        """Let the question that is being answered fail at once. For any thread."""
        self._until = 0.0

    def hosts(self) -> tuple[Host, ...]:
        """All of them, the first registered first."""
        with self._asking() as connection:
            rows = connection.execute(select(hosts).order_by(hosts.c.created_ms, hosts.c.id)).all()
        return tuple(Host(**(row._asdict() | {"settings": msgspec.json.decode(row.settings)})) for row in rows)

    def requests(self, asked: Asked) -> Told:
        """One page, and how many there are in all."""
        with self._asking() as connection:
            found = connection.execute(select(func.count()).select_from(matching(asked).subquery())).scalar_one()
            rows = connection.execute(page(asked)).all()
        return asked.answer_requests(found, [_request(row).as_json() for row in rows])

    def stats(self, asked: Asked) -> Told:
        """What all of them make together."""
        with self._asking() as connection:
            rows = connection.execute(tallies(asked)).all()
        return asked.answer_stats(total(map(tuple, rows)))

    def events(self, asked: Asked) -> Told:
        """The newest, the oldest of them first."""
        with self._asking() as connection:
            rows = connection.execute(recent(asked)).all()
        return asked.answer_events([_event(row).as_json() for row in reversed(rows)])

    def lines(self, kind: type[Entry], row_id: int, most: int) -> tuple[list[bytes], int]:
        """The next entries behind the row with that id, as an export has them; and the last one's id."""
        table = requests if kind is RequestSummary else events
        with self._asking() as connection:
            rows = connection.execute(select(table).where(table.c.id > row_id).order_by(table.c.id).limit(most)).all()
        made = _request if kind is RequestSummary else _event
        return [line_of(made(row[1:])) for row in rows], rows[-1].id if rows else row_id

    @contextmanager
    def _asking(self) -> Iterator[Connection]:
        self._until = time.monotonic() + LONGEST
        with plain_errors(), self._connection.begin():
            yield self._connection

    def _open(self) -> sqlite3.Connection:
        uri = f"{self._path.absolute().as_uri()}?mode=ro"
        connection = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        connection.set_progress_handler(lambda: time.monotonic() > self._until, _LOOK_EVERY)
        return connection


def matching(asked: Asked) -> Select[tuple[int]]:
    """The ids of the requests that are asked for."""
    columns = requests.c
    wanted = select(columns.id).where(columns.ended_ms >= asked.since_ms, columns.ended_ms < asked.until_ms)
    for column, value in (
        (columns.status, asked.status),
        (columns.request_type, asked.request_type),
        (columns.model, asked.model),
        (columns.host_id, asked.host_id),
    ):
        if value is not None:
            wanted = wanted.where(column == value)
    return wanted


def page(asked: Asked) -> Select[Any]:
    """One page of them, the newest first. The index alone finds them, so that late pages cost no more rows."""
    order = requests.c.ended_ms.desc(), requests.c.id.desc()
    ids = matching(asked).order_by(*order).limit(asked.limit).offset((asked.page - 1) * asked.limit)
    return select(*_REQUEST).where(requests.c.id.in_(ids)).order_by(*order)


def tallies(asked: Asked) -> Select[Any]:
    """One row for each kind of request: see asking.Tally."""
    columns = requests.c
    kinds = (
        columns.request_type,
        columns.status,
        func.coalesce(columns.resolved_model, columns.model),
        columns.host_id,
        columns.host_name,
    )
    wanted = matching(asked).with_only_columns(
        *kinds,
        func.count(),
        func.sum(case((columns.attempts > 1, 1), else_=0)),
        func.coalesce(func.sum(columns.prompt_tokens), 0),
        func.count(columns.prompt_tokens),
        func.coalesce(func.sum(columns.completion_tokens), 0),
        func.count(columns.completion_tokens),
        func.sum(columns.duration_s),
    )
    return wanted.group_by(*kinds)


def recent(asked: Asked) -> Select[Any]:
    """The newest events that are asked for, the newest first."""
    columns = events.c
    wanted = select(columns.id).where(columns.at_ms >= asked.since_ms, columns.at_ms < asked.until_ms)
    if asked.types:
        wanted = wanted.where(columns.type.in_(asked.types))
    order = columns.at_ms.desc(), columns.id.desc()
    ids = wanted.order_by(*order).limit(asked.limit)
    return select(columns.type, columns.at_ms, columns.data).where(columns.id.in_(ids)).order_by(*order)


def _request(row: Sequence[Any]) -> RequestSummary:
    return RequestSummary(**dict(zip(RequestSummary.__struct_fields__, row, strict=True)))


def _event(row: Sequence[Any]) -> RoutingEvent:
    kind, at_ms, data = row
    return RoutingEvent(kind, at_ms, msgspec.json.decode(data))
