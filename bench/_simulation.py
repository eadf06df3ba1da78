"""Routers, hosts and requests that are simulated: discrete events, seeded, on the real core."""

from __future__ import annotations

import heapq
import itertools
import math
import random
import statistics
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from solar import Backend
from solar.core.decision import Pick
from solar.core.load import Slot
from solar.core.roster import Roster, RosterOptions
from solar.core.select import Candidate, Policy

MODELS = {f"{letter}-{size}b": float(size) for size in (3, 8, 14, 32, 70) for letter in "wxyz"}
SLOTS = 4  # requests that run side by side; a host of strength 1 does 4 s of work in a second
STALE = 0.2  # seconds until the other replicas know
SECONDS_A_BILLION = 0.2  # that a mean request takes in one slot of a host of strength 1
LARGE = 20.0  # billions: such models are borne by strong hosts only


class Rule(NamedTuple):
    """A policy, and how it counts a request: by its model's size to the power of `exponent`."""

    policy: Policy
    exponent: float = 1.0

    def counted(self, size: float) -> float:
        """What a request for a model of `size` adds: in 64ths, so that sums are exact and ties are ties."""
        return round(math.pow(size, self.exponent) * 64) / 64


# --- hosts


class Request(NamedTuple):
    """One request that came to a host."""

    arrived: float
    work: float  # seconds in one slot of a host of strength 1
    router: Replica
    backend_id: str
    slot: Slot


class Slots:
    """So many requests run side by side and do not slow each other; more wait, in order."""

    def __init__(self, strength: float, slots: int) -> None:
        self._strength = strength
        self._slots = slots
        self._running: list[tuple[float, int, float, Request]] = []  # end, number, delay
        self._waiting: deque[tuple[int, Request]] = deque()
        self.version = 0  # of `next_end`
        self.done = 0.0  # seconds of slots

    def next_end(self) -> float:
        """When the next request ends."""
        return self._running[0][0] if self._running else math.inf

    def arrive(self, now: float, number: int, request: Request) -> None:
        """Take a request; `number` breaks ties."""
        if len(self._running) < self._slots:
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


class Sharing:
    """All requests run and share the speed of all slots evenly; none is faster than `fastest` slots."""

    def __init__(self, strength: float, slots: int, fastest: int) -> None:
        self._whole = strength * slots
        self._alone = strength * fastest
        self._strength = strength
        self._running: list[tuple[float, int, Request]] = []  # what everybody will have got by its end, number
        self._got = 0.0  # work that each request of all time would have got so far
        self._since = 0.0
        self.version = 0
        self.done = 0.0

    def next_end(self) -> float:
        """When the next request ends, if no other comes."""
        return self._since + (self._running[0][0] - self._got) / self._each() if self._running else math.inf

    def arrive(self, now: float, number: int, request: Request) -> None:
        """Take a request; `number` breaks ties."""
        self._move(now)
        heapq.heappush(self._running, (self._got + request.work, number, request))

    def finish(self, now: float) -> tuple[float, Request]:
        """The request that ends now, and its delay."""
        self._move(now)
        _, _, request = heapq.heappop(self._running)
        self.done += request.work / self._strength
        return max(0.0, now - request.arrived - request.work / self._alone), request

    def _each(self) -> float:
        return min(self._alone, self._whole / len(self._running))

    def _move(self, now: float) -> None:
        if self._running:
            self._got += (now - self._since) * self._each()
        self._since = now
        self.version += 1


WORLDS: dict[str, Callable[[float, int], Slots | Sharing]] = {
    "slots": Slots,
    "engines": Slots,
    "batched": lambda strength, slots: Sharing(strength, slots, 1),
    "shared": lambda strength, slots: Sharing(strength, slots, slots),
}


# --- fleets and routers


@dataclass(frozen=True)
class Fleet:
    """What a simulation runs on. `told`: whether weights say strengths."""

    hosts: int
    replicas: int
    models: tuple[str, ...] = tuple(MODELS)
    models_a_host: int = 2
    strengths: tuple[float, ...] = (1.0, 1.0, 2.0, 4.0)
    told: bool = True
    limit: int | None = None  # max_in_flight of each backend
    seconds: float = 40.0  # while requests arrive
    filling: float = 15.0  # seconds until it is as full as it will be; not counted

    def backends(self, chance: random.Random) -> tuple[list[Backend], dict[str, float]]:
        """All backends, and the strength of each host."""
        found: list[Backend] = []
        strengths: dict[str, float] = {}
        for i in range(self.hosts):
            host = f"host{i:04}"
            strengths[host] = strength = self.strengths[i % len(self.strengths)]
            everywhere = self.models_a_host == len(self.models)
            fitting = [name for name in self.models if everywhere or MODELS[name] < LARGE or strength > 1]
            weight = strength if self.told else 1.0
            found += [
                Backend(
                    f"{host}/{name}",
                    f"http://{host}/{name}",
                    models=(name,),
                    host=host,
                    weight=weight,
                    max_in_flight=self.limit,
                )
                for name in chance.sample(fitting, self.models_a_host)
            ]
        return found, strengths


class Waiting:
    """A request in a router's queue."""

    def __init__(self, go: Callable[[Waiting], bool]) -> None:
        self._go = go

    def place_freed(self) -> bool:
        """Try again."""
        return self._go(self)


