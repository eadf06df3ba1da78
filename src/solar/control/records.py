"""From the books of a request to the row that is kept of it, and from that to what watchers and `/gateway` tell.

There is one row a request: what was decided, how it ended; no word of what was asked or answered. What happened on its
way is told from that: by `events_of` once it has ended, and frame by frame by `start_of`, `routed_of`, `reroute_of` and
`ended_of`. `summary_of` gives the same of a request that is still on its way, so that live frames and stored ones are
made by the same functions: `routed_of(summary_of(record, places))`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import NamedTuple
from urllib.parse import quote

from msgspec import UNSET

from solar.control.fleet import HostView
from solar.control.fleet.view import What
from solar.core.decision import Weighed
from solar.core.paths import ENDPOINTS
from solar.core.record import Record
from solar.errors import InvalidRequest
from solar.store import Candidate, Happened, RequestSummary, Row, Status, Store, Trail, Try
from solar.store import iso as written_out
from solar.store.facts import of_row, trail_text
from solar.wire.address import agent_url, instance_url
from solar.wire.watching import (
    Considered,
    RequestError,
    RequestReroute,
    RequestRouted,
    RequestStart,
    RequestSuccess,
)

PLACES = 10_000  # that are remembered; those told last

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
# What the original's clients know by one name; `detail` says more.
_NO_CONNECTION = frozenset({"refused", "connect timeout", "died unused", "reset"})


class Place(NamedTuple):
    """Where a backend of the fleet is; "" where it is nowhere."""

    host_id: str = ""
    host_name: str = ""
    instance_id: str = ""
    url: str = ""


_NOWHERE = Place()


class Places:
    """Which backend is which instance of which host: what a fleet's changes tell.

    Who is gone is remembered, as what it was asked may end later. `of` is for any thread.
    """

    def __init__(self) -> None:
        self._known: dict[str, Place] = {}

    def __repr__(self) -> str:
        return f"<Places of {len(self._known)} backends>"

    def changed(self, what: What, view: HostView) -> None:
        """A host is, or has, something else now."""
        if what not in ("added", "patched", "instances"):
            return
        told = dict(_places(view))
        known = {backend_id: place for backend_id, place in self._known.items() if backend_id not in told} | told
        self._known = dict(islice(known.items(), max(0, len(known) - PLACES), None))

    def of(self, backend_id: str) -> Place:
        """Where that backend is; nowhere, where it belongs to no host."""
        return self._known.get(backend_id, _NOWHERE)


class Records:
    """Keeps what becomes of requests."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __repr__(self) -> str:
        return f"<Records in {self._store!r}>"

    def book(self, record: Record) -> None:
        """A request is over, and nobody changes its books any more: they wait as they are."""
        if record.endpoint in ROUTED:
            self._store.record(record)


def rows_of(places: Places, records: Sequence[Record]) -> list[Row]:
    """A row for each request that ended. For the thread that writes them."""
    zero = _clock_began()
    place_of = places.of
    return [_row(record, place_of(record.backend), zero, _trail(record, places)) for record in records]


def summary_of(record: Record, places: Places) -> RequestSummary:
    """A request as it is now, with who was considered for it even where nothing went wrong."""
    trail = _told_trail(record, places)
    return of_row(_row(record, places.of(record.backend), _clock_began(), trail_text(trail)))


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


def _clock_began() -> float:
    """When the clock of the books stood at zero, in seconds since 1970."""
    return time.time() - time.monotonic()


def _row(record: Record, place: Place, zero: float, trail: str) -> Row:
    """In the order of RequestSummary, without a None. This is paid for each request."""
    began, ended, sent, first = record.started_at, record.ended_at, record.sent_at, record.first_byte_at
    endpoint, resolved, tokens_in, tokens_out = record.endpoint, record.resolved, record.tokens_in, record.tokens_out
    success = record.end == "success"
    host_id, host_name, instance_id, url = place
    return (
        record.id,
        _KINDS.get(endpoint, endpoint),
        "success" if success else status_of(record),
        record.end,
        record.status,
        record.model,
        record.path,
        record.client,
        1 if record.stream else 0,
        record.attempts,
        int((zero + ended) * 1000),
        int((ended - began) * 1e6),
        int(record.queued * 1e6),
        -1 if sent is None else int((sent - began) * 1e6),
        -1 if first is None else int((first - began) * 1e6),
        "" if resolved == record.model else resolved,
        "" if host_id else record.backend,
        host_id,
        host_name,
        instance_id,
        url,
        "" if success else _message(record),
        -1 if tokens_in is None else tokens_in,
        -1 if tokens_out is None else tokens_out,
        trail,
    )


def _message(record: Record) -> str:
    if record.end == "client_gone":
        return "the client left"
    return record.detail or record.code or f"answered {record.status}"


def _trail(record: Record, places: Places) -> str:
    """Nothing, where it went straight to its only attempt."""
    if not record.tries and (record.attempts or not record.weighed.candidates):
        return ""
    return trail_text(_told_trail(record, places))


