"""A connection that asks for WebSocket, handed over to the protocol that speaks it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from solar.core.paths import locate
from solar.edge.incoming import Incoming, refusal_of

if TYPE_CHECKING:
    from solar.edge.frontdoor import FrontDoor


def hand_over(door: FrontDoor, incoming: Incoming, rest: bytes) -> bool:
    """Whether the connection has another protocol now; `rest` is what came behind the head.

    It keeps ours where what is asked for is not WebSocket, or at a path of the router: that wish is then passed over.
    """
    hall, transport = door.hall, door.transport
    if hall.websocket is None or door.full or not _is_plain_wish(incoming):
        return False
    if locate(incoming.place()[0]).kind != "unknown":
        return False
    hall.outbox.hand_over(transport)  # the end of the answer before
    hall.leave(door)
    door.forget_parser()
    protocol = hall.websocket()
    protocol.connection_made(transport)
    transport.set_protocol(protocol)
    protocol.data_received(incoming.written(incoming.headers) + rest)
    return True


def _is_plain_wish(incoming: Incoming) -> bool:
    """Whether nobody on the way could read it as a request of another kind."""
    wishes = [value.lower() for name, value in incoming.headers if name == b"upgrade"]
    bodied = any(name in (b"content-length", b"transfer-encoding") for name, _ in incoming.headers)
    plain = (incoming.method, incoming.version) == ("GET", "1.1") and not bodied
    return wishes == [b"websocket"] and plain and refusal_of(incoming) is None
