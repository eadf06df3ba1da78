"""What is written in one turn of the event loop, kept so that it leaves together at the turn's end.

A write wakes the program that waits for it, and waking one that sleeps costs more than the write. In a row, the first
write wakes it for all the others; and what stands between two rows runs faster where the kernel does not run between.
"""

from __future__ import annotations

import asyncio

AT_MOST = 256 * 1024  # bytes that wait: more would leave the processor's cache, and go past a client that is slow


class Outbox:
    """Of one loop, and shared by its connections. Where a connection is closed, `hand_over` goes first."""

    __slots__ = ("_size", "_waiting")

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Transport, list[bytes]] = {}
        self._size = 0

    def __repr__(self) -> str:
        return f"<Outbox {self._size} bytes for {len(self._waiting)} connections>"

    def write(self, transport: asyncio.Transport, data: bytes) -> None:
        """Write `data` before the loop looks for news again."""
        waiting = self._waiting
        if not waiting:
            asyncio.get_running_loop().call_soon(self.flush)
        parts = waiting.get(transport)
        if parts is None:
            waiting[transport] = [data]
        else:
            parts.append(data)
        self._size += len(data)
        if self._size > AT_MOST:
            self.flush()

    def hand_over(self, transport: asyncio.Transport) -> None:
        """Write what waits for this one: it is about to be closed, and would refuse it later."""
        parts = self._waiting.pop(transport, None)
        if parts is not None and not transport.is_closing():
            transport.writelines(parts)

    def flush(self) -> None:
        """Write all that waits."""
        waiting, self._waiting = self._waiting, {}
        self._size = 0
        for transport, parts in waiting.items():
            if transport.is_closing():
                continue
            if len(parts) == 1:
                transport.write(parts[0])
            else:
                transport.writelines(parts)
