"""A server that is whatever a test says: for answers that no fake engine would give."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

Answers = Callable[[str], bytes | None]  # the whole answer to a GET of that path; None: hang up


@asynccontextmanager
async def serving(answers: Answers) -> AsyncIterator[str]:
    """A server that says whatever it is told to, and hangs up."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            writer.write(answers(head.split()[1].decode()) or b"")
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # whoever asked has left
        finally:
            writer.close()

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def http(body: object = None, status: int = 200) -> bytes:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%b" % (status, len(text), text)


def pages(**known: bytes) -> Answers:
    """Those pages, by their path with _ for /; 404 for all others."""
    return lambda path: known.get(path.strip("/").replace("/", "_"), http({"detail": "Not Found"}, 404))
