"""uvicorn, started and stopped our way: signals mean what people expect, and streams end before their sockets do."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from solar.control.door import fits, front_door
from solar.control.listen import BACKLOG
from solar.router import Router

KEEP_ALIVE = 75  # seconds that an idle client may keep its connection
AFTER_DRAIN = 5  # seconds that clients have to read the last events, once the router has ended their streams


def _is_news(record: logging.LogRecord) -> bool:
    """An answer without its end is how a router cuts a stream truthfully: its own line has said so, and why."""
    return record.msg != "ASGI callable returned without completing response."


class Server(uvicorn.Server):
    """Serves `router` until SIGINT or SIGTERM; a second one ends it at once. SIGHUP calls `on_hangup`."""

    def __init__(
        self,
        router: Router,
        *,
        door: str,
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
                router,
                http=front_door(router) if door == "front" else "httptools",
                ws="none",
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
        logging.getLogger("uvicorn.error").addFilter(_is_news)
        self._router = router
        self._drain_seconds = drain_seconds
        self._on_ready = on_ready
        self._on_hangup = on_hangup
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
        await asyncio.gather(super().shutdown(sockets), self._router.stop())

    @contextmanager
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
