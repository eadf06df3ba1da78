"""What we answer ourselves: the merged list of models, health, readiness, metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from solar.core.backend import Model
from solar.core.catalog import Route, canonical, told_of
from solar.core.headers import Headers, value_of
from solar.core.member import Member
from solar.core.openai import model_object, models_body
from solar.core.paths import Found
from solar.core.roster import Roster
from solar.edge.metrics import Metrics
from solar.errors import ModelNotFound, SolarError

_JSON = b"application/json"


class Page(NamedTuple):
    """A complete answer."""

    status: int
    kind: bytes
    body: bytes
    headers: Headers


class Pages:
    """The pages of one router."""

    def __init__(self, roster: Roster, metrics: Metrics, *, started_at: int) -> None:
        self._roster = roster
        self._metrics = metrics
        self._started_at = started_at  # seconds since 1970: `created` of models that do not tell

    @property
    def default_backend(self) -> str | None:
        """The backend that takes what nobody else has; None when there is none."""
        name = self._roster.options.default_backend
        return name if name is not None and name in self._roster.members else None

    def page(self, found: Found, headers: Headers) -> Page | SolarError:
        """The page that `found` asks for."""
        if found.kind == "models":
            return Page(200, _JSON, models_body(self._model(route) for route in self._served()), [])
        if found.kind == "model":
            return self._one(found.model_id or "")
        if found.kind == "health":
            return self._health()
        if found.kind == "ready":
            return self._ready()
        accept = value_of(headers, b"accept")
        body, kind = self._metrics.render(accept.decode("latin-1") if accept is not None else None)
        return Page(200, kind.encode("latin-1"), body, [])

    def has_model(self, name: str) -> bool:
        """Whether requests for exactly this name would be routed by the catalog."""
        return self._roster.catalog.resolve(name) is not None

    def _served(self) -> list[Route]:
        """The names that route: those on a backend that is up, or is about to be."""
        return [route for route in self._roster.catalog.routes() if any(_may_serve(c.member) for c in route.candidates)]

    def _model(self, route: Route) -> dict[str, Any]:
        candidate = min(route.candidates, key=lambda c: (not _may_serve(c.member), c.backend.priority, c.backend.id))
        own = canonical(candidate.model) == route.name
        return model_object(
            candidate.model if own else route.name,
            _completed(told_of(candidate), route),
            owned_by=candidate.member.type if candidate.member.type not in ("auto", "generic") else "solar",
            created=self._started_at,
        )

    def _one(self, name: str) -> Page | SolarError:
        route = self._roster.catalog.resolve(name)
        if route is None:
            return ModelNotFound(
                f"no backend has the model {name!r}; GET /v1/models lists those there are", param="model"
            )
        return Page(200, _JSON, msgspec.json.encode(self._model(route)), [])

    def _health(self) -> Page:
        members = self._roster.members.values()
        healthy = sum(map(_healthy, members))
        body = {
            "status": "ok" if healthy else "degraded",
            "backends_total": len(members),
            "backends_healthy": healthy,
            "models_available": len(self._served()),
        }
        return Page(200, _JSON, msgspec.json.encode(body), [])

    def _ready(self) -> Page:
        if any(map(_healthy, self._roster.members.values())):
            return Page(200, _JSON, b'{"status":"ready"}', [])
        return Page(503, _JSON, b'{"status":"not ready","reason":"no backend is healthy"}', [(b"retry-after", b"1")])


def _completed(told: Model, route: Route) -> Mapping[str, Any]:
    """The backend's own facts, and what they lack and we know: its size, and what fits into a request."""
    # A request may go to any of them: what is promised must fit into the smallest.
    contexts = [told_of(one).context for one in route.candidates if _may_serve(one.member)]
    context = min((context for context in contexts if context), default=None)
    facts, size = told.facts, told.size
    learned = {
        "context_length": context,  # OpenRouter's word
        "max_model_len": context,  # vLLM's: some clients know the one, some the other
        "parameter_size": _in_words(size) if size else None,
    }
    lacking = {name: value for name, value in learned.items() if value is not None and facts.get(name) is None}
    return {**facts, **lacking} if lacking else facts


def _in_words(billions: float) -> str:
    """A number of parameters as Ollama writes it, whose word for it `parameter_size` is: "7B", "7.6B", "134.52M"."""
    number, places, unit = (billions, 1, "B") if billions >= 1 else (billions * 1000, 2, "M")
    return f"{number:.0f}{unit}" if number == int(number) else f"{number:.{places}f}{unit}"


def _healthy(member: Member) -> bool:
    """Its probes pass; but a frozen engine's may pass too, and whoever asks for our health wants answers."""
    return member.health.usable and not member.stall.stalled


def _may_serve(member: Member) -> bool:
    return member.health.usable or member.health.state == "loading"
