"""Engines in containers, found by their images and labels, at an address that was tried."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from solar.core.backend import Backend
from solar.discovery.asking import Asker
from solar.discovery.base import BackendsListed, Change
from solar.discovery.docker.api import DockerApi, DockerFailed, check_hosts, connect, shown, usual_hosts
from solar.discovery.docker.examine import Examiner, Rules, Seen, survey
from solar.discovery.docker.images import BUILT_IN, ImageRule
from solar.discovery.docker.logs import Written
from solar.discovery.docker.situation import machine_of
from solar.discovery.docker.watch import DockerWatch, once
from solar.discovery.follow import complaining, follow
from solar.discovery.sighting import Sighting
from solar.edge.tasks import Tasks
from solar.errors import InvalidSettings

if TYPE_CHECKING:
    import aiodocker

_REMEMBERED = 1000  # backends whose containers are known by name, though they may be gone

_log = logging.getLogger("solar")


class DockerDiscoverer:
    """Finds engines in the containers of one or more Docker engines, or of podman.

        Router(discoverers=[DockerDiscoverer()])

    It asks `client`, an aiodocker.Docker that is yours and stays open, and the engines at `hosts`; without any of them
    the one that the docker command would use. `image_rules` come before the built-in ones. A label's key file is only
    read from `key_dirs`. Raises MissingExtra, InvalidSettings.
    """

    def __init__(
        self,
        client: aiodocker.Docker | None = None,
        *,
        image_rules: Iterable[ImageRule] = (),
        label_prefix: str = "solar.",
        hosts: Iterable[str] = (),
        key_dirs: Iterable[str | Path] = ("/run/secrets",),
    ) -> None:
        if isinstance(hosts, str):
            raise InvalidSettings("hosts is a list of URLs, not one text")
        if not label_prefix:
            raise InvalidSettings('label_prefix must not be empty; the usual one is "solar."')
        urls = tuple(dict.fromkeys(hosts))
        check_hosts(urls or usual_hosts() if client is None else urls)
        self.name = "docker"
        self.on_listed: Callable[[tuple[Backend, ...]], None] | None = None  # called with every list
        self._found: dict[str, tuple[_Engine, str]] = {}  # by backend: its engine, and its container's name
        opens: list[tuple[str, Callable[[], DockerApi]]] = []
        if client is not None:
            opens.append(("the client's engine", lambda: DockerApi(client, owned=False)))
        opens += [(shown(url), partial(connect, url)) for url in urls]
        if not opens:
            opens.append(("the docker command's engine", connect))
        rules = Rules((*image_rules, *BUILT_IN), label_prefix, tuple(map(Path, key_dirs)))
        names = _distinct([where for where, _ in opens])
        self._engines = [
            _Engine(where, open_api, rules, f"@{name}" if place else "")
            for place, ((where, open_api), name) in enumerate(zip(opens, names, strict=True))
        ]

    def __repr__(self) -> str:
        return f"<DockerDiscoverer {', '.join(engine.where for engine in self._engines)}>"

    async def watch(self) -> AsyncIterator[Change]:
        """All backends, first and after each change. Of several engines each is followed by itself."""
        if len(self._engines) == 1:
            async with aclosing(self._engines[0].watch()) as changes:
                async for listed in changes:
                    yield self._listed(listed.backends)
            return
        news: asyncio.Queue[tuple[int, Change]] = asyncio.Queue()
        latest: dict[int, tuple[Backend, ...]] = {}
        tasks = Tasks(_log)
        try:
            for place, engine in enumerate(self._engines):
                tasks.spawn(engine.tell(place, news), f"docker {engine.where}")
            while True:
                place, change = await news.get()
                if isinstance(change, BackendsListed):
                    latest[place] = change.backends
                yield self._listed(once(one for place in sorted(latest) for one in latest[place]))
        finally:
            await tasks.stop()

    def container_of(self, backend_id: str) -> str | None:
        """The name of a backend's container, also of one that was found before."""
        return self._found[backend_id][1] if backend_id in self._found else None

    async def log(
        self, backend_id: str, *, since: str | None = None, newest: int = 1000
    ) -> AsyncGenerator[list[Written], None]:
        """What its container writes: DockerApi.log. It goes by its name, so one that was made anew goes on."""
        if backend_id not in self._found:
            raise DockerFailed(f"no container was found for {backend_id}", "look at: solar discover")
        engine, container = self._found[backend_id]
        async with engine.asked() as api, aclosing(api.log(container, since=since, newest=newest)) as pieces:
            async for lines in pieces:
                yield lines

    async def look(self) -> tuple[Sighting, ...]:
        """All containers that are or may be meant; an engine of Docker that cannot be asked is a sighting, too."""
        looks = await asyncio.gather(*(engine.look() for engine in self._engines))
        return tuple(sighting for look in looks for sighting in look)

    def _listed(self, backends: tuple[Backend, ...]) -> BackendsListed:
        for engine in self._engines:
            for seen in engine.seen.values():
                if seen.backend is not None:
                    self._found.pop(seen.backend.id, None)
                    self._found[seen.backend.id] = (engine, seen.container.name)
        while len(self._found) > max(_REMEMBERED, len(backends)):
            del self._found[next(iter(self._found))]
        if self.on_listed is not None:
            self.on_listed(backends)
        return BackendsListed(backends)


