"""How backends are found: a discoverer yields changes, and the router follows them.

    class EveryPort:
        name = "ports"

        async def watch(self):
            yield BackendFound(Backend("one", "http://127.0.0.1:9000"))

The iterator may end; what it has found stays. It is closed when the router stops. When it raises, the router logs it,
starts it again after a pause that grows, and keeps what it had found.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from solar.core.backend import Backend


@dataclass(frozen=True, slots=True)
class BackendFound:
    """A backend is there, or its facts changed."""

    backend: Backend


@dataclass(frozen=True, slots=True)
class BackendLost:
    """A backend is gone: it takes nothing new and finishes what it has."""

    backend_id: str


@dataclass(frozen=True, slots=True)
class BackendsListed:
    """All that is there now: whatever this discoverer had found and does not list here is gone."""

    backends: tuple[Backend, ...]


Change = BackendFound | BackendLost | BackendsListed


class Discoverer(Protocol):
    """A source of backends. `name` says who found them, and whose word counts where two found the same one."""

    name: str

    def watch(self) -> AsyncIterator[Change]:
        """Changes, as they happen; the first is usually BackendsListed."""
        ...
