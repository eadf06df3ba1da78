"""The database's file, before anything is written to it: its modes, whose it is, whether it is whole."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from solar.errors import StoreFailed
from solar.store.state import trouble

REVISIONS = ("0001",)  # of the schema, the newest last; a file in migrations/versions makes each
BUSY_SECONDS = 1.0  # how long to wait for a lock of another process, each time

_KEPT = {  # what is saved from a damaged database, where it can still be read and makes sense
    "hosts": (
        "SELECT id, name, url, api_key, created_ms, settings FROM hosts WHERE typeof(id) || typeof(name) || typeof(url)"
        " || typeof(api_key) || typeof(created_ms) = 'texttexttexttextinteger' AND json_valid(settings)"
    ),
    "meta": "SELECT key, value FROM meta WHERE typeof(key) = 'text' AND json_valid(value)",
}

Rows = tuple[tuple[str, tuple[str | int, ...]], ...]  # each with the name of its table


@dataclass(frozen=True, slots=True)
class Place:
    """A file that can be opened."""

    path: Path
    revision: str | None  # of the schema in it; None: there is none yet
    aside: Path | None = None  # where the damaged file is that stood here
    saved: Rows = ()  # what could be read from that

    def __repr__(self) -> str:  # saved rows have keys in them
        return f"<Place {self.path}, schema {self.revision}, {len(self.saved)} rows saved>"


def prepare(path: Path, *, doubtful: bool) -> Place:
    """Make sure that the file at `path` is there, its owner's alone, and ours. A damaged one is set aside.

    `doubtful`: look at every page, not only at the first. Raises StoreFailed where the file is not ours or newer than
    we are, OSError and sqlite3.Error where it can't be had now. In none of these cases it is changed.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with alone_in(path.parent):
        _make_private(path)
        try:
            return Place(path, _revision(path, doubtful=doubtful))
        except sqlite3.DatabaseError as error:
            if not trouble(error).damaged:
                raise
        aside = _set_aside(path)
        saved = tuple(_rows(aside))
        _make_private(path)
        return Place(path, None, aside, saved)


def identity(path: Path) -> tuple[int, int] | None:
    """Which file stands at `path`; None where there is none."""
    try:
        facts = path.stat()
    except FileNotFoundError:
        return None
    return facts.st_dev, facts.st_ino


def beside(path: Path) -> tuple[Path, Path]:
    """The files that SQLite keeps beside the database: what is not in it yet, and an index of that."""
    return path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")


@contextlib.contextmanager
def alone_in(directory: Path) -> Iterator[None]:
    """Let nobody else in meanwhile: processes that start at once must not make, or set aside, each other's files."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _make_private(path: Path) -> None:
    """Keys stand in it. SQLite gives the files beside it the same mode, when it makes them."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    for file in (path, *beside(path)):
        with contextlib.suppress(FileNotFoundError, PermissionError):  # another's file is that other's to close
            if file.stat().st_mode & 0o077:
                file.chmod(0o600)


def _revision(path: Path, *, doubtful: bool) -> str | None:
    """The revision of the schema in the file; raises sqlite3.DatabaseError where it is damaged."""
    if path.stat().st_size == 0 and _has_bytes(beside(path)[0]):
        raise _damaged("the file was cut to nothing")  # opened for writing, it would take the rest with it
    with closing(_open(path)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if doubtful and (found := connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise _damaged(found)
        if not tables:
            return None
        if "alembic_version" not in tables:
            raise StoreFailed(f"{path} is the database of another program; name another directory with --data-dir")
        rows = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    revision = rows[0][0] if rows else None
    if revision is not None and revision not in REVISIONS:
        raise StoreFailed(
            f"{path} was written by a newer Solar (its schema is {revision}, this one knows {REVISIONS[-1]}); "
            "install that version, or name another directory with --data-dir"
        )
    return revision


def _damaged(why: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(why)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def _set_aside(path: Path) -> Path:
    """Give the damaged file another name, and what SQLite had not put into it yet the name that goes with it."""
    name = f"{path.name}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    names = (path.with_name(name if number == 1 else f"{name}-{number}") for number in count(1))
    aside = next(free for free in names if not free.exists())
    wal, shm = beside(path)
    with contextlib.suppress(FileNotFoundError):
        wal.rename(beside(aside)[0])  # first: left alone, it would become part of the next database
    path.rename(aside)
    shm.unlink(missing_ok=True)
    return aside


def _rows(aside: Path) -> Iterator[tuple[str, tuple[str | int, ...]]]:
    if not _has_bytes(aside):  # SQLite would delete its log
        return
    for table, question in _KEPT.items():
        with contextlib.suppress(sqlite3.Error), closing(_open(aside)) as connection:
            connection.execute("PRAGMA writable_schema = ON")  # or it would not read a file that was cut
            for row in connection.execute(question):
                yield table, row
    beside(aside)[1].unlink(missing_ok=True)


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_SECONDS, isolation_level=None)


def _has_bytes(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False
