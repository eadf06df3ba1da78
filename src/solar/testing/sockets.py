"""Listening and resetting by hand: asyncio's own servers cannot stop accepting, and close with manners."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

_RST_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 seconds
_BACKLOG = 1024


def reset(transport: asyncio.Transport) -> None:
    """Closes a connection with RST, now. Closed already: does nothing."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)
    transport.abort()


class Listener:
    """A listening socket that can refuse, pause and fall silent, and take it all back, on one port."""

    def __init__(self, host: str, port: int, accepted: Callable[[socket.socket], None]) -> None:
        self.host = host
        self.port = port  # 0 until it listens for the first time
        self._accepted = accepted
        self._socket: socket.socket | None = None
        self._accepting = False
        self._fillers: list[socket.socket] = []  # they hold the backlog full while it ignores connects

    @property
    def listens(self) -> bool:
        return self._socket is not None

    @property
    def authority(self) -> str:
        """`host:port`, as URLs spell it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def open(self) -> None:
        """Listens and accepts; the port stays the same from the first time on. Raises OSError."""
        if self._socket is None:
            sock = socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET, socket.SOCK_STREAM)
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.setblocking(False)
                sock.bind((self.host, self.port))
                sock.listen(_BACKLOG)
            except OSError:
                sock.close()
                raise
            self.port = sock.getsockname()[1]
            self._socket = sock
        self.resume()

    def close(self) -> None:
        """Refuses connections from now on; accepted ones live on, those in the backlog are reset."""
        if self._socket is not None:
            self.pause()
            self._empty_backlog()
            self._socket.close()
            self._socket = None

    def pause(self) -> None:
        """Accepts none; the kernel completes them all the same, up to its backlog."""
        if self._socket is not None and self._accepting:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._accepting = False

    def ignore(self) -> None:
        """Lets connects hang, as when packets are swallowed: nothing is accepted and the backlog is full (Linux)."""
        if self._socket is None or self._fillers:
            return
        self.pause()
        self._socket.listen(0)
        for _ in range(2):  # a backlog of 0 has room for one, and the second proves it full
            filler = socket.socket(self._socket.family, socket.SOCK_STREAM)
            filler.setblocking(False)
            filler.connect_ex((self.host, self.port))
            self._fillers.append(filler)

    def resume(self) -> None:
        """Accepts what waits, and what comes."""
        if self._socket is not None and not self._accepting:
            self._empty_backlog()
            self._socket.listen(_BACKLOG)
            asyncio.get_running_loop().add_reader(self._socket, self._accept)
            self._accepting = True

    def _empty_backlog(self) -> None:
        for filler in self._fillers:
            filler.close()
        self._fillers.clear()

    def _accept(self) -> None:
        assert self._socket is not None  # noqa: S101  its reader is removed before it closes
        try:
            sock, _ = self._socket.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._accepted(sock)
