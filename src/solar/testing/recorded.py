"""What a fake backend saw of one request, byte for byte."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from solar.testing.fault import Fault


@dataclass(slots=True, eq=False)
class Recorded:
    """One request, from its head on; it grows while the request goes on. Times are the event loop's, in seconds."""

    method: str
    target: str  # as it came: with the query
    headers: list[tuple[bytes, bytes]]  # as they came: order, spelling and repetitions
    head: bytes = field(repr=False)  # request line, headers and blank line, raw
    connection: int  # number of its connection on this fake, from 1
    at: float  # when its head was whole
    inference: bool = False  # not health, model lists or the like
    received: bytearray = field(default_factory=bytearray, repr=False)  # the body so far, without chunk framing
    complete: bool = False  # the body has come whole
    fault: Fault | None = None  # what was played instead of the truth
    bytes_sent: int = 0  # handed to the kernel, heads and framing included
    events: int = 0  # events of a stream that were sent
    finished: bool = False  # the answer, or what the fault makes of it, was sent to its end
    client_gone_at: float | None = None  # the client closed (one direction is enough) or reset before that

    @property
    def cancelled(self) -> bool:
        """The client left before the end."""
        return self.client_gone_at is not None

    @property
    def in_flight(self) -> bool:
        """Neither finished nor cancelled."""
        return not self.finished and not self.cancelled

    @property
    def body(self) -> bytes:
        """The body as far as it came."""
        return bytes(self.received)

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def payload(self) -> Any:
        """The body as JSON. Raises msgspec.DecodeError when it is none."""
        return msgspec.json.decode(self.received)

    def all_headers(self, name: str) -> list[str]:
        """Every value of a header, in order."""
        wanted = name.lower().encode()
        return [value.decode("latin-1") for key, value in self.headers if key.lower() == wanted]

    def header(self, name: str) -> str | None:
        """The first value of a header, or None."""
        values = self.all_headers(name)
        return values[0] if values else None


def recorded_of(head: bytes, connection: int, at: float) -> Recorded:
    """Reads a request's head. Raises ValueError when it is none."""
    first, *lines = head[:-4].split(b"\r\n")
    method, target, version = first.decode("latin-1").split(" ")
    if not version.startswith("HTTP/1."):
        raise ValueError(f"no HTTP/1 request: {first!r}")
    headers = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon:
            raise ValueError(f"no header: {line!r}")
        headers.append((name, value.strip(b" \t")))
    return Recorded(method, target, headers, head, connection, at)
