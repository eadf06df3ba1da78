"""Every route of the management API, once: served, described and documented from here."""

from __future__ import annotations

from solar.control.api import history, hosts, instances, routing, sockets
from solar.control.api.asking import Operation

OPERATIONS: tuple[Operation, ...] = (
    *hosts.OPERATIONS,
    *instances.OPERATIONS,
    *history.OPERATIONS,
    *routing.OPERATIONS,
    *sockets.OPERATIONS,
)
