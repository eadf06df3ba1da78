"""What an exchange and a transport to backends say to each other; write your own transport against this.

A transport is any object with `send` and `close`. `send` returns at once; what happens then arrives as calls on the
sink: `head` once, `chunk` for each piece of the body, then exactly one of `end` and `failed`. After `abort` nothing
more arrives.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import msgspec

from solar.core.attempts import Outcome
from solar.core.backend import Backend
from solar.core.headers import Headers


class UpstreamRequest(msgspec.Struct, frozen=True, gc=False):
    """One request as a backend shall see it."""

    backend: Backend
    method: bytes
    target: bytes  # path and query, spelled by us
    headers: Headers  # complete, but for host and content-length, which the transport sets
    body: bytes
    connect_timeout: float | None  # seconds
    wire: bytes = b""  # line, host and headers as HTTP/1.1 writes them, if they are at hand already


class Failure(NamedTuple):
    """Why an answer did not come, or did not come to its end."""

    outcome: Outcome
    detail: str  # for the log: what happened, to whom


class Sink(Protocol):
    """Where a transport reports the answer to one request."""

    def head(self, status: int, headers: Headers, length: int | None) -> None:
        """The final status line and headers; `length` of the body in bytes, None where only its end will tell."""
        ...

    def chunk(self, data: bytes) -> None:
        """A piece of the body, never empty."""
        ...

    def end(self) -> None:
        """The body is complete by its own framing."""
        ...

    def failed(self, failure: Failure) -> None:
        """There will be no (more) answer."""
        ...


class Call(Protocol):
    """One request under way."""

    def pause(self) -> None:
        """Read no more for now: the client is slow."""
        ...

    def resume(self) -> None:
        """Read again."""
        ...

    def abort(self) -> None:
        """Give the request up and close its connection; the sink hears nothing more."""
        ...

    def unacknowledged(self) -> bool:
        """Whether bytes that were sent have stayed without an acknowledgement; False where that can't be told."""
        ...


class Upstream(Protocol):
    """A transport to backends."""

    def send(self, request: UpstreamRequest, sink: Sink) -> Call:
        """Start one request. Never blocks and never raises for what the network does."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...
