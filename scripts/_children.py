"""Processes that the demo starts, each with a log, and all of them ended when the demo ends."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

GRACE = 5.0  # seconds; llama-server takes 30 s to obey SIGTERM during a stream, nobody waits that long
LAST_LINES = 15


@dataclass(frozen=True, slots=True)
class Child:
    """One process, leader of its own group, so that what it starts ends with it."""

    name: str
    url: str
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        return self.process.pid

    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def ending(self) -> str:
        code = self.process.returncode
        if code == -signal.SIGILL:
            return (
                "illegal instruction: it was compiled for another kind of CPU (the packaged llama-server needs AVX2); "
                "name one that fits this machine: --llama-server FILE"
            )
        return f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"

    def tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-LAST_LINES:]
        return "\n".join([f"--- the end of {self.log}", *lines])

    def give_up(self) -> NoReturn:
        """Leave the program, showing why this child's end is the end of all."""
        sys.exit(f"\n{self.name} has ended: {self.ending()}\n{self.tail()}")

    def tell(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):  # it and all it started are gone already
            os.killpg(self.pid, number)


class Children:
    """Everything started within the `with` block ends with it, however the block is left."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._all: list[Child] = []

    def __enter__(self) -> Self:
        self._logs.mkdir(parents=True, exist_ok=True)
        return self

    def start(self, name: str, url: str, command: list[str]) -> Child:
        log = self._logs / f"{name}.log"
        # Settings for a gateway of your own must not change the demo's.
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("SOLAR_", "LLAMA_"))}
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=self._logs,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        child = Child(name, url, log, process)
        self._all.append(child)
        return child

    def all_must_run(self) -> None:
        for child in self._all:
            if child.has_ended():
                child.give_up()

    def tails(self) -> str:
        return "\n".join(child.tail() for child in self._all)

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A second Ctrl-C must not leave processes behind; what follows is short.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        for child in reversed(self._all):
            child.tell(signal.SIGTERM)
        deadline = time.monotonic() + GRACE
        for child in self._all:
            with suppress(subprocess.TimeoutExpired):  # killed below, with its group
                child.process.wait(max(0.0, deadline - time.monotonic()))
        for child in self._all:
            child.tell(signal.SIGKILL)
            child.process.wait()
