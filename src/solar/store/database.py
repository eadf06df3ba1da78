"""The open database, for the one thread that writes. It brings SQLAlchemy, so it is imported in that thread."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import astuple
from sqlalchemy import Connection, NullPool, Table, create_engine, delete, event, insert, select
from sqlalchemy.dialects.sqlite import dialect
from sqlalchemy.dialects.sqlite import insert as put
from sqlalchemy.exc import DBAPIError

from solar.store.facts import Entry, Host, RequestSummary
from solar.store.place import BUSY_SECONDS, REVISIONS, Place, identity
from solar.store.tables import events, hosts, meta, requests

LONGEST_LOG = 64 * 1024 * 1024  # bytes that the write-ahead log may keep on disk when nothing is in it
# What an entry can be that no database takes: it must not stand in the way of the others.
_UNFIT = (
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    ValueError,
    TypeError,
    OverflowError,
)


class Database:
    """Writes. Raises sqlite3.Error and OSError; then it is best closed and opened anew."""

    def __init__(self, place: Place) -> None:
        self.path = place.path
        self._file = identity(place.path)
        self._connection = connect(self._open, "BEGIN IMMEDIATE")
        try:
            if place.revision != REVISIONS[-1]:
                _migrate(self._connection)
            with self.writing() as connection:  # finds out whether it can
                for table, row in place.saved:
                    connection.execute(
                        put({"hosts": hosts, "meta": meta}[table]).on_conflict_do_nothing(), _named(table, row)
                    )
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<Database {self.path}>"

    def close(self) -> None:
        """Give the file back."""
        with suppress(DBAPIError):  # a broken one is rid of its file as well
            self._connection.close()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction: all of it or nothing."""
        if self._file != identity(self.path):
            raise FileNotFoundError(errno.ENOENT, "the database was moved or removed by somebody", str(self.path))
        with plain_errors(), self._connection.begin():
            yield self._connection

    def write(self, batch: Sequence[Entry]) -> int:
        """Write the entries; returns how many of them cannot be written, ever."""
        try:
            with self.writing() as connection:
                add(connection, batch, _ADD)
        except _UNFIT:
            return self._write_each(batch)
        return 0

    def _write_each(self, batch: Sequence[Entry]) -> int:
        unfit = 0
        with self.writing() as connection:
            for entry in batch:
                try:
                    with plain_errors():
                        add(connection, [entry], _ADD)
                except _UNFIT:
                    unfit += 1
        return unfit

    def put_host(self, host: Host) -> None:
        """Write `host`, in place of the one with its id if there is one."""
        row = row_of_host(host)
        with self.writing() as connection:
            connection.execute(put(hosts).values(row).on_conflict_do_update(index_elements=["id"], set_=row))

    def drop_host(self, host_id: str) -> bool:
        """Whether there was one."""
        with self.writing() as connection:
            return connection.execute(delete(hosts).where(hosts.c.id == host_id)).rowcount > 0

    def prune(self, before_ms: int, most: int) -> int:
        """Delete what is older; at most so many of each table, so that nobody waits long. Returns how many it were."""
        with self.writing() as connection:
            return sum(
                connection.execute(
                    delete(table).where(table.c.id.in_(select(table.c.id).where(time < before_ms).limit(most)))
                ).rowcount
                for table, time in ((requests, requests.c.ended_ms), (events, events.c.at_ms))
            )

    def recall(self, key: str) -> Any:
        """What was remembered as `key`, or None."""
        with plain_errors(), self._connection.begin():
            text = self._connection.execute(select(meta.c.value).where(meta.c.key == key)).scalar()
        return None if text is None else msgspec.json.decode(text)

    def _open(self) -> sqlite3.Connection:
        # The mode keeps it from making a file: prepare() did, with the mode that it must have.
        uri = f"{self.path.absolute().as_uri()}?mode=rw"
        connection = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")  # readers and the writer do not wait for each other
            connection.execute("PRAGMA synchronous = FULL")  # what was committed outlives a power cut
            connection.execute(f"PRAGMA journal_size_limit = {LONGEST_LOG}")
        except sqlite3.Error:
            connection.close()
            raise
        return connection


def connect(open_file: Callable[[], sqlite3.Connection], begin: str) -> Connection:
    """A connection of SQLAlchemy's; `begin` opens its transactions."""
    engine = create_engine("sqlite://", creator=open_file, poolclass=NullPool)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    with plain_errors():
        return engine.connect()


@contextmanager
def plain_errors() -> Iterator[None]:
    """Raise sqlite3's own errors: they have the codes."""
    try:
        yield
    except DBAPIError as error:
        raise (error.orig or error) from None


def remember(connection: Connection, key: str, value: object) -> None:
    """Keep a small fact about the database in it."""
    text = msgspec.json.encode(value).decode()
    connection.execute(
        put(meta).values(key=key, value=text).on_conflict_do_update(index_elements=["key"], set_={"value": text})
    )


def row_of_host(host: Host) -> dict[str, Any]:
    """As the table has it."""
    return {
        "id": host.id,
        "name": host.name,
        "url": host.url,
        "api_key": host.api_key,
        "created_ms": host.created_ms,
        "settings": msgspec.json.encode(host.settings).decode(),
    }


def row_of(entry: Entry) -> tuple[Any, ...]:
    """The values of a row, but for its id."""
    if isinstance(entry, RequestSummary):
        return astuple(entry)
    return entry.type, entry.at_ms, msgspec.json.encode(entry.data).decode()


def adding(table: Table) -> str:
    """The statement that adds a row. As text, rows go to SQLite as they are: half the time of statement objects."""
    names = [column.name for column in table.columns if column.name != "id"]
    return str(insert(table).compile(dialect=dialect(), column_keys=names))


_ADD = (adding(requests), adding(events))


def add(connection: Connection, batch: Sequence[Entry], statements: tuple[str, str]) -> None:
    """Add rows: requests by the first statement, events by the second."""
    for made, statement in zip((True, False), statements, strict=True):
        rows = [row_of(entry) for entry in batch if isinstance(entry, RequestSummary) is made]
        if rows:
            connection.exec_driver_sql(statement, rows)


def _named(table: str, row: tuple[str | int, ...]) -> dict[str, str | int]:
    columns = (hosts if table == "hosts" else meta).columns
    return {column.name: value for column, value in zip(columns, row, strict=True)}


def _migrate(connection: Connection) -> None:
    """Bring the schema to the newest revision. Alembic takes as long to load as the rest, so only here."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", os.fspath(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    with plain_errors(), connection.begin():
        command.upgrade(config, "head")
