"""What others see of a host: how it is at one moment, and what can change of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from solar.wire import hosts
from solar.wire.dialects import Dialect
from solar.wire.figures import Memory
from solar.wire.hosts import Status
from solar.wire.instances import Instance

What = Literal["added", "removed", "patched", "status", "link", "memory", "instances"]


@dataclass(frozen=True, slots=True)
class HostView:
    """One host at one moment. It has no key."""

    id: str
    name: str
    url: str
    status: Status
    reason: str  # why it is not online, or what is wrong although it is, in human words
    created_at: str
    last_seen: str | None
    memory: Memory | None
    dialect: Dialect | None  # None: no agent has answered there yet
    instances: tuple[Instance, ...]  # as its agent told them last
    weight: float = 1.0
    connected: bool = False  # its agent keeps a link open to us

    def __repr__(self) -> str:
        running = sum(instance.running for instance in self.instances)
        return f"<HostView {self.name!r} {self.status}, {len(self.instances)} instances ({running} running)>"

    @property
    def as_json(self) -> hosts.Host:
        """As clients see it."""
        return hosts.Host(
            id=self.id,
            name=self.name,
            url=self.url,
            status=self.status,
            last_seen=self.last_seen,
            memory=self.memory,
            created_at=self.created_at,
            weight=self.weight,
            connected=self.connected,
            reason=self.reason or None,
        )
