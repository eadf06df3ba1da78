"""What a discoverer saw, which addresses it tried, and why it routes to it or not: for people who ask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from solar.core.backend import Backend

# Why no engine answered: nobody listens; no such host; no way there; not a byte in time; the connection was closed
# before an answer; what answers is no engine.
Failed = Literal["refused", "unknown name", "unreachable", "silent", "cut", "foreign"]


@dataclass(frozen=True, slots=True)
class Address:
    """Where an engine might be reached."""

    url: str  # its root: http://host:port, with the path that stands before /v1 where there is one
    why: str  # how one comes to it: "published port", "its IP on the network llm_default"


@dataclass(frozen=True, slots=True)
class Tried:
    """An address, and what came of asking it."""

    address: Address
    answered: bool  # an engine is there; it may still be loading, or want another key
    outcome: str  # in human words: "llamacpp, with 2 models", "nothing listens"
    failed: Failed | None = None  # the same in one word, where no engine answered


@dataclass(frozen=True, slots=True)
class Sighting:
    """One thing that a discoverer looked at."""

    name: str  # as people know it: a container's name, an address
    where: str  # on which engine, in which file: "unix:///var/run/docker.sock"
    why: str  # why it was looked at: "image ollama/ollama:latest", "label solar.enable"
    tried: tuple[Tried, ...] = ()
    backend: Backend | None = None  # None: it is not routed to
    reason: str = ""  # why it is not, or what is odd about it
    advice: str = ""  # what to do about that
    blind: bool = False  # it is a source itself, or a part of one, that could not be looked at


@runtime_checkable
class Explains(Protocol):
    """A discoverer that can say what it sees. `solar discover` and `solar doctor` ask."""

    name: str

    async def look(self) -> tuple[Sighting, ...]:
        """One whole look, within seconds. A part that cannot be looked at is a sighting with its reason."""
        ...
