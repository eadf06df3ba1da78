"""Flags, made from the one list of settings."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from solar.config.fields import shown
from solar.control.configuration import Configuration, load
from solar.control.settings import BACKENDS, CONFIG, SETTINGS, Setting
from solar.errors import InvalidSettings

Command = TypeVar("Command", bound=Callable[..., Any])

_METAVARS = {
    CONFIG.name: "FILE",
    BACKENDS.name: "[NAME=]URL",
    "tls_cert": "FILE",
    "tls_key": "FILE",
    "discover": "WORD",
}


_URL = "The gateway's address; or SOLAR_URL. [default: as the settings here say]"
_KEY = "The gateway's key; or SOLAR_API_KEY. [default: as the settings here say, or the key that is kept here]"


def settings_options(command: Command) -> Command:
    """Give `command` a flag for each setting."""
    for setting in reversed(SETTINGS):
        command = _option(setting)(command)
    return command


def config_option(command: Command) -> Command:
    """Give `command` the flag that names the file, and no other."""
    return _option(CONFIG)(command)


def asks_gateway(command: Command) -> Command:
    """Give `command` a client of the running gateway as its first argument, and the flags that say which one."""

    @click.option("--url", "gateway_url", envvar="SOLAR_URL", metavar="URL", help=_URL)
    @click.option("--api-key", "gateway_key", metavar="KEY", help=_KEY)
    @functools.wraps(command)
    def asking(gateway_url: str | None, gateway_key: str | None, **given: Any) -> Any:
        from solar.cli.client import Client  # not for `solar --help`
        from solar.cli.place import find_place

        return command(Client(find_place(gateway_url, gateway_key)), **given)

    return asking  # type: ignore[return-value]


def json_option(command: Command) -> Command:
    """Give `command` the flag --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def configuration_from(flags: dict[str, Any]) -> Configuration:
    """What the flags, the environment and the files of the working directory say; an error ends the command."""
    given = {name: value for name, value in flags.items() if value is not None and value != ()}
    try:
        return load(given, os.environ, Path.cwd())
    except InvalidSettings as error:
        raise click.ClickException(error.message) from None


def _option(setting: Setting) -> Callable[[Command], Command]:
    field = setting.field
    default = "" if shown(field) == "none" else f" [default: {shown(field)}]"
    meaning = field.meaning.replace("`", "") + default
    if isinstance(field.default, bool):
        negative = setting.flag.replace("--", "--no-", 1)
        return click.option(f"{setting.flag}/{negative}", setting.name, default=None, help=meaning)
    return click.option(
        setting.flag,
        setting.name,
        multiple=field.many,
        metavar="|".join(field.choices) or _METAVARS.get(setting.name) or _metavar(setting),
        help=meaning + (" May be repeated." if field.many else ""),
    )


def _metavar(setting: Setting) -> str:
    return setting.flag.rpartition("-")[2].upper()
