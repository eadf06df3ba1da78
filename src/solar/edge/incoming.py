"""One request as it comes in at the front door, and what is wrong with it that llhttp lets through."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from solar.core.headers import Headers
from solar.edge.reception import Arrival
from solar.edge.request import ClientRequest
from solar.errors import InvalidRequest, SolarError

if TYPE_CHECKING:
    from solar.edge.cycle import Cycle
    from solar.edge.exchange import Exchange

_TARGET = re.compile(rb"/[\x21\x22\x24-\x7e]*").fullmatch  # printable ASCII, and no fragment
_BAD_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})").search
_HOST = re.compile(rb"[\x21-\x2b\x2d-\x2e\x30-\x3f\x41-\x7e]+").fullmatch  # no blank, comma, slash or @


class Incoming:
    """One request: head, body so far, and what became of it."""

    __slots__ = (
        "_body", "answered", "arrival", "complete", "cycle", "exchange", "frozen", "head_size", "headers", "keep_alive",
        "method", "refusal", "request", "since", "size", "skipping", "started", "target", "version",
    )  # fmt: skip

    def __init__(self) -> None:
        self.method = ""
        self.target = b""
        self.version = "1.1"
        self.headers: Headers = []
        self.head_size = 0
        self.frozen = False  # its head is complete
        self.complete = False  # its body too
        self.keep_alive = True
        self.size = 0  # bytes of body that came
        self._body: bytes | bytearray = b""
        self.skipping = False  # the rest of the body is not wanted
        self.started = False  # it was the first in line when its turn came
        self.answered = False
        self.refusal: SolarError | None = None
        self.arrival: Arrival | None = None
        self.request: ClientRequest | None = None
        self.exchange: Exchange | None = None
        self.cycle: Cycle | None = None
        self.since = 0.0  # when its head was first seen unfinished

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

    def unread(self) -> int:
        """Bytes of body that are still to come, as far as the head tells; many where it does not."""
        for name, value in self.headers:
            if name == b"content-length" and value.isdigit():
                return int(value[:19]) - self.size
        return 1 << 60 if any(name == b"transfer-encoding" for name, _ in self.headers) else 0

    @property
    def expects_continue(self) -> bool:
        """Whether its client waits for a sign before it sends the body."""
        return any(name == b"expect" for name, _ in self.headers)


def refusal_of(incoming: Incoming) -> SolarError | None:
    """What llhttp finds correct and two readers could understand in two ways."""
    hosts = 0
    encodings = 0
    for name, value in incoming.headers:
        if name == b"host":
            hosts += 1
            if not _HOST(value):
                return InvalidRequest("the Host header is not a host", code="invalid_http")
        elif name == b"transfer-encoding":
            encodings += 1
            if value.strip().lower() != b"chunked" or incoming.version != "1.1" or encodings > 1:
                message = "the only Transfer-Encoding that is read here is chunked"
                return InvalidRequest(message, status=501, code="invalid_http")
        elif name == b"expect" and value.strip().lower() != b"100-continue":
            return InvalidRequest("the only expectation that is met here is 100-continue", status=417)
    if incoming.version not in ("1.0", "1.1"):
        return InvalidRequest(f"HTTP/{incoming.version} is not spoken here; use HTTP/1.1", status=505)
    if hosts > 1 or (hosts == 0 and incoming.version == "1.1"):
        return InvalidRequest("a request has exactly one Host header", code="invalid_http")
    if not _TARGET(incoming.target) or _BAD_PERCENT(incoming.target):
        return InvalidRequest("the target must be a path, with an optional query, in printable ASCII")
    return None
