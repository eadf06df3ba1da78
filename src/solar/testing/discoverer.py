"""A discoverer that finds what a test tells it to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from solar.core.backend import Backend
from solar.discovery.base import BackendFound, BackendLost, BackendsListed, Change


class FakeDiscoverer:
    """Yields the changes that it is told, in that order; `fails` lets its iterator raise.

    docker = FakeDiscoverer("docker")
    router = Router(discoverers=[docker])
    docker.found(Backend("a", fake.url))
    """

    def __init__(self, name: str = "fake") -> None:
        self.name = name
        self.watched = 0  # how often somebody began to watch
        self._told: asyncio.Queue[Change | Exception] = asyncio.Queue()

    def __repr__(self) -> str:
        return f"<FakeDiscoverer {self.name}, {self._told.qsize()} changes to tell>"

    def found(self, backend: Backend) -> None:
        """A backend is there, or has new facts."""
        self._told.put_nowait(BackendFound(backend))

    def lost(self, backend_id: str) -> None:
        """A backend is gone."""
        self._told.put_nowait(BackendLost(backend_id))

    def listed(self, *backends: Backend) -> None:
        """These are all that there are."""
        self._told.put_nowait(BackendsListed(backends))

    def fails(self, error: Exception) -> None:
        """Raise out of the iterator; whoever watches again hears what comes after."""
        self._told.put_nowait(error)

    async def watch(self) -> AsyncIterator[Change]:
        """The changes, as they are told."""
        self.watched += 1
        while True:
            told = await self._told.get()
            if isinstance(told, Exception):
                raise told
            yield told
