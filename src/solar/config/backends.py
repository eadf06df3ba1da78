"""Makes backends of the `[[backends]]` tables of a file, with errors that name file, table, key and what to write."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from solar.config.fields import check_table
from solar.config.files import Stamp, beside, read_json, read_toml, reason, stamp
from solar.config.tables import BackendTable
from solar.core.backend import Backend, Timeouts
from solar.errors import InvalidBackend, InvalidSettings


@dataclass(frozen=True, slots=True)
class BackendTables:
    """The backends that a file names."""

    backends: tuple[Backend, ...]
    read: tuple[Path, ...]  # the key files that it names
    stamp: Stamp = field(repr=False)  # of those, taken before they were read


def read_backends(tables: Sequence[object], path: Path) -> BackendTables:
    """Read `tables` as they were written in the file at `path`. Raises InvalidSettings."""
    for number, table in enumerate(tables, start=1):
        check_table(table, BackendTable, _where(path, number, table))
    reader = _Reader(path)
    backends = tuple(
        reader.backend(msgspec.convert(table, BackendTable), _where(path, number, table))
        for number, table in enumerate(tables, start=1)
    )
    return BackendTables(backends, tuple(reader.read), reader.stamp)


def read_backend_file(path: Path) -> BackendTables:
    """Read a file of backends and nothing else: TOML, or JSON where its name ends in .json. Raises InvalidSettings."""
    written = read_json(path) if path.suffix == ".json" else read_toml(path)
    shape = '{"backends": [...]}' if path.suffix == ".json" else "[[backends]]"
    if not isinstance(written, dict):
        raise InvalidSettings(f"{path}: must hold {shape}")
    for key in written:
        if key != "backends":
            raise InvalidSettings(f"{path}: {key!r} has no meaning here; this file holds {shape} and nothing else")
    tables = written.get("backends", [])
    if not isinstance(tables, list):
        raise InvalidSettings(f"{path}: write backends as {shape}")
    return read_backends(tables, path)


class _Reader:
    """Makes backends of their tables; keeps which other files that took."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._taken: dict[str, str] = {}
        self.read: list[Path] = []
        self.stamp: Stamp = ()

    def backend(self, table: BackendTable, where: str) -> Backend:
        if table.name in self._taken:
            raise InvalidSettings(f"{where}: the name {table.name!r} is taken by {self._taken[table.name]}")
        self._taken[table.name] = where.partition(": ")[2]
        timeouts = table.timeouts.on_top_of(Timeouts())
        try:
            return Backend(
                id=table.name,
                url=table.url,
                type=table.type,
                api_key=self._key(table, where),
                models=table.models,
                aliases=table.aliases,
                host=table.host,
                weight=table.weight,
                priority=table.priority,
                max_in_flight=table.max_in_flight,
                timeouts=timeouts,
                model_timeouts={name: limits.on_top_of(timeouts) for name, limits in table.model_timeouts.items()},
                cancel=table.cancel,
                base_path=table.base_path,
                ca_file=self._ca_file(table, where),
                verify=table.verify,
            )
        except InvalidBackend as error:
            raise InvalidSettings(f"{where}: {error.message.removeprefix(f'backend {table.name!r}: ')}") from None

    def _key(self, table: BackendTable, where: str) -> str | None:
        if table.api_key_file is None:
            return table.api_key
        if table.api_key is not None:
            raise InvalidSettings(f"{where}: write api_key or api_key_file, not both")
        path = beside(self._path, table.api_key_file)
        before = stamp((path,))
        try:
            key = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidSettings(f"{where} api_key_file: cannot read {path}: {reason(error)}") from None
        if not key:
            raise InvalidSettings(f"{where} api_key_file: {path} is empty; write the key into it")
        self.read.append(path)
        self.stamp += before
        return key

    def _ca_file(self, table: BackendTable, where: str) -> str | None:
        if table.ca_file is None:
            return None
        path = beside(self._path, table.ca_file)
        try:
            ssl.create_default_context(cafile=str(path))
        except OSError as error:  # an SSLError is one too
            raise InvalidSettings(f"{where} ca_file: cannot use {path}: {reason(error)}; name a PEM bundle") from None
        return str(path)


def _where(path: Path, number: int, table: object) -> str:
    name = table.get("name") if isinstance(table, dict) else None
    return f"{path}: [[backends]] number {number}" + (f" ({name})" if isinstance(name, str) else "")
