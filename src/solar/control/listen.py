"""Sockets to listen on: bound before anything starts, so that a port in use is one clear sentence."""

from __future__ import annotations

import contextlib
import errno
import socket

from solar.errors import InvalidSettings

BACKLOG = 2048  # connections that wait to be accepted
_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def listen(host: str, port: int, *, reuse_port: bool = False) -> list[socket.socket]:
    """Sockets bound to every address that `host` means, on the same port; 0 takes a free one.

    With `reuse_port` others that say so too may have the same one, and the kernel gives each new connection to one of
    them.

    Raises InvalidSettings.
    """
    if reuse_port and not hasattr(socket, "SO_REUSEPORT"):
        raise InvalidSettings("this platform has no SO_REUSEPORT: a port has one process; leave --reuse-port out")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        why = error.strerror if isinstance(error, socket.gaierror) else "it is no host name"
        raise InvalidSettings(f"cannot listen on {host}: {why}; write an address of this machine") from None
    bound: list[socket.socket] = []
    addresses = list(dict.fromkeys((family, address) for family, _, _, _, address in found))
    with contextlib.ExitStack() as undo:
        for number, (family, address) in enumerate(addresses, start=1):
            taken = bound[0].getsockname()[1] if bound else port
            try:
                where = (address[0], taken, *address[2:])
                sock = _bound(family, where, alone=len(addresses) == 1, reuse_port=reuse_port)
            except OSError as error:
                # `localhost` may name ::1 on a machine without IPv6.
                if error.errno in _NOT_HERE and (bound or number < len(addresses)):
                    continue
                raise InvalidSettings(_why_not(host, taken, error, reuse_port)) from None
            bound.append(undo.enter_context(sock))
        undo.pop_all()
    return bound


def _bound(family: int, address: tuple[object, ...], *, alone: bool, reuse_port: bool) -> socket.socket:
    # The protocol is named, for asyncio's own loop sends small parts at once only where it is.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # `--host ::` alone means every address, IPv4's too.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if alone else 1)
        sock.bind(address)
        sock.listen(BACKLOG)  # here, not later: of two that are bound only one may listen
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def _why_not(host: str, port: int, error: OSError, reuse_port: bool) -> str:
    if error.errno == errno.EADDRINUSE and reuse_port:
        return f"port {port} on {host} is in use by a process without --reuse-port, or of another user; end it"
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use; end what listens there, or choose another with --port"
    if error.errno == errno.EACCES:
        return f"port {port} needs rights that this user has not; choose one above 1023 with --port"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is no address of this machine; write one that is with --host (0.0.0.0 is all of them)"
    return f"cannot listen on {host} port {port}: {(error.strerror or str(error)).lower()}"
