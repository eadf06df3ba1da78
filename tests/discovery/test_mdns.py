"""Engines that announce themselves, over the loopback interface: multicast on it reaches this machine only."""

from __future__ import annotations

import socket
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from contract import Followed
from test_dns import without
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from solar.discovery.mdns import SERVICE, MdnsDiscoverer, _service, announce
from solar.errors import InvalidSettings, MissingExtra, SolarError
from solar.testing import FakeBackend

LOOPBACK = ("127.0.0.1",)


@pytest.fixture
def named() -> Callable[[str], str]:
    """Makes a name that nobody else announces there at the same time."""
    mark = uuid.uuid4().hex[:8]
    return lambda name: f"{name} {mark}"


@pytest.fixture
async def discoverer() -> MdnsDiscoverer:
    made = MdnsDiscoverer(interfaces=LOOPBACK)
    made.listen = 0.3
    return made


async def test_what_is_announced_is_found_and_is_lost_when_that_ends(
    discoverer: MdnsDiscoverer, named: Callable[[str], str]
) -> None:
    name = named("my box")
    backend_id = f"ollama-{name.replace(' ', '-')}"
    async with FakeBackend(["m"], kind="ollama", base_path="/llm") as fake, Followed(discoverer) as followed:
        async with announce(name, fake.port, kind="ollama", path="/llm/v1", model="m", interfaces=LOOPBACK) as borne:
            assert borne == name
            await followed.until(lambda: backend_id in followed.there)
            backend = followed.there[backend_id]
            assert (backend.url, backend.prefix, backend.type, backend.source) == (
                f"{fake.url}/v1", "/llm/v1", "ollama", "mdns",
            )  # fmt: skip
            seen = next(one for one in await discoverer.look() if one.name == name)
            assert (seen.why, seen.reason, seen.backend) == ("announced, with m", "", backend)
        await followed.until(lambda: backend_id not in followed.there)
        assert followed.errors == []


async def test_what_is_announced_and_does_not_answer_is_no_backend(
    discoverer: MdnsDiscoverer, named: Callable[[str], str]
) -> None:
    async with FakeBackend() as gone:
        pass
    async with announced(named("gone"), gone.port):
        seen = next(one for one in await discoverer.look() if one.name == named("gone"))
        assert (seen.backend, seen.reason) == (None, "nothing listens there")


async def test_one_that_starts_after_it_was_announced_is_found(
    discoverer: MdnsDiscoverer, named: Callable[[str], str]
) -> None:
    async with FakeBackend(["m"], kind="vllm") as fake, announced(named("late"), fake.port):
        fake.die()
        async with Followed(discoverer) as followed:
            fake.revive()
            await followed.until(lambda: f"vllm-{named('late').replace(' ', '-')}" in followed.there)


@asynccontextmanager
async def announced(name: str, port: int) -> AsyncIterator[None]:
    """As `announce`, without the second in which that asks whether somebody has the name."""
    service = f"{name}.{SERVICE}"
    async with AsyncZeroconf(interfaces=list(LOOPBACK)) as network:
        info = AsyncServiceInfo(SERVICE, service, port=port, parsed_addresses=list(LOOPBACK), server=service)
        await network.async_register_service(info, cooperating_responders=True)
        yield


# --- what anybody may say


def told(properties: dict[str, str | bytes | None], addresses: tuple[str, ...] = ("10.0.0.5",)) -> Any:
    info = AsyncServiceInfo(
        SERVICE, f"x.{SERVICE}", port=8000, properties=dict(properties), parsed_addresses=list(addresses)
    )
    return _service(info.name, info)


def urls(**properties: str | bytes | None) -> list[str]:
    return [address.url for address in told(dict(properties)).addresses]


def test_a_path_leads_nowhere_else_than_to_the_host_that_said_it() -> None:
    assert urls(path="/v1") == urls(path="v1/") == ["http://10.0.0.5:8000/v1"]
    assert urls(path="") == urls(path=None) == urls() == ["http://10.0.0.5:8000"]
    assert urls(path="@evil.example/") == ["http://10.0.0.5:8000/@evil.example"]
    assert urls(path="9@evil.example") == ["http://10.0.0.5:8000/9@evil.example"]


def test_a_type_that_nobody_knows_is_asked_for() -> None:
    assert (told({"type": "vllm"}).type, told({"type": "nonsense"}).type, told({}).type) == ("vllm", "auto", "auto")
    assert told({"type": b"\xff"}).type == "auto"


def test_addresses_are_tried_in_order_and_those_of_a_link_are_left_out() -> None:
    service = told({}, ("fe80::1", "fd00::1", "10.0.0.6", "10.0.0.5"))
    assert [address.url for address in service.addresses] == [
        "http://10.0.0.5:8000",
        "http://10.0.0.6:8000",
        "http://[fd00::1]:8000",
    ]


# --- where it cannot be


async def test_a_network_that_cannot_be_listened_to_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(*_: object, **__: object) -> None:
        raise OSError("Address already in use")

    monkeypatch.setattr("zeroconf.asyncio.AsyncZeroconf", taken)
    with pytest.raises(SolarError, match=r"cannot listen to the local network: Address .*; a container needs"):
        await anext(MdnsDiscoverer().watch())
    (seen,) = await MdnsDiscoverer().look()
    assert (seen.blind, seen.advice) == (True, "a container needs --network host")


async def test_without_a_network_the_address_must_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object) -> None:
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(socket, "socket", lambda *_: _Socket(unreachable))
    with pytest.raises(SolarError, match=r"no local network \(Network is unreachable\); name its addresses"):
        async with announce("a", 8000):
            pytest.fail("it has no address")


class _Socket:
    """One that connects to nothing."""

    def __init__(self, connect: Callable[..., None]) -> None:
        self.connect = connect

    def __enter__(self) -> _Socket:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open."""


@pytest.mark.parametrize(
    ("name", "port", "address"), [("x" * 99, 8000, "127.0.0.1"), ("a", 8000, "no address"), ("a", 65536, "127.0.0.1")]
)
async def test_what_cannot_be_announced_is_told(name: str, port: int, address: str) -> None:
    with pytest.raises(InvalidSettings, match="cannot announce"):
        async with announce(name, port, addresses=[address], interfaces=LOOPBACK):
            pytest.fail("nobody could find it")


async def test_it_needs_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "zeroconf")
    with pytest.raises(MissingExtra, match=r"the extra 'mdns', from the checkout: pip install '\.\[mdns\]'"):
        MdnsDiscoverer()
    with pytest.raises(MissingExtra, match="mdns"):
        async with announce("a", 8000):
            pytest.fail("zeroconf is missing")
