"""What takes long, carried out while somebody watches: a line that moves on a terminal, plain lines elsewhere."""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from solar.cli.client import Client, Refused, Unreachable
from solar.cli.named import FoundInstance
from solar.cli.show import clean

LOOK = 0.5  # seconds between two looks at what is going on
ABSENT = 15.0  # seconds until the router should know what was started
SILENT = 30.0  # seconds for which an engine may not answer at all: some listen late
LONGEST = 900.0  # seconds; the gateway gives up on an agent before that

Tell = Callable[[str], None]


@contextmanager
def telling(what: str, *, quiet: bool = False) -> Iterator[Tell]:
    """Shows `what` goes on until it is left, with the words that are told meanwhile. On standard error."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    if quiet:
        yield lambda _: None
    elif not console.is_terminal:
        _put(f"{what} ...")
        yield _once()
    else:
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.table import Column

        rest = Column(ratio=1, no_wrap=True, overflow="ellipsis")
        words = TextColumn("{task.description}", markup=False, table_column=rest)
        columns = (SpinnerColumn(), TimeElapsedColumn(), words)
        with Progress(*columns, console=console, transient=True, expand=True) as progress:
            task = progress.add_task(what, total=None)
            yield lambda told: progress.update(task, description=f"{what}: {clean(told)}" if told else what)


def _once() -> Tell:
    last = ""

    def tell(told: str) -> None:
        nonlocal last
        if told and told != last:
            last = told
            _put(clean(told))

    return tell


def _put(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def carry_out(client: Client, instance: FoundInstance, command: str, tell: Tell) -> dict[str, Any]:
    """POST start, stop or restart, and tell what the instance says until it is done. Raises Refused."""
    outcome: queue.Queue[dict[str, Any] | click.ClickException] = queue.Queue()

    def ask() -> None:
        try:
            outcome.put(client.ask("POST", f"{instance.path}/{command}", within=LONGEST))
        except click.ClickException as error:
            outcome.put(error)

    threading.Thread(target=ask, daemon=True).start()  # whoever interrupts does not wait for it
    while True:
        try:
            done = outcome.get(timeout=LOOK)
        except queue.Empty:
            tell(last_line(client, instance))
            continue
        if isinstance(done, click.ClickException):
            raise done
        return done


def wait_until_ready(client: Client, instance: FoundInstance, tell: Tell, within: float) -> None:
    """Return once requests are routed to it. Raises Refused where that does not come."""
    began = time.monotonic()
    answered = began  # when its engine was last not silent
    while True:
        backend = backend_of(client, instance)
        now = time.monotonic()
        state, why = (backend["state"], backend["reason"] or "") if backend else ("unknown", "")
        if state in ("healthy", "suspect", "full"):
            return
        if state != "down":
            answered = now
        if now - began > within:
            raise Refused(f"{instance} was started, and is {state} after {within:g} s{why and f': {why}'}")
        if now - answered > SILENT:
            raise Refused(f"{instance} was started, and does not answer: {why}")
        if backend is None and now - began > ABSENT:
            raise Refused(f"{instance} was started, and the router does not know it: look at `solar hosts list`")
        tell(last_line(client, instance) or f"{state}{why and f': {why}'}")
        time.sleep(LOOK)


def backend_of(client: Client, instance: FoundInstance) -> dict[str, Any] | None:
    """How the router sees it; None where it does not."""
    backends: list[dict[str, Any]] = client.get("/gateway/backends")["backends"]
    return next((one for one in backends if one["id"] == instance.backend_id), None)


def last_line(client: Client, instance: FoundInstance) -> str:
    """What it has logged last; "" where nobody can tell."""
    return next(iter(last_lines(client, instance, 1)), "")


def last_lines(client: Client, instance: FoundInstance, count: int) -> list[str]:
    """The newest lines of its log, the oldest first; none where nobody can tell."""
    try:
        lines = client.get(f"{instance.path}/logs")
    except (Refused, Unreachable):  # an agent of the oldest kind has no such page, and one that works may not answer
        return []
    return [str(line.get("line", "")) for line in lines[-count:] if isinstance(line, dict)]
