"""Processes under measurement: started on a core of their own, with the CPU time and memory of their whole tree."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
GRACE = 8.0  # seconds that a process has to obey SIGTERM


@dataclass(frozen=True, slots=True)
class Cores:
    """Who runs where. Who is measured has a core alone, where there are two."""

    contestant: tuple[int, ...]
    backend: tuple[int, ...]
    load: tuple[int, ...]

    @classmethod
    def for_one(cls) -> Cores:
        """The contestant on one core. Backend and load share another where there are fewer than three."""
        first, *others = sorted(os.sched_getaffinity(0))
        return cls((first,), *_places(others, (first,)))

    @classmethod
    def for_two(cls) -> Cores:
        """The contestant on two cores. On a machine of two all share both, free to move."""
        first, second, *others = sorted(os.sched_getaffinity(0))
        return cls((first, second), *_places(others, (first, second)))

    @property
    def shared(self) -> bool:
        """Whether backend and load work on the same cores."""
        return self.backend == self.load

    def __str__(self) -> str:
        if self.contestant == self.load:
            return f"contestant, backend and load share {_cores(self.contestant)}"
        if self.shared:
            return f"the contestant has {_cores(self.contestant)} alone, backend and load share {_cores(self.load)}"
        alone = (_cores(self.contestant), _cores(self.backend), _cores(self.load))
        return "the contestant has {} alone, the backend {}, the load {}".format(*alone)


def _places(left: list[int], taken: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """For backend and load: a core each, or one for both, or the contestant's."""
    if len(left) > 1:
        return (left[0],), (left[1],)
    both = tuple(left) or taken
    return both, both


def _cores(numbers: tuple[int, ...]) -> str:
    return f"core{'s' if len(numbers) > 1 else ''} {' and '.join(str(number) for number in numbers)}"


class Process:
    """A program on cores of its own, leader of its group, so that what it starts ends with it."""

    def __init__(
        self, command: list[str], *, cores: tuple[int, ...], log: Path, environment: dict[str, str] | None = None
    ) -> None:
        # Settings for a gateway or an engine of your own must not change what is measured.
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("SOLAR_", "LLAMA_"))}
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [*pinned(cores), *command],
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

    def wait(self, seconds: float) -> int | None:
        """Its exit code; None where it goes on for longer than that."""
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(seconds)
        return None

    def tell(self, number: signal.Signals) -> None:
        """Send it and all that it started a signal. Its group may live on when it has ended itself."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def stop(self) -> None:
        """End it and all that it started."""
        self.tell(signal.SIGTERM)
        self.wait(GRACE)
        self.tell(signal.SIGKILL)
        self._process.wait()

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


def pinned(cores: tuple[int, ...]) -> list[str]:
    """What to put before a command."""
    return ["taskset", "-c", ",".join(str(core) for core in cores)]


def listening(port: int) -> int:
    """How many sockets listen on a port of this machine's IPv4 addresses."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(fields[1].endswith(f":{port:04X}") and fields[3] == "0A" for fields in map(str.split, lines))


def machine_cpu() -> tuple[float, float]:
    """Seconds so far that the cores which we may use were at work, and that the host of this virtual machine gave to
    others meanwhile."""
    ours = {f"cpu{core}" for core in os.sched_getaffinity(0)}
    lines = (line.split() for line in Path("/proc/stat").read_text().splitlines())
    rows = [[int(field) / TICKS for field in fields[1:9]] for fields in lines if fields[0] in ours]
    return sum(sum(row[:3]) + row[5] + row[6] for row in rows), sum(row[7] for row in rows)


ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def end_as_by_ctrl_c() -> None:
    """Let a closed terminal or a `kill` end this program with its cleaning up done, also where a shell's `&` had
    SIGINT ignored."""
    for number in ENDINGS:
        signal.signal(number, signal.default_int_handler)


@contextmanager
def undisturbed() -> Iterator[None]:
    """A second Ctrl-C must not leave processes behind; what is done within is short."""
    before = [signal.signal(number, signal.SIG_IGN) for number in ENDINGS]
    try:
        yield
    finally:
        for number, handler in zip(ENDINGS, before, strict=True):
            signal.signal(number, handler)


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
