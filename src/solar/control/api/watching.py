"""The WebSockets of those who watch: /ws/status, /ws/routing, /ws/events."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from solar.control.api.asking import Desk
from solar.control.frames import initial_status
from solar.control.watchers import EVENTS, HOSTS, ROUTING, Watcher
from solar.errors import StoreFailed
from solar.wire.reading import Unreadable
from solar.wire.watching import KEEPALIVE_SECONDS, PING, PONG, Filter, FilterStatus, KeepaliveFrame, read_filter

_KEEPALIVE = msgspec.json.encode(KeepaliveFrame())


async def status(desk: Desk, socket: WebSocket) -> None:
    """Hosts: all of them first, then each that changes."""
    await _watch(desk, socket, HOSTS, hosts=True)


async def routing(desk: Desk, socket: WebSocket) -> None:
    """What is decided for each request, and how it ends."""
    await _watch(desk, socket, ROUTING)


async def events(desk: Desk, socket: WebSocket) -> None:
    """Everything; of the requests that are over those that the client's filter admits."""
    await _watch(desk, socket, EVENTS, hosts=True, filtered=True)


async def _watch(
    desk: Desk, socket: WebSocket, kinds: frozenset[str], *, hosts: bool = False, filtered: bool = False
) -> None:
    if hosts:
        with suppress(StoreFailed):  # what cannot be read now is told once it can
            await desk.fleet.listed()
    await socket.accept()
    with desk.watchers.join(kinds) as watcher:  # what changes from here on waits behind the first frames
        if hosts:
            await socket.send_text(initial_status(desk.fleet.hosts()).decode())
        if filtered:
            await socket.send_text(_holds(watcher.filter))
        async with asyncio.TaskGroup() as tasks:
            telling = tasks.create_task(_tell(socket, watcher))
            await _listen(socket, watcher, filtered=filtered)
            telling.cancel()


async def _tell(socket: WebSocket, watcher: Watcher) -> None:
    with suppress(WebSocketDisconnect):  # who listens hears of it as well
        async for frame in watcher:
            await socket.send_text(frame if isinstance(frame, str) else frame.decode())


async def _listen(socket: WebSocket, watcher: Watcher, *, filtered: bool) -> None:
    """Return once the client has left."""
    while True:
        try:
            async with asyncio.timeout(KEEPALIVE_SECONDS):
                message = await socket.receive()
        except TimeoutError:
            watcher.tell(_KEEPALIVE)
            continue
        if message["type"] == "websocket.disconnect":
            return
        said = message.get("text") or ""
        if said == PING:
            watcher.tell(PONG)
        elif filtered:
            with suppress(Unreadable):  # what means nothing changes nothing
                watcher.filter = read_filter(said)
                watcher.tell(_holds(watcher.filter))


def _holds(wanted: Filter) -> str:
    return msgspec.json.encode(FilterStatus(wanted)).decode()
