"""`solar status`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from solar.cli.options import asks_gateway, json_option

if TYPE_CHECKING:
    from rich.console import Group

    from solar.cli.client import Client


@click.command()
@click.option("--once", is_flag=True, help="Show it once, and end. That is so, too, where nobody watches a terminal.")
@click.option("--every", default=1.0, metavar="S", help="Seconds between two looks. [default: 1]")
@json_option
@asks_gateway
def status(client: Client, once: bool, every: float, as_json: bool) -> None:
    """Show hosts, backends and what is in flight, until Ctrl-C."""
    from solar.cli.show import in_colour, print_trimmed, put_json

    if as_json:
        put_json(look(client))
    elif once or not in_colour().is_terminal:
        print_trimmed(tables(look(client)))
    else:
        _watch(client, max(every, 0.1))


def look(client: Client) -> dict[str, Any]:
    """All that there is to show, as one object."""
    hosts = client.get("/hosts")
    instances = client.get("/gateway/instances")["instances"]
    backends = client.get("/gateway/backends")
    health = client.get("/health")
    for host in hosts:
        host["instances"] = [one for one in instances if one["host_id"] == host["id"]]
    return {
        "url": str(client.place),
        "status": health["status"],
        "models": health["models_available"],
        "in_flight": backends["in_flight"],
        "hosts": hosts,
        "backends": backends["backends"],
    }


def tables(seen: dict[str, Any]) -> Group:
    """The same for people."""
    from rich.console import Group
    from rich.text import Text

    from solar.cli.hosts import running
    from solar.cli.show import cell, gigabytes, table

    healthy = sum(one["state"] == "healthy" for one in seen["backends"])
    counts = (
        f"{seen['url']}",
        f"{healthy} of {len(seen['backends'])} backends healthy",
        _count(seen["models"], "model"),
        f"{_count(seen['in_flight'], 'request')} in flight",
    )
    rows: list[tuple[str, ...]]
    parts: list[Any] = [Text(", ".join(counts), "bold")]
    if seen["hosts"]:
        rows = [
            (
                host["name"],
                host["status"],
                running(host["instances"], host["id"]),
                gigabytes(host["memory"]),
                _why(host),
            )
            for host in seen["hosts"]
        ]
        parts += [Text(), table("host", "status", "running", "memory", "", rows=rows)]
    stopped = [
        (f"{host['name']}/{one['alias'] or one['id']}", one["status"], one["error_message"] or "")
        for host in seen["hosts"]
        for one in host["instances"]
        if one["status"] != "running"
    ]
    if stopped:
        parts += [Text(), table("instance", "status", "", rows=stopped)]
    if seen["backends"]:
        rows = [
            (
                one["name"],
                one["state"],
                _in_flight(one),
                one["type"],
                ", ".join((*one["models"], *one["aliases"])),
                _why(one),
            )
            for one in seen["backends"]
        ]
        parts += [Text(), table("backend", "state", "in flight", "type", "models", "", rows=rows)]
    else:
        parts += [
            Text(),
            cell("There is no backend yet: `solar hosts add NAME URL`, or `solar serve --discover local`."),
        ]
    return Group(*parts)


def _watch(client: Client, every: float) -> None:
    from rich.live import Live
    from rich.text import Text

    from solar.cli.client import Refused, Unreachable
    from solar.cli.show import in_colour

    shown: Any = tables(look(client))  # what is wrong at once ends the command
    with Live(shown, console=in_colour(), auto_refresh=False) as live:
        try:
            while True:
                time.sleep(every)
                try:
                    shown = tables(look(client))
                except (Refused, Unreachable) as error:  # it may be started anew this moment
                    shown = Text(error.message, "bold red")
                live.update(shown, refresh=True)
        except KeyboardInterrupt:  # the usual end
            return


def _in_flight(backend: dict[str, Any]) -> str:
    limit = backend["max_in_flight"]
    return f"{backend['in_flight']}" if limit is None else f"{backend['in_flight']} of {limit}"


def _why(one: dict[str, Any]) -> str:
    return str(one["reason"] or "")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
