"""The routes of /gateway that tell where requests can go now: backends, what runs on the hosts, one decision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from solar.control.api.asking import Answer, Asked, Desk, Operation, Parameter, only, told
from solar.control.fleet import HostView
from solar.errors import InvalidRequest
from solar.router import BackendStatus
from solar.wire.hosts import Status
from solar.wire.instances import Instance, backend_id, why_no_backend


class BackendSeen(msgspec.Struct, frozen=True, kw_only=True):
    """One backend as the router sees it."""

    id: str
    name: str  # for people: HOST/ALIAS of what runs on a registered host, else the id
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
    host_status: Status  # where it is not online, all of this may be old
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


class CandidateSeen(msgspec.Struct, frozen=True, kw_only=True):
    """One backend that has the model, as the decision sees it."""

    backend: str
    name: str  # for people, as in /gateway/backends
    host: str
    model: str  # the backend's own name for it
    values: dict[str, Any]  # what is compared, the most important first; the smallest is taken
    why_not: str | None  # draining, down, loading, stalled, ejected, resting or full
    reason: str | None  # more of that, in human words
    returns_in: float | None  # seconds until an ejection or a rest ends


class UnroutedSeen(msgspec.Struct, frozen=True):
    """An instance of that name that is no backend now."""

    name: str
    host_id: str
    instance_id: str
    why: str  # in human words: its status, what is missing


class RouteSeen(msgspec.Struct, frozen=True, kw_only=True):
    """What would become of a request for a model now."""

    model: str
    gets: str  # sent, queued, no_such_path, page, no_such_model, loading, unavailable or queue_full
    status: int | None  # of the refusal
    found: str  # how the name led to the model: exact, alias, prefix, default, nowhere
    resolved: str | None  # the name that it led to
    taken: str | None  # the backend that would be asked
    waiting: int  # requests that wait for the model already
    session_broken: bool
    candidates: tuple[CandidateSeen, ...]  # in the order in which they would be taken
    unrouted: tuple[UnroutedSeen, ...]  # what would have it, if it ran


_ROUTE = (
    Parameter("model", "as a request would name it"),
    Parameter("session", "of this session, as if sessions were kept together"),
    Parameter("path", "for a request to this path: /v1/embeddings"),
)
_HOST = Parameter("host_id", "only those of this host")


async def backends(desk: Desk, asked: Asked) -> Answer:
    only(asked, ())
    names = _names(desk)
    seen = tuple(_backend(status, names) for status in desk.router.backends)
    return told(Backends(seen, sum(one.in_flight for one in seen)))


async def instances(desk: Desk, asked: Asked) -> Answer:
    """No agent is asked: a hung one keeps nobody waiting."""
    only(asked, (_HOST,))
    known = await desk.fleet.listed()
    wanted = asked.query.get("host_id")
    if wanted is not None:
        desk.fleet.instances(wanted)  # it knows why there is none
    hosts = [view for view in known if wanted in (None, view.id)]
    return told(Instances(tuple(_instance(view, one) for view in hosts for one in view.instances)))


async def route(desk: Desk, asked: Asked) -> Answer:
    only(asked, _ROUTE)
    if "model" not in asked.query:
        raise InvalidRequest("name the model: ?model=gpt-oss:20b", param="model")
    query = asked.query
    told_of = desk.router.explain(query["model"], query.get("session") or None, query.get("path") or None)
    names = _names(desk)
    reasons = {status.backend.id: status.reason for status in desk.router.backends}
    return told(
        RouteSeen(
            model=told_of.asked,
            gets=told_of.gets,
            status=told_of.status,
            found=told_of.found,
            resolved=told_of.model,
            taken=told_of.taken.backend if told_of.taken is not None else None,
            waiting=told_of.waiting,
            session_broken=told_of.session_broken,
            candidates=tuple(
                CandidateSeen(
                    backend=one.backend,
                    name=names.get(one.backend, one.backend),
                    host=one.host,
                    model=one.model,
                    values=dict(one.values),
                    why_not=one.why_not,
                    reason=(reasons.get(one.backend) or None) if one.why_not else None,
                    returns_in=None if one.until is None else round(max(0.0, one.until - told_of.at), 3),
                )
                for one in told_of.candidates
            ),
            unrouted=tuple(
                UnroutedSeen(f"{view.name}/{one.alias}", view.id, one.id, why)
                for view in desk.fleet.hosts()
                for one in view.instances
                if one.alias in (told_of.asked, told_of.model) and (why := why_no_backend(one))
            ),
        )
    )


def _names(desk: Desk) -> dict[str, str]:
    """What people call the backends that are instances."""
    return {
        backend_id(view.id, one.id): f"{view.name}/{one.alias}" for view in desk.fleet.hosts() for one in view.instances
    }


def _backend(status: BackendStatus, names: Mapping[str, str]) -> BackendSeen:
    backend = status.backend
    return BackendSeen(
        id=backend.id,
        name=names.get(backend.id, backend.id),
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


def _instance(view: HostView, one: Instance) -> InstanceSeen:
    return InstanceSeen(
        host_id=view.id,
        host_name=view.name,
        host_status=view.status,
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
    Operation("GET", "/gateway/route", "Where a request would go now, and why", route, RouteSeen, None, _ROUTE),
    Operation("GET", "/gateway/instances", "What runs on all hosts", instances, Instances, None, (_HOST,)),
)
