"""The link that a fake v2 agent opens to a coordinator: its frames, its queue, its way of coming back."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec

from solar.errors import MissingExtra

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

    from solar.testing.agents.agent import FakeAgent

_QUEUE = 1000  # frames that wait while there is no coordinator; the oldest goes first
_MAX_DELAY = 30.0
_ACK_SECONDS = 10.0


class Link:
    """One coordinator's end of a fake agent."""

    def __init__(self, agent: FakeAgent, url: str, delay: float, ping: float | None) -> None:
        self.url = url
        self.acknowledged = 0  # how often a coordinator took the registration
        self.refusals: list[str] = []  # what coordinators said when they did not
        self.received: list[str] = []  # every text frame that came, oldest first
        self.up = False
        self.ended = False  # it will not try again
        self._agent = agent
        self._delay = delay
        self._ping = ping
        self._queue: deque[dict[str, Any]] = deque(maxlen=_QUEUE)
        self._wanted = asyncio.Event()
        self._socket: ClientConnection | None = None

    def __repr__(self) -> str:
        return f"<Link to {self.url}, {'up' if self.up else 'down'}, {self.waiting} frames wait>"

    @property
    def waiting(self) -> int:
        """Frames that were not sent yet."""
        return len(self._queue)

    def send(self, frame: dict[str, Any]) -> None:
        """Tells the coordinator, now or once there is one."""
        self._queue.append(frame)
        self._wanted.set()

    def cut(self) -> None:
        """Breaks the connection, as a network does; the agent will come back."""
        if self._socket is not None:
            self._socket.transport.abort()

    async def run(self) -> None:
        """Connects, again and again. Ends when it is cancelled, or `ended`."""
        try:
            from websockets.asyncio.client import connect
            from websockets.exceptions import WebSocketException
        except ImportError:
            raise MissingExtra("the fake agent's link needs the package 'websockets'") from None
        delay = self._delay
        while not self.ended:
            try:
                async with connect(self._address(), proxy=None, ping_interval=None) as self._socket:
                    await self._register(self._socket)
                    delay = self._delay
                    await self._talk(self._socket)
            except (OSError, TimeoutError, WebSocketException, Refused):
                pass
            finally:
                self.up, self._socket = False, None
                self._agent._changed()
            await asyncio.sleep(delay)
            delay = min(delay * 2, _MAX_DELAY)

    def _address(self) -> str:
        return self.url

    async def _register(self, socket: ClientConnection) -> None:
        data = {"api_key": self._agent.api_key, "host_name": self._agent.name, "instances": self._agent._flat()}
        await self._write(socket, {"type": "registration", "data": data, "timestamp": self._agent.lifecycle.now()})
        async with asyncio.timeout(_ACK_SECONDS):
            answer = msgspec.json.decode(self._heard(await socket.recv()))
        if answer.get("type") != "registration_ack":
            self.refusals.append(answer.get("message", ""))
            self._agent._changed()
            raise Refused
        self.acknowledged += 1
        self.up = True
        self._agent._changed()

    async def _talk(self, socket: ClientConnection) -> None:
        loop = asyncio.get_running_loop()
        both = [loop.create_task(work) for work in (self._say(socket), self._pings(socket))]
        try:
            async for frame in socket:
                await self._take(socket, self._heard(frame))
                self._agent._changed()
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)

    async def _take(self, socket: ClientConnection, frame: str) -> None:
        """What comes after the registration; a v2 agent heeds none of it."""

    async def _say(self, socket: ClientConnection) -> None:
        while True:
            while self._queue:
                await self._agent._gate()
                await self._write(socket, self._queue[0])
                self._queue.popleft()
                self._agent._changed()
            self._wanted.clear()
            await self._wanted.wait()

    async def _pings(self, socket: ClientConnection) -> None:
        while self._ping is not None:
            await asyncio.sleep(self._ping)
            await socket.send("ping")

    async def _write(self, socket: ClientConnection, frame: dict[str, Any]) -> None:
        await socket.send(msgspec.json.encode(frame).decode())

    def _heard(self, frame: str | bytes) -> str:
        text = frame if isinstance(frame, str) else frame.decode()
        self.received.append(text)
        return text


class Refused(Exception):
    """The coordinator said no."""
