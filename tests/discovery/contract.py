"""What a discoverer promises is tried on a stage: a small world in which a test adds engines and takes them away.

A new discoverer passes the suite once it has a stage: subclass `Stage` in stages.py, and name it in test_contract.py.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Self

from solar import Backend, BackendFound, BackendLost, BackendsListed, Change, Discoverer
from solar.discovery.follow import follow
from solar.testing import FakeBackend

DEADLINE = 10.0  # seconds that anything awaited here may take
QUICK = 0.01  # seconds of a round on a stage


class Stage(ABC):
    """One discoverer, and the world that it looks at. Engines bear the letters that a test gives them."""

    discoverer: Discoverer

    def __init__(self) -> None:
        self.exits = AsyncExitStack()
        self.fakes: dict[str, FakeBackend] = {}

    @abstractmethod
    async def add(self, letter: str) -> str:
        """An engine is there; returns the id that its backend will bear."""

    @abstractmethod
    async def change(self, letter: str) -> str:
        """A fact of that engine changes, of those that its backend holds; returns the id that this bears now."""

    @abstractmethod
    async def remove(self, letter: str) -> None:
        """That engine is gone."""

    async def break_source(self) -> None:
        """What the discoverer asks fails: nothing can be said of what is there."""
        raise NotImplementedError

    async def mend_source(self) -> None:
        """It can be asked again."""
        raise NotImplementedError

    async def start(
        self, letter: str, kind: str = "llamacpp", *, host: str = "127.0.0.1", port: int = 0
    ) -> FakeBackend:
        """An engine of that kind that answers."""
        fake = self.fakes[letter] = FakeBackend([f"model-{letter}"], kind=kind, host=host, port=port)
        return await self.exits.enter_async_context(fake)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.exits.aclose()


class Followed:
    """What a router would know: follows a discoverer, and keeps what it found, lost and tripped over."""

    def __init__(self, discoverer: Discoverer) -> None:
        self.there: dict[str, Backend] = {}
        self.lost: list[str] = []  # every id that was there and no longer is, in that order
        self.errors: list[Exception] = []
        self._discoverer = discoverer
        self._happened = asyncio.Event()

    async def __aenter__(self) -> Self:
        self.task = asyncio.get_running_loop().create_task(self._follow(), name="followed")
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])

    async def until(self, condition: Callable[[], object]) -> None:
        """Returns once `condition()` is true; it is asked after each change and each error."""
        async with asyncio.timeout(DEADLINE):
            while not condition():
                assert not self.task.done(), self.task
                self._happened.clear()
                await self._happened.wait()

    async def _follow(self) -> None:
        async for change in follow(self._discoverer.watch, self._failed):
            before = set(self.there)
            self._apply(change)
            self.lost += before - set(self.there)
            self._happened.set()

    def _failed(self, error: Exception, pause: float) -> None:
        self.errors.append(error)
        self._happened.set()

    def _apply(self, change: Change) -> None:
        match change:
            case BackendFound(backend):
                self.there[backend.id] = backend
            case BackendLost(backend_id):
                self.there.pop(backend_id, None)
            case BackendsListed(backends):
                self.there = {backend.id: backend for backend in backends}
