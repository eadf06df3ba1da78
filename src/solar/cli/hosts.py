"""`solar hosts`: the machines whose agents the gateway asks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from solar.cli.names import host_names
from solar.cli.options import asks_gateway, json_option

if TYPE_CHECKING:
    from solar.cli.client import Client

_NAME = click.argument("name", metavar="HOST", shell_complete=host_names)
_WEIGHT = click.option("--weight", type=float, metavar="W", help="Its strength relative to other hosts.")
_KEY = click.option("--key", metavar="KEY", help="Its agent's key. Other users may see it here: rather use a file.")
_KEY_FILE = click.option("--key-file", metavar="FILE", help="A file with its agent's key; - is standard input.")


@click.group()
def hosts() -> None:
    """Register machines with an agent, look at them, forget them.

    HOST is a name, an id or the beginning of one.
    """


@hosts.command("list")
@json_option
@asks_gateway
def list_hosts(client: Client, as_json: bool) -> None:
    """Show all hosts."""
    from solar.cli.show import gigabytes, put_json, put_table, shortened

    known = client.get("/hosts")
    if as_json:
        put_json({"hosts": known})
        return
    instances = client.get("/gateway/instances")["instances"]
    short = shortened([host["id"] for host in known])
    rows = [
        (
            host["name"],
            host["status"],
            host["url"],
            running(instances, host["id"]),
            gigabytes(host["memory"]),
            f"{host['weight']:g}",
            short(host["id"]),
        )
        for host in known
    ]
    columns = ("name", "status", "url", "running", "memory", "weight", "id")
    put_table(*columns, rows=rows, nothing="No host is registered: `solar hosts add NAME URL` registers one.")


@hosts.command()
@_NAME
@json_option
@asks_gateway
def show(client: Client, name: str, as_json: bool) -> None:
    """Show one host and what runs there."""
    from solar.cli.named import find_host
    from solar.cli.show import gigabytes, put_facts, put_json

    host = find_host(client, name)
    instances = client.get("/gateway/instances", {"host_id": host["id"]})["instances"]
    if as_json:
        put_json({"host": host, "instances": instances})
        return
    put_facts(
        {
            "name": host["name"],
            "id": host["id"],
            "url": host["url"],
            "status": host["status"],
            "why": host["reason"],
            "link": "its agent keeps one open" if host["connected"] else None,
            "last seen": host["last_seen"],
            "memory": gigabytes(host["memory"]),
            "weight": f"{host['weight']:g}",
            "registered": host["created_at"],
            "instances": ", ".join(f"{one['alias'] or one['id']} ({one['status']})" for one in instances) or "none",
        }
    )


@hosts.command()
@click.argument("name")
@click.argument("url")
@_KEY
@_KEY_FILE
@click.option("--unreachable", is_flag=True, help="Keep it though its agent cannot be reached now.")
@_WEIGHT
@json_option
@asks_gateway
def add(
    client: Client,
    name: str,
    url: str,
    key: str | None,
    key_file: str | None,
    unreachable: bool,
    weight: float | None,
    as_json: bool,
) -> None:
    """Register the host NAME, whose agent is at URL: http://192.168.1.100:8001.

    Without --key and --key-file its agent's key is asked for, and not shown.
    """
    body: dict[str, Any] = {"name": name, "url": url, "api_key": _key_of(name, key, key_file, asked_for=True)}
    if weight is not None:
        body["weight"] = weight
    _done(client.ask("POST", "/hosts", body, query={"unreachable": "true"} if unreachable else None), as_json)


@hosts.command("set")
@_NAME
@click.option("--name", "new_name", metavar="NAME", help="Another name.")
@click.option("--agent-url", "new_url", metavar="URL", help="Another address of its agent.")
@_KEY
@_KEY_FILE
@click.option("--ask-key", is_flag=True, help="Ask for its agent's key, and do not show it.")
@_WEIGHT
@json_option
@asks_gateway
def change(
    client: Client,
    name: str,
    new_name: str | None,
    new_url: str | None,
    key: str | None,
    key_file: str | None,
    ask_key: bool,
    weight: float | None,
    as_json: bool,
) -> None:
    """Give a host another name, address, key or weight; what is left out stays."""
    from solar.cli.client import segment
    from solar.cli.named import find_host

    told = {
        "name": new_name,
        "url": new_url,
        "api_key": _key_of(name, key, key_file, asked_for=ask_key),
        "weight": weight,
    }
    body = {field: value for field, value in told.items() if value is not None}
    if not body:
        raise click.UsageError("nothing to change: give --name, --agent-url, --key-file, --ask-key or --weight")
    _done(client.ask("PATCH", f"/hosts/{segment(find_host(client, name)['id'])}", body), as_json)


@hosts.command()
@_NAME
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@json_option
@asks_gateway
def rm(client: Client, name: str, yes: bool, as_json: bool) -> None:
    """Forget a host. What runs there goes on, and gets no more requests from here."""
    from solar.cli.client import segment
    from solar.cli.named import find_host
    from solar.cli.show import clean, put_json

    host = find_host(client, name)
    if not yes and sys.stdin.isatty():
        click.confirm(f"Forget {host['name']} at {host['url']}?", abort=True, err=True)
    told = client.ask("DELETE", f"/hosts/{segment(host['id'])}")
    if as_json:
        put_json(told)
    else:
        print(clean(f"Forgot {host['name']} at {host['url']}"))


@hosts.command()
@click.argument("name", metavar="[HOST]", required=False, shell_complete=host_names)
@json_option
@asks_gateway
def refresh(client: Client, name: str | None, as_json: bool) -> None:
    """Ask a host anew, or all of them. Exit status 1 when one is not online."""
    from solar.cli.client import segment
    from solar.cli.named import find_host
    from solar.cli.show import put_json, put_table

    if name is not None:
        told = client.ask("POST", f"/hosts/{segment(find_host(client, name)['id'])}/refresh")
        _done(told, as_json)
        sys.exit(0 if told["host"]["status"] == "online" else 1)
    told = client.ask("POST", "/hosts/refresh-all")
    if as_json:
        put_json(told)
    else:
        rows = [(one["name"], one["status"], one["message"]) for one in told["results"]]
        put_table("name", "status", "", rows=rows, nothing="No host is registered.")
    sys.exit(0 if all(one["status"] == "online" for one in told["results"]) else 1)


def running(instances: list[dict[str, Any]], host_id: str) -> str:
    """How many of a host's instances run, of how many."""
    own = [one for one in instances if one["host_id"] == host_id]
    return f"{sum(one['status'] == 'running' for one in own)} of {len(own)}"


def _key_of(host: str, key: str | None, key_file: str | None, *, asked_for: bool) -> str | None:
    if key is not None and key_file is not None:
        raise click.UsageError("give --key or --key-file, not both")
    if key is not None:
        return key
    if key_file is not None:
        try:
            return (sys.stdin.read() if key_file == "-" else Path(key_file).read_text("utf-8")).strip()
        except (OSError, UnicodeDecodeError) as error:
            why = (error.strerror if isinstance(error, OSError) else None) or "it is no text"
            raise click.ClickException(f"cannot read {key_file}: {why}") from None
    if not asked_for:
        return None
    if not sys.stdin.isatty():
        raise click.UsageError("nobody is there to be asked for the agent's key: give --key-file FILE, or - for a pipe")
    told: str = click.prompt(f"Key of {host}", hide_input=True, err=True)
    return told


def _done(told: dict[str, Any], as_json: bool) -> None:
    from solar.cli.show import clean, put_json

    if as_json:
        put_json(told)
        return
    host = told["host"]
    why = f": {host['reason']}" if host["reason"] else ""
    is_how = f"is {host['status']}{why}"
    said = told["message"]
    print(clean(said if is_how in said else f"{said}; it {is_how}"))
