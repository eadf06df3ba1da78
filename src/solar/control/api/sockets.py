"""Every WebSocket of the gateway, once, and the token that opens one in a browser."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import msgspec
from starlette.websockets import WebSocket

from solar.control.api.asking import Answer, Asked, Desk, Operation, told
from solar.control.api.links import host_channel, socket_io
from solar.control.api.logs import all_logs, one_log
from solar.control.api.watching import events, routing, status
from solar.control.tokens import LIVES

Handler = Callable[[Desk, WebSocket], Awaitable[None]]

# A handler accepts its socket, receives from it for as long as it lives (pings are answered by whoever receives), and
# ends when the client has left. What stands in the place of {host_id} is in `socket.path_params`. Who called has shown
# the key, but for LINKS in control/entrance.py.
SOCKETS: dict[str, Handler] = {
    "/ws/status": status,
    "/ws/routing": routing,
    "/ws/events": events,
    "/ws/logs": all_logs,
    "/ws/logs/{host_id}/{instance_id}": one_log,
    "/ws/host-channel": host_channel,
    "/socket.io": socket_io,
}


class SocketToken(msgspec.Struct, frozen=True):
    """What stands behind `?token=` when a WebSocket is opened: once, and soon."""

    token: str
    expires_in: float  # seconds


async def _make_token(desk: Desk, asked: Asked) -> Answer:
    del asked
    return told(SocketToken(desk.tokens.make(time.monotonic()), LIVES))


OPERATIONS = (
    Operation("POST", "/ws/token", "A token that opens one WebSocket within a minute", _make_token, SocketToken),
)
