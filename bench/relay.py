"""The floor: bytes from socket to socket on the loop that `solar serve` uses, and nothing done with them.

Each client has a connection to a backend of its own. What this costs is the kernel's part and the event loop's; what a
gateway costs above it is the gateway.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
from collections.abc import Callable
from functools import partial
from typing import cast

import uvloop


class Side(asyncio.Protocol):
    """One of two connections that belong together."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.other: Side | None = None
        self.held: list[bytes] = []  # until the other side stands

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self.other is not None:
            self.other.transport.write(data)
        else:
            self.held.append(data)

    def connection_lost(self, error: Exception | None) -> None:
        if self.other is not None:
            self.other.transport.close()

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None:
            self.other.transport.resume_reading()


class Client(Side):
    """The side that came first; the backend's is opened for it."""

    def __init__(self, next_port: Callable[[], int]) -> None:
        super().__init__()
        self._next_port = next_port

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._opening = asyncio.get_running_loop().create_task(self._open())

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        _, backend = await loop.create_connection(Side, "127.0.0.1", self._next_port())
        backend.other, self.other = self, backend
        for data in self.held:
            backend.transport.write(data)


async def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--backend", type=int, action="append", required=True, metavar="PORT")
    given = parser.parse_args()
    turn = itertools.cycle(given.backend)
    client = partial(Client, partial(next, turn))
    server = await asyncio.get_running_loop().create_server(client, "127.0.0.1", given.port, backlog=2048)
    await server.serve_forever()


uvloop.run(main())
