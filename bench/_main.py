"""The run: rounds in which everybody takes every turn, then the report."""

from __future__ import annotations

import datetime
import os
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


def main(words: list[str]) -> int:
    """Run it, write the report; the exit status."""
    given = parse(words)
    size = scale(given)
    limit = open_file_limit()
    cores = len(os.sched_getaffinity(0))
    folder = CACHE / "run"
    shutil.rmtree(folder, ignore_errors=True)
    began = time.monotonic()
    run = Run(size, given.rounds or size.rounds)
    chosen = tuple(work for work in works(size) if work.name in given.works)
    left_out: dict[str, str] = {}
    before = _machine.facts()
    if cores == 1:
        say("There is only one core: CPU time can be compared, throughput and latency say little.")
    with Stage(folder, Cores.for_one()) as stage:
        places = [str(stage.cores)]
        direct = Contestant("direct", "no proxy: the load asks the backend", "", stage.ports[0], [], headers=())

        def those_wanted(room: int = CLIENTS) -> list[Contestant]:
            found, absent = contestants(stage.ports, doors=given.doors, peers=given.peers, room=room)
            left_out.update((name, why) for name, why in absent.items() if name in given.only)
            return [contestant for contestant in found if contestant.name in given.only]

        everybody = those_wanted()
        if not everybody:
            sys.exit("Nobody is left to be measured.")
        who = {contestant.name: contestant for contestant in (direct, *everybody)}
        if chosen:
            run.rounds(stage, [direct, *everybody], chosen, "start")
        for wanted in size.streams if "streams" in given.works else ():
            # A proxy needs two files for each stream; where the machine allows fewer, as many as it allows.
            streams = min(wanted, max(0, limit - OTHER_FILES) // 2 // 100 * 100)
            if streams < wanted:
                left_out[f"{wanted:,} streams"] = f"this user may open {limit:,} files a process"
            if streams:
                run.hold(stage, those_wanted(room=streams + 100), streams)
    if "two" in given.works and cores > 1:
        with Stage(folder, Cores.for_two()) as stage:
            places.append(str(stage.cores))
            everybody = [c for c in one_and_two(stage.ports) if c.name.removesuffix("-2") in given.only]
            if len(everybody) > 1:
                who |= {contestant.name: contestant for contestant in everybody if contestant.processes > 1}
                run.rounds(stage, everybody, (TWO,), "start-two")
    elif "two" in given.works:
        left_out["two processes on one port"] = "there is one core"
    facts = {
        "date": datetime.datetime.now().astimezone().date().isoformat(),
        "command": " ".join(["bench/run", *words]),
        "part": "-part" if given.part else "-quick" if given.quick else "",
        "solar": _machine.solar(),
        "rounds": given.rounds or size.rounds,
        "seconds_each": size.seconds,
        "open_seconds": size.open_seconds,
        "minutes": (time.monotonic() - began) / 60,
        "machine": before,
        "cores": places,
        "open_file_limit": limit,
        "versions": {**_machine.versions(), **{name: c.version for name, c in who.items()}},
        "contestants": {name: c.what for name, c in who.items()},
        "absent": left_out,
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
