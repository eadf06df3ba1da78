"""What an agent and its coordinator tell each other, whichever wire carries it.

Times are ISO 8601 texts, as the sender wrote them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from solar.wire.figures import Memory, State
from solar.wire.instances import Listing
from solar.wire.lines import Entry

NO_INSTANCES = Listing(())


@dataclass(frozen=True, slots=True)
class Registration:
    """An agent's first frame. Nothing is accepted before it, and its key says which host it is."""

    api_key: str = field(repr=False)
    host_name: str | None = None
    listing: Listing = NO_INSTANCES
    version: str | None = None  # the fork tells; a v2 agent does not
    gpu_type: str | None = None
    roles: tuple[str, ...] = ()
    at: str = ""  # when the agent sent it; "" where it does not say


@dataclass(frozen=True, slots=True)
class LogFrame:
    """Lines of one instance, with its agent's own numbers: one or more."""

    instance_id: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class StateFrame:
    """What one instance is doing now."""

    instance_id: str
    at: str
    state: State


@dataclass(frozen=True, slots=True)
class HealthFrame:
    """How the agent's machine is, each 10 s."""

    at: str
    memory: Memory | None
    instance_count: int = 0
    running_instance_count: int = 0


@dataclass(frozen=True, slots=True)
class InstancesUpdate:
    """All instances of the agent, after one was created, deleted, started or stopped."""

    at: str
    listing: Listing


@dataclass(frozen=True, slots=True)
class Ping:
    """Is the coordinator there? It answers PONG."""


@dataclass(frozen=True, slots=True)
class Ack:
    """The coordinator took the registration."""

    host_id: str
    host_name: str
    at: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """The coordinator will not have this agent, and closes."""

    message: str


@dataclass(frozen=True, slots=True)
class Keepalive:
    """The coordinator has nothing to say, and is there."""


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to a Ping."""


@dataclass(frozen=True, slots=True)
class Other:
    """A message of a type that is not known here: a newer agent's. It is left alone."""

    type: str


FromAgent = LogFrame | StateFrame | HealthFrame | InstancesUpdate | Ping | Other
FromCoordinator = Ack | Refusal | Keepalive | Pong | Other
