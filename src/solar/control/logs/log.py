"""One log, as the hub keeps it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from solar.control.logs.items import Contact, Place
from solar.wire.lines import Entry, Ring
from solar.wire.numbering import Numbering
from solar.wire.redact import MASK

if TYPE_CHECKING:
    from solar.control.logs.reader import Reader

_LINE = 400  # bytes that a line takes beside its text: its time and number, and what is remembered to know it again


class Log:
    """The newest lines of one log, numbered; and who reads them."""

    __slots__ = ("_numbering", "contact", "place", "readers", "ring", "told")

    def __init__(self, place: Place, max_lines: int, max_characters: int) -> None:
        self.place = place
        self.told = False  # somebody said that there is such a log; else somebody just pushed lines
        self.contact: Contact | None = None  # None: nobody has tried yet
        self.ring = Ring(max_lines, max_characters)
        self.readers: set[Reader] = set()
        self._numbering = Numbering()

    def __repr__(self) -> str:
        return f"<Log {self.place.host_id}/{self.place.instance_id}, {self.ring!r}, {len(self.readers)} readers>"

    @property
    def cost(self) -> int:
        """About how many bytes it takes."""
        return self.ring.characters + _LINE * len(self.ring)

    def restarted(self) -> None:
        """The next line begins a new epoch."""
        self._numbering.restarted()

    def take(self, entries: Sequence[Entry], masking: re.Pattern[str] | None) -> None:
        """Keep the new ones of `entries`, without what `masking` finds, and wake who reads them."""
        lines = self._numbering.take(entries)
        for line in lines:
            if masking is not None and (masked := masking.sub(MASK, line.text)) != line.text:
                line = line._replace(text=masked)
            self.ring.add(line)
        if lines:
            self.wake()

    def drop(self) -> None:
        """Let all lines go. Its numbers go on, and what its source tells again is known: readers see a gap."""
        for reader in self.readers:
            reader.loses(self)
        self.ring.drop()
        self.wake()

    def wake(self) -> None:
        """Its readers look at it."""
        for reader in self.readers:
            reader.wake(self)
