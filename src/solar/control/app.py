"""The composition root of the gateway: from a configuration to a router that serves."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import resource
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TextIO

from solar.control.api.asking import Desk
from solar.control.certificate import Renewable
from solar.control.configuration import Configuration, load
from solar.control.discovery import finders
from solar.control.door import Application
from solar.control.fleet import Fleet
from solar.control.frames import HostFrames, RoutingFrames
from solar.control.gateway import Gateway, with_lifespan
from solar.control.heap import keep_what_is_freed
from solar.control.keys import Access, access
from solar.control.links import Links
from solar.control.listen import listen
from solar.control.logs import LogHub
from solar.control.logs.origins import origins
from solar.control.logs.sources import Sources
from solar.control.records import Places, Records, rows_of
from solar.control.reload import FileWatch
from solar.control.server import Server
from solar.control.settings import Settings
from solar.control.watchers import Watchers
from solar.control.words import Source
from solar.discovery.base import Discoverer
from solar.edge.linewriter import BatchedLines
from solar.edge.tasks import Tasks
from solar.router import Router
from solar.store import Store

EVERYWHERE = "0.0.0.0"  # noqa: S104  # an address that may be reached from outside
FILES_WANTED = 65_536  # a stream takes two

_log = logging.getLogger("solar")


@dataclass(frozen=True, slots=True)
class Listening:
    """What a gateway says when it is ready."""

    url: str  # as a client on this machine reaches it
    everywhere: bool  # other machines reach it too, on every address of this one
    backends: int
    discover: tuple[Source, ...]  # where it looks for more
    access: Access


def serve(configuration: Configuration, greet: Callable[[Listening], None]) -> int:
    """Serve until told to stop; returns the exit status. Raises SolarError when it cannot start.

    `greet` is called once it answers.
    """
    settings = configuration.settings
    log_to(sys.stderr, settings)
    with contextlib.ExitStack() as held:
        sockets = listen(settings.host, settings.port, reuse_port=settings.reuse_port)
        for sock in sockets:
            held.enter_context(sock)
        addresses = [sock.getsockname()[0] for sock in sockets]
        admitted = access(settings.api_keys, settings.allowed_hosts, addresses, Path(settings.data_dir))
        gateway = make_gateway(configuration, admitted, sockets[0].getsockname()[1])
        router = gateway.router
        _warn(configuration, admitted)
        keep_what_is_freed()
        gc.freeze()  # what is loaded by now stays: let the collector look at what requests make, and not so often
        gc.set_threshold(10_000, 20, 50)
        allow_files(FILES_WANTED)
        url = url_of(sockets[0], tls=configuration.certificate is not None)

        def ready() -> None:
            greet(Listening(url, everywhere(sockets), len(router.backends), configuration.discover, admitted))

        return _serve(_run(configuration, gateway, sockets, ready))


def _serve(running: Coroutine[Any, Any, int]) -> int:
    with (
        contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError),
        asyncio.Runner(loop_factory=loop_factory()) as runner,
    ):
        return runner.run(running)
    return 130


def log_to(stream: TextIO, settings: Settings) -> None:
    """Send every line of this process to `stream`; of other packages only what is a warning at least."""
    # No line of ours names its thread or process, and finding them out costs a tenth of a request's time.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.basicConfig(handlers=[BatchedLines(stream, settings.log_format)], level=logging.WARNING)
    _log.setLevel(settings.log_level.upper())


def make_gateway(configuration: Configuration, admitted: Access, port: int) -> Gateway:
    """The gateway that a configuration describes, behind our own `port`. Raises MissingExtra."""
    settings = configuration.settings
    days = settings.request_log_days
    places = Places()
    store = Store(
        Path(settings.data_dir),
        log=_log,
        retention_days=float(days),
        bytes_kept=settings.request_log_bytes,
        rows_of=partial(rows_of, places),
    )
    fleet = Fleet(store, log=_log)
    found = finders(configuration, not_ports=(port,))
    router = make_router(configuration, admitted, found)
    fleet.on_change.append(places.changed)
    if days:
        router.on_record = Records(store).book
    watchers = Watchers()
    fleet.on_change.append(HostFrames(watchers).changed)
    RoutingFrames(router, watchers, places)
    logs = LogHub()
    sources = Sources(logs, fleet, origins(found, logging.getLogger().handlers))
    desk = Desk(fleet, store, router, Links(fleet, lines=logs, watchers=watchers, log=_log), watchers, logs)
    beside = (sources.run, partial(_advise, configuration, fleet))
    return Gateway(router, desk, admitted, trusted=settings.allowed_hosts, beside=beside)


def make_router(configuration: Configuration, admitted: Access, found: Iterable[Discoverer]) -> Router:
    """The router that a configuration describes, over what is `found`."""
    settings = configuration.settings
    return Router(
        configuration.backends,
        discoverers=found,
        default_backend=settings.default_backend,
        health_check_interval=settings.health_check_interval,
        session_affinity=settings.session_affinity,
        prefix_fallback=settings.prefix_fallback,
        api_keys=admitted.keys,
        logger=_log,
        cors_origins=settings.cors_origins,
        allowed_hosts=admitted.hosts,
        queue_limit=settings.queue_limit,
        queue_seconds=settings.queue_seconds,
        hold_while_loading=settings.hold_while_loading,
        keepalive_seconds=settings.keepalive_seconds,
        keepalive_while_waiting=settings.keepalive_while_waiting,
        max_body=settings.max_body,
        max_buffered_bytes=settings.max_buffered_bytes,
        drain_seconds=settings.drain_seconds,
    )


def application() -> Application:
    """The gateway for another server, told by the environment and the files here. Raises SolarError."""
    configuration = load({}, os.environ, Path())
    settings = configuration.settings
    log_to(sys.stderr, settings)
    admitted = access(settings.api_keys, settings.allowed_hosts, (EVERYWHERE,), Path(settings.data_dir))
    gateway = make_gateway(configuration, admitted, settings.port)
    _warn(configuration, admitted)
    if admitted.kept is not None:
        _log.info("key in=%s", admitted.kept.path)

    async def live() -> AsyncIterator[None]:
        tasks = Tasks(_log)
        await gateway.router.start()
        gateway.begin()
        tasks.spawn(follow_files(configuration, gateway.router).run(), "follow the files")
        yield
        await gateway.router.stop()
        await tasks.stop()
        await gateway.end()

    return with_lifespan(gateway, live)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's loop where it is installed, else None: asyncio's own."""
    try:
        import uvloop
    except ModuleNotFoundError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def allow_files(wanted: int) -> int:
    """Raise the limit on open files, as far as the machine allows, to `wanted`; returns what it is then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    with contextlib.suppress(ValueError, OSError):  # some systems refuse below the limit that they name
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


async def _run(
    configuration: Configuration, gateway: Gateway, sockets: list[socket.socket], on_ready: Callable[[], None]
) -> int:
    tls = Renewable(configuration.certificate.context) if configuration.certificate else None
    watch = follow_files(configuration, gateway.router, tls)

    def ready() -> None:
        gateway.begin()
        on_ready()

    settings = configuration.settings
    server = Server(
        gateway.router,
        gateway,
        door=settings.door,
        tls=tls,
        drain_seconds=settings.drain_seconds,
        on_ready=ready,
        on_hangup=watch.ask,
    )
    tasks = Tasks(_log)
    tasks.spawn(watch.run(), "follow the files")
    try:
        await server.serve(sockets)
    finally:
        await tasks.stop()
        await gateway.end()
    return 0


def follow_files(configuration: Configuration, router: Router, tls: Renewable | None = None) -> FileWatch:
    """What brings the files' changes to a running router, once somebody runs it."""

    def apply(fresh: Configuration) -> None:
        router.replace_backends("static", fresh.backends)
        if tls is not None and fresh.certificate is not None:
            tls.current = fresh.certificate.context

    return FileWatch(configuration, apply, _log)