class _Engine:
    """One engine of Docker: how to ask it, and what was seen there last."""

    def __init__(self, where: str, open_api: Callable[[], DockerApi], rules: Rules, suffix: str) -> None:
        self.where = where
        self._open = open_api
        self._rules = rules
        self._suffix = suffix
        self.seen: Mapping[str, Seen] = {}

    async def watch(self) -> AsyncGenerator[BackendsListed, None]:
        """Raises DockerFailed. Who watches again begins with what was known."""
        tasks = Tasks(_log)
        async with self._opened() as (api, examiner), api.events() as lines:
            watch = DockerWatch(api, examiner, tasks, self.seen)
            self.seen = watch.seen
            try:
                async for backends in watch.changes(lines):
                    yield BackendsListed(backends)
            finally:
                await tasks.stop()

    def asked(self) -> DockerApi:
        """To ask it something else, in a `with` of its own."""
        return self._open()

    async def tell(self, place: int, news: asyncio.Queue[tuple[int, Change]]) -> None:
        """Put every change into `news`. What fails is begun again, and disturbs nobody."""

        async for change in follow(self.watch, complaining(_log, f"discoverer=docker engine={self.where}")):
            news.put_nowait((place, change))

    async def look(self) -> tuple[Sighting, ...]:
        """One look at each container, side by side."""
        try:
            async with self._opened() as (api, examiner):
                containers = await api.containers()
                found = await asyncio.gather(*(self._sighting(examiner, one) for one in containers))
        except DockerFailed as error:
            return (Sighting("Docker", self.where, "asked for", reason=error.reason, advice=error.advice, blind=True),)
        return tuple(sorted((one for one in found if one is not None), key=lambda one: one.name))

    async def _sighting(self, examiner: Examiner, container: str) -> Sighting | None:
        try:
            seen = await examiner.examine(container)
        except DockerFailed as error:
            return Sighting(container[:12], self.where, "it runs", reason=error.reason, advice=error.advice, blind=True)
        return seen.sighting if seen is not None else None

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[tuple[DockerApi, Examiner]]:
        async with self._open() as api, Asker() as asker:
            yield api, Examiner(api, asker, await survey(api), self._rules, self._suffix)


def _distinct(urls: Sequence[str]) -> list[str]:
    """A name for each URL, with a number where one comes again: no two engines may give the same ids."""
    names = [machine_of(url) or url.rpartition("://")[2].strip("/").replace("/", "-") for url in urls]
    return [name if names.index(name) == place else f"{name}-{place + 1}" for place, name in enumerate(names)]
