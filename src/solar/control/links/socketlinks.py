"""The links of the fork's agents, by Socket.IO. Nobody else imports python-socketio: load this at the first knock."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import socketio

from solar.control.fleet.hosts import HostWatch
from solar.control.links.conversation import Conversation, Over
from solar.control.links.limits import Allowance, Seldom
from solar.control.links.links import Links
from solar.edge.asgi import Message, Receive, Scope, Send
from solar.edge.tasks import Tasks
from solar.wire.channel import INVALID, MAX_FRAME, REGISTRATION_SECONDS, NotRegistered
from solar.wire.messages import FromAgent, InstancesUpdate
from solar.wire.reading import Unreadable
from solar.wire.socketevents import NAMESPACE, greeting, read_event, registration_of

BEFORE = 4  # frames, and bytes of each, of who has not shown a key: one of 200 bytes is enough
BEFORE_BYTES = 16 * 1024
_CONNECTED = f"40{NAMESPACE},"  # how the packet begins that lets an agent in
_KNOCK = "solar.knock"  # where a scope holds it
_CLOSED = {"type": "websocket.disconnect", "code": 1000}


class SocketLinks:
    """An ASGI application for WebSockets; requests are not for it."""

    def __init__(self, links: Links) -> None:
        self._links = links
        self._tasks = Tasks(links.log)
        self._knocks: dict[str, _Knock] = {}  # of those that are in, by Socket.IO's name for their session
        quiet = _quiet(links.log)
        server = self._server = socketio.AsyncServer(
            async_mode="asgi",
            async_handlers=False,  # one event after another: who says much has to wait
            namespaces=[NAMESPACE],  # and not the one that is there else
            transports=["websocket"],
            cors_allowed_origins=[],  # whoever comes from another origin was refused before
            max_http_buffer_size=MAX_FRAME,
            monitor_clients=False,  # each connection sees by itself that its agent is silent
            logger=quiet,
            engineio_logger=quiet,
        )
        server.on("connect", self._connect, namespace=NAMESPACE)
        server.on("disconnect", self._disconnect, namespace=NAMESPACE)
        server.on("*", self._event, namespace=NAMESPACE)

    def __repr__(self) -> str:
        return f"<SocketLinks, {len(self._knocks)} agents>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection, until it ends. Raises NotRegistered where there are too many."""
        peer = scope.get("client")
        knock = _Knock(receive, send, peer[0] if peer else "", self._links.allowance())
        with knock.anteroom:
            knock.anteroom.enter_context(self._links.knocking(knock.address))
            try:
                await self._server.handle_request({**scope, _KNOCK: knock}, knock.receive, knock.send)
            finally:
                if knock.watch is not None:
                    knock.watch.unlinked(knock.agent)

    async def _connect(self, session: str, environ: dict[str, Any], auth: object) -> None:
        knock: _Knock = environ["asgi.scope"][_KNOCK]
        try:
            said = registration_of(auth)
            if said is None:
                raise NotRegistered(INVALID)
            watch = await self._links.whose(said.api_key, said.host_name)
        except NotRegistered as refusal:
            self._links.refused(knock.address, refusal.message)
            raise socketio.exceptions.ConnectionRefusedError(refusal.message) from None
        knock.agent.called = said.host_name
        knock.watch = watch
        knock.greet = lambda: self._tasks.spawn(self._greet(session, watch), f"greet {watch.host.id}")
        knock.anteroom.close()
        self._knocks[session] = knock
        watch.linked(knock.agent)

    async def _greet(self, session: str, watch: HostWatch) -> None:
        for event, told in greeting(watch.host.id, watch.host.name):
            await self._server.emit(event, told, to=session, namespace=NAMESPACE)

    async def _disconnect(self, session: str, reason: object) -> None:
        knock = self._knocks.pop(session, None)
        if knock is not None:
            knock.agent.end("it left")

    async def _event(self, event: str, session: str, *told: object) -> object:
        knock = self._knocks.get(session)
        if knock is not None and knock.watch is not None:
            try:
                for message in _messages(event, told[0] if told else None):
                    self._links.taken(knock.watch, knock.agent, message)
            except Unreadable as error:
                self._links.garbled(knock.watch, error.message)
        return self._server.not_handled  # so that nothing is acknowledged: who never reads would fill our memory


class _Knock:
    """One connection: what it may do before its agent has shown a key, and how it ends."""

    def __init__(self, receive: Receive, send: Send, address: str, allowance: Allowance) -> None:
        self.agent = Conversation(receive, send)
        self.address = address
        self.watch: HostWatch | None = None  # once the agent has shown a key
        self.anteroom = ExitStack()  # closed when it leaves that
        self.greet: Callable[[], object] | None = None  # what is done once it has heard that it is in
        self._receive, self._send = receive, send
        self._frames = 0
        self._until = time.monotonic() + REGISTRATION_SECONDS
        self._allowance = allowance

    async def receive(self) -> Message:
        """ASGI. What may not be said is the end."""
        if not self._frames:
            self._frames = 1
            return await self._receive()  # that it opened
        try:
            return await self._next()
        except (Over, TimeoutError):
            return _CLOSED

    async def _next(self) -> Message:
        before = self.watch is None
        frame = await self.agent.hear(max(0.0, self._until - time.monotonic()) if before else None)
        self._frames += 1
        if not isinstance(frame, str) or (before and (self._frames > BEFORE + 1 or len(frame) > BEFORE_BYTES)):
            return _CLOSED  # agents send no bytes
        pause = self._allowance.spend(len(frame), time.monotonic())
        if pause:
            await self.agent.rest(pause)
        return {"type": "websocket.receive", "text": frame}

    async def send(self, message: Message) -> None:
        """ASGI. Raises OSError where it is not read."""
        text = message.get("text") if message["type"] == "websocket.send" else None
        if text is None:
            await self._send(message)
            return
        try:
            await self.agent.say(text)
        except Over as over:
            raise ConnectionResetError(str(over)) from None
        if self.greet is not None and text.startswith(_CONNECTED):
            greet, self.greet = self.greet, None
            greet()


def _messages(event: str, told: object) -> tuple[FromAgent, ...]:
    """Raises Unreadable."""
    if event != "registration":
        return read_event(event, told)
    said = registration_of(told, "shown before")
    if said is None:
        raise Unreadable("the registration is no object")
    return (InstancesUpdate("", said.listing),)


def _quiet(log: logging.Logger) -> logging.Logger:
    """A logger for Socket.IO. What it says of each packet may hold keys; and anybody can make it complain."""
    quiet = log.getChild("socketio")
    quiet.setLevel(logging.WARNING)
    seldom = Seldom()
    quiet.filters[:] = [lambda record: seldom.admits(str(record.msg), time.monotonic())]
    return quiet
