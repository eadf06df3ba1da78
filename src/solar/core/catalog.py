"""Which backends have a model: an immutable snapshot, built whole and swapped whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from solar.core.backend import Model
from solar.core.member import Member
from solar.core.select import Candidate
from solar.core.size import size_of

PrefixFallback = Literal["off", "unique", "first"]

BOUNDARIES = (":", "-", "@", "/")  # where a shortened model name may end
_UNKNOWN_SIZE = 1.0  # billions, where no size is known at all: then every model weighs the same
_CACHED_PREFIXES = 1024


class Route(NamedTuple):
    """A model name as clients ask for it, and who serves it."""

    name: str
    candidates: tuple[Candidate, ...]


class Catalog:
    """Model name or alias -> candidates."""

    __slots__ = ("_prefixes", "_routes", "_routes_of", "named")

    def __init__(self, routes: Mapping[str, Route]) -> None:
        self._routes = routes
        self.named = routes.get  # the route of exactly this name or alias
        self._prefixes: dict[tuple[str, str], Route | None] = {}
        of: dict[str, list[str]] = {}
        for name, route in routes.items():
            for candidate in route.candidates:
                of.setdefault(candidate.backend.id, []).append(name)
        self._routes_of = {backend: tuple(names) for backend, names in of.items()}

    def __repr__(self) -> str:
        return f"<Catalog {len(self._routes)} names on {len(self._routes_of)} backends>"

    def __len__(self) -> int:
        return len(self._routes)

    @classmethod
    def build(cls, members: Iterable[Member]) -> Catalog:
        """The snapshot of what `members` serve now."""
        members = list(members)
        sizes = known_sizes(members)
        mean = sum(sizes.values()) / len(sizes) if sizes else _UNKNOWN_SIZE
        found: dict[str, dict[str, Candidate]] = {}
        for member in members:
            backend = member.backend
            names = {model.id: model.id for model in member.models}
            for alias, model in backend.aliases.items():
                names.setdefault(alias, model)
            for name, model in names.items():
                size = _summable(sizes.get((backend.id, model)) or size_of(name) or mean)
                found.setdefault(canonical(name), {}).setdefault(backend.id, Candidate(member, model, size))
        return cls({name: Route(name, tuple(by_id.values())) for name, by_id in found.items()})

    def resolve(self, name: str, fallback: PrefixFallback = "off") -> Route | None:
        """The route for a name: exact or alias, then by prefix where that is wanted."""
        route = self._routes.get(name)
        if route is not None:
            return route
        route = self._routes.get(canonical(name))
        if route is not None or fallback == "off" or not name:
            return route
        key = (fallback, name)
        if key not in self._prefixes:
            if len(self._prefixes) >= _CACHED_PREFIXES:
                self._prefixes.clear()
            self._prefixes[key] = self._by_prefix(name, fallback)
        return self._prefixes[key]

    def _by_prefix(self, prefix: str, fallback: PrefixFallback) -> Route | None:
        if fallback == "first":
            names = sorted(name for name in self._routes if name.startswith(prefix))
            return self._routes[names[0]] if names else None
        starts = tuple(prefix + boundary for boundary in BOUNDARIES)
        if prefix.endswith(BOUNDARIES):
            starts = (prefix,)
        matches = [route for name, route in self._routes.items() if name.startswith(starts)]
        # An alias beside the name it stands for is no second model.
        targets = {frozenset((c.backend.id, c.model) for c in route.candidates) for route in matches}
        return min(matches) if len(targets) == 1 else None

    def routes(self) -> Iterable[Route]:
        """Every name, in alphabetical order."""
        return (self._routes[name] for name in sorted(self._routes))

    def names_on(self, backend_id: str) -> tuple[str, ...]:
        """The names that `backend_id` serves."""
        return self._routes_of.get(backend_id, ())


def _summable(size: float) -> float:
    """`size` to the nearest 1024th: sums of these come out even, so that hosts which carry the same are equals."""
    return max(round(size * 1024), 1) / 1024


def canonical(name: str) -> str:
    """`name` without Ollama's default tag: `x:latest` and `x` are one model."""
    return name.removesuffix(":latest")


def known_sizes(members: Iterable[Member]) -> dict[tuple[str, str], float]:
    """(backend id, model) -> billions of parameters: told by the engine, else read from the name."""
    sizes: dict[tuple[str, str], float] = {}
    for member in members:
        for model in member.models:
            size = model.size or size_of(model.id)
            if size:
                sizes[member.backend.id, model.id] = size
    return sizes


def told_of(candidate: Candidate) -> Model:
    """The candidate's model as its backend listed it; nothing but its name where it never did."""
    for model in candidate.member.models:
        if model.id == candidate.model:
            return model
    return Model(candidate.model)
