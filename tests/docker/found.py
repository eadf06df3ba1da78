"""A router over what is found in the containers of an engine, in the event loop of the test."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from engine import POLL, Engine

from asgi_call import post
from solar import Router
from solar.discovery.docker.discoverer import DockerDiscoverer
from solar.router import BackendStatus


class Found:
    """What the router has found so far."""

    def __init__(self, router: Router) -> None:
        self.router = router

    def __repr__(self) -> str:
        return "\n".join(map(str, self.router.backends))

    @property
    def healthy(self) -> dict[str, BackendStatus]:
        """By the name of its container: whoever can be asked now."""
        return {name_of(status): status for status in self.router.backends if status.state == "healthy"}

    async def becomes(self, *names: str, within: float = 20.0) -> None:
        """Wait until exactly these are there, and healthy."""
        await until(lambda: sorted(self.healthy) == sorted(names) == self.names, lambda: repr(self), within)

    @property
    def names(self) -> list[str]:
        return sorted(map(name_of, self.router.backends))

    def url(self, name: str) -> str:
        return self.healthy[name].backend.url

    def models(self, name: str) -> list[str]:
        return [model.id for model in self.healthy[name].models]

    async def chat(self, model: str) -> int:
        """The status of one answer."""
        hello = [{"role": "user", "content": "Hello"}]
        return (await post(self.router, {"model": model, "messages": hello, "max_tokens": 4})).status

    @asynccontextmanager
    async def asked(self, model: str) -> AsyncIterator[None]:
        """Four clients ask one question after another meanwhile, and each gets its answer."""
        statuses: list[int] = []
        enough = asyncio.Event()

        async def ask() -> None:
            while not enough.is_set():
                statuses.append(await self.chat(model))

        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(ask())
            yield
            enough.set()
        assert set(statuses) == {200}


def named(name: str, *options: str) -> tuple[str, ...]:
    """Options of `docker run`."""
    return ("--name", name, *options)


def name_of(status: BackendStatus) -> str:
    """An id is the engine's type and the container's name."""
    return status.backend.id.partition("-")[2]


@asynccontextmanager
async def finding(engine: Engine, **options: Any) -> AsyncIterator[Found]:
    """`options` are the discoverer's."""
    discoverer = DockerDiscoverer(**{"hosts": [engine.url], **options})
    async with Router(discoverers=[discoverer], health_check_interval=0.5, drain_seconds=5) as router:
        yield Found(router)


async def until(holds: Callable[[], object], told: Callable[[], str] = lambda: "", within: float = 20.0) -> None:
    """Wait until a condition holds; fail after `within` seconds."""
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline, f"not within {within:g} s:\n{told()}"
        await asyncio.sleep(POLL)
