"""The discoverers that a configuration names. A kind is imported only where it is asked for: most bring packages."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

from solar.control.configuration import Configuration
from solar.control.extra import missing
from solar.control.words import Source
from solar.discovery.base import Discoverer
from solar.discovery.docker.images import ImageRule
from solar.discovery.sighting import Explains
from solar.errors import MissingExtra

# Of Docker, of Docker Desktop, and of those who run without root; and podman's.
DOCKER_SOCKETS = (
    "/var/run/docker.sock",
    "~/.docker/run/docker.sock",
    "$XDG_RUNTIME_DIR/docker.sock",
    "$XDG_RUNTIME_DIR/podman/podman.sock",
    "/run/podman/podman.sock",
)

# What a kind needs beyond the command's own packages, and the extra that brings it.
_NEEDS = {
    "docker": (("aiodocker",), "docker"),
    "docker by ssh": (("aiodocker", "asyncssh"), "docker-ssh"),
    "dns by SRV": (("dns",), "dns"),
    "mdns": (("zeroconf",), "mdns"),
}


class Finder(Discoverer, Explains, Protocol):
    """A discoverer that can also say what it sees: all of ours can."""


def finders(configuration: Configuration, *, not_ports: Collection[int] = ()) -> tuple[Finder, ...]:
    """Those that the settings name. `not_ports` are our own. Raises MissingExtra."""
    return finders_of(configuration.discover, configuration.image_rules, not_ports=not_ports)


def finders_of(
    sources: Iterable[Source], image_rules: Iterable[ImageRule], *, not_ports: Collection[int] = ()
) -> tuple[Finder, ...]:
    """One for each of `sources`; but one for all Docker Engines. Raises MissingExtra, before any begins."""
    sources = tuple(sources)
    for source in sources:
        _require(source)
    return tuple(_made(sources, tuple(image_rules), not_ports))


def usual(environ: Mapping[str, str]) -> tuple[Source, ...]:
    """Where to look when nobody says: Docker, where there is one and we could speak to it, and this machine."""
    local = Source("local")
    sockets = (Path(os.path.expandvars(path)).expanduser() for path in DOCKER_SOCKETS)
    there = bool(environ.get("DOCKER_HOST")) or any(map(_exists, sockets))
    return (Source("docker"), local) if there and not missing(("aiodocker",)) else (local,)


def _made(sources: tuple[Source, ...], rules: tuple[ImageRule, ...], not_ports: Collection[int]) -> Iterator[Finder]:
    engines = [source for source in sources if source.kind == "docker"]
    if engines:
        from solar.discovery.docker.discoverer import DockerDiscoverer

        alone = not any(source.what for source in engines)
        hosts = () if alone else [source.what or usual_engine() for source in engines]
        yield DockerDiscoverer(image_rules=rules, hosts=hosts)
    for source in sources:
        match source.kind:
            case "local":
                from solar.discovery.local import LocalDiscoverer

                yield LocalDiscoverer(not_ports=not_ports)
            case "dns":
                from solar.discovery.dns import DnsDiscoverer

                yield DnsDiscoverer(source.what, source.port)
            case "file":
                from solar.discovery.file import FileDiscoverer

                yield FileDiscoverer(Path(source.what).expanduser())
            case "mdns":
                from solar.discovery.mdns import MdnsDiscoverer

                yield MdnsDiscoverer()


def usual_engine() -> str:
    """The Docker Engine that the command `docker` would ask too."""
    return os.environ.get("DOCKER_HOST") or f"unix://{DOCKER_SOCKETS[0]}"


def _require(source: Source) -> None:
    packages, extra = _NEEDS.get(_need(source), ((), ""))
    if absent := missing(packages):
        raise MissingExtra.of(f"to look for backends {source.in_words}", ", ".join(absent), extra)


def _need(source: Source) -> str:
    if source.kind == "docker" and source.what.startswith("ssh://"):
        return "docker by ssh"
    if source.kind == "dns" and source.port is None:
        return "dns by SRV"
    return source.kind


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # in a folder that this user may not enter
        return False
