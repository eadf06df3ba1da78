"""Where each log comes from: decided here, begun for its first reader, and ended a while after its last has left."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Literal

import msgspec

from solar.control.fleet import Fleet, HostView
from solar.control.fleet.calls import HostUnreachable, NoStream
from solar.control.fleet.hosts import HostWatch
from solar.control.fleet.view import What
from solar.control.logs.feed import Feed
from solar.control.logs.hub import LogHub
from solar.control.logs.items import Key, Place
from solar.control.logs.origins import Origin
from solar.control.logs.polling import Pages, path_of, poll
from solar.control.logs.streaming import stream
from solar.edge.tasks import Tasks
from solar.errors import SolarError
from solar.wire.dialects import Dialect
from solar.wire.lines import Entry

Way = Literal["push", "stream", "page"]

_MOST_POLLS = 25.0  # a second, of all logs together: each reads a whole ring
_FILL = 2.0  # seconds that pushed lines wait for those before them
_RARELY = 10.0  # times the usual pause: between two polls of what does not run
_WRITING = ("starting", "running", "stopping")

_log = logging.getLogger("solar")


class LogPace(msgspec.Struct, frozen=True):
    """Times of the sources, in seconds."""

    poll: float = 1.0  # between two looks at a page
    first: float = 0.5  # until a source that failed is begun again; then longer and longer
    longest: float = 30.0
    linger: float = 60.0  # that a source goes on without a reader


def ways(dialect: Dialect | None, *, connected: bool) -> tuple[Way, ...]:
    """How the logs of an agent reach us, the best way first: one that pushes them is not asked."""
    if connected and (dialect is None or {"channel", "socketio"} & set(dialect.logs)):
        return ("push",)
    asked: tuple[Way, ...] = ("stream", "page")
    return tuple(way for way in asked if dialect is not None and way in dialect.logs)


class Sources:
    """Brings to `hub` what its readers want: from the agents of `fleet`, and from `origins`.

    A log whose agent has a link open comes by that link, and is asked for once, for what was before: by its first
    reader, or when the link opens, if the log is known. Somebody must run() it.
    """

    def __init__(self, hub: LogHub, fleet: Fleet, origins: Sequence[Origin] = (), pace: LogPace | None = None) -> None:
        self._hub = hub
        self._fleet = fleet
        self._origins = origins
        self._pace = pace or LogPace()
        self._tasks = Tasks(_log)
        self._following: dict[Key, _Following] = {}
        self._told: dict[str, set[str]] = {}  # the instances of each host
        self._pages = Pages()
        self._filling: set[Key] = set()
        hub.on_followed = self._followed
        hub.on_left = self._left
        fleet.on_change.append(self._changed)
        for origin in origins:
            origin.begin(hub)

    def __repr__(self) -> str:
        return f"<Sources of {len(self._following)} logs>"

    async def run(self) -> None:
        """Until cancelled."""
        try:
            await asyncio.Event().wait()
        finally:
            for following in self._following.values():
                following.stay()
            await self._tasks.stop()

    # What the hub and the fleet tell

    def _followed(self, place: Place) -> None:
        following = self._following.get(place.key)
        if following is None:
            following = self._following[place.key] = _Following(Feed(self._hub, place.key))
            self._begin(following)
        following.stay()
        following.feed.again()

    def _left(self, place: Place) -> None:
        if (following := self._following.get(place.key)) is not None:
            loop = asyncio.get_running_loop()
            following.ending = loop.call_later(self._pace.linger, self._end, following)

    def _changed(self, what: What, view: HostView) -> None:
        """A host is, or has, something else now."""
        if what == "memory":
            return
        watch = self._fleet.watched(view.id)
        self._hub.hide(view.id, watch.secrets if watch is not None else ())
        told = set() if what == "removed" else {instance.id for instance in view.instances}
        for instance in view.instances if told else ():
            self._hub.tell(Place(view.id, instance.id, view.name, instance.alias))
        for gone in self._told.pop(view.id, set()) - told:
            self._hub.gone(view.id, gone)
        if told:
            self._told[view.id] = told
        if what == "link" and view.connected and watch is not None:
            for key in (Key(view.id, instance_id) for instance_id in told):
                if key in self._following or self._hub.holds(*key):
                    self._begin_to_fill(watch, key)
        for key, following in tuple(self._following.items()):
            if key.host_id == view.id:
                if following.how != self._how(key):
                    self._begin(following)
                elif what in ("status", "instances"):
                    following.feed.wake()

    # Within

    def _how(self, key: Key) -> object:
        """What decides from where a log comes: who that is, and in which ways."""
        watch = self._fleet.watched(key.host_id)
        if watch is not None:
            return watch, ways(watch.dialect, connected=watch.view.connected)
        return next((origin for origin in self._origins if origin.has(key)), None)

    def _begin(self, following: _Following) -> None:
        following.how = self._how(following.feed.key)
        if following.task is not None:
            following.task.cancel()
        name = "/".join(following.feed.key)
        following.task = self._tasks.spawn(self._keep_following(following.feed), f"log of {name}")

    def _end(self, following: _Following) -> None:
        del self._following[following.feed.key]
        self._hub.alone(*following.feed.key)
        if following.task is not None:
            following.task.cancel()

    async def _keep_following(self, feed: Feed) -> None:
        pause = self._pace.first
        while True:
            feed.works = False
            try:
                await self._follow(feed)
                trouble = "the log has ended there"
            except SolarError as error:
                trouble = error.message
            feed.ill(trouble)
            pause = self._pace.first if feed.works else min(2 * pause, self._pace.longest)
            await feed.rest(pause * random.uniform(0.9, 1.1))

    async def _follow(self, feed: Feed) -> None:
        if (watch := self._fleet.watched(feed.key.host_id)) is not None:
            await self._ask(watch, feed)
            return
        for origin in self._origins:
            if origin.has(feed.key):
                await origin.follow(feed)
                return
        raise HostUnreachable("nobody knows where this log is written any more")

    async def _ask(self, watch: HostWatch, feed: Feed) -> None:
        for way in ways(watch.dialect, connected=watch.view.connected):
            match way:
                case "push":
                    if feed.key not in self._filling and not self._hub.holds(*feed.key):
                        await asyncio.shield(self._begin_to_fill(watch, feed.key))
                    feed.well()
                    await asyncio.Event().wait()
                case "stream":
                    with suppress(NoStream):
                        await stream(watch.stream(path_of(feed.key)), feed)
                        return
                case "page":
                    await poll(self._pages, watch, feed, partial(self._until_next_poll, watch, feed.key))
        raise HostUnreachable(watch.reason or "its agent tells no logs")

    def _begin_to_fill(self, watch: HostWatch, key: Key) -> asyncio.Task[None]:
        self._hub.hold(*key)
        self._filling.add(key)
        return self._tasks.spawn(self._fill(watch, key), f"fill the log of {'/'.join(key)}")

    async def _fill(self, watch: HostWatch, key: Key) -> None:
        """Bring what an agent that pushes its lines has written before; many cannot be asked."""
        before: list[Entry] = []
        try:
            with suppress(SolarError, TimeoutError):
                async with asyncio.timeout(_FILL):
                    await self._pages.read(await self._pages.get(watch, key), before.extend)
        finally:
            self._filling.discard(key)
            self._hub.fill(*key, before)

    def _until_next_poll(self, watch: HostWatch, key: Key) -> float:
        pause = max(self._pace.poll, len(self._following) / _MOST_POLLS)
        status = next((instance.status for instance in watch.instances if instance.id == key.instance_id), "")
        return pause if status in _WRITING else pause * _RARELY


class _Following:
    """The source of one log."""

    __slots__ = ("ending", "feed", "how", "task")

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.how: object = None
        self.task: asyncio.Task[None] | None = None
        self.ending: asyncio.TimerHandle | None = None  # nobody reads it any more

    def stay(self) -> None:
        """Somebody reads it, or all is over."""
        if self.ending is not None:
            self.ending.cancel()
            self.ending = None
