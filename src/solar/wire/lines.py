"""Log lines: as agents tell them, as we number them, and the ring that keeps the newest."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Mapping
from itertools import islice, takewhile
from typing import Literal, NamedTuple

from solar.wire.reading import Fields, Unreadable, decode, decode_object

Level = Literal["debug", "info", "warning", "error"]

MAX_TEXT = 16 * 1024  # characters of one line; what is longer is cut, and says so
_CUT = " [cut]"


class Entry(NamedTuple):
    """One line as an agent numbers it."""

    seq: int  # from 0, counted by the agent
    at: str  # ISO 8601, as the agent wrote it: with or without a zone; "" where it said nothing
    text: str


class Line(NamedTuple):
    """One line as we number it. A jump in the numbers of a log is a gap: lines that nobody has any more."""

    seq: int
    at: str
    text: str
    epoch: int = 0  # how often the agent began to count anew before it

    @property
    def level(self) -> Level:
        """How serious it is. It is found out for who asks: that costs more than all the rest of a line."""
        return level_of(self.text)


# What programs write before or around their level. The first that matches counts, and only near a line's start.
_HEAD = 200
_LEVELS: tuple[tuple[re.Pattern[str], int], ...] = (
    # llama-server: a time and one letter.
    (re.compile(r"^[\d.]+ ([DIWE]) "), 1),
    # Lines that are JSON.
    (re.compile(r'"(?:level|levelname|severity|log_level)"\s*:\s*"([A-Za-z]+)"', re.IGNORECASE), 1),
    # In brackets.
    (re.compile(r"[\[<](trace|debug|info|warn|warning|error|critical|fatal)[\]>]", re.IGNORECASE), 1),
    # In capitals: vLLM, uvicorn, Python's logging.
    (re.compile(r"\b(TRACE|DEBUG|INFO|WARN|WARNING|ERROR|CRITICAL|FATAL)\b"), 1),
    # As the last of some labels, each with a colon.
    (re.compile(r"(?:^|: )(debug|info|warn|warning|error|fatal|critical|panic)(?::|\()", re.IGNORECASE), 1),
    # Python's exceptions.
    (re.compile(r"^(Traceback) \(|^[\w.]*(Error|Exception|Warning)(?::|$)"), 0),
)
_WORDS: Mapping[str, Level] = {
    "d": "debug",
    "trace": "debug",
    "debug": "debug",
    "w": "warning",
    "warn": "warning",
    "warning": "warning",
    "e": "error",
    "err": "error",
    "error": "error",
    "critical": "error",
    "fatal": "error",
    "panic": "error",
    "exception": "error",
    "traceback": "error",
}


def level_of(text: str) -> Level:
    """How serious a line is, by what llama-server, vLLM, Python and most others write; info where nothing tells."""
    head = text[:_HEAD]
    for pattern, group in _LEVELS:
        if found := pattern.search(head):
            word = found.group(group) if group else next(word for word in found.groups() if word)
            return _WORDS.get(word.lower(), "info")
    return "info"


def entry_of(record: Mapping[str, object], *, at: str = "") -> Entry | None:
    """The line that an object tells, or None where it has no number or no text. `at` is its time if it says none."""
    fields = Fields(record, "the line")
    seq, text = fields.whole("seq"), fields.text("line")
    if seq is None or text is None:
        return None
    return Entry(seq, fields.text("timestamp") or at, shortened(text))


def shortened(text: str) -> str:
    """A line's text, cut where it is too long."""
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - len(_CUT)] + _CUT


def entries_of(records: Iterable[object]) -> tuple[Entry, ...]:
    """The lines of a list; what is no line is left out, and its number is a gap then."""
    found = (entry_of(record) for record in records if isinstance(record, dict))
    return tuple(entry for entry in found if entry is not None)


def read_entries(body: bytes) -> tuple[Entry, ...]:
    """The answer of GET /instances/{id}/logs: what the agent's ring holds, oldest first. Raises Unreadable."""
    value = decode(body)
    if not isinstance(value, list):
        raise Unreadable("a list of log lines was expected")
    return entries_of(value)


def read_entry(frame: bytes | str) -> Entry:
    """One frame of v1's log stream. Raises Unreadable, with the agent's own words where it refuses."""
    record = decode_object(frame)
    found = entry_of(record)
    if found is None:
        refused = record.get("error")
        raise Unreadable(refused if isinstance(refused, str) else "a log line was expected")
    return found


class Replay(NamedTuple):
    """What a reader has not seen yet."""

    missed: int  # lines that came after the reader's last, and are held no more
    lines: tuple[Line, ...]


class Ring:
    """The newest lines of one log, bounded by their number and their size.

    `since(seq)` is everything after the reader's last line. Numbers grow; where they jump, lines are missing.
    """

    __slots__ = ("_held", "_max_characters", "_max_lines", "characters", "newest")

    def __init__(self, max_lines: int = 1000, max_characters: int = 1 << 20) -> None:
        self._held: deque[Line] = deque()
        self._max_lines = max_lines
        self._max_characters = max_characters
        self.characters = 0  # of all lines that it holds
        self.newest = -1  # the number of the last line; -1 before the first

    def __repr__(self) -> str:
        return f"<Ring {len(self._held)} lines up to {self.newest}, {self.characters} characters>"

    def __len__(self) -> int:
        return len(self._held)

    def add(self, line: Line) -> None:
        """Keeps `line`, and lets the oldest go where it is too much. Its number must be above all others'."""
        if line.seq <= self.newest:
            raise ValueError(f"line {line.seq} comes after line {self.newest}")
        self._held.append(line)
        self.characters += len(line.text)
        self.newest = line.seq
        while len(self._held) > self._max_lines or (self.characters > self._max_characters and len(self._held) > 1):
            self.characters -= len(self._held.popleft().text)

    @property
    def oldest(self) -> int | None:
        """The number of the first line that is held."""
        return self._held[0].seq if self._held else None

    def drop(self) -> None:
        """Let all lines go; the numbers go on."""
        self._held.clear()
        self.characters = 0

    def since(self, seq: int = -1) -> Replay:
        """The lines after number `seq`. A reader with a number that was never given out here gets everything."""
        if not self._held:
            return Replay(0, ())
        oldest = self._held[0].seq
        if seq > self.newest:
            seq = oldest - 1
        newer = sum(1 for _ in takewhile(lambda line: line.seq > seq, reversed(self._held)))
        return Replay(max(0, oldest - 1 - seq), tuple(islice(self._held, len(self._held) - newer, None)))
