"""Which agent is it, and what can it do: facts by dialect, so that nobody else has to ask for a version."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from solar.wire.reading import Fields, Unreadable, decode_object

Name = Literal["v1", "v2", "fork", "solar"]
LogWay = Literal["stream", "page", "channel", "socketio"]

OURS = "solar"  # what our own agent says in /health as its `implementation`


@dataclass(frozen=True, slots=True)
class Dialect:
    """What an agent of one kind can do, and how far its word goes."""

    name: Name
    version: str | None = None
    logs: tuple[LogWay, ...] = ()  # the ways to its log lines, the best first: the next where one is missing
    state: bool = True  # GET /instances/{id}/state
    state_stream: bool = False  # the same as a WebSocket
    last_generation: bool = True  # GET /instances/{id}/last-generation
    usage: bool = False  # GET /instances/{id}/usage
    resources: bool = False  # GET /resources
    reconnect: bool = False  # POST /reconnect
    keys_of_instances: bool = False  # `config.api_key` is wanted at creation, and counts
    edits_failed: bool = False  # PUT and DELETE also of a failed instance, not only of a stopped one
    notices_death: bool = False  # an instance whose process died is soon "failed", not "running" for ever
    ready_when_running: bool = False  # "running" says that the engine listens, not only that its process lives
    start_seconds: float = 30.0  # how long POST .../start may take before it is given up
    stop_freezes: bool = False  # while it stops an instance it answers nobody, for up to 10 s
    numbers_restart: bool = True  # an instance's lines count from 0 again whenever it was stopped


_V1 = Dialect(
    "v1",
    logs=("stream", "page"),
    state_stream=True,
    keys_of_instances=True,
    stop_freezes=True,
    numbers_restart=False,
)
_V2 = Dialect("v2", logs=("channel", "page"), stop_freezes=True, numbers_restart=False)
_FORK = Dialect("fork", logs=("socketio", "page"), reconnect=True, edits_failed=True)
_NEW_FORK = replace(_FORK, usage=True, resources=True, notices_death=True, ready_when_running=True, start_seconds=660.0)
_SOLAR = Dialect(
    "solar",
    logs=("channel", "stream", "page"),
    state_stream=True,
    usage=True,
    resources=True,
    edits_failed=True,
    notices_death=True,
    ready_when_running=True,
    start_seconds=660.0,
    numbers_restart=False,
)
DIALECTS: dict[Name, Dialect] = {"v1": _V1, "v2": _V2, "fork": _FORK, "solar": _SOLAR}

_NEW_FORK_FROM = 3  # the major version that brought readiness, /usage and /resources


def dialect_of(health: bytes, root: bytes | None = None) -> Dialect:
    """Whose dialect speaks in the answer of GET /health and, where that was asked too, of GET /.

    Raises Unreadable when it is no agent's: the message says what it seems to be.
    """
    told = decode_object(health)
    fields = Fields(told, "the agent")
    if fields.text("service") != "solar-host":
        raise Unreadable(f"this is no agent: its /health says service {fields.text('service')!r}, not 'solar-host'")
    version = fields.name("version")
    if fields.text("implementation") == OURS:
        return replace(_SOLAR, version=version)
    major = _major(version)
    if "disk" in told or (major is not None and major not in (1, 2)):
        return replace(_NEW_FORK if (major or 0) >= _NEW_FORK_FROM else _FORK, version=version)
    if major == 2 or (root is not None and _names_engines(root)):
        return replace(_V2, version=version)
    return replace(_V1, version=version)


def _major(version: str | None) -> int | None:
    first = (version or "").partition(".")[0]
    return int(first) if first.isascii() and first.isdecimal() and len(first) < 5 else None


def _names_engines(root: bytes) -> bool:
    try:
        return "supported_backends" in decode_object(root)
    except Unreadable:
        return False
