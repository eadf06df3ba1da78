"""The gateway's own key: made once where the gateway can be reached from outside, kept in the data directory."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from itertools import count
from pathlib import Path

from solar.errors import InvalidSettings
from solar.store.place import alone_in

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class KeptKey:
    """The key in a data directory."""

    value: str = field(repr=False)
    path: Path
    made: bool  # just now
    set_aside: Path | None = None  # where the damaged file is that stood in its place


@dataclass(frozen=True, slots=True)
class Access:
    """Who is admitted."""

    keys: tuple[str, ...] = field(repr=False)  # none: everyone who gets through
    hosts: tuple[str, ...] | None  # the only names that Host and Origin may bear; None: any
    kept: KeptKey | None = None


def access(api_keys: Sequence[str], allowed_hosts: Sequence[str], addresses: Sequence[str], data_dir: Path) -> Access:
    """Who is admitted by a gateway that listens on `addresses`: never everyone from everywhere.

    Without a key a page in the owner's browser could reach a gateway on loopback by a name that its author has pointed
    there: only loopback's own names are answered then. Raises InvalidSettings when no key can be kept.
    """
    hosts = (*LOOPBACK_NAMES, *allowed_hosts)
    if api_keys:
        return Access(tuple(api_keys), hosts if allowed_hosts else None)
    if all(ip_address(address.partition("%")[0]).is_loopback for address in addresses):
        return Access((), hosts)
    kept = keep_key(data_dir)
    return Access((kept.value,), hosts if allowed_hosts else None, kept)


def keep_key(data_dir: Path) -> KeptKey:
    """The key kept in `data_dir`, made if there is none. A damaged file is set aside, never overwritten."""
    path = data_dir / "api_key"
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        with alone_in(data_dir):
            key, set_aside = read_key(path), None
            if key is None and path.exists():
                set_aside = _set_aside(path)
            if key is not None:
                path.chmod(0o600)
                return KeptKey(key, path, made=False)
            key = f"sk-solar-{secrets.token_urlsafe(32)}"
            _write_whole(path, key)
    except OSError as error:
        raise InvalidSettings(
            f"cannot keep a key in {path}: {(error.strerror or str(error)).lower()}; "
            "set a key with --api-key, or a directory that can be written with --data-dir"
        ) from None
    return KeptKey(key, path, made=True, set_aside=set_aside)


def read_key(path: Path) -> str | None:
    """The key in a file; None where there is none or the file is damaged. Raises OSError."""
    try:
        key = path.read_text(encoding="ascii").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    return key if key and key.isprintable() else None


def _set_aside(path: Path) -> Path:
    aside = next(name for number in count(1) if not (name := path.with_name(f"{path.name}.damaged-{number}")).exists())
    path.rename(aside)
    return aside


def _write_whole(path: Path, text: str) -> None:
    """Write `text` so that a crash leaves all of it or nothing; only the owner may read it."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(f"{text}\n")
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
