"""Policies side by side, simulated on the real core: discrete events, seeded, a thousand hosts.

    python bench/policies.py [--quick]

Hosts are of three strengths and bear two models each, out of twenty, of 3 to 70 billion parameters. The work of a
request grows with the model's size and its answer's random length. Requests arrive at random (Poisson), each at one of
several replicas of the router, which chooses by its own figures of this moment and the figures of the others as they
were up to 200 ms ago. Selection, loads, turns and the catalog are those of `solar.core`; only time and hosts are made
up. What a host does with several requests at once is made up in two ways, as engines lie between them:

    slots    four run side by side and do not slow each other; more wait, in order
    shared   all run, and share the host's speed evenly

Queue delay is the time that a request took beyond what it takes on that host alone. The busiest host's share is how
much it worked, compared to the mean of hosts of all strengths in relation to what they can do.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

from solar import Backend
from solar.core.load import Slot
from solar.core.member import Member
from solar.core.roster import Pick, Roster, RosterOptions
from solar.core.select import Candidate, Policy, rank

MODELS = {f"{letter}-{size}b": float(size) for size in (3, 8, 14, 32, 70) for letter in "wxyz"}
STRENGTHS = (1.0, 1.0, 2.0, 4.0)
SLOTS = 4  # requests that run side by side; a host of strength 1 does 4 s of work in a second
STALE = 0.2  # seconds between two exchanges of load figures
SECONDS_A_BILLION = 0.2  # that a mean request takes in one slot of a host of strength 1
LARGE = 20.0  # billions: such models are borne by strong hosts only
FILLING = 20.0  # seconds until the fleet is as full as it will be; not counted


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


POLICIES: dict[str, Policy] = {
    "round robin": round_robin,
    "least in flight": least_in_flight,
    "size-weighted": size_weighted,
    "ours (rank)": rank,
}


class Request(NamedTuple):
    """One request on a host."""

    arrived: float
    work: float  # seconds on a host of strength 1, with a quarter of it
    router: Replica
    backend_id: str
    slot: Slot


class Slots:
    """A host on which four requests run side by side; more wait, in order."""

    def __init__(self, strength: float) -> None:
        self._strength = strength
        self._running: list[tuple[float, int, float, Request]] = []  # end, number, delay
        self._waiting: deque[tuple[int, Request]] = deque()
        self.version = 0  # of `next_end`
        self.done = 0.0  # work, for its strength

    def next_end(self) -> float:
        """When the next request ends."""
        return self._running[0][0] if self._running else math.inf

    def arrive(self, now: float, number: int, request: Request) -> None:
        """Take a request; `number` breaks ties."""
        if len(self._running) < SLOTS:
            self._begin(now, number, request)
        else:
            self._waiting.append((number, request))

    def finish(self, now: float) -> tuple[float, Request]:
        """The request that ends now, and its delay."""
        _, _, delay, request = heapq.heappop(self._running)
        self.version += 1
        if self._waiting:
            self._begin(now, *self._waiting.popleft())
        self.done += request.work / self._strength
        return delay, request

    def _begin(self, now: float, number: int, request: Request) -> None:
        self.version += 1
        heapq.heappush(self._running, (now + request.work / self._strength, number, now - request.arrived, request))


class Shared:
    """A host whose speed all its requests share evenly, as many as there are."""

    def __init__(self, strength: float) -> None:
        self._speed = strength * SLOTS
        self._running: list[tuple[float, int, Request]] = []  # what everybody will have got by its end, number
        self._got = 0.0  # work that each request of all time would have got so far
        self._since = 0.0
        self.version = 0
        self.done = 0.0

    def next_end(self) -> float:
        """When the next request ends, if no other comes."""
        if not self._running:
            return math.inf
        return self._since + (self._running[0][0] - self._got) * len(self._running) / self._speed

    def arrive(self, now: float, number: int, request: Request) -> None:
        """Take a request; `number` breaks ties."""
        self._move(now)
        heapq.heappush(self._running, (self._got + request.work, number, request))

    def finish(self, now: float) -> tuple[float, Request]:
        """The request that ends now, and its delay."""
        self._move(now)
        _, _, request = heapq.heappop(self._running)
        alone = request.work / self._speed
        self.done += alone * SLOTS
        return max(0.0, now - request.arrived - alone), request

    def _move(self, now: float) -> None:
        if self._running:
            self._got += (now - self._since) * self._speed / len(self._running)
        self._since = now
        self.version += 1


HOSTS: dict[str, type[Slots] | type[Shared]] = {"slots": Slots, "shared": Shared}


class Replica:
    """One router. Its loads are its own requests, and those of the others as it last heard."""

    def __init__(self, backends: Sequence[Backend], policy: Policy, turn: int) -> None:
        self.roster = Roster(RosterOptions(policy=policy))
        for backend in backends:
            self.roster.sources.claim(backend)
        self.roster.sync()
        # Replicas that start at one turn would choose alike.
        members = list(self.roster.members.values())
        random.Random(turn).shuffle(members)
        for place, member in enumerate(members):
            member.turn = place - len(members)
            member.health.passed(0.0, 0.5)
        self.own = dict.fromkeys(self.roster.members, 0)
        self.heard = dict.fromkeys(self.roster.members, 0)

    def hear(self, total: dict[str, int], sizes: dict[str, float]) -> None:
        """Take over how many requests everybody has on each backend."""
        for backend_id, member in self.roster.members.items():
            others = total[backend_id] - self.own[backend_id]
            more = others - self.heard[backend_id]
            if more:
                self.heard[backend_id] = others
                member.load.in_flight += more
                member.load.host.in_flight += more
                member.load.host.size += more * sizes[backend_id]

    def choose(self, model: str, now: float) -> tuple[Member, Slot]:
        """Decide, and take the slot."""
        route = self.roster.resolve(model)
        assert route is not None
        pick = self.roster.select(route, set(), None, now)
        assert isinstance(pick, Pick)
        self.roster.picked(pick.candidate)
        member = pick.candidate.member
        self.own[member.backend.id] += 1
        return member, member.load.take(pick.candidate.size)


def fleet(hosts: int, seed: int, *, told: bool) -> tuple[list[Backend], dict[str, float], dict[str, float]]:
    """Backends; the strength of each host; the size of each backend's model. `told`: whether weights say strengths."""
    chance = random.Random(seed)
    backends: list[Backend] = []
    strengths: dict[str, float] = {}
    sizes: dict[str, float] = {}
    for i in range(hosts):
        host = f"host{i:04}"
        strengths[host] = strength = STRENGTHS[i % len(STRENGTHS)]
        fitting = [name for name, size in MODELS.items() if size < LARGE or strength > 1]
        for name in chance.sample(fitting, 2):
            weight = strength if told else 1.0
            backend = Backend(f"{host}/{name}", f"http://{host}/{name}", models=(name,), host=host, weight=weight)
            backends.append(backend)
            sizes[backend.id] = MODELS[name]
    return backends, strengths, sizes


