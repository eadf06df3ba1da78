"""What a container wrote, as a Docker Engine tells it: two streams in frames, or the one of a terminal."""

from __future__ import annotations

import re
from datetime import datetime
from typing import NamedTuple

LONGEST = 64 * 1024  # bytes of one line; the rest of a longer one is left out
_HEADER = 8  # bytes before each frame: which stream, three zeros, the length
_MOST = 1024 * 1024  # bytes of a frame; engines cut what is longer than 16 KiB
_TIME = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")


class Written(NamedTuple):
    """One line."""

    at: str  # ISO 8601, with the nanoseconds that the engine tells
    text: str


class LogBytes:
    """Reads lines, with their times, out of the bytes of an engine's answer, wherever these were cut."""

    def __init__(self, *, terminal: bool) -> None:
        self._terminal = terminal
        self._bytes = bytearray()  # that are no whole frame yet; of a terminal: no whole line
        self._begun: dict[int, bytearray] = {}  # by stream: a line whose end is still to come

    def __repr__(self) -> str:
        return f"<LogBytes, {len(self._bytes)} wait>"

    def feed(self, data: bytes) -> list[Written]:
        """The lines that end in `data`. Raises ValueError for what is no log."""
        self._bytes += data
        return self._of_terminal() if self._terminal else self._of_frames()

    def _of_frames(self) -> list[Written]:
        found, place = list[Written](), 0
        while len(self._bytes) - place >= _HEADER:
            length = int.from_bytes(self._bytes[place + 4 : place + _HEADER], "big")
            if length > _MOST:
                raise ValueError(f"a frame of {length} bytes in a log")
            end = place + _HEADER + length
            if end > len(self._bytes):
                break
            found += self._of_stream(self._bytes[place], bytes(self._bytes[place + _HEADER : end]))
            place = end
        del self._bytes[:place]
        return found

    def _of_stream(self, number: int, frame: bytes) -> list[Written]:
        """A frame is a line, or a part of a long one: each part has its time before it."""
        begun = self._begun.setdefault(number, bytearray())
        if begun and (time := _TIME.match(frame)):
            frame = frame[time.end() + 1 :]
        if len(begun) < LONGEST:
            begun += frame
        if not frame.endswith(b"\n"):
            return []
        line = bytes(begun)
        begun.clear()
        return [_read(line)]

    def _of_terminal(self) -> list[Written]:
        *lines, rest = self._bytes.split(b"\n")
        self._bytes = rest[:LONGEST]
        return [_read(bytes(line)) for line in lines]


def _read(line: bytes) -> Written:
    time = _TIME.match(line)
    at = time[0].decode() if time else ""
    text = line[time.end() + 1 :] if time else line
    return Written(at, text[:LONGEST].decode("utf-8", "replace").rstrip("\r\n"))


def moment(at: str) -> tuple[int, int] | None:
    """The seconds since 1970 of a time as it is told here, and the nanoseconds; None where it is none."""
    found = _TIME.fullmatch(at.encode())
    if found is None:
        return None
    seconds = datetime.fromisoformat((found[1] + found[3]).decode()).timestamp()
    return int(seconds), int((found[2] or b"").ljust(9, b"0"))
