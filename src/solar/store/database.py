"""The open database, for the one thread that writes."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from solar.errors import MissingExtra, StoreFailed
from solar.store.facts import COLUMNS, OPTIONAL_NUMBERS, OPTIONAL_TEXTS, Host, Row
from solar.store.place import BUSY_SECONDS, REVISIONS, Place, identity

LONGEST_LOG = 64 * 1024 * 1024  # bytes that the write-ahead log may keep on disk when nothing is in it
MIGRATIONS = Path(__file__).parent / "migrations"
_SCHEMA = Path(__file__).with_name("schema.sql")
# Rows that one statement adds. sqlite3 lets other threads run, and waits to go on, at each statement: with a row in
# each, and a busy event loop beside it, a row costs ten times as much.
_TOGETHER = (100, 10, 1)
# What a row can be that no database takes: it must not stand in the way of the others.
_UNFIT = (
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    ValueError,
    TypeError,
    OverflowError,
)

RowsOf = Callable[[Sequence[Any]], list[Row]]


class Database:
    """Writes. Raises sqlite3.Error and OSError; then it is best closed and opened anew.

    Requests that ended take `bytes_kept` at most: beyond that the oldest go as new ones come. None: all may stay.
    """

    def __init__(self, place: Place, bytes_kept: int | None = None) -> None:
        self.path = place.path
        self._file = identity(place.path)
        self._bytes_kept = bytes_kept
        self._connection = _open(place.path)
        try:
            if place.revision is None:
                self._connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA.read_text()} COMMIT;")
            elif place.revision != REVISIONS[-1]:
                _migrate(place.path)
            with self.writing() as connection:  # finds out whether it can
                for table, row in place.saved:
                    values = ", ".join("?" * len(row))
                    connection.execute(f"INSERT OR IGNORE INTO {table} VALUES ({values})", row)  # noqa: S608
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<Database {self.path}>"

    def close(self) -> None:
        """Give the file back."""
        self._connection.close()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it or nothing."""
        if self._file != identity(self.path):
            raise FileNotFoundError(errno.ENOENT, "the database was moved or removed by somebody", str(self.path))
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def write(self, ended: Sequence[Any], rows_of: RowsOf) -> int:
        """Write the rows of what ended; returns how many there were that cannot be written, ever."""
        try:
            with self.writing() as connection:
                add(connection, rows_of(ended))
                self._make_room(connection, 2 * len(ended))
        except _UNFIT:
            return self._write_each(ended, rows_of)
        return 0

    def _write_each(self, ended: Sequence[Any], rows_of: RowsOf) -> int:
        unfit = 0
        with self.writing() as connection:
            for one in ended:
                try:
                    add(connection, rows_of([one]))
                except _UNFIT:
                    unfit += 1
        return unfit

    def _make_room(self, connection: sqlite3.Connection, most: int) -> int:
        """Delete what is the oldest, `most` rows at a time, where all take more than they may."""
        if self._bytes_kept is None or _size(connection) <= self._bytes_kept:
            return 0
        return _delete(connection, "true", (), most)

    def prune(self, before_ms: int | None, most: int) -> int:
        """Delete what is too old or too much: `most` rows, so that nobody waits long. Returns how many it were."""
        with self.writing() as connection:
            old = 0 if before_ms is None else _delete(connection, "ended_ms < ?", (before_ms,), most)
            return old or self._make_room(connection, most)

    def put_host(self, host: Host) -> None:
        """Write `host`, in place of the one with its id if there is one."""
        with self.writing() as connection:
            put_host(connection, row_of_host(host))

    def drop_host(self, host_id: str) -> bool:
        """Whether there was one."""
        with self.writing() as connection:
            return connection.execute("DELETE FROM hosts WHERE id = ?", (host_id,)).rowcount > 0

    def recall(self, key: str) -> Any:
        """What was remembered as `key`, or None."""
        row = self._connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else msgspec.json.decode(row[0])


def _open(path: Path) -> sqlite3.Connection:
    # The mode keeps it from making a file: prepare() did, with the mode that it must have.
    uri = f"{path.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")  # readers and the writer do not wait for each other
        connection.execute("PRAGMA synchronous = FULL")  # what was committed outlives a power cut
        connection.execute(f"PRAGMA journal_size_limit = {LONGEST_LOG}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _size(connection: sqlite3.Connection) -> int:
    """Bytes of the file that hold something."""
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def _delete(connection: sqlite3.Connection, which: str, values: Sequence[int], most: int) -> int:
    oldest = f"SELECT id FROM requests WHERE {which} ORDER BY ended_ms LIMIT ?"  # noqa: S608
    return connection.execute(f"DELETE FROM requests WHERE id IN ({oldest})", (*values, most)).rowcount  # noqa: S608


def _adding(table: str, count: int) -> str:
    nothing = dict.fromkeys(OPTIONAL_NUMBERS, "nullif(?, -1)") | dict.fromkeys(OPTIONAL_TEXTS, "nullif(?, '')")
    values = ", ".join([f"({', '.join(nothing.get(name, '?') for name in COLUMNS)})"] * count)
    return f"INSERT INTO {table} ({', '.join(COLUMNS)}) VALUES {values}"  # noqa: S608


_ADDING = {table: [(count, _adding(table, count)) for count in _TOGETHER] for table in ("requests", "imported")}


def add(connection: sqlite3.Connection, rows: Sequence[Row], table: str = "requests") -> None:
    """Add rows of requests to the table of them, or to what is `imported`."""
    done = 0
    for count, statement in _ADDING[table]:
        while len(rows) - done >= count:
            connection.execute(statement, list(chain.from_iterable(rows[done : done + count])))
            done += count


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


def put_host(connection: sqlite3.Connection, row: dict[str, Any]) -> None:
    """Write a host; one that is there keeps what `row` does not say."""
    changes = ", ".join(f"{name} = excluded.{name}" for name in row)
    new = {"api_key": ""} | row
    names, values = ", ".join(new), ", ".join(f":{name}" for name in new)
    connection.execute(f"INSERT INTO hosts ({names}) VALUES ({values}) ON CONFLICT (id) DO UPDATE SET {changes}", new)  # noqa: S608


def remember(connection: sqlite3.Connection, key: str, value: object) -> None:
    """Keep a small fact about the database in it."""
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, msgspec.json.encode(value).decode()))


def _migrate(path: Path) -> None:
    """Bring the schema to the newest revision. It loads SQLAlchemy and Alembic, as much as half a gateway."""
    try:
        from alembic import command
        from alembic.config import Config
        from sqlalchemy import NullPool, create_engine, event
        from sqlalchemy.exc import DBAPIError
    except ModuleNotFoundError as missing:
        what = f"{path} is of an older Solar; to bring it up to date"
        raise StoreFailed(MissingExtra.of(what, missing.name or "Alembic", "server").message) from None

    engine = create_engine("sqlite://", creator=lambda: _open(path), poolclass=NullPool)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    config = Config()
    config.set_main_option("script_location", os.fspath(MIGRATIONS).replace("%", "%%"))
    try:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except DBAPIError as error:
        raise (error.orig or error) from None  # the database's own errors have the codes
