"""What only the kernel knows of a client's connection, or can do to it."""

from __future__ import annotations

import asyncio
import socket
import struct

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST
_LEFT = (7, 8)  # states of a connection whose other side has reset or closed it, as Linux numbers them


def has_left(transport: asyncio.Transport) -> bool:
    """Whether the client has closed its side or reset the connection, seen without reading (Linux only, else False)."""
    sock = transport.get_extra_info("socket")
    if sock is None or not hasattr(socket, "TCP_INFO"):
        return False
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)
    except OSError:  # it is closed here, or no TCP
        return False
    return bool(info[0] in _LEFT)


def reset_on_close(transport: asyncio.Transport) -> None:
    """Let the end of this connection look like the accident that it is."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
