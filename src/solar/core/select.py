"""Which candidate takes a request. A policy is one comparable value; the smallest is taken.

What was weighed is kept as it is, as that costs next to nothing; `Considered` is how people read it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

import msgspec

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


KEPT_AT_MOST: Final = 16  # candidates of a decision

# What stands in the value of `rank`, before the id.
RANKED_BY = ("priority", "suspect", "affinity", "host_busy", "host_pressure", "in_flight", "turn")


class Unavailable(NamedTuple):
    """Why a candidate was not weighed."""

    why: str  # tried, draining, down, loading, stalled, ejected, resting or full
    until: float | None = None  # when an ejection or a rest ends, by the clock that the decision was told


@dataclass(frozen=True, slots=True)
class Considered:
    """A candidate as one decision saw it: its value by name, or why it was not available."""

    backend: str
    host: str
    model: str  # the backend's own name for it
    value: Any  # as the policy gave it: the smallest is taken
    values: Mapping[str, Any]  # its parts, the most important first; of a custom policy: {"value": ...}
    why_not: str | None = None
    until: float | None = None


class Weighed(msgspec.Struct, frozen=True, gc=False):
    """The candidates of one decision, and what each came to: a policy's value or `Unavailable`."""

    policy: Policy
    candidates: Sequence[Candidate]
    values: Sequence[Any]

    def considered(self) -> tuple[Considered, ...]:
        """All of them: first who could take the request, as they would take it; then who would come after them.

        Who is merely full is waited for. Who rests or is ejected is asked where all do, the first to return first.
        """
        available, full, returning, others = [], [], [], []
        for candidate, value in zip(self.candidates, self.values, strict=True):
            if type(value) is not Unavailable:
                available.append((candidate, value))
            elif value.why == "full":
                full.append((candidate, value))
            elif value.until is not None:
                returning.append((candidate, value))
            else:
                others.append((candidate, value))
        available.sort(key=lambda pair: pair[1])
        returning.sort(key=lambda pair: returns(*pair))
        return tuple(self._considered(*pair) for pair in (*available, *full, *returning, *others))

    def _considered(self, candidate: Candidate, value: Any) -> Considered:
        backend = candidate.backend
        if type(value) is Unavailable:
            return Considered(backend.id, backend.host_id, candidate.model, None, {}, value.why, value.until)
        named = dict(zip(RANKED_BY, value, strict=False)) if self.policy is rank else {"value": value}
        return Considered(backend.id, backend.host_id, candidate.model, value, named)

    def bounded(self, taken: Candidate | None = None) -> Weighed:
        """Some of them, `taken` among them: to be kept for as long as a request lives."""
        if len(self.candidates) <= KEPT_AT_MOST:
            return self
        at = self.candidates.index(taken) if taken is not None else 0
        at = max(
            0, at - KEPT_AT_MOST + 1
        )  # they stand in a row, which ends with `taken` where it is far from the first
        return Weighed(self.policy, self.candidates[at : at + KEPT_AT_MOST], self.values[at : at + KEPT_AT_MOST])


def returns(candidate: Candidate, unavailable: Unavailable) -> tuple[float, int]:
    """Who rests or is ejected compares by this: the smallest is the first to return."""
    return unavailable.until or 0.0, candidate.turn


NOBODY: Final = Weighed(rank, (), ())
