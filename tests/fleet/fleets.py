"""A fleet that runs on a store of its own, and agents to put into it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from solar.control.fleet import Fleet, HostView
from solar.control.fleet.hosts import Pace
from solar.edge.tasks import Tasks
from solar.store import Store
from solar.testing import FakeAgent
from solar.wire.hosts import NewHost

LOG = logging.getLogger("solar.fleet-test")
ASKED = Pace(instances=3600, health=3600, longest=3600)  # looks once, and then only when it is told to
QUICK = Pace(instances=0.02, health=0.05, longest=0.05)


@asynccontextmanager
async def stored(data_dir: Path) -> AsyncIterator[Store]:
    store = Store(data_dir, log=LOG)
    tasks = Tasks(LOG)
    run = tasks.spawn(store.run(), "store")
    try:
        yield store
    finally:
        store.stop()
        await run


@asynccontextmanager
async def running(store: Store, pace: Pace = ASKED) -> AsyncIterator[Fleet]:
    fleet = Fleet(store, log=LOG, pace=pace)
    tasks = Tasks(LOG)
    tasks.spawn(fleet.run(), "fleet")
    try:
        async with asyncio.timeout(10):
            await fleet.ready()
        yield fleet
    finally:
        await tasks.stop()


@asynccontextmanager
async def fleet_in(data_dir: Path, pace: Pace = ASKED) -> AsyncIterator[Fleet]:
    async with stored(data_dir) as store, running(store, pace) as fleet:
        yield fleet


async def until(fleet: Fleet, condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Returns once `condition()` is true: it is asked whenever the fleet tells a change."""
    told = asyncio.Event()
    fleet.on_change.append(lambda *_: told.set())
    async with asyncio.timeout(seconds):
        while not condition():
            told.clear()
            await told.wait()


def host_of(agent: FakeAgent, name: str = "gpu-1", key: str = "host-key") -> NewHost:
    return NewHost(name, agent.url, key)


def view(fleet: Fleet, host_id: str) -> HostView:
    return next(one for one in fleet.hosts() if one.id == host_id)
