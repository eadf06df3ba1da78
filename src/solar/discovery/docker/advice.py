"""What to do about a container that does not answer: judged by the addresses that were tried, and a few facts of it.

`advice` is for a sighting's own field, `unreachable` for that of a Docker Engine that cannot be asked.
"""

from __future__ import annotations

import errno
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from socket import gaierror
from urllib.parse import urlsplit

from solar.discovery.sighting import Failed, Tried

# How each engine is told to listen on every address of its container. Some do so by themselves.
_LISTEN_EVERYWHERE = {
    "llamacpp": "--host 0.0.0.0 (or LLAMA_ARG_HOST=0.0.0.0)",
    "ollama": "OLLAMA_HOST=0.0.0.0",
    "tgi": "--hostname 0.0.0.0",
    "localai": "LOCALAI_ADDRESS=:{port}",
    "llamaswap": "--listen :{port}",
}
_ELSEWHERE = "if it listens on another port, name that with the label solar.port"
_ADD_HOST = (
    '--add-host host.docker.internal:host-gateway (in compose: extra_hosts: ["host.docker.internal:host-gateway"])'
)


@dataclass(frozen=True, slots=True)
class Container:
    """What of a container, and of us, decides which way leads to it."""

    name: str
    type: str  # what its engine is thought to be
    port: int  # where that listens, inside
    ips: frozenset[str] = frozenset()  # its own, on all its networks
    networks: tuple[str, ...] = ()  # those by name; ("host",) where it has the machine's own
    published: tuple[str, ...] = ()  # the HostIP of each place where the port is published: "0.0.0.0", "127.0.0.1"
    ours: tuple[str, ...] | None = None  # the networks of the container that we run in; None: we run in none
    remote: bool = False  # its Docker Engine is on another machine


def advice(tried: Sequence[Tried], container: Container) -> str:
    """What to do so that one of these addresses answers; nothing where one does."""
    if any(one.answered for one in tried):
        return ""
    failed = {one.failed for one in tried}
    if "foreign" in failed:
        return (
            "what answers is no engine that Solar knows: name the port of its API with the label solar.port, "
            "or leave it out with solar.enable=false"
        )
    if "host" in container.networks:
        return _on_its_machine(container, failed)
    if _came_through(tried, container):
        return _listen_everywhere(container)
    if container.remote:
        return _published_there(container)
    if container.ours is not None and not set(container.ours) & set(container.networks):
        return _meet(container, "unknown name" in failed)
    if "silent" in failed and "refused" not in failed and (container.published or container.ours is not None):
        return f"does it hang, or does a firewall stand between? Look what it says: docker logs {container.name}"
    if not container.published:
        port = container.port
        return f"its own IP cannot be reached from here: publish its port, docker run -p 127.0.0.1:{port}:{port} ..."
    return _listen_everywhere(container)


def unreachable(url: str, error: OSError) -> tuple[str, str]:
    """Why the Docker Engine at `url` cannot be asked, and what to do."""
    path = url.removeprefix("unix://")
    if isinstance(error, PermissionError):
        return f"this user may not open {path}", (
            "join the group that owns it (sudo usermod -aG docker $USER, then log in again); "
            "in a container: --group-add $(stat -c %g /var/run/docker.sock), or group_add in compose"
        )
    if isinstance(error, FileNotFoundError):
        return f"there is no {path}", (
            "start Docker (sudo systemctl start docker), or say where its socket is: --discover docker:unix:///PATH; "
            "in a container: mount it, -v /var/run/docker.sock:/var/run/docker.sock:ro"
        )
    if isinstance(error, ssl.SSLError):
        return f"{url} does not take our TLS: {error.strerror or error}", (
            "set DOCKER_TLS_VERIFY=1, and DOCKER_CERT_PATH to the folder of ca.pem, cert.pem and key.pem"
        )
    if isinstance(error, gaierror):
        return f"the name in {url} is unknown", "correct it"
    if error.errno == errno.ECONNREFUSED:
        return f"no Docker Engine listens on {path}", "start it: sudo systemctl start docker"
    why = (error.strerror or str(error) or "no answer in time").lower()
    return f"the Docker Engine at {url} does not answer: {why}", f"look what this says: docker -H {url} version"


def _came_through(tried: Sequence[Tried], container: Container) -> bool:
    """Whether a connection got as far as the container, and nobody took it there.

    Docker's own proxy takes connections to a published port though nobody may listen behind it, and then hangs up.
    """
    return any(one.failed == "cut" or (one.failed == "refused" and _host(one) in container.ips) for one in tried)


def _listen_everywhere(container: Container) -> str:
    return (
        f"inside its container it may listen on 127.0.0.1 only: start it with {_how(container)}; "
        f"it may also still be starting (docker logs {container.name}); {_ELSEWHERE}"
    )


def _on_its_machine(container: Container, failed: set[Failed | None]) -> str:
    """It has its machine's own network."""
    starting = f"it may still be starting (docker logs {container.name})"
    if not container.remote and container.ours is None:
        return f"{starting}; {_ELSEWHERE}"
    if "refused" in failed or "cut" in failed:
        return (
            f"it may listen on 127.0.0.1 of its machine only: start it with {_how(container)}; {starting}; {_ELSEWHERE}"
        )
    if "unknown name" in failed and container.ours is not None:
        return f"let the gateway reach its machine: {_ADD_HOST}"
    return f"does a firewall on its machine let you through? Else {starting}"


def _how(container: Container) -> str:
    return _LISTEN_EVERYWHERE.get(container.type, "--host 0.0.0.0").format(port=container.port)


def _published_there(container: Container) -> str:
    port = container.port
    if not container.published:
        return f"its Docker Engine is on another machine: publish its port there, docker run -p {port}:{port} ..."
    if all(map(_is_loopback, container.published)):
        return (
            f"its port is published on 127.0.0.1 of its machine only: publish it for others too, "
            f"docker run -p {port}:{port} ..., or run a gateway on that machine"
        )
    return f"does a firewall on its machine let you through? Look also whether it started: docker logs {container.name}"


def _meet(container: Container, gateway_unknown: bool) -> str:
    """We run in a container, and share no network with it."""
    there = next((name for name in container.networks if name not in ("none", "bridge")), None)
    if there is not None:
        join = f"docker network connect {there} <the gateway's container>"
    else:
        join = "make a network (docker network create llm) and connect both containers with it"
    if gateway_unknown and container.published:
        join += f"; or let the gateway reach its machine: {_ADD_HOST}"
    alone = ""
    if container.published and all(map(_is_loopback, container.published)):
        alone = ", and its port is published on 127.0.0.1 of their machine, which no container reaches"
    return f"it shares no network with the container of this gateway{alone}: {join}"


def _host(one: Tried) -> str:
    return urlsplit(one.address.url).hostname or ""


def _is_loopback(address: str) -> bool:
    return bool(address) and ip_address(address).is_loopback
