"""From what happens to the frames that watchers read. Nothing is made while nobody watches."""

from __future__ import annotations

import time

import msgspec

from solar.control.fleet import HostView
from solar.control.fleet.view import What
from solar.control.records import ROUTED, Places, ended_of, iso, reroute_of, routed_of, start_of, summary_of
from solar.control.watchers import ROUTING, Watchers
from solar.core.decision import Try
from solar.core.record import Record
from solar.edge.hooks import Hooks
from solar.wire.watching import HostSeen, HostStatus, InitialStatus, RoutingEvent, routing_frame

_SEEN = frozenset({"added", "patched", "status", "link", "memory"})  # changes that the frame of a host shows
_REQUESTS = ROUTING | {"gateway_request"}


def host_seen(view: HostView, at: str) -> HostSeen:
    """A host in a frame."""
    return HostSeen(
        host_id=view.id,
        name=view.name,
        status=view.status,
        url=view.url,
        last_seen=view.last_seen,
        memory=view.memory,
        connected=view.connected,
        timestamp=at,
    )


def initial_status(views: tuple[HostView, ...]) -> bytes:
    """The first frame of whoever watches hosts."""
    at = _now()
    return msgspec.json.encode(InitialStatus(tuple(host_seen(view, at) for view in views)))


class HostFrames:
    """Tells of hosts."""

    def __init__(self, watchers: Watchers) -> None:
        self._watchers = watchers

    def __repr__(self) -> str:
        return f"<HostFrames for {self._watchers!r}>"

    def changed(self, what: What, view: HostView) -> None:
        """A host is, or has, something else now."""
        if what in _SEEN and self._watchers.wants(("host_status",)):
            seen = host_seen(view, _now())
            self._watchers.tell("host_status", msgspec.json.encode(HostStatus(seen)))
        elif what == "removed" and self._watchers.wants(("host_removed",)):
            gone = {"type": "host_removed", "data": {"host_id": view.id, "name": view.name}}
            self._watchers.tell("host_removed", msgspec.json.encode(gone))


class RoutingFrames:
    """Tells of requests: on the router's hooks, which are taken only while somebody watches."""

    def __init__(self, router: Hooks, watchers: Watchers, places: Places) -> None:
        self._router = router
        self._watchers = watchers
        self._places = places
        self._book = router.on_record  # who hears of requests that are over, watched or not
        watchers.on_watched.append(self._take_hooks)

    def __repr__(self) -> str:
        return f"<RoutingFrames for {self._watchers!r}>"

    def _take_hooks(self) -> None:
        router, watched = self._router, self._watchers.wants(_REQUESTS)
        router.on_start = self._started if watched else None
        router.on_routed = self._routed if watched else None
        router.on_reroute = self._rerouted if watched else None
        router.on_record = self._over if watched else self._book

    def _started(self, record: Record) -> None:
        if record.endpoint in ROUTED:
            self._tell("request_start", start_of(summary_of(record, self._places)))

    def _routed(self, record: Record) -> None:
        if record.endpoint in ROUTED:
            self._tell("request_routed", routed_of(summary_of(record, self._places)))

    def _rerouted(self, record: Record, _: Try) -> None:
        if record.endpoint in ROUTED:
            self._tell("request_reroute", reroute_of(summary_of(record, self._places)))

    def _over(self, record: Record) -> None:
        if self._book is not None:
            self._book(record)
        if record.endpoint not in ROUTED:
            return
        summary = summary_of(record, self._places)
        self._tell("request_success" if summary.status == "success" else "request_error", ended_of(summary))
        frame = msgspec.json.encode({"type": "gateway_request", "data": summary.as_json()})
        self._watchers.tell("gateway_request", frame, summary)

    def _tell(self, kind: str, event: RoutingEvent) -> None:
        self._watchers.tell(kind, routing_frame(event))


def _now() -> str:
    return iso(int(time.time() * 1000))