class Replica:
    """One router. Its loads are its own requests, and those of the others as it last heard."""

    def __init__(self, backends: list[Backend], rule: Rule, number: int) -> None:
        self.roster = Roster(RosterOptions(policy=rule.policy, queue_limit=10**9))
        for backend in backends:
            self.roster.sources.claim(backend)
        self.roster.sync()
        # Replicas that start at one turn would choose alike.
        members = list(self.roster.members.values())
        random.Random(number).shuffle(members)
        for place, member in enumerate(members):
            member.turn = place - len(members)
            member.health.passed(0.0, 0.5)
        for route in self.roster.catalog.routes():
            for candidate in route.candidates:
                candidate.size = rule.counted(candidate.size)

    def hear(self, backend_id: str, size: float, change: int) -> None:
        """Another replica has one request more, or one less, on this backend."""
        member = self.roster.members[backend_id]
        member.load.in_flight += change
        host = member.load.host
        host.in_flight += change
        host.size = host.size + change * size if host.in_flight else 0.0

    def choose(self, model: str, now: float) -> Candidate | None:
        """Decide; None: all are full."""
        route = self.roster.resolve(model)
        assert route is not None
        pick = self.roster.select(route, set(), None, now)
        if not isinstance(pick, Pick):
            return None
        self.roster.picked(pick.candidate)
        return pick.candidate


class Figures(NamedTuple):
    """Seconds of delay, seconds in all, and the busiest host's work compared to the mean."""

    p50: float
    p99: float
    mean_time: float
    busiest: float


# --- the simulation


class Simulation:
    """One policy on one fleet under one load."""

    def __init__(self, rule: Rule, world: str, fleet: Fleet, load: float, seed: int) -> None:
        self._chance = random.Random(seed)
        self._fleet = fleet
        backends, strengths = fleet.backends(random.Random(seed))
        self._routers = [Replica(backends, rule, number) for number in range(fleet.replicas)]
        self._sizes = {backend.id: rule.counted(MODELS[backend.models[0]]) for backend in backends}
        self._engines = world == "engines"
        bearers = {b.id: b.host_id for b in backends} if self._engines else {host: host for host in strengths}
        slots = SLOTS // fleet.models_a_host if self._engines else SLOTS
        self._machines = {name: WORLDS[world](strengths[host], slots) for name, host in bearers.items()}
        # Each host's capacity is divided among its models; demand follows, so that no model is short by design.
        demand = dict.fromkeys((backend.models[0] for backend in backends), 0.0)
        for backend in backends:
            name = backend.models[0]
            demand[name] += (
                strengths[backend.host_id] * SLOTS / fleet.models_a_host / (MODELS[name] * SECONDS_A_BILLION)
            )
        self._names = list(demand)
        self._shares = list(itertools.accumulate(demand.values()))
        self._rate = self._shares[-1] * load
        self._now = 0.0
        self._number = 0
        self._ends: list[tuple[float, str, int]] = []  # when, which machine, its version: an older one is no news
        self._news: deque[tuple[float, Replica, str, int]] = deque()  # when, from whom, backend, change
        self._delays: list[float] = []
        self._times: list[float] = []

    def run(self) -> Figures:
        """Until the last request is answered."""
        next_arrival = self._chance.expovariate(self._rate)
        while True:
            news = self._news[0][0] if self._news else math.inf
            end = self._ends[0][0] if self._ends else math.inf
            self._now = min(news, end, next_arrival)
            if self._now == math.inf:
                break
            if self._now == news:
                self._spread()
            elif self._now == end:
                self._end()
            else:
                self._arrive()
                gap = self._chance.expovariate(self._rate)
                next_arrival = self._now + gap if self._now < self._fleet.seconds else math.inf
        self._delays.sort()
        work: dict[str, float] = {}
        for name, machine in self._machines.items():
            host = name.partition("/")[0]
            work[host] = work.get(host, 0.0) + machine.done
        return Figures(
            statistics.median(self._delays),
            self._delays[int(len(self._delays) * 0.99)],
            statistics.fmean(self._times),
            max(work.values()) / statistics.fmean(work.values()),
        )

    def _spread(self) -> None:
        _, source, backend_id, change = self._news.popleft()
        for router in self._routers:
            if router is not source:
                router.hear(backend_id, self._sizes[backend_id], change)
                if change < 0:
                    router.roster.freed(router.roster.members[backend_id])

    def _end(self) -> None:
        _, name, version = heapq.heappop(self._ends)
        machine = self._machines[name]
        if version != machine.version:
            return
        delay, ended = machine.finish(self._now)
        self._expect(name)
        if ended.arrived > self._fleet.filling:
            self._delays.append(delay)
            self._times.append(self._now - ended.arrived)
        ended.slot.give_back()
        self._tell(ended.router, ended.backend_id, -1)
        ended.router.roster.freed(ended.router.roster.members[ended.backend_id])

    def _arrive(self) -> None:
        self._number += 1
        number, arrived = self._number, self._now
        router = self._chance.choice(self._routers)
        model = self._chance.choices(self._names, cum_weights=self._shares)[0]
        work = MODELS[model] * SECONDS_A_BILLION * self._chance.expovariate(1.0)
        room = router.roster.room

        def send() -> bool:
            candidate = router.choose(model, self._now)
            if candidate is None:
                return False
            name = candidate.backend.id if self._engines else candidate.backend.host_id
            slot = candidate.member.load.take(candidate.size)
            request = Request(arrived, work, router, candidate.backend.id, slot)
            self._machines[name].arrive(self._now, number, request)
            self._expect(name)
            self._tell(router, candidate.backend.id, 1)
            return True

        def send_who_waited(waiter: Waiting) -> bool:
            return send() and room.leave(waiter)

        if room.waiting(model) or not send():  # nobody overtakes those who wait
            room.join(model, Waiting(send_who_waited), arrived)

    def _expect(self, name: str) -> None:
        machine = self._machines[name]
        end = machine.next_end()
        if end < math.inf:
            heapq.heappush(self._ends, (end, name, machine.version))

    def _tell(self, router: Replica, backend_id: str, change: int) -> None:
        if len(self._routers) > 1:
            self._news.append((self._now + STALE, router, backend_id, change))
