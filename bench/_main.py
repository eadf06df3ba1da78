"""The run: rounds in which everybody takes every turn, then the report."""

from __future__ import annotations

import argparse
import datetime
import shutil
import sys
import time
from typing import Any

import _machine
import _report
from _contestants import CLIENTS, Contestant, contestants, one_and_two
from _measure import TWO, Sample, Stage, Work, WrongAnswer, works
from _options import Scale, parse, scale
from _process import Cores, end_as_by_ctrl_c, open_file_limit
from _setup import CACHE, alone, program, say

OTHER_FILES = 1000  # that a process may have open beside two for each stream


class Run:
    """Everything that was measured, and how."""

    def __init__(self, size: Scale, rounds: int) -> None:
        self._scale = size
        self._rounds = rounds
        self.samples: dict[str, dict[str, list[Sample | None]]] = {}  # work -> contestant -> a sample a round
        self.failures: dict[str, dict[str, list[str]]] = {}  # of them, why
        self.cross_check: dict[str, Any] = {}
        self.who: dict[str, Contestant] = {}
        self.left_out: dict[str, str] = {}  # who or what, and why
        self.places: list[str] = []

    def record(self, work: str, contestant: Contestant, sample: Sample | None) -> None:
        """One sample of one round; None where it failed."""
        self.samples.setdefault(work, {}).setdefault(contestant.name, []).append(sample)

    def failed(self, work: str, contestant: Contestant, error: WrongAnswer) -> None:
        """It did not do the work: no figure, and the reason in the report."""
        say(f"    {contestant.name}: {error}")
        if error.log:
            say(error.log)
        self.failures.setdefault(work, {}).setdefault(contestant.name, []).append(str(error))
        self.record(work, contestant, None)

    def rounds(self, stage: Stage, everybody: list[Contestant], chosen: tuple[Work, ...], start: str) -> None:
        """In each: start everybody, let everybody do every work, in another order each time, stop all."""
        for number in range(self._rounds):
            turn = number % len(everybody)
            started: list[Contestant] = []
            for contestant in everybody[turn:] + everybody[:turn]:
                try:
                    self.record(start, contestant, stage.start(contestant))
                    started.append(contestant)
                except WrongAnswer as error:
                    self.failed(start, contestant, error)
            for work in chosen:
                for contestant in started:
                    try:
                        sample = stage.measure(contestant, work, self._scale)
                    except WrongAnswer as error:
                        self.failed(work.name, contestant, error)
                        continue
                    self.record(work.name, contestant, sample)
                    where = f"  round {number + 1}/{self._rounds}  {work.title:22}{contestant.name:14}"
                    say(f"{where}{_glance(work, sample)}")
            if number == self._rounds - 1:
                self._cross_check(stage, started, chosen)
            stage.stop_all()

    def hold(self, stage: Stage, everybody: list[Contestant], streams: int) -> None:
        """Memory with many streams open, of processes just started: what large bodies left behind is not in it."""
        work = f"streams{streams}"
        for contestant in everybody:
            try:
                stage.start(contestant)
                memory = stage.held(contestant, streams)
            except WrongAnswer as error:
                self.failed(work, contestant, error)
                continue
            finally:
                stage.stop(contestant)
            self.record(work, contestant, {"mb": memory})
            say(f"  {streams:,} open streams{contestant.name:>20}{memory:8.1f} MB")

    def _cross_check(self, stage: Stage, started: list[Contestant], works: tuple[Work, ...]) -> None:
        """The same row by another program: wrk, right after our own load."""
        where = program("wrk")
        chosen = next((c for c in started if c.name == "solar"), None)
        work = next((work for work in works if work.name == "300B"), None)
        if where is None or chosen is None or work is None:
            return
        try:
            ours, theirs = [], []
            for _ in range(3):
                ours.append(stage.measure(chosen, work, self._scale)["per_second"])
                theirs.append(stage.wrk(chosen, where, self._scale.seconds))
        except WrongAnswer as error:
            say(f"    wrk: {error}")
            return
        self.cross_check = {"contestant": chosen.name, "load": sorted(ours)[1], "wrk": sorted(theirs)[1]}


