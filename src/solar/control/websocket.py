"""One WebSocket as uvicorn speaks it, but that no client can hold up the end. Loaded when the first one is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent
    from websockets.frames import Frame

GOING_AWAY = 1001
MOST_PIECES = 1024  # of one message: its bytes are bounded, and pieces may be empty
LEAVE_SECONDS = 2.0  # that a client has to take what it is owed, and to say goodbye


class Socket(WebSocketsSansIOProtocol):
    """Its pings find out who is gone, or does not read; closing alone would wait for those for ever."""

    _closing_since: float | None = None

    def tick(self, now: float) -> None:
        """What the front door asks of all connections. The pings have clocks of their own; who is to be closed, and
        does not take what is left for it, is cut off."""
        if self.transport.is_closing():
            if self._closing_since is None:
                self._closing_since = now
            elif now - self._closing_since > LEAVE_SECONDS:
                self.transport.abort()

    def handle_cont(self, event: Frame) -> None:
        """One more piece of a message."""
        if len(self.frames) >= MOST_PIECES:
            self.transport.abort()
            return
        super().handle_cont(event)

    def handle_ping(self) -> None:
        """Answered to those who read."""
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()

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
