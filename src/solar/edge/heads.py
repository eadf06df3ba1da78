"""Heads that were read before. The same bytes mean the same, so what was understood of them once is kept.

Clients and engines say the same head again and again on a connection, but for the length of the body.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

from solar.core.backend import Origin

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

Key = tuple[bytes, bytes]

MOST: Final = 256  # heads that are kept
LONGEST: Final = 2048  # bytes of one

MOST_DIGITS: Final = 15  # of a length

_LENGTH = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: ?([0-9]{1,%d})\r\n" % MOST_DIGITS).search


def cut(data: bytes) -> tuple[Key, int, int] | None:
    """The head at the beginning of `data`, before and behind the digits of its length: its key. Then that length, and
    where the body begins. None where the head is incomplete, long, or has no length that is spelled as usual.

    It says nothing of whether the head is valid: only a reader of heads can, and keeps what it found under the key.
    """
    end = data.find(b"\r\n\r\n", 0, LONGEST)
    if end < 0:
        return None
    found = _LENGTH(data, 0, end + 2)
    if found is None:
        return None
    first, last = found.span(1)
    return (data[:first], data[last : end + 4]), int(data[first:last]), end + 4


def line_and_host(method: bytes, target: bytes, origin: Origin) -> bytes:
    """How a request to `origin` begins."""
    return b"%b %b HTTP/1.1\r\nhost: %b\r\n" % (method, target, origin.authority.encode("ascii"))


class KnownHeads(Generic[K, T]):
    """What was understood of heads, by their keys. When it is full it forgets all: the usual few are soon back."""

    __slots__ = ("_known", "get")

    def __init__(self) -> None:
        self._known: dict[K, T] = {}
        self.get = self._known.get

    def __repr__(self) -> str:
        return f"<KnownHeads {len(self._known)}>"

    def keep(self, key: K, meaning: T) -> None:
        """Remember it."""
        if len(self._known) >= MOST:
            self._known.clear()
        self._known[key] = meaning


class Heads(Generic[T]):
    """The heads of one connection. What it said last is tried first: where it says the same again, nothing is searched.

    `known` is shared with other connections, and has each key with its meaning: so all of them keep the same bytes.
    """

    __slots__ = ("_known", "_last", "key")

    def __init__(self, known: KnownHeads[Key, tuple[Key, T]]) -> None:
        self._known = known
        self._last: tuple[Key, T] | None = None
        self.key: Key | None = None  # of the head that was not found, if it can be kept

    def __repr__(self) -> str:
        return f"<Heads of a connection, {self._known!r}>"

    def find(self, data: bytes) -> tuple[T, int, int] | None:
        """What the head at the beginning of `data` means, how long its body is, and where that begins."""
        if self._last is not None:
            (before, behind), meaning = self._last
            if data.startswith(before):
                first = len(before)
                last = data.find(b"\r\n", first, first + MOST_DIGITS + 2)
                if last > first:  # mypyc's slices fail where they would end before they begin
                    digits = data[first:last]
                    if digits.isdigit() and data.startswith(behind, last):
                        return meaning, int(digits), last + len(behind)
        seen = cut(data)
        if seen is None:
            self.key = None
            return None
        self.key, length, begins = seen
        found = self._known.get(self.key)
        if found is None:
            return None
        self._last = found
        return found[1], length, begins

    def keep(self, key: Key, meaning: T) -> None:
        """Remember what was understood of the head with that key."""
        self._known.keep(key, (key, meaning))
