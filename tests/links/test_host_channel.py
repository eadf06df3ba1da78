"""The link of a v2 agent: who is let in, what it tells, how it ends."""

import asyncio
import json
import logging
from pathlib import Path

import pytest
from linking import KEY, NOWHERE, Coordinator, answered, coordinating, instance, linked, opened, registration, update
from websockets.exceptions import ConnectionClosed

from solar.control.fleet.hosts import Pace
from solar.core.backend import Backend
from solar.discovery.base import BackendsListed
from solar.testing import FakeAgent
from solar.wire.channel import INVALID, MAX_FRAME, NO_JSON, NOT_FIRST, SEVERAL, TAKEN, TIMED_OUT, UNKNOWN_KEY
from solar.wire.hosts import HostPatch, NewHost


def asked(agent: FakeAgent, path: str = "/instances") -> int:
    return sum(request.path == path for request in agent.requests)


async def backends(coordinator: Coordinator) -> tuple[Backend, ...]:
    async for change in coordinator.fleet.discoverer.watch():
        assert isinstance(change, BackendsListed)
        return change.backends
    raise AssertionError("it ended")


async def test_an_agent_is_acknowledged_and_what_it_tells_is_known_without_asking(coordinator: Coordinator) -> None:
    async with FakeAgent(name="gpu1", control_urls=[coordinator.url]) as agent:
        host = await coordinator.host(agent)
        await agent.wait_for(lambda: agent.links[0].acknowledged)
        ack = json.loads(agent.links[0].received[-1])
        assert ack.keys() == {"type", "host_id", "host_name", "timestamp"}
        assert (ack["type"], ack["host_id"], ack["host_name"]) == ("registration_ack", host.id, "gpu1")
        await coordinator.until(lambda: coordinator.view(host).connected)
        await coordinator.fleet.refresh(host.id)  # the look that a new link asks for is over
        before = asked(agent)
        one = await agent.add("llama:8b")
        await coordinator.until(lambda: [one.running for one in coordinator.view(host).instances] == [True])
        assert [backend.models for backend in await backends(coordinator)] == [("llama:8b",)]
        assert (coordinator.view(host).instances[0].port, asked(agent) - before) == (one.port, 0)


@pytest.mark.parametrize(
    ("first", "words"),
    [
        ("hello", NO_JSON),
        ("ping", NO_JSON),
        ("[]", NOT_FIRST),
        (update(), NOT_FIRST),
        (registration(None), INVALID),
        (registration(""), INVALID),
        ('{"type": "registration"}', INVALID),
        (registration("wrong"), UNKNOWN_KEY),
        (registration("schlüssel \U0001f511"), UNKNOWN_KEY),
        (b"\xff\xfe", NO_JSON),
    ],
)
async def test_who_is_refused_hears_the_originals_words(
    coordinator: Coordinator, first: str | bytes, words: str
) -> None:
    host = await coordinator.host()
    async with opened(coordinator.url) as socket:
        await socket.send(first)
        assert await answered(socket) == {"type": "error", "message": words}
        with pytest.raises(ConnectionClosed):
            await socket.recv()
    assert not coordinator.view(host).connected


