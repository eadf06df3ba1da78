"""Which headers pass: to backends only those on a list, to clients all that do not belong to one connection."""

from __future__ import annotations

from collections.abc import Iterable

Headers = list[tuple[bytes, bytes]]

STREAM_HEADERS: Headers = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]

# What a backend may see of a client's head. Keys, cookies, hosts and hop-by-hop fields are not among them.
TO_BACKENDS = frozenset(
    {
        b"accept",
        b"accept-language",
        b"anthropic-beta",
        b"anthropic-version",
        b"baggage",
        b"content-type",
        b"idempotency-key",
        b"openai-beta",
        b"openai-organization",
        b"openai-project",
        b"traceparent",
        b"tracestate",
        b"user-agent",
        b"x-session-id",
    }
)

# What belongs to the backend's connection or describes the server that answered, which for the client is us.
NOT_TO_CLIENTS = frozenset(
    {
        b"connection",
        b"content-length",  # set again where the length is known
        b"date",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"server",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"vary",  # said again by us where origins matter
        b"x-request-id",
        # A Solar behind us has said these of its own part of the way.
        b"x-solar-attempts",
        b"x-solar-backend",
        b"x-solar-overhead-ms",
        # Two answers to one CORS question make a browser refuse both.
        b"access-control-allow-credentials",
        b"access-control-allow-headers",
        b"access-control-allow-methods",
        b"access-control-allow-origin",
        b"access-control-expose-headers",
        b"access-control-max-age",
    }
)


def wire_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """`headers` as HTTP/1.1 writes them."""
    return b"".join([b"%b: %b\r\n" % (name, value) for name, value in headers])


class Block:
    """Headers that are sent more than once: as pairs, and as HTTP/1.1 writes them. Never changed."""

    __slots__ = ("pairs", "wire")

    def __init__(self, pairs: Headers) -> None:
        self.pairs = pairs
        self.wire = wire_of(pairs)

    def __repr__(self) -> str:
        return f"<Block {self.pairs!r}>"


NO_HEADERS = Block([])


class AnswerHeaders(Headers):
    """The headers of a backend's answer, and what follows from them. Never changed."""

    __slots__ = ("as_stream", "encoded", "event_stream", "passed")

    def __init__(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        super().__init__(headers)
        kind = value_of(self, b"content-type")
        # Whatever the request had asked for.
        self.event_stream = kind is not None and kind.lstrip()[:17].lower() == b"text/event-stream"
        # Compressed, though we asked for none of that: then nobody can look inside.
        self.encoded = (value_of(self, b"content-encoding") or b"identity").strip().lower() != b"identity"
        self.passed = Block(to_client(self))  # to the client
        self.as_stream = self.passed  # to the client, where we relay it as an event stream
        if self.event_stream:
            kept = [header for header in self.passed.pairs if header[0] not in _SAID_BY_US]
            self.as_stream = Block(kept + STREAM_HEADERS)


_SAID_BY_US = frozenset(name for name, _ in STREAM_HEADERS)


def to_backend(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """The client's headers that a backend may see."""
    allowed = TO_BACKENDS
    return [header for header in headers if header[0] in allowed]


def to_client(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """The backend's headers that reach the client, as they came. What `connection` names does not."""
    dropped = NOT_TO_CLIENTS
    for name, value in headers:
        if name == b"connection":
            dropped = dropped | {token.strip().lower() for token in value.split(b",")}
    return [header for header in headers if header[0] not in dropped]


def value_of(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """The first value of `name`, in lower case here, or None."""
    for key, value in headers:
        if key == name:
            return value
    return None
