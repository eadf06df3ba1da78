"""From the books of a request to the records of it that are kept. Nothing here waits, or looks at other requests.

Records hold what was decided and how it ended; no word of what was asked or answered.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import lru_cache
from urllib.parse import quote

import msgspec

from solar.control.fleet import HostView
from solar.control.fleet.hosts import What
from solar.core.paths import ENDPOINTS
from solar.core.record import Record
from solar.errors import InvalidRequest
from solar.store import RequestSummary, RoutingEvent, Status, Store
from solar.store import iso as written_out
from solar.wire.address import agent_url, instance_url
from solar.wire.watching import RequestError, RequestReroute, RequestRouted, RequestStart, RequestSuccess

_KINDS = {
    "chat": "chat",
    "responses": "chat",
    "messages": "chat",
    "completions": "completion",
    "embeddings": "embedding",
    "classify": "classification",
}
ROUTED = frozenset(endpoint.name for endpoint in ENDPOINTS.values())
_NOBODY = frozenset({"model_not_found", "no_backend_available", "model_loading"})  # refused before anybody was tried

Seen = RequestStart | RequestRouted | RequestReroute | RequestSuccess | RequestError


class Place(msgspec.Struct, frozen=True):
    """Where a backend of the fleet is."""

    host_id: str | None = None
    host_name: str | None = None
    instance_id: str | None = None
    url: str | None = None


_NOWHERE = Place()


class Places:
    """Which backend is which instance of which host: what a fleet's changes tell."""

    def __init__(self) -> None:
        self._of_host: dict[str, dict[str, Place]] = {}

    def __repr__(self) -> str:
        return f"<Places of {len(self._of_host)} hosts>"

    def changed(self, what: What, view: HostView) -> None:
        """A host is, or has, something else now."""
        if what == "removed":
            self._of_host.pop(view.id, None)
        elif what in ("added", "patched", "instances"):
            self._of_host[view.id] = dict(_places(view))

    def of(self, backend_id: str) -> Place:
        """Where that backend is; nowhere, where it belongs to no host."""
        return self._of_host.get(backend_id.partition("/")[0], {}).get(backend_id, _NOWHERE)


class Records:
    """Keeps what becomes of requests."""

    def __init__(self, store: Store, places: Places) -> None:
        self._store = store
        self._places = places

    def __repr__(self) -> str:
        return f"<Records in {self._store!r}>"

    def book(self, record: Record) -> None:
        """A request is over."""
        if record.endpoint not in ROUTED:
            return
        now_ms = int(time.time() * 1000)
        place = self._places.of(record.backend) if record.backend else _NOWHERE
        for at, event in _events(record, place, now_ms):
            self._store.event(RoutingEvent(_TYPES[type(event)], at, msgspec.to_builtins(event)))
        self._store.record(summary_of(record, place, now_ms))


_TYPES: dict[type[Seen], str] = {
    RequestStart: "request_start",
    RequestRouted: "request_routed",
    RequestReroute: "request_reroute",
    RequestSuccess: "request_success",
    RequestError: "request_error",
}


def status_of(record: Record) -> Status:
    """How it ended, in the original's three words: missed is what nobody could be asked for."""
    if record.end == "success":
        return "success"
    return "missed" if not record.attempts and record.code in _NOBODY else "error"


def _places(view: HostView) -> Iterator[tuple[str, Place]]:
    try:
        agent = agent_url(view.url)
    except InvalidRequest:  # what an original had kept may be no address
        return
    for instance in view.instances:
        if instance.port:
            url = instance_url(agent, instance.port)
            yield f"{view.id}/{quote(instance.id, safe='')}", Place(view.id, view.name, instance.id, url)


