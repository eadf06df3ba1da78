"""Flags, made from the one list of settings."""

from __future__ import annotations

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


def settings_options(command: Command) -> Command:
    """Give `command` a flag for each setting."""
    for setting in reversed(SETTINGS):
        command = _option(setting)(command)
    return command


def config_option(command: Command) -> Command:
    """Give `command` the flag that names the file, and no other."""
    return _option(CONFIG)(command)


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
