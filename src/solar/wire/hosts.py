"""Hosts as the coordinator's clients see them: what they send, and what they get. No key is ever in an answer."""

from __future__ import annotations

from math import inf
from typing import Literal, TypeVar

import msgspec

from solar.errors import InvalidRequest
from solar.wire.address import AgentUrl, agent_url
from solar.wire.figures import Memory

Status = Literal["online", "offline", "error"]  # it answers; it does not; it answers, and not as it should


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """One registered host."""

    id: str
    name: str
    url: str
    status: Status = "offline"
    last_seen: str | None = None  # ISO 8601
    memory: Memory | None = None
    created_at: str
    weight: float = 1.0  # its capacity relative to other hosts
    connected: bool = False  # its agent keeps a link open to us
    reason: str | None = None  # why it is not online, or what is wrong although it is, in human words


class HostResponse(msgspec.Struct, frozen=True):
    """What a command on one host answers."""

    host: Host
    message: str


class Refreshed(msgspec.Struct, frozen=True):
    """What came of asking one host anew."""

    host_id: str
    name: str
    status: Status
    message: str


class RefreshedAll(msgspec.Struct, frozen=True):
    """What came of asking all of them."""

    message: str
    results: tuple[Refreshed, ...]

    @classmethod
    def of(cls, results: tuple[Refreshed, ...]) -> RefreshedAll:
        return cls(f"Refreshed {len(results)} hosts", results)


class NewHost(msgspec.Struct, frozen=True):
    """A registration: POST /hosts. The key is write-only."""

    name: str
    url: str
    api_key: str
    weight: float | msgspec.UnsetType = msgspec.UNSET

    def __repr__(self) -> str:
        return f"<NewHost {self.name!r} at {self.url}>"

    @property
    def agent(self) -> AgentUrl:
        """Where its agent is. Raises InvalidRequest that says what to write."""
        return agent_url(self.url)


class HostPatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What changes of a host: PATCH /hosts/{id}. What is left out stays."""

    name: str | msgspec.UnsetType = msgspec.UNSET
    url: str | msgspec.UnsetType = msgspec.UNSET
    api_key: str | msgspec.UnsetType = msgspec.UNSET
    weight: float | msgspec.UnsetType = msgspec.UNSET

    def __repr__(self) -> str:
        named = [name for name in self.__struct_fields__ if getattr(self, name) is not msgspec.UNSET]
        return f"<HostPatch of {', '.join(named) or 'nothing'}>"


def read_new_host(body: bytes) -> NewHost:
    """The body of POST /hosts. Raises InvalidRequest that says what to write."""
    host = _read(body, NewHost)
    _check_name(host.name)
    _check_key(host.api_key)
    _check_weight(host.weight)
    host.agent  # noqa: B018  it raises
    return host


def read_host_patch(body: bytes) -> HostPatch:
    """The body of PATCH /hosts/{id}. Raises InvalidRequest that says what to write."""
    patch = _read(body, HostPatch)
    if patch.name is not msgspec.UNSET:
        _check_name(patch.name)
    if patch.url is not msgspec.UNSET:
        agent_url(patch.url)
    if patch.api_key is not msgspec.UNSET:
        _check_key(patch.api_key)
    _check_weight(patch.weight)
    return patch


_Read = TypeVar("_Read", NewHost, HostPatch)


def _read(body: bytes, kind: type[_Read]) -> _Read:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        example = '{"name": "Mac Studio 1", "url": "http://192.168.1.100:8001", "api_key": "..."}'
        raise InvalidRequest(f"{error}; a host is written {example}") from None


def _check_name(name: str) -> None:
    if not name.strip() or not name.isprintable() or len(name) > 200:
        raise InvalidRequest("name must be 1 to 200 printable characters, such as 'Mac Studio 1'", param="name")


def _check_key(key: str) -> None:
    if not key or not key.isascii() or not key.isprintable():
        raise InvalidRequest("api_key must be the API_KEY of that agent: printable ASCII, not empty", param="api_key")


def _check_weight(weight: float | msgspec.UnsetType) -> None:
    if weight is not msgspec.UNSET and not 0 < weight < inf:
        raise InvalidRequest("weight must be a number above 0, such as 2 for a host twice as strong", param="weight")
