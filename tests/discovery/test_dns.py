"""Backends behind a name: addresses, and SRV records."""

from __future__ import annotations

import asyncio
import builtins
import socket
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from contract import DEADLINE, QUICK, Followed
from nameserver import NameServer, Service

from solar.discovery.dns import DnsDiscoverer
from solar.errors import InvalidSettings, MissingExtra, SolarError
from solar.testing import FakeBackend


class Hosts:
    """What the system's resolver says: the addresses of llm.test, or an error."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ips: list[str] = []
        self.error: Exception | None = None
        monkeypatch.setattr(socket, "getaddrinfo", self.getaddrinfo)

    def getaddrinfo(self, host: str, port: Any, *_: Any, **__: Any) -> list[Any]:
        assert host in ("llm.test", "one.test", "two.test")
        if self.error is not None:
            raise self.error
        kinds = [(ip, socket.AF_INET6 if ":" in ip else socket.AF_INET) for ip in self.ips]
        return [(family, socket.SOCK_STREAM, 6, "", (ip, port or 0)) for ip, family in kinds]


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> Hosts:
    return Hosts(monkeypatch)


@pytest.fixture
async def names(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[NameServer]:
    async with NameServer() as server:
        server.serve_this_process(monkeypatch)
        yield server


# --- addresses


async def test_every_address_that_answers_is_a_backend(hosts: Hosts) -> None:
    async with (
        FakeBackend(["m"], kind="vllm", host="127.0.0.2") as one,
        FakeBackend(["m"], kind="vllm", host="127.0.0.3", port=one.port),
        FakeBackend(["m"], kind="ollama", host="::1", port=one.port),
    ):
        hosts.ips = ["127.0.0.3", "::1", "127.0.0.4", "127.0.0.2", "127.0.0.3"]
        async with Followed(DnsDiscoverer("llm.test", one.port, every=QUICK)) as followed:
            await followed.until(lambda: len(followed.there) == 3)
            assert {backend.id: (backend.url, backend.type) for backend in followed.there.values()} == {
                f"llm.test-127.0.0.2-{one.port}": (f"http://127.0.0.2:{one.port}", "vllm"),
                f"llm.test-127.0.0.3-{one.port}": (f"http://127.0.0.3:{one.port}", "vllm"),
                f"llm.test-::1-{one.port}": (f"http://[::1]:{one.port}", "ollama"),
            }
            hosts.ips = ["127.0.0.2"]
            await followed.until(lambda: len(followed.there) == 1)


async def test_one_that_starts_later_appears_without_a_change_of_the_name(hosts: Hosts) -> None:
    async with FakeBackend(["m"], kind="vllm", host="127.0.0.2") as fake:
        fake.die()
        hosts.ips = ["127.0.0.2"]
        async with Followed(DnsDiscoverer("llm.test", fake.port, every=1e9)) as followed:
            await asyncio.sleep(0)
            fake.revive()
            await followed.until(lambda: followed.there)


async def test_one_that_answered_once_stays_while_its_name_has_it(hosts: Hosts) -> None:
    async with FakeBackend(["m"], kind="vllm", host="127.0.0.2") as fake:
        hosts.ips = ["127.0.0.2"]
        discoverer = DnsDiscoverer("llm.test", fake.port, every=QUICK)
        async with Followed(discoverer) as followed:
            await followed.until(lambda: followed.there)
        fake.die()
        async with Followed(discoverer) as followed:
            await followed.until(lambda: followed.there)


@pytest.mark.parametrize("code", [socket.EAI_NONAME, socket.EAI_NODATA])
async def test_a_name_that_does_not_exist_is_an_empty_list(hosts: Hosts, code: int) -> None:
    async with FakeBackend(["m"], kind="vllm", host="127.0.0.2") as fake:
        hosts.ips = ["127.0.0.2"]
        async with Followed(DnsDiscoverer("llm.test", fake.port, every=QUICK)) as followed:
            await followed.until(lambda: followed.there)
            hosts.error = socket.gaierror(code, "no such name")
            await followed.until(lambda: not followed.there)
            assert followed.errors == []


@pytest.mark.parametrize(
    "error", [socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), OSError("out of order"), UnicodeError("label")]
)
async def test_a_resolver_that_fails_changes_nothing_and_is_told_in_a_sentence(hosts: Hosts, error: Exception) -> None:
    hosts.error = error
    with pytest.raises(SolarError, match=r"cannot resolve llm\.test: \w+"):
        await anext(DnsDiscoverer("llm.test", 9).watch())
    (seen,) = await DnsDiscoverer("llm.test", 9).look()
    assert (seen.blind, seen.backend) == (True, None)


async def test_a_resolver_that_does_not_answer_has_failed(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("solar.discovery.dns.RESOLVE_SECONDS", 0.0)
    with pytest.raises(SolarError, match=r"no answer within 0 s; look at /etc/resolv\.conf"):
        await anext(DnsDiscoverer("llm.test", 9).watch())


async def test_an_address_that_refuses_says_what_to_look_at(hosts: Hosts) -> None:
    hosts.ips = ["127.0.0.2"]
    (seen,) = await DnsDiscoverer("llm.test", 9).look()
    assert (seen.name, seen.reason) == ("127.0.0.2 port 9", "nothing listens there")
    assert "--host 0.0.0.0" in seen.advice


async def test_addresses_of_a_link_are_left_out(hosts: Hosts) -> None:
    hosts.ips = ["fe80::1%eth0"]
    (seen,) = await DnsDiscoverer("llm.test", 9).look()
    assert seen.reason == "the name has no address"


# --- SRV records


async def test_records_say_port_priority_and_weight(hosts: Hosts, names: NameServer) -> None:
    async with (
        FakeBackend(["m"], kind="vllm") as strong,
        FakeBackend(["m"], kind="vllm") as weak,
        FakeBackend(["m"], kind="vllm") as spare,
    ):
        hosts.ips = ["127.0.0.1"]
        names.services = {
            "strong": Service("one.test.", strong.port, priority=1, weight=40),
            "weak": Service("two.test.", weak.port, priority=1, weight=10),
            "spare": Service("two.test.", spare.port, priority=5, weight=10),
            "none": Service(".", 0),
        }
        seen = await DnsDiscoverer("_http._tcp.llm.test").look()
        backends = {one.backend.id: one.backend for one in seen if one.backend is not None}
        assert {name: (backend.priority, backend.weight) for name, backend in backends.items()} == {
            f"llm.test-127.0.0.1-{strong.port}": (1, 1.0),
            f"llm.test-127.0.0.1-{weak.port}": (1, 0.25),
            f"llm.test-127.0.0.1-{spare.port}": (5, 1.0),
        }


@pytest.mark.parametrize(("weights", "shares"), [((0, 0), (1.0, 1.0)), ((0, 10), (0.01, 1.0)), ((25, 25), (1.0, 1.0))])
async def test_a_weight_is_a_share_of_the_largest(
    hosts: Hosts, names: NameServer, weights: tuple[int, int], shares: tuple[float, float]
) -> None:
    async with FakeBackend(["m"], kind="vllm") as one, FakeBackend(["m"], kind="vllm") as two:
        hosts.ips = ["127.0.0.1"]
        names.services = {
            str(fake.port): Service("one.test.", fake.port, weight=weight)
            for fake, weight in zip((one, two), weights, strict=True)
        }
        seen = await DnsDiscoverer("_http._tcp.llm.test").look()
        found = {each.backend.origin.port: each.backend.weight for each in seen if each.backend is not None}
        assert (found[one.port], found[two.port]) == shares


@pytest.mark.parametrize(("ttl", "pause"), [(30, 10.0), (5, 5.0), (0, 2.0)])
async def test_it_looks_again_when_the_records_are_old_and_not_before_two_seconds(
    names: NameServer, ttl: int, pause: float
) -> None:
    names.ttl = ttl
    names.services = {"none": Service(".", 0)}
    looks = DnsDiscoverer("_http._tcp.llm.test").begin()
    await looks.look()
    assert looks.pause() == pause


async def test_records_that_do_not_exist_are_an_empty_list(names: NameServer) -> None:
    looks = DnsDiscoverer("_http._tcp.llm.test").begin()
    (seen,) = await looks.look()
    assert seen.reason == "the name has no address"
    assert looks.pause() == 10.0


async def test_a_cancelled_question_ends_the_watch_wherever_it_stands(names: NameServer, hosts: Hosts) -> None:
    hosts.ips = ["127.0.0.1"]
    names.services = {"a": Service("one.test.", 9)}
    for turns in range(30):
        watching = asyncio.get_running_loop().create_task(_watch(DnsDiscoverer("_http._tcp.llm.test", every=QUICK)))
        for _ in range(turns):
            await asyncio.sleep(0)
        watching.cancel()
        async with asyncio.timeout(DEADLINE):
            await asyncio.wait([watching])
        assert watching.cancelled()


async def _watch(discoverer: DnsDiscoverer) -> None:
    async for _ in discoverer.watch():
        pass


# --- what is written


@pytest.mark.parametrize(
    ("name", "port", "said"),
    [
        ("llm.test", None, "dns:llm.test needs a port"),
        ("llm.test", 0, "dns:llm.test needs a port"),
        ("llm.test", 65536, "dns:llm.test needs a port"),
        ("_http._tcp.llm.test", 80, "leave out :80"),
    ],
)
def test_a_name_says_its_port_or_its_records_do(name: str, port: int | None, said: str) -> None:
    with pytest.raises(InvalidSettings, match=said):
        DnsDiscoverer(name, port)


def test_its_name_is_the_word_for_it() -> None:
    assert DnsDiscoverer("llm.test", 80).name == "dns:llm.test:80"
    assert DnsDiscoverer("_http._tcp.llm.test").name == "dns:_http._tcp.llm.test"


def test_records_need_an_extra_and_addresses_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "dns")
    assert DnsDiscoverer("llm.test", 80).port == 80
    with pytest.raises(MissingExtra, match=r"the extra 'dns', from the checkout: pip install '\.\[dns\]'"):
        DnsDiscoverer("_http._tcp.llm.test")


def without(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """As if `package` were not installed."""
    real = builtins.__import__

    def fails(name: str, *rest: Any, **more: Any) -> Any:
        if name.partition(".")[0] == package:
            raise ImportError(name)
        return real(name, *rest, **more)

    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", fails)
