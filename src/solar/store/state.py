"""How the store does, in words, and what an error of the database means for it."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Literal

from solar.errors import SolarError
from solar.store.facts import iso

Kind = Literal[
    "unused",  # nothing was kept yet, and there is no file
    "opening",
    "ok",
    "behind",  # nothing is wrong with the database; entries wait longer than they should
    "failing",  # nothing can be written
    "stopped",
]


@dataclass(frozen=True, slots=True)
class StoreState:
    """How the store does. Requests are served in every state."""

    kind: Kind
    reason: str  # for people; empty where all is well
    since_ms: int  # of this kind
    waiting: int = 0  # entries that are not written yet
    lost: int = 0  # entries that were given up since the start

    def as_json(self) -> dict[str, str | int]:
        """As health pages show it."""
        return {
            "state": self.kind,
            "reason": self.reason,
            "since": iso(self.since_ms),
            "waiting": self.waiting,
            "lost": self.lost,
        }


@dataclass(frozen=True, slots=True)
class Trouble:
    """What went wrong, as far as it matters here."""

    kind: Literal["behind", "failing"]
    reason: str
    damaged: bool = False  # the file may be; look at all of it
    passing: bool = False  # the connection is still good


_REASONS = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_READONLY: "the database is read-only; let this user write the file and its directory",
    sqlite3.SQLITE_CANTOPEN: "the database cannot be opened; let this user write the file and its directory",
    sqlite3.SQLITE_CORRUPT: "the database is damaged",
    sqlite3.SQLITE_NOTADB: "the database is damaged: it is no SQLite file",
}


def trouble(error: sqlite3.Error | OSError | SolarError) -> Trouble:
    """What `error` means."""
    if isinstance(error, SolarError):
        return Trouble("failing", error.message)
    if isinstance(error, OSError):
        where = f" ({error.filename})" if error.filename else ""
        return Trouble("failing", f"{(error.strerror or str(error)).lower()}{where}")
    full_code: int = getattr(error, "sqlite_errorcode", 0)
    code = full_code & 0xFF  # the rest of it says where
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Trouble("behind", "another process holds the database locked", passing=True)
    if code == sqlite3.SQLITE_IOERR:
        reason = f"the disk does not read or write ({getattr(error, 'sqlite_errorname', error)})"
        return Trouble("failing", reason, passing=full_code == sqlite3.SQLITE_IOERR_WRITE)  # a quota, say
    damaged = code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    return Trouble("failing", _REASONS.get(code, str(error)), damaged, passing=code == sqlite3.SQLITE_FULL)
