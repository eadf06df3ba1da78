"""What all connections of the front door share: the reception, the clock, who is connected."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

from solar.edge.heads import Key, KnownHeads
from solar.edge.incoming import KnownRequest
from solar.edge.outbox import Outbox
from solar.edge.reception import Reception
from solar.edge.reply import Standing
from solar.edge.tasks import Tasks

if TYPE_CHECKING:
    from solar.edge.cycle import Cycle
    from solar.edge.frontdoor import FrontDoor

IDLE_SECONDS = 75.0  # between two requests of a connection
HEAD_SECONDS = 30.0  # for a request's head
TAKE_SECONDS = 60.0  # without the client taking a byte of what waits for it: it holds a place at its backend meanwhile
LOOK_EVERY = 1.0  # seconds between two looks at the clocks of all connections


class ServerState(Protocol):
    """What a server keeps about its connections: uvicorn's own object fits."""

    connections: set[Any]
    default_headers: list[tuple[bytes, bytes]]


class Hall:
    """One for each server."""

    def __init__(
        self,
        reception: Reception,
        state: ServerState,
        tasks: Tasks,
        app: Callable[..., Awaitable[None]] | None = None,
        *,
        tls: bool = False,
        websocket: Callable[[], asyncio.Protocol] | None = None,
    ) -> None:
        self.reception = reception
        self.now = reception.relay.clock()  # as of the last tick: near enough for patience of many seconds
        self.app = app  # for the paths that the router does not know
        self.tls = tls
        self.websocket = websocket  # makes the protocol of a connection that asks for it at such a path
        self.heads: KnownHeads[Key, tuple[Key, KnownRequest]] = KnownHeads()
        self.outbox = Outbox()
        self.standing = Standing(state)
        self._state = state
        self._tasks = tasks
        self._looked_at = 0.0
        reception.relay.on_tick.append(self.tick)

    def __repr__(self) -> str:
        return f"<Hall {len(self._state.connections)} connections>"

    def enter(self, door: FrontDoor) -> None:
        """A client has connected."""
        self._state.connections.add(door)

    def leave(self, door: FrontDoor) -> None:
        """Its connection is gone."""
        self._state.connections.discard(door)

    def spawn(self, cycle: Cycle) -> None:
        """Let an application answer a request."""
        self._tasks.spawn(cycle.run(), "application")

    def tick(self, now: float) -> None:
        """Let every connection look at its clocks, once a second."""
        self.now = now
        if now - self._looked_at < LOOK_EVERY:
            return
        self._looked_at = now
        for door in list(self._state.connections):
            door.tick(now)
