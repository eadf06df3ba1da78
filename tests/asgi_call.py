"""Calls an ASGI application without a server: what a law says of heads and bytes needs no socket to be seen."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from solar import Backend, Router
from solar.testing import FakeBackend

App = Callable[[Any, Any, Any], Awaitable[None]]
Pairs = Iterable[tuple[str, str]]

CHAT = "/v1/chat/completions"


@dataclass
class Reply:
    """What an application sent."""

    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    complete: bool = False  # the application said that this was all

    def all(self, name: str) -> list[str]:
        """Every value of a header."""
        return [value.decode("latin-1") for key, value in self.headers if key == name.encode()]

    def __getitem__(self, name: str) -> str | None:
        """The one value of a header, or None; two are a mistake."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} came twice: {values}"
        return values[0] if values else None

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The object in OpenAI's envelope, whose shape is checked on the way."""
        assert list(self.json) == ["error"]
        told: dict[str, Any] = self.json["error"]
        assert set(told) == {"message", "type", "param", "code"}
        assert isinstance(told["message"], str)
        assert isinstance(told["type"], str)
        return told


class Call:
    """One request: `send` feeds the body as it arrives, `leave` closes the connection, `reply` is what came."""

    def __init__(
        self,
        app: App,
        method: str,
        path: str,
        *,
        headers: Iterable[tuple[str | bytes, str | bytes]] = (),
        query: str = "",
        root_path: str = "",
        http_version: str = "1.1",
    ) -> None:
        self.reply = Reply()
        self._events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.asked_for_body = asyncio.Event()  # the application wants to read
        pairs = [(_bytes(name).lower(), _bytes(value)) for name, value in headers]
        if not any(name == b"host" for name, _ in pairs):
            pairs.insert(0, (b"host", b"solar.test"))
        self._scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": http_version,
            "method": method,
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": root_path,
            "headers": pairs,
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 80),
        }
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(app(self._scope, self._receive, self._send))

    def send(self, data: bytes, *, more: bool = False) -> None:
        self._events.put_nowait({"type": "http.request", "body": data, "more_body": more})

    def leave(self) -> None:
        self._events.put_nowait({"type": "http.disconnect"})

    async def answered(self) -> Reply:
        async with asyncio.timeout(10):
            await self._task
        return self.reply

    async def _receive(self) -> dict[str, Any]:
        self.asked_for_body.set()
        return await self._events.get()

    async def _send(self, message: dict[str, Any]) -> None:
        reply = self.reply
        assert not reply.complete, f"sent after the end: {message}"
        if message["type"] == "http.response.start":
            assert reply.status == 0, "two heads"
            reply.status = message["status"]
            reply.headers = list(message.get("headers", []))
            assert all(name == name.lower() for name, _ in reply.headers)
            return
        assert reply.status, "a body before its head"
        reply.body += message.get("body", b"")
        reply.complete = not message.get("more_body", False)


def _bytes(text: str | bytes) -> bytes:
    return text.encode("latin-1") if isinstance(text, str) else text


async def call(
    app: App,
    method: str,
    path: str,
    body: bytes | None = None,
    *,
    headers: Iterable[tuple[str | bytes, str | bytes]] = (),
    **scope: Any,
) -> Reply:
    """One whole request and its whole answer. `body` gets a content-length."""
    pairs = list(headers)
    if body is not None:
        pairs.append(("content-length", str(len(body))))
    request = Call(app, method, path, headers=pairs, **scope)
    request.send(body or b"")
    reply = await request.answered()
    assert reply.complete
    return reply


async def get(app: App, path: str, **more: Any) -> Reply:
    return await call(app, "GET", path, **more)


async def post(app: App, payload: object = None, path: str = CHAT, **more: Any) -> Reply:
    """A POST of `payload`: bytes as they are, anything else as JSON; by default a chat to model `m`."""
    if payload is None:
        payload = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    headers = [*more.pop("headers", ())]
    if not any(name == "content-type" for name, _ in headers):
        headers.insert(0, ("content-type", "application/json"))
    return await call(app, "POST", path, body, headers=headers, **more)


@asynccontextmanager
async def routed(*fakes: FakeBackend, **options: Any) -> AsyncIterator[Router]:
    """A router, started, before `fakes` (started too), whose ids are one, two, ..."""
    ids: Sequence[str] = ("one", "two", "three", "four")
    async with Router([Backend(ids[n], fake.url) for n, fake in enumerate(fakes)], **options) as router:
        yield router


@asynccontextmanager
async def lifespan(app: App) -> AsyncIterator[None]:
    """What a server does: starts an application, and stops it."""
    coming: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    said: asyncio.Queue[Any] = asyncio.Queue()
    running = asyncio.get_running_loop().create_task(
        app({"type": "lifespan", "asgi": {"version": "3.0"}}, coming.get, said.put)
    )
    coming.put_nowait({"type": "lifespan.startup"})
    assert (await said.get())["type"] == "lifespan.startup.complete"
    yield
    coming.put_nowait({"type": "lifespan.shutdown"})
    assert (await said.get())["type"] == "lifespan.shutdown.complete"
    await running
