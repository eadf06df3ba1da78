"""The gateway as one ASGI application: the router, and the management API beside it, closed to other origins."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from solar.control.door import Application
from solar.control.entrance import PROTOCOL, Entrance, offered_protocols
from solar.control.keys import Access
from solar.core.headers import Headers
from solar.discovery.base import BackendsListed
from solar.edge.asgi import Message, Receive, Scope, Send, route_path
from solar.edge.request import Answer, ClientRequest
from solar.edge.tasks import Tasks
from solar.errors import NoBackendAvailable
from solar.router import Router

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from solar.control.api.asking import Desk

# The first words of the paths that are not the router's.
ROOMS = frozenset({"hosts", "gateway", "docs", "openapi.json", "ws", "socket.io"})
MOST_SOCKETS = 1000  # that are open at once

_log = logging.getLogger("solar")


class Gateway:
    """`router`, and the management API on `desk`, loaded when it is first asked for; end() is for the end.

    Pages of other origins may not manage it, unless their host's name is one of `trusted`. What is `beside` runs
    from begin() to end().
    """

    def __init__(
        self,
        router: Router,
        desk: Desk,
        admitted: Access,
        trusted: Iterable[str] = (),
        beside: Iterable[Callable[[], Coroutine[Any, Any, None]]] = (),
    ) -> None:
        self.router = router
        self._desk = desk
        self._beside = tuple(beside)
        self._entrance = Entrance(admitted, desk.tokens, trusted)
        self.sockets = 0  # that are open
        self._tasks = Tasks(_log)
        self._loading: asyncio.Task[Starlette] | None = None
        self._recording: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Gateway of {self.router!r}>"

    def begin(self) -> None:
        """Start what the router's start did not wait for: records, hosts."""
        self._recording = self._tasks.spawn(self._desk.store.run(), "store")
        self._tasks.spawn(self._desk.fleet.run(), "fleet")
        self._tasks.spawn(self._follow(), "follow the fleet")
        for run in self._beside:
            self._tasks.spawn(run(), "beside the gateway")

    async def end(self) -> None:
        """Write what is still to be kept, and let go of the rest."""
        self._desk.store.stop()
        try:
            if self._recording is not None:
                await self._recording
        finally:
            await self._tasks.stop()

    async def _follow(self) -> None:
        """Route to what runs on the hosts. They are read after the start, so the router's own followers would wait."""
        fleet = self._desk.fleet.discoverer
        async for change in fleet.watch():
            if isinstance(change, BackendsListed):
                self.router.replace_backends(fleet.name, change.backends)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI, of requests and WebSockets: whoever serves this starts and stops it, and the router."""
        path = route_path(scope).rstrip("/")
        if scope["type"] == "websocket":
            await self._converse(scope, path, receive, send)
        elif scope["type"] == "http" and path[1:].partition("/")[0] in ROOMS:
            await self._answer(scope, path, receive, send)
        else:
            await self.router(scope, receive, send)

    async def _answer(self, scope: Scope, path: str, receive: Receive, send: Send) -> None:
        headers = _headers(scope)
        request = self._stranger(scope["method"], scope, headers)
        error = self._entrance.refusal(scope["method"], path, headers)
        if error is not None:
            await _reply("http", send, self.router.reception.refuse(request, error))
            return
        api = await asyncio.shield(self._api())
        await api(_at(path, scope), receive, _marked(send, request.record.id.encode("latin-1")))

    async def _converse(self, scope: Scope, path: str, receive: Receive, send: Send) -> None:
        headers = _headers(scope)
        error = self._entrance.socket_refusal(path, scope.get("query_string", b""), headers, time.monotonic())
        if error is None and self.sockets >= MOST_SOCKETS:
            error = NoBackendAvailable(f"{MOST_SOCKETS} WebSockets are open, the limit here", code="too_many_sockets")
        if error is not None:
            answer = self.router.reception.refuse(self._stranger("GET", scope, headers), error)
            if "websocket.http.response" in scope.get("extensions", {}):
                await _reply("websocket.http", send, answer)
            else:
                await send({"type": "websocket.close"})  # a 403
            return
        self.sockets += 1
        try:
            api = await asyncio.shield(self._api())
            speaking = _speaking(send) if PROTOCOL in offered_protocols(headers) else send
            await api(_at(path, scope), receive, speaking)
        finally:
            self.sockets -= 1

    def _stranger(self, method: str, scope: Scope, headers: Headers) -> ClientRequest:
        peer = scope.get("client")
        return self.router.reception.stranger(method, headers, peer[0] if peer else "")

    def _api(self) -> asyncio.Task[Starlette]:
        """The management API, or who loads it, once: what it imports takes a while."""
        loading = self._loading
        if loading is None or (loading.done() and (loading.cancelled() or loading.exception() is not None)):
            loading = self._tasks.spawn(asyncio.to_thread(_load, self._desk), "load the management API")
            self._loading = loading
        return loading


def with_lifespan(gateway: Gateway, live: Callable[[], AsyncIterator[None]]) -> Application:
    """`gateway` for a server that speaks of its own start and stop: `live()` begins and ends with it."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await gateway(scope, receive, send)
            return
        await receive()
        async with asynccontextmanager(live)():
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    return app


def _headers(scope: Scope) -> Headers:
    return [(bytes(name).lower(), bytes(value)) for name, value in scope["headers"]]


def _at(path: str, scope: Scope) -> Scope:
    """As the management API reads it, wherever the gateway is mounted."""
    return {**scope, "path": path, "raw_path": path.encode(), "root_path": ""}


def _load(desk: Desk) -> Starlette:
    from solar.control.api.app import make_api

    return make_api(desk)


def _marked(send: Send, request_id: bytes) -> Send:
    """Answers of the management are nobody's to keep, or to show in a frame."""

    async def send_marked(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *_said(request_id)]}
        await send(message)

    return send_marked


def _said(request_id: bytes) -> Iterator[tuple[bytes, bytes]]:
    yield b"x-request-id", request_id
    yield b"cache-control", b"no-store"
    yield b"x-content-type-options", b"nosniff"
    yield b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"


def _speaking(send: Send) -> Send:
    """A browser that offers protocols wants to hear which it is."""

    async def send_speaking(message: Message) -> None:
        if message["type"] == "websocket.accept" and not message.get("subprotocol"):
            message = {**message, "subprotocol": PROTOCOL}
        await send(message)

    return send_speaking


async def _reply(prefix: str, send: Send, answer: Answer) -> None:
    length = (b"content-length", b"%d" % len(answer.body))
    await send({"type": f"{prefix}.response.start", "status": answer.status, "headers": [*answer.headers, length]})
    await send({"type": f"{prefix}.response.body", "body": answer.body})
