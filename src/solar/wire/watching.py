"""What the coordinator's watchers read on its WebSockets: hosts, keepalives, filters, and each routing decision.

Every frame is `{"type": ..., "data": ...}`, or has fields of its own beside the type, as the original's clients
read them.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from solar.wire.figures import Memory
from solar.wire.hosts import Status
from solar.wire.reading import Fields, Unreadable, decode_object

PING, PONG = "ping", "pong"  # frames that are just this text
KEEPALIVE_SECONDS = 30.0  # of a client's silence
MAX_FRAME = 64 * 1024  # bytes that a watcher may send at once


class HostSeen(msgspec.Struct, frozen=True, kw_only=True):
    """One host in a frame."""

    host_id: str
    name: str
    status: Status
    url: str
    last_seen: str | None = None
    memory: Memory | None = None
    connected: bool = False  # its agent keeps a link open to us
    timestamp: str | None = None


class InitialStatus(msgspec.Struct, frozen=True, tag_field="type", tag="initial_status"):
    """The first frame: all hosts."""

    data: tuple[HostSeen, ...]


class HostStatus(msgspec.Struct, frozen=True, tag_field="type", tag="host_status"):
    """A host changed, or told its memory."""

    data: HostSeen


class KeepaliveFrame(msgspec.Struct, frozen=True, tag_field="type", tag="keepalive"):
    """We are there."""


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which `gateway_request` frames a watcher wants; other frames pass whatever it says."""

    status: str = "all"
    request_type: str = "all"
    model: str | None = None
    host_id: str | None = None

    def admits(self, *, status: str, request_type: str, model: str | None, host_id: str | None) -> bool:
        """Whether a request like this is wanted."""
        return (
            self.status in ("all", status)
            and self.request_type in ("all", request_type)
            and self.model in (None, model)
            and self.host_id in (None, host_id)
        )


class FilterStatus(msgspec.Struct, frozen=True, tag_field="type", tag="filter_status"):
    """The filter that holds now."""

    filter: Filter


class RequestStart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A request came in."""

    request_id: str
    model: str
    endpoint: str
    client_ip: str | None
    timestamp: str
    stream: bool = False  # told only where it is true


class Considered(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A backend that might have been chosen: its value by name, the smallest was taken; or why it was not available."""

    backend: str
    value: dict[str, Any] = {}
    why_not: str | None = None


class RequestRouted(msgspec.Struct, frozen=True, kw_only=True):
    """A backend was chosen for it."""

    request_id: str
    model: str
    resolved_model: str
    host_id: str | None
    host_name: str | None
    instance_id: str | None
    instance_url: str
    client_ip: str | None
    timestamp: str
    attempt: int = 1
    candidates: tuple[Considered, ...] | UnsetType = UNSET  # the one that was chosen first


class RequestReroute(msgspec.Struct, frozen=True, kw_only=True):
    """That backend failed before its first byte; another is asked."""

    request_id: str
    model: str
    host_id: str | None
    instance_id: str | None
    reason: str  # "connect_error", or what it was
    attempt: int  # that failed
    timestamp: str
    backend: str | UnsetType = UNSET
    detail: str | UnsetType = UNSET


class RequestSuccess(msgspec.Struct, frozen=True, kw_only=True):
    """It was answered to its end."""

    request_id: str
    model: str
    host_id: str | None
    instance_id: str | None
    duration: float  # seconds
    timestamp: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    decode_tps: float | None = None
    decode_ms_per_token: float | None = None


class RequestError(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """It was not; what is not known is left out."""

    request_id: str
    model: str
    error_message: str
    timestamp: str
    host_id: str | None = None
    instance_id: str | None = None
    duration: float | None = None
    client_ip: str | None = None
    candidates: tuple[Considered, ...] = ()  # where none of them could be asked: why not


class GatewayRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request and all that came of it, once it is over."""

    request_id: str
    request_type: str  # chat, completion, embedding, classification, rerank, tokenize, detokenize, unknown
    status: Literal["success", "error", "missed"]
    model: str
    resolved_model: str | None
    endpoint: str
    client_ip: str | None
    stream: bool
    attempts: int
    start_timestamp: str
    end_timestamp: str
    duration_s: float
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


RoutingEvent = RequestStart | RequestRouted | RequestReroute | RequestSuccess | RequestError | GatewayRequest

_TYPES: dict[type[RoutingEvent], str] = {
    RequestStart: "request_start",
    RequestRouted: "request_routed",
    RequestReroute: "request_reroute",
    RequestSuccess: "request_success",
    RequestError: "request_error",
    GatewayRequest: "gateway_request",
}


def routing_frame(event: RoutingEvent) -> bytes:
    """A routing event as watchers read it."""
    return msgspec.json.encode({"type": _TYPES[type(event)], "data": event})


def read_filter(frame: str | bytes) -> Filter:
    """A watcher's `set_filter`. Raises Unreadable for any other frame. What is wrong in it filters nothing."""
    if len(frame) > MAX_FRAME:
        raise Unreadable(f"a frame of {len(frame)} bytes is more than the limit of {MAX_FRAME}")
    fields = Fields(decode_object(frame), "the frame")
    if fields.text("type") != "set_filter":
        raise Unreadable("a set_filter was expected")
    wanted = Fields(fields.inner("filter"), "the filter")
    return Filter(
        status=wanted.name("status") or "all",
        request_type=wanted.name("request_type") or "all",
        model=wanted.name("model"),
        host_id=wanted.name("host_id"),
    )
