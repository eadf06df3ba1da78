"""A backend as the router lives with it: the facts, and what is known of its health, load and pace."""

from __future__ import annotations

from solar.core.backend import Backend, Model
from solar.core.breaker import Breaker
from solar.core.health import Health
from solar.core.load import BackendLoad, HostLoad
from solar.core.stall import StallWatch


class Member:
    """One backend among those that the router knows."""

    __slots__ = ("backend", "breaker", "draining", "health", "load", "models", "stall", "turn", "type")

    def __init__(
        self, backend: Backend, host: HostLoad, *, health: Health, breaker: Breaker, stall: StallWatch
    ) -> None:
        self.backend = backend
        self.type = backend.type  # what the engine says it is, once it was asked
        self.models: tuple[Model, ...] = tuple(Model(name) for name in backend.models)
        self.health = health
        self.breaker = breaker
        self.stall = stall
        self.load = BackendLoad(host)
        self.turn = 0  # the number of the last pick that took it: who waited longest goes first among equals
        self.draining = False

    def __repr__(self) -> str:
        return f"<Member {self.backend.id} {self.health.state}, {self.load.in_flight} in flight>"

    def why_not(self, now: float) -> str | None:
        """None when this backend is available; else the one word that says why it is not."""
        if self.draining:
            return "draining"
        health, breaker = self.health, self.breaker
        if health.state != "healthy" and not health.usable:
            return "loading" if health.state == "loading" else "down"
        if self.stall.grade == "stalled":
            return "stalled"
        if breaker.state != "closed" and not breaker.admits(now):
            return "ejected"
        limit = self.backend.max_in_flight
        if limit is not None and self.load.in_flight >= limit:
            return "full"
        return None
