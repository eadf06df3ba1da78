"""Which lines a reader wants, and from where on."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import get_args

import msgspec

from solar.control.logs.items import Key, Place
from solar.errors import InvalidRequest
from solar.wire.lines import Level, Line, Ring

LEVELS: tuple[Level, ...] = get_args(Level)  # the least serious first
REPLAYED = 100  # lines of each log, unless told


class Wanted(msgspec.Struct, frozen=True):
    """Which lines of which logs. What is empty filters nothing."""

    hosts: frozenset[str] = frozenset()  # ids or names
    instances: frozenset[str] = frozenset()  # ids
    aliases: frozenset[str] = frozenset()
    level: Level = "debug"  # at least
    text: str = ""  # that stands in the line, whatever the case

    def covers(self, place: Place) -> bool:
        """Whether the lines of that log may be wanted."""
        return (
            (not self.hosts or place.host_id in self.hosts or place.host_name in self.hosts)
            and (not self.instances or place.instance_id in self.instances)
            and (not self.aliases or place.alias in self.aliases)
        )

    def admits(self, line: Line) -> bool:
        """Whether a line of such a log is wanted."""
        if self.text and self.text.casefold() not in line.text.casefold():
            return False
        return self.level == LEVELS[0] or LEVELS.index(line.level) >= LEVELS.index(self.level)


class Since(msgspec.Struct, frozen=True):
    """From where on: for each log after a line's number, where one is known; else the newest lines, or those since a
    time.
    """

    numbers: Mapping[Key, int] = {}
    number: int | None = None  # for logs that `numbers` does not name
    at: float | None = None  # seconds since 1970
    replay: int | None = None  # so many of the newest lines; None: all that are held

    def before(self, key: Key, ring: Ring) -> int:
        """The number after which a reader begins."""
        number = self.numbers.get(key, self.number)
        if number is not None and number <= ring.newest:
            return max(number, -1)
        lines = ring.since().lines
        if self.at is not None:
            begun = next((place for place, line in enumerate(lines) if moment(line.at) >= self.at), len(lines))
            lines = lines[begun:]
        if self.replay is not None:
            lines = lines[max(0, len(lines) - self.replay) :]
        return lines[0].seq - 1 if lines else ring.newest


@lru_cache(maxsize=1024)
def moment(at: str) -> float:
    """A line's time in seconds since 1970. Without a zone it is taken for ours; one that cannot be read is always."""
    try:
        return datetime.fromisoformat(at).timestamp()
    except (ValueError, OverflowError, OSError):
        return float("inf")


def read_wanted(query: Mapping[str, str]) -> Wanted:
    """The filters of a query. Raises InvalidRequest."""
    level = query.get("level", "").strip().lower() or "debug"
    if level not in LEVELS:
        raise InvalidRequest(f"level must be one of {', '.join(LEVELS)}", param="level")
    return Wanted(
        hosts=_listed(query, "host"),
        instances=_listed(query, "instance"),
        aliases=_listed(query, "alias"),
        level=LEVELS[LEVELS.index(level)],
        text=query.get("text", ""),
    )


def read_since(query: Mapping[str, str], replay: int | None = REPLAYED) -> Since:
    """The beginning that a query names: `since` and `replay`. Raises InvalidRequest.

    `since` is a line's number, a time, or HOST_ID/INSTANCE_ID:NUMBER for each log, with commas between them.
    """
    if "replay" in query:
        replay = _whole(query["replay"], "replay")
    text = query.get("since", "").strip()
    if not text:
        return Since(replay=replay)
    if text.isascii() and text.isdecimal():
        return Since(number=_whole(text, "since"), replay=replay)
    if "/" in text:
        return Since(numbers=dict(_numbered(part.strip()) for part in text.split(",")), replay=replay)
    return Since(at=_time(text), replay=replay if "replay" in query else None)


def _listed(query: Mapping[str, str], name: str) -> frozenset[str]:
    return frozenset(part.strip() for part in query.get(name, "").split(",") if part.strip())


def _whole(text: str, name: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 16):
        raise InvalidRequest(f"{name} must be a whole number", param=name)
    return int(text)


def _numbered(part: str) -> tuple[Key, int]:
    log, _, number = part.rpartition(":")
    host_id, _, instance_id = log.partition("/")
    if not (host_id and instance_id):
        raise InvalidRequest("since must be a number, a time, or HOST_ID/INSTANCE_ID:NUMBER,...", param="since")
    return Key(host_id, instance_id), _whole(number, "since")


def _time(text: str) -> float:
    try:
        read = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)  # a + that nobody encoded
        return (read if read.tzinfo is not None else read.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        example = "a number, a time such as 2026-11-22T04:05:06Z, or HOST_ID/INSTANCE_ID:NUMBER,..."
        raise InvalidRequest(f"since must be {example}", param="since") from None
