"""Engines on this machine's ports."""

from __future__ import annotations

import socket

import pytest
from answering import http, serving
from hypothesis import given
from hypothesis import strategies as st
from stages import free_ports

from asgi_call import get
from solar import Backend, Router
from solar.discovery.asking import Asked
from solar.discovery.local import PORTS, LocalDiscoverer, _Port
from solar.discovery.patience import Patience
from solar.errors import InvalidSettings, SolarError
from solar.testing import FakeBackend

AGES = 1e9  # seconds between two rounds: nobody is asked twice
HERE = "127.0.0.1"


def a_port() -> _Port:
    return _Port(8080, Patience(5, 300))


def an(engine: str | None, failed: str | None = None) -> Asked:
    return Asked(failed is None, "told", engine, (), failed)  # type: ignore[arg-type]


# --- what one port teaches


def test_who_is_no_engine_is_asked_again_after_pauses_that_grow_to_five_minutes() -> None:
    port, now, pauses = a_port(), 0.0, []
    for _ in range(9):
        assert port.seen(HERE, now)
        port.heard(an(None, "foreign"), now)
        pauses.append(port.patience.due - now)
        assert not port.seen(HERE, port.patience.due - 0.1)
        now = port.patience.due
    assert pauses == [5, 10, 20, 40, 80, 160, 300, 300, 300]


@pytest.mark.parametrize("answer", [an(None, "cut"), an(None, "silent"), an(None)])
def test_who_may_be_starting_is_asked_every_half_minute_at_least(answer: Asked) -> None:
    port, now = a_port(), 0.0
    for _ in range(9):
        assert port.seen(HERE, now)
        port.heard(answer, now)
        assert port.patience.due - now <= 30
        now = port.patience.due


def test_who_was_closed_in_between_is_asked_anew_at_once() -> None:
    port = a_port()
    for now in (0.0, 5.0, 15.0):
        assert port.seen(HERE, now)
        port.heard(an(None, "foreign"), now)
    assert not port.seen(HERE, 16)
    port.seen(None, 17)
    assert port.seen(HERE, 18)
    port.heard(an(None, "foreign"), 18)
    assert port.patience.due == 18 + 5


def test_an_engine_that_was_found_is_not_asked_again() -> None:
    port = a_port()
    assert port.seen(HERE, 0)
    port.heard(an("ollama"), 0)
    assert not any(port.seen(HERE, now) for now in range(5, 10_000, 5))
    assert port.backend is not None
    assert (port.backend.id, port.backend.url, port.backend.host) == (
        "ollama-8080",
        "http://127.0.0.1:8080",
        "localhost",
    )


def test_one_that_loads_is_asked_until_it_tells_what_it_is() -> None:
    port = a_port()
    port.seen(HERE, 0)
    port.heard(an(None), 0)
    assert port.backend is not None
    assert (port.backend.id, port.backend.type) == ("engine-8080", "auto")
    assert port.seen(HERE, 5)
    port.heard(an("llamacpp"), 5)
    assert port.backend.id == "llamacpp-8080"
    assert not port.seen(HERE, 10)


def test_a_restart_does_not_drop_it_and_two_closed_rounds_do() -> None:
    port = a_port()
    port.seen(HERE, 0)
    port.heard(an("ollama"), 0)
    port.seen(None, 5)
    assert port.backend is not None
    assert port.seen(HERE, 10)  # it is back, and asked who it is now
    port.heard(an("ollama"), 10)
    port.seen(None, 15)
    port.seen(None, 20)
    assert port.backend is None


@pytest.mark.parametrize(("failed", "stays"), [("silent", True), ("cut", True), ("foreign", False)])
def test_after_a_restart_silence_is_no_proof_and_another_server_is(failed: str, stays: bool) -> None:
    port = a_port()
    port.seen(HERE, 0)
    port.heard(an("ollama"), 0)
    port.seen(None, 5)
    port.seen(HERE, 10)
    port.heard(an(None, failed), 10)
    assert (port.backend is not None) == stays
    assert port.seen(HERE, 15)


def test_one_that_moved_to_another_address_is_asked_there() -> None:
    port = a_port()
    port.seen(HERE, 0)
    port.heard(an("ollama"), 0)
    assert port.seen("[::1]", 5)
    assert port.url == "http://[::1]:8080"


steps = st.lists(
    st.tuples(
        st.sampled_from([None, HERE, "[::1]"]),
        st.sampled_from([an("ollama"), an("vllm"), an(None), an(None, "foreign"), an(None, "silent")]),
        st.sampled_from([1.0, 5.0, 100.0]),
    ),
    max_size=30,
)


