"""Everything in the store as JSON lines: a first line, hosts, requests, and a last line that counts them."""

from __future__ import annotations

import contextlib
import os
import tempfile
from asyncio import to_thread
from collections.abc import AsyncIterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from solar.errors import InvalidRequest
from solar.store.facts import Host, RequestSummary, iso

VERSION = 1
LONGEST_LINE = 1024 * 1024  # bytes


class Counts(Struct, frozen=True):
    """How many there are of each."""

    hosts: int = 0
    requests: int = 0


class HostLine(Struct, frozen=True, kw_only=True):
    """A host in an export; without its key, unless that was asked for."""

    id: str
    name: str
    url: str
    api_key: str | UnsetType = UNSET
    created_ms: int
    settings: dict[str, Any]

    def __repr__(self) -> str:
        return f"<HostLine {self.id} {self.name!r}>"

    def __rich_repr__(self) -> list[tuple[str, str]]:  # Struct's would show the key
        return [("id", self.id), ("name", self.name)]


class _Line(Struct, frozen=True, forbid_unknown_fields=True):
    solar_export: int | UnsetType = UNSET
    at: str | UnsetType = UNSET
    host: HostLine | UnsetType = UNSET
    request: RequestSummary | UnsetType = UNSET
    end: Counts | UnsetType = UNSET


Part = HostLine | RequestSummary

_decoder = msgspec.json.Decoder(_Line)
_encode = msgspec.json.encode


def first_line(at_ms: int) -> bytes:
    """How an export begins."""
    return _encode(_Line(solar_export=VERSION, at=iso(at_ms))) + b"\n"


def last_line(counts: Counts) -> bytes:
    """How it ends: without it, it was cut off."""
    return _encode(_Line(end=counts)) + b"\n"


def line_of(part: Host | RequestSummary, *, keys: bool = False) -> bytes:
    """One line of it; `keys`: with the host's key."""
    if isinstance(part, Host):
        facts = asdict(part)
        if not keys:
            del facts["api_key"]
        line = _Line(host=HostLine(**facts))
    else:
        line = _Line(request=part)
    return _encode(line) + b"\n"


class Unpacking:
    """Reads an export, in pieces as they come. Raises InvalidRequest that names the line."""

    def __init__(self) -> None:
        self._rest = b""
        self._number = 0
        self._counts = [0, 0]
        self._end: Counts | None = None

    def __repr__(self) -> str:
        return f"<Unpacking line {self._number}>"

    def feed(self, piece: bytes) -> Iterator[Part]:
        """What the lines that are complete now hold."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if len(self._rest) > LONGEST_LINE:
            raise InvalidRequest(f"Line {self._number + 1} is longer than {LONGEST_LINE} bytes: this is no export.")
        for line in lines:
            self._number += 1
            if (part := self._part(line)) is not None:
                yield part

    def finish(self) -> Counts:
        """How much it was; raises InvalidRequest unless that was all of it."""
        if self._end is None or self._rest:
            raise InvalidRequest(f"The export ends after line {self._number} without its last line: it was cut off.")
        return self._end

    def _part(self, line: bytes) -> Part | None:
        try:
            read = _decoder.decode(line)
        except msgspec.MsgspecError as error:
            raise InvalidRequest(f"Line {self._number} is not one of an export: {error}") from None
        if self._number == 1:
            if read.solar_export != VERSION:
                raise InvalidRequest(
                    f"This is no export of Solar, or not one of version {VERSION}: see its first line."
                )
            return None
        if self._end is not None:
            raise InvalidRequest(f"Line {self._number} stands behind the last line of the export.")
        if isinstance(read.end, Counts):
            if read.end != (found := Counts(*self._counts)):
                raise InvalidRequest(f"The export should hold {read.end}, and holds {found}.")
            self._end = found
            return None
        parts = (read.host, read.request)
        found_parts = [(index, part) for index, part in enumerate(parts) if part is not UNSET]
        if len(found_parts) != 1 or read.solar_export is not UNSET:
            raise InvalidRequest(f"Line {self._number} must hold one host or one request.")
        ((index, part),) = found_parts
        self._counts[index] += 1
        return part


async def save(lines: AsyncIterable[bytes], path: Path) -> None:
    """Write an export to a file that only its owner may read: whole or not at all."""
    handle, temporary = await to_thread(tempfile.mkstemp, dir=path.parent, prefix=f".{path.name}-")  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            async for line in lines:
                await to_thread(file.write, line)
            await to_thread(file.flush)
            await to_thread(os.fsync, handle)
        await to_thread(os.replace, temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)  # noqa: PTH108  # at once, even when cancelled
        raise
