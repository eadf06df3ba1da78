"""What would become of a request for a model now, and why. Asking changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from solar.core.catalog import Catalog, Route, canonical
from solar.core.decision import Considered, Pick
from solar.core.paths import locate
from solar.core.roster import Roster

Found = Literal["exact", "alias", "prefix", "default", "nowhere"]

Answer = Literal[
    "sent",  # to the first of the candidates
    "queued",  # until one of them has room, or has loaded
    "no_such_path",  # 404
    "page",  # by the router itself: the path is none of inference
    "no_such_model",  # 404; 400 where none is named
    "loading",  # 503
    "unavailable",  # 503
    "queue_full",  # 429
]

_STATUS = {"no_such_path": 404, "no_such_model": 404, "loading": 503, "unavailable": 503, "queue_full": 429}


@dataclass(frozen=True, slots=True)
class Explanation:
    """One decision as it would be taken now. Times are seconds of the clock that also tells `at`."""

    asked: str
    at: float
    gets: Answer
    found: Found = "nowhere"  # how the name led to the model
    model: str | None = None  # the name that it led to
    candidates: tuple[Considered, ...] = ()  # in the order in which they would be taken
    waiting: int = 0  # requests in the model's queue already
    session_broken: bool = False  # the session's own backend could not be used

    @property
    def taken(self) -> Considered | None:
        """Who would be asked now."""
        return self.candidates[0] if self.gets == "sent" else None

    @property
    def status(self) -> int | None:
        """The HTTP status of the refusal; None where it is none."""
        return 400 if self.gets == "no_such_model" and not self.asked else _STATUS.get(self.gets)


def explain(
    roster: Roster,
    model: str,
    *,
    session: str | None = None,
    path: str | None = None,
    hold_while_loading: bool = False,
    now: float,
) -> Explanation:
    """What a request for `model` would get, on `path` where it matters. `session` is the name of its session."""
    if path is not None and (kind := locate(path).kind) != "inference":
        return Explanation(model, now, "no_such_path" if kind == "unknown" else "page")
    route = roster.resolve(model)
    waiting = roster.room.waiting(route.name if route is not None else "")
    line: Answer = "queued" if waiting < roster.room.limit else "queue_full"
    if route is None:
        gets: Answer = "no_such_model"
        if model and roster.may_appear():
            gets = line if hold_while_loading else "loading"
        return Explanation(model, now, line if waiting else gets, waiting=waiting)
    choice = roster.select(route, set(), session, now)
    if waiting:  # nobody overtakes those who wait
        gets = line
    elif isinstance(choice, Pick):
        gets = "sent"
    elif choice.why == "full" or (choice.why == "loading" and hold_while_loading):
        gets = line
    else:
        gets = "loading" if choice.why == "loading" else "unavailable"
    return Explanation(
        model,
        now,
        gets,
        _found(roster.catalog, model, route),
        route.name,
        choice.weighed.considered(),
        waiting,
        isinstance(choice, Pick) and choice.session_broken,
    )


def _found(catalog: Catalog, asked: str, route: Route) -> Found:
    if catalog.resolve(asked) is route:
        return "exact" if any(canonical(one.model) == route.name for one in route.candidates) else "alias"
    return "prefix" if catalog.named(route.name) is route else "default"
