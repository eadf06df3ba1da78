"""The servers that a router runs under, each in the test's own event loop: `async with serve(app, door) as url`."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import hypercorn
import hypercorn.asyncio
import uvicorn
from granian.constants import Interfaces
from granian.server.embed import Server as Granian

from solar.control.door import asgi_door, front_door

SERVERS = ("uvicorn", "hypercorn", "granian")  # where the router is a plain ASGI application
DOORS = (*SERVERS, "asgi", "front")  # and behind the doors of `solar serve`
STARTS_WITHIN = 5.0  # seconds


class Uvicorn(uvicorn.Server):
    """uvicorn, told to stop by an event and not by a flag that it reads ten times a second."""

    when_closed: Callable[[], Awaitable[None]] | None = None

    def __init__(self, app: Any, stop: asyncio.Event, **settings: Any) -> None:
        super().__init__(uvicorn.Config(app, ws="none", log_config=None, access_log=False, **settings))
        self._stop = stop

    def capture_signals(self) -> contextlib.AbstractContextManager[None]:  # type: ignore[override]
        return contextlib.nullcontext()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self._stop.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()  # type: ignore[union-attr]
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks)
        await self.lifespan.shutdown()
        if self.when_closed is not None:
            await self.when_closed()


async def _uvicorn(app: Any, sock: socket.socket, stop: asyncio.Event) -> None:
    await Uvicorn(app, stop, lifespan="on").serve(sockets=[sock])


async def _asgi(app: Any, sock: socket.socket, stop: asyncio.Event) -> None:
    await Uvicorn(app, stop, lifespan="on", http=asgi_door()).serve(sockets=[sock])


async def _front(app: Any, sock: socket.socket, stop: asyncio.Event) -> None:
    await app.start()
    server = Uvicorn(app, stop, lifespan="off", server_header=False, http=front_door(app))
    server.when_closed = app.stop
    await server.serve(sockets=[sock])


async def _hypercorn(app: Any, sock: socket.socket, stop: asyncio.Event) -> None:
    config = hypercorn.Config()
    config.bind = [f"fd://{sock.detach()}"]
    config.errorlog = None
    config.accesslog = None
    config.graceful_timeout = 1.0
    await hypercorn.asyncio.serve(app, config, shutdown_trigger=stop.wait)


async def _granian(app: Any, sock: socket.socket, stop: asyncio.Event) -> None:
    port = sock.getsockname()[1]
    sock.close()  # granian binds its own; SO_REUSEADDR lets it have this port
    server = Granian(app, port=port, interface=Interfaces.ASGI, log_enabled=False, websockets=False)
    running = asyncio.get_running_loop().create_task(server.serve())
    await asyncio.wait(
        [running, stopping := asyncio.get_running_loop().create_task(stop.wait())], return_when=asyncio.FIRST_COMPLETED
    )
    stopping.cancel()
    if not running.done():
        server.stop()
    await running


_SERVERS: dict[str, Callable[[Any, socket.socket, asyncio.Event], Any]] = {
    "uvicorn": _uvicorn,
    "hypercorn": _hypercorn,
    "granian": _granian,
    "asgi": _asgi,
    "front": _front,
}


@asynccontextmanager
async def serve(app: Any, door: str) -> AsyncIterator[str]:
    """Serve an ASGI application, lifespan included; gives its root URL. Leaving stops the server at once."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    stop = asyncio.Event()
    running = asyncio.get_running_loop().create_task(_SERVERS[door](app, sock, stop), name=f"{door} on {port}")
    try:
        await _accepts(port, running)
        yield f"http://127.0.0.1:{port}"
    finally:
        stop.set()
        await running


async def _accepts(port: int, running: asyncio.Task[Any]) -> None:
    """Wait until connections are taken: two of the servers do not tell."""
    async with asyncio.timeout(STARTS_WITHIN):
        while not running.done():
            with contextlib.suppress(ConnectionRefusedError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                await writer.wait_closed()
                return
            await asyncio.sleep(0.002)
    await running
    raise RuntimeError("the server stopped before it had started")
