"""What a door brings to an exchange, and what it hears from it."""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

from solar.core.headers import NO_HEADERS, Block, Headers
from solar.core.paths import Endpoint, Found
from solar.core.peek import Peek
from solar.core.record import Record
from solar.errors import SolarError

_NOTHING_SEEN: Final = Peek(None, False, None, False, None, None)


class Client(Protocol):
    """The door's side of one exchange. None of these may raise or block."""

    def head(self, status: int, headers: Block, record: Record, length: int | None) -> None:
        """Status and headers of the answer; what else the client is told of its way is in the books.

        `length` is the body's in bytes, where it is known.
        """
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


class Answer(NamedTuple):
    """A complete answer of our own."""

    status: int
    headers: Headers  # without its length
    body: bytes


class Asked:
    """A request's head, understood. The same head always means the same, so this is kept for the next one like it."""

    __slots__ = (
        "cors", "endpoint", "form", "found", "headers", "method", "passed", "path", "query", "refusal", "request_id",
        "session",
    )  # fmt: skip

    def __init__(self, method: str, path: str, query: bytes, headers: Headers, found: Found) -> None:
        self.method = method
        self.path = path
        self.query = query  # without the question mark, passed on as it came
        self.headers = headers  # names in lower case
        self.found = found
        self.endpoint: Endpoint | None = found.endpoint  # None: no inference
        self.cors: Headers = []  # to be added to whatever the client gets
        self.refusal: SolarError | None = None  # why it may not come in
        self.request_id: str | None = None  # as the client named it
        self.session: str | None = None  # that its head names
        self.form: str | None = None  # its content type, if that is a form
        self.passed: Block = NO_HEADERS  # what a backend sees of the headers

    def __repr__(self) -> str:
        return f"<Asked {self.method} {self.path[:80]!r}>"


class ClientRequest:
    """One request: what was asked, and its books."""

    __slots__ = ("answer", "asked", "body", "endpoint", "method", "peek", "record", "reserved", "session", "target")

    def __init__(self, record: Record, asked: Asked) -> None:
        self.record = record
        self.asked = asked
        self.endpoint = asked.endpoint  # None: a GET that goes to the default backend
        self.answer: Answer | None = None  # what needs no backend is answered by this
        self.method = b"POST"
        self.target = b""  # the path under /v1 where there is no endpoint
        self.body = b""
        self.peek: Peek = _NOTHING_SEEN
        self.session: str | None = None
        self.reserved = 0  # bytes of the buffer budget that the body holds

    def __repr__(self) -> str:
        return f"<ClientRequest {self.record.id} {self.asked!r}>"

    @property
    def wire(self) -> str:
        """The format that errors and streams of this request have."""
        return self.endpoint.wire if self.endpoint is not None else "plain"
