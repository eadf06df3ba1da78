"""A gateway over real engines: a Router under uvicorn, in the process and event loop of the test."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import anthropic
import httpx
import openai
import uvicorn
from llama_server import HOST, MODEL_ID, LlamaServer

from solar import Backend, Router
from solar.core.record import Record
from solar.router import BackendStatus

POLL = 0.02  # seconds between two looks at a condition
LONG = 60.0  # seconds that no test waits in vain for longer


@dataclass
class Gateway:
    """One running gateway, and the books that it has closed so far."""

    router: Router
    url: str
    records: list[Record] = field(default_factory=list)

    def status(self, server: LlamaServer) -> BackendStatus:
        return next(status for status in self.router.backends if status.backend.id == server.name)

    def state(self, server: LlamaServer) -> str:
        return self.status(server).state

    async def becomes(self, server: LlamaServer, *states: str, within: float = 10.0) -> None:
        """Wait until the router sees `server` in one of `states`."""
        await until(lambda: self.state(server) in states, within, lambda: f"{self.status(server)}")

    async def idle(self, within: float = 5.0) -> None:
        """Wait until nothing is in flight anywhere: the books are closed."""
        await until(lambda: not any(status.in_flight for status in self.router.backends), within)

    async def carrier(self, *servers: LlamaServer) -> LlamaServer:
        """The one of `servers` that has a request in flight, as soon as one has."""
        await until(lambda: any(self.status(server).in_flight for server in servers))
        return next(server for server in servers if self.status(server).in_flight)

    async def metric(self, name: str) -> float:
        """The sum of what /metrics says under `name`; 0 while it says nothing."""
        async with self.http() as client:
            page = (await client.get("/metrics")).text
        return sum(float(value) for value in re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", page, re.M))

    def http(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, timeout=LONG, trust_env=False)

    def openai(self, **settings: Any) -> openai.AsyncOpenAI:
        given = {"api_key": "none", "max_retries": 0, "timeout": LONG, **settings}
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", **given)

    def sync_openai(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=LONG)

    def anthropic(self, **settings: Any) -> anthropic.AsyncAnthropic:
        given = {"api_key": "none", "max_retries": 0, "timeout": LONG, **settings}
        return anthropic.AsyncAnthropic(base_url=self.url, **given)


def backend(server: LlamaServer, **settings: Any) -> Backend:
    return Backend(server.name, server.url, **settings)


@asynccontextmanager
async def serving(*members: LlamaServer | Backend, **settings: Any) -> AsyncIterator[Gateway]:
    """A gateway over `members`; `settings` are the router's."""
    chosen = {"health_check_interval": 2.0, "drain_seconds": 0.2, "logger": logging.getLogger("solar.real"), **settings}
    backends = [member if isinstance(member, Backend) else backend(member) for member in members]
    router = Router(backends=backends, **chosen)
    with listening() as listener:
        gateway = Gateway(router, f"http://{HOST}:{listener.getsockname()[1]}")
        router.on_record = gateway.records.append
        server = QuietServer(uvicorn.Config(router, log_config=None, access_log=False, timeout_graceful_shutdown=5))
        async with asyncio.TaskGroup() as group:
            group.create_task(server.serve([listener]))
            try:
                await until(lambda: server.started)
                yield gateway
            finally:
                server.should_exit = True


class QuietServer(uvicorn.Server):
    """Leaves the signals to pytest."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextmanager
def listening() -> Iterator[socket.socket]:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, 0))
        listener.listen(128)
        yield listener


async def until(
    holds: Callable[[], bool | Awaitable[bool]], within: float = LONG, told: Callable[[], str] | None = None
) -> None:
    """Wait until a condition holds; fail after `within` seconds."""
    deadline = time.monotonic() + within
    while not (await held if isinstance(held := holds(), Awaitable) else held):
        assert time.monotonic() < deadline, f"not within {within:g} s{': ' + told() if told else ''}"
        await asyncio.sleep(POLL)


async def read(stream: AsyncIterable[Any], into: list[Any]) -> None:
    """Read a stream to its end, however it ends; what came is in `into`."""
    async for chunk in stream:
        into.append(chunk)  # noqa: PERF401  # what came before a break counts


def finished(chunks: list[Any]) -> bool:
    """Whether the engine said in these chunks of a chat why it stopped."""
    return any(choice.finish_reason for chunk in chunks for choice in chunk.choices)


def chat(text: str = "Say hello.", **fields: Any) -> dict[str, Any]:
    """The body of a chat request, repeatable: nothing random, and no end before max_tokens."""
    return {
        "model": MODEL_ID,
        "messages": [{"role": "user", "content": text}],
        "temperature": 0,
        "seed": 1,
        "max_tokens": 8,
        **fields,
    }
