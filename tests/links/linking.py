"""A fleet with its door for links, on a real port, and all that comes out of it."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import uvicorn
from fleets import ASKED, LOG, running, stored, view
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import ClientConnection, connect

from solar.control.api.asking import Desk
from solar.control.api.links import host_channel, socket_io
from solar.control.fleet import Fleet, HostView
from solar.control.fleet.hosts import Pace
from solar.control.links import Links
from solar.edge.asgi import Receive, Scope, Send
from solar.edge.tasks import Tasks
from solar.testing import FakeAgent
from solar.wire.hosts import NewHost
from solar.wire.lines import Entry

KEY = "host-key"
NOWHERE = "http://127.0.0.1:9"  # nobody listens there


class Coordinator:
    def __init__(self, fleet: Fleet, port: int) -> None:
        self.fleet = fleet
        self.links = Links(fleet, lines=self, watchers=self, log=LOG)
        self.place = f"ws://127.0.0.1:{port}"
        self.lines: list[tuple[str, str, Entry]] = []
        self.frames: list[dict[str, Any]] = []
        self.watched = True
        self._happened = asyncio.Event()
        fleet.on_change.append(lambda *_: self._happened.set())

    @property
    def url(self) -> str:
        return f"{self.place}/ws/host-channel"

    def wants(self, kinds: Iterable[str]) -> bool:
        return self.watched

    def take(self, host_id: str, instance_id: str, entries: Sequence[Entry]) -> None:
        self.lines += [(host_id, instance_id, entry) for entry in entries]
        self._happened.set()

    def tell(self, kind: str, frame: bytes) -> None:
        self.frames.append(json.loads(frame))
        assert self.frames[-1]["type"] == kind
        self._happened.set()

    async def until(self, condition: Callable[[], object]) -> None:
        """Asked whenever something is told here."""
        async with asyncio.timeout(10):
            while not condition():
                self._happened.clear()
                await self._happened.wait()

    async def host(self, agent: FakeAgent | None = None, name: str = "gpu1", key: str = KEY) -> HostView:
        """A host that is registered, and whose agent is asked only when something is to be found out."""
        url = agent.url if agent is not None else NOWHERE
        return await self.fleet.add(NewHost(name, url, key), unreachable=agent is None)

    def view(self, host: HostView) -> HostView:
        return view(self.fleet, host.id)


@asynccontextmanager
async def coordinating(data_dir: Path, pace: Pace = ASKED) -> AsyncIterator[Coordinator]:
    async with stored(data_dir) as store, running(store, pace) as fleet:
        app = Starlette()

        async def both(scope: Scope, receive: Receive, send: Send) -> None:
            await app(scope, receive, send)

        async with served(both) as port:
            here = Coordinator(fleet, port)
            desk = cast(Desk, SimpleNamespace(links=here.links))

            for path, handler in (("/ws/host-channel", host_channel), ("/socket.io/", socket_io)):
                app.router.routes.append(WebSocketRoute(path, _route(desk, handler)))
            yield here


def _route(desk: Desk, handler: Callable[[Desk, WebSocket], Awaitable[None]]) -> Callable[[WebSocket], Awaitable[None]]:
    async def handle(socket: WebSocket) -> None:
        await handler(desk, socket)

    return handle


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[int]:
    """`app` on a port of its own."""
    config = uvicorn.Config(app, port=0, ws="websockets-sansio", log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    tasks = Tasks(LOG)
    sock = config.bind_socket()
    try:
        serving = tasks.spawn(server.serve([sock]), "serve")
        yield sock.getsockname()[1]
        server.should_exit = True
        await serving
    finally:
        sock.close()


@asynccontextmanager
async def opened(place: str) -> AsyncIterator[ClientConnection]:
    async with asyncio.timeout(20), connect(place, proxy=None, ping_interval=None) as socket:
        yield socket


def registration(key: object = KEY, name: str | None = None, *instances: dict[str, Any], at: str = "") -> str:
    data = {"api_key": key, "host_name": name, "instances": instances}
    return json.dumps({"type": "registration", "data": data, "timestamp": at})


def instance(id: str = "one", alias: str = "llama:8b", status: str = "running", port: int = 3500) -> dict[str, Any]:  # noqa: A002
    return {"id": id, "alias": alias, "status": status, "port": port, "backend_type": "llamacpp"}


def update(*instances: dict[str, Any], at: str = "") -> str:
    return json.dumps({"type": "instances_update", "data": {"instances": instances}, "timestamp": at})


async def answered(socket: ClientConnection) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(await socket.recv())
    return told


@asynccontextmanager
async def linked(
    coordinator: Coordinator, name: str | None = None, *instances: dict[str, Any], at: str = ""
) -> AsyncIterator[ClientConnection]:
    """A client that has registered by hand."""
    async with opened(coordinator.url) as socket:
        await socket.send(registration(KEY, name, *instances, at=at))
        assert (await answered(socket))["type"] == "registration_ack"
        yield socket