def _glance(work: Work, sample: Sample) -> str:
    if work.mode == "open":
        latency = sample["latency"]
        return f"{latency['p50']:8.0f} us p50, {latency['p99']:.0f} p99"
    unit = "chunk" if work.mode == "stream" else "request"
    cost = f"{sample['cpu_us']:8.1f} us/{unit}, " if sample["cpu_us"] else " " * 8
    return f"{cost}{sample['per_second']:.0f}/s"


def _on_one_core(run: Run, stage: Stage, given: argparse.Namespace, chosen: tuple[Work, ...]) -> None:
    """All works by all contestants, each of one process; then memory, of each in turn."""

    def those_wanted(room: int = CLIENTS) -> list[Contestant]:
        found, absent = contestants(stage.ports, doors=given.doors, peers=given.peers, room=room)
        run.left_out.update((name, why) for name, why in absent.items() if name in given.only)
        return [contestant for contestant in found if contestant.name in given.only]

    direct = Contestant("direct", "no proxy: the load asks the backend", "", stage.ports[0], [], headers=())
    everybody = those_wanted()
    if not everybody:
        sys.exit("Nobody is left to be measured.")
    run.places.append(str(stage.cores))
    run.who |= {contestant.name: contestant for contestant in (direct, *everybody)}
    if chosen:
        run.rounds(stage, [direct, *everybody], chosen, "start")
    # A proxy needs two files for each stream; where the machine allows fewer, as many as it allows.
    most = max(0, open_file_limit() - OTHER_FILES) // 2 // 100 * 100
    numbers = scale(given).streams if "streams" in given.works else ()
    for wanted in numbers:
        if most < wanted:
            run.left_out[f"{wanted:,} streams"] = f"this user may open {open_file_limit():,} files a process"
    for streams in sorted({min(wanted, most) for wanted in numbers} - {0}):
        run.hold(stage, those_wanted(room=streams + 100), streams)


def _two_on_a_port(run: Run, stage: Stage, given: argparse.Namespace) -> None:
    """One process and two, of nginx and of ours, on the same cores."""
    ours = ("solar",) if "default" in given.doors else ()
    wanted = [name for name in given.only if name in ("nginx", *ours)]
    everybody = [c for c in one_and_two(stage.ports) if c.name.removesuffix("-2") in wanted]
    if not everybody:
        return
    run.places.append(str(stage.cores))
    run.who |= {contestant.name: contestant for contestant in everybody if contestant.name not in run.who}
    run.rounds(stage, everybody, (TWO,), "start-two")


def main(words: list[str]) -> int:
    """Run it, write the report; the exit status."""
    given = parse(words)
    size = scale(given)
    machine = _machine.facts()
    folder = CACHE / "run"
    shutil.rmtree(folder, ignore_errors=True)
    began = time.monotonic()
    open_file_limit()
    run = Run(size, given.rounds or size.rounds)
    chosen = tuple(work for work in works(size) if work.name in given.works)
    if machine["cores"] == 1:
        say("There is only one core: CPU time can be compared, throughput and latency say little.")
    if given.works != ("two",):
        with Stage(folder, Cores.for_one()) as stage:
            _on_one_core(run, stage, given, chosen)
    if "two" in given.works and machine["cores"] == 1:
        run.left_out["two processes on one port"] = "there is one core"
    elif "two" in given.works:
        with Stage(folder, Cores.for_two()) as stage:
            _two_on_a_port(run, stage, given)
    facts = {
        "date": datetime.datetime.now().astimezone().date().isoformat(),
        "command": " ".join(["bench/run", *words]),
        "part": "-part" if given.part else "-quick" if given.quick else "",
        "solar": _machine.solar(),
        "rounds": given.rounds or size.rounds,
        "seconds_each": size.seconds,
        "open_seconds": size.open_seconds,
        "minutes": (time.monotonic() - began) / 60,
        "machine": machine,
        "cores": run.places,
        "open_file_limit": open_file_limit(),
        "versions": {**_machine.versions(), **{name: c.version for name, c in run.who.items()}},
        "contestants": {name: c.what for name, c in run.who.items()},
        "absent": run.left_out,
        "samples": run.samples,
        "failures": run.failures,
        "cross_check": run.cross_check,
    }
    print(_report.tables(facts, chosen))
    if not given.no_report:
        say(f"Written: {_report.write(facts, chosen)}")
    return 0


if __name__ == "__main__":
    end_as_by_ctrl_c()
    try:
        with alone():
            sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