def simulate(
    policy: Policy, kind: str, *, hosts: int, replicas: int, seconds: float, utilisation: float, seed: int, told: bool
) -> tuple[float, float, float]:
    """p50 and p99 of the queue delay in seconds, and the busiest host's share."""
    chance = random.Random(seed)
    backends, strengths, sizes = fleet(hosts, seed, told=told)
    routers = [Replica(backends, policy, turn) for turn in range(replicas)]
    machines = {host: HOSTS[kind](strength) for host, strength in strengths.items()}
    # Each host's capacity is divided among its models; demand follows, so that no model is short by design.
    capacity = dict.fromkeys(MODELS, 0.0)
    for backend in backends:
        name = backend.models[0]
        capacity[name] += strengths[backend.host_id] * SLOTS / 2 / (MODELS[name] * SECONDS_A_BILLION)
    names, rates = list(capacity), list(capacity.values())
    rate = sum(rates) * utilisation
    total = dict.fromkeys(sizes, 0)
    ends: list[tuple[float, str, int]] = []  # when, which host, its version: an older one is no news
    delays: list[float] = []
    number, next_arrival, next_news = 0, chance.expovariate(rate), STALE
    while ends or next_arrival < seconds:
        end = ends[0][0] if ends else math.inf
        if next_news <= min(end, next_arrival):
            for router in routers:
                router.hear(total, sizes)
            next_news += STALE
            continue
        if end <= next_arrival:
            now, host, version = heapq.heappop(ends)
            machine = machines[host]
            if version != machine.version:
                continue
            delay, ended = machine.finish(now)
            ended.slot.give_back()
            ended.router.own[ended.backend_id] -= 1
            total[ended.backend_id] -= 1
            if ended.arrived > FILLING:
                delays.append(delay)
        else:
            now, number = next_arrival, number + 1
            next_arrival = now + chance.expovariate(rate) if now < seconds else math.inf
            router = chance.choice(routers)
            name = chance.choices(names, rates)[0]
            work = MODELS[name] * SECONDS_A_BILLION * chance.expovariate(1.0)
            member, slot = router.choose(name, now)
            total[member.backend.id] += 1
            host = member.backend.host_id
            machine = machines[host]
            machine.arrive(now, number, Request(now, work, router, member.backend.id, slot))
        if machine.next_end() < math.inf:
            heapq.heappush(ends, (machine.next_end(), host, machine.version))
    delays.sort()
    done = [machine.done for machine in machines.values()]
    return delays[len(delays) // 2], delays[int(len(delays) * 0.99)], max(done) / (sum(done) / len(done))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="200 hosts, one load")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    hosts, loads, seconds = (200, (0.8,), 60.0) if given.quick else (1000, (0.7, 0.9), 50.0)
    print(f"{hosts} hosts, {seconds - FILLING:.0f} s of requests, seed {given.seed}; figures of other replicas")
    print(f"are up to {STALE * 1000:.0f} ms old")
    for kind, (replicas, told) in itertools.product(HOSTS, ((1, True), (4, True), (4, False))):
        print(f"\nHosts: {kind}; {replicas} replica{'s' * (replicas > 1)}; weights {'told' if told else 'all 1'}\n")
        print("| load | policy | p50 delay, s | p99 delay, s | busiest host / mean |")
        print("| ---: | --- | ---: | ---: | ---: |")
        for load, (name, policy) in itertools.product(loads, POLICIES.items()):
            p50, p99, busiest = simulate(
                policy,
                kind,
                hosts=hosts,
                replicas=replicas,
                seconds=seconds,
                utilisation=load,
                seed=given.seed,
                told=told,
            )
            print(f"| {load:.0%} | {name} | {p50:.2f} | {p99:.2f} | {busiest:.2f} |", flush=True)


if __name__ == "__main__":
    main()
