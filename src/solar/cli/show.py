"""How commands show what they found: tables for people, JSON for programs, and nothing that a terminal would obey."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

WIDE = 200  # columns of what is no terminal: a file has no edge to wrap at

# What others wrote may hold orders to a terminal: colours, titles, a cursor that moves.
_ORDERS = re.compile(r"\x1b\[[0-9;:?<=>]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b.?")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
STATES = {
    **dict.fromkeys(("online", "healthy", "running"), "green"),
    **dict.fromkeys(("loading", "starting", "stopping", "suspect", "full", "unknown", "draining"), "yellow"),
    **dict.fromkeys(("error", "failed", "down", "stalled", "ejected"), "bold red"),
    "offline": "red",
    "stopped": "dim",
}


def clean(text: str) -> str:
    """`text` without what a terminal would obey; tabs and line ends stay."""
    return _CONTROLS.sub("", _ORDERS.sub("", text))


def in_colour() -> Console:
    """Standard output as rich sees it."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDE
    return console


def table(*columns: str, rows: Iterable[Sequence[str]]) -> Table:
    """A table of `rows`; a cell that is a state has its colour."""
    from rich.table import Column, Table

    headers = (Column(column, overflow="fold") for column in columns)  # where it is narrow, nothing is left out
    made = Table(*headers, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        made.add_row(*map(cell, row))
    return made


def cell(text: str) -> Text:
    """One cell: text that is no markup."""
    from rich.text import Text

    return Text(clean(text), STATES.get(text, ""))


def put_table(*columns: str, rows: Sequence[Sequence[str]], nothing: str) -> None:
    """Print a table, or `nothing` where it has no rows."""
    if not rows:
        print(nothing)
        return
    print_trimmed(table(*columns, rows=rows))


def print_trimmed(renderable: Any) -> None:
    """Print without the spaces at the ends of lines, which a copy would carry along."""
    console = in_colour()
    with console.capture() as shown:
        console.print(renderable)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in shown.get().splitlines()))


def put_facts(facts: dict[str, Any], *, indent: int = 0) -> None:
    """Print names and what there is to say of each, in lines; what is not known is left out."""
    from rich.padding import Padding
    from rich.table import Table

    lines = Table.grid(padding=(0, 2, 0, 0))
    for name, told in facts.items():
        if told not in (None, "", []):
            text = told if isinstance(told, str) else json.dumps(told)
            lines.add_row(cell(name.replace("_", " ") if not indent else name), cell(text))
    print_trimmed(Padding(lines, (0, 0, 0, indent)))


def shortened(ids: Sequence[str]) -> Callable[[str], str]:
    """How ids are shown: as much of them as tells them apart, eight characters at least."""
    length = next((n for n in (8, 12, 16) if len({one[:n] for one in ids}) == len(set(ids))), None)
    return lambda one: one[:length]


def put_json(value: Any) -> None:
    """Print one JSON object, for people to read too."""
    print(json.dumps(value, indent=2))


def put_line(value: Any) -> None:
    """Print one JSON object in a line, and at once: it is one of many."""
    print(json.dumps(value), flush=True)


def gigabytes(memory: dict[str, Any] | None) -> str:
    """A host's memory in a few words."""
    if not memory:
        return ""
    return f"{memory['used_gb']:.0f} of {memory['total_gb']:.0f} GB {memory['memory_type']}, {memory['percent']:.0f}%"


@contextmanager
def writing(*, quiet: bool = False) -> Iterator[Callable[[str, str], None]]:
    """What writes pieces of a text as they come, each in its style; at the end, however it comes, the line is ended."""
    from rich.text import Text

    if quiet:
        yield lambda piece, style: None
        return
    console, last = in_colour(), "\n"

    def put(piece: str, style: str) -> None:
        nonlocal last
        if text := clean(piece):
            console.print(Text(text, style), end="", soft_wrap=True)
            sys.stdout.flush()
            last = text[-1]

    try:
        yield put
    finally:
        if last != "\n":
            console.print()
