"""One request as it comes in at the front door, and what is wrong with it that llhttp lets through."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote_to_bytes

from solar.core.headers import Headers
from solar.edge.heads import Key
from solar.edge.request import Asked, ClientRequest
from solar.errors import InvalidRequest, SolarError

if TYPE_CHECKING:
    from solar.edge.cycle import Cycle
    from solar.edge.exchange import Exchange

_TARGET = re.compile(rb"/[\x21\x22\x24-\x7e]*").fullmatch  # printable ASCII, and no fragment
_BAD_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})").search
_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~%-]+)(:[0-9]{0,5})?").fullmatch

MAX_HEAD = 64 * 1024  # bytes of a request's line and headers; also of what stands around the chunks of a body
MAX_HEADERS = 256
LONGEST_LENGTH = 19  # digits of a Content-Length, so that it is one to us and to llhttp
COSTS = 512  # bytes that a waiting request takes beside its head and body
_FOREVER = 1 << 60


class KnownRequest(NamedTuple):
    """The head of a request whose body has a length, as it was understood."""

    target: bytes
    head_size: int
    asked: Asked


class Incoming:
    """One request: head, body so far, and what became of it."""

    __slots__ = (
        "_body", "answered", "asked", "complete", "continued", "cycle", "exchange", "frozen", "head_size", "headers",
        "keep_alive", "key", "length", "method", "refusal", "request", "since", "size", "skipping", "started", "target",
        "version",
    )  # fmt: skip

    def __init__(self, known: KnownRequest | None = None, length: int | None = None, body: bytes = b"") -> None:
        if known is None:
            self.method = ""
            self.target = b""
            self.headers: Headers = []
            self.head_size = COSTS
            self.frozen = False  # its head is complete
            self.asked: Asked | None = None  # what its head means
        else:
            self.target, self.head_size, asked = known
            self.method, self.headers, self.asked = asked.method, asked.headers, asked
            self.frozen = True
        self.key: Key | None = None  # what its head may be known by
        self.length = length  # of its body in bytes, as its head says; None where it says none
        self.version = "1.1"
        self.size = len(body)  # bytes of body that came
        self.complete = self.size == length  # its body is here too
        self.keep_alive = True
        self._body: bytes | bytearray = body
        self.skipping = False  # the rest of the body is not wanted
        self.started = False  # it was the first in line when its turn came
        self.answered = False
        self.refusal: SolarError | None = None
        self.request: ClientRequest | None = None  # once it has arrived
        self.exchange: Exchange | None = None
        self.cycle: Cycle | None = None
        self.since = 0.0  # when its head was first seen unfinished
        self.continued = False  # its client was told to send the body

    def __repr__(self) -> str:
        return f"<Incoming {self.method} {self.target[:80]!r}, {self.size} bytes of body>"

    def add(self, data: bytes) -> None:
        """A piece of the body. One buffer for many: kept apart, tiny pieces would take twenty times their size."""
        self.size += len(data)
        if not self._body:
            self._body = data
        elif isinstance(self._body, bytearray):
            self._body += data
        else:
            self._body = bytearray(self._body)
            self._body += data

    def take(self) -> bytes:
        """The body so far; it is not kept."""
        body, self._body = self._body, b""
        return body if isinstance(body, bytes) else bytes(body)

    @property
    def held(self) -> int:
        """Bytes of body that nobody has taken yet."""
        return len(self._body)

    def skip(self) -> None:
        """Nobody wants the body, nor what is still to come of it."""
        self.take()
        self.skipping = True

    def unread(self) -> int:
        """Bytes of body that are still to come, as far as the head tells; many where it does not."""
        if self.refusal is not None:
            return _FOREVER
        if self.length is not None:
            return self.length - self.size
        return _FOREVER if any(name == b"transfer-encoding" for name, _ in self.headers) else 0

    @property
    def expects_continue(self) -> bool:
        """Whether its client waits for a sign before it sends the body."""
        return (
            self.version == "1.1"
            and not (self.complete or self.size or self.continued)
            and any(name == b"expect" for name, _ in self.headers)
        )

    def place(self) -> tuple[str, bytes]:
        """The path that it asks for, decoded, and the query as it came."""
        path, _, query = self.target.partition(b"?")
        return unquote_to_bytes(path).decode("utf-8", "replace") if b"%" in path else path.decode("ascii"), query

    def without_upgrade(self) -> bytes:
        """Its head, as if it had not asked for another protocol."""
        headers = [header for header in self.headers if header[0] not in (b"upgrade", b"connection")]
        return self.written([*headers, (b"connection", b"keep-alive" if self.keep_alive else b"close")])

    def written(self, headers: Headers) -> bytes:
        """Its head, with these headers."""
        line = b"%b %b HTTP/%b\r\n" % (self.method.encode("ascii"), self.target, self.version.encode("ascii"))
        return line + b"".join(b"%b: %b\r\n" % header for header in headers) + b"\r\n"


def invalid_http() -> InvalidRequest:
    """What llhttp cannot read."""
    return InvalidRequest("the request is not valid HTTP/1.1", code="invalid_http")


def head_too_large() -> InvalidRequest:
    """More than anybody needs."""
    return InvalidRequest(
        f"the request's head, or its trailer, is larger than {MAX_HEAD} bytes, or has more than {MAX_HEADERS} headers",
        status=431,
        code="head_too_large",
    )


def refusal_of(incoming: Incoming) -> SolarError | None:
    """What llhttp finds correct, and is too much, or two readers could understand in two ways."""
    if incoming.head_size > MAX_HEAD or len(incoming.headers) > MAX_HEADERS:
        return head_too_large()
    hosts = 0
    encodings = 0
    for name, value in incoming.headers:
        if name == b"host":
            hosts += 1
            if not _HOST(value):
                return InvalidRequest("the Host header is not a host", code="invalid_http")
        elif name == b"transfer-encoding":
            encodings += 1
            if value.lower() != b"chunked" or incoming.version != "1.1" or encodings > 1:
                message = "the only Transfer-Encoding that is read here is chunked"
                return InvalidRequest(message, status=501, code="invalid_http")
        elif name == b"content-length" and len(value) > LONGEST_LENGTH:
            return InvalidRequest("the Content-Length has too many digits", code="invalid_http")
        elif name == b"expect" and value.lower() != b"100-continue":
            return InvalidRequest("the only expectation that is met here is 100-continue", status=417)
    if incoming.version not in ("1.0", "1.1"):
        return InvalidRequest(f"HTTP/{incoming.version} is not spoken here; use HTTP/1.1", status=505)
    if hosts > 1 or (hosts == 0 and incoming.version == "1.1"):
        return InvalidRequest("a request has exactly one Host header", code="invalid_http")
    if not _TARGET(incoming.target) or _BAD_PERCENT(incoming.target):
        return InvalidRequest("the target must be a path, with an optional query, in printable ASCII")
    return None
