"""The hosts of an original coordinator: its data/hosts.json, read once and left as it is."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from solar.errors import InvalidSettings
from solar.store.database import Database, put_host, remember, row_of_host
from solar.store.facts import Host, iso

_KEY = "hosts.json"  # in meta


class _Entry(msgspec.Struct):
    id: str
    name: str
    url: str
    api_key: str = ""
    created_at: str | None = None


class _File(msgspec.Struct):
    hosts: list[_Entry]


def adopt(database: Database, path: Path) -> tuple[int, str | None]:
    """Bring in the hosts of the file at `path`, unless that was done before or there is none.

    Returns how many there were, and what is wrong with the file; one that is broken is looked at again once it has
    changed. Raises what the database raises.
    """
    done = database.recall(_KEY)
    if done is not None and "hosts" in done:
        return 0, None
    try:
        stamp = [path.stat().st_mtime_ns, path.stat().st_size]
        if done is not None and done["broken"] == stamp:
            return 0, None
        found, wrong = read(path.read_bytes(), int(time.time() * 1000)), None
    except FileNotFoundError:
        return 0, None
    except OSError as error:  # nothing to remember: it may be a matter of permissions
        return 0, f"{path} cannot be read ({(error.strerror or str(error)).lower()}); its hosts are not taken over"
    except InvalidSettings as error:
        found, wrong = [], f"{path}: {error.message}; its hosts are not taken over until that is mended"
    now: dict[str, Any] = {"at": iso(int(time.time() * 1000))}
    with database.writing() as connection:
        for host in found:
            if connection.execute("SELECT 1 FROM hosts WHERE id = ?", (host.id,)).fetchone() is None:
                put_host(connection, row_of_host(host))
        remember(connection, _KEY, now | ({"broken": stamp} if wrong else {"hosts": len(found)}))
    return len(found), wrong


def read(text: bytes, now_ms: int) -> list[Host]:
    """The hosts in a hosts.json: all or, with InvalidSettings that says where it is wrong, none."""
    try:
        entries = msgspec.json.decode(text, type=_File).hosts
    except msgspec.MsgspecError as error:
        raise InvalidSettings(f"not the hosts of a coordinator: {error}") from None
    found: dict[str, Host] = {}
    for number, entry in enumerate(entries, start=1):
        if not (entry.id and entry.url):
            raise InvalidSettings(f"host number {number} has no {'URL' if entry.id else 'id'}")
        if entry.id in found:
            raise InvalidSettings(f"host number {number} has the id of another one, {entry.id!r}")
        found[entry.id] = Host(entry.id, entry.name, entry.url, entry.api_key, _ms(entry.created_at, now_ms))
    return list(found.values())


def _ms(written: str | None, now_ms: int) -> int:
    """When it was registered; now, where nobody can tell."""
    try:
        at = datetime.fromisoformat(written or "")
    except ValueError:
        return now_ms
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
