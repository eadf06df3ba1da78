"""What logs there are, and what their readers are told."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from solar.wire.lines import Line


class Key(NamedTuple):
    """Which log it is."""

    host_id: str
    instance_id: str


class Place(msgspec.Struct, frozen=True):
    """Whose log it is, with the names that people use."""

    host_id: str
    instance_id: str
    host_name: str = ""
    alias: str = ""

    @property
    def key(self) -> Key:
        """Without the names."""
        return Key(self.host_id, self.instance_id)


class LogLine(msgspec.Struct, frozen=True):
    """A line of a log."""

    place: Place
    line: Line


class Gap(msgspec.Struct, frozen=True):
    """Lines of a log that this reader does not get: nobody has them any more, or it read too slowly."""

    place: Place
    missed: int


class Contact(msgspec.Struct, frozen=True):
    """A log is followed where it is written, from now on; or it is not, and why."""

    place: Place
    trouble: str | None = None


Item = LogLine | Gap | Contact