def summary_of(record: Record, place: Place, now_ms: int) -> RequestSummary:
    """All that became of it."""
    status = status_of(record)
    speed = _speed(record)
    return RequestSummary(
        request_id=record.id,
        request_type=_KINDS.get(record.endpoint, record.endpoint),
        status=status,
        ending=record.end,
        http_status=record.status,
        model=record.model,
        resolved_model=record.resolved or None,
        endpoint=record.path,
        client_ip=record.client,
        stream=record.stream,
        attempts=record.attempts,
        started_ms=_ms(record, record.started_at, now_ms),
        ended_ms=now_ms,
        duration_s=round(record.duration, 6),
        queued_s=round(record.queued, 6),
        ttft_s=record.first_token,
        backend=record.backend or None,
        host_id=place.host_id,
        host_name=place.host_name,
        instance_id=place.instance_id,
        instance_url=place.url,
        error_message=None if status == "success" else _message(record),
        prompt_tokens=record.tokens_in,
        completion_tokens=record.tokens_out,
        total_tokens=_total(record),
        decode_tps=speed,
        decode_ms_per_token=round(1000 / speed, 3) if speed else None,
    )


def _events(record: Record, place: Place, now_ms: int) -> Iterator[tuple[int, Seen]]:
    """What happened on its way, with its time. The books tell of the last attempt only."""
    who, model, client = record.id, record.model, record.client
    at = _ms(record, record.started_at, now_ms)
    yield (
        at,
        RequestStart(
            request_id=who, model=model, endpoint=record.path, client_ip=client, timestamp=iso(at), stream=record.stream
        ),
    )
    if record.attempts:
        at = now_ms if record.sent_at is None else _ms(record, record.sent_at, now_ms)
        if record.attempts > 1:
            reroute = RequestReroute(
                request_id=who,
                model=model,
                host_id=None,
                instance_id=None,
                reason="failed",
                attempt=record.attempts,
                timestamp=iso(at),
            )
            yield at, reroute
        routed = RequestRouted(
            request_id=who,
            model=model,
            resolved_model=record.resolved or model,
            host_id=place.host_id,
            host_name=place.host_name,
            instance_id=place.instance_id,
            instance_url=place.url or record.backend,
            client_ip=client,
            timestamp=iso(at),
            attempt=record.attempts,
        )
        yield at, routed
    yield now_ms, ended(record, place, now_ms)


def ended(record: Record, place: Place, now_ms: int) -> Seen:
    """How it ended."""
    if record.end != "success":
        return RequestError(
            request_id=record.id,
            model=record.model,
            error_message=_message(record),
            timestamp=iso(now_ms),
            host_id=place.host_id,
            instance_id=place.instance_id,
            duration=round(record.duration, 6),
            client_ip=record.client,
        )
    speed = _speed(record)
    return RequestSuccess(
        request_id=record.id,
        model=record.model,
        host_id=place.host_id,
        instance_id=place.instance_id,
        duration=round(record.duration, 6),
        timestamp=iso(now_ms),
        prompt_tokens=record.tokens_in,
        completion_tokens=record.tokens_out,
        total_tokens=_total(record),
        decode_tps=speed,
        decode_ms_per_token=round(1000 / speed, 3) if speed else None,
    )


@lru_cache(maxsize=16)
def _second(seconds: int) -> str:
    return written_out(seconds * 1000)[:19]


def iso(ms: int) -> str:
    """A time as JSON has it. Requests share seconds, and writing one out costs as much as the rest of an event."""
    return f"{_second(ms // 1000)}.{ms % 1000:03d}+00:00"


def _ms(record: Record, at: float, now_ms: int) -> int:
    """A time of the books, as milliseconds since 1970."""
    return now_ms - max(0, int((record.ended_at - at) * 1000))


def _message(record: Record) -> str:
    if record.end == "client_gone":
        return "the client left"
    return record.detail or record.code or f"answered {record.status}"


def _total(record: Record) -> int | None:
    if record.tokens_in is None or record.tokens_out is None:
        return None
    return record.tokens_in + record.tokens_out


def _speed(record: Record) -> float | None:
    """Tokens a second, as they passed here, after the first."""
    first, count = record.first_byte_at, record.tokens_out
    if not record.stream or first is None or count is None or count < 2 or record.ended_at <= first:
        return None
    return round((count - 1) / (record.ended_at - first), 2)
