"""`solar discover`."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from solar.cli.options import config_option, configuration_from
from solar.errors import SolarError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.table import Table

    from solar.control.discovery import Finder
    from solar.control.survey import Seen, View


@click.command()
@config_option
@click.option("--watch", is_flag=True, help="Go on, and show it again after each change, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object; with --watch one a line.")
@click.argument("words", nargs=-1, metavar="[WORD]...")
def discover(words: tuple[str, ...], watch: bool, as_json: bool, **flags: Any) -> None:
    """Show which backends are found, at which addresses they were tried, and why others are not routed to.

    WORD says where to look, as the setting `discover` does: docker, docker:URL, local, dns:NAME:PORT, dns:_SRV_NAME,
    file:PATH, mdns. Without any, the settings say it; where they say nothing: docker, where there is one, and local.

    Exit status 1 when no backend was found, or some place could not be looked at.
    """
    configuration = configuration_from(flags)
    from solar.control.discovery import finders_of, usual  # the library and all: not for `solar --help`
    from solar.control.words import source_of

    try:
        sources = tuple(source_of(word, "WORD") for word in words) or configuration.discover or usual(os.environ)
        finders = finders_of(dict.fromkeys(sources), configuration.image_rules)
        status = asyncio.run(_watch(finders, as_json) if watch else _look(finders, as_json))
    except SolarError as error:
        raise click.ClickException(error.message) from None
    except KeyboardInterrupt:  # the usual end of --watch
        status = 130 if not watch else 0
    sys.exit(status)


async def _look(finders: Sequence[Finder], as_json: bool) -> int:
    from solar.control.survey import routed, surveying

    async with surveying() as survey:
        views = await survey.look(finders)
    if as_json:
        print(json.dumps(_told(views), indent=2))
    else:
        _show(views)
    return 0 if routed(views) and not any(view.blind for view in views) else 1


async def _watch(finders: Sequence[Finder], as_json: bool) -> int:
    from solar.control.survey import surveying

    logging.getLogger("solar").setLevel(logging.CRITICAL)  # what fails is shown in its place
    shown = ""
    async with surveying() as survey:
        async for views in survey.follow(finders):
            told = json.dumps(_told(views))
            if told == shown:
                continue
            shown = told
            if as_json:
                print(told, flush=True)
            else:
                _show(views, again=True)
    return 0


def _told(views: Sequence[View]) -> dict[str, Any]:
    return {
        "sources": [
            {
                "source": view.source,
                "wrong": view.wrong or None,
                "sightings": [_one(seen) for seen in view.seen],
            }
            for view in views
        ]
    }


def _one(seen: Seen) -> dict[str, Any]:
    sighting, backend, finding = seen.sighting, seen.sighting.backend, seen.finding
    return {
        "name": sighting.name,
        "where": sighting.where,
        "why": sighting.why,
        "backend": backend
        and {
            "id": backend.id,
            "url": backend.url,
            "type": seen.type,
            "host": backend.host_id,
            "models": list(seen.models),
            "aliases": dict(backend.aliases),
            "state": finding.state if finding else None,
            "slots": finding.slots if finding else None,
        },
        "tried": [
            {
                "url": one.address.url,
                "why": one.address.why,
                "answered": one.answered,
                "outcome": one.outcome,
                "kept": seen.kept(one),
            }
            for one in sighting.tried
        ],
        "reason": sighting.reason or None,
        "advice": sighting.advice or None,
    }


def _show(views: Sequence[View], *, again: bool = False) -> None:
    from rich.console import Console

    from solar.control.survey import routed

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 160  # a file has no edge to wrap at
    elif again:
        console.clear()
    with console.capture() as shown:
        for view in views:
            _show_view(view, console)
    found = len(routed(views))
    lines = [*map(str.rstrip, shown.get().splitlines()), f"Found: {found} backend{'' if found == 1 else 's'}."]
    print("\n".join(lines), end="\n\n" if again and not console.is_terminal else "\n", flush=True)


def _show_view(view: View, console: Console) -> None:
    from rich.text import Text

    console.print(Text(view.source, "bold underline"))
    if view.wrong:
        console.print(Text.assemble(("wrong  ", "bold red"), view.wrong))
    for seen in view.seen:
        if not seen.nobody:
            _show_seen(seen, console)
    nobody = [seen.sighting.name for seen in view.seen if seen.nobody]
    if nobody:
        console.print(Text(f"Nothing there: {', '.join(nobody)}", "dim"))
    elif not view.seen and not view.wrong:
        console.print(Text("Nothing there.", "dim"))
    console.print()


def _show_seen(seen: Seen, console: Console) -> None:
    """What it is, the backend that it makes, what was tried, what is wrong and what to do."""
    from rich.table import Table
    from rich.text import Text

    sighting, backend = seen.sighting, seen.sighting.backend
    well = backend is not None and any(one.answered for one in sighting.tried)
    mark, style = ("found", "green") if well else ("wrong", "bold red") if sighting.advice else ("left", "dim")
    lines = Table.grid(padding=(0, 2, 0, 0))
    lines.add_column(min_width=len("found"))
    lines.add_row(Text(mark, style), Text.assemble((sighting.name, "bold"), f"  {sighting.why}, {sighting.where}"))
    if backend is not None:
        models = ", ".join(seen.models) or "no model yet"
        lines.add_row("", Text.assemble("backend ", (backend.id, "bold"), f", {seen.type}: {models}"))
    if sighting.tried:
        lines.add_row("", _tried(seen))
    if sighting.reason and [one.outcome for one in sighting.tried] != [sighting.reason]:
        lines.add_row("", Text(sighting.reason))
    if sighting.advice:
        lines.add_row("", Text(sighting.advice, "yellow"))
    console.print(lines)


def _tried(seen: Seen) -> Table:
    """The addresses with their outcomes; a star stands before the one that is kept."""
    from rich.table import Table
    from rich.text import Text

    tried = Table.grid(padding=(0, 2, 0, 0))
    tried.add_column()
    tried.add_column(no_wrap=True)  # a URL in two pieces cannot be copied
    for one in seen.sighting.tried:
        kept = seen.kept(one)
        style = "green" if kept else "" if one.answered else "dim"
        cells = ("*" if kept else " ", one.address.url, one.address.why, one.outcome)
        tried.add_row(*(Text(cell, style) for cell in cells))
    return tried
