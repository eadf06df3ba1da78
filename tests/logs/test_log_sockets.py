import asyncio
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from served import Served
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidStatus

from solar.control.fleet.view import HostView
from solar.control.logs.items import Key
from solar.testing import FakeAgent
from solar.wire.hosts import NewHost
from solar.wire.lines import Entry

Serve = Callable[..., AbstractAsyncContextManager[Served]]
WITHIN = 10.0


async def host_of(gateway: Served, agent: FakeAgent, name: str = "gpu1", *, unreachable: bool = False) -> HostView:
    fleet = gateway.gateway._desk.fleet
    async with asyncio.timeout(WITHIN):
        await fleet.ready()
        return await fleet.add(NewHost(name, agent.url, agent.api_key), unreachable=unreachable)


async def told(socket: ClientConnection) -> Any:
    async with asyncio.timeout(WITHIN):
        return json.loads(await socket.recv())


async def until(socket: ClientConnection, text: str) -> list[Any]:
    """All frames up to the line with that text."""
    frames = [await told(socket)]
    while frames[-1].get("line", frames[-1].get("data", {}).get("line")) != text:
        frames.append(await told(socket))
    return frames


async def everything(socket: ClientConnection) -> list[Any]:
    """All frames until it closes."""
    async with asyncio.timeout(WITHIN):
        return [json.loads(frame) async for frame in socket]


@pytest.mark.parametrize("dialect", ["v1", "v2", "fork"])
async def test_one_log_is_bare_lines_first_those_held_and_then_live_ones(serve: Serve, dialect: Any) -> None:
    async with FakeAgent(dialect) as agent, serve() as gateway:
        instance = await agent.add("m")
        host = await host_of(gateway, agent)
        async with gateway.open(f"/ws/logs/{host.id}/{instance.id}") as socket:
            first = [await told(socket) for _ in range(2)]
            assert first == list(instance.lines)
            assert list(first[0]) == ["seq", "timestamp", "line"]
            agent.write(instance, "live")
            assert (await told(socket))["line"] == "live"
        async with gateway.open(f"/ws/logs/{host.id}/{instance.id}?since=1") as socket:
            assert (await told(socket))["seq"] == 2


async def test_one_log_of_a_host_or_an_instance_that_nobody_knows_says_so_and_closes(serve: Serve) -> None:
    async with FakeAgent("v1") as agent, serve() as gateway:
        host = await host_of(gateway, agent)
        async with gateway.open("/ws/logs/nobody/i") as socket:
            assert await everything(socket) == [{"error": "Host nobody not found"}]
        async with gateway.open(f"/ws/logs/{host.id}/nobody") as socket:
            assert await everything(socket) == [{"error": "Instance not found"}]


async def test_one_log_of_an_agent_that_is_gone_shows_what_is_held_and_closes(serve: Serve) -> None:
    async with FakeAgent("v2") as agent, serve() as gateway:
        instance = await agent.add("m")
        host = await host_of(gateway, agent)
        await agent.die()
        path = f"/ws/logs/{host.id}/{instance.id}"
        async with gateway.open(path) as socket:
            (frame,) = await everything(socket)
            assert frame["error"].startswith("Failed to connect to solar-host: ")
        gateway.gateway._desk.logs.take(host.id, instance.id, [Entry(0, "t", "held")])
        async with gateway.open(path) as socket:
            assert [frame.get("line") for frame in await everything(socket)] == ["held", None]


async def test_an_instance_that_was_just_created_is_asked_for(serve: Serve) -> None:
    async with FakeAgent("v2") as agent, serve() as gateway:
        host = await host_of(gateway, agent)
        instance = await agent.add("new")
        async with gateway.open(f"/ws/logs/{host.id}/{instance.id}") as socket:
            assert (await told(socket))["seq"] == 0


