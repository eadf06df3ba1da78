"""One reader of logs, at its own pace: it has a place in each, and nothing is kept for it but what all can read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from heapq import merge
from operator import itemgetter
from types import TracebackType
from typing import Self

from solar.control.logs.items import Contact, Gap, Item, Key, LogLine, Place
from solar.control.logs.log import Log
from solar.control.logs.wanted import Since, Wanted, moment

_ALL = Since()


class _Seat:
    """Where a reader stands in one log."""

    __slots__ = ("contact", "next", "since")

    def __init__(self, since: Since) -> None:
        self.since: Since | None = since  # until it has begun: once it is known what is held
        self.next: int | None = None  # the number of its next line; None: whichever comes first
        self.contact: Contact | None = None  # the last that it was told


class Reader:
    """Gives in turn what is new in the logs that are wanted: all of it that there is at that moment, as a list.

        with hub.follow(wanted, since) as reader:
            async for items in reader: ...

    Each log's lines come with growing numbers; whatever is missing between two of them, or before the first, was told
    as a gap before. What several logs have at once comes in the order of their times.
    """

    def __init__(self, wanted: Wanted, since: Since, left: Callable[[Reader], None]) -> None:
        self.wanted = wanted
        self._since = since
        self._left = left
        self._seats: dict[Log, _Seat] = {}
        self._new: dict[Log, None] = {}  # where something is new, in the order in which it came
        self._lost: set[Key] = set()  # logs that were forgotten while it read them: what they become is all new
        self._gaps: list[Item] = []  # what it had not read of these
        self._woken = asyncio.Event()
        self._closed = False

    def __repr__(self) -> str:
        return f"<Reader of {len(self._seats)} logs, something new in {len(self._new)}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[Item]:
        """What is new, once something is."""
        while not self._closed:
            if items := self.take():
                return items
            self._woken.clear()
            await self._woken.wait()
        raise StopAsyncIteration

    @property
    def places(self) -> tuple[Place, ...]:
        """The logs that it reads now."""
        return tuple(log.place for log in self._seats)

    @property
    def unheard(self) -> tuple[Place, ...]:
        """The logs of which nobody knows yet what they hold: who writes them is being asked."""
        return tuple(log.place for log in self._seats if log.contact is None)

    async def heard(self) -> None:
        """Return once there are none of these."""
        while self.unheard:
            self._woken.clear()
            await self._woken.wait()

    def take(self) -> list[Item]:
        """What is new now, without waiting."""
        logs, self._new = list(self._new), {}
        gaps, self._gaps = self._gaps, []
        # Each log by itself is in order; only between logs the times decide.
        told = (self._told(log, self._seats[log]) for log in logs)
        return gaps + [item for _, item in merge(*told, key=itemgetter(0))]

    def close(self) -> None:
        """It reads no more."""
        if not self._closed:
            self._closed = True
            self._woken.set()
            self._left(self)

    # Called by the hub

    def joins(self, log: Log) -> None:
        """`log` is one that it wants."""
        self._seats[log] = _Seat(_ALL if log.place.key in self._lost else self._since)
        log.readers.add(self)
        self.wake(log)

    def leaves(self, log: Log, *, lost: bool = False) -> None:
        """`log` is no more, or not wanted any more."""
        log.readers.discard(self)
        seat = self._seats.pop(log)
        self._new.pop(log, None)
        if lost:
            self._lost.add(log.place.key)
            if seat.next is not None and seat.next <= log.ring.newest:
                self._gaps.append(Gap(log.place, log.ring.newest + 1 - seat.next))
                self._woken.set()

    def loses(self, log: Log) -> None:
        """The lines of `log` go for want of room: those that it has not begun to read are missed, too."""
        seat = self._seats[log]
        if seat.next is None and seat.since is None:
            seat.next = log.ring.oldest

    def reads(self, log: Log) -> bool:
        """Whether it has a place in `log`."""
        return log in self._seats

    def wake(self, log: Log) -> None:
        """Something is new in `log`."""
        seat, contact = self._seats[log], log.contact
        if seat.since is not None and contact is not None and (len(log.ring) or contact.trouble is None):
            number = seat.since.before(log.place.key, log.ring)
            seat.since = None
            seat.next = number + 1 if len(log.ring) else None
        self._new[log] = None
        self._woken.set()

    # Within

    def _told(self, log: Log, seat: _Seat) -> Iterator[tuple[float, Item]]:
        """What is new in one log, with times that never fall."""
        contact, at = log.contact, float("-inf")
        if contact is None:
            return  # what its source brings at first decides where the newest lines begin
        changed = contact is not seat.contact
        seat.contact = contact
        if changed and contact.trouble is None:
            yield at, Contact(log.place)
        for line in self._lines(log, seat):
            seen = moment(line.line.at) if isinstance(line, LogLine) else at
            at = max(at, seen) if seen != float("inf") else at
            yield at, line
        if changed and contact.trouble is not None:
            yield at, Contact(log.place, contact.trouble)

    def _lines(self, log: Log, seat: _Seat) -> Iterator[LogLine | Gap]:
        place, ring = log.place, log.ring
        if seat.since is not None:
            return
        lines = ring.since(-1 if seat.next is None else seat.next - 1).lines
        if seat.next is not None and seat.next > ring.newest:
            lines = ()
        for line in lines:
            if seat.next is not None and line.seq > seat.next:
                yield Gap(place, line.seq - seat.next)
            seat.next = line.seq + 1
            if self.wanted.admits(line):
                yield LogLine(place, line)
        if seat.next is not None and seat.next <= ring.newest:  # they went for want of room
            yield Gap(place, ring.newest + 1 - seat.next)
            seat.next = ring.newest + 1
