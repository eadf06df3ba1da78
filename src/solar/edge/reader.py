"""Bytes of one connection in, requests out: HTTP/1.1 as llhttp reads it, within limits, and what it stumbles over."""

from __future__ import annotations

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpRequestParser

from solar.core.headers import value_of
from solar.edge.heads import Heads, Key, KnownHeads
from solar.edge.incoming import MAX_HEAD, Incoming, KnownRequest, head_too_large, invalid_http, refusal_of
from solar.errors import InvalidRequest, SolarError

_SPENT = HttpRequestParser(None)


class Reader:
    """The reading half of a connection; the door is the other."""

    def __init__(self, known: KnownHeads[Key, tuple[Key, KnownRequest]]) -> None:
        self._heads = Heads(known)
        self._key: Key | None = None  # of the head that llhttp is about to read
        self._left = 0  # bytes of body that are still to come for a request whose head was known
        self._parser = HttpRequestParser(self)
        self._reading: Incoming | None = None  # whose head or body is arriving
        self._upgrading: Incoming | None = None  # asked for another protocol: llhttp has stopped behind its head
        self._head_size = 0  # bytes since the last that belonged to a complete head or to a body
        self._deaf = False  # nothing more is read as HTTP; the connection is about to close

    # --- what the door does with it

    def _head_came(self, incoming: Incoming) -> None:
        """A head is here; perhaps with the reason to refuse it."""
        raise NotImplementedError

    def _body_came(self, incoming: Incoming, size: int) -> None:
        """A piece of its body, which `incoming` has."""
        raise NotImplementedError

    def _request_came(self, incoming: Incoming) -> None:
        """It is here to its end."""
        raise NotImplementedError

    def _offers(self, incoming: Incoming, rest: bytes) -> bool:
        """Whether the connection now speaks the other protocol that it asks for, and is no more of our concern."""
        raise NotImplementedError

    def _refuse_input(self, error: SolarError) -> None:
        """From here on it is no HTTP that we read."""
        raise NotImplementedError

    # --- bytes

    def forget_parser(self) -> None:
        """Nothing more will come. The parser leads back here: without this, only the collector would free both."""
        self._parser = _SPENT

    def _read(self, data: bytes) -> None:
        while data and not self._deaf:
            if self._left:
                data = self._read_body(data)
                continue
            begins = self._reading is None and not self._head_size and data.startswith(b"POST ")
            found = self._heads.find(data) if begins else None
            if found is not None:
                known, length, end = found
                data = self._read_known(known, length, end, data)
            else:
                self._key = self._heads.key if begins else None
                self._parse(data)
                return

    def _read_known(self, known: KnownRequest, length: int, end: int, data: bytes) -> bytes:
        """A request whose head was read before; returns what stands behind it."""
        body = data[end : end + length]
        incoming = Incoming(known, length, body)
        self._left = length - len(body)
        if self._left:
            self._reading = incoming
        self._head_came(incoming)
        if body and not incoming.started:
            self._body_came(incoming, len(body))
        return data[end + length :]

    def _read_body(self, data: bytes) -> bytes:
        """The next piece of its body; returns what stands behind it."""
        body = data[: self._left]
        self._left -= len(body)
        self.on_body(body)
        if not self._left:
            self.on_message_complete()
        return data[len(body) :]

    def _parse(self, data: bytes) -> None:
        self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            rest = memoryview(data)[upgrade.args[0] :]
            if self._upgrading is not None and self._offers(self._upgrading, bytes(rest)):
                self._upgrading = None
                return
            self._feed(rest)
        except HttpParserCallbackError:  # ours, not the client's
            raise
        except HttpParserError:
            self._refuse_input(invalid_http())
        if self._head_size > MAX_HEAD:
            self._refuse_input(head_too_large())

    def _feed(self, rest: bytes | memoryview) -> None:
        """Nobody offered this upgrade: read each request that asks for one as if it had not, and then what follows."""
        pieces = [rest]
        try:
            while pieces and not self._deaf:
                if (declined := self._decline_upgrade()) is not None:
                    pieces.append(declined)
                piece = pieces.pop()
                try:
                    self._parser.feed_data(piece)
                except HttpParserUpgrade as upgrade:
                    pieces.append(memoryview(piece)[upgrade.args[0] :])
        except HttpParserCallbackError:
            raise
        except HttpParserError:
            self._refuse_input(invalid_http())

    def _decline_upgrade(self) -> bytes | None:
        """The head of a request that asked for another protocol, without that wish; llhttp needs it once more."""
        incoming, self._upgrading = self._upgrading, None
        if incoming is None:
            return None
        self._parser = HttpRequestParser(self)
        if incoming.method == "CONNECT":
            self._reading = incoming
            self._refuse_input(InvalidRequest("CONNECT is not served here", status=405, code="method_not_allowed"))
            return None
        return incoming.without_upgrade()

    # --- what llhttp calls

    def on_message_begin(self) -> None:
        if not self._deaf:
            self._reading = incoming = Incoming()
            incoming.key, self._key = self._key, None

    def on_url(self, url: bytes) -> None:
        if self._reading is not None:
            self._reading.target += url
            self._reading.head_size += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        reading = self._reading
        if reading is not None and not reading.frozen:  # trailers come here too: they are dropped
            reading.headers.append((name.lower(), value.rstrip()))  # llhttp leaves blanks behind it
            reading.head_size += len(name) + len(value) + 4

    def on_headers_complete(self) -> None:
        reading = self._reading
        if reading is None:
            return
        parser = self._parser
        reading.frozen = True
        self._head_size = 0
        reading.method = parser.get_method().decode("ascii")
        reading.version = parser.get_http_version()
        reading.keep_alive = parser.should_keep_alive()
        if parser.should_upgrade():
            self._upgrading, self._reading = reading, None
            return
        reading.refusal = refusal_of(reading)
        if reading.refusal is not None:  # where it ends is no longer sure
            reading.keep_alive = False
        elif (declared := value_of(reading.headers, b"content-length")) is not None:
            reading.length = int(declared)
        self._head_came(reading)

    def on_body(self, data: bytes) -> None:
        self._head_size = 0
        reading = self._reading
        if reading is None:
            return
        if reading.skipping:
            reading.size += len(data)
            return
        reading.add(data)
        self._body_came(reading, len(data))

    def on_message_complete(self) -> None:
        self._head_size = 0
        reading = self._reading
        if reading is None:
            return
        self._reading = None
        reading.complete = True
        if not reading.keep_alive:
            self._deaf = True
        self._request_came(reading)
