"""Which headers pass: to backends only those on a list, to clients all that do not belong to one connection."""

from __future__ import annotations

from collections.abc import Iterable

Headers = list[tuple[bytes, bytes]]

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
