"""The run: rounds in which everybody takes every turn, then the report."""

from __future__ import annotations

import datetime
import shutil
import sys
import time
from typing import Any

import _machine
import _report
from _contestants import Contestant, contestants
from _measure import Sample, Stage, Work, WrongAnswer, works
from _options import Scale, parse, scale
from _process import Cores, open_file_limit
from _setup import CACHE, program, say

OTHER_FILES = 1000  # that a process may have open beside two for each stream


class Run:
    """Everything that was measured, and how."""

    def __init__(self, stage: Stage, size: Scale, everybody: list[Contestant]) -> None:
        self._stage = stage
        self._scale = size
        self.direct = Contestant("direct", "no proxy: the load asks the backend", "", stage.ports[0], [], headers=())
        self.everybody = everybody
        self.samples: dict[str, dict[str, list[Sample | None]]] = {}  # work -> contestant -> a sample a round
        self.failures: dict[str, dict[str, str]] = {}
        self.cross_check: dict[str, Any] = {}

    def record(self, work: str, contestant: Contestant, sample: Sample | None) -> None:
        """One sample of one round; None where it failed."""
        self.samples.setdefault(work, {}).setdefault(contestant.name, []).append(sample)

    def failed(self, work: str, contestant: Contestant, error: WrongAnswer) -> None:
        """It did not do the work: no figure, and the reason in the report."""
        say(f"    {contestant.name}: {error}")
        if error.log:
            say(error.log)
        self.failures.setdefault(work, {})[contestant.name] = str(error)
        self.record(work, contestant, None)

    def round(self, number: int, rounds: int, chosen: tuple[Work, ...]) -> None:
        """Start everybody, let everybody do every work, in another order each time, stop all."""
        turn = number % len(self.everybody)
        order = self.everybody[turn:] + self.everybody[:turn]
        started: list[Contestant] = []
        for contestant in order:
            try:
                self.record("start", contestant, self._stage.start(contestant))
                started.append(contestant)
            except WrongAnswer as error:
                self.failed("start", contestant, error)
        for work in chosen:
            for contestant in [self.direct, *started]:
                try:
                    sample = self._stage.measure(contestant, work, self._scale)
                except WrongAnswer as error:
                    self.failed(work.name, contestant, error)
                    continue
                self.record(work.name, contestant, sample)
                say(f"  round {number + 1}/{rounds}  {work.title:22}{contestant.name:14}{_glance(work, sample)}")
        if number == rounds - 1:
            self._cross_check(started)
        self._stage.stop_all()

    def hold(self, everybody: list[Contestant], streams: int) -> None:
        """Memory with many streams open, of processes just started: what large bodies left behind is not in it."""
        work = f"streams{streams}"
        for contestant in everybody:
            try:
                self._stage.start(contestant)
                memory = self._stage.held(contestant, streams)
            except WrongAnswer as error:
                self.failed(work, contestant, error)
                continue
            finally:
                self._stage.stop(contestant)
            self.record(work, contestant, {"mb": memory})
            say(f"  {streams:,} open streams{contestant.name:>20}{memory:8.1f} MB")

    def _cross_check(self, started: list[Contestant]) -> None:
        """The same row by another program: wrk, right after our own load."""
        where = program("wrk")
        chosen = next((c for c in started if c.name.startswith("solar")), started[0] if started else None)
        work = works(self._scale)[0]
        if where is None or chosen is None:
            return
        try:
            ours, theirs = [], []
            for _ in range(3):
                ours.append(self._stage.measure(chosen, work, self._scale)["per_second"])
                theirs.append(self._stage.wrk(chosen, where, self._scale.seconds))
        except WrongAnswer as error:
            say(f"    wrk: {error}")
            return
        self.cross_check = {"contestant": chosen.name, "load": sorted(ours)[1], "wrk": sorted(theirs)[1]}


def _glance(work: Work, sample: Sample) -> str:
    if work.mode == "open":
        latency = sample["latency"]
        return f"{latency['p50']:8.0f} us p50, {latency['p99']:.0f} p99"
    unit = "chunk" if work.mode == "stream" else "request"
    return f"{sample['cpu_us']:8.1f} us/{unit}, {sample['per_second']:.0f}/s"


def main(words: list[str]) -> int:
    """Run it, write the report; the exit status."""
    given = parse(words)
    size = scale(given)
    rounds = given.rounds or size.rounds
    limit = open_file_limit()
    folder = CACHE / "run"
    shutil.rmtree(folder, ignore_errors=True)
    began = time.monotonic()
    doors = given.doors.split(",")
    chosen = works(size)
    if given.works:
        chosen = tuple(work for work in chosen if work.name in given.works.split(","))
    with Stage(folder, Cores.here()) as stage:

        def those_wanted(room: int | None = None) -> tuple[list[Contestant], dict[str, str]]:
            more = {"room": room} if room else {}
            everybody, absent = contestants(stage.ports, doors=doors, peers=given.peers, **more)
            if given.only:
                everybody = [c for c in everybody if c.name in given.only.split(",")]
            return everybody, absent

        everybody, absent = those_wanted()
        if not everybody:
            sys.exit("Nobody is left to be measured.")
        run = Run(stage, size, everybody)
        say(f"{rounds} rounds of {', '.join(c.name for c in everybody)}")
        for number in range(rounds):
            run.round(number, rounds, chosen)
        for streams in size.streams:
            # A proxy needs two files for each stream; where the machine allows fewer, as many as it allows.
            streams = min(streams, (limit - OTHER_FILES) // 2 // 100 * 100)
            roomy, _ = those_wanted(room=streams + 100)
            run.hold(roomy, streams)
        facts = {
            "date": datetime.datetime.now().astimezone().date().isoformat(),
            "command": " ".join(["bench/run", *words]),
            "part": "-part" if given.only or given.works else "-quick" if given.quick else "",
            "rounds": rounds,
            "seconds_each": size.seconds,
            "minutes": (time.monotonic() - began) / 60,
            "machine": _machine.facts(),
            "cores": str(stage.cores),
            "open_file_limit": limit,
            "versions": {**_machine.versions(), **{c.name: c.version for c in everybody}},
            "contestants": {run.direct.name: run.direct.what, **{c.name: c.what for c in everybody}},
            "absent": absent,
            "samples": run.samples,
            "failures": run.failures,
            "cross_check": run.cross_check,
        }
    print(_report.tables(facts, chosen))
    if not given.no_report:
        say(f"Written: {_report.write(facts, chosen)}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
