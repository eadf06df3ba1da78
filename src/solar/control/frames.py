"""From what happens to the frames that watchers read. Nothing is made while nobody watches."""

from __future__ import annotations

import time

import msgspec

from solar.control.fleet import HostView
from solar.control.fleet.hosts import What
from solar.control.watchers import Watchers
from solar.store import iso
from solar.wire.watching import HostSeen, HostStatus, InitialStatus

_SEEN = frozenset({"added", "patched", "status", "link", "memory"})  # changes that the frame of a host shows


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
    at = iso(int(time.time() * 1000))
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
            seen = host_seen(view, iso(int(time.time() * 1000)))
            self._watchers.tell("host_status", msgspec.json.encode(HostStatus(seen)))
        elif what == "removed" and self._watchers.wants(("host_removed",)):
            gone = {"type": "host_removed", "data": {"host_id": view.id, "name": view.name}}
            self._watchers.tell("host_removed", msgspec.json.encode(gone))
