"""What the store keeps: hosts, requests that ended, routing events. Times are UTC, milliseconds since 1970."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import asdict

Status = Literal["success", "error", "missed"]
STATUSES: tuple[Status, ...] = ("success", "error", "missed")  # missed: no backend has such a model


@dataclass(frozen=True, slots=True)
class Host:
    """One machine with an agent, as it was registered."""

    id: str
    name: str
    url: str
    api_key: str = field(repr=False)
    created_ms: int
    settings: dict[str, Any] = field(default_factory=dict)  # weight and the like; whatever JSON can hold


class RequestSummary(Struct, frozen=True, gc=False, kw_only=True):
    """One request that ended. It has no word of what was asked or answered."""

    request_id: str  # as the client named it, so not unique
    request_type: str  # chat, completion, embedding, ...
    status: Status
    ending: str  # success, rejected, failed, broken, client_gone: finer than the status
    http_status: int
    model: str  # as asked for
    resolved_model: str | None = None
    endpoint: str
    client_ip: str
    stream: bool
    attempts: int
    started_ms: int
    ended_ms: int
    duration_s: float
    queued_s: float = 0.0
    ttft_s: float | None = None  # from the request's head to the first byte of the answer
    backend: str | None = None
    host_id: str | None = None
    host_name: str | None = None
    instance_id: str | None = None
    instance_url: str | None = None
    error_message: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    decode_tps: float | None = None
    decode_ms_per_token: float | None = None

    def as_json(self) -> dict[str, Any]:
        """As `/gateway/requests` and `gateway_request` show it."""
        shown = asdict(self)
        shown["start_timestamp"] = iso(shown.pop("started_ms"))
        shown["end_timestamp"] = iso(shown.pop("ended_ms"))
        return shown


class RoutingEvent(Struct, frozen=True):
    """One thing that was decided or happened on a request's way."""

    type: str  # request_start, request_routed, ...
    at_ms: int
    data: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """As `/gateway/events/recent` shows it."""
        return {"type": self.type, "timestamp": iso(self.at_ms), "data": self.data}


Entry = RequestSummary | RoutingEvent


def iso(ms: int) -> str:
    """`ms` as people and JSON write it: 2026-11-22T04:05:06.789+00:00."""
    seconds, rest = divmod(ms, 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:03d}+00:00"
