"""What an engine tells of its containers as it happens, in Docker's words and in podman's."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

_GONE = frozenset({"die", "died", "stop", "destroy", "remove", "pause"})
# The others, exec_start for one, change nothing that we know.
_CHANGED = frozenset({"start", "restart", "unpause", "rename", "health_status", "connect", "disconnect", "cleanup"})


class Event(NamedTuple):
    """What happened to a container."""

    container: str  # its id
    gone: bool  # nothing can be sent there any more


def read_event(line: bytes) -> Event | None:
    """One line of an engine's events; None where it says nothing to us. Raises ValueError where it cannot be read."""
    try:
        event = _object(msgspec.json.decode(line))
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"an event that is no JSON: {error}") from None
    actor = _object(event.get("Actor"))
    action = str(event.get("Action") or event.get("status") or "").partition(":")[0]  # "health_status: healthy"
    of_network = event.get("Type") == "network"
    container = actor.get("ID") or event.get("id")
    if of_network:  # Docker's actor is then the network; podman's is the container
        container = _object(actor.get("Attributes")).get("container") or container
    gone = action in _GONE and not of_network
    if not isinstance(container, str) or not container or not (gone or action in _CHANGED):
        return None
    return Event(container, gone)


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
