"""The links of the fork's agents: Socket.IO, as much of it as they speak."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import socketio
from linking import KEY, Coordinator, instance, opened
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from solar.control.fleet import HostView
from solar.control.links.limits import Anteroom
from solar.testing import FakeAgent
from solar.testing.agents.socketlink import SocketLink
from solar.wire.channel import CROWDED, INVALID, UNKNOWN_KEY
from solar.wire.hosts import HostPatch

DOOR = "/socket.io/?transport=websocket&EIO=4"
BOTH = pytest.mark.parametrize("version", ["0.1.3", "3.8.3"])


def link_of(agent: FakeAgent) -> SocketLink:
    (link,) = agent.links
    assert isinstance(link, SocketLink)
    return link


def event(name: str, payload: object) -> str:
    return f"42/hosts,{json.dumps([name, payload])}"


def connect(key: object = KEY, name: str | None = None) -> str:
    return "40/hosts," + json.dumps({"api_key": key, "host_name": name})


async def packet(socket: ClientConnection, beginning: str) -> Any:
    """What the next packet that begins so says."""
    async with asyncio.timeout(10):
        while not (text := str(await socket.recv())).startswith(beginning):
            pass
    return json.loads(text.removeprefix(beginning))


async def closed(socket: ClientConnection) -> list[str]:
    """What comes until the other side closes."""
    try:
        return [str(packet) async for packet in socket]
    except ConnectionClosed:  # without a word
        return []


@asynccontextmanager
async def linked(coordinator: Coordinator, name: str | None = None) -> AsyncIterator[ClientConnection]:
    """A client that was let in and greeted, by hand."""
    async with opened(coordinator.place + DOOR) as socket:
        await socket.send(connect(KEY, name))
        await packet(socket, "40/hosts,")
        assert [(await packet(socket, "42/hosts,"))[0] for _ in range(2)] == ["pending", "registration_ack"]
        yield socket


@BOTH
async def test_an_agent_of_the_fork_is_let_in_and_what_it_tells_is_known(
    coordinator: Coordinator, version: str
) -> None:
    url = coordinator.place + "/ws/host-channel"  # its path is ignored
    async with FakeAgent("fork", version=version, name="gpu1", control_urls=[url]) as agent:
        host = await coordinator.host(agent)
        one = await agent.add("llama:8b")
        await agent.wait_for(lambda: link_of(agent).acknowledged)
        await coordinator.until(lambda: [i.running for i in coordinator.view(host).instances] == [True])
        assert coordinator.view(host).connected
        agent.write(one, "error: it is late", "and fine")
        agent.works(one, busy=True, generated_tokens=7)
        agent.memory = {"used_gb": 12.0, "total_gb": 24.0, "percent": 50.0, "memory_type": "RAM"}
        agent.tell_health()
        await coordinator.until(lambda: (now := coordinator.view(host).memory) and now.percent == 50)
        lines = [entry.text for *who, entry in coordinator.lines if who == [host.id, one.id]]
        assert lines[-2:] == ["error: it is late", "and fine"]
        assert {"log", "instance_state", "host_health"} == {frame["type"] for frame in coordinator.frames}


@BOTH
async def test_no_registration_is_acknowledged_but_the_connection_once(coordinator: Coordinator, version: str) -> None:
    async with FakeAgent("fork", version=version, control_urls=[coordinator.place]) as agent:
        await coordinator.host(agent)
        link = link_of(agent)
        await agent.wait_for(lambda: link.acknowledged)
        agent.tell_health()
        await coordinator.until(lambda: any(frame["type"] == "host_health" for frame in coordinator.frames))
        told = [frame for frame in link.received if frame.startswith("42")]
        assert (link.acknowledged, len(told)) == (1, 2)
        assert link.registered == (2 if version == "3.8.3" else 1)


@pytest.mark.parametrize("auth", ["40/hosts,", "40/hosts,[1]", connect(None), connect(""), connect({"a": 1})])
async def test_who_shows_no_key_is_refused(coordinator: Coordinator, auth: str) -> None:
    await coordinator.host()
    async with opened(coordinator.place + DOOR) as socket:
        await socket.send(auth)
        assert await packet(socket, "44/hosts,") == {"message": INVALID}


async def test_who_shows_a_wrong_key_is_refused_and_the_key_is_not_shown(
    coordinator: Coordinator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await coordinator.host()
    for _ in range(3):
        async with opened(coordinator.place + DOOR) as socket:
            await socket.send(connect("secret-of-somebody\ud800"))
            assert await packet(socket, "44/hosts,") == {"message": UNKNOWN_KEY}
    async with linked(coordinator):
        pass
    shown = [record.getMessage() for record in caplog.records if record.name.startswith("solar")]
    assert sum("link from=127.0.0.1 refused" in line for line in shown) == 1
    assert not [line for line in shown if "secret-of" in line or KEY in line]


@pytest.mark.parametrize(
    "query", ["transport=polling&EIO=4", "transport=websocket&EIO=3", "EIO=4", "transport=websocket&EIO=4&sid=x"]
)
async def test_only_websockets_of_the_protocol_that_agents_speak_are_opened(
    coordinator: Coordinator, query: str
) -> None:
    with pytest.raises(InvalidStatus, match="403"):
        async with opened(f"{coordinator.place}/socket.io/?{query}"):
            pass


@pytest.mark.parametrize("namespace", ["", "/,", "/webui,"])
async def test_no_other_namespace_is_there(coordinator: Coordinator, namespace: str) -> None:
    await coordinator.host()
    async with opened(coordinator.place + DOOR) as socket:
        await socket.send(f'40{namespace}{{"api_key": "{KEY}"}}')
        assert await packet(socket, f"44{namespace.removeprefix('/,')}") == "Unable to connect"


async def test_who_shows_no_key_in_time_is_cut_off(coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch) -> None:
    await coordinator.host()
    async with linked(coordinator):  # whoever is in stays
        pass
    monkeypatch.setattr("solar.control.links.socketlinks.REGISTRATION_SECONDS", 0.01)
    async with opened(coordinator.place + DOOR) as socket:
        await closed(socket)


@pytest.mark.parametrize(
    "said",
    [
        [b"bytes"],
        [connect("x" * 20_000)],
        ["3"] * 10,
        [connect("wrong")] * 10,
    ],
    ids=["bytes", "much", "pongs", "guesses"],
)
async def test_who_has_shown_no_key_may_say_little(coordinator: Coordinator, said: list[str | bytes]) -> None:
    await coordinator.host()
    async with opened(coordinator.place + DOOR) as socket:
        with suppress(ConnectionClosed):
            for frame in said:
                await socket.send(frame)
        await closed(socket)
    async with linked(coordinator):
        pass


async def test_events_before_the_key_are_heard_by_nobody(coordinator: Coordinator) -> None:
    host = await coordinator.host()
    async with opened(coordinator.place + DOOR) as socket:
        await socket.send(event("registration", {"instances": [instance()]}))
        await socket.send(connect())
        await packet(socket, "40/hosts,")
        assert coordinator.view(host).instances == ()


async def test_a_second_connect_is_none_and_the_link_stands(coordinator: Coordinator) -> None:
    host = await coordinator.host()
    async with linked(coordinator) as socket:
        await socket.send(connect())
        assert await packet(socket, "44/hosts,") == "Unable to connect"
        await socket.send(event("instances_update", {"data": {"instances": [instance()]}}))
        await coordinator.until(lambda: coordinator.view(host).instances)


@pytest.mark.parametrize("goodbye", ["41/hosts,", "1"])
async def test_who_leaves_is_gone_and_its_host_is_asked(coordinator: Coordinator, goodbye: str) -> None:
    host = await coordinator.host()
    async with linked(coordinator) as socket:
        await socket.send(event("registration", {"instances": [instance()]}))
        await coordinator.until(lambda: coordinator.view(host).instances)
        await socket.send(goodbye)
        await coordinator.until(lambda: coordinator.view(host).status == "offline")
        assert not coordinator.view(host).connected


async def test_a_new_link_replaces_the_old_whichever_wire_carries_it(coordinator: Coordinator) -> None:
    from linking import linked as by_channel

    host = await coordinator.host()
    async with linked(coordinator) as old, by_channel(coordinator, None, instance()) as other:
        await closed(old)
        assert coordinator.view(host).connected
        async with linked(coordinator):
            await closed(other)
            await coordinator.fleet.refresh(host.id)
            assert coordinator.view(host).connected
            assert [one.id for one in coordinator.view(host).instances] == ["one"]


async def test_what_cannot_be_read_ends_no_link_and_is_said_once(
    coordinator: Coordinator, caplog: pytest.LogCaptureFixture
) -> None:
    host = await coordinator.host()
    async with linked(coordinator) as socket:
        for garbage in ("42/hosts,[", "42/hosts,{}", "42/hosts,[]", "9", "4", "42/hosts,[1]", "45", "46/hosts,1-[1]"):
            await socket.send(garbage)
        for payload in (None, [], {"entries": 1}, {"entries": [1, {}]}, {"entries": [{}] * 10_001}):
            await socket.send(event("log_batch", payload))
            await socket.send(event("registration", payload))
        await socket.send(event("of a newer agent", {}))
        await socket.send(event("instances_update", {"data": {"instances": [instance()]}}))
        await coordinator.until(lambda: coordinator.view(host).instances)
    assert caplog.text.count("its link says what cannot be read") == 1
    assert caplog.text.count("Traceback") <= 2


async def test_nothing_is_acknowledged(coordinator: Coordinator) -> None:
    host = await coordinator.host()
    async with linked(coordinator) as socket:
        await socket.send('42/hosts,7["host_health", {"timestamp": "", "data": {}}]')
        await socket.send(event("instances_update", {"data": {"instances": [instance()]}}))
        await coordinator.until(lambda: coordinator.view(host).instances)
        await socket.send("41/hosts,")
        assert not [packet for packet in await closed(socket) if packet.startswith("43")]


async def test_too_many_at_once_are_refused_at_the_door(
    coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinator.links, "_anteroom", Anteroom(most=1, of_one=1))
    await coordinator.host()
    door = coordinator.place + DOOR
    async with linked(coordinator), opened(door), opened(coordinator.url) as third:  # who is in counts no more
        assert json.loads(await third.recv())["message"] == CROWDED


async def test_a_host_that_is_forgotten_or_gets_another_key_loses_its_link(coordinator: Coordinator) -> None:
    host = await coordinator.host()
    fleet = coordinator.fleet
    for key, change in ((KEY, fleet.patch(host.id, HostPatch(api_key="b"))), ("b", fleet.remove(host.id))):
        async with opened(coordinator.place + DOOR) as socket:
            await socket.send(connect(key))
            await packet(socket, "40/hosts,")
            await change
            await closed(socket)


async def test_without_its_package_agents_hear_what_is_missing(
    coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from solar.errors import InvalidRequest

    monkeypatch.setattr("solar.control.links.links.find_spec", lambda _: None)
    for _ in range(3):
        with pytest.raises(InvalidRequest, match="the extra 'socketio'") as refused:
            await coordinator.links.socketio()
        assert refused.value.status == 404
    assert caplog.text.count("an agent knocks by Socket.IO") == 1


def registered(coordinator: Coordinator, host: HostView) -> bool:
    return coordinator.view(host).connected


async def test_the_client_that_agents_have_is_understood(coordinator: Coordinator) -> None:
    host = await coordinator.host()
    heard: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
    async with asyncio.timeout(20):
        client = socketio.AsyncClient(reconnection=False, handle_sigint=False)
        for name in ("pending", "registration_ack"):
            client.on(name, lambda told, name=name: heard.put_nowait((name, told)), namespace="/hosts")
        url = coordinator.place.replace("ws", "http")
        await client.connect(
            url, namespaces=["/hosts"], auth={"api_key": KEY, "host_name": ""}, transports=["websocket"]
        )
        assert [await heard.get() for _ in range(2)] == [
            ("pending", {"pending_id": host.id}),
            ("registration_ack", {"host_id": host.id, "host_name": "gpu1"}),
        ]
        await client.emit("instances_update", {"data": {"instances": [instance()]}}, namespace="/hosts")
        await coordinator.until(lambda: coordinator.view(host).instances)
        assert registered(coordinator, host)
        await client.disconnect()
        await coordinator.until(lambda: not registered(coordinator, host))
