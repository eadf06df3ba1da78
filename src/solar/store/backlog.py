"""What waits to be written: bounded, in order, the oldest given up first, and never without being counted."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any


class Backlog:
    """The entries that are not in the database yet, whatever they are. For one thread."""

    __slots__ = ("_entries", "limit", "lost", "taken")

    def __init__(self, limit: int) -> None:
        self._entries: deque[Any] = deque()
        self.limit = limit
        self.taken = 0  # out of it, and not known to be written yet
        self.lost = 0  # entries that were given up since the start

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"<Backlog {len(self)} of {self.limit}, {self.lost} lost>"

    def push(self, entry: object) -> int:
        """Add the newest; returns how many wait."""
        entries = self._entries
        entries.append(entry)
        if len(entries) > self.limit:
            entries.popleft()
            self.lost += 1
        return len(entries)

    def take(self, most: int) -> list[Any]:
        """Take out the oldest, `most` at most, to be followed by written() or give_back()."""
        entries = self._entries
        self.taken = min(most, len(entries))
        return [entries.popleft() for _ in range(self.taken)]

    def written(self, unfit: int) -> None:
        """What was taken is on disk, but for so many that could never be."""
        self.taken = 0
        self.lost += unfit

    def give_back(self, batch: Sequence[Any]) -> None:
        """Put back at their place what was taken out and could not be written; the oldest may have no room now."""
        self.taken = 0
        room = self.limit - len(self._entries)
        kept = batch[len(batch) - room :] if room < len(batch) else batch
        self._entries.extendleft(reversed(kept))
        self.lost += len(batch) - len(kept)
