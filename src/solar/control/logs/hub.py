"""All logs in one place: lines are given here, and followed here, and neither side waits for the other."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence

import msgspec

from solar.control.logs.items import Contact, Key, Place
from solar.control.logs.log import Log
from solar.control.logs.reader import Reader
from solar.control.logs.wanted import Since, Wanted
from solar.wire.lines import Entry
from solar.wire.redact import masking


class Limits(msgspec.Struct, frozen=True):
    """How much is kept."""

    logs: int = 5000
    lines: int = 1000  # of one log: as many as agents keep
    characters: int = 1 << 20  # of one log
    bytes: int = 64 << 20  # of all logs, more or less
    gone_seconds: float = 600.0  # that the log of what is gone is kept


class LogHub:
    """The newest lines of each log, with numbers that go on over reconnects and restarts of whoever tells them.

    A log that nobody has spoken of begins with its first line. Where there is too much, the lines of a log go first
    that is read by nobody and was quiet for longest. One event loop uses it; `clock` counts seconds.
    """

    def __init__(self, limits: Limits = Limits(), clock: Callable[[], float] = time.monotonic) -> None:  # noqa: B008  # frozen
        self.on_followed: Callable[[Place], None] | None = None  # a log has its first reader
        self.on_left: Callable[[Place], None] | None = None  # a log has no reader any more
        self._limits = limits
        self._clock = clock
        self._logs: dict[Key, Log] = {}  # who was quiet for longest comes first
        self._gone: dict[Key, float] = {}  # since when, the oldest first
        self._readers: dict[Reader, None] = {}
        self._masking: dict[str, re.Pattern[str]] = {}  # by host: what finds its keys
        self._waiting: dict[Key, list[Entry]] = {}  # lines, of logs that are about to be filled
        self._cost = 0

    def __repr__(self) -> str:
        return f"<LogHub {len(self._logs)} logs, {len(self._readers)} readers, {self._cost} bytes>"

    def take(self, host_id: str, instance_id: str, entries: Sequence[Entry]) -> None:
        """Lines as an agent numbers them, in its order: a poll, a push, a replay. What is known is left out."""
        if not entries:
            return
        waiting = self._waiting.get(key := Key(host_id, instance_id))
        if waiting is None:
            self._take(key, entries)
            return
        waiting += entries
        if len(waiting) > self._limits.lines:
            self.fill(*key)

    def hold(self, host_id: str, instance_id: str) -> None:
        """What that log is told from now on waits until fill() has brought what was before."""
        self._waiting.setdefault(Key(host_id, instance_id), [])

    def fill(self, host_id: str, instance_id: str, entries: Sequence[Entry] = ()) -> None:
        """All lines that are held where that log is written; what has waited for them follows."""
        waiting = self._waiting.pop(key := Key(host_id, instance_id), ())
        for told in (entries, waiting):
            if told:
                self._take(key, told)

    def restarted(self, host_id: str, instance_id: str) -> None:
        """What that log tells next is counted anew, though its numbers may not show it."""
        if (log := self._logs.get(Key(host_id, instance_id))) is not None:
            log.restarted()

    def hide(self, host_id: str, secrets: Iterable[str]) -> None:
        """Let no line of that host show any of `secrets` from now on, whichever log it is in."""
        self._masking.pop(host_id, None)
        if (found := masking(secrets)) is not None:
            self._masking[host_id] = found

    def tell(self, place: Place) -> None:
        """There is such a log, of that name."""
        self._sweep()
        log = self._log(place.key)
        log.told = True
        self._gone.pop(place.key, None)
        if place != log.place:
            log.place = place
            for reader in self._readers:
                if reader.wanted.covers(place) != reader.reads(log):
                    (self._leave if reader.reads(log) else self._join)(reader, log)
        self._keep_within()

    def gone(self, host_id: str, instance_id: str) -> None:
        """What wrote that log is no more; what it wrote is kept for a while."""
        self._sweep()
        if (key := Key(host_id, instance_id)) in self._logs:
            self._gone.setdefault(key, self._clock())

    def follow(self, wanted: Wanted | None = None, since: Since | None = None) -> Reader:
        """A reader of what is wanted, also of logs that are told of later. Close it."""
        self._sweep()
        reader = Reader(wanted or Wanted(), since or Since(), self._closed)
        self._readers[reader] = None
        for log in tuple(self._logs.values()):
            if reader.wanted.covers(log.place):
                self._join(reader, log)
        return reader

    def contact(self, host_id: str, instance_id: str, trouble: str | None = None) -> None:
        """That log is followed where it is written, and its newest lines were taken; or it cannot be, and why."""
        log = self._logs.get(Key(host_id, instance_id))
        if log is not None and (log.contact is None or log.contact.trouble != trouble):
            log.contact = Contact(log.place, trouble)
            log.wake()

    def alone(self, host_id: str, instance_id: str) -> None:
        """That log is not followed any more: its next reader waits until it is again."""
        if (log := self._logs.get(Key(host_id, instance_id))) is not None:
            log.contact = None

    def has(self, host_id: str, instance_id: str) -> bool:
        """Whether there is such a log."""
        return Key(host_id, instance_id) in self._logs

    def holds(self, host_id: str, instance_id: str) -> bool:
        """Whether there is a line of that log."""
        log = self._logs.get(Key(host_id, instance_id))
        return log is not None and len(log.ring) > 0

    @property
    def places(self) -> tuple[Place, ...]:
        """All logs."""
        return tuple(log.place for log in self._logs.values())

    # Within

    def _take(self, key: Key, entries: Sequence[Entry]) -> None:
        log = self._log(key)
        before = log.cost
        log.take(entries, self._masking.get(key.host_id))
        self._cost += log.cost - before
        self._logs[key] = self._logs.pop(key)
        self._keep_within()

    def _log(self, key: Key) -> Log:
        log = self._logs.get(key)
        if log is None:
            log = self._logs[key] = Log(Place(*key), self._limits.lines, self._limits.characters)
            for reader in self._readers:
                if reader.wanted.covers(log.place):
                    self._join(reader, log)
        return log

    def _join(self, reader: Reader, log: Log) -> None:
        first = not log.readers
        reader.joins(log)
        if self.on_followed is None:
            self.contact(*log.place.key)
        elif first:
            self.on_followed(log.place)

    def _leave(self, reader: Reader, log: Log, *, lost: bool = False) -> None:
        reader.leaves(log, lost=lost)
        if not log.readers and self.on_left is not None:
            self.on_left(log.place)

    def _closed(self, reader: Reader) -> None:
        del self._readers[reader]
        for log in tuple(self._logs.values()):
            if reader.reads(log):
                self._leave(reader, log)

    def _forget(self, log: Log) -> None:
        del self._logs[log.place.key]
        self._gone.pop(log.place.key, None)
        self._cost -= log.cost
        for reader in tuple(log.readers):
            self._leave(reader, log, lost=True)

    def _sweep(self) -> None:
        while self._gone:
            key, since = next(iter(self._gone.items()))
            if self._clock() - since < self._limits.gone_seconds:
                return
            self._forget(self._logs[key])

    def _keep_within(self) -> None:
        while len(self._logs) > self._limits.logs:
            self._forget(min(self._logs.values(), key=self._worth))
        if self._cost <= self._limits.bytes:
            return
        *others, _ = self._logs.values()  # not the one that was told last
        known = list[Place]()
        for log in sorted((log for log in others if len(log.ring)), key=self._worth):
            if self._cost <= self._limits.bytes:
                break
            if log.readers:  # forgotten, it would be new to its source, and all of it be told again
                self._cost -= log.cost
                log.drop()
                continue
            if log.told and log.place.key not in self._gone:
                known.append(log.place)
            self._forget(log)
        for place in known:
            self.tell(place)

    def _worth(self, log: Log) -> tuple[bool, bool]:
        return bool(log.readers), log.told and log.place.key not in self._gone
