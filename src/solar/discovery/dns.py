"""Backends behind a name: all its addresses, or what its SRV records say. dnspython is used in here only."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import NamedTuple

from solar.core.backend import Backend
from solar.discovery.asking import Settled
from solar.discovery.patience import Known
from solar.discovery.rounds import Looks, Rounds, blind
from solar.discovery.sighting import Address, Sighting
from solar.errors import InvalidSettings, MissingExtra, SolarError

RESOLVE_SECONDS = 5.0  # a resolver that takes longer has failed
_SHORTEST = 2.0  # seconds between two looks, however soon the records say that they are old
_LEAST_WEIGHT = 0.01  # of a server whose weight is 0 beside others: hardly ever, and not never
# What getaddrinfo says of a name that does not exist, or that has no address; whatever else it says is a failure.
_NO_SUCH_NAME = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))


class DnsDiscoverer(Rounds):
    """Finds what answers at the addresses of `name`: A and AAAA with `port`, as the system resolves them.

    A name that begins with `_` is asked for its SRV records: they say the port. Their priority is the backend's, as the
    lower one comes first in both; their weight is relative to the largest one of that priority, whose backends have 1.
    Raises InvalidSettings, MissingExtra.
    """

    def __init__(self, name: str, port: int | None = None, *, every: float = 10.0) -> None:
        super().__init__(every=every)
        srv = name.startswith("_")
        if srv and port is not None:
            raise InvalidSettings(f"dns:{name} has SRV records, which say the port; leave out :{port}")
        if not srv and (port is None or not 0 < port < 65536):
            raise InvalidSettings(f"dns:{name} needs a port from 1 to 65535; write for example dns:{name}:8000")
        if srv:
            _require(name)
        self.name = f"dns:{name}" if srv else f"dns:{name}:{port}"
        self.host = name
        self.port = port  # None: the SRV records say it
        self._answers = _Answers(self)  # outlives a watch that failed: who has answered once stays

    def __repr__(self) -> str:
        return f"<DnsDiscoverer {self.name}>"

    async def look(self) -> tuple[Sighting, ...]:
        """Every address of the name, asked."""
        try:
            return await _Answers(self).look()
        except SolarError as error:
            return blind(error, self.name, "its name")

    def begin(self) -> Looks:
        return self._answers


class _Place(NamedTuple):
    """An address that the name has."""

    ip: str
    port: int
    priority: int = 0
    weight: float = 1.0

    @property
    def url(self) -> str:
        return f"http://[{self.ip}]:{self.port}" if ":" in self.ip else f"http://{self.ip}:{self.port}"


class _Answers:
    """What is known of the addresses, from one look to the next."""

    def __init__(self, discoverer: DnsDiscoverer) -> None:
        self._discoverer = discoverer
        self._known = Known()
        self._lives = discoverer.every  # seconds that the last answer is good for

    def pause(self) -> float:
        return min(self._lives, self._known.wait())

    async def look(self) -> tuple[Sighting, ...]:
        discoverer = self._discoverer
        self._lives = discoverer.every
        if discoverer.port is not None:
            places = [_Place(ip, discoverer.port) for ip in await _addresses(discoverer.host)]
            why = f"address of {discoverer.host}"
        else:
            places, lives = await _services(discoverer.host)
            self._lives = min(discoverer.every, max(_SHORTEST, lives))
            why = f"SRV record of {discoverer.host}"
        known = await self._known.ask({place.url: (Address(place.url, why),) for place in places})
        if not places:
            return (Sighting(discoverer.host, discoverer.name, "its name", reason="the name has no address"),)
        return tuple(self._sighting(place, known[place.url], why) for place in places)

    def _sighting(self, place: _Place, settled: Settled, why: str) -> Sighting:
        asked = settled.asked
        backend = None
        if asked is not None:
            backend = Backend(
                f"{_label(self._discoverer.host)}-{place.ip}-{place.port}",
                place.url,
                type=asked.type or "auto",
                weight=place.weight,
                priority=place.priority,
                source=self._discoverer.name,
            )
        tried = settled.tried[0]
        return Sighting(
            name=f"{place.ip} port {place.port}",
            where=self._discoverer.name,
            why=why,
            tried=settled.tried,
            backend=backend,
            reason="" if asked is not None and asked.models else tried.outcome,
            advice=_LISTEN.format(port=place.port) if tried.failed == "refused" else "",
        )


_LISTEN = "is it started, does it listen on port {port}, and not on 127.0.0.1 only (--host 0.0.0.0)?"


def _label(name: str) -> str:
    """What a name is called in ids: an SRV record's without its service and protocol."""
    labels = name.rstrip(".").split(".")
    return ".".join(label for label in labels if not label.startswith("_")) or name


async def _addresses(name: str) -> list[str]:
    """A and AAAA, as the system resolves them: hosts file, search domains and all. Raises SolarError."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVE_SECONDS):
            found = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        if error.errno in _NO_SUCH_NAME:
            return []
        raise SolarError(f"cannot resolve {name}: {(error.strerror or str(error)).lower()}; {_ADVICE}") from None
    except TimeoutError:
        raise SolarError(f"cannot resolve {name}: no answer within {RESOLVE_SECONDS:g} s; {_ADVICE}") from None
    except (OSError, UnicodeError) as error:
        raise SolarError(f"cannot resolve {name}: {error}") from None
    ips = dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found)
    return sorted(ip for ip in ips if "%" not in ip)  # sorted, as resolvers take turns; a link has no place in a URL


_ADVICE = "look at /etc/resolv.conf, and whether its server answers"


def _require(name: str) -> None:
    """Import dnspython, which takes long enough to be noticed where requests are served. Raises MissingExtra."""
    try:
        import dns.asyncresolver  # noqa: F401
    except ImportError:
        raise MissingExtra.of(f"reading the SRV records of {name}", "dnspython", "dns") from None


async def _services(name: str) -> tuple[list[_Place], float]:
    """What the SRV records of `name` say, and for how many seconds that is good. Raises SolarError."""
    from dns.asyncresolver import Resolver
    from dns.exception import DNSException
    from dns.resolver import NXDOMAIN, NoAnswer

    try:
        answer = await Resolver().resolve(name, "SRV", lifetime=RESOLVE_SECONDS, search=True)
    except (NXDOMAIN, NoAnswer):
        return [], float("inf")
    except DNSException as error:
        raise SolarError(f"cannot resolve {name}: {error}; {_ADVICE}") from None
    task = asyncio.current_task()
    if task is not None and task.cancelling():  # what dnspython waits with may swallow it, up to Python 3.11
        raise asyncio.CancelledError
    records = [(record.priority, record.weight, record.port, str(record.target)) for record in answer]
    return await _places(records), float(answer.rrset.ttl if answer.rrset is not None else 0)


async def _places(records: Sequence[tuple[int, int, int, str]]) -> list[_Place]:
    """The addresses that SRV records lead to: (priority, weight, port, target) each."""
    heaviest: dict[int, int] = {}
    for priority, weight, _, _ in records:
        heaviest[priority] = max(weight, heaviest.get(priority, 0))
    places: dict[tuple[str, int], _Place] = {}
    for priority, weight, port, target in sorted(records):
        if not port or target == ".":  # how a record says that there is nothing
            continue
        share = max(weight / heaviest[priority], _LEAST_WEIGHT) if heaviest[priority] else 1.0
        for ip in await _addresses(target.rstrip(".")):
            places.setdefault((ip, port), _Place(ip, port, priority, share))
    return sorted(places.values())
