"""The stages of the discoverers that need no more than this machine."""

from __future__ import annotations

import json
import random
import socket
import uuid
from pathlib import Path
from typing import Self

import pytest
from contract import QUICK, Stage
from fake_docker import FakeDocker
from nameserver import NameServer, Service
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from solar import Backend
from solar.discovery.dns import DnsDiscoverer
from solar.discovery.docker.discoverer import DockerDiscoverer
from solar.discovery.file import FileDiscoverer
from solar.discovery.local import LocalDiscoverer
from solar.discovery.mdns import SERVICE, MdnsDiscoverer
from solar.testing import FakeDiscoverer


class FakeStage(Stage):
    """solar.testing's own: the test that holds it is its source."""

    def __init__(self) -> None:
        super().__init__()
        self.discoverer: FakeDiscoverer = FakeDiscoverer()

    async def add(self, letter: str) -> str:
        self.discoverer.found(Backend(letter, (await self.start(letter)).url))
        return letter

    async def change(self, letter: str) -> str:
        self.discoverer.found(Backend(letter, self.fakes[letter].url, weight=2))
        return letter

    async def remove(self, letter: str) -> None:
        self.discoverer.lost(letter)

    async def break_source(self) -> None:
        self.discoverer.fails(OSError("out of order"))

    async def mend_source(self) -> None:
        """It tells what it is told, as before."""


class LocalStage(Stage):
    """Some ports of this machine: what listens there is found."""

    def __init__(self) -> None:
        super().__init__()
        self.ports = dict(zip("ab", free_ports(2), strict=True))
        self.discoverer: LocalDiscoverer = LocalDiscoverer(self.ports.values(), every=QUICK)

    async def add(self, letter: str) -> str:
        await self.start(letter, "ollama", port=self.ports[letter])
        return f"ollama-{self.ports[letter]}"

    async def change(self, letter: str) -> str:
        self.fakes[letter].die()
        await self.discoverer.begin().look()  # a round must see it closed, else it goes for the same engine
        await self.start(letter, "vllm", port=self.ports[letter])
        return f"vllm-{self.ports[letter]}"

    async def remove(self, letter: str) -> None:
        self.fakes[letter].die()


class DnsStage(Stage):
    """The SRV records of a name server of our own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self._monkeypatch = monkeypatch
        self.discoverer: DnsDiscoverer = DnsDiscoverer("_solar._tcp.llm.test", every=QUICK)

    async def __aenter__(self) -> Self:
        self.names = await self.exits.enter_async_context(NameServer())
        self.names.serve_this_process(self._monkeypatch)
        return self

    async def add(self, letter: str) -> str:
        port = (await self.start(letter)).port
        self.names.services[letter] = Service("localhost.", port)
        return f"llm.test-127.0.0.1-{port}"

    async def change(self, letter: str) -> str:
        port = self.fakes[letter].port
        self.names.services[letter] = Service("localhost.", port, priority=7)
        return f"llm.test-127.0.0.1-{port}"

    async def remove(self, letter: str) -> None:
        del self.names.services[letter]

    async def break_source(self) -> None:
        self.names.fails = True

    async def mend_source(self) -> None:
        self.names.fails = False


class FileStage(Stage):
    """A file; as JSON, since its tables are easily written."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.path = folder / "backends.json"
        self.tables: dict[str, dict[str, object]] = {}
        self.discoverer: FileDiscoverer = FileDiscoverer(self.path)
        self.discoverer.every = self.discoverer.settle = QUICK

    async def __aenter__(self) -> Self:
        self.write()
        return self

    def write(self) -> None:
        self.path.write_text(json.dumps({"backends": list(self.tables.values())}))

    async def add(self, letter: str) -> str:
        self.tables[letter] = {"name": letter, "url": (await self.start(letter)).url}
        self.write()
        return letter

    async def change(self, letter: str) -> str:
        self.tables[letter]["weight"] = 2
        self.write()
        return letter

    async def remove(self, letter: str) -> None:
        del self.tables[letter]
        self.write()

    async def break_source(self) -> None:
        self.path.unlink()

    async def mend_source(self) -> None:
        self.write()


class DockerStage(Stage):
    """The API of a Docker Engine; a real one is asked in tests/docker."""

    def __init__(self) -> None:
        super().__init__()
        self.docker = FakeDocker()
        self.containers: dict[str, str] = {}
        self.discoverer: DockerDiscoverer = DockerDiscoverer(hosts=[self.docker.url])

    async def __aenter__(self) -> Self:
        await self.exits.enter_async_context(self.docker)
        return self

    async def add(self, letter: str) -> str:
        self.containers[letter] = self.docker.run(letter, (await self.start(letter, "ollama")).port)
        return f"ollama-{letter}"

    async def change(self, letter: str) -> str:
        await self.remove(letter)
        labels = {"solar.weight": "2"}
        self.containers[letter] = self.docker.run(letter, self.fakes[letter].port, labels=labels)
        return f"ollama-{letter}"

    async def remove(self, letter: str) -> None:
        self.docker.end_of(self.containers[letter], "die", "destroy")

    async def break_source(self) -> None:
        await self.docker.stop()

    async def mend_source(self) -> None:
        await self.docker.start()


class MdnsStage(Stage):
    """Services on the loopback interface, which every machine has: multicast stays on it."""

    INTERFACES = ("127.0.0.1",)

    def __init__(self) -> None:
        super().__init__()
        self.discoverer: MdnsDiscoverer = MdnsDiscoverer(interfaces=self.INTERFACES)
        self.discoverer.listen = 0.3
        self._mark = uuid.uuid4().hex[:8]  # others may announce there at the same time
        self._infos: dict[str, AsyncServiceInfo] = {}

    async def __aenter__(self) -> Self:
        self._network = await self.exits.enter_async_context(AsyncZeroconf(interfaces=list(self.INTERFACES)))
        return self

    async def add(self, letter: str) -> str:
        info = self._infos[letter] = self._info(letter, (await self.start(letter)).port)
        # Without asking first whether somebody has that name, which takes a second: test_mdns.py asks.
        await self._network.async_register_service(info, cooperating_responders=True)
        return f"llamacpp-{letter}-{self._mark}"

    async def change(self, letter: str) -> str:
        info = self._infos[letter] = self._info(letter, (await self.start(letter)).port)
        await self._network.async_update_service(info)
        return f"llamacpp-{letter}-{self._mark}"

    async def remove(self, letter: str) -> None:
        await self._network.async_unregister_service(self._infos[letter])

    def _info(self, letter: str, port: int) -> AsyncServiceInfo:
        name = f"{letter}-{self._mark}.{SERVICE}"
        return AsyncServiceInfo(SERVICE, name, port=port, parsed_addresses=["127.0.0.1"], server=name)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, and that the kernel gives to no connection: below its own range."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(20_000, 30_000)
        if port not in found and _is_free(port):
            found.append(port)
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
