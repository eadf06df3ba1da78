"""Engines on this machine, found by asking who listens on their usual ports."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from solar.core.backend import Backend
from solar.discovery.asking import Asked, Asker
from solar.discovery.patience import LATE, Patience
from solar.discovery.rounds import Looks, Rounds, blind
from solar.discovery.sighting import Address, Sighting, Tried
from solar.errors import InvalidSettings, SolarError

# Who listens there unless told otherwise. Where several do, whoever answers says which it is.
PORTS: Mapping[int, str] = {
    11434: "Ollama",
    1234: "LM Studio",
    8000: "vLLM",
    8080: "llama-server, llamafile, LocalAI, llama-swap, mlx_lm.server",
    30000: "SGLang",
    3000: "text-generation-inference",
    5000: "text-generation-webui, TabbyAPI",
    5001: "KoboldCpp",
    1337: "Jan",
}
CONNECT_SECONDS = 0.5  # on this machine a connection stands at once, or somebody listens who takes none
_LONGEST = 300.0  # seconds between two questions to who has shown to be no engine
_GONE_AFTER = 2  # rounds that a port is closed in a row: a restart takes one


class LocalDiscoverer(Rounds):
    """Finds engines on `ports` of this machine, but for `not_ports`: those on which the gateway itself listens.

    Each round is a bare connect to each port. Only who listens is asked, and who is an engine is asked once.
    Raises InvalidSettings.
    """

    def __init__(
        self, ports: Iterable[int] = tuple(PORTS), *, not_ports: Collection[int] = (), every: float = 5.0
    ) -> None:
        super().__init__(every=every)
        self.name = "local"
        self.ports = tuple(port for port in dict.fromkeys(ports) if port not in not_ports)
        if wrong := [port for port in self.ports if not 0 < port < 65536]:
            raise InvalidSettings(f"a port to look at is a number from 1 to 65535; got {wrong[0]}")
        self._machine = _Machine(self)  # outlives a watch that failed: who has answered once stays

    def __repr__(self) -> str:
        return f"<LocalDiscoverer of the ports {', '.join(map(str, self.ports))}>"

    async def look(self) -> tuple[Sighting, ...]:
        """Everybody who listens, asked."""
        try:
            return await _Machine(self).look()
        except SolarError as error:
            return blind(error, self.name, "this machine")

    def begin(self) -> Looks:
        return self._machine


class _Machine:
    """What is known of the ports, from one round to the next."""

    def __init__(self, discoverer: LocalDiscoverer) -> None:
        self._discoverer = discoverer
        self._ports = [_Port(number, Patience(discoverer.every, _LONGEST)) for number in discoverer.ports]

    def pause(self) -> float:
        return self._discoverer.every

    async def look(self) -> tuple[Sighting, ...]:
        clock = asyncio.get_running_loop().time
        hosts = [await _listening(port.number) for port in self._ports]  # each at once: it is this machine
        now = clock()
        asked = [port for port, host in zip(self._ports, hosts, strict=True) if port.seen(host, now)]
        async with Asker() as asker:
            answers = await asyncio.gather(*(asker.ask(port.url, named=False) for port in asked))
        now = clock()
        for port, answer in zip(asked, answers, strict=True):
            port.heard(answer, now)
        return tuple(port.sighting() for port in self._ports)


@dataclass(slots=True)
class _Port:
    """One port: whether it is open, and who was found there."""

    number: int
    patience: Patience = field(repr=False)  # with who is no engine, or has not told yet which
    host: str | None = None  # as URLs spell it: where somebody listens
    closed: int = 0  # rounds in a row
    asked: Asked | None = None  # what came of the last question
    backend: Backend | None = None
    settled: bool = False  # it told what it is: the router's probes take it from there

    @property
    def url(self) -> str:
        return f"http://{self.host or '127.0.0.1'}:{self.number}"

    def seen(self, host: str | None, now: float) -> bool:
        """A round has found it open at `host`, or closed: whether to ask now who is there."""
        if host is None:
            self.closed += 1
            self.settled = False
            self.patience.renew()
            self.asked = self.host = None
            if self.closed >= _GONE_AFTER:
                self.backend = None
            return False
        if host != self.host:
            self.settled = False
            self.patience.renew()
        self.host, self.closed = host, 0
        return not self.settled and self.patience.due <= now

    def heard(self, answer: Asked, now: float) -> None:
        """What came of asking it."""
        self.asked = answer
        self.patience.asked(now)
        if answer.failed != "foreign":  # it may be starting: a proxy takes connections before its engine does
            self.patience.due = min(self.patience.due, now + LATE)
        if answer.answered:
            self.settled = answer.type is not None
            kind = answer.type or "auto"
            name = f"{answer.type or 'engine'}-{self.number}"
            self.backend = Backend(name, self.url, type=kind, host="localhost", source="local")
        elif answer.failed == "foreign":
            self.backend = None

    def sighting(self) -> Sighting:
        """What can be said of it now."""
        usual = f"usual port of {PORTS[self.number]}" if self.number in PORTS else "a port to look at"
        asked = self.asked or _NOBODY
        return Sighting(
            name=f"port {self.number}",
            where="this machine",
            why=usual,
            tried=(Tried(Address(self.url, usual), asked.answered, asked.outcome, asked.failed),),
            backend=self.backend,
            reason="" if asked.models else asked.outcome,
            advice=_NAME_IT.format(url=self.url) if asked.locked else "",
        )


_NAME_IT = 'if it is an engine, name it with its key: [[backends]] url = "{url}", api_key = "..."'
_NOBODY = Asked(False, "nothing listens there", failed="refused")


_ADVICE = "does this process have all the files open that it may (ulimit -n)?"


async def _listening(port: int) -> str | None:
    """The loopback address at which somebody takes connections to `port`, as URLs spell it. Raises SolarError."""
    if await _connects(socket.AF_INET, "127.0.0.1", port):
        return "127.0.0.1"
    return "[::1]" if socket.has_ipv6 and await _connects(socket.AF_INET6, "::1", port) else None


async def _connects(family: socket.AddressFamily, address: str, port: int) -> bool:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.setblocking(False)
            async with asyncio.timeout(CONNECT_SECONDS):
                await asyncio.get_running_loop().sock_connect(sock, (address, port))
            # A connect to a closed port of the range that the kernel takes from may meet itself.
            return bool(sock.getsockname() != sock.getpeername())
    except TimeoutError:
        return True  # it listens, and its queue is full
    except ConnectionError:
        return False
    except OSError as error:
        if family is socket.AF_INET6:  # there is none on this machine
            return False
        raise SolarError(f"cannot look at the ports of this machine: {error.strerror or error}; {_ADVICE}") from None
