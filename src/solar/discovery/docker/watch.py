"""One watch of a Docker engine: each container that is meant has a task, which looks at it when there is news."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import suppress

from solar.core.backend import Address, Backend
from solar.discovery.docker.api import DockerApi, DockerFailed
from solar.discovery.docker.events import read_event
from solar.discovery.docker.examine import Examiner, Seen
from solar.discovery.patience import Patience
from solar.edge.tasks import Tasks

RESYNC_SECONDS = 30.0
DEBOUNCE_SECONDS = 0.1  # after a look until the next, whatever happens in between
FIRST_SECONDS = 3.0  # for all to answer for the first time: who takes longer is told of later


def once(backends: Iterable[Backend]) -> tuple[Backend, ...]:
    """The first at each address: containers may share a network, and two URLs lead to one engine of Docker."""
    first: dict[Address, Backend] = {}
    for backend in backends:
        first.setdefault(backend.address, backend)
    return tuple(first.values())


class DockerWatch:
    """The containers of one engine, as events and lists tell of them. `seen` is what an earlier watch knew."""

    def __init__(self, api: DockerApi, examiner: Examiner, tasks: Tasks, seen: Mapping[str, Seen]) -> None:
        self.seen = dict(seen)  # by id: what was seen last, engines and others
        self._api = api
        self._examiner = examiner
        self._tasks = tasks
        self._looking: dict[str, tuple[asyncio.Task[None], asyncio.Event]] = {}  # by id: who looks, and what wakes it
        self._unasked: set[str] = set()  # who was not yet looked at for the first time
        self._touched: set[str] = set()  # of whom we heard since the last list was asked for
        self._changed = asyncio.Event()
        self._listed = asyncio.Event()

    def __repr__(self) -> str:
        return f"<DockerWatch of {self._api.url}, {len(self.backends())} backends, {len(self.seen)} containers>"

    def backends(self) -> tuple[Backend, ...]:
        """All that are known now."""
        found = (seen.backend for seen in self.seen.values())
        return once(sorted((one for one in found if one is not None), key=lambda one: one.id))

    async def changes(self, lines: AsyncIterator[bytes]) -> AsyncIterator[tuple[Backend, ...]]:
        """All backends, first and after each change. Raises DockerFailed. `lines` are the events of its engine."""
        ends = [self._tasks.spawn(self._hear(lines), "docker events"), self._tasks.spawn(self._list(), "docker list")]
        for end in ends:
            end.add_done_callback(lambda _: self._changed.set())
        known = bool(self.seen)
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_SECONDS):
                while not self._listed.is_set() or (self._unasked and not known):
                    await self._news(ends)
        told: tuple[Backend, ...] | None = None
        while True:
            if (backends := self.backends()) != told:
                told = backends
                yield backends
            await self._news(ends)

    def touch(self, container: str) -> None:
        """Look at a container now, and at those that use its network."""
        self._touched.add(container)
        for other, seen in self.seen.items():
            if seen.container.in_network_of == container:
                self._look(other)
        self._look(container)

    def drop(self, container: str) -> None:
        """A container is gone: nothing is asked of anybody."""
        self._touched.add(container)
        if container in self._looking:
            self._looking.pop(container)[0].cancel()
        self.seen.pop(container, None)
        self._told(container)

    async def _news(self, ends: Sequence[asyncio.Task[DockerFailed]]) -> None:
        await self._changed.wait()
        self._changed.clear()
        for end in ends:
            if end.done():
                raise end.result()

    async def _hear(self, lines: AsyncIterator[bytes]) -> DockerFailed:
        """Follow the events, until there are none any more: why."""
        try:
            async for line in lines:
                if (event := read_event(line)) is not None:
                    (self.drop if event.gone else self.touch)(event.container)
        except DockerFailed as error:
            return error
        except ValueError as error:
            return DockerFailed(f"{self._api.url} sent {error}", "it is asked anew")
        return DockerFailed(f"{self._api.url} has ended the stream of its events", "it is asked anew")

    async def _list(self) -> DockerFailed:
        """Compare with all that run, now and then, until the engine does not tell any more: why."""
        while True:
            known = {*self.seen, *self._looking}
            self._touched.clear()
            try:
                states = await self._api.containers()
            except DockerFailed as error:
                return error
            running = {container for container, state in states.items() if state == "running"}
            for container in known - running - self._touched:  # of those we know something newer than the list
                self.drop(container)
            for container in running - self._touched:
                seen = self.seen.get(container)
                if container not in self._looking or (seen is not None and seen.final):  # the others look by themselves
                    self._look(container)
            self._listed.set()
            self._changed.set()
            await asyncio.sleep(RESYNC_SECONDS)

    def _look(self, container: str) -> None:
        seen = self.seen.get(container)
        if container in self._looking:
            self._looking[container][1].set()
        elif seen is None or seen.settled is not None:  # what is no engine never becomes one: image and labels stay
            self._unasked.add(container)
            woken = asyncio.Event()
            task = self._tasks.spawn(self._keep_looking(container, woken), f"docker container {container[:12]}")
            self._looking[container] = (task, woken)

    async def _keep_looking(self, container: str, woken: asyncio.Event) -> None:
        """Look whenever there is news, and at one that is not ready again and again, with growing pauses."""
        clock = asyncio.get_running_loop().time
        patience = Patience()
        while True:
            if woken.is_set():
                patience.renew()
                woken.clear()
            with suppress(DockerFailed):  # who lists or listens finds out what is the matter with the engine
                seen = await self._examiner.examine(container, self.seen.get(container))
                self._keep(container, seen)
                if (seen is None or seen.settled is None) and not woken.is_set():
                    del self._looking[container]
                    return
            self._told(container)
            await asyncio.sleep(DEBOUNCE_SECONDS)
            patience.asked(clock())
            final = container in self.seen and self.seen[container].final
            with suppress(TimeoutError):
                async with asyncio.timeout_at(None if final else patience.due):
                    await woken.wait()

    def _keep(self, container: str, seen: Seen | None) -> None:
        if seen is None or seen.stopped:
            self.seen.pop(container, None)
        else:
            self.seen[container] = seen
        self._told(container)

    def _told(self, container: str) -> None:
        self._unasked.discard(container)
        self._changed.set()
