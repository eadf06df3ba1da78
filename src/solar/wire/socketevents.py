"""What the fork's agent says over Socket.IO: the same messages as the channel's, in events and batches.

It connects to the namespace `/hosts`, on the root of its coordinator's host whatever path its URL has, and says its
key at the connect. What the events hold is read here; the protocol that carries them is not.
"""

from __future__ import annotations

from collections.abc import Mapping

from solar.wire.figures import memory_of, state_of
from solar.wire.instances import Listing, instances_of
from solar.wire.lines import Entry, entry_of
from solar.wire.messages import FromAgent, HealthFrame, InstancesUpdate, LogFrame, Other, Registration, StateFrame
from solar.wire.reading import Fields, Unreadable

NAMESPACE = "/hosts"
MAX_ENTRIES = 10_000  # of one batch: more than an agent queues

REJECTED = "rejected"  # the event that ends an agent's client for good: it does not come back by itself


def greeting(host_id: str, host_name: str) -> tuple[tuple[str, dict[str, str]], ...]:
    """The events to send once to an agent that connected with a good key, and to no registration after that.

    The older fork (0.1.x) registers only when it was pending and is then acknowledged. The newer one registers anew
    upon every acknowledgement: to acknowledge a registration is an endless loop.
    """
    return (
        ("pending", {"pending_id": host_id}),
        ("registration_ack", {"host_id": host_id, "host_name": host_name}),
    )


def registration_of(data: object, api_key: object = None) -> Registration | None:
    """What stands in a registration, or None where it has no key.

    On Socket.IO the key was said at the connect: there it is `api_key`.
    """
    if not isinstance(data, dict):
        return None
    fields = Fields(data, "the registration")
    key = fields.text("api_key", secret=True) if api_key is None else api_key
    if not isinstance(key, str) or not key:
        return None
    return Registration(
        key,
        fields.name("host_name"),
        listing_of(data),
        fields.name("version"),
        fields.name("gpu_type"),
        fields.texts("roles") or (),
    )


def read_event(name: str, payload: object) -> tuple[FromAgent, ...]:
    """An event of the fork's Socket.IO namespace: a batch becomes one message an instance. Raises Unreadable."""
    if not isinstance(payload, dict):
        raise Unreadable(f"the event {name!r} has no object")
    at = Fields(payload, name).text("timestamp") or ""
    data = Fields(payload, name).inner("data")
    match name:
        case "log_batch":
            return _logs(payload)
        case "instance_state_batch":
            return _states(payload, at)
        case "host_health":
            return (health_of(at, data),)
        case "instances_update":
            return (InstancesUpdate(at, listing_of(data)),)
        case _:
            return (Other(name),)


def _logs(payload: Mapping[str, object]) -> tuple[LogFrame, ...]:
    by_instance: dict[str, list[Entry]] = {}
    for fields, record in _entries(payload):
        entry = entry_of(record)
        if entry is not None:
            by_instance.setdefault(instance_id_of(fields), []).append(entry)
    return tuple(LogFrame(identity, tuple(entries)) for identity, entries in by_instance.items())


def _states(payload: Mapping[str, object], at: str) -> tuple[StateFrame, ...]:
    return tuple(
        StateFrame(instance_id_of(fields), fields.text("timestamp") or at, state_of(fields.inner("data")))
        for fields, _ in _entries(payload)
    )


def _entries(payload: Mapping[str, object]) -> list[tuple[Fields, dict[str, object]]]:
    entries = payload.get("entries")
    if not isinstance(entries, list) or len(entries) > MAX_ENTRIES:
        raise Unreadable(f"a batch is a list of up to {MAX_ENTRIES} entries")
    return [(Fields(entry, "the entry"), entry) for entry in entries if isinstance(entry, dict)]


def instance_id_of(fields: Fields) -> str:
    """Whose message it is. Raises Unreadable where it does not say."""
    found = fields.name("instance_id")
    if found is None:
        raise Unreadable("the message names no instance")
    return found


def health_of(at: str, data: Mapping[str, object]) -> HealthFrame:
    """The health that an object tells of; memory is None where its figures are missing or wrong."""
    fields = Fields(data, "host_health")
    memory = fields.inner("memory")
    return HealthFrame(
        at,
        memory_of(memory) if memory else None,
        fields.whole("instance_count") or 0,
        fields.whole("running_instance_count") or 0,
    )


def listing_of(data: Mapping[str, object]) -> Listing:
    """The instances that an object tells of."""
    records = data.get("instances")
    return instances_of(records if isinstance(records, list) else ())