@given(steps)
def test_whatever_comes_nobody_is_hammered_and_two_closed_rounds_are_the_end(
    steps: list[tuple[str | None, Asked, float]],
) -> None:
    port, now, asked_at, closed = a_port(), 0.0, float("-inf"), 0
    for host, answer, later in steps:
        now += later
        moved = closed > 0 or host != port.host
        closed = closed + 1 if host is None else 0
        if port.seen(host, now):
            assert moved or now - asked_at >= 5
            asked_at = now
            port.heard(answer, now)
            assert (port.backend is not None) or not answer.answered
        assert closed < 2 or port.backend is None
        assert port.sighting().backend == port.backend


# --- rounds over real sockets


async def test_only_an_open_port_is_asked_and_an_engine_once() -> None:
    async with FakeBackend(["m"], kind="ollama") as fake:
        (closed,) = free_ports(1)
        machine = LocalDiscoverer([fake.port, closed], every=AGES).begin()
        for _ in range(3):
            found, nobody = await machine.look()
            assert found.backend is not None
            assert (nobody.backend, nobody.reason) == (None, "nothing listens there")
        await fake.wait_for(lambda: fake.open == 0)
        assert [asked.path for asked in fake.requests] == ["/health", "/v1/models"]


async def test_who_is_no_engine_is_asked_once_in_many_rounds() -> None:
    asked: list[str] = []

    def answers(path: str) -> bytes:
        asked.append(path)
        return http({"detail": "Not Found"}, 404)

    async with serving(answers) as url:
        machine = LocalDiscoverer([int(url.rpartition(":")[2])], every=AGES).begin()
        (first,) = await machine.look()
        before = len(asked)
        (second,) = await machine.look()
        assert (len(asked), second) == (before, first)
        assert (first.backend, first.reason) == (None, "no engine that we know: /v1/models answered 404")


async def test_an_engine_that_listens_on_ipv6_only_is_found_there() -> None:
    async with FakeBackend(["m"], kind="vllm", host="::1") as fake:
        (seen,) = await LocalDiscoverer([fake.port]).look()
        assert seen.backend is not None
        assert seen.backend.url == f"http://[::1]:{fake.port}"


async def test_a_port_whose_queue_is_full_is_no_closed_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("solar.discovery.local.CONNECT_SECONDS", 0.05)
    monkeypatch.setattr("solar.discovery.asking.ASK_SECONDS", 0.05)
    async with FakeBackend(["m"], kind="vllm") as fake:
        machine = LocalDiscoverer([fake.port], every=0).begin()
        await machine.look()
        fake.ignore_connects()
        for _ in range(3):
            (seen,) = await machine.look()
            assert seen.backend is not None


async def test_one_that_wants_a_key_says_what_to_write() -> None:
    async with FakeBackend(["m"], kind="vllm", api_key="k") as fake:
        (seen,) = await LocalDiscoverer([fake.port]).look()
        assert seen.backend is None
        assert f'url = "{fake.url}", api_key = ' in seen.advice


def test_our_own_ports_are_spared() -> None:
    assert 8000 in LocalDiscoverer().ports
    assert LocalDiscoverer(not_ports=[8000, 9]).ports == tuple(port for port in PORTS if port != 8000)
    assert LocalDiscoverer([1, 2, 1]).ports == (1, 2)
    with pytest.raises(InvalidSettings, match="from 1 to 65535; got 65536"):
        LocalDiscoverer([65536])


async def test_a_machine_that_has_no_socket_left_loses_nobody_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async with FakeBackend(["m"], kind="vllm") as fake:
        discoverer = LocalDiscoverer([fake.port], every=0)
        await discoverer.begin().look()

        def none_left(*_: object) -> None:
            raise OSError(24, "Too many open files")

        monkeypatch.setattr(socket, "socket", none_left)
        with pytest.raises(SolarError, match="cannot look at the ports of this machine: Too many open files; "):
            await anext(discoverer.watch())
        (seen,) = await discoverer.look()
        assert (seen.blind, seen.backend) == (True, None)
        assert "ulimit" in seen.advice
        monkeypatch.undo()
        (found,) = await discoverer.begin().look()
        assert found.backend is not None


async def test_a_machine_without_ipv6_is_asked_at_its_other_address(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    def only_ipv4(family: int, kind: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(97, "Address family not supported by protocol")
        return real(family, kind)

    (closed,) = free_ports(1)
    monkeypatch.setattr(socket, "socket", only_ipv4)
    (seen,) = await LocalDiscoverer([closed]).look()
    assert seen.tried[0].failed == "refused"


async def test_a_gateway_on_a_usual_port_is_no_engine() -> None:
    async with FakeBackend(["m"]) as fake, Router([Backend("a", fake.url)]) as router:
        said = {path: await get(router, path) for path in ("/health", "/v1/models")}
    async with serving(lambda path: http(said[path].body)) as url:
        (seen,) = await LocalDiscoverer([int(url.rpartition(":")[2])]).look()
        assert (seen.backend, seen.reason) == (None, "a Solar gateway, and no engine")
