"""Processes under measurement: started on a core of their own, with the CPU time and memory of their whole tree."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
GRACE = 8.0  # seconds that a process has to obey SIGTERM


@dataclass(frozen=True, slots=True)
class Cores:
    """Who runs where. The one who is measured has a core alone."""

    contestant: int
    backend: int
    load: int

    @classmethod
    def here(cls) -> Cores:
        """Backend and load share a core where there are fewer than three."""
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) == 1:
            return cls(cores[0], cores[0], cores[0])
        return cls(cores[0], cores[1], cores[2] if len(cores) > 2 else cores[1])

    def __str__(self) -> str:
        if self.backend != self.load:
            return "the contestant, the backend and the load on a core each"
        if self.contestant == self.load:
            return "everything on the only core: no figure here means much"
        return "the contestant alone on one core, backend and load on the other"


class Process:
    """A program on one core, leader of its own group, so that what it starts ends with it."""

    def __init__(self, command: list[str], *, core: int, log: Path, environment: dict[str, str] | None = None) -> None:
        # Settings for a gateway of your own must not change what is measured.
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("SOLAR_")}
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                ["taskset", "-c", str(core), *command],
                cwd=log.parent,
                env={**inherited, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __repr__(self) -> str:
        return f"<Process {self._process.pid} {self.log.stem}>"

    @property
    def ended(self) -> bool:
        """Whether it is gone."""
        return self._process.poll() is not None

    def cpu(self) -> float:
        """User and system time of the tree so far, in seconds; what has ended and was waited for is in it."""
        spent = 0.0
        for pid in self._tree():
            with suppress(OSError):
                fields = _stat(pid)
                spent += time.clock_gettime(_cpu_clock(pid)) + (int(fields[13]) + int(fields[14])) / TICKS
        return spent

    def memory(self) -> float:
        """MB: all of the largest process, and of the others what they share with nobody."""
        resident: list[float] = []
        private: list[float] = []
        for pid in self._tree():
            with suppress(OSError):
                parts = _rollup(pid)
                resident.append(parts["Rss"])
                private.append(parts["Private_Clean"] + parts["Private_Dirty"])
        if not resident:
            return 0.0
        largest = resident.index(max(resident))
        return (resident[largest] + sum(private) - private[largest]) / 1024

    def stop(self) -> None:
        """End it and all that it started."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(GRACE)
        # What its leader left behind: the group lives on without it.
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def last_words(self) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-12:])

    def _tree(self) -> list[int]:
        children: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with suppress(OSError):
                    children.setdefault(int(_stat(int(entry.name))[1]), []).append(int(entry.name))
        found, new = [], [self._process.pid]
        while new:
            pid = new.pop()
            found.append(pid)
            new += children.get(pid, [])
        return found


def _cpu_clock(pid: int) -> int:
    """The kernel's clock for all threads of a process, also those that have ended: to the nanosecond, where
    /proc/PID/stat has hundredths of a second."""
    return (~pid << 3) | 2


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on: a name may hold spaces and brackets."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _rollup(pid: int) -> dict[str, float]:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {name: float(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}


def open_file_limit() -> int:
    """Raise the limit of open files to what this user may have; children inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
