"""The link that a v2 agent opens to its coordinator: text frames on a WebSocket, read and written.

Our own agent speaks it too, and sends lines and states in the batches of the Socket.IO wire.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import msgspec

from solar.wire.figures import state_of
from solar.wire.instances import Instance, Listing
from solar.wire.lines import Entry, entry_of, level_of
from solar.wire.messages import (
    Ack,
    FromAgent,
    FromCoordinator,
    HealthFrame,
    InstancesUpdate,
    Keepalive,
    LogFrame,
    Other,
    Ping,
    Pong,
    Refusal,
    Registration,
    StateFrame,
)
from solar.wire.reading import Fields, Unreadable, decode, decode_object
from solar.wire.socketevents import health_of, instance_id_of, listing_of, read_event, registration_of

REGISTRATION_SECONDS = 10.0  # an agent that has not registered by then is refused
KEEPALIVE_SECONDS = 60.0  # of silence, then the coordinator says that it is there
PING, PONG = "ping", "pong"  # frames that are just this text

PASSED_ON = ("log", "instance_state", "host_health")  # kinds of frames that a coordinator's watchers hear of

MAX_FRAME = 4 * 1024 * 1024  # bytes; a registration with thousands of instances is well below

# What a coordinator of this wire says when it refuses, word for word: agents log it.
TIMED_OUT = "Registration timeout"
NO_JSON = "Invalid JSON"
NOT_FIRST = "Expected registration message"
INVALID = "Invalid registration"
UNKNOWN_KEY = "Registration failed - no host found with this API key"
# What the original does not say: it takes one of them, or both at once.
SEVERAL = "Registration failed - several hosts have this API key: set this agent's HOST_NAME to its host's name"
TAKEN = "Registration failed - an agent of another HOST_NAME is linked as this host: give each its own API key"
NOT_YET = "Registration failed - not ready yet, try again"
CROWDED = "Registration failed - too many agents register at once, try again"


class NotRegistered(Unreadable):
    """A first frame that is no registration; the message is what to tell the agent before closing."""


# What a coordinator reads


def read_registration(frame: str | bytes) -> Registration:
    """An agent's first frame. Raises NotRegistered with the words of the refusal."""
    if len(frame) > MAX_FRAME:
        raise NotRegistered(INVALID)
    try:
        message = decode(frame)
    except Unreadable:
        raise NotRegistered(NO_JSON) from None
    if not isinstance(message, dict) or message.get("type") != "registration":
        raise NotRegistered(NOT_FIRST)
    found = registration_of(message.get("data"))
    if found is None:
        raise NotRegistered(INVALID)
    return replace(found, at=Fields(message, "the registration").text("timestamp") or "")


def read_frame(frame: str | bytes) -> tuple[FromAgent, ...]:
    """A frame of a registered agent. Raises Unreadable; the link may well go on after that."""
    if frame in (PING, b"ping"):
        return (Ping(),)
    if len(frame) > MAX_FRAME:
        raise Unreadable(f"a frame of {len(frame)} bytes is more than the limit of {MAX_FRAME}")
    record = decode_object(frame)
    fields = Fields(record, "the frame")
    kind, at, data = fields.text("type"), fields.text("timestamp") or "", fields.inner("data")
    match kind:
        case "log":
            entry = entry_of(data, at=at)
            if entry is None:
                raise Unreadable("the log frame has no line")
            return (LogFrame(instance_id_of(fields), (entry,)),)
        case "instance_state":
            return (StateFrame(instance_id_of(fields), at, state_of(data)),)
        case "host_health":
            return (health_of(at, data),)
        case "instances_update":
            return (InstancesUpdate(at, listing_of(data)),)
        case None:
            raise Unreadable("the frame has no type")
        case _:
            return read_event(kind, record)


# What an agent reads


def read_answer(frame: str | bytes) -> FromCoordinator:
    """A frame of a coordinator. Raises Unreadable."""
    if frame in (PONG, b"pong"):
        return Pong()
    fields = Fields(decode_object(frame), "the frame")
    match fields.text("type"):
        case "registration_ack":
            return Ack(fields.text("host_id") or "", fields.text("host_name") or "", fields.text("timestamp") or "")
        case "error":
            return Refusal(fields.text("message") or "")
        case "keepalive":
            return Keepalive()
        case None:
            raise Unreadable("the frame has no type")
        case kind:
            return Other(kind)


# What both write


def write(message: Registration | FromAgent | FromCoordinator, at: str = "") -> str:
    """A message as a text frame of the v2 wire. `at` is the time of a registration; others have their own."""
    if isinstance(message, Ping):
        return PING
    if isinstance(message, Pong):
        return PONG
    return msgspec.json.encode(_frame(message, at)).decode()


def passed_on(message: FromAgent, host_id: str, host_name: str) -> Iterator[tuple[str, bytes]]:
    """What a coordinator's watchers hear of a message of this host's agent: kinds and frames, one a line of a log."""
    whose = {"host_id": host_id, "host_name": host_name}
    match message:
        case LogFrame(instance_id, entries):
            for entry in entries:
                yield "log", msgspec.json.encode(_frame(LogFrame(instance_id, (entry,)), "") | whose)
        case StateFrame() | HealthFrame():
            frame = _frame(message, "")
            yield frame["type"], msgspec.json.encode(frame | whose)


def _frame(message: Registration | FromAgent | FromCoordinator, at: str) -> dict[str, Any]:
    match message:
        case Registration():
            data = {"api_key": message.api_key, "host_name": message.host_name, **_flat(message.listing)}
            return {"type": "registration", "data": data, "timestamp": message.at or at}
        case LogFrame(instance_id, (Entry(seq, when, text),)):
            log = {"seq": seq, "line": text, "level": level_of(text)}
            return {"type": "log", "instance_id": instance_id, "timestamp": when, "data": log}
        case LogFrame(instance_id, entries):
            return {"type": "log_batch", "entries": [_batched(instance_id, entry) for entry in entries]}
        case StateFrame(instance_id, when, state):
            return {"type": "instance_state", "instance_id": instance_id, "timestamp": when, "data": state}
        case HealthFrame():
            counts = {
                "instance_count": message.instance_count,
                "running_instance_count": message.running_instance_count,
            }
            return {"type": "host_health", "timestamp": message.at, "data": {"memory": message.memory, **counts}}
        case InstancesUpdate(when, listing):
            return {"type": "instances_update", "timestamp": when, "data": _flat(listing)}
        case Ack():
            host = {"host_id": message.host_id, "host_name": message.host_name}
            return {"type": "registration_ack", **host, "timestamp": message.at}
        case Refusal(text):
            return {"type": "error", "message": text}
        case Keepalive():
            return {"type": "keepalive"}
        case _:
            raise ValueError(f"{message!r} is no message of this wire")


def _batched(instance_id: str, entry: Entry) -> dict[str, Any]:
    return {"instance_id": instance_id, "seq": entry.seq, "line": entry.text, "timestamp": entry.at}


def _flat(listing: Listing) -> dict[str, Any]:
    return {"instances": [_told(instance) for instance in listing.instances]}


def _told(instance: Instance) -> dict[str, Any]:
    return {
        "id": instance.id,
        "alias": instance.alias,
        "status": instance.status,
        "port": instance.port,
        "supported_endpoints": instance.endpoints,
        "backend_type": instance.engine,
    }
