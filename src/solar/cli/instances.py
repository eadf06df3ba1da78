"""`solar instances`: the engines that hosts run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from solar.cli.logs import reading, show_logs
from solar.cli.names import host_names, instance_names
from solar.cli.options import asks_gateway, json_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from solar.cli.client import Client

_NAME = click.argument("name", metavar="INSTANCE", shell_complete=instance_names)
_NO_WAIT = click.option(
    "--no-wait", is_flag=True, help="Return once its agent says that it runs: it may still load its model."
)
_TIMEOUT = click.option(
    "--timeout", default=600.0, metavar="S", help="How long it may load, in seconds. [default: 600]"
)
_ON = click.option(
    "--host",
    metavar="HOST",
    shell_complete=host_names,
    help="The host that it is on, where several have one of that name.",
)
_SET = click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="K=V",
    help="A field of its config; V is JSON, or else a text. May be repeated.",
)
_CONFIG = click.option("--config", metavar="FILE", help="A file with its whole config as JSON; - is standard input.")
_TAIL = 10  # lines of a log that a failed start shows


@click.group()
def instances() -> None:
    """Create engine processes on hosts, start and stop them, look at them.

    INSTANCE is an alias, an id or the beginning of one, or HOST/INSTANCE.
    """


@instances.command("list")
@click.argument("host", required=False, shell_complete=host_names)
@json_option
@asks_gateway
def list_instances(client: Client, host: str | None, as_json: bool) -> None:
    """Show the instances of all hosts, or of HOST, and whether requests reach them."""
    from solar.cli.client import segment
    from solar.cli.named import find_host
    from solar.cli.show import put_json, put_table, shortened

    query = {} if host is None else {"host_id": find_host(client, host)["id"]}
    known = client.get("/gateway/instances", query)["instances"]
    states = {one["id"]: one["state"] for one in client.get("/gateway/backends")["backends"]}
    for one in known:
        one["state"] = states.get(f"{one['host_id']}/{segment(one['id'])}")
    if as_json:
        put_json({"instances": known})
        return
    short = shortened([one["id"] for one in known])
    rows = [
        (
            one["alias"],
            one["host_name"] + ("" if one["host_status"] == "online" else f" ({one['host_status']})"),
            one["status"],
            one["state"] or "",
            str(one["port"] or ""),
            one["engine"],
            short(one["id"]),
            one["error_message"] or "",
        )
        for one in known
    ]
    columns = ("alias", "host", "status", "routed to", "port", "engine", "id", "")
    put_table(*columns, rows=rows, nothing="There is no instance: `solar instances create HOST` makes one.")


@instances.command()
@click.argument("host", shell_complete=host_names)
@click.option("--model", metavar="FILE", help="The model's file on that host, or its name in a hub.")
@click.option("--alias", metavar="NAME", help="The name that clients ask for.")
@_SET
@_CONFIG
@json_option
@asks_gateway
def create(
    client: Client,
    host: str,
    model: str | None,
    alias: str | None,
    sets: tuple[str, ...],
    config: str | None,
    as_json: bool,
) -> None:
    """Create an instance on HOST, stopped; its agent says what a config may hold."""
    from solar.cli.client import segment
    from solar.cli.named import find_host
    from solar.cli.show import put_json

    whole = _changed(_read(config) if config is not None else {}, model, alias, sets)
    if not whole:
        raise click.UsageError("say what to run: --model FILE --alias NAME, or --config FILE")
    found = find_host(client, host)
    told = client.ask("POST", f"/hosts/{segment(found['id'])}/instances", {"config": whole})
    if as_json:
        put_json({"host_id": found["id"], "host_name": found["name"], **told})
    else:
        made = told.get("instance", told)
        _say(f"Created {whole.get('alias') or made['id']} on {found['name']}: {made['id']}")


@instances.command()
@_NAME
@_ON
@json_option
@asks_gateway
def show(client: Client, name: str, host: str | None, as_json: bool) -> None:
    """Show one instance as its agent tells it now, with its config."""
    from solar.cli.named import find_instance
    from solar.cli.progress import backend_of
    from solar.cli.show import put_facts, put_json

    found = find_instance(client, name, host)
    told = client.get(found.path)
    backend = backend_of(client, found)
    if as_json:
        put_json({"host_id": found.host_id, "host_name": found.host_name, "instance": told, "backend": backend})
        return
    config = told.get("config") or {}
    facts = {"host": found.host_name} | {key: value for key, value in told.items() if key != "config"}
    if backend is not None:
        facts["routed to"] = backend["state"] + (f": {backend['reason']}" if backend["reason"] else "")
    put_facts(facts)
    print("config")
    put_facts(config, indent=2)


@instances.command()
@_NAME
@_ON
@click.option("--model", metavar="FILE", help="Another model.")
@click.option("--alias", metavar="NAME", help="Another name that clients ask for.")
@_SET
@click.option("--unset", "unsets", multiple=True, metavar="K", help="A field to leave out. May be repeated.")
@_CONFIG
@json_option
@asks_gateway
def update(
    client: Client,
    name: str,
    host: str | None,
    model: str | None,
    alias: str | None,
    sets: tuple[str, ...],
    unsets: tuple[str, ...],
    config: str | None,
    as_json: bool,
) -> None:
    """Change the config of a stopped instance: some fields of it, or with --config all."""
    from solar.cli.named import find_instance
    from solar.cli.show import put_json

    if not (config or model or alias or sets or unsets):
        raise click.UsageError("nothing to change: give --model, --alias, --set, --unset or --config")
    given = _read(config) if config is not None else None
    found = find_instance(client, name, host)
    whole = given if given is not None else dict(client.get(found.path).get("config") or {})
    whole = _changed({field: value for field, value in whole.items() if field not in unsets}, model, alias, sets)
    told = client.ask("PUT", found.path, {"config": whole})
    if as_json:
        put_json({"host_id": found.host_id, "host_name": found.host_name, **told})
    else:
        _say(f"Changed {found}")


@instances.command()
@_NAME
@_ON
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@json_option
@asks_gateway
def rm(client: Client, name: str, host: str | None, yes: bool, as_json: bool) -> None:
    """Delete a stopped instance."""
    from solar.cli.named import find_instance
    from solar.cli.show import put_json

    found = find_instance(client, name, host)
    if not yes and sys.stdin.isatty():
        click.confirm(f"Delete {found}?", abort=True, err=True)
    told = client.ask("DELETE", found.path)
    if as_json:
        put_json({"host_id": found.host_id, "host_name": found.host_name, **told})
    else:
        _say(f"Deleted {found}")


@instances.command()
@_NAME
@_ON
@_NO_WAIT
@_TIMEOUT
@json_option
@asks_gateway
def start(client: Client, name: str, host: str | None, no_wait: bool, timeout: float, as_json: bool) -> None:
    """Start an instance, and return once requests reach it."""
    _run(client, name, host, "start", as_json, wait=0.0 if no_wait else timeout)


@instances.command()
@_NAME
@_ON
@json_option
@asks_gateway
def stop(client: Client, name: str, host: str | None, as_json: bool) -> None:
    """Stop an instance."""
    _run(client, name, host, "stop", as_json)


@instances.command()
@_NAME
@_ON
@_NO_WAIT
@_TIMEOUT
@json_option
@asks_gateway
def restart(client: Client, name: str, host: str | None, no_wait: bool, timeout: float, as_json: bool) -> None:
    """Stop an instance and start it, and return once requests reach it."""
    _run(client, name, host, "restart", as_json, wait=0.0 if no_wait else timeout)


@instances.command()
@_NAME
@_ON
@json_option
@asks_gateway
def state(client: Client, name: str, host: str | None, as_json: bool) -> None:
    """Show what an instance is doing."""
    from solar.cli.named import find_instance
    from solar.cli.show import put_facts, put_json

    found = find_instance(client, name, host)
    told = client.get(f"{found.path}/state")
    if as_json:
        put_json({"host_id": found.host_id, "host_name": found.host_name, "instance_id": found.id, **told})
    else:
        put_facts({"instance": str(found)} | told)


@instances.command("logs")
@_NAME
@_ON
@reading
@json_option
@asks_gateway
def logs_of(client: Client, name: str, host: str | None, as_json: bool, **which: Any) -> None:
    """Show the log of an instance, and with -f follow it."""
    from solar.cli.named import find_instance

    found = find_instance(client, name, host)
    show_logs(client, {"host": found.host_id, "instance": found.id}, as_json=as_json, **which)


_DOING = {"start": "starting", "stop": "stopping", "restart": "restarting"}
_DONE = {"start": "Started", "stop": "Stopped", "restart": "Restarted"}


def _run(client: Client, name: str, host: str | None, command: str, as_json: bool, wait: float = 0.0) -> None:
    from solar.cli.client import Refused
    from solar.cli.named import find_instance
    from solar.cli.progress import carry_out, last_lines, telling, wait_until_ready
    from solar.cli.show import put_json

    found = find_instance(client, name, host)
    try:
        with telling(f"{_DOING[command]} {found}", quiet=as_json) as tell:
            told = carry_out(client, found, command, tell)
            if wait and found.alias:
                wait_until_ready(client, found, tell, wait)
    except Refused as refused:
        lines = last_lines(client, found, _TAIL) if command != "stop" else []
        raise Refused("\n  | ".join([refused.message, *lines])) from None
    except KeyboardInterrupt:
        print(f"Nobody waits for it any more; {_DOING[command]} {found} goes on.", file=sys.stderr)
        sys.exit(130)
    if as_json:
        put_json({"host_id": found.host_id, "host_name": found.host_name, **told})
    else:
        _say(f"{_DONE[command]} {found}" + (": requests reach it" if wait and found.alias else ""))


def _changed(config: dict[str, Any], model: str | None, alias: str | None, sets: Sequence[str]) -> dict[str, Any]:
    whole = dict(config)
    for text in sets:
        field, equals, value = text.partition("=")
        if not equals or not field:
            raise click.UsageError(f"--set: write K=V, such as ctx_size=8192; got {field[:50]!r}")
        try:
            whole[field] = json.loads(value)
        except ValueError:
            whole[field] = value
    if alias is not None:
        whole["alias"] = alias
    if model is not None:  # agents call it so where the engine takes it from a hub
        whole["model_id" if str(whole.get("backend_type", "")).startswith("huggingface") else "model"] = model
    return whole


def _read(file: str) -> dict[str, Any]:
    """A config; one that is wrapped as in the API is unwrapped."""
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text("utf-8")
        told = json.loads(text)
    except OSError as error:
        raise click.ClickException(f"cannot read {file}: {error.strerror}") from None
    except ValueError:
        raise click.ClickException(f"{file} is no JSON") from None
    config = told.get("config", told) if isinstance(told, dict) else None
    if not isinstance(config, dict):
        raise click.ClickException(f'{file} holds no config: write {{"model": "/models/a.gguf", "alias": "a:8b"}}')
    return config


def _say(sentence: str) -> None:
    from solar.cli.show import clean

    print(clean(sentence))
