"""What writes logs, besides the agents of hosts: containers that are found, and the gateway itself."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Protocol

from solar.control.logs.containers import ContainerLogs, Logged
from solar.control.logs.feed import Feed
from solar.control.logs.hub import LogHub
from solar.control.logs.items import Key
from solar.control.logs.own import OwnLog
from solar.discovery.base import Discoverer
from solar.edge.linewriter import BatchedLines


class Origin(Protocol):
    """One that knows its logs."""

    def begin(self, hub: LogHub) -> None:
        """Tell `hub` which logs there are, from now on."""
        ...

    def has(self, key: Key) -> bool:
        """Whether that log is written here."""
        ...

    async def follow(self, feed: Feed) -> None:
        """Follow the log of `feed`, until it ends. Raises SolarError."""
        ...


def origins(discoverers: Iterable[Discoverer], handlers: Iterable[logging.Handler]) -> tuple[Origin, ...]:
    """Those of a gateway that finds its backends, and writes its log, by these."""
    found = (ContainerLogs(one) for one in discoverers if isinstance(one, Logged))
    return (*found, *(OwnLog(one) for one in handlers if isinstance(one, BatchedLines)))
