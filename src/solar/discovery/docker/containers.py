"""What a Docker engine says of a container: the few facts that decide whether it is an engine, and where it listens.

Nothing is believed of the JSON: what is missing or of another shape is left out. Docker's versions differ, and podman.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from itertools import pairwise
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from solar.discovery.engines import ENGINES, default_port

_PORT_FLAGS = ("--port", "-p", "-port")
_ADDRESS_FLAGS = ("--listen", "-listen", "--address", "-address")  # with host:port, or :port
_VARIABLES = frozenset(name for engine in ENGINES.values() for name in engine.port_variables)
# What decides whether a word of the environment is a port: "11434", ":8080", "0.0.0.0:11434", "http://[::]:8080/".
_PORT_AT_END = re.compile(r"(?:^|:)(\d{1,5})$", re.ASCII)


@dataclass(frozen=True, slots=True)
class Published:
    """A port of the engine's machine that leads to one of the container's."""

    port: int  # inside
    host_ip: str  # on which of the machine's addresses; "0.0.0.0" and "::" are all of them
    host_port: int


@dataclass(frozen=True, slots=True)
class Container:
    """One container, as its engine describes it. Its environment may hold secrets: only what names a port is kept."""

    id: str
    name: str
    image: str  # as it was asked for when the container was made
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    runs: bool = True
    paused: bool = False
    health: str = ""  # of its own HEALTHCHECK: "starting", "healthy", "unhealthy"
    network_mode: str = ""  # "host", "none", "bridge", "container:ID", or a network's name
    networks: tuple[tuple[str, tuple[str, ...]], ...] = ()  # by name, in order: its addresses there
    published: tuple[Published, ...] = ()
    exposed: tuple[int, ...] = ()
    command_port: int | None = None  # as its command line says
    variables: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), hash=False)

    @property
    def in_network_of(self) -> str | None:
        """The container, by id or name, whose network it lives in."""
        kind, colon, other = self.network_mode.partition(":")
        return other if kind == "container" and colon and other else None

    def ports(self, label: int | None, engine: str, default: int | None = None) -> tuple[int, ...]:
        """Where the engine may listen inside the container, the likeliest first. `default` is its image's port.

        The label is the user's last word. Then comes what the engine was started with, its command before its
        environment, as engines read them: EXPOSE is the word of who built the image, who knew nothing of that command.
        """
        told = label or self.command_port or self._variable_port(engine)
        if told is not None:
            return (told,)
        usual = default or default_port(engine)
        published = sorted({one.port for one in self.published})
        known = dict.fromkeys((*published, *sorted(self.exposed)))
        return (usual,) if usual in known or not known else tuple(known)

    def _variable_port(self, engine: str) -> int | None:
        names = ENGINES[engine].port_variables if engine in ENGINES else sorted(_VARIABLES)
        ports = (_port_of(self.variables[name]) for name in names if name in self.variables)
        return next((port for port in ports if port is not None), None)


def read_container(facts: object) -> Container | None:
    """What `GET /containers/ID/json` answered, read. None where it describes no container."""
    page = _object(facts)
    container_id = _text(page.get("Id"))
    if not container_id:
        return None
    config, state = _object(page.get("Config")), _object(page.get("State"))
    settings = _object(page.get("NetworkSettings"))
    command = [*_words(config.get("Entrypoint")), *_words(config.get("Cmd"))]
    health = _object(state.get("Health")) or _object(state.get("Healthcheck"))  # podman's older name
    return Container(
        id=container_id,
        name=_text(page.get("Name")).strip("/") or container_id[:12],
        image=_text(config.get("Image")),
        labels=MappingProxyType(
            {name: value for name, value in _object(config.get("Labels")).items() if isinstance(value, str)}
        ),
        runs=state.get("Running", True) is True,
        paused=state.get("Paused") is True,
        health=_text(health.get("Status")),
        network_mode=_text(_object(page.get("HostConfig")).get("NetworkMode")),
        networks=tuple(_networks(settings)),
        published=tuple(sorted(set(_published(settings)), key=lambda one: (one.port, one.host_ip, one.host_port))),
        exposed=tuple(sorted(_exposed(config, settings))),
        command_port=_command_port(command),
        variables=MappingProxyType(_variables(config.get("Env"))),
    )


def _networks(settings: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, ...]]]:
    networks = _object(settings.get("Networks"))
    for name in sorted(networks):
        network = _object(networks[name])
        yield name, _addresses(network.get("IPAddress"), network.get("GlobalIPv6Address"))
    if not networks and (alone := _addresses(settings.get("IPAddress"), settings.get("GlobalIPv6Address"))):
        yield "bridge", alone


def _addresses(*texts: object) -> tuple[str, ...]:
    return tuple(text for text in map(_text, texts) if _is_ip(text))


def _published(settings: Mapping[str, Any]) -> Iterator[Published]:
    for name, bindings in _object(settings.get("Ports")).items():
        port = _tcp_port(name)
        for binding in map(_object, _items(bindings)):
            host_port = _number(binding.get("HostPort"))
            host_ip = _text(binding.get("HostIp")) or _text(binding.get("HostIP")) or "0.0.0.0"  # noqa: S104  as written there
            if port and host_port and _is_ip(host_ip):
                yield Published(port, host_ip, host_port)


def _exposed(config: Mapping[str, Any], settings: Mapping[str, Any]) -> set[int]:
    names = {**_object(config.get("ExposedPorts")), **_object(settings.get("Ports"))}
    return {port for port in map(_tcp_port, names) if port}


def _tcp_port(name: str) -> int | None:
    """ "8000/tcp" -> 8000."""
    number, _, protocol = name.partition("/")
    return _number(number) if protocol in ("", "tcp") else None


def _command_port(command: Sequence[str]) -> int | None:
    """The last port that a command line names: engines let the last one count. A shell's script is one word of it."""
    words = [word.strip("\"';") for argument in command for word in argument.split()]
    found = None
    for word, following in pairwise([*words, ""]):
        flag, equals, value = word.partition("=")
        value = value if equals else following
        if flag in _PORT_FLAGS:
            found = _number(value) or found
        elif flag in _ADDRESS_FLAGS:
            found = _port_of(value) or found
    return found


def _variables(lines: object) -> dict[str, str]:
    pairs = (line.partition("=") for line in _words(lines))
    return {name: value for name, _, value in pairs if name in _VARIABLES and value}


def _port_of(text: str) -> int | None:
    """The port in a port, or in host:port, or in a URL."""
    if "://" in text:
        try:
            return urlsplit(text).port
        except ValueError:
            return None
    found = _PORT_AT_END.search(text.strip())
    return _number(found[1]) if found else None


def _number(value: object) -> int | None:
    """A port, from a number or a text."""
    text = str(value) if isinstance(value, int) else _text(value)
    port = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0
    return port if 0 < port < 65536 else None


def _is_ip(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _items(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else ()


def _words(value: object) -> list[str]:
    """A list of texts; podman's older versions write a command as one text."""
    return [value] if isinstance(value, str) else [item for item in _items(value) if isinstance(item, str)]


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
