"""Policies side by side, simulated on the real core: discrete events, seeded, a thousand hosts.

    python bench/policies.py [--quick] [--seed 1]     # the four policies
    python bench/policies.py --tried [--seed 1]       # what else was tried, on fleets of many shapes

Selection, loads, turns, the queue and the catalog are those of `solar.core`; only time and hosts are made up. Hosts
are of three strengths and bear two models each, out of twenty, of 3 to 70 billion parameters. The work of a request
grows with the model's size and its answer's random length. Requests arrive at random (Poisson), each at one of several
replicas of the router, which knows its own figures of this moment and those of the others as they were 200 ms ago.
What a host does with several requests at once is made up in four ways, as engines lie between them:

    slots     the host has four slots; what runs in one does not slow the others; more wait, in order
    engines   the same, but the slots belong to the engines: each backend has its share of the four to itself
    batched   up to four do not slow each other; more share the host's speed evenly
    shared    all share the host's speed evenly, and one alone has all of it

Queue delay is the time that a request took beyond what it takes alone on the host that it came to. Mean time is the
whole of it: a weak host that is free delays nothing, and is slow. The busiest host's share is the work it did, for its
strength, compared to the mean of all hosts.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from typing import Any

from _simulation import SLOTS, WORLDS, Fleet, Rule, Simulation

from solar.core.select import Candidate, rank


def round_robin(candidate: Candidate, affinity: int) -> Any:
    """Whoever was picked longest ago."""
    del affinity
    return candidate.turn, candidate.backend.id


def least_in_flight(candidate: Candidate, affinity: int) -> Any:
    """The backend with the fewest requests, whatever their size and whatever else its host does."""
    del affinity
    return candidate.in_flight, candidate.turn, candidate.backend.id


def size_weighted(candidate: Candidate, affinity: int) -> Any:
    """Free hosts in turn; else the host with the least size in flight, the first by name; strength is not asked."""
    del affinity
    if candidate.host_in_flight == 0:
        return False, 0.0, "", 0, candidate.turn
    host = candidate.member.load.host
    return True, host.size, host.id, candidate.in_flight, candidate.turn


def ties_by_weight(candidate: Candidate, affinity: int) -> Any:
    """As ours, but of free hosts the strongest goes first."""
    del affinity
    host = candidate.member.load.host
    return host.in_flight > 0, host.pressure, -host.weight, candidate.in_flight, candidate.turn, candidate.backend.id


def with_itself(candidate: Candidate, affinity: int) -> Any:
    """As ours, but by the load that the host would have with this request."""
    del affinity
    host = candidate.member.load.host
    load = (host.size + candidate.size) / host.weight
    return host.in_flight > 0, load, candidate.in_flight, candidate.turn, candidate.backend.id


def times_count(candidate: Candidate, affinity: int) -> Any:
    """As `with_itself`, times the number of requests that would share the host."""
    del affinity
    host = candidate.member.load.host
    load = (host.size + candidate.size) * (host.in_flight + 1) / host.weight
    return host.in_flight > 0, load, candidate.in_flight, candidate.turn, candidate.backend.id


POLICIES = {
    "round robin": Rule(round_robin),
    "least in flight": Rule(least_in_flight),
    "size-weighted": Rule(size_weighted),
    "ours (rank)": Rule(rank),
}
TRIED = {
    "least in flight": Rule(least_in_flight),
    "ours (rank)": Rule(rank),
    "ties by weight": Rule(ties_by_weight),
    "with itself": Rule(with_itself),
    "times count": Rule(times_count),
    "root of size": Rule(rank, 0.5),
}
LOAD = 0.8  # of what the hosts can do


def four(fleet: Fleet, seed: int) -> None:
    """The policies side by side, in the two worlds that are furthest apart."""
    print(f"{fleet.hosts} hosts, load {LOAD:.0%}, {fleet.seconds - fleet.filling:.0f} s of requests, seed {seed}")
    one = replace(fleet, replicas=1)
    limit = SLOTS // fleet.models_a_host
    for world, which in (
        ("slots", one),
        ("slots", replace(one, limit=limit)),
        ("slots", fleet),
        ("slots", replace(fleet, limit=limit)),
        ("shared", one),
        ("shared", fleet),
    ):
        replicas = f"{which.replicas} replica{'s' * (which.replicas > 1)}"
        print(f"\nHosts: {world}; {replicas}; max_in_flight {which.limit or 'not set'}\n")
        print("| policy | p50 delay, s | p99 delay, s | mean time, s | busiest host / mean |")
        print("| --- | ---: | ---: | ---: | ---: |")
        for name, rule in POLICIES.items():
            p50, p99, mean_time, busiest = Simulation(rule, world, which, LOAD, seed).run()
            print(f"| {name} | {p50:.2f} | {p99:.2f} | {mean_time:.2f} | {busiest:.2f} |", flush=True)


_TWO = ("w-3b", "w-70b")
_THREE = ("w-3b", "w-14b", "w-70b")
SHAPES = {  # fleet: hosts, replicas, models, models a host, strengths
    "100 hosts, 20 models": Fleet(100, 4),
    "the same, max_in_flight 2": Fleet(100, 4, limit=2),
    "the same, weights all 1": Fleet(100, 4, told=False),
    "100 hosts, one of 20 models each": Fleet(100, 4, models_a_host=1),
    "20 hosts, two of 3 models each": Fleet(20, 4, _THREE, seconds=300.0, filling=60.0),
    "20 hosts, one model": Fleet(20, 1, ("w-8b",), 1, seconds=300.0, filling=60.0),
    "5 hosts, 2 models": Fleet(5, 1, _TWO, seconds=2000.0, filling=200.0),
    "5 hosts of one strength, 2 models": Fleet(5, 1, _TWO, strengths=(1.0,), seconds=4000.0, filling=200.0),
    "2 hosts, 2 models": Fleet(2, 1, _TWO, strengths=(1.0, 2.0), seconds=6000.0, filling=200.0),
    "2 hosts, one model": Fleet(2, 1, ("w-8b",), 1, (1.0, 4.0), seconds=1500.0, filling=100.0),
}


def tried(seed: int) -> None:
    """p99 of the delay, the median of three seeds, on fleets of many shapes."""
    print(f"p99 of the queue delay in seconds, load {LOAD:.0%}, median of seeds {seed} to {seed + 2}")
    for world in WORLDS:
        print(f"\nHosts: {world}\n")
        print("| fleet |", " | ".join(TRIED), "|")
        print("| --- |", " | ".join("---:" for _ in TRIED), "|")
        for name, fleet in SHAPES.items():
            cells = []
            for rule in TRIED.values():
                runs = [Simulation(rule, world, fleet, LOAD, seed + more).run().p99 for more in range(3)]
                cells.append(f"{statistics.median(runs):.2f}")
            print(f"| {name} |", " | ".join(cells), "|", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="200 hosts")
    parser.add_argument("--tried", action="store_true", help="other policies, other fleets")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    if given.tried:
        tried(given.seed)
    elif given.quick:
        four(Fleet(200, 4), given.seed)
    else:
        four(Fleet(1000, 4), given.seed)


if __name__ == "__main__":
    main()
