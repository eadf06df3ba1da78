"""What a route of the management API gets and gives, whatever carries it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from solar.control.fleet import Fleet
from solar.control.links import Links
from solar.control.logs import LogHub
from solar.control.tokens import Tokens
from solar.control.watchers import Watchers
from solar.errors import InvalidRequest, SolarError
from solar.router import Router
from solar.store import Store

LARGEST = 1 << 20  # bytes of a request's body


@dataclass(frozen=True, slots=True)
class Desk:
    """What the routes work with."""

    fleet: Fleet
    store: Store
    router: Router
    links: Links
    watchers: Watchers
    logs: LogHub = field(default_factory=LogHub)
    tokens: Tokens = field(default_factory=Tokens)
    clock: Callable[[], float] = time.time  # seconds since 1970


@dataclass(frozen=True, slots=True)
class Asked:
    """One request that was let in."""

    path: Mapping[str, str]  # what stands in the place of {host_id} and the like
    query: Mapping[str, str] = field(default_factory=dict)  # decoded
    raw_query: str = ""
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    """What it gets."""

    body: bytes
    status: int = 200
    kind: str = "application/json"


def told(value: object) -> Answer:
    """`value` as JSON."""
    return Answer(msgspec.json.encode(value))


def refused(error: SolarError, detail: object = None) -> Answer:
    """An error, in the shape that it has everywhere; `detail` beside it, where the originals' clients look for it."""
    told = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
    shown = error.message if detail is None else detail
    return Answer(msgspec.json.encode({"error": told, "detail": shown}), error.status)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One that may stand in a query."""

    name: str
    meaning: str
    kind: Literal["string", "integer", "boolean"] = "string"


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    summary: str
    answer: Callable[[Desk, Asked], Awaitable[Answer]]
    gives: Any = None  # the type of what it answers; None: some JSON
    takes: Any = None  # of its body; None: it needs none
    parameters: tuple[Parameter, ...] = ()


def only(asked: Asked, parameters: tuple[Parameter, ...]) -> None:
    """Raise InvalidRequest where the query holds a name that means nothing: a filter misspelt would not filter."""
    names = [parameter.name for parameter in parameters]
    for name in asked.query:
        if name not in names:
            raise InvalidRequest(f"there is no parameter {name[:50]!r} here; there are: {', '.join(names)}", param=name)


def flag(asked: Asked, name: str) -> bool:
    """A parameter that is true or false; false where it is absent. Raises InvalidRequest."""
    text = asked.query.get(name, "false").lower()
    if text not in ("true", "1", "false", "0"):
        raise InvalidRequest(f"{name} must be true or false", param=name)
    return text in ("true", "1")
