"""What the store keeps: hosts, and requests that ended. Times are UTC, milliseconds since 1970."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
from msgspec import Struct

Status = Literal["success", "error", "missed"]
STATUSES: tuple[Status, ...] = ("success", "error", "missed")  # missed: no backend has such a model

# Of the table of requests: the fields of a RequestSummary, its trail as text. What may be absent may be "" or -1 then:
# sqlite3 of Python 3.11 takes longer for one None, or a bool, than for three texts.
Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Host:
    """One machine with an agent, as it was registered."""

    id: str
    name: str
    url: str
    api_key: str = field(repr=False)
    created_ms: int
    settings: dict[str, Any] = field(default_factory=dict)  # weight and the like; whatever JSON can hold


class Candidate(Struct, frozen=True, omit_defaults=True):
    """A backend that was considered: its value, the most important part first, or why it was not available."""

    backend: str
    value: dict[str, Any] = {}
    why_not: str | None = None


class Try(Struct, frozen=True, omit_defaults=True):
    """An attempt that failed before the answer's first byte. Times count from the request's head."""

    backend: str
    sent_us: int
    failed_us: int
    reason: str  # connect_error, ...
    detail: str = ""
    model: str = ""  # the backend's own name for it
    host_id: str = ""
    host_name: str = ""
    instance_id: str = ""
    url: str = ""  # of the instance
    candidates: tuple[Candidate, ...] = ()


class Trail(Struct, frozen=True, omit_defaults=True):
    """What is worth telling of a request's way: who failed, and who was considered for the last attempt."""

    tries: tuple[Try, ...] = ()
    candidates: tuple[Candidate, ...] = ()


class RequestSummary(Struct, frozen=True, gc=False):
    """One request that ended, as a row has it. It has no word of what was asked or answered."""

    request_id: str  # as the client named it, so not unique
    request_type: str  # chat, completion, embedding, ...
    status: Status
    ending: str  # success, rejected, failed, broken, client_gone: finer than the status
    http_status: int
    model: str  # as asked for
    endpoint: str  # the path
    client_ip: str
    stream: bool
    attempts: int
    ended_ms: int
    duration_us: int
    queued_us: int = 0
    sent_us: int | None = None  # from the request's head until the last attempt was sent
    ttft_us: int | None = None  # from there to the first byte of the answer
    resolved_model: str | None = None  # where the answering backend has another name for it
    backend: str | None = None  # where it is no host's; a host's is told by what follows
    host_id: str | None = None
    host_name: str | None = None
    instance_id: str | None = None
    instance_url: str | None = None
    error_message: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    trail: Trail | None = None  # nothing, where it went straight to its only attempt

    @property
    def started_ms(self) -> int:
        return self.ended_ms - self.duration_us // 1000

    @property
    def resolved(self) -> str | None:
        """What the backend that was asked last calls the model; None where none was asked."""
        return (self.resolved_model or self.model) if self.attempts else None

    @property
    def total_tokens(self) -> int | None:
        if self.prompt_tokens is None or self.completion_tokens is None:
            return None
        return self.prompt_tokens + self.completion_tokens

    @property
    def decode_tps(self) -> float | None:
        """Tokens a second, as they passed here, after the first."""
        first, count = self.ttft_us, self.completion_tokens
        if not self.stream or first is None or count is None or count < 2 or self.duration_us <= first:
            return None
        return round((count - 1) / (self.duration_us - first) * 1e6, 2)

    @property
    def decode_ms_per_token(self) -> float | None:
        speed = self.decode_tps
        return round(1000 / speed, 3) if speed else None

    def as_json(self) -> dict[str, Any]:
        """As `/gateway/requests` shows it."""
        return {
            "request_id": self.request_id,
            "request_type": self.request_type,
            "status": self.status,
            "ending": self.ending,
            "http_status": self.http_status,
            "model": self.model,
            "resolved_model": self.resolved,
            "endpoint": self.endpoint,
            "client_ip": self.client_ip,
            "stream": self.stream,
            "attempts": self.attempts,
            "start_timestamp": iso(self.started_ms),
            "end_timestamp": iso(self.ended_ms),
            "duration_s": self.duration_us / 1e6,
            "queued_s": self.queued_us / 1e6,
            "ttft_s": None if self.ttft_us is None else self.ttft_us / 1e6,
            "backend": self.backend,
            "host_id": self.host_id,
            "host_name": self.host_name,
            "instance_id": self.instance_id,
            "instance_url": self.instance_url,
            "error_message": self.error_message,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.total_tokens,
            "decode_tps": self.decode_tps,
            "decode_ms_per_token": self.decode_ms_per_token,
        }


COLUMNS = RequestSummary.__struct_fields__
_STREAM, _OPTIONAL = COLUMNS.index("stream"), COLUMNS.index("sent_us")
OPTIONAL_NUMBERS = ("sent_us", "ttft_us", "prompt_tokens", "completion_tokens")
OPTIONAL_TEXTS = tuple(name for name in COLUMNS[_OPTIONAL:] if name not in OPTIONAL_NUMBERS)
_trail = msgspec.json.Decoder(Trail)


def trail_text(trail: Trail | None) -> str:
    """As its column has it."""
    # A policy of the library's user may give any value.
    return "" if trail is None else msgspec.json.encode(trail, enc_hook=repr).decode()


def row_of(summary: RequestSummary) -> Row:
    """As the table has it."""
    return (*msgspec.structs.astuple(summary)[:-1], trail_text(summary.trail))


def of_row(row: Sequence[Any]) -> RequestSummary:
    """What such a row says."""
    told = [*row[:_OPTIONAL], *(None if value in ("", -1) else value for value in row[_OPTIONAL:])]
    told[_STREAM] = bool(told[_STREAM])
    if told[-1] is not None:
        told[-1] = _trail.decode(told[-1])
    return RequestSummary(*told)


def iso(ms: int) -> str:
    """`ms` as people and JSON write it: 2026-11-22T04:05:06.789+00:00."""
    seconds, rest = divmod(ms, 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:03d}+00:00"
