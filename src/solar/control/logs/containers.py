"""Where logs are written: the containers that discovery found. Docker keeps them, and numbers nothing."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Protocol, runtime_checkable

from solar.control.logs.feed import Feed
from solar.control.logs.hub import LogHub
from solar.control.logs.items import Key, Place
from solar.control.logs.settling import settle
from solar.core.backend import Backend
from solar.discovery.docker.logs import Written, moment
from solar.wire.lines import Entry, shortened

_PAUSES = (0.25, 2.0)  # seconds until a container that stopped is looked at again: the first, the longest
_REMEMBERED = 1000  # logs of which it is known how far they were read


@runtime_checkable
class Logged(Protocol):
    """A discoverer that can tell what its backends write; as DockerDiscoverer has it."""

    on_listed: Callable[[tuple[Backend, ...]], None] | None

    def container_of(self, backend_id: str) -> str | None: ...

    def log(self, backend_id: str, *, since: str | None = None) -> AsyncGenerator[list[Written], None]: ...


class ContainerLogs:
    """The logs of what `discoverer` finds, each by its backend's host and id."""

    def __init__(self, discoverer: Logged) -> None:
        self._discoverer = discoverer
        self._logs: dict[Key, _Reading] = {}
        self._listed: frozenset[Key] = frozenset()

    def __repr__(self) -> str:
        return f"<ContainerLogs of {self._discoverer!r}, {len(self._listed)} containers>"

    def begin(self, hub: LogHub) -> None:
        """Tell `hub` which logs there are, from now on."""

        def heard(backends: tuple[Backend, ...]) -> None:
            listed = {Key(_host(backend), backend.id): backend for backend in backends}
            for key in self._listed - listed.keys():
                hub.gone(*key)
            self._listed = frozenset(listed)
            for host_id in {key.host_id for key in listed}:
                hub.hide(host_id, [one.api_key or "" for key, one in listed.items() if key.host_id == host_id])
            for key, backend in listed.items():
                name = self._discoverer.container_of(backend.id) or ""
                hub.tell(Place(*key, host_name=key.host_id, alias=name))
                reading = self._logs.pop(key, None) or _Reading()
                self._logs[key] = reading
                if reading.feed is not None:
                    reading.feed.wake()
            while len(self._logs) > max(_REMEMBERED, len(listed)):
                del self._logs[next(iter(self._logs))]

        self._discoverer.on_listed = heard

    def has(self, key: Key) -> bool:
        """Whether that log is a container's."""
        return key in self._logs

    async def follow(self, feed: Feed) -> None:
        """Follow it through all its stops and starts. Raises DockerFailed."""
        reading = self._logs.setdefault(feed.key, _Reading())
        reading.feed = feed
        pause = _PAUSES[0]
        while True:
            feed.works = False
            await settle(self._entries(feed.key, reading), feed)
            feed.ill("its container has stopped")
            pause = _PAUSES[0] if feed.works else min(2 * pause, _PAUSES[1])
            await feed.rest(pause)

    async def _entries(self, key: Key, reading: _Reading) -> AsyncGenerator[Sequence[Entry], None]:
        reading.begin()
        async with aclosing(self._discoverer.log(key.instance_id, since=reading.at)) as pieces:
            async for lines in pieces:
                yield reading.read(lines)


class _Reading:
    """How far a log was read: Docker tells from a time on, and what was written at that time comes again."""

    __slots__ = ("_again", "_same", "_seq", "at", "feed")

    def __init__(self) -> None:
        self.feed: Feed | None = None  # who follows it, or did
        self.at: str | None = None  # the time of the last line
        self._same = 0  # lines that were read with that time
        self._again = 0  # of them those that are still to be told again
        self._seq = 0

    def begin(self) -> None:
        """It is told anew from `at` on."""
        self._again = self._same

    def read(self, lines: Sequence[Written]) -> list[Entry]:
        """What is new in `lines`."""
        entries = []
        for at, text in lines:
            if self._again and self.at is not None:
                order = _compare(at, self.at)
                if order <= 0:
                    self._again -= order == 0
                    continue
            self._same = self._same + 1 if at == self.at else 1
            self._again, self.at = 0, at or self.at
            entries.append(Entry(self._seq, at, shortened(text)))
            self._seq += 1
        return entries


def _compare(at: str, other: str) -> int:
    """Whether a time is before another (-1), the same (0), or after it; one that cannot be read is after."""
    one, two = moment(at), moment(other)
    return 1 if one is None or two is None else (one > two) - (one < two)


def _host(backend: Backend) -> str:
    return backend.host or "localhost"
