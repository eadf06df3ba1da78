"""The gateway as one ASGI application: the router, and the management API beside it, closed to other origins."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from solar.control.door import Application
from solar.control.keys import Access
from solar.core.headers import Headers
from solar.core.paths import Found
from solar.discovery.base import BackendsListed
from solar.edge.admission import Admission
from solar.edge.asgi import Message, Receive, Scope, Send, route_path
from solar.edge.request import Answer
from solar.edge.tasks import Tasks
from solar.errors import InvalidRequest, SolarError
from solar.router import Router

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from solar.control.api.asking import Desk

ROOMS = frozenset(
    {"hosts", "gateway", "docs", "openapi.json"}
)  # the first words of the paths that are not the router's
OPEN = frozenset({"/docs", "/openapi.json"})  # without a key: they tell what is documented anyway

_ANYTHING = Found("unknown")  # whatever the router does not know needs a key

_log = logging.getLogger("solar")


class Gateway:
    """`router`, and the management API on `desk` once begin() has loaded it; end() is for the end.

    A page of another origin may be open in a browser that reaches us, and even know the key: it is refused, unless
    its host's name is one of `trusted`.
    """

    def __init__(self, router: Router, desk: Desk, admitted: Access, trusted: Iterable[str] = ()) -> None:
        self.router = router
        self._desk = desk
        self._admission = Admission(api_keys=admitted.keys, allowed_hosts=admitted.hosts)
        self._trusted = frozenset(name.lower() for name in trusted)
        self._tasks = Tasks(_log)
        self._loading: asyncio.Task[Starlette] | None = None
        self._recording: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Gateway of {self.router!r}>"

    def begin(self) -> None:
        """Start what the router's start did not wait for: records, hosts, management."""
        self._recording = self._tasks.spawn(self._desk.store.run(), "store")
        self._tasks.spawn(self._desk.fleet.run(), "fleet")
        self._tasks.spawn(self._follow(), "follow the fleet")
        self._api()

    async def end(self) -> None:
        """Write what is still to be kept, and let go of the rest."""
        self._desk.store.stop()
        if self._recording is not None:
            await self._recording
        await self._tasks.stop()

    async def _follow(self) -> None:
        """Route to what runs on the hosts. They are read after the start, so the router's own followers would wait."""
        fleet = self._desk.fleet.discoverer
        async for change in fleet.watch():
            if isinstance(change, BackendsListed):
                self.router.replace_backends(fleet.name, change.backends)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI, of requests: whoever serves this starts and stops it, and the router."""
        path = route_path(scope).rstrip("/")
        if scope["type"] != "http" or path[1:].partition("/")[0] not in ROOMS:
            await self.router(scope, receive, send)
            return
        headers: Headers = [(bytes(name).lower(), bytes(value)) for name, value in scope["headers"]]
        reception = self.router.reception
        peer = scope.get("client")
        request = reception.stranger(scope["method"], headers, peer[0] if peer else "")
        error = self._refusal(scope["method"], path, headers)
        if error is not None:
            await _reply(send, reception.refuse(request, error))
            return
        api = await asyncio.shield(self._api())
        marked = _marked(send, request.record.id.encode("latin-1"))
        await api({**scope, "path": path, "raw_path": path.encode(), "root_path": ""}, receive, marked)

    def _api(self) -> asyncio.Task[Starlette]:
        """The management API, or who loads it, once: what it imports takes a while."""
        if self._loading is None:
            self._loading = self._tasks.spawn(asyncio.to_thread(_load, self._desk), "load the management API")
        return self._loading

    def _refusal(self, method: str, path: str, headers: Headers) -> SolarError | None:
        open_to_all = path in OPEN or method == "OPTIONS"
        found = Found("health") if open_to_all else _ANYTHING
        return self._foreign(headers) or self._admission.refusal(found, headers)

    def _foreign(self, headers: Headers) -> SolarError | None:
        hosts = [value.decode("latin-1").lower() for name, value in headers if name == b"host"]
        for origin in (value.decode("latin-1") for name, value in headers if name == b"origin"):
            authority, hostname = _place(origin)
            if not authority or (authority not in hosts and hostname not in self._trusted):
                return InvalidRequest(
                    f"Origin {origin[:100]!r} is foreign to this server: its pages may not manage it; "
                    "if they should, add its name to allowed_hosts",
                    status=403,
                    code="foreign_host",
                )
        return None


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


def _place(origin: str) -> tuple[str, str]:
    """The host that a page came from, with its port and without."""
    try:
        parsed = urlsplit(origin)
        return parsed.netloc.lower(), parsed.hostname or ""
    except ValueError:
        return "", ""


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


async def _reply(send: Send, answer: Answer) -> None:
    length = (b"content-length", b"%d" % len(answer.body))
    await send({"type": "http.response.start", "status": answer.status, "headers": [*answer.headers, length]})
    await send({"type": "http.response.body", "body": answer.body})
