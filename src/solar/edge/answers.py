"""What we say ourselves: errors in the wire's own shape, and what is added to a backend's head."""

from __future__ import annotations

from solar.core.attempts import Outcome
from solar.core.headers import STREAM_HEADERS, Block, Headers
from solar.core.openai import error_body
from solar.core.record import Record
from solar.core.roster import Refusal
from solar.errors import InvalidRequest, ModelNotFound, NoBackendAvailable, SolarError, TooManyRequests, UpstreamFailed

RETRY_AFTER_FULL = 5.0  # seconds
EVENT_STREAM = Block([(b"content-type", b"text/event-stream"), *STREAM_HEADERS])

_CUT = {
    "upstream_cut": "the backend ended it before its end",
    "upstream_timeout": "the backend took too long",
    "upstream_stalled": "the backend stopped moving",
    "shutdown": "the gateway is stopping",
}


def with_retry_advice(headers: Block, attempts: int) -> Block:
    """The headers of a 5xx, with what keeps the SDKs from trying again what was tried elsewhere already."""
    if attempts < 2 or _has_retry_advice(headers.pairs):
        return headers
    return Block([*headers.pairs, (b"x-should-retry", b"false")])


def _has_retry_advice(headers: Headers) -> bool:
    return any(name in (b"retry-after", b"retry-after-ms", b"x-should-retry") for name, _ in headers)


def route_pairs(record: Record) -> Headers:
    """What we have to say about the way that a request took."""
    pairs = [
        (b"x-request-id", record.id.encode("latin-1")),
        (b"x-solar-attempts", b"%d" % record.attempts),
        (b"x-solar-overhead-ms", b"%.3f" % (record.overhead * 1000)),
    ]
    if record.backend:
        pairs.append((b"x-solar-backend", record.backend.encode("utf-8")))
    if record.session_broken:
        pairs.append((b"x-session-broken", b"true"))
    return pairs


def route_lines(record: Record) -> bytes:
    """The same as HTTP/1.1 writes it, in one piece: it is said with each answer."""
    lines = b"x-request-id: %b\r\nx-solar-attempts: %d\r\nx-solar-overhead-ms: %.3f\r\n" % (
        record.id.encode("latin-1"),
        record.attempts,
        record.overhead * 1000,
    )
    if record.backend:
        lines += b"x-solar-backend: %b\r\n" % record.backend.encode("utf-8")
    if record.session_broken:
        lines += b"x-session-broken: true\r\n"
    return lines


def error_answer(error: SolarError, wire: str, request_id: str, *, attempts: int = 0) -> tuple[bytes, Headers]:
    """Body and headers of an error of our own; the length is the door's to say."""
    body = error_body(
        error.message,
        status=error.status,
        type=error.type,
        code=error.code,
        param=error.param,
        wire="anthropic" if wire == "messages" else "openai",
        request_id=request_id,
    )
    headers = [(b"content-type", b"application/json")]
    if error.retry_after is not None:
        headers.append((b"retry-after", b"%d" % max(1, -int(-error.retry_after // 1))))
    elif error.status >= 500 and attempts >= 2:
        headers.append((b"x-should-retry", b"false"))
    return body, headers


def cut_short(code: str) -> str:
    """What a client reads whose stream broke."""
    return f"the stream was cut short: {_CUT.get(code, 'the backend failed')}"


def no_such_model(model: str) -> SolarError:
    """Nobody has it; or the request named none."""
    if not model:
        return InvalidRequest('the request names no model; add "model" (GET /v1/models lists them)', param="model")
    return ModelNotFound(f"no backend has the model {model!r}; GET /v1/models lists those there are", param="model")


def unavailable(model: str, refusal: Refusal) -> SolarError:
    """Backends have it, and none can take the request."""
    if refusal.why == "loading":
        message = f"the model {model!r} is still loading; try again shortly"
        return NoBackendAvailable(message, code="model_loading", retry_after=refusal.retry_after)
    return NoBackendAvailable(f"no backend of {model!r} is available now", retry_after=refusal.retry_after)


def queue_full(model: str, limit: int) -> SolarError:
    """The queue itself has no room."""
    message = f"every backend of {model!r} is full, and so is its queue ({limit}); try again later"
    return TooManyRequests(message, retry_after=RETRY_AFTER_FULL)


def queue_timeout(model: str, seconds: float) -> SolarError:
    """It waited in vain."""
    message = f"no backend of {model!r} had room within {seconds:g} s; try again later"
    return TooManyRequests(message, code="queue_timeout", retry_after=RETRY_AFTER_FULL)


def stopping() -> SolarError:
    """The gateway takes nothing new."""
    return NoBackendAvailable("the gateway is stopping", code="shutdown", retry_after=1.0)


def gave_up(model: str, outcome: Outcome, attempts: int) -> SolarError:
    """Everything allowed was tried."""
    tried = f"{attempts} backend{'s' if attempts > 1 else ''} tried"
    if outcome in (Outcome.REFUSED, Outcome.CONNECT_TIMEOUT):
        return NoBackendAvailable(f"no backend of {model!r} could be reached ({tried})", retry_after=1.0)
    if outcome in (Outcome.TIMEOUT, Outcome.STALLED):
        return UpstreamFailed(f"the backend of {model!r} took too long ({tried})", status=504, code="upstream_timeout")
    return UpstreamFailed(f"the backend of {model!r} failed before it answered ({tried})")