def _warn(configuration: Configuration, admitted: Access) -> None:
    """What the owner should know, and need not be stopped for."""
    for warning in configuration.warnings:
        _log.warning("%s", warning)
    kept = admitted.kept
    if kept is not None and kept.set_aside is not None:
        _log.warning("the key file was damaged: it is kept as %s, and a new key was made", kept.set_aside)


async def _advise(configuration: Configuration, fleet: Fleet) -> None:
    """Say so where nothing is there to route to, once it is known that there are no hosts."""
    if configuration.backends or configuration.discover:
        return
    await fleet.ready()
    if not fleet.hosts():
        _log.warning(
            "there is no backend to route to; let them be found with --discover local or --discover docker, "
            "name one with --backend NAME=URL or in solar.toml, or register a host with `solar hosts add`"
        )


def everywhere(sockets: list[socket.socket]) -> bool:
    """Whether one of `sockets` takes connections on every address of this machine."""
    return any(ip_address(sock.getsockname()[0].partition("%")[0]).is_unspecified for sock in sockets)


def url_of(sock: socket.socket, *, tls: bool) -> str:
    """How a client on this machine reaches `sock`."""
    address, port = sock.getsockname()[:2]
    parsed = ip_address(address.partition("%")[0])
    if parsed.is_unspecified:
        address = "127.0.0.1" if parsed.version == 4 else "::1"
    scheme = "https" if tls else "http"
    return f"{scheme}://[{address}]:{port}" if ":" in address else f"{scheme}://{address}:{port}"
