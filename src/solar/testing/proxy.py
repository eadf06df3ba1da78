"""A TCP proxy between a client and a server, for what happens to packets: swallowed, late, refused, reset."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from types import TracebackType
from typing import Self, cast
from urllib.parse import urlsplit

from solar.testing.sockets import Listener, reset

_HELD_LIMIT = 65536  # bytes that one side may hold before its sender is no longer read


def blackhole(url: str) -> TcpProxy:
    """A proxy before the server of `url` that swallows everything from the start: `async with blackhole(url)`."""
    proxy = TcpProxy.to(url)
    proxy.blackhole()
    return proxy


class TcpProxy:
    """Passes connections on to a server, and breaks them on command, live.

    >>> async with TcpProxy.to(fake.url) as proxy:
    ...     # ask proxy.url, then, in the middle of an answer:
    ...     proxy.blackhole()

    Modes, for open connections and new ones: `pass_on`, `blackhole`, `delay`, and `refuse` for new ones only.
    """

    def __init__(self, target_host: str, target_port: int, *, scheme: str = "http", host: str = "127.0.0.1") -> None:
        self.target = (target_host, target_port)
        self.connections = 0  # accepted so far
        self._scheme = scheme
        self._listener = Listener(host, 0, self._accepted)
        self._mode = "pass"
        self._delay = 0.0
        self._pipes: set[_Pipe] = set()

    @classmethod
    def to(cls, url: str) -> TcpProxy:
        """A proxy before the server of `url`; TLS passes through untouched."""
        parts = urlsplit(url)
        default = 443 if parts.scheme == "https" else 80
        return cls(parts.hostname or "127.0.0.1", parts.port or default, scheme=parts.scheme)

    @property
    def port(self) -> int:
        return self._listener.port

    @property
    def url(self) -> str:
        """What to ask instead of the server's own root."""
        return f"{self._scheme}://{self._listener.authority}"

    @property
    def open(self) -> int:
        """Connections that are open now, counted on the client's side."""
        return len(self._pipes)

    def pass_on(self) -> None:
        """Forwards everything, at once; what was held goes first."""
        self._set("pass")

    def blackhole(self, *, connects: bool = True) -> None:
        """Reads nothing and forwards nothing, ends of connections included; `pass_on` delivers it late.

        New connections stand, and say nothing; with `connects=False` they do not even stand (Linux).
        """
        self._set("blackhole")
        if not connects:
            self._listener.ignore()

    def delay(self, seconds: float) -> None:
        """Forwards everything that many seconds late, in both directions."""
        self._set("delay", seconds)

    def refuse(self) -> None:
        """Refuses new connections; open ones go on."""
        self._set("refuse")
        self._listener.close()

    def reset_all(self) -> None:
        """Resets every open connection, on both sides. The mode stays."""
        for pipe in list(self._pipes):
            pipe.reset()

    def _set(self, mode: str, delay: float = 0.0) -> None:
        was_started, self._mode, self._delay = self._listener.port != 0, mode, delay
        if was_started and mode != "refuse":
            self._listener.open()
        for pipe in self._pipes:
            pipe.mode_changed()

    @property
    def _holds(self) -> bool:
        return self._mode == "blackhole"

    def _accepted(self, sock: socket.socket) -> None:
        self.connections += 1
        pipe = _Pipe(self, sock)
        self._pipes.add(pipe)
        pipe.task.add_done_callback(lambda _: self._pipes.discard(pipe))

    async def __aenter__(self) -> Self:
        self._listener.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        pipes = list(self._pipes)
        self.reset_all()
        if pipes:
            await asyncio.wait([pipe.task for pipe in pipes])

    def __repr__(self) -> str:
        return f"<TcpProxy {self.url} -> {self.target[0]}:{self.target[1]} {self._mode}, {self.open} open>"


class _Pipe:
    """One client's connection and the one to the server; its task ends when both are closed."""

    def __init__(self, proxy: TcpProxy, sock: socket.socket) -> None:
        self.proxy = proxy
        self.client = _Side(self)
        self.server = _Side(self)
        self._socket = sock
        self.task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(lambda: self.client, self._socket)
        try:
            await loop.create_connection(lambda: self.server, *self.proxy.target)
        except OSError:  # the server is down: its client learns it as a reset
            self.reset()
        await self.client.closed.wait()
        if self.server.transport is not None:
            await self.server.closed.wait()

    def other(self, side: _Side) -> _Side:
        return self.server if side is self.client else self.client

    def mode_changed(self) -> None:
        for side in (self.client, self.server):
            side.flow()

    def reset(self) -> None:
        for side in (self.client, self.server):
            if side.transport is not None:
                reset(side.transport)


class _Side(asyncio.Protocol):
    """One end: holds what came from it until it may go to the other end. None stands for the end of what came."""

    def __init__(self, pipe: _Pipe) -> None:
        self.transport: asyncio.Transport | None = None
        self.closed = asyncio.Event()
        self._pipe = pipe
        self._held: deque[tuple[float, bytes | None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._choked = False  # the kernel takes no more for this end
        self._ended = False  # the other end was told that nothing more comes from here
        self._failure: Exception | None = None  # what broke this end, a reset mostly

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.flow()
        self._pipe.other(self).flow()

    def data_received(self, data: bytes) -> None:
        self._hold(data)

    def eof_received(self) -> bool:
        self._hold(None)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()
        if self._timer is not None:
            self._timer.cancel()
        self._failure = exc
        self.flow()

    def pause_writing(self) -> None:
        self._choked = True

    def resume_writing(self) -> None:
        self._choked = False
        self._pipe.other(self).flow()

    def _hold(self, data: bytes | None) -> None:
        now = asyncio.get_running_loop().time()
        last = self._held[-1][0] if self._held else now
        self._held.append((max(last, now + self._pipe.proxy._delay), data))
        self.flow()

    def flow(self) -> None:
        """Forwards what is due, and reads on or not."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        holds, other = self._pipe.proxy._holds, self._pipe.other(self)
        loop = asyncio.get_running_loop()
        while self._held and not holds and other.transport is not None and not other._choked:
            due, data = self._held[0]
            if due > loop.time() and self._pipe.proxy._delay:
                self._timer = loop.call_at(due, self.flow)
                break
            self._held.popleft()
            self._forward(data, other)
        if self.closed.is_set() and not holds and (self._failure is not None or not self._held):
            self._close(other)
        if self.transport is not None and not self.transport.is_closing():
            if holds or sum(len(data or b"") for _, data in self._held) > _HELD_LIMIT:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    def _forward(self, data: bytes | None, to: _Side) -> None:
        if to.transport is None or to.transport.is_closing():
            return
        if data is not None:
            to.transport.write(data)
            return
        self._ended = True
        if to._ended:  # both ways: half-closed ends would stay open for ever
            to.transport.close()
            self._close(self)
        else:
            to.transport.write_eof()

    def _close(self, side: _Side) -> None:
        if side.transport is not None and not side.closed.is_set():
            if self._failure is not None:
                reset(side.transport)
            else:
                side.transport.close()
