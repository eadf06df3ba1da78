"""A server that is whatever a test says: for answers that no fake engine would give."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

Answers = Callable[[str], bytes | None]  # the whole answer to a GET of that path; None: hang up


@asynccontextmanager
async def serving(answers: Answers, delay: Callable[[str], float] = lambda _: 0.0) -> AsyncIterator[str]:
    """A server that says whatever it is told to, after that many seconds, and hangs up."""
    at_work: set[asyncio.Task[None] | None] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        at_work.add(task := asyncio.current_task())
        try:
            path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
            await asyncio.sleep(delay(path))
            writer.write(answers(path) or b"")
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # whoever asked has left
        finally:
            writer.close()
            at_work.discard(task)

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        while left := [task for task in at_work if task is not None]:
            await asyncio.wait(left)


def http(body: object = None, status: int = 200) -> bytes:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%b" % (status, len(text), text)


def pages(**known: bytes) -> Answers:
    """Those pages, by their path with _ for /; 404 for all others."""
    return lambda path: known.get(path.strip("/").replace("/", "_"), http({"detail": "Not Found"}, 404))
