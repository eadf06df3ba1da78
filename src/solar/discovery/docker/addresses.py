"""Where a container may be reached from where we stand: every way that could lead there, the best first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv6Address, ip_address

from solar.discovery.docker.containers import Container, Published
from solar.discovery.docker.situation import Situation
from solar.discovery.sighting import Address

_PROJECT = "com.docker.compose.project"


def candidates(
    container: Container,
    ports: Iterable[int],
    situation: Situation,
    around: Mapping[str, Container],
    *,
    url: str | None = None,
    network: str | None = None,
) -> tuple[Address, ...]:
    """Where `container` may be reached, each address once. `ports` are those inside, `url` and `network` its labels'.

    `around` has the containers whose network it may live in, by id.
    """
    found = [Address(url, "label url")] if url else []
    home = network_home(container, around)
    if home is not None:
        for port in ports:
            found += _ways(home, port, situation, network)
    once: dict[str, Address] = {}
    for address in found:
        once.setdefault(address.url, address)
    return tuple(once.values())


def network_home(container: Container, around: Mapping[str, Container]) -> Container | None:
    """The container whose network it lives in, which is itself for most. None: gone, or they lead in a circle."""
    seen = set()
    while (other := container.in_network_of) is not None:
        if container.id in seen or other not in around:
            return None
        seen.add(container.id)
        container = around[other]
    return container


def named_network(container: Container, wanted: str) -> str | None:
    """Which of its networks `wanted` is: compose puts its project before the names in its file."""
    names = [name for name, _ in container.networks]
    if wanted in names:
        return wanted
    ours = f"{container.labels.get(_PROJECT, '')}_{wanted}"
    return ours if ours in names else next((name for name in names if name.endswith(f"_{wanted}")), None)


def _ways(home: Container, port: int, situation: Situation, network: str | None) -> Iterator[Address]:
    if home.id == situation.shares_with:
        yield Address(_url("127.0.0.1", port), "it shares its network with this gateway")
        return
    if home.network_mode == "host":
        why = "host network" if situation.on_host else "host network of its machine"
        yield from (Address(_url(host, port), why) for host in situation.hosts)
        return
    yield from _own(home, port, situation, network)
    for published in home.published:
        if published.port == port:
            yield from _through(published, situation)


def _own(home: Container, port: int, situation: Situation, network: str | None) -> Iterator[Address]:
    """By its own IPs: on the networks that we share with it, or on all of them from the machine that has them."""
    wanted = named_network(home, network) if network else None
    for name, addresses in sorted(home.networks, key=lambda one: (one[0] != wanted, one[0])):
        shared = situation.networks is not None and name in situation.networks
        if shared or situation.bridges:
            yield from (Address(_url(ip, port), f"its IP on the network {name}") for ip in addresses)


def _through(published: Published, situation: Situation) -> Iterator[Address]:
    """By a published port: on all addresses of its machine, or on the one that it was bound to."""
    ip = ip_address(published.host_ip)
    why = f"published port {published.host_port}"
    if ip.is_unspecified:
        hosts = situation.hosts
        if situation.on_host and ip.version == 6:
            hosts = (*hosts, "::1")
    elif not ip.is_loopback or situation.on_host:
        hosts = (published.host_ip,)
    elif situation.remote:  # its machine's own loopback: nobody comes there from here
        hosts = ()
    else:  # Docker Desktop lets containers reach the loopback of its machine by a name
        hosts = situation.hosts
    yield from (Address(_url(host, published.host_port), why) for host in hosts)


def _url(host: str, port: int) -> str:
    try:
        bracketed = f"[{host}]" if isinstance(ip_address(host), IPv6Address) else host
    except ValueError:
        bracketed = host
    return f"http://{bracketed}:{port}"
