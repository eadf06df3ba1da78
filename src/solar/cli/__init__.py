"""The command `solar`. Nothing of the extra `server` is imported here: its absence must be one clear sentence."""

from __future__ import annotations

import sys

from solar.control.extra import require
from solar.errors import MissingExtra


def main() -> None:
    """Run the command that the arguments name."""
    try:
        require()
    except MissingExtra as absent:
        sys.exit(f"solar: {absent}")
    from solar.cli.group import solar  # not before the check

    solar(prog_name="solar")
