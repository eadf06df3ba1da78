from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from served import Served
from test_log_sockets import everything, host_of

from solar.control.api import logs
from solar.testing import FakeAgent

Serve = Callable[..., AbstractAsyncContextManager[Served]]


@pytest.mark.parametrize("dialect", ["v1", "v2", "fork"])
async def test_without_following_what_is_held_is_told_and_then_it_ends(serve: Serve, dialect: Any) -> None:
    async with FakeAgent(dialect) as agent, serve() as gateway:
        instance = await agent.add("m")
        agent.write(instance, "the last")
        await host_of(gateway, agent)
        async with gateway.open("/ws/logs?follow=false&alias=m&replay=2") as socket:
            frames = await everything(socket)
    assert [frame["type"] for frame in frames] == ["source", "log", "log"]
    assert frames[-1]["data"]["line"] == "the last"


async def test_without_following_where_nothing_is_it_ends_at_once(serve: Serve) -> None:
    async with serve() as gateway, gateway.open("/ws/logs?follow=false&host=nobody") as socket:
        assert await everything(socket) == []


async def test_without_following_who_tells_nothing_in_time_is_named(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "REPLAY", 0.05)
    async with FakeAgent("v2") as agent, serve() as gateway:
        await agent.add("m")
        await host_of(gateway, agent)
        agent.freeze()
        async with gateway.open("/ws/logs?follow=false&alias=m") as socket:
            (frame,) = await everything(socket)
    assert (frame["type"], frame["live"], frame["alias"]) == ("source", False, "m")
    assert "0.05 s" in frame["reason"]


async def test_without_following_lines_of_all_logs_come_in_the_order_of_their_times(serve: Serve) -> None:
    async with FakeAgent("v1") as one, FakeAgent("fork") as two, serve() as gateway:
        logs_of = [(agent, await agent.add("m")) for agent in (one, two)]
        for number in range(4):
            agent, instance = logs_of[number % 2]
            agent.write(instance, f"line {number}")
        for agent, name in ((one, "one"), (two, "two")):
            await host_of(gateway, agent, name)
        async with gateway.open("/ws/logs?follow=false&alias=m&replay=2") as socket:
            frames = await everything(socket)
    lines = [frame["data"]["line"] for frame in frames if frame["type"] == "log"]
    assert lines == ["line 0", "line 1", "line 2", "line 3"]
