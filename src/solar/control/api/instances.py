"""The routes below a host that its agent answers: what it said goes on, its refusals with their status and message."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

import msgspec

from solar.control.api.asking import Answer, Asked, Desk, Operation, Parameter, refused
from solar.control.fleet.calls import Kind
from solar.errors import InvalidRequest, SolarError, UpstreamFailed
from solar.wire.figures import Generation, Memory, State

_LONGEST = 2000  # characters of an agent's message

Handler = Callable[[Desk, Asked], Awaitable[Answer]]


class AgentError(SolarError):
    """The agent said no."""

    code = "agent_error"


class NewInstance(msgspec.Struct, frozen=True):
    """What an agent needs to know of an instance: POST and PUT. Its agent checks it."""

    config: dict[str, Any]


def _passing(method: str, below: str, kind: Kind = "read") -> Handler:
    """Asks the agent for the path `below` its root, in which {instance_id} stands for one."""

    async def passed(desk: Desk, asked: Asked) -> Answer:
        instance_id = asked.path.get("instance_id", "")
        if instance_id in (".", ".."):
            raise InvalidRequest("Instance not found", status=404, code="instance_not_found")
        path = below.replace("{instance_id}", quote(instance_id, safe=""))
        if asked.raw_query:
            path = f"{path}?{asked.raw_query}"
        answer = await desk.fleet.call(asked.path["host_id"], method, path, asked.body, kind=kind)
        return _kept(answer.status, answer.body)

    return passed


def _kept(status: int, body: bytes) -> Answer:
    if 200 <= status < 300:
        return Answer(body, status)
    detail = _detail(body)
    message = detail if isinstance(detail, str) else msgspec.json.encode(detail).decode()
    message = message.strip()[:_LONGEST] or f"the agent answered {status} and did not say why"
    if not 400 <= status < 600:
        raise UpstreamFailed(f"the agent answered {status}, which is no answer to this: {message}")
    error = AgentError(message, status=status)
    error.type = "invalid_request_error" if status < 500 else "server_error"
    return refused(error, detail or message)


def _detail(body: bytes) -> object:
    """What the agent said went wrong: a sentence, or FastAPI's list of what is wrong where."""
    try:
        read = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return body[: 4 * _LONGEST].decode("utf-8", "replace")
    return read.get("detail", read) if isinstance(read, dict) else read


def _instance(method: str, below: str, kind: Kind = "read") -> Handler:
    return _passing(method, "/instances/{instance_id}" + below, kind)


_ALL, _ONE = "/hosts/{host_id}/instances", "/hosts/{host_id}/instances/{instance_id}"
_AFTER = (
    Parameter("after", "only a generation that ended after this time"),
    Parameter("within_s", "only one that ended in these last seconds", "integer"),
)

OPERATIONS = (
    Operation("GET", "/hosts/{host_id}/memory", "A host's memory", _passing("GET", "/memory"), Memory),
    Operation("GET", _ALL, "All instances of a host", _passing("GET", "/instances")),
    Operation("POST", _ALL, "Create an instance", _passing("POST", "/instances", "change"), takes=NewInstance),
    Operation("GET", _ONE, "One instance", _instance("GET", "")),
    Operation("PUT", _ONE, "Change a stopped instance", _instance("PUT", "", "change"), takes=NewInstance),
    Operation("DELETE", _ONE, "Delete a stopped instance", _instance("DELETE", "", "change")),
    Operation("POST", f"{_ONE}/start", "Start an instance; minutes, for some", _instance("POST", "/start", "start")),
    Operation("POST", f"{_ONE}/stop", "Stop an instance", _instance("POST", "/stop", "stop")),
    Operation("POST", f"{_ONE}/restart", "Stop and start an instance", _instance("POST", "/restart", "start")),
    Operation("GET", f"{_ONE}/state", "What an instance is doing", _instance("GET", "/state"), State),
    Operation("GET", f"{_ONE}/logs", "The newest lines of its log", _instance("GET", "/logs")),
    Operation(
        "GET",
        f"{_ONE}/last-generation",
        "The last answer that it finished",
        _instance("GET", "/last-generation"),
        Generation,
        parameters=_AFTER,
    ),
)
