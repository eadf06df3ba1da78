"""`solar`: the group of its commands."""

from __future__ import annotations

import click

from solar.cli.archive import export, import_
from solar.cli.chat import chat
from solar.cli.check import check_config
from solar.cli.completion import completion
from solar.cli.discover import discover
from solar.cli.doctor import doctor
from solar.cli.hosts import hosts
from solar.cli.instances import instances
from solar.cli.logs import logs
from solar.cli.models import models
from solar.cli.route import route
from solar.cli.serve import serve
from solar.cli.status import status
from solar.control.built import is_compiled

_VERSION = f"%(prog)s, version %(version)s ({'compiled' if is_compiled() else 'interpreted'})"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="solar-control", prog_name="solar", message=_VERSION)
def solar() -> None:
    """One OpenAI-compatible endpoint for all the model servers you run."""


for command in (
    serve,
    status,
    hosts,
    instances,
    logs,
    models,
    route,
    chat,
    export,
    import_,
    completion,
    discover,
    check_config,
    doctor,
):
    solar.add_command(command)
