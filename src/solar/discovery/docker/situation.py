"""Where we stand, as seen from a Docker engine's containers: on its machine, in a container of it, or elsewhere."""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from solar.discovery.docker.containers import Container

_DOCKERS_MARK, _PODMANS_MARK = Path("/.dockerenv"), Path("/run/.containerenv")  # which images made of containers keep
# A container's own files lie on its machine in a folder of its id.
_OWN_FILE = re.compile(r" \S*/([0-9a-f]{64})/\S* /etc/(?:hostname|hosts|resolv\.conf) ")
_SHORT_ID = re.compile(r"[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Situation:
    """Where we stand, as seen from the containers of one engine."""

    hosts: tuple[str, ...] = ("127.0.0.1",)  # how the ports of the engine's machine are reached, best first
    bridges: bool = False  # its containers' own IPs lead there from here: we stand on its Linux machine
    networks: tuple[str, ...] | None = None  # that we share with its containers; None where we run in none
    shares_with: str | None = None  # the id of the container whose network we live in: ours, or another's
    remote: bool = False  # the engine is on another machine

    @property
    def on_host(self) -> bool:
        """Whether the machine's own 127.0.0.1 is ours, too."""
        return self.hosts[:1] == ("127.0.0.1",)


@dataclass(frozen=True, slots=True)
class Ourselves:
    """What this process can tell of the place where it runs."""

    hostname: str
    ids: tuple[str, ...] = ()  # of the container that we run in, or whose network we use: whole, or how it begins
    gateway: str | None = None  # where the default route leads: from within a container, to its machine
    machine: str = "host.docker.internal"  # what containers call their machine, if it was told them
    linux: bool = True


def situate(
    url: str, info: Mapping[str, Any], ours: Ourselves, *, known: bool = False, home: Container | None = None
) -> Situation:
    """`url` is the engine's, `info` what it says of itself.

    `known`: it has our container, and `home` is the one whose network we live in, unless that is gone. Then it is on
    our machine, whatever its URL looks like: it may be a proxy of its socket.
    """
    rootful = "rootless" not in str(info.get("SecurityOptions")) and info.get("Rootless") is not True  # podman's word
    there = machine_of(url)
    if home is not None and home.network_mode == "host":
        return Situation(bridges=rootful)
    if home is not None:
        return Situation(_outside(ours), networks=tuple(name for name, _ in home.networks), shares_with=home.id)
    if known:
        return Situation(_outside(ours), networks=())
    if there is not None:
        return Situation((there,), remote=True)
    # A socket may be a virtual machine's, or forwarded from another: that has another name. In a container, ours is the
    # container's, and an engine of the same name runs in there, too.
    same = info.get("Name") == ours.hostname
    if ours.ids and not same:
        return Situation(_outside(ours), networks=())
    unknown = url.startswith("unix:") and not info.get("Name")
    return Situation(bridges=ours.linux and rootful and (same or unknown))


def machine_of(url: str) -> str | None:
    """The host part of an engine's URL; None where that is this machine."""
    try:
        host = urlsplit(url).hostname if not url.startswith(("unix:", "npipe:")) else None
    except ValueError:
        return None
    if host is None or host == "localhost":
        return None
    try:
        return None if ip_address(host).is_loopback else host
    except ValueError:
        return host


def look_around() -> Ourselves:
    """Read it from this machine."""
    hostname = socket.gethostname()
    ids = list(own_ids(_lines("/proc/self/mountinfo")))
    podman = _PODMANS_MARK.exists()
    if _SHORT_ID.fullmatch(hostname) and (podman or _DOCKERS_MARK.exists()):
        ids.append(hostname)
    return Ourselves(
        hostname,
        tuple(dict.fromkeys(ids)),
        default_gateway(_lines("/proc/net/route")),
        "host.containers.internal" if podman else "host.docker.internal",
        linux=sys.platform == "linux",
    )


def own_ids(mountinfo: Iterable[str]) -> Iterator[str]:
    """The container whose files are mounted as our /etc/hostname and the like: whose name and network we have."""
    for line in mountinfo:
        if found := _OWN_FILE.search(line):
            yield found[1]


def default_gateway(routes: Iterable[str]) -> str | None:
    """Where the default route of a Linux routing table leads."""
    for line in routes:
        fields = line.split()
        if len(fields) > 2 and fields[1] == "00000000" and re.fullmatch(r"[0-9A-F]{8}", fields[2]):
            return str(IPv4Address(bytes.fromhex(fields[2])[::-1]))
    return None


def _outside(ours: Ourselves) -> tuple[str, ...]:
    """From within a container, how its machine may be reached."""
    return (ours.machine, *([ours.gateway] if ours.gateway else []))


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
