"""The routes of /gateway: requests that ended, what they make together, what happened to them, how the store does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from solar.control.api.asking import Answer, Asked, Desk, Operation, Parameter, only, told
from solar.control.records import events_of
from solar.errors import InvalidRequest

EVENT_TYPES = ("request_start", "request_routed", "request_reroute", "request_success", "request_error")

_DAY_MS = 86_400_000
_SPAN = (
    Parameter("from", "ISO 8601; a date is its first moment; without a zone it is UTC"),
    Parameter("to", "the same; a date is its last moment. Default: now"),
)
_TYPE = Parameter("request_type", "chat, completion, embedding, rerank, ...; `all` is every one")
_STATS = (*_SPAN, _TYPE)
_REQUESTS = (
    *_SPAN,
    Parameter("status", "`success`, `error`, `missed` or `all`"),
    Parameter("model", "as it was asked for"),
    Parameter("host_id", "the host that answered"),
    _TYPE,
    Parameter("page", "from 1 on", "integer"),
    Parameter("limit", "of a page: 200 unless told, 1000 at most", "integer"),
)
_EVENTS = (
    *_SPAN,
    Parameter("types", f"some of {', '.join(EVENT_TYPES)}, with commas; default: request_error,request_reroute"),
    Parameter("limit", "1000 at most, and unless told", "integer"),
)


async def requests(desk: Desk, asked: Asked) -> Answer:
    only(asked, _REQUESTS)
    since, until = _span(desk, asked)
    return told(
        await desk.store.requests(
            since,
            until,
            status=_some(asked, "status"),
            model=asked.query.get("model") or None,
            host_id=asked.query.get("host_id") or None,
            request_type=_some(asked, "request_type"),
            page=_whole(asked, "page", 1),
            limit=_whole(asked, "limit", 200),
        )
    )


async def stats(desk: Desk, asked: Asked) -> Answer:
    only(asked, _STATS)
    since, until = _span(desk, asked, today=True)
    return told(await desk.store.stats(since, until, request_type=_some(asked, "request_type")))


async def events(desk: Desk, asked: Asked) -> Answer:
    only(asked, _EVENTS)
    since, until = _span(desk, asked)
    types = [name.strip() for name in asked.query.get("types", "request_error,request_reroute").split(",")]
    if unknown := [name for name in types if name not in EVENT_TYPES]:
        known = ", ".join(EVENT_TYPES)
        raise InvalidRequest(f"there are no events of the type {unknown[0][:50]!r}; there are: {known}", param="types")
    limit = _whole(asked, "limit", 1000)
    return told(await desk.store.events(events_of, since, until, types=types, limit=limit))


async def state(desk: Desk, asked: Asked) -> Answer:
    return told({"store": desk.store.state.as_json()})


def _span(desk: Desk, asked: Asked, *, today: bool = False) -> tuple[int, int]:
    """From when to before when, in milliseconds: the last day, or with `today` the day (UTC) that `to` is in."""
    until = _time(asked, "to", _DAY_MS)
    if until is None:
        until = int(desk.clock() * 1000) + 1
    since = _time(asked, "from", 0)
    if since is None:
        since = (until - 1) // _DAY_MS * _DAY_MS if today else until - _DAY_MS
    if since > until:
        raise InvalidRequest("from must be before to", param="from")
    return since, until


def _time(asked: Asked, name: str, of_a_date: int) -> int | None:
    text = asked.query.get(name, "").strip()
    if not text:
        return None
    if "T" in text:
        text = text.replace(" ", "+")  # which is what a + that nobody encoded became
    try:
        read = datetime.fromisoformat(text)
        at = read if read.tzinfo is not None else read.replace(tzinfo=UTC)
        ms = (at - datetime.fromtimestamp(0, UTC)) // timedelta(milliseconds=1)
    except (ValueError, OverflowError):
        example = "write 2026-11-22T04:05:06Z, or a date"
        raise InvalidRequest(f"{name} is no time: {example}", param=name) from None
    return ms + of_a_date if len(text) <= len("2026-11-22") else ms


def _whole(asked: Asked, name: str, usual: int) -> int:
    text = asked.query.get(name, "")
    if not text:
        return usual
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InvalidRequest(f"{name} must be a whole number, such as {usual}", param=name)
    return int(text)


def _some(asked: Asked, name: str) -> str | None:
    text = asked.query.get(name, "")
    return None if text in ("", "all") else text


OPERATIONS = (
    Operation("GET", "/gateway/requests", "Requests that ended, the newest first", requests, None, None, _REQUESTS),
    Operation("GET", "/gateway/stats", "What they make together, by model and host", stats, None, None, _STATS),
    Operation("GET", "/gateway/events/recent", "Routing events, the oldest first", events, None, None, _EVENTS),
    Operation("GET", "/gateway/state", "How the records do", state),
)
