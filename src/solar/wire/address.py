"""Where an agent is: what people write becomes one spelling, and an instance's address follows from it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Literal

from solar.core.backend import loopback_name
from solar.errors import InvalidRequest

AGENT_PORT = 8001  # where an agent listens unless it is told otherwise

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_PATH = re.compile(r"(/[A-Za-z0-9._~!$&'()*+,;=:@%-]+)*")
_WRITE = "write http://host:8001"


@dataclass(frozen=True, slots=True)
class AgentUrl:
    """An agent's root, normalised: `str()` of it is the one spelling, and reading that gives it again."""

    scheme: Literal["http", "https"]
    hostname: str  # lower case, IPv6 without brackets
    port: int
    path: str = ""  # "" or "/base", never with a slash at its end

    def __str__(self) -> str:
        port = "" if self.scheme == "https" and self.port == 443 else f":{self.port}"
        return f"{self.scheme}://{_bracketed(self.hostname)}{port}{self.path}"

    def at(self, page: str) -> str:
        """The URL of one of its pages; `page` begins with a slash."""
        return f"{self}{page}"

    def stream(self, page: str) -> str:
        """The URL of one of its WebSockets; `page` begins with a slash."""
        return f"ws{self.at(page).removeprefix('http')}"


def agent_url(text: str) -> AgentUrl:
    """What somebody wrote for an agent's address, normalised.

    Without a scheme it is http. Without a port it is 8001, but for https 443: an agent speaks no TLS itself, so
    that one stands behind a proxy. Raises InvalidRequest that says what to write.
    """
    written = text.strip()
    scheme, _, rest = written.rpartition("://") if "://" in written else ("http", "", written)
    known = {"http": "http", "https": "https"}.get(scheme.lower())
    if known is None:
        raise _wrong(text, f"its scheme must be http or https; {_WRITE}")
    if "?" in rest or "#" in rest:
        raise _wrong(text, f"leave the query and the fragment out; {_WRITE}")
    place, _, path = rest.partition("/")
    if "@" in place:
        raise _wrong(text, "leave user and password out: the agent's key goes to api_key")
    hostname, port = _place(text, place)
    path = f"/{path}".rstrip("/")
    if not _PATH.fullmatch(path) or {".", ".."} & set(path.split("/")):
        raise _wrong(text, "its path must be plain: /base, or nothing")
    secure = known == "https"
    return AgentUrl("https" if secure else "http", hostname, port or (443 if secure else AGENT_PORT), path)


def same(a: AgentUrl, b: AgentUrl) -> bool:
    """Whether both are one agent. The scheme does not count: one port has one listener."""
    return _place_of(a) == _place_of(b)


def instance_url(agent: AgentUrl, port: int, scheme: Literal["http", "https"] = "http") -> str:
    """Where an instance listens: on its agent's host. The scheme is the engine's own, and engines speak plain http."""
    return f"{scheme}://{_bracketed(agent.hostname)}:{port}"


def _place_of(url: AgentUrl) -> tuple[str, int, str]:
    return loopback_name(url.hostname), url.port, url.path


def _bracketed(hostname: str) -> str:
    return f"[{hostname}]" if ":" in hostname else hostname


def _wrong(text: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"{text!r} is no agent's address: {why}", param="url")


def _place(text: str, place: str) -> tuple[str, int | None]:
    """Host and port; no port is None."""
    if place.startswith("["):
        inner, bracket, after = place[1:].partition("]")
        if not bracket or (after and not after.startswith(":")):
            raise _wrong(text, "an IPv6 address with a port is written http://[::1]:8001")
        return _ipv6(text, inner), _port(text, after[1:])
    if place.count(":") > 1:
        return _ipv6(text, place), None
    name, _, port = place.partition(":")
    return _name(text, name.lower().removesuffix(".")), _port(text, port)


def _port(text: str, port: str) -> int | None:
    if not port:
        return None
    if port.isascii() and port.isdecimal() and len(port) <= 5 and 0 < int(port) < 65536:
        return int(port)
    raise _wrong(text, "its port must be a number from 1 to 65535")


def _ipv6(text: str, address: str) -> str:
    try:
        found = IPv6Address(address)
    except AddressValueError:
        raise _wrong(text, "an IPv6 address with a port is written http://[::1]:8001") from None
    if found.scope_id is not None:
        raise _wrong(text, "an address of one link only (with a %) cannot be registered; write one that is routed")
    return str(found)


def _name(text: str, name: str) -> str:
    if not name:
        raise _wrong(text, f"it names no host; {_WRITE}")
    labels = name.split(".")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise _wrong(text, f"a host's name has letters, digits, dots and hyphens; {_WRITE}")
    if labels[-1].isdecimal():
        try:
            IPv4Address(name)
        except AddressValueError:
            raise _wrong(text, "an IPv4 address has four numbers from 0 to 255") from None
    return name
