"""One connection to a backend: writes a request, reads its answer, and knows whether it may be used again.

Heads are checked by llhttp in its strict mode. Bodies with a length, or read until close, never see a parser.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser
from msgspec import structs

from solar.core.attempts import Outcome
from solar.core.backend import Backend, Origin
from solar.core.headers import AnswerHeaders, Headers, wire_of
from solar.edge.heads import Heads, Key, line_and_host

if TYPE_CHECKING:
    from solar.edge.upstream import HttpCall, HttpUpstream

MAX_HEAD: Final = 64 * 1024  # bytes of an answer's status line and headers
MAX_INFORMATIONAL = 16  # 1xx answers before the real one
JOIN_BELOW: Final = 16 * 1024  # bytes of body that are copied behind the head rather than sent as a second buffer
ACK_OVERDUE_MS = 2000

_HEAD: Final = 0
_LENGTH: Final = 1
_CHUNKED: Final = 2
_UNTIL_CLOSE: Final = 3
_SPENT = HttpResponseParser(None)


class PoolKey(NamedTuple):
    """Connections are shared by what they are: where they lead, and what was verified on the way."""

    origin: Origin
    ca_file: str | None
    verify: bool


def key_of(backend: Backend) -> PoolKey:
    """The pool that a backend's connections belong to."""
    return PoolKey(backend.origin, backend.ca_file, backend.verify)


class AnswerHead(NamedTuple):
    """The head of an answer whose body has a length, as it was understood."""

    status: int
    headers: AnswerHeaders
    keeps: bool  # the connection may be used again


