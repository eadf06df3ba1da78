"""`solar check-config`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from solar.cli.options import configuration_from
from solar.control.configuration import Configuration
from solar.control.settings import SERVER


@click.command("check-config")
@click.argument("file", required=False)
def check_config(file: str | None) -> None:
    """Say what is wrong with FILE (solar.toml), or what `solar serve` would run with.

    The environment and `.env` count, as they do for `solar serve`. Exit status 1 when something is wrong.
    """
    configuration = configuration_from({"config": file})
    if configuration.file is None:
        raise click.ClickException("there is no solar.toml in this directory; name the file to check")
    _show(configuration)


def _show(configuration: Configuration) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 200  # a file has no edge to wrap at

    def table(title: str, *columns: str, rows: Sequence[tuple[str, ...]]) -> None:
        made = Table(*columns, title=title, title_justify="left", box=None, pad_edge=False)
        for row in rows:
            made.add_row(*(Text(cell) for cell in row))  # Text: a name may look like markup
        console.print(made, "")

    assert configuration.file is not None  # noqa: S101  # the caller has looked
    console.print(f"{configuration.file.path} is right.\n", markup=False)
    settings = [
        (setting.name, _value(getattr(configuration.settings, setting.name), setting.name), where)
        for setting in SERVER
        if (where := configuration.said_by.get(setting.name))
    ]
    if settings:
        table("Settings that are set", "setting", "value", "from", rows=settings)
    rows = [
        (
            backend.id,
            backend.url,
            backend.type,
            "set" if backend.api_key else "none",
            ", ".join((*backend.models, *backend.aliases)) or "what it reports",
        )
        for backend in configuration.backends
    ]
    table(f"Backends: {len(rows)}", "name", "url", "type", "key", "models and aliases", rows=rows)
    if configuration.image_rules:
        rules = [(rule.pattern, rule.backend_type, str(rule.default_port)) for rule in configuration.image_rules]
        table(f"Image rules: {len(rules)}", "pattern", "type", "port", rows=rules)
    for warning in configuration.warnings:
        console.print(f"Warning: {warning}", markup=False)


def _value(value: Any, name: str) -> str:
    if name == "api_keys":
        return f"{len(value)} set"
    return ", ".join(value) if isinstance(value, tuple) else str(value)
