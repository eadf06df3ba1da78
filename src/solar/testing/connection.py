"""One connection to a fake backend: reads requests and plays steps, with a hand on every byte."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from solar.testing.answer import Act, Event, Step, Wait
from solar.testing.recorded import Recorded, recorded_of
from solar.testing.sockets import reset

if TYPE_CHECKING:
    from solar.testing.backend import FakeBackend


class Connection(asyncio.Protocol):
    """A client's connection. Its one task ends when the client leaves, wherever it stands."""

    def __init__(self, fake: FakeBackend, sock: socket.socket, number: int) -> None:
        self.number = number
        self.closed = asyncio.Event()
        self._fake = fake
        self._socket = sock
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._current: Recorded | None = None
        self._served = 0
        self._idle_timer: asyncio.TimerHandle | None = None
        self.task = asyncio.get_running_loop().create_task(self._serve(), name=f"fake connection {number}")
        self.task.add_done_callback(self._unserved)

    @property
    def idle(self) -> bool:
        """Open, and between two requests."""
        return self._transport is not None and self._current is None and not self._transport.is_closing()

    def __repr__(self) -> str:
        return f"<Connection {self.number} {'idle' if self.idle else 'at work'}>"

    # Called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        # So that a finished drain means that the kernel has every byte: nothing is lost by a reset after it.
        # 1, as asyncio's TLS with a limit of 0 pauses for ever.
        self._transport.set_write_buffer_limits(high=1, low=0)
        self._fake._connection_opened(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._arrived.set()
        self._stop_idle_timer()

    def eof_received(self) -> bool:
        self._client_gone()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._client_gone()
        self._stop_idle_timer()
        self.closed.set()
        self._fake._connection_closed(self)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # Called by the fake

    def close(self) -> None:
        """FIN, once everything written is sent."""
        if self._transport is not None:
            self._transport.close()

    def reset(self) -> None:
        """RST, now."""
        if self._transport is not None and not self.closed.is_set():
            reset(self._transport)
        else:
            self.task.cancel()

    def pause_reading(self, paused: bool) -> None:
        """Leaves what comes to the kernel, as a stopped process does; the end of the connection included."""
        if self._transport is not None and not self._transport.is_closing():
            if paused:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    # The task

    def _unserved(self, _: asyncio.Task[None]) -> None:
        """One that is cancelled before it began has closed nothing."""
        if self._transport is None:
            self._socket.close()

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(lambda: self, self._socket, ssl=self._fake.tls)
        except OSError:  # the TLS handshake failed, or the client left in it
            self._socket.close()
            return
        assert self._transport is not None  # noqa: S101  connection_made was called
        while not self._transport.is_closing():
            if not self._buffer and self._fake.keepalive_seconds is not None:
                self._idle_timer = loop.call_later(self._fake.keepalive_seconds, self.close)
            try:
                recorded = await self._read_request()
            except ValueError:
                await self._write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                self.close()
                return
            await self._fake._gate(recorded)
            keep = self._keeps(recorded)
            await self._play(self._fake._steps(recorded, keep), recorded)
            recorded.finished = True
            self._current = None
            if not keep:
                self.close()
            self._fake._changed()

    async def _read_request(self) -> Recorded:
        head = await self._take_until(b"\r\n\r\n")
        recorded = self._current = recorded_of(head, self.number, asyncio.get_running_loop().time())
        self._served += 1
        self._fake._request_began(recorded)
        await self._read_body(recorded)
        recorded.complete = True
        self._fake._changed()
        return recorded

    def _keeps(self, recorded: Recorded) -> bool:
        wish = ",".join(recorded.all_headers("connection")).lower()
        limit = self._fake.keepalive_requests
        old = b" HTTP/1.0\r\n" in recorded.head
        return not old and "close" not in wish and (limit is None or self._served < limit)

    async def _read_body(self, recorded: Recorded) -> None:
        length = int(recorded.header("content-length") or 0)
        chunked = (recorded.header("transfer-encoding") or "").lower() == "chunked"
        if (length or chunked) and (recorded.header("expect") or "").lower() == "100-continue":
            await self._write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if not chunked:
            await self._take_body(recorded, length)
            return
        while size := int((await self._take_until(b"\r\n")).split(b";")[0], 16):
            await self._take_body(recorded, size)
            await self._take_until(b"\r\n")
        while await self._take_until(b"\r\n") != b"\r\n":
            pass  # trailers

    async def _take_body(self, recorded: Recorded, length: int) -> None:
        while length:
            if not self._buffer:
                await self._more()
            piece = self._buffer[:length]
            del self._buffer[:length]
            recorded.received += piece
            length -= len(piece)
            self._fake._changed()

    async def _take_until(self, mark: bytes) -> bytes:
        while (at := self._buffer.find(mark)) < 0:
            await self._more()
        taken = bytes(self._buffer[: at + len(mark)])
        del self._buffer[: at + len(mark)]
        return taken

    async def _more(self) -> None:
        self._arrived.clear()
        await self._arrived.wait()

    async def _play(self, steps: Iterator[Step], recorded: Recorded) -> None:
        for step in steps:
            await self._fake._gate(recorded)
            match step:
                case Wait(seconds):
                    await asyncio.sleep(seconds)
                case Act.STALL:
                    await self._fake._released()
                case Act.DONE:
                    recorded.finished = True
                case Act.FIN:
                    self.close()
                    return
                case Act.RESET:
                    recorded.finished = True
                    self.reset()
                    return
                case Act.DIE:
                    recorded.finished = True
                    self._fake.die()
                    return
                case bytes():
                    await self._write(step)
                    recorded.bytes_sent += len(step)
                    recorded.events += isinstance(step, Event)
            self._fake._changed()

    async def _write(self, data: bytes) -> None:
        assert self._transport is not None  # noqa: S101  there is a request on it
        self._transport.write(data)
        await self._writable.wait()

    def _client_gone(self) -> None:
        recorded, self._current = self._current, None
        if recorded is not None and recorded.in_flight:
            recorded.client_gone_at = asyncio.get_running_loop().time()
            self._fake._changed()
        self.task.cancel()

    def _stop_idle_timer(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