class Connection:
    """One TCP or TLS connection to a backend, and the answer that is being read from it.

    An asyncio.Protocol in all but its base, which a compiled class cannot have.
    """

    __slots__ = (
        "_buffer", "_chunks", "_complete", "_eof", "_headers", "_headers_done", "_heads", "_informational", "_keeps",
        "_left", "_mode", "_parser", "_pool", "_received", "_second", "call", "key", "transport",
    )  # fmt: skip

    def __init__(self, pool: HttpUpstream, key: PoolKey) -> None:
        self._pool = pool
        self.key = key
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set before anything else is called
        self.call: HttpCall | None = None
        self._heads = Heads(pool.heads)
        self._buffer = b""
        self._mode = _HEAD
        self._received = self._informational = 0
        self._eof = False

    # --- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # a TCP or TLS connection is always a full Transport
        self._pool.opened_one(self)

    def data_received(self, data: bytes) -> None:
        call = self.call
        if call is None:  # nobody asked: whatever this is, it must not become the head of somebody's answer
            self.transport.abort()
            return
        self._received += len(data)
        if self._mode == _HEAD:
            data = self._read_head(data)
            if not data or self.call is not call:  # its head was all of it
                return
        if self._mode == _LENGTH:
            self._read_length(data)
        elif self._mode == _CHUNKED:
            self._read_chunked(data)
        elif call.sink is not None:
            call.sink.chunk(data)

    def eof_received(self) -> None:
        self._eof = True

    def pause_writing(self) -> None:
        """The transport has more of a request than the kernel takes now. It waits there: it is whole already."""

    def resume_writing(self) -> None:
        """That has changed."""

    def connection_lost(self, error: Exception | None) -> None:
        self._pool.lost(self)
        self._parser = _SPENT  # it leads back here: without this, only the collector would free both
        call, self.call = self.call, None
        if call is None:
            return
        if self._mode == _UNTIL_CLOSE and self._eof and error is None:
            call.done()
        elif self._received and self._mode == _HEAD:
            call.lost(Outcome.UNREADABLE, "the connection closed inside the answer's head", answered=self._received)
        else:
            why = f"reset ({error})" if error is not None else "closed"
            call.lost(Outcome.RESET, f"the connection was {why}", answered=self._received)

    # --- one request, one answer

    def start(self, call: HttpCall) -> None:
        """Write the request of `call`, and read its answer."""
        self._buffer = b""
        self._mode = _HEAD
        self._received = self._informational = 0
        self._eof = False
        self.call = call
        request = call.request
        body = request.body
        wire = request.wire or (
            line_and_host(request.method, request.target, request.backend.origin) + wire_of(request.headers)
        )
        if body or request.method != b"GET":
            head = b"%bcontent-length: %d\r\n\r\n" % (wire, len(body))
        else:
            head = wire + b"\r\n"
        if len(body) <= JOIN_BELOW:
            self._pool.outbox.write(self.transport, head + body)
        else:
            self._pool.outbox.write(self.transport, head, body)

    def _read_head(self, data: bytes) -> bytes:
        """Collect and read the head; returns the bytes behind it."""
        data = self._buffer + data if self._buffer else data
        found = self._heads.find(data)
        if found is not None:
            known, length, end = found
            self._buffer = b""
            self._keeps = known.keeps
            self._mode = _LENGTH
            self._announce(known.status, known.headers, length, has_rest=len(data) > end)
            return data[end:]
        key = self._heads.key
        while True:
            end = data.find(b"\r\n\r\n")
            if end < 0 or end > MAX_HEAD:
                self._buffer = data
                if not (b"HTTP/1.".startswith(data[:7]) or data.startswith(b"HTTP/1.")) or b"\n\n" in data:
                    self._unreadable("it did not answer in HTTP/1.1")
                elif len(data) > MAX_HEAD:
                    self._unreadable("the head of its answer is larger than 64 KiB")
                return b""
            status = self._parse(data[: end + 4])
            data = data[end + 4 :]
            if status is None:
                return b""
            self._buffer = b""
            if status >= 200:
                self._understand(status, key, has_rest=bool(data))
                return data
            self._informational += 1
            if self._informational > MAX_INFORMATIONAL:
                self._unreadable("it sent more than 16 informational answers")
                return b""
            if not data:
                return b""
            key = None  # that was the first head's

    def _parse(self, head: bytes) -> int | None:
        self._headers: Headers = []
        self._headers_done = self._keeps = self._complete = self._second = False
        self._chunks: list[bytes] = []
        self._parser = parser = HttpResponseParser(self)
        try:
            parser.feed_data(head)
        except HttpParserUpgrade:
            self._unreadable("it switched protocols")
            return None
        except HttpParserError as error:
            self._unreadable(f"the head of its answer is not valid HTTP ({error})")
            return None
        if parser.get_http_version() not in ("1.0", "1.1"):
            self._unreadable("it did not answer in HTTP/1.1")
            return None
        status: int = parser.get_status_code()
        if not self._headers_done or status == 101 or not 100 <= status <= 999:
            self._unreadable(f"it answered with status {status}")
            return None
        return status

    def _understand(self, status: int, key: Key | None, *, has_rest: bool) -> None:
        """Decide how the end of the body will be known."""
        length: int | None = None
        chunked = False
        for name, value in self._headers:
            if name == b"content-length":
                length = int(value)
            elif name == b"transfer-encoding":
                if value.strip().lower() != b"chunked":
                    self._unreadable(f"its transfer-encoding {value[:40]!r} cannot be relayed")
                    return
                chunked = True
        if status in (204, 304):
            length, chunked = 0, False
        self._mode = _CHUNKED if chunked else _UNTIL_CLOSE if length is None else _LENGTH
        headers = AnswerHeaders(header for header in self._headers if header[0] != b"content-length")
        if key is not None and self._mode == _LENGTH and status not in (204, 304):
            self._heads.keep(key, AnswerHead(status, headers, self._keeps))
        self._announce(status, headers, length, has_rest=has_rest)

    def _announce(self, status: int, headers: AnswerHeaders, length: int | None, *, has_rest: bool) -> None:
        """Tell the sink."""
        self._left = length or 0
        call = self.call
        if call is None or call.sink is None:
            return
        if len(call.request.body) > JOIN_BELOW:  # it is never sent again: streams must not keep it in memory
            call.request = structs.replace(call.request, body=b"")
        call.sink.head(status, headers, length)
        if length == 0 and self._mode == _LENGTH and self.call is call:
            self._finish(clean=not has_rest)

    def _read_length(self, data: bytes) -> None:
        call = self.call
        extra = len(data) - self._left
        self._left = -extra
        if call is not None and call.sink is not None:
            call.sink.chunk(data if extra <= 0 else data[:-extra])
        if extra >= 0 and self.call is call:
            self._finish(clean=extra == 0)

    def _read_chunked(self, data: bytes) -> None:
        call = self.call
        broken: str | None = None
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            broken = None if self._complete else f"its chunked encoding is broken ({error})"
            self._second = True
        chunks = self._chunks
        if chunks:
            self._chunks = []
            if call is not None and call.sink is not None:
                call.sink.chunk(chunks[0] if len(chunks) == 1 else b"".join(chunks))
        if self.call is not call:
            return
        if broken is not None:
            self._unreadable(broken)
        elif self._complete:
            # llhttp skips blank lines between messages; behind our answer they are bytes that nobody asked for.
            self._finish(clean=not self._second and not data.endswith(b"\r\n\r\n\r\n"))

    def _finish(self, *, clean: bool) -> None:
        """The answer is complete: keep the connection if its end leaves no doubt."""
        call, self.call = self.call, None
        transport = self.transport
        if call is not None and call.paused:
            transport.resume_reading()
        kept = clean and not self._eof and call is not None and not call.fresh
        if kept and self._keeps and not transport.get_write_buffer_size():
            self._pool.keep(self)
        else:
            transport.abort()
        if call is not None:
            call.done()

    def _unreadable(self, detail: str) -> None:
        call, self.call = self.call, None
        self.transport.abort()
        if call is not None:
            call.lost(Outcome.UNREADABLE, detail, answered=self._received)

    def unacknowledged(self) -> bool:
        """Whether the peer's kernel has left our bytes unacknowledged for two seconds (Linux only, else False)."""
        sock = self.transport.get_extra_info("socket")
        if sock is None or not hasattr(socket, "TCP_INFO"):
            return False
        try:
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 64)
        except OSError:
            return False
        if len(info) < 60:
            return False
        unacked: int = struct.unpack_from("=I", info, 24)[0]
        last_ack_ms: int = struct.unpack_from("=I", info, 56)[0]
        return unacked > 0 and last_ack_ms > ACK_OVERDUE_MS

    # --- what llhttp calls

    def on_message_begin(self) -> None:
        if self._complete:
            self._second = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._headers_done:  # trailers arrive here too; they are dropped
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._headers_done = True
        self._keeps = self._parser.should_keep_alive()  # once the message is complete, llhttp always says no

    def on_body(self, data: bytes) -> None:
        if not self._complete:
            self._chunks.append(data)

    def on_message_complete(self) -> None:
        self._complete = True