async def test_a_log_that_was_forgotten_is_asked_for_again(serve: Serve) -> None:
    async with FakeAgent("v2") as agent, serve() as gateway:
        instance = await agent.add("m")
        host = await host_of(gateway, agent)
        logs = gateway.gateway._desk.logs
        logs._forget(logs._log(Key(host.id, instance.id)))
        async with gateway.open(f"/ws/logs/{host.id}/{instance.id}") as socket:
            assert (await told(socket))["seq"] == 0


async def test_all_logs_come_with_their_names(serve: Serve) -> None:
    async with FakeAgent("v1") as agent, serve() as gateway:
        instance = await agent.add("llama:8b")
        host = await host_of(gateway, agent)
        async with gateway.open("/ws/logs?host=gpu1") as socket:
            names = {"host_id": host.id, "host_name": "gpu1", "instance_id": instance.id, "alias": "llama:8b"}
            assert await told(socket) == {"type": "source", **names, "live": True, "reason": None}
            line = instance.lines[0]
            data = {"seq": 0, "line": line["line"], "level": "info", "timestamp": line["timestamp"], "epoch": 0}
            assert await told(socket) == {"type": "log", **names, "timestamp": line["timestamp"], "data": data}
            await told(socket)
            await agent.die()
            lost = await told(socket)
            assert (lost["type"], lost["live"]) == ("source", False)
            await socket.send("ping")
            assert await socket.recv() == "pong"


@pytest.mark.parametrize(
    ("query", "seen"),
    [
        ("alias=b", ["b 0", "b 1"]),
        ("alias=a,b&level=warning&text=FAILS", ["a fails"]),
        ("alias=a&replay=1", ["a fails"]),
        ("alias=a&since=2", ["a fails"]),
        ("alias=a&since=2001-01-01", ["a 0", "a 1", "a fails"]),
    ],
)
async def test_all_logs_are_filtered(serve: Serve, query: str, seen: list[str]) -> None:
    async with FakeAgent("v2") as agent, serve() as gateway:
        for alias in ("a", "b"):
            instance = await agent.add(alias)
            instance.forget_lines()
            instance.seq = 1
            agent.write(instance, f"{alias} 0", f"{alias} 1")
        agent.write(next(iter(agent.instances.values())), "WARNING a fails")
        await host_of(gateway, agent)
        async with gateway.open(f"/ws/logs?{query}") as socket:
            frames = [await told(socket)]
            while len([frame for frame in frames if frame["type"] == "log"]) < len(seen):
                frames.append(await told(socket))
            lines = [frame["data"]["line"].removeprefix("WARNING ") for frame in frames if frame["type"] == "log"]
            assert lines == seen


@pytest.mark.parametrize(
    "query",
    [
        "level=loud",
        "since=soon",
        "since=2026-13-01",
        "since=h/i",
        "since=/i:3",
        "replay=-1",
        "replay=some",
        "hosts=gpu1",
    ],
)
async def test_what_is_no_filter_is_refused(serve: Serve, query: str) -> None:
    async with serve() as gateway:
        with pytest.raises(InvalidStatus, match="400"):
            async with gateway.open(f"/ws/logs?{query}"):
                pass
        with pytest.raises(InvalidStatus, match="400"):
            async with gateway.open("/ws/logs/h/i?since=2026-11-22"):
                pass


async def test_who_comes_back_names_the_last_line_of_each_log(serve: Serve) -> None:
    async with FakeAgent("v2") as agent, serve() as gateway:
        instances = [await agent.add(alias) for alias in ("a", "b")]
        host = await host_of(gateway, agent)
        since = ",".join(f"{host.id}/{instance.id}:{n}" for n, instance in enumerate(instances))
        async with gateway.open(f"/ws/logs?since={since}") as socket:
            agent.write(instances[1], "live")
            frames = await until(socket, "live")
            assert [(f["alias"], f["data"]["seq"]) for f in frames if f["type"] == "log"] == [("a", 1), ("b", 2)]


