"""What was decided, and what was weighed for it, kept as it is: that costs next to nothing. People read `Considered`.

Never compiled: mypyc drops what stands behind a class's bases (`frozen=True, gc=False`), and users copy these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec

from solar.core.select import Candidate, Policy, rank

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


class Pick(msgspec.Struct, frozen=True, gc=False):
    """A decision to send."""

    candidate: Candidate
    session_broken: bool  # the session's own backend could not be used
    weighed: Weighed


@dataclass(frozen=True, slots=True)
class Try:
    """An attempt that failed and was not the last word: another backend was asked, or waited for."""

    backend: str
    model: str  # the backend's own name for it
    sent_at: float
    ended_at: float
    outcome: str  # a word of core.attempts.Outcome
    detail: str
    weighed: Weighed  # when it was sent

    @property
    def considered(self) -> tuple[Considered, ...]:
        """The candidates when it was sent, the one that was taken first."""
        return self.weighed.considered()
