"""What discoverers see at this moment, and how the backends are that they found: for people, not for the router."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, replace

from solar.control.discovery import Finder
from solar.core.backend import Backend
from solar.core.sources import Sources
from solar.discovery.follow import follow
from solar.discovery.sighting import Sighting, Tried
from solar.edge.probe import Finding, probe
from solar.edge.tasks import Tasks
from solar.edge.upstream import FreshUpstream, HttpUpstream
from solar.errors import SolarError

SECONDS = 3.0  # for each question that a found backend is asked
AGAIN = 5.0  # seconds between two looks while nothing changes


@dataclass(frozen=True, slots=True)
class Seen:
    """One thing that a discoverer looked at."""

    sighting: Sighting
    finding: Finding | None  # what the router's own probe says of it; None: it is not routed to

    @property
    def nobody(self) -> bool:
        """Whether it is just a place at which nobody is."""
        sighting = self.sighting
        refused = bool(sighting.tried) and all(one.failed == "refused" for one in sighting.tried)
        return sighting.backend is None and not sighting.advice and refused

    @property
    def type(self) -> str:
        """What the engine is: as the settings or the discoverer have it, else as it says."""
        backend = self.sighting.backend
        known = backend.type if backend is not None and backend.type != "auto" else None
        return known or (self.finding.type if self.finding else None) or "auto"

    @property
    def models(self) -> tuple[str, ...]:
        """What it can be asked for, its aliases left out."""
        named = self.sighting.backend.models if self.sighting.backend is not None else ()
        told = self.finding.models or () if self.finding else ()
        return tuple(dict.fromkeys((*named, *(model.id for model in told))))

    def kept(self, one: Tried) -> bool:
        """Whether this is the address at which it is routed to."""
        backend = self.sighting.backend
        return one.answered and backend is not None and backend.url.rstrip("/") == one.address.url.rstrip("/")


@dataclass(frozen=True, slots=True)
class View:
    """One whole look of one discoverer."""

    source: str
    seen: tuple[Seen, ...]
    wrong: str = ""  # why it could not look

    @property
    def blind(self) -> bool:
        """Whether it could not look, or not everywhere."""
        return bool(self.wrong) or any(seen.sighting.blind for seen in self.seen)


def routed(views: Iterable[View], named: Iterable[Backend] = ()) -> tuple[Backend, ...]:
    """The backends that a router with these discoverers and `named` ones would have: an engine found twice is one."""
    sources = Sources()
    for backend in named:
        sources.claim(backend)
    for view in views:
        found = [seen.sighting.backend for seen in view.seen if seen.sighting.backend is not None]
        sources.replace(view.source, [replace(backend, source=view.source) for backend in found])
    return tuple(sources.effective().values())


class Survey:
    """Looks. It holds no connection between two looks.

    async with surveying() as survey:
        views = await survey.look(finders)
    """

    def __init__(self, upstream: FreshUpstream) -> None:
        self._upstream = upstream

    async def look(self, finders: Sequence[Finder]) -> tuple[View, ...]:
        """All of them, side by side."""
        return tuple(await asyncio.gather(*map(self._view, finders)))

    async def follow(self, finders: Sequence[Finder]) -> AsyncIterator[tuple[View, ...]]:
        """A look now, after each change that one of them hears of, and every few seconds for what is not routed to."""
        changed = asyncio.Event()

        async def listen(finder: Finder) -> None:
            async for _ in follow(finder.watch, lambda _error, _pause: changed.set()):
                changed.set()

        tasks = Tasks(logging.getLogger("solar"))
        for finder in finders:
            tasks.spawn(listen(finder), f"discover {finder.name}")
        try:
            while True:
                changed.clear()
                yield await self.look(finders)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(AGAIN):
                        await changed.wait()
        finally:
            await tasks.stop()

    async def _view(self, finder: Finder) -> View:
        try:
            sightings = await finder.look()
        except SolarError as error:
            return View(finder.name, (), error.message)
        return View(finder.name, tuple(await asyncio.gather(*map(self._seen, sightings))))

    async def _seen(self, sighting: Sighting) -> Seen:
        backend = sighting.backend
        if backend is None:
            return Seen(sighting, None)
        return Seen(sighting, await probe(self._upstream, backend, backend.type, seconds=SECONDS))


@contextlib.asynccontextmanager
async def surveying() -> AsyncIterator[Survey]:
    """A survey with a transport of its own."""
    tasks = Tasks(logging.getLogger("solar"))
    upstream = HttpUpstream(tasks)
    try:
        yield Survey(FreshUpstream(upstream))
    finally:
        await upstream.close()
        await tasks.stop()
