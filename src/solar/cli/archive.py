"""`solar export` and `solar import`: everything that the gateway keeps, as JSON lines."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from solar.cli.options import configuration_from, json_option
from solar.errors import SolarError

if TYPE_CHECKING:
    from solar.cli.client import Client
    from solar.store import Counts, Store

T = TypeVar("T")
PIECE = 1 << 16  # bytes that are read together

_DATA_DIR = click.option(
    "--data-dir", metavar="DIR", help="The gateway's directory. [default: as the settings here say]"
)


@click.command("export")
@click.argument("file", metavar="FILE|-")
@click.option("--keys", is_flag=True, help="With the hosts' keys: whoever reads the file can use them.")
@_DATA_DIR
def export(file: str, keys: bool, data_dir: str | None) -> None:
    """Write hosts and requests to FILE, or to standard output. A gateway that runs is not disturbed.

    FILE is whole or not there, and only its owner may read it.
    """
    directory = _directory(data_dir)
    if not (directory / "solar.db").exists():
        raise click.ClickException(f"there is nothing to export: {directory / 'solar.db'} is not there")

    async def write(store: Store) -> None:
        if file == "-":
            async for lines in store.export(keys=keys):
                sys.stdout.buffer.write(lines)
            sys.stdout.buffer.flush()
        else:
            from solar.store import save

            await save(store.export(keys=keys), Path(file))

    _with_store(directory, write, file)


@click.command("import")
@click.argument("file", metavar="FILE|-")
@_DATA_DIR
@json_option
def import_(file: str, data_dir: str | None, as_json: bool) -> None:
    """Take over an export: all of it or nothing, and nothing twice."""
    from solar.cli.show import put_json

    try:
        source = sys.stdin.buffer if file == "-" else Path(file).open("rb")  # noqa: SIM115  # pieces() closes it
    except OSError as error:
        raise click.ClickException(f"{file}: {(error.strerror or str(error)).lower()}") from None

    async def pieces() -> AsyncIterator[bytes]:
        with source:
            while piece := await asyncio.to_thread(source.read, PIECE):
                yield piece

    async def read(store: Store) -> Counts:
        return await store.import_(pieces())

    added = _with_store(_directory(data_dir), read, file)
    client = None if data_dir else _tell_gateway()
    if as_json:
        put_json({"hosts": added.hosts, "requests": added.requests})
        return
    print(f"New: {added.hosts} hosts, {added.requests} requests.")
    if client is not None:
        print(f"The gateway at {client.place} has read its hosts again.", file=sys.stderr)
    elif added.hosts:
        print("A gateway that uses this directory asks the new hosts once it is started anew.", file=sys.stderr)


def _tell_gateway() -> Client | None:
    """The gateway that runs here, once it knows what the import brought; None where there is none."""
    from solar.cli.client import Client
    from solar.cli.place import find_place

    client = Client(find_place(None, None))
    try:
        client.ask("POST", "/hosts/refresh-all")
    except click.ClickException:
        return None
    return client


def _directory(data_dir: str | None) -> Path:
    return Path(configuration_from({"data_dir": data_dir}).settings.data_dir)


def _with_store(directory: Path, work: Callable[[Store], Awaitable[T]], file: str) -> T:
    """What `work` gives; errors end the command. `file` is what may be unreadable beside the store."""

    async def run() -> T:
        from solar.edge.tasks import Tasks
        from solar.store import Store

        quiet = logging.getLogger("solar.cli.archive")
        quiet.addHandler(logging.NullHandler())
        quiet.propagate = False  # what is wrong ends the command with a sentence
        store = Store(directory, log=quiet, retention_days=None)
        tasks = Tasks(quiet)
        running = tasks.spawn(store.run(), "store")
        try:
            return await work(store)
        finally:
            store.stop()
            await running

    try:
        return asyncio.run(run())
    except SolarError as error:
        raise click.ClickException(error.message) from None
    except BrokenPipeError:
        raise
    except OSError as error:
        raise click.ClickException(f"{file}: {(error.strerror or str(error)).lower()}") from None
