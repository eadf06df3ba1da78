"""`solar logs`: the lines of all engines in one place."""

from __future__ import annotations

import json
import re
import sys
import time
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from solar.cli.names import host_names, instance_names
from solar.cli.options import asks_gateway, json_option

if TYPE_CHECKING:
    from rich.console import Console

    from solar.cli.client import Client

LEVELS = ("debug", "info", "warning", "error")
AGAIN = 1.0  # seconds before a gateway that went away is asked again
_COLOURS = ("cyan", "magenta", "green", "blue", "bright_cyan", "bright_magenta", "bright_green", "bright_blue")
_STYLES = {"debug": "dim", "warning": "yellow", "error": "red"}
_AGO = re.compile(r"(\d{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def reading(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give `command` the flags that say which lines."""
    for option in reversed(
        (
            click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C."),
            click.option("--level", type=click.Choice(LEVELS), help="Only lines that are as serious at least."),
            click.option("--grep", metavar="TEXT", help="Only lines that hold TEXT, whatever the case."),
            click.option("--since", metavar="TIME", help="Only what came since: 10m, 2h, 1d, or 2026-11-22T04:05:06Z."),
            click.option(
                "-n", "lines", type=click.IntRange(0), metavar="N", help="So many of each log. [default: 100]"
            ),
        )
    ):
        command = option(command)
    return command


@click.command()
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="HOST",
    shell_complete=host_names,
    help="Only of this host. May be repeated.",
)
@click.option(
    "--instance",
    "instances",
    multiple=True,
    metavar="INSTANCE",
    shell_complete=instance_names,
    help="Only of this one. May be repeated.",
)
@click.option("--alias", "aliases", multiple=True, metavar="NAME", help="Only of what has this alias. May be repeated.")
@reading
@json_option
@asks_gateway
def logs(
    client: Client,
    hosts: tuple[str, ...],
    instances: tuple[str, ...],
    aliases: tuple[str, ...],
    as_json: bool,
    **which: Any,
) -> None:
    """Show the logs of what runs on all hosts, and follow them.

    With --json each line, gap and change of a source is one object a line, as on /ws/logs.
    """
    from solar.cli.named import ids_of_hosts, ids_of_instances

    query = {
        "host": ",".join(ids_of_hosts(client, hosts)),
        "instance": ",".join(ids_of_instances(client, instances)),
        "alias": ",".join(aliases),
    }
    show_logs(client, query, as_json=as_json, **which)


def show_logs(
    client: Client,
    query: dict[str, str],
    *,
    follow: bool,
    level: str | None,
    grep: str | None,
    since: str | None,
    lines: int | None,
    as_json: bool,
) -> None:
    """Print what `query` wants; with `follow` until Ctrl-C, whatever becomes of the gateway meanwhile."""
    from solar.cli.client import Unreachable

    wanted = {
        **query,
        "level": level or "",
        "text": grep or "",
        "since": moment(since) if since else "",
        "replay": "" if lines is None else str(lines),
        "follow": "true" if follow else "false",
    }
    printer = Printer(as_json=as_json)
    begun = False
    try:
        while True:
            try:
                for frame in client.frames("/ws/logs", {name: told for name, told in wanted.items() if told}):
                    begun = True
                    printer.put(frame)
            except Unreachable:
                if not (follow and begun):
                    raise
            if not follow:
                return
            printer.aside(f"{client.place} went away; it is asked again")
            time.sleep(AGAIN)
            if printer.numbers:
                wanted["since"] = ",".join(f"{log}:{number}" for log, number in printer.numbers.items())
    except KeyboardInterrupt:  # the usual end
        return


def moment(text: str) -> str:
    """A time as the gateway reads it. Ends the command where it is none."""
    if found := _AGO.fullmatch(text):
        ago = timedelta(**{_UNITS[found[2]]: int(found[1])})
        return (datetime.now(UTC) - ago).isoformat().replace("+00:00", "Z")
    try:
        return datetime.fromisoformat(text).astimezone(UTC).isoformat().replace("+00:00", "Z")
    except ValueError:
        raise click.UsageError("--since: write 10m, 2h, 1d, or a time such as 2026-11-22T04:05:06Z") from None


class Printer:
    """Prints frames of /ws/logs, and remembers how far it came in each log."""

    def __init__(self, *, as_json: bool) -> None:
        from solar.cli.show import in_colour

        self.numbers: dict[str, int] = {}  # by HOST_ID/INSTANCE_ID
        self._as_json = as_json
        self._console: Console = in_colour()
        self._silent: set[str] = set()  # logs that are not followed now

    def put(self, frame: str) -> None:
        """One frame."""
        told = json.loads(frame)
        log = f"{told.get('host_id')}/{told.get('instance_id')}"
        if told.get("type") == "log":
            self.numbers[log] = told["data"]["seq"]
        if self._as_json:
            print(json.dumps(told), flush=True)
            return
        name = f"{told.get('host_name') or told.get('host_id')}/{told.get('alias') or told.get('instance_id')}"
        match told.get("type"):
            case "log":
                self._line(name, told["data"])
            case "gap":
                self._write(name, "", f"[{told['missed']} lines are missing]", "yellow")
            case "source" if not told["live"]:
                self._silent.add(log)
                self.aside(f"{name} cannot be followed now: {told['reason']}")
            case "source" if log in self._silent:
                self._silent.discard(log)
                self.aside(f"{name} is followed again")

    def aside(self, words: str) -> None:
        """What is said of the logs and is no line of them."""
        from solar.cli.show import clean

        print(clean(words), file=sys.stderr, flush=True)

    def _line(self, name: str, data: dict[str, Any]) -> None:
        self._write(name, clock(str(data.get("timestamp") or "")), data["line"], _STYLES.get(data.get("level", ""), ""))

    def _write(self, name: str, at: str, text: str, style: str) -> None:
        from rich.text import Text

        from solar.cli.show import clean

        colour = _COLOURS[zlib.crc32(name.encode()) % len(_COLOURS)]  # the same tomorrow
        line = Text.assemble((f"{at:<8} ", "dim"), (clean(name), colour), " ", (clean(text), style))
        self._console.print(line, soft_wrap=True)
        sys.stdout.flush()


def clock(at: str) -> str:
    """The time of a line in this zone; with its date where that is not today's."""
    try:
        read = datetime.fromisoformat(at).astimezone()
    except (ValueError, OverflowError):
        return at[:8]
    return read.strftime("%H:%M:%S" if read.date() == datetime.now().astimezone().date() else "%Y-%m-%d %H:%M:%S")