def _told_trail(record: Record, places: Places) -> Trail:
    began = record.started_at
    tries = tuple(
        Try(
            backend=tried.backend,
            model=tried.model,
            sent_us=int((tried.sent_at - began) * 1e6),
            failed_us=int((tried.ended_at - began) * 1e6),
            reason="connect_error" if tried.outcome in _NO_CONNECTION else tried.outcome,
            detail=tried.detail,
            candidates=_candidates(tried.weighed),
            **places.of(tried.backend)._asdict(),
        )
        for tried in record.tries
    )
    return Trail(tries, _candidates(record.weighed))


def _candidates(weighed: Weighed) -> tuple[Candidate, ...]:
    return tuple(Candidate(one.backend, dict(one.values), one.why_not) for one in weighed.considered())


# --- what is told of it


def events_of(summary: RequestSummary) -> Iterator[Happened]:
    """What happened on the way of a request that ended, the earliest first."""
    began = summary.started_ms
    yield Happened(began, "request_start", start_of(summary))
    tries = summary.trail.tries if summary.trail else ()
    for number, tried in enumerate(tries, start=1):
        yield Happened(began + tried.sent_us // 1000, "request_routed", routed_of(summary, number))
        if number < summary.attempts:
            yield Happened(began + tried.failed_us // 1000, "request_reroute", reroute_of(summary, number))
    if summary.attempts > len(tries):
        yield Happened(began + (summary.sent_us or 0) // 1000, "request_routed", routed_of(summary))
    kind = "request_success" if summary.status == "success" else "request_error"
    yield Happened(summary.ended_ms, kind, ended_of(summary))


def start_of(summary: RequestSummary) -> RequestStart:
    """It came in."""
    return RequestStart(
        request_id=summary.request_id,
        model=summary.model,
        endpoint=summary.endpoint,
        client_ip=summary.client_ip,
        timestamp=iso(summary.started_ms),
        stream=summary.stream,
    )


def routed_of(summary: RequestSummary, attempt: int | None = None) -> RequestRouted:
    """A backend was chosen for the attempt of that number, from 1 on; None: for the last one."""
    trail = summary.trail or Trail()
    if attempt is not None and attempt <= len(trail.tries):
        tried = trail.tries[attempt - 1]
        sent_us, candidates = tried.sent_us, tried.candidates
        model: str | None = tried.model
        place: tuple[str | None, ...] = (tried.host_id, tried.host_name, tried.instance_id, tried.url or tried.backend)
    else:
        sent_us, model, candidates = summary.sent_us or 0, summary.resolved, trail.candidates
        place = (summary.host_id, summary.host_name, summary.instance_id, summary.instance_url or summary.backend)
    host_id, host_name, instance_id, url = place
    return RequestRouted(
        request_id=summary.request_id,
        model=summary.model,
        resolved_model=model or summary.model,
        host_id=host_id or None,
        host_name=host_name or None,
        instance_id=instance_id or None,
        instance_url=url or "",
        client_ip=summary.client_ip,
        timestamp=iso(summary.started_ms + sent_us // 1000),
        attempt=attempt or summary.attempts,
        candidates=_considered(candidates) or UNSET,
    )


def reroute_of(summary: RequestSummary, attempt: int | None = None) -> RequestReroute:
    """The attempt of that number failed, and another backend is asked; None: the last that failed."""
    tries = summary.trail.tries if summary.trail else ()
    number = attempt or len(tries)
    tried = tries[number - 1]
    return RequestReroute(
        request_id=summary.request_id,
        model=summary.model,
        host_id=tried.host_id or None,
        instance_id=tried.instance_id or None,
        reason=tried.reason,
        attempt=number,
        timestamp=iso(summary.started_ms + tried.failed_us // 1000),
        backend=tried.backend,
        detail=tried.detail or UNSET,
    )


def ended_of(summary: RequestSummary) -> RequestSuccess | RequestError:
    """It is over."""
    if summary.status != "success":
        return RequestError(
            request_id=summary.request_id,
            model=summary.model,
            error_message=summary.error_message or "",
            timestamp=iso(summary.ended_ms),
            host_id=summary.host_id,
            instance_id=summary.instance_id,
            duration=summary.duration_us / 1e6,
            client_ip=summary.client_ip,
            candidates=_considered(summary.trail.candidates) if summary.trail and not summary.attempts else (),
        )
    return RequestSuccess(
        request_id=summary.request_id,
        model=summary.model,
        host_id=summary.host_id,
        instance_id=summary.instance_id,
        duration=summary.duration_us / 1e6,
        timestamp=iso(summary.ended_ms),
        prompt_tokens=summary.prompt_tokens,
        completion_tokens=summary.completion_tokens,
        total_tokens=summary.total_tokens,
        decode_tps=summary.decode_tps,
        decode_ms_per_token=summary.decode_ms_per_token,
    )


def _considered(candidates: Sequence[Candidate]) -> tuple[Considered, ...]:
    return tuple(Considered(backend=one.backend, value=one.value, why_not=one.why_not) for one in candidates)


@lru_cache(maxsize=16)
def _second(seconds: int) -> str:
    return written_out(seconds * 1000)[:19]


def iso(ms: int) -> str:
    """A time as JSON has it. Requests share seconds, and writing one out costs as much as the rest of a frame."""
    return f"{_second(ms // 1000)}.{ms % 1000:03d}+00:00"
