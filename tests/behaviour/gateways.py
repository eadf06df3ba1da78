"""A router with its backends, served: what the laws are asked of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from doors import serve

from raw_wire import CHAT, Wire, connected
from solar.core.backend import Backend
from solar.core.record import Record
from solar.edge.exchange import Exchange
from solar.router import BackendStatus, Router
from solar.testing import FakeBackend

DEADLINE = 5.0  # seconds that anything awaited here may take


def backend(fake: FakeBackend, name: str = "a", **settings: Any) -> Backend:
    """A fake as the router gets to know it: routable at once, without a probe."""
    return Backend(name, fake.url, **{"models": fake.models, **settings})


@asynccontextmanager
async def fakes(count: int, **settings: Any) -> AsyncIterator[list[FakeBackend]]:
    """Some backends that all have the model m."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(FakeBackend(["m"], **settings)) for _ in range(count)]


async def until(condition: Callable[[], object]) -> None:
    """Returns once `condition()` is true. Only for what tells nobody that it changed."""
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110  there is no event to wait for
            await asyncio.sleep(0.002)


async def settled(value: Callable[[], object]) -> Any:
    """What `value()` is once it stands still."""
    before: object = None
    async with asyncio.timeout(DEADLINE):
        while before != (before := value()):  # noqa: ASYNC110  there is no event to wait for
            await asyncio.sleep(0.05)
    return before


@dataclass
class Reply:
    """A whole answer as it came, or what came of it until it was cut."""

    status: int
    headers: dict[str, str]  # names in lower case
    body: bytes  # without framing
    whole: bool  # it ended as its framing says that it should

    @property
    def events(self) -> list[bytes]:
        return [event for event in self.body.split(b"\n\n") if event]


def head_of(text: str) -> tuple[int, dict[str, str]]:
    first, *lines = text.rstrip("\r\n").split("\r\n")
    pairs = (line.split(": ", 1) for line in lines)
    return int(first.split()[1]), {name.lower(): value for name, value in pairs}


async def reply(wire: Wire) -> Reply:
    """Reads one answer to its end, or to where it is cut."""
    status, headers = head_of(await wire.head())
    body = bytearray()
    try:
        async with asyncio.timeout(DEADLINE):
            if headers.get("transfer-encoding") == "chunked":
                while size := int(await wire.reader.readuntil(b"\r\n"), 16):
                    body += (await wire.reader.readexactly(size + 2))[:-2]
                await wire.reader.readexactly(2)
            elif status in (204, 304):
                pass
            elif "content-length" in headers:
                left = int(headers["content-length"])
                while left:
                    data = await wire.reader.read(left)
                    if not data:
                        return Reply(status, headers, bytes(body), whole=False)
                    body += data
                    left -= len(data)
            else:
                body += await wire.reader.read()
    except (asyncio.IncompleteReadError, ConnectionResetError):
        return Reply(status, headers, bytes(body), whole=False)
    return Reply(status, headers, bytes(body), whole=True)


@dataclass
class Gateway:
    """A served router."""

    url: str
    router: Router
    records: list[Record] = field(default_factory=list)  # one for each finished request, in order
    _booked: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def v1(self) -> str:
        return f"{self.url}/v1"

    def connect(self) -> AbstractAsyncContextManager[Wire]:
        """A raw connection to it."""
        return connected(self.port)

    async def ask(self, payload: object = CHAT, path: str = "/v1/chat/completions", head: str = "") -> Reply:
        """One request on a connection of its own; the whole answer."""
        async with self.connect() as wire:
            wire.ask(payload, path, head)
            return await reply(wire)

    def backend(self, name: str) -> BackendStatus:
        return next(status for status in self.router.backends if status.backend.id == name)

    @property
    def in_flight(self) -> int:
        return sum(status.in_flight for status in self.router.backends)

    @property
    def exchanges(self) -> list[Exchange]:
        """Requests whose books are open."""
        return list(self.router._running.relay.open) if self.router._running is not None else []

    @property
    def waiting(self) -> int:
        """Requests in a queue."""
        return len(self.router._roster.room)

    def later(self, seconds: float) -> None:
        """Lets time pass at once, as far as the router can tell, and lets it look at its clocks."""
        running = self.router._running
        assert running is not None
        clock = running.relay.clock
        running.relay.clock = lambda: clock() + seconds
        running.relay.tick(running.relay.clock())
        running.prober.tick(running.relay.clock())

    def book(self, record: Record) -> None:
        self.records.append(record)
        self._booked.set()

    async def booked(self, count: int = 1) -> Record:
        """Waits until `count` requests are finished; the last of them."""
        async with asyncio.timeout(DEADLINE):
            while len(self.records) < count:
                self._booked.clear()
                await self._booked.wait()
        return self.records[count - 1]


Serves = Callable[..., AbstractAsyncContextManager[Gateway]]


def gateways(door: str) -> Serves:
    """What the fixture `gateway` is: `async with gateway(fake, other, drain_seconds=1) as gw`.

    Fakes become the backends a, b, c, ... in their order; a Backend stays as it is.
    """

    @asynccontextmanager
    async def start(*given: FakeBackend | Backend, **settings: Any) -> AsyncIterator[Gateway]:
        named = [one if isinstance(one, Backend) else backend(one, chr(97 + n)) for n, one in enumerate(given)]
        router = Router(named, **{"drain_seconds": 0.0, **settings})
        async with serve(router, door) as url:
            gw = Gateway(url, router)
            router.on_record = gw.book
            try:
                yield gw
            finally:
                await router.stop()  # before the server, which would wait for answers that never end

    return start
