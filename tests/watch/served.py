"""A gateway behind a door of its own, in this process."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway_process import TLS, trusting
from managed import KEY
from websockets.asyncio.client import ClientConnection, connect

from solar.control.app import make_gateway
from solar.control.configuration import load
from solar.control.gateway import Gateway
from solar.control.keys import Access
from solar.control.listen import listen
from solar.control.server import Server

WITHIN = 15.0  # seconds; a machine under load takes its time


@dataclass
class Served:
    gateway: Gateway
    server: Server
    place: str  # host and port
    tls: bool
    serving: asyncio.Task[None]

    @property
    def port(self) -> int:
        return int(self.place.rpartition(":")[2])

    @property
    def url(self) -> str:
        return f"ws{'s' * self.tls}://{self.place}"

    def open(self, path: str, *, key: str | None = KEY, **options: Any) -> connect:
        """A client of `websockets`."""
        headers = {**options.pop("headers", {}), **({"X-API-Key": key} if key is not None else {})}
        if self.tls:
            options["ssl"] = trusting("server.pem")
        return connect(self.url + path, additional_headers=headers, proxy=None, open_timeout=WITHIN, **options)

    def stop(self) -> None:
        self.server.should_exit = True

    async def busy(self) -> None:
        """Return once a WebSocket is open."""
        async with asyncio.timeout(WITHIN):
            while not self.gateway.sockets:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def idle(self) -> None:
        """Return once none is."""
        async with asyncio.timeout(WITHIN):
            while self.gateway.sockets:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def ended(self) -> None:
        await asyncio.shield(self.serving)


@asynccontextmanager
async def served(
    directory: Path,
    door: str = "front",
    *,
    tls: bool = False,
    keys: tuple[str, ...] = (KEY,),
    send_buffer: int | None = None,  # bytes that the kernel keeps for each client; None: as many as it likes
    **flags: object,
) -> AsyncIterator[Served]:
    configuration = load({"data_dir": str(directory / "data"), "host": "127.0.0.1", **flags}, {}, directory)
    sockets = listen("127.0.0.1", 0)
    if send_buffer is not None:
        sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    port = sockets[0].getsockname()[1]
    gateway = make_gateway(configuration, Access(keys, None if keys else ("127.0.0.1",)), port)
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(TLS / "server.pem", TLS / "server.key")
    ready = asyncio.Event()

    def began() -> None:
        gateway.begin()
        ready.set()

    server = Server(
        gateway.router, gateway, door=door, tls=context, drain_seconds=5, on_ready=began, on_hangup=lambda: None
    )
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(server.serve(sockets))
        try:
            async with asyncio.timeout(WITHIN):
                await ready.wait()
            yield Served(gateway, server, f"127.0.0.1:{port}", tls, serving)
        finally:
            server.should_exit = True
            async with asyncio.timeout(WITHIN):
                await serving
            await gateway.end()


async def said(client: ClientConnection) -> str | bytes:
    """The next frame."""
    async with asyncio.timeout(WITHIN):
        return await client.recv()
