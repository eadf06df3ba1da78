import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus

from solar.errors import MissingExtra
from solar.testing import FakeAgent
from solar.testing.agents.connection import server_protocol
from solar.wire import channel
from solar.wire.instances import Instance
from solar.wire.lines import read_entry
from solar.wire.messages import HealthFrame, InstancesUpdate, LogFrame, StateFrame


@asynccontextmanager
async def stream(agent: FakeAgent, page: str) -> AsyncIterator[ClientConnection]:
    async with asyncio.timeout(10), connect(f"ws://127.0.0.1:{agent.port}{page}", proxy=None) as socket:
        yield socket


async def test_a_v1_agent_streams_what_its_ring_has_and_then_what_comes() -> None:
    async with FakeAgent("v1") as agent:
        instance = await agent.add("m")
        async with stream(agent, f"/instances/{instance.id}/logs") as socket:
            assert [read_entry(await socket.recv()).seq for _ in range(2)] == [0, 1]
            agent.write(instance, "live")
            assert read_entry(await socket.recv())[0::2] == (2, "live")
        await agent.wait_for(lambda: not agent.connections)
        agent.write(instance, "nobody reads it")


async def test_a_v1_agent_streams_states_with_their_phase() -> None:
    async with FakeAgent("v1") as agent:
        instance = await agent.add("m")
        async with stream(agent, f"/instances/{instance.id}/state") as socket:
            first = json.loads(await socket.recv())
            assert first["type"] == "instance_state"
            assert sorted(first["data"]) == ["active_slots", "busy", "instance_id", "prefill_progress", "timestamp"]
            agent.works(instance, busy=True, phase="generating")
            told = json.loads(await socket.recv())
            assert (told["seq"], told["data"]["phase"], told["data"]["instance_id"]) == (0, "generating", instance.id)


async def test_a_stream_of_an_unknown_instance_says_so_and_closes() -> None:
    async with FakeAgent("v1") as agent, stream(agent, "/instances/none/logs") as socket:
        assert [json.loads(frame) async for frame in socket] == [{"error": "Instance not found"}]


@pytest.mark.parametrize("agent", [FakeAgent("v2"), FakeAgent("fork")], ids=["v2", "fork"])
async def test_later_agents_refuse_websockets_at_the_handshake(agent: FakeAgent) -> None:
    async with agent:
        with pytest.raises(InvalidStatus, match="403"):
            async with stream(agent, "/instances/x/logs"):
                pass


async def test_a_stream_breaks_when_its_agent_dies() -> None:
    async with FakeAgent("v1") as agent:
        instance = await agent.add("m")
        async with stream(agent, f"/instances/{instance.id}/state") as socket:
            await socket.recv()
            await agent.die()
            with pytest.raises(ConnectionClosedError):
                await socket.recv()


class Coordinator:
    """The other end of a v2 agent's link."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)  # to the first registrations; then acks
        self.frames: asyncio.Queue[Any] = asyncio.Queue()

    async def take(self, socket: ServerConnection) -> None:
        registration = channel.read_registration(await socket.recv())
        self.frames.put_nowait(registration)
        if self.answers:
            await socket.send(self.answers.pop(0))
            return
        await socket.send(channel.write(channel.Ack("id", "gpu1", "t")))
        with suppress(ConnectionClosed):
            async for frame in socket:
                for message in channel.read_frame(frame):
                    if message == channel.Ping():
                        await socket.send(channel.PONG)
                    self.frames.put_nowait(message)

    async def next(self, kind: type[Any]) -> Any:
        async with asyncio.timeout(10):
            while not isinstance(message := await self.frames.get(), kind):
                pass
            return message


@asynccontextmanager
async def linked(coordinator: Coordinator, **settings: Any) -> AsyncIterator[FakeAgent]:
    async with serve(coordinator.take, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with FakeAgent(
            "v2", name="gpu1", control_urls=[f"ws://127.0.0.1:{port}/ws/host-channel"], **settings
        ) as agent:
            yield agent


async def test_a_v2_agent_registers_and_tells_what_happens() -> None:
    coordinator = Coordinator()
    async with linked(coordinator) as agent:
        registration = await coordinator.next(channel.Registration)
        assert (registration.api_key, registration.host_name) == ("host-key", "gpu1")
        instance = await agent.add("m")
        updates = [await coordinator.next(InstancesUpdate) for _ in range(2)]
        assert updates[1].listing.instances == (Instance(instance.id, "m", "running", instance.port),)
        agent.write(instance, "hello")
        while (log := await coordinator.next(LogFrame)).entries[0].text != "hello":
            pass
        assert (log.instance_id, log.entries[0].seq) == (instance.id, 2)
        agent.works(instance, busy=True)
        assert (await coordinator.next(StateFrame)).state.busy
        agent.tell_health()
        health = await coordinator.next(HealthFrame)
        assert (health.memory, health.instance_count, health.running_instance_count) == (None, 1, 1)


async def test_a_link_comes_back_and_brings_what_happened_meanwhile() -> None:
    coordinator = Coordinator()
    async with linked(coordinator) as agent:
        (link,) = agent.links
        instance = await agent.add("m")
        await agent.wait_for(lambda: link.acknowledged == 1 and link.waiting == 0)
        link.cut()
        await agent.wait_for(lambda: not link.up)
        agent.write(instance, "in the dark")
        await agent.wait_for(lambda: link.acknowledged == 2)
        assert "up" in repr(link)
        while (await coordinator.next(LogFrame)).entries[0].text != "in the dark":
            pass


async def test_a_refused_agent_comes_back() -> None:
    coordinator = Coordinator(channel.write(channel.Refusal(channel.UNKNOWN_KEY)))
    async with linked(coordinator) as agent:
        (link,) = agent.links
        await agent.wait_for(lambda: link.acknowledged == 1)
        assert link.refusals == [channel.UNKNOWN_KEY]


async def test_an_agent_without_its_coordinator_works_on() -> None:
    async with FakeAgent("v2", control_urls=["ws://127.0.0.1:1/ws/host-channel"]) as agent:
        instance = await agent.add("m")
        for n in range(1100):
            agent.write(instance, f"line {n}")
        assert "down, 1000 frames wait" in repr(agent.links[0])


async def test_an_agent_pings_with_a_text() -> None:
    coordinator = Coordinator()
    async with linked(coordinator, ping_seconds=0.01) as agent:
        await coordinator.next(channel.Ping)
        await agent.wait_for(lambda: "pong" in agent.links[0].received)


async def test_a_pinging_agent_that_loses_its_coordinator_pings_the_next() -> None:
    coordinator = Coordinator()
    async with linked(coordinator, ping_seconds=0.01) as agent:
        (link,) = agent.links
        await agent.wait_for(lambda: "pong" in link.received)
        link.cut()
        await agent.wait_for(lambda: link.acknowledged == 2)


async def test_without_the_websocket_package_the_fake_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "websockets.server", None)
    monkeypatch.setitem(sys.modules, "websockets.asyncio.client", None)
    with pytest.raises(MissingExtra, match="websockets"):
        server_protocol()
    with pytest.raises(MissingExtra, match="websockets"):
        async with FakeAgent("v2", control_urls=["ws://127.0.0.1:1"]) as agent:
            await asyncio.wait(agent._linking)
