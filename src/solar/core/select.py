"""Which candidate takes a request. A policy is one comparable value; the smallest is taken."""

from __future__ import annotations

from typing import Any, Protocol

from solar.core.backend import Backend
from solar.core.member import Member


class Candidate:
    """A backend considered for a model: what a policy may look at."""

    __slots__ = ("member", "model", "size")

    def __init__(self, member: Member, model: str, size: float) -> None:
        self.member = member
        self.model = model  # the backend's own name for it
        self.size = size  # billions of parameters, known or estimated

    def __repr__(self) -> str:
        return f"<Candidate {self.model} on {self.member.backend.id}>"

    @property
    def backend(self) -> Backend:
        """The facts of the backend."""
        return self.member.backend

    @property
    def in_flight(self) -> int:
        """Requests in flight on this backend."""
        return self.member.load.in_flight

    @property
    def host_in_flight(self) -> int:
        """Requests in flight on its host."""
        return self.member.load.host.in_flight

    @property
    def host_pressure(self) -> float:
        """Billions of parameters in flight on its host, for each unit of the host's weight."""
        return self.member.load.host.pressure

    @property
    def suspect(self) -> bool:
        """Whether work in flight there has stopped moving."""
        return self.member.stall.grade == "suspect"

    @property
    def turn(self) -> int:
        """The number of the pick that took it last; 0 when none did."""
        return self.member.turn


class Policy(Protocol):
    """How candidates compare. `affinity` is the place in the session's own order, 0 first, 0 without a session."""

    def __call__(self, candidate: Candidate, affinity: int) -> Any:
        """A value to compare by `<`; the smallest is taken."""
        ...


def rank(candidate: Candidate, affinity: int) -> tuple[int, bool, int, bool, float, int, int, str]:
    """Free hosts first; else the one with the lowest parameter load, the backend with the fewest requests, in turn."""
    member = candidate.member
    backend = member.backend
    load = member.load
    host = load.host
    return (
        backend.priority,
        member.stall.grade == "suspect",
        affinity,
        host.in_flight > 0,
        host.size / host.weight,
        load.in_flight,
        member.turn,
        backend.id,
    )