async def test_who_says_nothing_is_refused(coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("solar.control.links.channel.REGISTRATION_SECONDS", 0.01)
    async with opened(coordinator.url) as socket:
        assert await answered(socket) == {"type": "error", "message": TIMED_OUT}


async def test_nothing_is_taken_before_the_registration(coordinator: Coordinator) -> None:
    await coordinator.host()
    async with opened(coordinator.url) as socket:
        log = {"type": "log", "instance_id": "one", "timestamp": "t", "data": {"seq": 0, "line": "x", "level": "info"}}
        await socket.send(json.dumps(log))
        await socket.send(registration())
        assert (await answered(socket))["message"] == NOT_FIRST
    assert (coordinator.lines, coordinator.frames) == ([], [])


async def test_two_hosts_with_one_key_are_told_apart_by_name(coordinator: Coordinator) -> None:
    first, second = [await coordinator.fleet.add(NewHost(name, f"{NOWHERE}{n}", KEY), unreachable=True)
                     for n, name in enumerate(("gpu1", "gpu2"))]  # fmt: skip
    async with linked(coordinator, "gpu2"):
        assert [coordinator.view(host).connected for host in (first, second)] == [False, True]
    for name in (None, "gpu3"):
        async with opened(coordinator.url) as socket:
            await socket.send(registration(KEY, name))
            assert (await answered(socket))["message"] == SEVERAL


async def test_one_host_s_agent_may_have_any_name(coordinator: Coordinator) -> None:
    host = await coordinator.host(name="Mac Studio")
    async with linked(coordinator, "mac.local"):
        assert coordinator.view(host).connected


async def test_another_agent_with_the_same_key_does_not_take_a_link_that_speaks(coordinator: Coordinator) -> None:
    host = await coordinator.host()
    async with linked(coordinator, "gpu1", instance()):
        async with opened(coordinator.url) as socket:
            await socket.send(registration(KEY, "gpu2"))
            assert (await answered(socket))["message"] == TAKEN
        assert [one.id for one in coordinator.view(host).instances] == ["one"]


async def test_a_new_link_replaces_the_old_whose_late_end_touches_nothing(coordinator: Coordinator) -> None:
    host = await coordinator.host()
    async with linked(coordinator, "gpu1", instance("old")) as old:
        async with linked(coordinator, "gpu1", instance("new")):
            told: list[str] = []
            coordinator.fleet.on_change.append(lambda what, _: told.append(what))
            with pytest.raises(ConnectionClosed, match="a newer link of this host took its place"):
                await old.recv()
            # The old one has ended on both sides. Whatever it left behind has been done once a refresh has.
            await coordinator.fleet.refresh(host.id)
            now = coordinator.view(host)
            assert (now.connected, now.status, told) == (True, "online", [])
            assert [one.id for one in now.instances] == ["new"]
            assert [backend.models for backend in await backends(coordinator)] == [("llama:8b",)]
        await coordinator.until(lambda: coordinator.view(host).status == "offline")


async def test_a_host_behind_nat_is_online_by_its_link_and_its_instances_are_listed(coordinator: Coordinator) -> None:
    host = await coordinator.host()
    assert host.status == "offline"
    async with linked(coordinator, None, instance()) as socket:
        await coordinator.fleet.refresh(host.id)
        now = coordinator.view(host)
        assert (now.status, now.connected) == ("online", True)
        assert "nobody listens there" in now.reason
        assert "routed to only where the probes reach them" in now.reason
        assert (now.as_json.reason, now.as_json.connected) == (now.reason, True)
        assert [str(backend.url) for backend in await backends(coordinator)] == ["http://127.0.0.1:3500"]
        await socket.send(update())
        await coordinator.until(lambda: not coordinator.view(host).instances)
    await coordinator.until(lambda: coordinator.view(host).status == "offline")
    assert not coordinator.view(host).connected


async def test_when_a_link_ends_its_host_is_asked_at_once(coordinator: Coordinator) -> None:
    async with FakeAgent(name="gpu1", control_urls=[coordinator.url]) as agent:
        host = await coordinator.host(agent)
        await coordinator.until(lambda: coordinator.view(host).connected)
        await coordinator.fleet.refresh(host.id)
        before, told = asked(agent), list[str]()
        coordinator.fleet.on_change.append(lambda what, _: told.append(what))
        agent.links[0].cut()
        await agent.wait_for(lambda: asked(agent) > before and agent.links[0].acknowledged == 2)
        assert "status" not in told  # it answers: a link is no life
        await agent.die()
        await coordinator.until(lambda: coordinator.view(host).status == "offline")


async def test_while_a_link_stands_its_host_is_asked_seldom(tmp_path: Path) -> None:
    pace = Pace(instances=0.01, health=0.01, longest=3600, linked=3600)
    async with coordinating(tmp_path, pace) as here, FakeAgent(name="gpu1", control_urls=[here.url]) as agent:
        host = await here.host(agent)
        await here.until(lambda: here.view(host).connected)
        await here.fleet.refresh(host.id)  # the last look that is due
        before = asked(agent)
        for n in range(20):
            await agent.add(f"m{n}", start=False)
        await here.until(lambda: len(here.view(host).instances) == 20)
        assert asked(agent) == before
        agent.links[0].ended = True
        agent.links[0].cut()
        await agent.wait_for(lambda: asked(agent) > before + 2)


async def test_lines_states_and_health_go_where_they_are_wanted(coordinator: Coordinator) -> None:
    memory = {"used_gb": 6.0, "total_gb": 24.0, "percent": 25.0, "memory_type": "VRAM"}
    async with FakeAgent(name="gpu1", control_urls=[coordinator.url], memory=memory) as agent:
        host = await coordinator.host(agent)
        one = await agent.add("llama:8b")
        await coordinator.until(lambda: coordinator.view(host).connected)
        agent.write(one, "error: it is late", "and fine")
        agent.works(one, busy=True, phase="generating", generated_tokens=7)
        agent.memory = memory | {"used_gb": 12.0, "percent": 50.0}
        agent.tell_health()
        await coordinator.until(lambda: (now := coordinator.view(host).memory) and now.percent == 50)
        told = [(entry.seq, entry.text) for *who, entry in coordinator.lines if who == [host.id, one.id]]
        assert told[-2:] == [(2, "error: it is late"), (3, "and fine")]
        by_kind = {frame["type"]: frame for frame in coordinator.frames}
        assert {(frame["host_id"], frame["host_name"]) for frame in by_kind.values()} == {(host.id, "gpu1")}
        assert by_kind["log"]["data"] == {"seq": 3, "line": "and fine", "level": "info"}
        assert by_kind["instance_state"]["data"]["generated_tokens"] == 7
        assert by_kind["host_health"]["data"]["memory"]["percent"] == 50
        assert "instances_update" not in by_kind


async def test_nothing_is_told_when_nobody_watches_and_the_lines_are_kept(coordinator: Coordinator) -> None:
    coordinator.watched = False
    async with FakeAgent(name="gpu1", control_urls=[coordinator.url]) as agent:
        await coordinator.host(agent)
        await agent.add("llama:8b")
        await coordinator.until(lambda: coordinator.lines)
        assert coordinator.frames == []


async def test_keys_are_masked_in_what_watchers_hear(coordinator: Coordinator) -> None:
    async with FakeAgent(name="gpu1", api_key="secret-of-host", control_urls=[coordinator.url]) as agent:
        await coordinator.host(agent, key="secret-of-host")
        one = await agent.add("llama:8b")
        agent.write(one, "llama-server --api-key secret-of-host")
        await coordinator.until(lambda: coordinator.frames and "llama-server" in str(coordinator.frames[-1]))
        assert "secret-of-host" not in str(coordinator.frames)


async def test_what_an_agent_kept_from_before_its_registration_is_no_news(coordinator: Coordinator) -> None:
    host = await coordinator.host()
    now, before = "2026-01-01T10:00:00+00:00", "2026-01-01T09:59:59.5+00:00"
    async with linked(coordinator, None, instance(), at=now) as socket:
        seen: list[int] = []
        coordinator.fleet.on_change.append(lambda *_: seen.append(len(coordinator.view(host).instances)))
        await socket.send(update(at=before))
        await socket.send(update(instance(), instance("two"), at="2026-01-01T10:00:01+00:00"))
        await coordinator.until(lambda: len(coordinator.view(host).instances) == 2)
        assert 0 not in seen


async def test_a_ping_is_answered_and_silence_is_broken(
    coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = await coordinator.host()
    async with linked(coordinator) as socket:
        await socket.send("ping")
        assert await socket.recv() == "pong"
        monkeypatch.setattr("solar.control.links.channel.KEEPALIVE_SECONDS", 0.01)
        await socket.send("ping")
        assert await socket.recv() == "pong"
        assert await answered(socket) == {"type": "keepalive"}
        # A link that is silent for so long is no sign of life; where it speaks again, it is.
        await coordinator.until(lambda: coordinator.view(host).status == "offline")
        assert coordinator.view(host).connected
        monkeypatch.setattr("solar.control.links.channel.KEEPALIVE_SECONDS", 60)
        await socket.send("ping")
        await coordinator.until(lambda: coordinator.view(host).status == "online")


async def test_what_cannot_be_read_ends_no_link_and_is_said_once(
    coordinator: Coordinator, caplog: pytest.LogCaptureFixture
) -> None:
    host = await coordinator.host()
    async with linked(coordinator) as socket:
        for garbage in ("hello", "[1]", '{"type": 1}', '{"type": "log", "data": {}}', b"\xff", "[" * 100_000):
            await socket.send(garbage)
        await socket.send('{"type": "of a newer agent"}')
        await socket.send(update(instance()))
        await coordinator.until(lambda: coordinator.view(host).instances)
    assert caplog.text.count("its link says what cannot be read") == 1


async def test_ten_thousand_instances_are_a_thousand_and_a_word(
    coordinator: Coordinator, caplog: pytest.LogCaptureFixture
) -> None:
    host = await coordinator.host()
    many = [instance(f"{n}", port=0) for n in range(10_000)]
    async with linked(coordinator, None, *many):
        assert len(coordinator.view(host).instances) == 1000
        assert "there are more than 1000 instances" in caplog.text


async def test_a_frame_that_is_too_large_is_no_registration(coordinator: Coordinator) -> None:
    await coordinator.host()
    async with opened(coordinator.url) as socket:
        await socket.send(registration(KEY, "x" * MAX_FRAME))
        assert (await answered(socket))["message"] == INVALID


async def test_a_host_that_is_forgotten_or_gets_another_key_loses_its_link(coordinator: Coordinator) -> None:
    host = await coordinator.host()
    async with linked(coordinator, "gpu1") as socket:
        await coordinator.fleet.patch(host.id, HostPatch(name="gpu2"))
        await socket.send("ping")
        assert await socket.recv() == "pong"
        await coordinator.fleet.patch(host.id, HostPatch(api_key="another"))
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert not coordinator.view(host).connected
    async with opened(coordinator.url) as socket:
        await socket.send(registration("another"))
        assert (await answered(socket))["host_name"] == "gpu2"
        await coordinator.fleet.remove(host.id)
        with pytest.raises(ConnectionClosed):
            await socket.recv()


async def test_refusals_are_said_once_a_minute_and_no_key_is_shown(
    coordinator: Coordinator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="solar")
    await coordinator.host()
    for _ in range(5):
        async with opened(coordinator.url) as socket:
            await socket.send(registration("secret-of-somebody"))
            await answered(socket)
    assert caplog.text.count(f"link from=127.0.0.1 refused: {UNKNOWN_KEY}") == 1
    assert "secret-of-somebody" not in caplog.text


async def test_many_agents_come_back_at_once(coordinator: Coordinator) -> None:
    hosts = [await coordinator.host(name="gpu1")]
    hosts += [
        await coordinator.fleet.add(NewHost(f"gpu{n}", f"http://127.0.0.1:{n}", f"key-{n}"), unreachable=True)
        for n in range(10, 60)
    ]

    async def stay(key: str) -> None:
        async with opened(coordinator.url) as socket:
            await socket.send(registration(key))
            assert (await answered(socket))["type"] == "registration_ack"

    for _ in range(2):
        await asyncio.gather(*(stay(f"key-{n}") for n in range(10, 60)))
