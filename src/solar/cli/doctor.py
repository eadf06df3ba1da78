"""`solar doctor`."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
from typing import TYPE_CHECKING, Any

import click

from solar.cli.options import configuration_from, settings_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from solar.control.diagnosis import Diagnosis


@click.command()
@settings_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def doctor(as_json: bool, **flags: Any) -> None:
    """Say what is wrong with the machine and with each backend, and what to do.

    Takes the settings of `solar serve`. Exit status 1 when something is wrong.
    """
    configuration = configuration_from(flags)
    from solar.control.checkup import checkup  # the router and all: not for `solar --help`

    found = asyncio.run(checkup(configuration))
    well = all(diagnosis.well for diagnosis in found)
    if as_json:
        print(json.dumps({"well": well, "found": [dataclasses.asdict(diagnosis) for diagnosis in found]}, indent=2))
    else:
        _show(found)
    sys.exit(0 if well else 1)


def _show(found: Sequence[Diagnosis]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    for diagnosis in found:
        mark, style = ("ok", "green") if diagnosis.well else ("wrong", "bold red")
        console.print(Text.assemble((f"{mark:<6}", style), (f"{diagnosis.about}: ", "bold"), diagnosis.found))
        if diagnosis.advice:
            console.print(Text(f"      {diagnosis.advice}", "yellow"))
    wrong = sum(not diagnosis.well for diagnosis in found)
    console.print("\nAll is well." if not wrong else f"\nWrong: {wrong}.")
