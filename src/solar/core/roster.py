"""Everything that a decision needs, with one owner: the members, the catalog, the loads, who waits and who rests.

Synchronous throughout, so that no await can stand between a decision and the books that justify it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

from solar.core.affinity import order
from solar.core.attempts import RetryBudget
from solar.core.backend import Backend, Model
from solar.core.breaker import Breaker
from solar.core.catalog import Catalog, PrefixFallback, Route
from solar.core.decision import NOBODY, Pick, Unavailable, Weighed, returns
from solar.core.health import Health
from solar.core.load import HostLoad
from solar.core.member import Member
from solar.core.queue import WaitingRoom
from solar.core.rest import Rests
from solar.core.select import Candidate, Policy, rank
from solar.core.sources import Sources
from solar.core.stall import StallWatch

RETRY_AFTER_LOADING = 2.0  # seconds


class Waiter(Protocol):
    """Who waits for a full model: asked again whenever something changed."""

    def place_freed(self) -> bool:
        """Try again; True when it left the queue, by taking the place or by giving up."""
        ...


class Refusal(NamedTuple):
    """Nobody can take it now. `why` is full (wait in the queue), loading, or none."""

    why: str
    retry_after: float  # seconds
    detail: str
    weighed: Weighed = NOBODY


@dataclass(frozen=True, slots=True)
class RosterOptions:
    """How to decide; each has the default that `Router` has."""

    prefix_fallback: PrefixFallback = "off"
    policy: Policy = rank
    health_check_interval: float = 30.0  # seconds between two probes of what is healthy
    queue_limit: int = 1000  # waiting requests per model
    queue_seconds: float = 60.0  # that one of them waits at most
    default_backend: str | None = None


class Roster:
    """The living state of all backends, and the decisions on it."""

    __slots__ = (
        "_asking",
        "_hosts",
        "_names_to_ask",
        "_policy",
        "_turn",
        "budget",
        "catalog",
        "members",
        "options",
        "rests",
        "room",
        "sources",
    )

    def __init__(self, options: RosterOptions) -> None:
        self.options = options
        self._policy = options.policy
        self.sources = Sources()
        self.members: dict[str, Member] = {}
        self.catalog = Catalog({})
        self.rests = Rests()
        self.budget = RetryBudget()
        self.room: WaitingRoom[Waiter] = WaitingRoom(limit=options.queue_limit, longest=options.queue_seconds)
        self._hosts: dict[str, HostLoad] = {}
        self._turn = 0
        self._names_to_ask: set[str] = set()
        self._asking = False

    def __repr__(self) -> str:
        return f"<Roster {len(self.members)} backends, {len(self.room)} waiting>"

    # --- who is there

    def sync(self) -> list[Member]:
        """Make the members what the sources now say; returns those that left, draining."""
        wanted = self.sources.effective()
        before, self.members = self.members, {}
        kept: dict[str, Member] = {}
        for backend_id, backend in wanted.items():
            known = before.get(backend_id)
            if known is not None and known.backend.address == backend.address:
                kept[backend_id] = before.pop(backend_id)
        # Where another source speaks for an address now, the name changes and the engine does not.
        nameless: dict[object, list[str]] = {}
        for former, left in before.items():
            nameless.setdefault(left.backend.address, []).append(former)
        for backend_id, backend in wanted.items():
            member = kept.get(backend_id)
            if member is None and (names := nameless.get(backend.address)):
                member = before.pop(names.pop(0))
            if member is None:
                member = self._join(backend)
            elif member.backend != backend or member.backend.upstream is not backend.upstream:
                self._revise(member, backend)
            self.members[backend_id] = member
        for member in before.values():
            member.draining = True
        self._weigh_hosts()
        self.rebuild()
        return list(before.values())

    def _join(self, backend: Backend) -> Member:
        return Member(
            backend,
            self._host(backend),
            health=Health(interval=self.options.health_check_interval, listed=bool(backend.models)),
            breaker=Breaker(),
            stall=StallWatch(),
        )

    def _revise(self, member: Member, backend: Backend) -> None:
        """New facts for a backend at the same address: what was learned about it stays."""
        listed = {*backend.models}
        kept = tuple(m for m in member.models if m.facts or m.id in listed)
        member.models = (*kept, *(Model(name) for name in backend.models if name not in {m.id for m in kept}))
        if backend.type != member.backend.type:
            member.type = backend.type
        member.backend = backend
        member.load.host = self._host(backend)
        member.health.listed = bool(backend.models)
        member.health.next_at = 0.0  # what was found before may not be true of a new key or path

    def _host(self, backend: Backend) -> HostLoad:
        return self._hosts.setdefault(backend.host_id, HostLoad(backend.host_id))

    def _weigh_hosts(self) -> None:
        weights: dict[str, float] = {}
        for member in self.members.values():
            name = member.backend.host_id
            weights[name] = max(weights.get(name, 0.0), member.backend.weight)
        for host_id, host in list(self._hosts.items()):
            if host_id in weights:
                host.weight = weights[host_id]
            elif not host.in_flight:
                del self._hosts[host_id]

    def reported(self, member: Member, models: Iterable[Model]) -> bool:
        """`member` says which models it has; True when that changed the catalog."""
        known = {model.id: model for model in member.models}
        models = tuple(_keeping_its_birth(model, known.get(model.id)) for model in models)
        names = {model.id for model in models}
        models += tuple(Model(name) for name in member.backend.models if name not in names)
        if models == member.models and all(
            dict(a.facts) == dict(b.facts) for a, b in zip(models, member.models, strict=True)
        ):
            return False
        member.models = models
        self.rebuild()
        return True

    def rebuild(self) -> None:
        """Swap the catalog for one of the members as they are."""
        self.catalog = Catalog.build(self.members.values())

    # --- decisions

    def resolve(self, model: str) -> Route | None:
        """Who serves `model`, "" where none is named; the default backend takes what nobody has. None: nobody."""
        route = self.catalog.named(model)
        if route is None and model:
            route = self.catalog.resolve(model, self.options.prefix_fallback)
        if route is None and self.options.default_backend is not None:
            member = self.members.get(self.options.default_backend)
            if member is not None:
                return Route(model, (Candidate(member, model, 1.0),))
        return route

    def may_appear(self) -> bool:
        """Whether a model that nobody has may be on its way: some backend is loading, and has not said what."""
        return any(not member.models and member.health.state == "loading" for member in self.members.values())

    def select(self, route: Route, tried: set[str], session: str | None, now: float) -> Pick | Refusal:
        """Choose among the candidates that were not tried yet."""
        places: dict[str, int] | None = None
        preferred: str | None = None
        if session is not None:
            places, preferred = self._session_order(route, session)
        best: Candidate | None = None
        best_value = None
        rests = self.rests if self.rests.ends else None
        policy = self._policy
        values: list[Any] = []
        for candidate in route.candidates:
            member = candidate.member
            backend = member.backend
            if tried and backend.id in tried:
                values.append(Unavailable("tried"))
                continue
            why = member.why_not(now)
            if why is not None:
                values.append(Unavailable(why, member.breaker.returns_at if why == "ejected" else None))
                continue
            if rests is not None and (until := rests.until(backend.id, candidate.model, now)):
                values.append(Unavailable("resting", until))
                continue
            value = policy(candidate, places[backend.id] if places is not None else 0)
            values.append(value)
            if best is None or value < best_value:
                best, best_value = candidate, value
        weighed = Weighed(policy, route.candidates, values)
        if best is None:
            best = self._least_bad(weighed)
            if best is None:
                return self._refusal(weighed)
        return Pick(best, preferred is not None and best.member.backend.id != preferred, weighed)

    def _session_order(self, route: Route, session: str) -> tuple[dict[str, int], str]:
        by_id = {c.member.backend.id: c.member.backend.priority for c in route.candidates}
        ordered = order(session, by_id)
        return {backend_id: place for place, backend_id in enumerate(ordered)}, min(ordered, key=by_id.__getitem__)

    @staticmethod
    def _least_bad(weighed: Weighed) -> Candidate | None:
        """Where all rest or are ejected, the first to return is asked; whoever is merely full is waited for."""
        if any(unavailable.why == "full" for unavailable in weighed.values):
            return None
        all_ = zip(weighed.candidates, weighed.values, strict=True)
        returning = [pair for pair in all_ if pair[1].until is not None]
        return min(returning, key=lambda pair: returns(*pair))[0] if returning else None

    @staticmethod
    def _refusal(weighed: Weighed) -> Refusal:
        pairs = zip(weighed.candidates, weighed.values, strict=True)
        refused = {candidate.backend.id: why for candidate, (why, _) in pairs if why != "tried"}
        detail = ", ".join(f"{backend_id} is {why}" for backend_id, why in refused.items())
        if "full" in refused.values():
            return Refusal("full", 1.0, detail, weighed)
        if "loading" in refused.values():
            return Refusal("loading", RETRY_AFTER_LOADING, detail, weighed)
        return Refusal("none", 1.0, detail, weighed)

    def may_go_elsewhere(self, route: Route, tried: set[str], now: float) -> bool:
        """Whether another candidate is available: none that rests or is ejected, as an answer is at hand already."""
        return any(
            candidate.member.why_not(now) is None and not self.rests.until(candidate.backend.id, candidate.model, now)
            for candidate in route.candidates
            if candidate.backend.id not in tried
        )

    def picked(self, candidate: Candidate) -> None:
        """`candidate` took a request: among equals it now goes last."""
        self._turn += 1
        candidate.member.turn = self._turn

    # --- who waits

    def freed(self, member: Member) -> None:
        """A place on `member` came free, or it became available: ask those who wait for its models, oldest first."""
        if self.room.seats:
            takes_anything = member.backend.id == self.options.default_backend
            self._ask(self.room.by_model() if takes_anything else self.catalog.names_on(member.backend.id))

    def changed(self) -> None:
        """Anything may have changed: ask the head of every queue."""
        if self.room.seats:
            self._ask(self.room.by_model())

    def _ask(self, names: Iterable[str]) -> None:
        self._names_to_ask.update(names)
        if self._asking:  # who was asked just now has given its place back at once: the loop below goes on with it
            return
        self._asking = True
        try:
            while any(waiter.place_freed() for waiter in self.room.earliest(self._names_to_ask)):
                pass
        finally:
            self._names_to_ask.clear()
            self._asking = False


def _keeping_its_birth(model: Model, known: Model | None) -> Model:
    """Some engines say that their model was created at the moment of asking: the first word counts."""
    if known is None or "created" not in known.facts or "created" not in model.facts:
        return model
    return replace(model, facts={**model.facts, "created": known.facts["created"]})
