"""One WebSocket as uvicorn speaks it, but that no client can hold up the end. Loaded when the first one is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent

GOING_AWAY = 1001
LEAVE_SECONDS = 2.0  # that a client has to take what it is owed, and to say goodbye


class Socket(WebSocketsSansIOProtocol):
    """Its pings find out who is gone, or does not read; closing alone would wait for those for ever."""

    def tick(self, now: float) -> None:
        """What the front door asks of all connections: the pings have clocks of their own."""

    def shutdown(self) -> None:
        """The server stops: say so, and leave."""
        if self.handshake_complete and not (self.close_sent or self.disconnected):
            self.stop_keepalive()
            self.queue.put_nowait({"type": "websocket.disconnect", "code": GOING_AWAY, "reason": ""})
            self.conn.send_close(GOING_AWAY, "the gateway stops")
            self.transport.write(b"".join(self.conn.data_to_send()))
            if self.read_paused:  # or the client's goodbye would not be seen
                self.read_paused = False
                self.transport.resume_reading()
            self.close_timer = self.loop.call_later(LEAVE_SECONDS, self.transport.abort)
            return
        super().shutdown()
        self.loop.call_later(LEAVE_SECONDS, self.transport.abort)

    async def send(self, message: ASGISendEvent) -> None:
        """ASGI's send."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body":  # uvicorn would complain that no handshake was made
            self.handshake_complete = True

    def keepalive_timeout(self) -> None:
        """It answers no pings."""
        super().keepalive_timeout()
        self.loop.call_later(LEAVE_SECONDS, self.transport.abort)
