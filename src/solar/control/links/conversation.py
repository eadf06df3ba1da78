"""One agent's WebSocket as a link needs it: it can be ended from outside, and nothing waits for it without an end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

from solar.edge.asgi import Receive, Send

SEND_SECONDS = 10.0  # then somebody does not read what he is told

T = TypeVar("T")


class Over(Exception):
    """The conversation has ended; the text says why."""


class Conversation:
    """What is heard and said by an ASGI server's `receive` and `send`: a host's `Link`, once it has registered."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self.called: str | None = None
        self.ended = ""  # why
        self._receive, self._send = receive, send
        self._waiting: asyncio.Timeout | None = None

    def __repr__(self) -> str:
        return f"<Conversation with {self.called!r}{self.ended and f', ended: {self.ended}'}>"

    def end(self, why: str) -> None:
        """Whoever hears is told so, now or when he next does."""
        if not self.ended:
            self.ended = why
            if self._waiting is not None:
                with suppress(RuntimeError):  # its time is over in this very turn: who hears looks at `ended`
                    self._waiting.reschedule(asyncio.get_running_loop().time())

    async def hear(self, within: float | None = None) -> str | bytes:
        """The next frame. Raises Over where there will be none, TimeoutError after `within` seconds without one."""
        message = await self._endable(self._receive, within)
        if message["type"] != "websocket.receive":
            self.end("it closed")
            raise Over(self.ended)
        text: str | None = message.get("text")
        frame: str | bytes = message["bytes"] if text is None else text
        return frame

    async def rest(self, seconds: float) -> None:
        """Hear nothing for so long. Raises Over."""
        await self._endable(partial(asyncio.sleep, seconds), None)

    async def say(self, text: str) -> None:
        """One frame. Raises Over where it cannot be said."""
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self._send({"type": "websocket.send", "text": text})
        except TimeoutError:
            self.end("it does not read what it is told")
            raise Over(self.ended) from None
        except OSError:
            self.end("it is gone")
            raise Over(self.ended) from None

    async def close(self, code: int, why: str) -> None:
        """The last word. It may be heard, or not."""
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(SEND_SECONDS):
                await self._send({"type": "websocket.close", "code": code, "reason": why})

    async def _endable(self, wait: Callable[[], Awaitable[T]], within: float | None) -> T:
        if self.ended:
            raise Over(self.ended)
        try:
            async with asyncio.timeout(within) as self._waiting:
                return await wait()
        except TimeoutError:
            if self.ended:
                raise Over(self.ended) from None
            raise
        finally:
            self._waiting = None
