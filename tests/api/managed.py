"""A gateway in this process, asked without a socket."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from asgi_call import Call, Reply
from solar.control.app import make_gateway
from solar.control.configuration import load
from solar.control.gateway import Gateway
from solar.control.keys import Access

KEY = "the-gateways-own-key"


@dataclass
class Managed:
    """A gateway in this process, asked without a socket."""

    gateway: Gateway

    async def ask(self, method: str, path: str, body: bytes = b"", *, key: str | None = KEY, **headers: str) -> Reply:
        """One request; a query may stand behind the path."""
        path, _, query = path.partition("?")
        pairs = list(headers.items())
        if key is not None:
            pairs.append(("x-api-key", key))
        call = Call(self.gateway, method, path, headers=pairs, query=query)
        call.send(body)
        return await call.answered()


@asynccontextmanager
async def managed(directory: Path, **flags: object) -> AsyncIterator[Managed]:
    configuration = load({"data_dir": str(directory / "data"), **flags}, {}, directory)
    gateway = make_gateway(configuration, Access((KEY,), None), 8000)
    await gateway.router.start()
    gateway.begin()
    try:
        await gateway._desk.store.opened()
        yield Managed(gateway)
    finally:
        await gateway.router.stop()
        await gateway.end()
