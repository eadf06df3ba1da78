"""The router: an ASGI application that wires the decisions of core to the edges. Start it with `async with`, or by
lifespan; mount it anywhere."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from solar.core.backend import Backend, Model
from solar.core.catalog import PrefixFallback
from solar.core.explain import Explanation, explain
from solar.core.member import Member
from solar.core.roster import Roster, RosterOptions
from solar.core.select import Policy, rank
from solar.discovery.base import BackendFound, BackendLost, BackendsListed, Change, Discoverer
from solar.discovery.follow import complaining, follow
from solar.edge.admission import Admission
from solar.edge.asgi import AsgiDoor, Receive, Scope, Send
from solar.edge.hooks import Hooks
from solar.edge.metrics import BackendView, Metrics, Snapshot
from solar.edge.pages import Pages
from solar.edge.prober import Prober
from solar.edge.reception import Reception
from solar.edge.relay import Relay, RelayOptions
from solar.edge.requestlog import RequestLog
from solar.edge.tasks import Tasks
from solar.edge.transport import Upstream
from solar.edge.upstream import FreshUpstream, HttpUpstream
from solar.errors import InvalidBackend, InvalidSettings

TICK = 0.25  # seconds between two looks at the clocks
FIRST_LOOK = 1.0  # seconds that a start waits for the first probes
_SESSION_PLACES = ("header", "user", "prompt_cache_key")


@dataclass(frozen=True, slots=True)
class BackendStatus:
    """One backend as the router sees it at this moment."""

    backend: Backend
    state: str  # healthy, suspect, loading, unknown, down, stalled, ejected, full or draining
    reason: str  # why it is not healthy, in human words
    type: str  # what the engine is, where it told
    models: tuple[Model, ...]
    in_flight: int


class Router(Hooks):
    """One OpenAI-compatible endpoint for many backends.

        router = Router(backends=[Backend("my-llm", "http://192.168.1.100:8000")])
        app = Starlette(routes=[Mount("/", router)], lifespan=router.lifespan)

    Every argument has a default that is right for most; docs/library.md explains each.
    """

    def __init__(
        self,
        backends: Iterable[Backend] = (),
        *,
        discoverers: Iterable[Discoverer] = (),
        default_backend: str | None = None,
        health_check_interval: float = 30.0,
        session_affinity: bool | Sequence[str] = False,
        prefix_fallback: PrefixFallback = "off",
        api_keys: Iterable[str] = (),
        logger: logging.Logger | None = None,
        upstream: Upstream | None = None,
        policy: Policy = rank,
        cors_origins: Sequence[str] = ("*",),
        allowed_hosts: Sequence[str] | None = None,
        queue_limit: int = 1000,
        queue_seconds: float = 60.0,
        hold_while_loading: bool = False,
        keepalive_seconds: float = 15.0,
        keepalive_while_waiting: bool = False,
        max_body: int = 128 * 1024 * 1024,
        max_buffered_bytes: int = 512 * 1024 * 1024,
        drain_seconds: float = 30.0,
    ) -> None:
        if health_check_interval <= 0:
            raise InvalidSettings(f"health_check_interval must be above 0 seconds; got {health_check_interval!r}")
        if prefix_fallback not in ("off", "unique", "first"):
            raise InvalidSettings(f"prefix_fallback must be 'off', 'unique' or 'first'; got {prefix_fallback!r}")
        if isinstance(api_keys, str):
            raise InvalidSettings("api_keys is a list of keys, not one string")
        whole = {"queue_limit": queue_limit, "max_body": max_body, "max_buffered_bytes": max_buffered_bytes}
        for name, number in whole.items():
            if not _is(int, number):
                raise InvalidSettings(f"{name} must be a whole number; got {number!r}")
        for name, seconds in {"queue_seconds": queue_seconds, "keepalive_seconds": keepalive_seconds}.items():
            if not _is((int, float), seconds):
                raise InvalidSettings(f"{name} must be a number of seconds; got {seconds!r}")
        super().__init__()
        self._log = logger if logger is not None else logging.getLogger("solar")
        self._sessions = _session_places(session_affinity)
        self._discoverers = tuple(discoverers)
        self._given_upstream = upstream
        self._drain_seconds = drain_seconds
        self._roster = Roster(
            RosterOptions(
                prefix_fallback=prefix_fallback,
                policy=policy,
                health_check_interval=health_check_interval,
                queue_limit=queue_limit,
                queue_seconds=queue_seconds,
                default_backend=default_backend,
            )
        )
        self._options = RelayOptions(
            hold_while_loading=bool(hold_while_loading),
            keepalive_seconds=keepalive_seconds,
            keepalive_while_waiting=bool(keepalive_while_waiting),
            max_body=max_body,
            max_buffered_bytes=max_buffered_bytes,
        )
        self._admission = Admission(api_keys=api_keys, cors_origins=cors_origins, allowed_hosts=allowed_hosts)
        self.metrics = Metrics(self._snapshot, lambda name: self._roster.catalog.resolve(name) is not None)
        self._request_log = RequestLog(self._log)
        self._running: _Running | None = None
        for backend in backends:
            if backend.id in self._roster.sources.effective():
                raise InvalidBackend(f"two backends are named {backend.id!r}; give each an id of its own")
            self._roster.sources.claim(backend)
        self._roster.sync()

    def __repr__(self) -> str:
        members = self._roster.members.values()
        now = time.monotonic()
        available = sum(member.why_not(now) is None for member in members)
        in_flight = sum(member.load.in_flight for member in members)
        return f"<Router {len(members)} backends ({available} available), {in_flight} in flight>"

    # --- starting and stopping

    async def start(self) -> None:
        """Begin to discover and probe; returns once everybody was heard of and asked once, or after a second."""
        if self._running is not None:
            return
        tasks = Tasks(self._log)
        own = HttpUpstream(tasks)
        upstream = self._given_upstream if self._given_upstream is not None else own
        relay = Relay(self._roster, upstream, self.metrics, self._options, self._log, self._request_log.closed, self)
        prober = Prober(relay, tasks, upstream if self._given_upstream is not None else FreshUpstream(own), self._log)
        pages = Pages(self._roster, self.metrics, started_at=int(time.time()))
        reception = Reception(relay, self._admission, pages, self._sessions)
        door = AsgiDoor(reception, tasks)
        self._running = running = _Running(relay, prober, reception, door, tasks, own)
        heard = []
        for discoverer in self._discoverers:
            heard.append(asyncio.Event())
            tasks.spawn(self._follow(discoverer, heard[-1]), f"discover {discoverer.name}")
        tasks.spawn(running.keep_time(), "clock")
        await running.first_look(heard)

    async def stop(self) -> None:
        """Take nothing new, let what is in flight finish within `drain_seconds`, then end the rest truthfully."""
        running = self._running
        if running is None or running.relay.stopping:
            return
        running.relay.stopping = True
        try:
            async with asyncio.timeout(self._drain_seconds):
                await running.relay.drained()
        except TimeoutError:
            running.relay.shut()
            await asyncio.sleep(0)  # let the doors write the last events
        finally:  # also where whoever stops us has lost patience: nothing may live on
            running.relay.shut()
            self._running = None
            await running.tasks.stop()
            await running.upstream.close()

    async def __aenter__(self) -> Router:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def lifespan(self, app: Any = None) -> AbstractAsyncContextManager[None]:
        """For `Starlette(lifespan=router.lifespan)` and FastAPI: starts with the application, stops with it."""
        del app
        return self._lifespan()

    @asynccontextmanager
    async def _lifespan(self) -> AsyncIterator[None]:
        async with self:
            yield

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        kind = scope["type"]
        if kind == "http":
            if self._running is None:
                raise RuntimeError(
                    "the router was not started: pass lifespan=router.lifespan to the application it is mounted in, "
                    "or use `async with router:`"
                )
            await self._running.door(scope, receive, send)
        elif kind == "lifespan":
            await self._serve_lifespan(receive, send)
        else:  # a WebSocket: there is none here yet
            await receive()
            await send({"type": "websocket.close", "code": 1000})

    async def _serve_lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self.start()
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return

    @property
    def reception(self) -> Reception:
        """Where requests arrive: for doors other than ASGI. Raises RuntimeError before the start and after the stop."""
        if self._running is None:
            raise RuntimeError("the router was not started")
        return self._running.reception

    # --- who is there

    @property
    def backends(self) -> tuple[BackendStatus, ...]:
        """The backends as they are now."""
        now = time.monotonic()
        return tuple(_status(member, now) for member in self._roster.members.values())

    def explain(self, model: str, session: str | None = None, path: str | None = None) -> Explanation:
        """Which backend a request for `model` would go to now, and why; what it would get if none can take it."""
        hold = self._options.hold_while_loading
        return explain(self._roster, model, session=session, path=path, hold_while_loading=hold, now=time.monotonic())

    async def add_backend(self, backend: Backend) -> None:
        """Route to `backend` too, or give a known one new facts; returns once it was probed, or after a second."""
        self._roster.sources.claim(backend)
        self._sync()
        if self._running is not None:
            await self._running.first_look()

    async def remove_backend(self, backend_id: str) -> None:
        """Send nothing new to a backend; what it has in flight is finished. Raises InvalidBackend if it is unknown."""
        claimants = self._roster.sources.claimants(backend_id)
        if not claimants:
            known = ", ".join(sorted(self._roster.members)) or "none"
            raise InvalidBackend(f"there is no backend {backend_id!r}; there are: {known}", status=404)
        for source in claimants:
            self._roster.sources.drop(source, backend_id)
        self._sync()

    def replace_backends(self, source: str, backends: Iterable[Backend]) -> None:
        """Make `backends` all that `source` names. Those that are unchanged keep what is known about them."""
        self._roster.sources.replace(source, backends)
        self._sync()

    def _sync(self) -> None:
        known = set(self._roster.members.values())
        left = self._roster.sync()
        for member in self._roster.members.values():
            if member not in known:
                backend = member.backend
                self._log.info("added backend=%s url=%s source=%s", backend.id, backend.url, backend.source)
        for member in left:
            if self._running is not None:
                self._running.upstream.forget(member.backend)
            self._log.info("removed backend=%s in_flight=%d", member.backend.id, member.load.in_flight)
        self._roster.changed()

    async def _follow(self, discoverer: Discoverer, heard: asyncio.Event) -> None:
        """Apply what a discoverer finds, for as long as the router runs. `heard` is set once it told anything."""
        complain = complaining(self._log, f"discoverer={discoverer.name}")

        def failed(error: Exception, pause: float) -> None:
            heard.set()
            complain(error, pause)

        async for change in follow(discoverer.watch, failed):
            self._apply(discoverer.name, change)
            heard.set()
        heard.set()  # it has ended: there is nothing to wait for

    def _apply(self, source: str, change: Change) -> None:
        match change:
            case BackendFound(backend):
                self._roster.sources.claim(_from(source, backend))
            case BackendLost(backend_id):
                self._roster.sources.drop(source, backend_id)
            case BackendsListed(backends):
                self._roster.sources.replace(source, [_from(source, backend) for backend in backends])
        self._sync()

    # --- the books

    def _snapshot(self) -> Snapshot:
        roster = self._roster
        now = time.monotonic()
        return Snapshot(
            backends=[
                BackendView(
                    id=member.backend.id,
                    host=member.load.host.id,
                    state=_status(member, now).state,
                    in_flight=member.load.in_flight,
                    models=len(member.models),
                )
                for member in roster.members.values()
            ],
            waiting=roster.room.by_model(),
            buffered_bytes=self._running.relay.buffered if self._running is not None else 0,
            open_exchanges=len(self._running.relay.open) if self._running is not None else 0,
            upstream_connections=self._running.upstream.connections if self._running is not None else 0,
        )


class _Running:
    """What lives between start and stop."""

    def __init__(
        self,
        relay: Relay,
        prober: Prober,
        reception: Reception,
        door: AsgiDoor,
        tasks: Tasks,
        upstream: HttpUpstream,
    ) -> None:
        self.relay = relay
        self.prober = prober
        self.reception = reception
        self.door = door
        self.tasks = tasks
        self.upstream = upstream

    async def keep_time(self) -> None:
        """The one clock that ticks for everybody."""
        while True:
            now = self.relay.clock()
            self.relay.tick(now)
            self.prober.tick(now)
            await asyncio.sleep(TICK)

    async def first_look(self, heard: Iterable[asyncio.Event] = ()) -> None:
        """Wait until discoverers have told what is there and all of it was asked once, but no longer than a second:
        the dead must not delay the living.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_LOOK):
                for one in heard:
                    await one.wait()
                self.prober.tick(self.relay.clock())
                await self.prober.all_asked(FIRST_LOOK)


def _status(member: Member, now: float) -> BackendStatus:
    state = member.why_not(now) or ("suspect" if member.stall.grade == "suspect" else member.health.state)
    reason = member.stall.stalled_reason or member.health.reason
    return BackendStatus(member.backend, state, reason, member.type, member.models, member.load.in_flight)


def _from(source: str, backend: Backend) -> Backend:
    return backend if backend.source == source else replace(backend, source=source)


def _is(kind: type | tuple[type, ...], value: object) -> bool:
    """Whether it is what it is annotated to be: compiled code would stumble over it later, far from its name."""
    return isinstance(value, kind)


def _session_places(chosen: bool | Sequence[str]) -> frozenset[str]:
    if chosen is True:
        return frozenset({"header"})
    places = frozenset(chosen or ())
    if unknown := places - frozenset(_SESSION_PLACES):
        raise InvalidSettings(f"session_affinity knows {', '.join(_SESSION_PLACES)}; got {', '.join(sorted(unknown))}")
    return places
