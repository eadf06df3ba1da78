"""Engines that announce themselves on the local network as `_solar._tcp`, and how to announce one.

zeroconf is used in here only. Whoever is on the network can announce: look there only where you trust everybody.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, NamedTuple

from solar.core.backend import BACKEND_TYPES, Backend
from solar.discovery.asking import Settled
from solar.discovery.base import Change
from solar.discovery.patience import Known
from solar.discovery.rounds import Rounds, blind
from solar.discovery.sighting import Address, Sighting
from solar.errors import InvalidSettings, MissingExtra, SolarError

if TYPE_CHECKING:
    from zeroconf import ServiceStateChange, Zeroconf
    from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

SERVICE = "_solar._tcp.local."
_RESOLVE_SECONDS = 3.0  # for the address and the port of one that was heard
_GROUP = ("224.0.0.251", 5353)


class MdnsDiscoverer(Rounds):
    """Finds what announces itself as `_solar._tcp`, once it has answered.

    `interfaces`: addresses of this machine on whose networks to listen; all of them by default.
    Raises MissingExtra.
    """

    def __init__(self, *, interfaces: Sequence[str] = (), every: float = 30.0) -> None:
        super().__init__(every=every)
        _require()
        self.name = "mdns"
        self.listen = 1.5  # seconds of one look: who is there answers the first two questions
        self._interfaces = tuple(interfaces)
        self._known = Known()  # outlives a watch that failed: who has answered once stays

    def __repr__(self) -> str:
        return f"<MdnsDiscoverer on {', '.join(self._interfaces) or 'every network'}>"

    async def look(self) -> tuple[Sighting, ...]:
        """Everybody who announces an engine now, asked."""
        try:
            async with _listening(self._interfaces, _Network(Known(), lambda: None, self.every)) as network:
                await asyncio.sleep(self.listen)
                return await network.look()
        except SolarError as error:
            return blind(error, self.name, "the local network")

    async def watch(self) -> AsyncIterator[Change]:
        """Lists who is there, first and after each change that is heard."""
        async with (
            _listening(self._interfaces, _Network(self._known, self.wake, self.every)) as network,
            aclosing(self.rounds(network)) as changes,
        ):
            await asyncio.sleep(self.listen)  # nobody is lost only because he was not heard yet
            async for change in changes:
                yield change


class _Service(NamedTuple):
    """An engine as it announces itself."""

    name: str
    type: str
    addresses: tuple[Address, ...]
    model: str

    @property
    def key(self) -> str:
        """Changes with where it is."""
        return " ".join((self.name, *(address.url for address in self.addresses)))


class _Network:
    """Who was heard, and what came of asking them."""

    def __init__(self, known: Known, wake: Callable[[], None], every: float) -> None:
        self._known = known
        self._wake = wake
        self._every = every
        self._heard: dict[str, _Service | None] = {}  # None: it has not said yet where it is
        self._stale: set[str] = set()  # who must be asked where it is
        self._zeroconf: Zeroconf | None = None

    def __repr__(self) -> str:
        return f"<_Network {len(self._heard)} heard>"

    def changed(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        """What zeroconf calls."""
        del service_type
        self._zeroconf = zeroconf
        if state_change.name == "Removed":
            self._heard.pop(name, None)
            self._stale.discard(name)
        else:
            self._heard.setdefault(name, None)
            self._stale.add(name)
        self._wake()

    def pause(self) -> float:
        return min(self._every, self._known.wait())

    async def look(self) -> tuple[Sighting, ...]:
        await asyncio.gather(*map(self._resolve, tuple(self._stale)))
        services = [service for service in self._heard.values() if service is not None]
        known = await self._known.ask({service.key: service.addresses for service in services})
        silent = sorted(name for name, service in self._heard.items() if service is None)
        return (
            *(_sighting(service, known[service.key]) for service in sorted(services)),
            *(Sighting(_label(name), SERVICE, "announced", reason="it does not say where it is") for name in silent),
        )

    async def _resolve(self, name: str) -> None:
        from zeroconf.asyncio import AsyncServiceInfo

        assert self._zeroconf is not None  # noqa: S101  it was heard through it
        info = AsyncServiceInfo(SERVICE, name)
        self._stale.discard(name)
        found = await info.async_request(self._zeroconf, _RESOLVE_SECONDS * 1000)
        if name not in self._heard:  # it has left meanwhile
            return
        if found:
            self._heard[name] = _service(name, info)
        else:
            self._stale.add(name)


def _service(name: str, info: AsyncServiceInfo) -> _Service:
    """What it says of itself: anything at all, as anybody may speak."""
    told = {key: value or "" for key, value in info.decoded_properties.items()}
    path = told.get("path", "").strip("/")
    urls = [f"http://{_bracketed(ip)}:{info.port}" + (f"/{path}" if path else "") for ip in _reachable(info)]
    kind = told.get("type", "auto")
    return _Service(
        name=_label(name),
        type=kind if kind in BACKEND_TYPES else "auto",
        addresses=tuple(Address(url, "announced on the local network") for url in urls),
        model=told.get("model", ""),
    )


def _reachable(info: AsyncServiceInfo) -> list[str]:
    """Its addresses, IPv4 first; those of a link only have no place in a URL."""
    ips = sorted((ip_address(text) for text in info.parsed_addresses()), key=lambda ip: (ip.version, ip))
    return [str(ip) for ip in ips if not ip.is_link_local]


def _sighting(service: _Service, settled: Settled) -> Sighting:
    asked, backend = settled.asked, None
    if settled.address is not None and asked is not None:
        kind = asked.type or service.type
        name = re.sub(r"[^\w.-]+", "-", service.name)
        backend = Backend(
            f"{kind if kind != 'auto' else 'engine'}-{name}",
            settled.address.url,
            type=kind,
            source="mdns",
            other_urls=settled.others,
        )
    odd = "" if asked is not None and asked.models else "; ".join(sorted({tried.outcome for tried in settled.tried}))
    return Sighting(
        name=service.name,
        where=SERVICE,
        why=f"announced, with {service.model}" if service.model else "announced",
        tried=settled.tried,
        backend=backend,
        reason=odd or ("" if settled.tried else "it has no address that can be reached from here"),
    )


@asynccontextmanager
async def announce(
    name: str,
    port: int,
    *,
    kind: str = "auto",
    path: str = "",
    model: str = "",
    addresses: Sequence[str] = (),
    interfaces: Sequence[str] = (),
) -> AsyncIterator[str]:
    """Announce an engine on the local network for as long as the block runs; yields the name that it bears.

    That is another than `name` where the network has one of that name already. `kind` is a word of BACKEND_TYPES,
    `path` what stands before /v1. `addresses` are where it listens: by default the one that leads to the network.
    Raises InvalidSettings, MissingExtra, SolarError.
    """
    _require()
    from zeroconf import Error
    from zeroconf.asyncio import AsyncServiceInfo

    if not 0 < port < 65536:
        raise InvalidSettings(f"cannot announce {name!r}: a port is a number from 1 to 65535; got {port}")
    told = {"name": name, "type": kind, "path": path, "model": model}
    try:
        info = AsyncServiceInfo(
            SERVICE,
            f"{name}.{SERVICE}",
            port=port,
            properties={key: value for key, value in told.items() if value},
            parsed_addresses=list(addresses or interfaces or (_own_address(),)),
        )
    except (Error, ValueError, OSError) as error:  # OSError: what it says of an address that is none
        raise InvalidSettings(f"cannot announce {name!r}: {error}") from None
    async with _opened(interfaces) as zeroconf:
        try:
            await zeroconf.async_register_service(info, allow_name_change=True)
        except (Error, OSError) as error:
            raise SolarError(f"cannot announce {name!r} on the local network: {error}") from None
        yield _label(info.name)


@asynccontextmanager
async def _listening(interfaces: Sequence[str], network: _Network) -> AsyncIterator[_Network]:
    """`network` hears what is announced, for as long as the block runs."""
    from zeroconf.asyncio import AsyncServiceBrowser

    async with (
        _opened(interfaces) as opened,
        AsyncServiceBrowser(opened.zeroconf, SERVICE, handlers=[network.changed]),
    ):
        yield network


@asynccontextmanager
async def _opened(interfaces: Sequence[str]) -> AsyncIterator[AsyncZeroconf]:
    from zeroconf import InterfaceChoice
    from zeroconf.asyncio import AsyncZeroconf

    chosen: Any = list(interfaces) or InterfaceChoice.All
    try:
        opened = AsyncZeroconf(interfaces=chosen)
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no interface at all
        raise SolarError(f"cannot listen to the local network: {error}; a container needs --network host") from None
    async with opened:
        if not await asyncio.shield(_started(opened.zeroconf)):  # cancelled in it, it would leave its sockets open
            raise SolarError("cannot listen to the local network: zeroconf did not start; begin again")
        yield opened


async def _started(zeroconf: Zeroconf) -> bool:
    from zeroconf import NotRunningException

    try:
        await zeroconf.async_wait_for_start()
    except NotRunningException:
        return False
    return True


def _require() -> None:
    """Import zeroconf, which takes long enough to be noticed where requests are served. Raises MissingExtra."""
    try:
        import zeroconf.asyncio  # noqa: F401
    except ImportError:
        raise MissingExtra.of("finding what the local network announces", "zeroconf", "mdns") from None


def _own_address() -> str:
    """The address of this machine that leads to the local network. Raises SolarError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(_GROUP)  # nothing is sent
        except OSError as error:
            raise SolarError(f"this machine has no local network ({error.strerror}); name its addresses") from None
        return str(sock.getsockname()[0])


def _label(name: str) -> str:
    return name.removesuffix(f".{SERVICE}")


def _bracketed(ip: str) -> str:
    return f"[{ip}]" if ":" in ip else ip
