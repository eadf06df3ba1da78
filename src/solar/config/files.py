"""Files that a person wrote: how they are read, what is said where they cannot be, and when they were changed."""

from __future__ import annotations

import json
import os
import stat
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from solar.errors import InvalidSettings

# Changes when one of some files is written, replaced or removed: (mtime, size, inode) of each, None where it is not.
Stamp = tuple[tuple[int, int, int] | None, ...]


def stamp(files: Iterable[Path]) -> Stamp:
    """The stamp of `files` as they are now."""
    return tuple(_stamp(path) for path in files)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_mtime_ns, facts.st_size, facts.st_ino


def read_text(path: Path) -> str:
    """All of the file at `path`. Raises InvalidSettings."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidSettings(f"cannot read {path}: {reason(error)}") from None
    except UnicodeDecodeError as error:
        raise InvalidSettings(f"{path}: not UTF-8 (byte {error.start}); save it as UTF-8") from None


def read_toml(path: Path) -> dict[str, Any]:
    """The TOML file at `path`. Raises InvalidSettings."""
    try:
        return tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise InvalidSettings(f"{path}: not valid TOML: {error}") from None


def read_json(path: Path) -> object:
    """What the JSON file at `path` holds. Raises InvalidSettings."""
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise InvalidSettings(f"{path}: not valid JSON: {error}") from None


def open_to_everyone(path: Path) -> bool:
    """Whether every user of this machine can read it."""
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:  # gone since it was read: the next reading tells
        return False


def beside(path: Path, named: str) -> Path:
    """What the file at `path` calls `named`: relative names start from its directory."""
    return Path(os.path.abspath(path)).parent / Path(named).expanduser()  # noqa: PTH100  # without following links


def reason(error: OSError | UnicodeDecodeError) -> str:
    """Why a file cannot be read, as the end of a sentence."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text"
    return (error.strerror or str(error)).lower()
