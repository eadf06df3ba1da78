"""What a door brings to an exchange, and what it hears from it."""

from __future__ import annotations

from typing import Protocol

from solar.core.headers import Headers
from solar.core.openai import Peek
from solar.core.paths import Endpoint
from solar.core.record import Record

_NOTHING_SEEN = Peek(None, False, None, False, None, None)


class Client(Protocol):
    """The door's side of one exchange. None of these may raise or block."""

    def head(self, status: int, headers: Headers) -> None:
        """Status and headers of the answer; content-length is among them where it is known."""
        ...

    def write(self, data: bytes) -> None:
        """A piece of the body."""
        ...

    def end(self) -> None:
        """The answer is complete."""
        ...

    def abort(self) -> None:
        """The answer is cut: close the connection without the mark of a complete body."""
        ...


class ClientRequest:
    """What the door read of one request."""

    __slots__ = ("body", "endpoint", "headers", "method", "peek", "query", "record", "reserved", "session", "target")

    def __init__(self, record: Record, endpoint: Endpoint | None, headers: Headers, *, query: bytes = b"") -> None:
        self.record = record
        self.endpoint = endpoint  # None: a GET that goes to the default backend
        self.method = b"POST"
        self.target = b""  # the path under /v1 where there is no endpoint
        self.headers = headers  # names in lower case
        self.query = query  # without the question mark, passed on as it came
        self.body = b""
        self.peek: Peek = _NOTHING_SEEN
        self.session: str | None = None
        self.reserved = 0  # bytes of the buffer budget that the body holds

    @property
    def wire(self) -> str:
        """The format that errors and streams of this request have."""
        return self.endpoint.wire if self.endpoint is not None else "plain"
