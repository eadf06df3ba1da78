"""solar.toml: read whole or not at all, with errors that name file, section, key and what to write."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from solar.config.backends import read_backends
from solar.config.fields import check_table, nearest
from solar.config.files import Stamp, beside, open_to_everyone, read_toml, stamp
from solar.control.settings import SERVER, Settings
from solar.core.backend import Backend
from solar.discovery.docker.images import ImageRule
from solar.discovery.engines import DEFAULT_PORT
from solar.errors import InvalidSettings

_SECTIONS = {
    "server": (dict, "[server]"),
    "backends": (list, "[[backends]]"),
    "image_rules": (list, "[[image_rules]]"),
}


class ImageRuleTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[image_rules]]` table."""

    pattern: Annotated[
        str,
        Meta(
            min_length=1,
            description="How the image's name begins, or what stands before and behind one `*`.",
            examples=["my-llm"],
        ),
    ]
    type: Annotated[
        str,
        Meta(description="The engine in it: a word of a backend's `type`.", examples=["llamacpp"]),
    ] = "generic"
    port: Annotated[
        int,
        Meta(ge=1, le=65535, description="Where that listens in its container, unless the container says otherwise."),
    ] = DEFAULT_PORT


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A solar.toml that was read."""

    path: Path
    server: Mapping[str, Any] = dataclasses.field(repr=False)  # only what the file sets
    backends: tuple[Backend, ...]
    image_rules: tuple[ImageRule, ...]
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
    if "discover" in server:
        server["discover"] = [_beside(path, word) for word in server["discover"]]
    rules = tuple(_image_rule(table, number, path) for number, table in enumerate(written.get("image_rules", []), 1))

    with_keys = [path] if server.get("api_keys") or any("api_key" in table for table in listed) else []
    warnings = tuple(
        f"{file} can be read by everyone on this machine; close it with: chmod 600 {file}"
        for file in (*with_keys, *tables.read)
        if open_to_everyone(file)
    )
    return ConfigFile(path, server, tables.backends, rules, (path, *tables.read), before + tables.stamp, warnings)


def _image_rule(table: object, number: int, path: Path) -> ImageRule:
    where = f"{path}: [[image_rules]] number {number}"
    rule = msgspec.convert(check_table(table, ImageRuleTable, where), ImageRuleTable)
    try:
        return ImageRule(rule.pattern, rule.type, rule.port)
    except InvalidSettings as error:
        raise InvalidSettings(f"{where}: {error.message}") from None


def _beside(path: Path, word: str) -> str:
    """A word of `discover`: a file that it names stands beside the one that names it."""
    kind, _, named = word.partition(":")
    return f"file:{beside(path, named)}" if kind == "file" and named else word


def _check_sections(written: dict[str, Any], path: Path) -> None:
    for key, value in written.items():
        if key not in _SECTIONS:
            if any(key == setting.name for setting in SERVER):
                raise InvalidSettings(f"{path}: {key} stands outside of a section; write it below [server]")
            raise InvalidSettings(f"{path}: no section is called {key!r}{nearest(key, _SECTIONS)}")
        kind, brackets = _SECTIONS[key]
        if not isinstance(value, kind):
            raise InvalidSettings(f"{path}: write the section {key} as {brackets}")
