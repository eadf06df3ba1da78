"""The pages of an agent: which there are in its dialect, and what each answers."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from solar.testing.agents.engine import FakeInstance
from solar.testing.agents.messages import NO_JSON, Answered, detail, json_answer, missing, query_of
from solar.testing.agents.shapes import WrongConfig, engines_named, whole_config
from solar.testing.recorded import Recorded

if TYPE_CHECKING:
    from solar.testing.agents.agent import FakeAgent

_OPEN = frozenset({"/health", "/", "/docs", "/redoc", "/openapi.json"})
_INSTANCE = re.compile(r"/instances/([^/]+)(/[a-z-]+)?")
_CORS = (
    ("access-control-allow-origin", "*"),
    ("access-control-allow-methods", "*"),
    ("access-control-allow-headers", "*"),
)
_NOT_FOUND = detail(404, "Instance not found")
_NO_PAGE = detail(404, "Not Found")
_NO_METHOD = detail(405, "Method Not Allowed")
_DISK = {"total_gb": 500.0, "used_gb": 100.0, "available_gb": 400.0}
_GIB = {"reserved_headroom_gb": 0.0}


Page = Callable[[Recorded], Awaitable[Answered]]
InstancePage = Callable[["FakeAgent", FakeInstance, Recorded], Awaitable[Answered]]


async def answer_to(agent: FakeAgent, recorded: Recorded) -> Answered:
    """What `agent` answers to one request."""
    if recorded.method == "OPTIONS":
        return Answered(200, b"OK", _CORS, "text/plain") if recorded.header("origin") else _NO_METHOD
    if recorded.path not in _OPEN and recorded.header("x-api-key") != agent.api_key:
        return json_answer({"detail": "Invalid or missing API key"}, 401, _CORS)
    found = _INSTANCE.fullmatch(recorded.path)
    if found is None:
        return await _of_agent(agent, recorded)
    return await _of_instance(agent, recorded, found[1], found[2] or "")


async def _of_agent(agent: FakeAgent, recorded: Recorded) -> Answered:
    pages = _pages(agent)
    methods = pages.get(recorded.path)
    if methods is None:
        return _NO_PAGE
    page = methods.get(recorded.method)
    return _NO_METHOD if page is None else await page(recorded)


def _pages(agent: FakeAgent) -> dict[str, dict[str, Page]]:
    async def health(_: Recorded) -> Answered:
        told: dict[str, Any] = {"status": "healthy", "service": "solar-host", "version": agent.version}
        return json_answer(told | ({"disk": _DISK} if agent.dialect == "fork" else {}))

    async def root(_: Recorded) -> Answered:
        told: dict[str, Any] = {"service": "solar-host", "version": agent.version, "description": "Process manager"}
        return json_answer(
            told
            | ({} if agent.dialect == "v1" else {"supported_backends": engines_named(agent.dialect, agent.version)})
        )

    async def docs(_: Recorded) -> Answered:
        return Answered(200, b"<html></html>", (), "text/html; charset=utf-8")

    async def memory(_: Recorded) -> Answered:
        if agent.memory is None:
            return detail(503, "Memory information not available")
        rest = agent.memory["total_gb"] - agent.memory["used_gb"]
        return json_answer(agent.memory | ({"available_gb": rest} if agent.dialect == "fork" else {}))

    async def listing(_: Recorded) -> Answered:
        return json_answer([agent.lifecycle.record(instance) for instance in agent.instances.values()])

    async def create(recorded: Recorded) -> Answered:
        return _created(agent, recorded)

    async def reconnect(_: Recorded) -> Answered:
        return (
            detail(503, "No solar-control client configured") if agent.newer else json_answer({"status": "no_client"})
        )

    async def resources(_: Recorded) -> Answered:
        return json_answer(_resources(agent))

    pages: dict[str, dict[str, Page]] = {
        "/health": {"GET": health},
        "/": {"GET": root},
        "/docs": {"GET": docs},
        "/redoc": {"GET": docs},
        "/openapi.json": {"GET": root},
        "/memory": {"GET": memory},
        "/instances": {"GET": listing, "POST": create},
    }
    if agent.dialect == "fork":
        pages["/reconnect"] = {"POST": reconnect}
    if agent.newer:
        pages["/resources"] = {"GET": resources}
    return pages


def _resources(agent: FakeAgent) -> dict[str, Any]:
    ram = None
    if agent.memory is not None:
        used, total = agent.memory["used_gb"], agent.memory["total_gb"]
        ram = {
            "total_gb": total,
            "system_used_gb": used,
            **_GIB,
            "reported_used_gb": used,
            "available_gb": total - used,
        }
    return {"memory_type": "RAM", "vram": None, "ram": ram, "disk": None, "gpus": [], "reservations": []}


def _config(agent: FakeAgent, recorded: Recorded) -> dict[str, Any] | Answered:
    """The config in a body, or what is wrong with it."""
    if not recorded.body:
        return missing(given=None)
    try:
        body = msgspec.json.decode(recorded.body)
    except msgspec.DecodeError:
        return NO_JSON
    if not isinstance(body, dict) or "config" not in body:
        return missing("config", given=body)
    config = body["config"]
    try:
        if not isinstance(config, dict):
            raise WrongConfig("config must be an object", ("config",))
        return whole_config(agent.dialect, config)
    except WrongConfig as wrong:
        if agent.dialect != "v1":  # they parse it by hand
            return detail(500, str(wrong))
        rows = [{"type": "missing", "loc": ["body", "config", name], "msg": "Field required"} for name in wrong.missing]
        return detail(422, rows)


def _created(agent: FakeAgent, recorded: Recorded) -> Answered:
    config = _config(agent, recorded)
    if isinstance(config, Answered):
        return config
    instance = agent.lifecycle.create(config)
    return _told(agent, instance, "created")


def _told(agent: FakeAgent, instance: FakeInstance, done: str) -> Answered:
    message = f"Instance {instance.id} {done} successfully"
    return json_answer({"instance": agent.lifecycle.record(instance), "message": message})


async def _of_instance(agent: FakeAgent, recorded: Recorded, identity: str, what: str) -> Answered:
    pages: dict[str, dict[str, InstancePage]] = {
        "": {"GET": _get, "PUT": _put, "DELETE": _delete},
        "/start": {"POST": _start},
        "/stop": {"POST": _stop},
        "/restart": {"POST": _restart},
        "/state": {"GET": _state},
        "/last-generation": {"GET": _last_generation},
        **({"/logs": {"GET": _logs}} if agent.dialect != "v1" else {}),
        **({"/usage": {"GET": _usage}} if agent.newer else {}),
    }
    methods = pages.get(what)
    if methods is None:
        return _NO_PAGE
    page = methods.get(recorded.method)
    if page is None:
        return _NO_METHOD
    instance = agent.instances.get(identity)
    return _NOT_FOUND if instance is None else await page(agent, instance, recorded)


async def _get(agent: FakeAgent, instance: FakeInstance, _: Recorded) -> Answered:
    return json_answer(agent.lifecycle.record(instance))


def _may_change(agent: FakeAgent, instance: FakeInstance) -> bool:
    return instance.status == "stopped" or (agent.dialect == "fork" and instance.status == "failed")


async def _put(agent: FakeAgent, instance: FakeInstance, recorded: Recorded) -> Answered:
    if not _may_change(agent, instance):
        return detail(400, "Cannot update running instance. Stop it first.")
    if not (agent.newer and recorded.body == b"{}"):
        config = _config(agent, recorded)
        if isinstance(config, Answered):
            return config
        instance.config = config
    return _told(agent, instance, "updated")


async def _delete(agent: FakeAgent, instance: FakeInstance, _: Recorded) -> Answered:
    if not _may_change(agent, instance):
        return detail(400, "Cannot delete running instance. Stop it first.")
    agent.lifecycle.delete(instance)
    return _told(agent, instance, "deleted")


async def _start(agent: FakeAgent, instance: FakeInstance, _: Recorded) -> Answered:
    if await agent.lifecycle.start(instance):
        return _told(agent, instance, "started")
    failed = f"Failed to start instance: {instance.error_message}"
    if not agent.newer:
        return detail(500, failed)
    tail = [line["line"] for line in instance.lines][-20:]
    return json_answer({"detail": failed, "instance_id": instance.id, "exit_code": 1, "log_tail": tail}, 500)


async def _stop(agent: FakeAgent, instance: FakeInstance, _: Recorded) -> Answered:
    await agent.lifecycle.stop(instance)
    return _told(agent, instance, "stopped")


async def _restart(agent: FakeAgent, instance: FakeInstance, _: Recorded) -> Answered:
    if await agent.lifecycle.restart(instance):
        return _told(agent, instance, "restarted")
    return detail(500, f"Failed to restart instance: {instance.error_message}")


async def _state(_: FakeAgent, instance: FakeInstance, __: Recorded) -> Answered:
    # The originals' page tells no phase: it is idle there, whatever goes on.
    told = {name: instance.state[name] for name in ("busy", "prefill_progress", "active_slots")}
    empty = dict.fromkeys(instance.state) | {"phase": "idle"}
    return json_answer({"instance_id": instance.id, **empty, **told, "timestamp": datetime.now(UTC).isoformat()})


async def _last_generation(agent: FakeAgent, instance: FakeInstance, recorded: Recorded) -> Answered:
    query = query_of(recorded)
    within = query.get("within_s")
    if within is not None and not within.lstrip("-").isdecimal():
        return detail(422, [{"type": "int_parsing", "loc": ["query", "within_s"], "input": within}])
    last = instance.last_generation()
    if last is None:
        return detail(404, "No generation metrics available")
    finished = datetime.fromisoformat(last["finished_at"])
    if "after" in query and (wanted := _moment(query["after"])) is None and agent.newer:
        return detail(400, f"Invalid 'after' timestamp: {query['after']!r}")
    if "after" in query and wanted is not None and finished < wanted:
        return detail(404, "No generation metrics after the specified timestamp")
    if within is not None and 0 <= int(within) < (datetime.now(UTC) - finished).total_seconds():
        return detail(404, "No recent generation metrics within the specified window")
    return json_answer(last)


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        return None


async def _logs(_: FakeAgent, instance: FakeInstance, __: Recorded) -> Answered:
    return json_answer(instance.page_of_lines())


async def _usage(_: FakeAgent, __: FakeInstance, ___: Recorded) -> Answered:
    return detail(404, "No usage metrics available")
