"""`solar serve`."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from solar.cli.options import configuration_from, settings_options
from solar.errors import SolarError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from solar.control.app import Listening


@click.command()
@settings_options
def serve(**flags: Any) -> None:
    """Serve one OpenAI-compatible endpoint for the backends that are named.

    Every flag can be a variable too (--api-key: SOLAR_API_KEY), also in `.env`, or stand in solar.toml. The order is:
    flag, environment, .env, solar.toml.
    """
    configuration = configuration_from(flags)
    from solar.control import app  # uvicorn and all: not for `solar --help`

    try:
        status = app.serve(configuration, greet)
    except SolarError as error:
        raise click.ClickException(error.message) from None
    _last_words()
    sys.exit(status)


def _last_words() -> None:
    """Write what is still to be written. A terminal that was closed takes none, which is no failure of ours."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def greet(listening: Listening) -> None:
    """Say where the gateway listens and how to get in: to a person at length, to a log in a line."""
    kept = listening.access.kept
    if not sys.stdout.isatty():
        key = "none" if not listening.access.keys else f"in {kept.path}" if kept is not None else "needed"
        looks = ",".join(map(str, listening.discover)) or "nowhere"
        line = "listening url=%s backends=%d discover=%s key=%s"
        logging.getLogger("solar").info(line, listening.url, listening.backends, looks, key)
        return
    backends = "1 backend" if listening.backends == 1 else f"{listening.backends} backends"
    needed = "a key is needed" if listening.access.keys else "no key is needed, as only this machine can reach it"
    others = ", and on every other address of this machine" if listening.everywhere else ""
    lines = [f"Solar listens on {listening.url}{others}: {backends}; {needed}."]
    if listening.discover:
        lines.append(f"It looks for more {_and(source.in_words for source in listening.discover)}.")
    if kept is not None and kept.made:
        lines.append(f"Your key, shown this once and kept in {kept.path}: {kept.value}")
    elif kept is not None:
        lines.append(f"Your key is in {kept.path}")
    lines.append(f"Try: {_curl(listening)}\n")
    with contextlib.suppress(OSError):  # a terminal that was closed meanwhile: SIGHUP will tell
        os.write(sys.stdout.fileno(), "\n".join(lines).encode())


def _and(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def _curl(listening: Listening) -> str:
    """A command that can be pasted, and that shows no key."""
    command = f"curl {listening.url}/v1/models"
    if not listening.access.keys:
        return command
    kept = listening.access.kept
    key = f'$(cat "{kept.path}")' if kept is not None else "$SOLAR_API_KEY"
    return f'{command} -H "Authorization: Bearer {key}"'
