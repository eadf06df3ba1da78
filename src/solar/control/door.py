"""The doors as uvicorn takes them: what makes the protocol of a connection, for its `http` setting."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from solar.edge.frontdoor import FrontDoor
from solar.edge.hall import Hall
from solar.edge.shortcut import Shortcut, Shortcuts
from solar.edge.shortcut import fits as fits_shortcut
from solar.edge.tasks import Tasks
from solar.router import Router

Application = Callable[..., Awaitable[None]]  # ASGI

_NEEDED = ("connections", "default_headers")


def front_door(router: Router, app: Application | None = None, *, tls: bool = False) -> Callable[..., FrontDoor]:
    """Makes the protocols that serve `router`, which must have been started when the first client connects.

    Paths that the router does not know are for `app`, if there is one; in WebSocket too.
    """
    halls: list[Hall] = []

    def enter(config: Any, server_state: Any, app_state: Any, _loop: Any = None) -> FrontDoor:
        """One connection; uvicorn makes them, with arguments of its own."""
        if not halls or halls[0].reception is not router.reception:  # it was stopped, and started again
            tasks = Tasks(logging.getLogger("solar"))
            speaks = partial(open_socket, config, server_state, app_state) if app is not None else None
            hall = Hall(router.reception, server_state, tasks, app or router, tls=tls, websocket=speaks)
            halls[:] = [hall]
        return FrontDoor(halls[0])

    return enter


def asgi_door() -> Callable[..., Any]:
    """Makes uvicorn's own protocols, with a shorter way beside each for requests whose heads it has read before.

    Where this uvicorn does not fit, or is told to do what only its protocol can, that one is alone.
    """
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    shared: list[Shortcuts] = []

    def enter(config: Any, server_state: Any, app_state: Any, _loop: Any = None) -> Any:
        """One connection; uvicorn makes them, with arguments of its own."""
        plain = HttpToolsProtocol(config, server_state, app_state, _loop)
        if not fits_shortcut(plain):
            return plain
        if not shared or shared[0].state is not server_state:
            shared[:] = [Shortcuts(server_state)]
        return Shortcut(shared[0], plain)

    return enter


def open_socket(config: Any, server_state: Any, app_state: Any, _loop: Any = None) -> asyncio.Protocol:
    """The protocol of a connection that asks for WebSocket, loaded when the first one does."""
    from solar.control.websocket import Socket

    return Socket(config, server_state, app_state, _loop)


def fits(state: object) -> bool:
    """Whether this uvicorn keeps what the front door needs of it."""
    return all(hasattr(state, name) for name in _NEEDED)
