"""A key from a file that a label names: a label says which, and never where on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

_MOST = 64 * 1024  # bytes: a key is a line


def read_key(name: str, folders: Sequence[Path]) -> str:
    """The key in the file `name`, which must lie in one of `folders` once all links are followed.

    Who may label a container could else have any file of this machine sent to it. Raises ValueError, with what to do.
    """
    allowed = ", ".join(map(str, folders)) or "no folder"
    for folder in folders:
        try:
            root = folder.resolve(strict=True)
            path = (root / name).resolve(strict=True)
            if not path.is_relative_to(root) or not path.is_file():
                continue
            with path.open("rb") as file:
                key = file.read(_MOST).decode("ascii").strip()
        except (OSError, RuntimeError):  # RuntimeError: links that lead in a circle
            continue
        except UnicodeDecodeError:
            raise ValueError(f"the key file {name!r} must hold printable ASCII on one line") from None
        if not key or not key.isprintable():
            raise ValueError(f"the key file {name!r} must hold one key, on one line")
        return key
    raise ValueError(f"there is no readable key file {name!r} in {allowed}: mount it there, as a secret is")
