"""Counts what a request costs `solar serve`, in calls and not in time: of Python functions, C functions, the kernel.

    python tests/cost/counted.py            # prints the counts, and of which functions: two such lists can be compared
    python tests/cost/counted.py --write    # makes the counts the budget

It is the gateway as users start it, but on asyncio's own loop, whose system calls can be seen. The clock of that loop
stands still, so that no tick and no probe falls in.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import select
import selectors
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from fcntl import ioctl
from pathlib import Path
from termios import FIONREAD
from types import FrameType
from typing import Any, NamedTuple

from outside import KEY, PATIENCE, Moves, Outside, Stuck, Work

from solar.control import app, configuration

BUDGET = Path(__file__).with_name("budget.json")
COMMAND = "python tests/cost/counted.py --write"
DOORS = ("front", "asgi")
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
PROFILED = 77  # the exit status where somebody else counts calls already

# The kernel is asked by these modules' functions and these classes' methods, but not by those in _NOT_ASKED.
_KERNEL = ("socket.", "epoll.", "posix.")
_NOT_ASKED = {"socket.fileno", "socket.gettimeout", "epoll.fileno", "posix.fspath"}
_SAME = {"socket.sendmsg": "socket.send", "socket.recv_into": "socket.recv"}  # by what they do

Span = Counter[tuple[str, str]]  # ("python", "c" or "kernel", the function's name) -> calls


class Cost(NamedTuple):
    """What one request costs, or one piece of an answer."""

    python: int
    c: int
    kernel: Mapping[str, int]


def cost_of(span: Span) -> Cost:
    kinds = Counter[str]()
    for (kind, _), number in span.items():
        kinds[kind] += number
    return Cost(kinds["python"], kinds["c"], {name: n for (kind, name), n in sorted(span.items()) if kind == "kernel"})


class Calls:
    """Every call that this thread makes while it is watched, cut into spans."""

    def __init__(self) -> None:
        self._spans: list[Span] = [Counter()]

    def watch(self) -> None:
        sys.setprofile(self._note)

    def pause(self) -> None:
        sys.setprofile(None)

    def cut(self) -> None:
        """One span ends here, the next one begins."""
        self._spans.append(Counter())

    def typical(self) -> Span:
        """The median of the spans since the last time. The first half of them was warm-up."""
        spans, self._spans = self._spans[len(self._spans) // 2 : -1], [Counter()]
        spans.sort(key=lambda span: cost_of(span)[:2])
        return spans[(len(spans) - 1) // 2]

    def _note(self, frame: FrameType, event: str, called: Any) -> None:
        code = frame.f_code
        if code.co_filename == __file__:
            return
        if event == "call":
            self._spans[-1]["python", f"{frame.f_globals['__name__']}.{code.co_qualname}"] += 1
        elif event == "c_call":
            name = f"{called.__module__}.{called.__qualname__}" if called.__module__ else called.__qualname__
            name = _SAME.get(name, name)
            kind = "kernel" if name.startswith(_KERNEL) and name not in _NOT_ASKED else "c"
            self._spans[-1][kind, name] += 1


class Turns(selectors.DefaultSelector):
    """Where the loop would wait, lets the outside move, and waits until all of it has arrived."""

    def __init__(self, calls: Calls, outside: Outside) -> None:
        super().__init__()
        self._calls = calls
        self._moves: Moves | None = outside.moves(self.fileno())

    @property
    def over(self) -> bool:
        return self._moves is None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self._moves is not None and (timeout is None or timeout > 0):
            self._calls.pause()
            if not select.select([self.fileno()], [], [], 0)[0]:
                self._let_move(self._moves)
            if not self.over:
                self._calls.watch()
        return super().select(timeout)

    def _let_move(self, moves: Moves) -> None:
        self._moves = None
        for sent in moves:
            self._await(sent)
            self._moves = moves
            return
        os.kill(os.getpid(), signal.SIGTERM)

    def _await(self, sent: int) -> None:
        deadline = time.monotonic() + PATIENCE
        while self._arrived() < sent:
            if time.monotonic() > deadline:
                raise Stuck(f"the gateway does not read the {sent} bytes that were sent to it")

    def _arrived(self) -> int:
        """Bytes that the loop could read now."""
        total = 0
        for descriptor in self.get_map():
            with contextlib.suppress(OSError):  # a socket that listens has none
                total += int.from_bytes(ioctl(descriptor, FIONREAD, bytes(4)), sys.byteorder)
        return total


class Loop(asyncio.SelectorEventLoop):
    """Its clock stands still until the outside has made all its moves."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._began = time.monotonic()
        super().__init__(turns)

    def time(self) -> float:
        now = super().time()
        return now if self._turns.over else self._began


def count(door: str, directory: Path) -> dict[str, Span]:
    """Serve through `door`, and count what each kind of request costs."""
    calls = Calls()
    spans: dict[str, Span] = {}

    def done(work: Work) -> None:
        spans[f"{door}: {work.name}"] = calls.typical()

    def greet(listening: app.Listening) -> None:
        outside.port = int(listening.url.rpartition(":")[2])

    outside = Outside(calls.cut, done)
    backends = tuple(f"{name}={url}" for name, url in zip(("left", "right"), outside.backends.urls, strict=True))
    flags = {"backends": backends, "api_keys": (KEY,), "port": 0, "door": door}
    app.loop_factory = lambda: lambda: Loop(Turns(calls, outside))
    with contextlib.redirect_stderr(io.StringIO()) as log:
        try:
            app.serve(configuration.load(flags, {}, directory), greet)
        except Stuck as stuck:
            stuck.add_note(f"The gateway's last words:\n{log.getvalue()[-2000:]}")
            raise
    return spans


def count_all() -> dict[str, Span]:
    with tempfile.TemporaryDirectory() as directory:
        return {name: span for door in DOORS for name, span in count(door, Path(directory)).items()}


def write(spans: Mapping[str, Span]) -> None:
    """Make this the budget."""
    rows = {"Python": VERSION} | {name: cost_of(span)._asdict() for name, span in spans.items()}
    BUDGET.write_text(_object({name: json.dumps(row) for name, row in rows.items()}), encoding="utf-8")


def as_text(spans: Mapping[str, Span]) -> str:
    """JSON with a line for each function, the most called first."""
    shown = {}
    for name, span in spans.items():
        rows = sorted(((number, *call) for call, number in span.items()), key=lambda row: (-row[0], *row[1:]))
        shown[name] = "[\n    " + ",\n    ".join(json.dumps(row) for row in rows) + "\n  ]"
    return _object(shown)


def from_text(text: str) -> dict[str, Span]:
    rows: dict[str, list[tuple[int, str, str]]] = json.loads(text)
    return {name: Counter({(kind, called): n for n, kind, called in listed}) for name, listed in rows.items()}


def _object(values: Mapping[str, str]) -> str:
    return "{\n" + ",\n".join(f"  {json.dumps(name)}: {value}" for name, value in values.items()) + "\n}\n"


def main(arguments: list[str]) -> None:
    if sys.getprofile() is not None:
        sys.stderr.write("a profiler is on, and there can be only one: calls cannot be counted\n")
        sys.exit(PROFILED)
    spans = count_all()
    if arguments == ["--write"]:
        write(spans)
    sys.stdout.write(as_text(spans))


if __name__ == "__main__":
    main(sys.argv[1:])
