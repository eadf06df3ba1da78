"""Brings an export into the open database: first beside the tables, then all at once. In the thread that writes."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from solar.store.archive import Counts, HostLine
from solar.store.database import Database, add, put_host
from solar.store.facts import COLUMNS, Row

_COLUMNS = ", ".join(COLUMNS)
# What makes two rows the same one. A client may give two requests one id, but not at the same two moments.
_NEW = f"""
INSERT INTO requests ({_COLUMNS}) SELECT {_COLUMNS} FROM imported WHERE NOT EXISTS (
    SELECT 1 FROM requests AS known WHERE known.ended_ms = imported.ended_ms
    AND known.duration_us = imported.duration_us AND known.request_id = imported.request_id
)
"""  # noqa: S608


def begin(database: Database) -> None:
    """Make room for an import; what is left of an earlier one goes. Nobody else sees it, and it goes with us."""
    with database.writing() as connection:
        connection.execute("DROP TABLE IF EXISTS temp.imported")
        connection.execute(f"CREATE TEMPORARY TABLE imported AS SELECT {_COLUMNS} FROM requests WHERE false")  # noqa: S608


def bring(database: Database, rows: Sequence[Row]) -> None:
    """Put some of it beside the tables."""
    with database.writing() as connection:
        add(connection, rows, "imported")


def merge(database: Database, lines: Sequence[HostLine], expected: Counts) -> Counts | None:
    """Take over what was brought: all of it, or nothing. Returns how many of each were not there before; None, and
    nothing is taken over, where the database was opened anew and so forgot what was brought.

    A host that is there gets what the import says of it; its key stays where the import has none.
    """
    with database.writing() as connection:
        count = "SELECT count(*) FROM "
        if connection.execute(f"{count} imported").fetchone()[0] != expected.requests:
            return None
        requests = connection.execute(_NEW).rowcount
        (before,) = connection.execute(f"{count} hosts").fetchone()
        for line in lines:
            row = msgspec.structs.asdict(line) | {"settings": msgspec.json.encode(line.settings).decode()}
            if line.api_key is msgspec.UNSET:
                del row["api_key"]
            put_host(connection, row)
        (after,) = connection.execute(f"{count} hosts").fetchone()
    begin(database)
    return Counts(after - before, requests)
