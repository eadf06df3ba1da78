"""uvicorn, started and stopped our way: signals mean what people expect, and streams end before their sockets do."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import signal
import socket
import ssl
from collections.abc import Callable, Iterator

import uvicorn

from solar.control.door import Application, asgi_door, fits, front_door, open_socket
from solar.control.listen import BACKLOG
from solar.router import Router

MAX_FRAME = 4 * 1024 * 1024  # bytes of a WebSocket message: an agent may tell of thousands of instances at once
KEEP_ALIVE = 75  # seconds that an idle client may keep its connection
LEAVE_EVERY = 0.1  # seconds between two looks for clients that TLS waits for
AFTER_DRAIN = 5  # seconds that clients have to read the last events, once the router has ended their streams


def _end_reading(sock: socket.socket | None) -> None:
    """Let the next read find the end; what is on its way to the client still goes."""
    if sock is None:  # the connection is gone, and its protocol hears of it next
        return
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(sock.fileno())) as same:  # uvloop's cannot do it
        same.shutdown(socket.SHUT_RD)


def _is_news(record: logging.LogRecord) -> bool:
    """An answer without its end is how a router cuts a stream truthfully: its own line has said so, and why."""
    return record.msg != "ASGI callable returned without completing response."


class Server(uvicorn.Server):
    """Serves `router`, and `app` around it, until SIGINT or SIGTERM; a second one ends it at once.

    SIGHUP calls `on_hangup`.
    """

    def __init__(
        self,
        router: Router,
        app: Application,
        *,
        door: str,
        tls: ssl.SSLContext | None,
        drain_seconds: float,
        on_ready: Callable[[], None],
        on_hangup: Callable[[], None],
    ) -> None:
        if door == "front" and not fits(uvicorn.server.ServerState()):
            logging.getLogger("solar").warning(
                "uvicorn %s does not fit the front door: --door asgi", uvicorn.__version__
            )
            door = "asgi"
        super().__init__(
            uvicorn.Config(
                app,
                # What makes a protocol is as good as its class.
                http=front_door(router, app, tls=tls is not None) if door == "front" else asgi_door(),  # type: ignore[arg-type]
                ws=open_socket,  # type: ignore[arg-type]
                ws_max_size=MAX_FRAME,
                ws_per_message_deflate=False,  # it would take memory for each, and most are on the same network
                lifespan="off",  # the router is started and stopped below
                interface="asgi3",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=True,
                backlog=BACKLOG,
                timeout_keep_alive=KEEP_ALIVE,
                timeout_graceful_shutdown=math.ceil(drain_seconds) + AFTER_DRAIN,
            )
        )
        self.config.load()
        self.config.ssl = tls  # uvicorn would make one of two file names
        logging.getLogger("uvicorn.error").addFilter(_is_news)
        self._router = router
        self._drain_seconds = drain_seconds
        self._on_ready = on_ready
        self._on_hangup = on_hangup
        self._closed = False
        self._terminals = [number for number in (0, 1, 2) if os.isatty(number)]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await self._router.start()
        await super().startup(sockets)
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the door; meanwhile the router drains, and then ends what is left as its wire format asks."""
        in_flight = sum(backend.in_flight for backend in self._router.backends)
        said = "stopping in_flight=%d drain_seconds=%g hint='a second signal ends it at once'"
        logging.getLogger("solar").info(said, in_flight, self._drain_seconds)
        await asyncio.gather(self._close(sockets), self._router.stop(), self._take_leave())

    async def _close(self, sockets: list[socket.socket] | None) -> None:
        try:
            await super().shutdown(sockets)
        finally:
            self._closed = True

    async def _take_leave(self) -> None:
        """TLS is closed on both sides, but an idle client looks for that only before its next request.

        Once all is sent, go on as if it had closed its side.
        """
        while self.config.ssl is not None and not self._closed:
            await asyncio.sleep(LEAVE_EVERY)
            for connection in list(self.server_state.connections):
                transport = connection.transport
                if transport.is_closing() and not transport.get_write_buffer_size():
                    _end_reading(transport.get_extra_info("socket"))

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Unlike uvicorn's, the signals end here: a gateway that was told to stop, and did, exits with 0."""
        loop = asyncio.get_running_loop()
        serving = asyncio.current_task()
        assert serving is not None  # noqa: S101  # for the type checker: uvicorn serves in a task

        def stop() -> None:
            if self.should_exit:
                logging.getLogger(
                    "uvicorn.error"
                ).disabled = True  # what it would say of requests that are cut is no news
                serving.cancel()
            self.should_exit = True

        def hangup() -> None:
            if self._terminals and not any(os.isatty(number) for number in self._terminals):
                stop()  # its terminal was closed: nobody would know that it still runs
            else:
                self._on_hangup()

        handlers = {signal.SIGINT: stop, signal.SIGTERM: stop, signal.SIGHUP: hangup}
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        try:
            yield
        finally:
            for number in handlers:
                loop.remove_signal_handler(number)
