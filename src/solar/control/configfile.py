"""solar.toml: read whole or not at all, with errors that name file, section, key and what to write."""

from __future__ import annotations

import dataclasses
import os
import ssl
import stat
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from solar.control.fields import check_table, nearest
from solar.control.settings import SERVER, Settings
from solar.control.tables import BackendTable
from solar.core.backend import Backend, Timeouts
from solar.errors import InvalidBackend, InvalidSettings

_SECTIONS = {"server": (dict, "[server]"), "backends": (list, "[[backends]]")}

# Changes when one of some files is written, replaced or removed: (mtime, size, inode) of each, None where it is not.
Stamp = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A solar.toml that was read."""

    path: Path
    server: Mapping[str, Any] = dataclasses.field(repr=False)  # only what the file sets
    backends: tuple[Backend, ...]
    read: tuple[Path, ...]  # the file itself, and the key files that it names
    stamp: Stamp = dataclasses.field(repr=False)  # of those, taken before they were read
    warnings: tuple[str, ...]


def read_config(path: Path) -> ConfigFile:
    """Read and check the file at `path`; relative paths in it start from its directory.

    Raises InvalidSettings.
    """
    before = stamp((path,))
    written = _parse(path)
    _check_sections(written, path)
    listed = written.get("backends", [])
    for number, table in enumerate(listed, start=1):
        check_table(table, BackendTable, _where(path, number, table))
    server = check_table(written.get("server", {}), Settings, f"{path}: [server]")
    for name in ("data_dir", "tls_cert", "tls_key"):
        if name in server:
            server[name] = str(_beside(path, server[name]))

    reader = _BackendReader(path)
    backends = tuple(
        reader.backend(msgspec.convert(table, BackendTable), _where(path, number, table))
        for number, table in enumerate(listed, start=1)
    )
    with_keys = [path] if server.get("api_keys") or any("api_key" in table for table in listed) else []
    warnings = tuple(
        f"{file} can be read by everyone on this machine; close it with: chmod 600 {file}"
        for file in (*with_keys, *reader.read)
        if open_to_everyone(file)
    )
    return ConfigFile(path, server, backends, (path, *reader.read), before + reader.stamp, warnings)


def stamp(files: Iterable[Path]) -> Stamp:
    """The stamp of `files` as they are now."""
    return tuple(_stamp(path) for path in files)


def open_to_everyone(path: Path) -> bool:
    """Whether every user of this machine can read it."""
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:  # gone since it was read: the next reading tells
        return False


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_mtime_ns, facts.st_size, facts.st_ino


class _BackendReader:
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
        path = _beside(self._path, table.api_key_file)
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
        path = _beside(self._path, table.ca_file)
        try:
            ssl.create_default_context(cafile=str(path))
        except OSError as error:  # an SSLError is one too
            raise InvalidSettings(f"{where} ca_file: cannot use {path}: {reason(error)}; name a PEM bundle") from None
        return str(path)


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidSettings(f"cannot read {path}: {reason(error)}") from None
    except UnicodeDecodeError as error:
        raise InvalidSettings(f"{path}: not UTF-8 (byte {error.start}); save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise InvalidSettings(f"{path}: not valid TOML: {error}") from None


def _check_sections(written: dict[str, Any], path: Path) -> None:
    for key, value in written.items():
        if key not in _SECTIONS:
            if any(key == setting.name for setting in SERVER):
                raise InvalidSettings(f"{path}: {key} stands outside of a section; write it below [server]")
            raise InvalidSettings(f"{path}: no section is called {key!r}{nearest(key, _SECTIONS)}")
        kind, brackets = _SECTIONS[key]
        if not isinstance(value, kind):
            raise InvalidSettings(f"{path}: write the section {key} as {brackets}")


def _where(path: Path, number: int, table: object) -> str:
    name = table.get("name") if isinstance(table, dict) else None
    return f"{path}: [[backends]] number {number}" + (f" ({name})" if isinstance(name, str) else "")


def _beside(path: Path, named: str) -> Path:
    return Path(os.path.abspath(path)).parent / Path(named).expanduser()  # noqa: PTH100  # without following links


def reason(error: OSError | UnicodeDecodeError) -> str:
    """Why a file cannot be read, as the end of a sentence."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text"
    return (error.strerror or str(error)).lower()
