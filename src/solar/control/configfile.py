"""solar.toml: read whole or not at all, with errors that name file, section, key and what to write."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from solar.config.backends import read_backends
from solar.config.fields import check_table, nearest
from solar.config.files import Stamp, beside, open_to_everyone, read_toml, stamp
from solar.control.settings import SERVER, Settings
from solar.core.backend import Backend
from solar.errors import InvalidSettings

_SECTIONS = {"server": (dict, "[server]"), "backends": (list, "[[backends]]")}


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
    written = read_toml(path)
    _check_sections(written, path)
    listed = written.get("backends", [])
    tables = read_backends(listed, path)
    server = check_table(written.get("server", {}), Settings, f"{path}: [server]")
    for name in ("data_dir", "tls_cert", "tls_key"):
        if name in server:
            server[name] = str(beside(path, server[name]))

    with_keys = [path] if server.get("api_keys") or any("api_key" in table for table in listed) else []
    warnings = tuple(
        f"{file} can be read by everyone on this machine; close it with: chmod 600 {file}"
        for file in (*with_keys, *tables.read)
        if open_to_everyone(file)
    )
    return ConfigFile(path, server, tables.backends, (path, *tables.read), before + tables.stamp, warnings)


def _check_sections(written: dict[str, Any], path: Path) -> None:
    for key, value in written.items():
        if key not in _SECTIONS:
            if any(key == setting.name for setting in SERVER):
                raise InvalidSettings(f"{path}: {key} stands outside of a section; write it below [server]")
            raise InvalidSettings(f"{path}: no section is called {key!r}{nearest(key, _SECTIONS)}")
        kind, brackets = _SECTIONS[key]
        if not isinstance(value, kind):
            raise InvalidSettings(f"{path}: write the section {key} as {brackets}")
