"""What is asked of an agent: how long that may take, and what comes of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Literal, Protocol

from solar.errors import UpstreamFailed
from solar.wire.dialects import Dialect

# A read changes nothing; a change writes a record; a start may load a model; a stop may wait for a process to end.
Kind = Literal["read", "change", "start", "stop"]

LONGEST_START = 660.0  # seconds, where nobody knows the agent yet
STOP = 60.0  # the originals give a process 10 s, then they kill it


@dataclass(frozen=True, slots=True)
class AgentAnswer:
    """What an agent answered, whatever the status."""

    status: int
    body: bytes = field(repr=False)  # it may hold keys, until it is redacted

    def __repr__(self) -> str:
        return f"<AgentAnswer {self.status}, {len(self.body)} bytes>"


class HostUnreachable(UpstreamFailed):
    """A host's agent did not answer: 502, or 504 when it was too slow."""

    code = "host_unreachable"


class NoStream(HostUnreachable):
    """A host's agent has no such WebSocket: there may be another way to the same."""


class Agent(Protocol):
    """Who can be asked."""

    async def ask(
        self, method: str, path: str, body: bytes = b"", *, within: float, with_key: bool = True
    ) -> AgentAnswer:
        """Its answer. Raises HostUnreachable."""
        ...

    def stream(self, path: str) -> AbstractAsyncContextManager[AsyncIterator[str]]:
        """The texts of a WebSocket, until it closes. Raises HostUnreachable; NoStream where it has none."""
        ...


@dataclass(frozen=True, slots=True)
class NoAgent:
    """In place of an agent whose address or key cannot be used."""

    why: str

    async def ask(
        self, method: str, path: str, body: bytes = b"", *, within: float, with_key: bool = True
    ) -> AgentAnswer:
        """Raises HostUnreachable, with the reason."""
        del method, path, body, within, with_key
        raise HostUnreachable(self.why)

    def stream(self, path: str) -> AbstractAsyncContextManager[AsyncIterator[str]]:
        """Raises HostUnreachable, with the reason."""
        del path
        raise HostUnreachable(self.why)


def seconds(kind: Kind, dialect: Dialect | None) -> float:
    """How long an agent of `dialect` may take for it."""
    match kind:
        case "start":  # or a restart, which stops first
            return STOP + (dialect.start_seconds if dialect is not None else LONGEST_START)
        case "stop":
            return STOP
        case "change":
            return 30.0
    # Some answer nobody while they stop an instance. That is no sign of death.
    return 15.0 if dialect is not None and dialect.stop_freezes else 5.0
