"""What decisions cost as the fleet grows: selection, names, the swap of the catalog, memory a backend.

    python bench/decisions.py [--quick]

Each figure is the median of several timings of the real core. `in one model` means that every backend serves the same
model, so that a selection looks at all of them; `ten a model` is what a large fleet looks like.
"""

from __future__ import annotations

import argparse
import random
import statistics
import timeit
import tracemalloc
from collections.abc import Callable

from solar import Backend
from solar.core.decision import Pick
from solar.core.roster import Roster, RosterOptions

SIZES = (10, 100, 1_000, 10_000)
NOW = 1.0
REPEATS = 7


def fleet(backends: int, a_model: int) -> Roster:
    """A roster of so many healthy backends on as many hosts, `a_model` of them for each model, half of them at work."""
    chance = random.Random(7)
    roster = Roster(RosterOptions())
    for i in range(backends):
        model = f"model-{i // a_model}-8b"
        roster.sources.claim(Backend(f"b{i:05}", f"http://10.0.{i // 250}.{i % 250}:8080", models=(model,)))
    roster.sync()
    for member in roster.members.values():
        member.health.passed(NOW, 0.5)
        for _ in range(chance.choice((0, 0, 1, 2))):
            member.load.take(8.0)
    return roster


def microseconds(work: Callable[[], object], seconds: float) -> float:
    """The median over repeats that take about `seconds` together."""
    timer = timeit.Timer(work)
    once = max(min(timer.repeat(3, 1)), 1e-7)
    number = max(1, round(seconds / REPEATS / once))
    return statistics.median(timer.repeat(REPEATS, number)) / number * 1e6


def selection(roster: Roster, session: str | None) -> Callable[[], object]:
    """One decision from a model's name to a slot that is taken, and given back."""

    def decide() -> None:
        route = roster.resolve("model-0-8b")
        assert route is not None
        pick = roster.select(route, set(), session, NOW)
        assert isinstance(pick, Pick)
        roster.picked(pick.candidate)
        pick.candidate.member.load.take(pick.candidate.size).give_back()

    return decide


def memory(backends: int) -> float:
    """KB of a backend in a roster."""
    tracemalloc.start()
    roster = fleet(backends, 10)
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return used / len(roster.members) / 1000


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="shorter timings, up to 1,000 backends")
    quick = parser.parse_args().quick
    seconds = 0.2 if quick else 1.0
    rows = []
    for count in SIZES[:3] if quick else SIZES:
        one, many = fleet(count, count), fleet(count, 10)
        rows.append(
            [
                f"{count:,}",
                *(f"{microseconds(selection(roster, None), seconds):,.1f}" for roster in (many, one)),
                *(f"{microseconds(selection(roster, 'session-1'), seconds):,.1f}" for roster in (many, one)),
                f"{microseconds(many.rebuild, seconds) / 1000:,.2f}",
                f"{microseconds(many.sync, seconds) / 1000:,.2f}",
                f"{memory(count):.1f}",
            ]
        )
    head = [
        "backends",
        "selection, ten a model, us",
        "all in one model, us",
        "with a session, ten a model, us",
        "with a session, all in one, us",
        "catalog swap, ms",
        "sync with the sources, ms",
        "KB a backend",
    ]
    for line in (head, ["---:"] * len(head), *rows):
        print("| " + " | ".join(line) + " |")


if __name__ == "__main__":
    main()
