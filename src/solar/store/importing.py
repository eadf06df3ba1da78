"""Brings an export into the open database: first beside the tables, then all at once. In the thread that writes."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from sqlalchemy import Column, MetaData, Table, exists, func, insert, select
from sqlalchemy.dialects.sqlite import insert as put

from solar.store.archive import Counts, HostLine
from solar.store.database import Database, add, adding
from solar.store.facts import Entry
from solar.store.tables import events, hosts, requests


def _beside(table: Table) -> Table:
    """Seen by this connection only, and gone with it."""
    columns = [Column(column.name, column.type) for column in table.columns if column.name != "id"]
    return Table(f"imported_{table.name}", MetaData(), *columns, prefixes=["TEMPORARY"])


_REQUESTS, _EVENTS = _beside(requests), _beside(events)
_ADD = (adding(_REQUESTS), adding(_EVENTS))

# What makes two rows the same one. A client may give two requests one id, but not at the same two moments.
_SAME = {
    requests: (_REQUESTS, ("ended_ms", "started_ms", "request_id")),
    events: (_EVENTS, ("at_ms", "type", "data")),
}


def begin(database: Database) -> None:
    """Make room for an import; what is left of an earlier one goes."""
    with database.writing() as connection:
        for table in (_REQUESTS, _EVENTS):
            table.drop(connection, checkfirst=True)
            table.create(connection)


def bring(database: Database, entries: Sequence[Entry]) -> None:
    """Put some of it beside the tables."""
    with database.writing() as connection:
        add(connection, entries, _ADD)


def merge(database: Database, lines: Sequence[HostLine], expected: Counts) -> Counts | None:
    """Take over what was brought: all of it, or nothing. Returns how many of each were not there before; None, and
    nothing is taken over, where the database was opened anew and so forgot what was brought.

    A host that is there gets what the import says of it; its key stays where the import has none.
    """
    with database.writing() as connection:
        for table, count in ((_REQUESTS, expected.requests), (_EVENTS, expected.events)):
            if connection.execute(select(func.count()).select_from(table)).scalar() != count:
                return None
        added = []
        for table, (brought, names) in _SAME.items():
            there = exists().where(*(table.c[name] == brought.c[name] for name in names))
            columns = [column.name for column in brought.columns]
            added.append(connection.execute(insert(table).from_select(columns, select(brought).where(~there))).rowcount)
        before = connection.execute(select(func.count()).select_from(hosts)).scalar_one()
        for line in lines:
            row = msgspec.structs.asdict(line) | {"settings": msgspec.json.encode(line.settings).decode()}
            if line.api_key is msgspec.UNSET:
                del row["api_key"]
            new = put(hosts).values({"api_key": ""} | row)
            connection.execute(new.on_conflict_do_update(index_elements=["id"], set_=row))
        after = connection.execute(select(func.count()).select_from(hosts)).scalar_one()
    begin(database)
    return Counts(after - before, *added)