@pytest.mark.parametrize("dialect", ["v2", "fork"])
async def test_a_link_brings_lines_and_when_it_comes_back_none_is_told_twice(serve: Serve, dialect: Any) -> None:
    async with serve() as gateway:
        url = f"{gateway.url}/ws/host-channel"
        async with FakeAgent(dialect, control_urls=[url], name="gpu1") as agent:
            host = await host_of(gateway, agent)
            (link,) = agent.links
            await agent.wait_for(lambda: link.acknowledged)
            instance = await agent.add("m")
            async with gateway.open(f"/ws/logs/{host.id}/{instance.id}") as socket:
                agent.write(instance, "pushed")
                frames = await until(socket, "pushed")
                link.cut()
                await agent.wait_for(lambda: not link.up)
                agent.write(instance, "in the dark")
                frames += await until(socket, "in the dark")
                await agent.wait_for(lambda: link.up)
                agent.write(instance, "again")
                frames += await until(socket, "again")
            assert [frame["seq"] for frame in frames] == list(range(len(frames)))


@pytest.mark.parametrize("dialect", ["v2", "fork"])
async def test_an_agent_that_only_a_link_reaches_is_followed(serve: Serve, dialect: Any) -> None:
    async with (
        serve() as gateway,
        FakeAgent(dialect, control_urls=[f"{gateway.url}/ws/host-channel"], name="nat") as agent,
    ):
        fleet = gateway.gateway._desk.fleet
        async with asyncio.timeout(WITHIN):
            await fleet.ready()
            await fleet.add(NewHost("nat", "http://127.0.0.1:1", agent.api_key), unreachable=True)
        async with gateway.open("/ws/logs?host=nat&level=info") as socket:
            instance = await agent.add("m")
            agent.write(instance, "from behind")
            frames = await until(socket, "from behind")
        assert frames[-1]["alias"] == "m"
        assert not [frame for frame in frames if frame["type"] == "gap"]


async def test_a_reader_that_never_reads_slows_nobody_and_sees_later_what_it_missed(serve: Serve) -> None:
    async with serve() as gateway:
        logs = gateway.gateway._desk.logs
        written = 20_000
        async with gateway.open("/ws/logs?host=h", max_queue=1) as slow, gateway.open("/ws/logs?host=h") as quick:
            for first in range(0, written, 100):
                logs.take("h", "i", [Entry(n, "", f"{n} {'x' * 500}") for n in range(first, first + 100)])
                frames = [await told(quick)]
                while frames[-1].get("data", {}).get("seq") != first + 99:
                    frames.append(await told(quick))
                assert not [frame for frame in frames if frame["type"] == "gap"]
            frames = [await told(slow)]
            while frames[-1].get("data", {}).get("seq") != written - 1:
                frames.append(await told(slow))
            missed = [frame["missed"] for frame in frames if frame["type"] == "gap"]
            assert missed
            assert sum(missed) + sum(frame["type"] == "log" for frame in frames) == written


async def test_whoever_leaves_in_whatever_way_is_no_reader_any_more(serve: Serve) -> None:
    async with FakeAgent("v1") as agent, serve() as gateway:
        instance = await agent.add("m")
        host = await host_of(gateway, agent)
        for path in ("/ws/logs", f"/ws/logs/{host.id}/{instance.id}"):
            async with gateway.open(path) as socket:
                await told(socket)
            async with gateway.open(path) as socket:
                await told(socket)
                socket.transport.abort()
        await gateway.idle()
        assert "0 readers" in repr(gateway.gateway._desk.logs)


@pytest.mark.parametrize("dialect", ["v1", "v2"])
async def test_a_gateway_that_stops_ends_its_readers_and_its_sources(serve: Serve, dialect: Any) -> None:
    async with FakeAgent(dialect) as agent:
        await agent.add("m")
        async with serve() as gateway:
            await host_of(gateway, agent)
            async with gateway.open("/ws/logs?host=gpu1") as socket:
                await told(socket)
                gateway.stop()
                await everything(socket)
        await agent.wait_for(lambda: not agent.connections)
