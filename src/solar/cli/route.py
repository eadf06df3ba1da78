"""`solar route`: where requests go."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from solar.cli.names import model_names
from solar.cli.options import asks_gateway, json_option

if TYPE_CHECKING:
    from solar.cli.client import Client

_GETS = {
    "queued": "waits in the queue",
    "no_such_path": "is refused with 404: there is no such path",
    "page": "is answered by the gateway itself",
    "no_such_model": "is refused with {status}: no backend has it",
    "loading": "is refused with 503: it is loading",
    "unavailable": "is refused with 503: nobody who has it is available",
    "queue_full": "is refused with 429: its queue is full",
}


@click.group()
def route() -> None:
    """Say where requests go, and why."""


@route.command()
@click.argument("model", shell_complete=model_names)
@click.option("--session", metavar="S", help="For this session, as if sessions were kept on one backend.")
@click.option("--path", metavar="PATH", help="For this endpoint, such as /v1/embeddings.")
@json_option
@asks_gateway
def explain(client: Client, model: str, session: str | None, path: str | None, as_json: bool) -> None:
    """Say which backend a request for MODEL would go to now, and why not to the others. Nothing is sent.

    Exit status 1 when it would be refused.
    """
    from solar.cli.show import put_json

    query = {"model": model, **({"session": session} if session else {}), **({"path": path} if path else {})}
    told = client.get("/gateway/route", query)
    if as_json:
        put_json(told)
    else:
        _show(told)
    sys.exit(0 if told["gets"] in ("sent", "queued") else 1)


def _show(told: dict[str, Any]) -> None:
    from solar.cli.show import clean, print_trimmed, table

    named = told["model"] + (f" ({told['found']} of {told['resolved']})" if _elsewhere(told) else "")
    if told["taken"]:
        print(clean(f"A request for {named} goes to {told['candidates'][0]['name']}."))
    else:
        print(clean(f"A request for {named} {_GETS.get(told['gets'], told['gets']).format(**told)}."))
    if told["session_broken"]:
        print("The session's own backend is not available.")
    if told["waiting"]:
        print(f"Waiting already: {told['waiting']}.")
    weighed = [one for one in told["candidates"] if not one["why_not"]]
    others = [one for one in told["candidates"] if one["why_not"]]
    if len(weighed) > 1:
        print(clean(_decided(weighed[0], weighed[1])))
    if weighed:
        print()
        names = list(weighed[0]["values"])
        rows = [(one["name"], *(_value(one["values"].get(name)) for name in names)) for one in weighed]
        print_trimmed(table("in this order", *(name.replace("_", " ") for name in names), rows=rows))
    rows = [(one["name"], one["why_not"], _why(one)) for one in others]
    rows += [(one["name"], "no backend", one["why"]) for one in told["unrouted"]]
    if rows:
        print()
        print_trimmed(table("not available", "", "", rows=rows))


def _elsewhere(told: dict[str, Any]) -> bool:
    return told["found"] not in ("exact", "nowhere") and told["resolved"] is not None


def _decided(first: dict[str, Any], second: dict[str, Any]) -> str:
    """Which of the values decides between the first two: the first one that differs."""
    for name, value in first["values"].items():
        if (other := second["values"].get(name)) != value:
            spoken = name.replace("_", " ")
            return f"Before {second['name']}, as its {spoken} is {_value(value)} and not {_value(other)}."
    return f"Before {second['name']}: all is equal, and its id comes first."


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, int | float) else value if isinstance(value, str) else json.dumps(value)


def _why(one: dict[str, Any]) -> str:
    back = f"back in {one['returns_in']:.0f} s" if one["returns_in"] is not None else ""
    return ", ".join(part for part in (one["reason"] or "", back) if part)
