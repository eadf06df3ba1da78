"""The routes of /gateway that tell where requests can go now: backends, and what runs on the hosts."""

from __future__ import annotations

import msgspec

from solar.control.api.asking import Answer, Asked, Desk, Operation, Parameter, only, told
from solar.router import BackendStatus
from solar.wire.instances import Instance


class BackendSeen(msgspec.Struct, frozen=True, kw_only=True):
    """One backend as the router sees it."""

    id: str
    url: str
    type: str  # what the engine is, where it told
    state: str  # healthy, suspect, loading, unknown, down, stalled, ejected, full or draining
    reason: str | None  # why it is not healthy, in human words
    host: str
    source: str  # who named it
    models: tuple[str, ...]
    aliases: dict[str, str]
    in_flight: int
    max_in_flight: int | None
    priority: int
    weight: float


class Backends(msgspec.Struct, frozen=True):
    """All of them."""

    backends: tuple[BackendSeen, ...]
    in_flight: int


class InstanceSeen(msgspec.Struct, frozen=True, kw_only=True):
    """One instance, as its host's agent told it last: "running" is no word on whether it serves."""

    host_id: str
    host_name: str
    id: str
    alias: str
    status: str
    port: int | None
    engine: str
    model: str | None
    context: int | None  # tokens
    started_at: str | None
    error_message: str | None


class Instances(msgspec.Struct, frozen=True):
    """The instances of all hosts."""

    instances: tuple[InstanceSeen, ...]


_HOST = Parameter("host_id", "only those of this host")


async def backends(desk: Desk, asked: Asked) -> Answer:
    only(asked, ())
    seen = tuple(_backend(status) for status in desk.router.backends)
    return told(Backends(seen, sum(one.in_flight for one in seen)))


async def instances(desk: Desk, asked: Asked) -> Answer:
    """No agent is asked: a hung one keeps nobody waiting."""
    only(asked, (_HOST,))
    known = await desk.fleet.listed()
    wanted = asked.query.get("host_id")
    if wanted is not None:
        desk.fleet.instances(wanted)  # it knows why there is none
    hosts = [view for view in known if wanted in (None, view.id)]
    return told(Instances(tuple(_instance(view.id, view.name, one) for view in hosts for one in view.instances)))


def _backend(status: BackendStatus) -> BackendSeen:
    backend = status.backend
    return BackendSeen(
        id=backend.id,
        url=backend.url,
        type=status.type,
        state=status.state,
        reason=status.reason or None,
        host=backend.host_id,
        source=backend.source,
        models=tuple(model.id for model in status.models),
        aliases=dict(backend.aliases),
        in_flight=status.in_flight,
        max_in_flight=backend.max_in_flight,
        priority=backend.priority,
        weight=backend.weight,
    )


def _instance(host_id: str, host_name: str, one: Instance) -> InstanceSeen:
    return InstanceSeen(
        host_id=host_id,
        host_name=host_name,
        id=one.id,
        alias=one.alias,
        status=one.status,
        port=one.port,
        engine=one.engine,
        model=one.model,
        context=one.context,
        started_at=one.started_at,
        error_message=one.error_message,
    )


OPERATIONS = (
    Operation("GET", "/gateway/backends", "All backends, and what is in flight", backends, Backends),
    Operation("GET", "/gateway/instances", "What runs on all hosts", instances, Instances, None, (_HOST,)),
)
