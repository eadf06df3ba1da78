"""Heads that were read before. The same bytes mean the same, so what was understood of them once is kept.

Clients and engines say the same head again and again on a connection, but for the length of the body.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Generic, TypeVar

from solar.core.backend import Origin

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

MOST = 256  # heads that are kept
LONGEST = 2048  # bytes of one

_LENGTH = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: ?([0-9]{1,15})\r\n").search


def cut(data: bytes) -> tuple[bytes, int, int] | None:
    """The head at the beginning of `data`, without the digits of its length: its key. Then that length, and where the
    body begins. None where the head is incomplete, long, or has no length that is spelled as usual.

    It says nothing of whether the head is valid: only a reader of heads can, and keeps what it found under the key.
    """
    end = data.find(b"\r\n\r\n", 0, LONGEST)
    if end < 0:
        return None
    found = _LENGTH(data, 0, end + 2)
    if found is None:
        return None
    first, last = found.span(1)
    return data[:first] + data[last:end], int(data[first:last]), end + 4


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
