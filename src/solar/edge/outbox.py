"""What is written in one turn of the event loop, kept so that it leaves together at the turn's end.

A write wakes the program that waits for it, and waking one that sleeps costs more than the write. In a row, the first
write wakes it for all the others; and what stands between two rows runs faster where the kernel does not run between.
Where turns have one write each there is nothing to gather, and most of them go at once: who is alone is served sooner.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable
from typing import Any, Final

AT_ONCE: Final = 15  # writes at most that do not wait, after turns that had only one each
AT_MOST: Final = 256 * 1024  # bytes that wait: more leave the processor's cache, and go past a client that is slow


# In some versions `writelines` of asyncio's own transports never asks its protocol to pause (python/cpython#127655).
_JOINS: Final = (3, 12) <= sys.version_info < (3, 12, 9) or (3, 13) <= sys.version_info < (3, 13, 2)


def _send(transport: asyncio.Transport, parts: tuple[bytes, ...]) -> None:
    if _JOINS:
        transport.write(b"".join(parts))
    else:
        transport.writelines(parts)


class Outbox:
    """Of one loop, and shared by its connections. Where a connection is closed, `hand_over` goes first."""

    __slots__ = ("_alone", "_at_once", "_size", "_waiting")

    def __init__(self) -> None:
        self._alone = 0  # 1, 3, 7, 15: the more turns in a row had only one write
        self._at_once = 0  # writes that still do not wait
        self._waiting: dict[asyncio.Transport, tuple[bytes, ...]] = {}
        self._size = 0

    def __repr__(self) -> str:
        return f"<Outbox {self._size} bytes for {len(self._waiting)} connections>"

    def write(self, transport: asyncio.Transport, *parts: bytes, more: bool = False) -> None:
        """Write `parts`, one after the other, before the loop looks for news again. `more`: they wait for the rest."""
        waiting = self._waiting
        if self._at_once and not more:
            self._at_once -= 1
            _send(transport, waiting.pop(transport) + parts if transport in waiting else parts)
            return
        if not waiting:
            asyncio.get_running_loop().call_soon(self.end_turn)
        before = waiting.get(transport)
        waiting[transport] = parts if before is None else before + parts
        for part in parts:
            self._size += len(part)
        if self._size > AT_MOST:
            self._flush()

    def hand_over(self, transport: asyncio.Transport) -> None:
        """Write what waits for this one: it is about to be closed, and would refuse it later."""
        parts = self._waiting.pop(transport, None)
        if parts is not None and not transport.is_closing():
            _send(transport, parts)

    def end_turn(self) -> None:
        """Write all that waits."""
        if self._waiting:
            self._alone = min(2 * self._alone + 1, AT_ONCE) if len(self._waiting) == 1 else 0
            self._at_once = self._alone
            self._flush()

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, {}
        self._size = 0
        for transport, parts in waiting.items():
            if not transport.is_closing():
                _send(transport, parts)


class Gathered:
    """A transport, for a protocol of HTTP that is not ours: what it writes goes by way of an outbox.

    A head waits for the body, which such protocols write right after it. What only looks like one waits for no longer
    than the turn.
    """

    __slots__ = ("_outbox", "_transport")

    def __init__(self, transport: asyncio.Transport, outbox: Outbox) -> None:
        self._transport = transport
        self._outbox = outbox

    def __repr__(self) -> str:
        return f"<Gathered {self._transport!r}>"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if data:
            self._outbox.write(self._transport, data, more=data.startswith(b"HTTP/"))

    def writelines(self, parts: Iterable[bytes]) -> None:
        self._outbox.write(self._transport, *parts)

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def write_eof(self) -> None:
        self._outbox.hand_over(self._transport)
        self._transport.write_eof()

    def close(self) -> None:
        self._outbox.hand_over(self._transport)
        self._transport.close()
