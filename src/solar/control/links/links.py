"""`Links`: what all links share. Who registers, whom they speak for, and who hears what they say."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol

from solar.control.fleet import Fleet
from solar.control.fleet.fleet import PATIENCE
from solar.control.fleet.hosts import HostWatch, Link
from solar.control.links.limits import ALL_BURST, ALL_BYTES_PER_SECOND, Allowance, Anteroom, Seldom
from solar.errors import InvalidRequest
from solar.store.facts import iso
from solar.wire.channel import PASSED_ON, passed_on
from solar.wire.lines import Entry
from solar.wire.messages import Ack, FromAgent, LogFrame
from solar.wire.redact import redact

if TYPE_CHECKING:
    from solar.control.links.socketlinks import SocketLinks


class Lines(Protocol):
    """Who keeps log lines."""

    def take(self, host_id: str, instance_id: str, entries: Sequence[Entry]) -> None:
        """Lines of one instance, as its agent numbers them. It never waits."""
        ...


class Watchers(Protocol):
    """Who watches what happens."""

    def wants(self, kinds: Iterable[str]) -> bool:
        """Whether somebody wants frames of one of these kinds."""
        ...

    def tell(self, kind: str, frame: bytes) -> None:
        """It never waits."""
        ...


class Nobody:
    """In place of those who are not there."""

    def wants(self, kinds: Iterable[str]) -> bool:
        """Nobody wants any."""
        return False

    def take(self, host_id: str, instance_id: str, entries: Sequence[Entry]) -> None:
        """Nothing is kept."""

    def tell(self, kind: str, frame: bytes) -> None:
        """Nothing is heard."""


_NOBODY = Nobody()


class Links:
    """The door of the fleet's agents, and the way of what they say: to their host, to the logs, to who watches."""

    def __init__(
        self,
        fleet: Fleet,
        *,
        lines: Lines = _NOBODY,
        watchers: Watchers = _NOBODY,
        log: logging.Logger,
    ) -> None:
        self.log = log
        self._fleet = fleet
        self._lines = lines
        self._watchers = watchers
        self._anteroom = Anteroom()
        self._all = Allowance(ALL_BYTES_PER_SECOND, ALL_BURST)
        self._seldom = Seldom()
        self._socketio: SocketLinks | None = None
        self._loading = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<Links of {self._fleet!r}>"

    def knocking(self, address: str) -> AbstractContextManager[None]:
        """While somebody from `address` registers. Raises NotRegistered where too many do."""
        return self._anteroom.entered(address)

    def allowance(self) -> Allowance:
        """How much one more link may say."""
        return Allowance(shared=self._all)

    async def whose(self, api_key: str, called: str | None) -> HostWatch:
        """The host of an agent; right after the start, once the hosts were read. Raises NotRegistered, with what to
        tell it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await self._fleet.ready()
        return self._fleet.whose(api_key, called)

    async def socketio(self) -> SocketLinks:
        """The door of the fork's agents, loaded when the first one knocks. Raises InvalidRequest without its extra."""
        if find_spec("socketio") is None:
            if self._seldom.admits("socketio", time.monotonic()):
                self.log.warning(
                    "an agent knocks by Socket.IO and is not heard, so its host is asked again and again instead; "
                    "the extra 'socketio' serves it: pip install '.[socketio]'"
                )
            raise InvalidRequest(
                "this gateway speaks no Socket.IO: it has no python-socketio, which is in the extra 'socketio'",
                status=404,
                code="no_socketio",
            )
        async with self._loading:
            if self._socketio is None:
                loaded = await asyncio.to_thread(import_module, "solar.control.links.socketlinks")
                self._socketio = loaded.SocketLinks(self)
        return self._socketio

    def refused(self, address: str, why: str) -> None:
        """Say that somebody was not let in, once a minute."""
        if self._seldom.admits(address, time.monotonic()):
            self.log.warning("link from=%s refused: %s", address, why)

    def garbled(self, watch: HostWatch, why: str) -> None:
        """Say that a link says what cannot be read, once a minute."""
        if self._seldom.admits(watch.host.id, time.monotonic()):
            self.log.warning("host=%s its link says what cannot be read: %s", watch.host.id, why)

    def taken(self, watch: HostWatch, link: Link, message: FromAgent) -> bool:
        """What `link` said goes where it is wanted. False: it speaks for nobody any more."""
        if not watch.heard(link, message):
            return False
        host = watch.host
        if isinstance(message, LogFrame):
            self._lines.take(host.id, message.instance_id, message.entries)
        if self._watchers.wants(PASSED_ON):
            for kind, frame in passed_on(message, host.id, host.name):
                self._watchers.tell(kind, redact(frame, watch.secrets))
        return True


def acknowledged(watch: HostWatch) -> Ack:
    """What an agent hears that was let in."""
    return Ack(watch.host.id, watch.host.name, iso(int(time.time() * 1000)))
