import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from solar.testing import FakeAgent
from solar.testing.agents.socketlink import SocketLink
from solar.wire.messages import FromAgent, HealthFrame, InstancesUpdate, LogFrame, Registration, StateFrame
from solar.wire.socketevents import greeting, read_event, registration_of

GREETED = tuple(f"42/hosts,{json.dumps(event)}" for event in greeting("id", "gpu1"))


class Coordinator:
    """The other end: a Socket.IO server that takes one namespace."""

    def __init__(self, *, says: tuple[str, ...] = GREETED, acknowledges: int = 0, connects: str = "40") -> None:
        self.says = says  # once an agent has connected
        self.acknowledges = acknowledges  # so many registrations are answered, which no coordinator should
        self.connects = connects
        self.pongs = 0
        self.paths: list[str] = []
        self.heard: asyncio.Queue[FromAgent | Registration] = asyncio.Queue()

    async def take(self, socket: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            await self._talk(socket)

    async def _talk(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        self.paths.append(socket.request.path)
        await socket.send('0{"sid": "1", "upgrades": [], "pingInterval": 25000, "pingTimeout": 20000}')
        hello = str(await socket.recv())
        key = json.loads(hello.removeprefix("40/hosts,"))["api_key"]
        await socket.send(f'{self.connects}/hosts,{{"sid": "2", "message": "no such host"}}')
        for packet in ("2", '42/hosts,["weather"]', "41", *self.says):
            await socket.send(packet)
        async for packet in socket:
            if packet == "3":
                self.pongs += 1
                continue
            name, payload = json.loads(str(packet).removeprefix("42/hosts,"))
            if name == "registration":
                found = registration_of(payload, key)
                assert found is not None
                self.heard.put_nowait(found)
                if self.acknowledges:
                    self.acknowledges -= 1
                    await socket.send(GREETED[1])
            for message in read_event(name, payload) if name != "registration" else ():
                self.heard.put_nowait(message)

    async def next(self, kind: type[Any]) -> Any:
        async with asyncio.timeout(10):
            while not isinstance(message := await self.heard.get(), kind):
                pass
            return message


@asynccontextmanager
async def linked(coordinator: Coordinator, version: str = "3.8.3") -> AsyncIterator[tuple[FakeAgent, SocketLink]]:
    async with serve(coordinator.take, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws/host-channel"
        async with FakeAgent("fork", version=version, name="gpu1", control_urls=[url, "ws://other"]) as agent:
            (link,) = agent.links
            assert isinstance(link, SocketLink)
            yield agent, link


@pytest.mark.parametrize("version", ["0.1.3", "3.8.3"])
async def test_an_agent_of_the_fork_registers_and_tells_what_happens(version: str) -> None:
    coordinator = Coordinator()
    async with linked(coordinator, version) as (agent, link):
        registration = await coordinator.next(Registration)
        assert (registration.api_key, registration.host_name, registration.version) == ("host-key", "gpu1", version)
        assert coordinator.paths == ["/socket.io/?transport=websocket&EIO=4"]
        await agent.wait_for(lambda: link.acknowledged == 1)
        instance = await agent.add("m")
        while not (await coordinator.next(InstancesUpdate)).listing.instances:
            pass
        agent.write(instance, "hello")
        while (log := await coordinator.next(LogFrame)).entries[-1].text != "hello":
            pass
        assert log.instance_id == instance.id
        agent.works(instance, busy=True)
        assert (await coordinator.next(StateFrame)).state.busy
        agent.tell_health()
        assert (await coordinator.next(HealthFrame)).instance_count in (0, 1)
        assert coordinator.pongs == 1


@pytest.mark.parametrize(("version", "registered"), [("0.1.3", 0), ("3.8.3", 1)])
async def test_the_older_fork_registers_only_after_a_wait(version: str, registered: int) -> None:
    coordinator = Coordinator(says=())
    async with linked(coordinator, version) as (agent, link):
        await agent.add("m")
        await coordinator.next(LogFrame)  # it tells its lines all the same
        assert link.registered == registered


async def test_the_newer_fork_registers_upon_every_acknowledgement() -> None:
    async with linked(Coordinator(acknowledges=5)) as (agent, link):
        await agent.wait_for(lambda: link.registered == 7)


async def test_a_rejected_agent_does_not_come_back() -> None:
    coordinator = Coordinator(says=('42/hosts,["rejected", {"reason": "no"}]',))
    async with linked(coordinator) as (agent, link):
        await agent.wait_for(lambda: link.ended and not link.up)
        assert (link.refusals, len(coordinator.paths)) == (["rejected"], 1)


async def test_an_agent_that_may_not_connect_tries_again() -> None:
    coordinator = Coordinator(connects="44")
    async with linked(coordinator) as (agent, link):
        await agent.wait_for(lambda: len(link.refusals) == 2)
        assert link.refusals == ["no such host"] * 2


async def test_what_is_no_socketio_is_left_and_tried_again() -> None:
    async def other(socket: ServerConnection) -> None:
        await socket.send("hello")

    async with serve(other, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with FakeAgent("fork", control_urls=[url]) as agent:
            await agent.wait_for(lambda: len(agent.links[0].received) == 2)


async def test_a_connect_that_is_answered_with_something_else_is_a_refusal() -> None:
    coordinator = Coordinator(connects="42")
    async with linked(coordinator) as (agent, link):
        await agent.wait_for(lambda: link.refusals)
        assert link.refusals[0].startswith("42/hosts,")
