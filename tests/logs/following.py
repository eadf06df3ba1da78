"""A fleet whose logs are followed, and a reader that keeps what it was told."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from solar.control.fleet import Fleet
from solar.control.fleet.hosts import Pace
from solar.control.logs import Contact, Gap, Item, Limits, LogHub, LogLine, Since, Wanted
from solar.control.logs.origins import Origin
from solar.control.logs.sources import LogPace, Sources
from solar.edge.tasks import Tasks
from solar.store import Store
from solar.testing import FakeAgent
from solar.wire.hosts import NewHost

LOG = logging.getLogger("solar.logs-test")
QUICK = LogPace(poll=0.02, first=0.02, longest=0.1, linger=0.05)


class Followed:
    """A fleet, its hub, and the sources between them."""

    def __init__(self, fleet: Fleet, hub: LogHub, sources: Sources) -> None:
        self.fleet = fleet
        self.hub = hub
        self.sources = sources

    async def add(self, agent: FakeAgent, name: str = "gpu1") -> str:
        """Its host's id."""
        return (await self.fleet.add(NewHost(name, agent.url, agent.api_key))).id

    async def gone(self) -> None:
        """Returns once no log is followed."""
        await eventually(lambda: repr(self.sources) == "<Sources of 0 logs>")


@asynccontextmanager
async def following(
    data_dir: Path,
    pace: LogPace = QUICK,
    origins: Sequence[Origin] = (),
    look: float = 0.02,
    limits: Limits = Limits(),  # noqa: B008  # frozen
) -> AsyncIterator[Followed]:
    store, tasks = Store(data_dir, log=LOG), Tasks(LOG)
    keeping = tasks.spawn(store.run(), "store")
    fleet = Fleet(store, log=LOG, pace=Pace(instances=look, health=0.05, longest=0.05, linked=look))
    hub = LogHub(limits)
    sources = Sources(hub, fleet, origins, pace)
    try:
        tasks.spawn(fleet.run(), "fleet")
        running = tasks.spawn(sources.run(), "sources")
        async with asyncio.timeout(10):
            await fleet.ready()
        yield Followed(fleet, hub, sources)
        running.cancel()
    finally:
        store.stop()
        await keeping
        await tasks.stop()


class Seen:
    """What one reader was told so far."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.happened = asyncio.Event()
        self.tasks = Tasks(LOG)

    @property
    def texts(self) -> list[str]:
        return [item.line.text for item in self.items if isinstance(item, LogLine)]

    @property
    def numbers(self) -> list[int]:
        return [item.line.seq for item in self.items if isinstance(item, LogLine)]

    @property
    def epochs(self) -> set[int]:
        return {item.line.epoch for item in self.items if isinstance(item, LogLine)}

    @property
    def gaps(self) -> list[int]:
        return [item.missed for item in self.items if isinstance(item, Gap)]

    @property
    def troubles(self) -> list[str | None]:
        return [item.trouble for item in self.items if isinstance(item, Contact)]

    async def until(self, holds: Callable[[], object]) -> None:
        try:
            async with asyncio.timeout(10):
                while not holds():
                    self.happened.clear()
                    await self.happened.wait()
        except TimeoutError:
            raise AssertionError(f"not within 10 s: {self.items}") from None

    async def leave(self) -> None:
        """It reads no more."""
        await self.tasks.stop()

    async def line(self, text: str) -> None:
        """It was told a line with that text."""
        await self.until(lambda: any(text in line for line in self.texts))


@asynccontextmanager
async def reading(hub: LogHub, wanted: Wanted | None = None, since: Since | None = None) -> AsyncIterator[Seen]:
    seen = Seen()

    async def read() -> None:
        with hub.follow(wanted, since) as reader:
            async for items in reader:
                seen.items += items
                seen.happened.set()

    seen.tasks.spawn(read(), "reader")
    try:
        yield seen
    finally:
        await seen.leave()


async def eventually(holds: Callable[[], object]) -> None:
    """Returns once that is true."""
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline, "not within 10 s"
        await asyncio.sleep(0.005)
