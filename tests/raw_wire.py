"""A raw connection for tests that look at bytes: a client library would hide or mend what is wrong with them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

CHAT = {"model": "m", "messages": [{"role": "user", "content": "say it"}]}
STREAM = {**CHAT, "stream": True}
NOTHING = 0.05  # seconds without a byte that count as silence


@dataclass
class Wire:
    """A raw connection to a fake."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def ask(self, payload: object = None, path: str = "/v1/chat/completions", head: str = "") -> None:
        body = b"" if payload is None else json.dumps(payload).encode()
        method = "GET" if payload is None else "POST"
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        self.writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{length}{head}\r\n".encode() + body)

    async def head(self) -> str:
        return (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 5)).decode("latin-1")

    async def answer(self) -> tuple[str, bytes]:
        """One whole answer: its head and its body without framing. Raises IncompleteReadError when it is cut."""
        head = await self.head()
        lines = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
        if "chunked" in lines.get("transfer-encoding", ""):
            body = b""
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                body += (await self.reader.readexactly(size + 2))[:-2]
            assert await self.reader.readexactly(2) == b"\r\n"
            return head, body
        return head, await self.reader.readexactly(int(lines["content-length"]))

    async def rest(self) -> tuple[bytes, str]:
        """Everything up to the end, and how it ended: fin, rst, or open when nothing more comes."""
        got = b""
        while True:
            try:
                data = await asyncio.wait_for(self.reader.read(65536), NOTHING if got else 5 * NOTHING)
            except TimeoutError:
                return got, "open"
            except ConnectionResetError:
                return got, "rst"
            if not data:
                return got, "fin"
            got += data


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()


def events(body: bytes) -> list[bytes]:
    return [event for event in body.split(b"\n\n") if event]
